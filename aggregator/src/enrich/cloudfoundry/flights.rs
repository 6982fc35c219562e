//! Applications that are known, and questions for those that are not: one for each application, however many wait for its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::app::App;
use super::cache::Aging;
use super::config::CloudFoundryConfig;
use super::happened::Events;
use crate::dropsonde::Guid;

/// What is known of an application.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// This is it.
    App(Arc<App>),
    /// The Cloud Controller does not know it.
    Unknown,
    /// The Cloud Controller cannot be asked.
    Unavailable,
}

/// What all tasks of an enricher share.
pub(super) struct Shared {
    pub(super) config: CloudFoundryConfig,
    pub(super) api: Api,
    pub(super) events: Arc<Events>,
    pub(super) stop: CancellationToken,
    known: Mutex<Known>,
}

struct Known {
    /// With the time of the last use.
    apps: Aging<Arc<App>>,
    /// Those that the Cloud Controller does not know, with the time of its answer.
    unknown: Aging<()>,
    /// Those that are asked for.
    flights: HashMap<Guid, watch::Sender<Option<Outcome>>>,
    /// Those of them that no worker has taken up yet.
    wanted: VecDeque<Guid>,
    workers: usize,
}

/// Events that are looked at, and the applications among them that have to be asked for.
pub(super) struct Looked {
    /// By the place of the event.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// Each once.
    pub(super) missing: Vec<Guid>,
}

impl Shared {
    pub(super) fn new(config: CloudFoundryConfig, stop: CancellationToken) -> Result<Self, String> {
        let events = Arc::new(Events::default());
        let api = Api::new(&config, events.clone())?;
        let known = Known {
            apps: Aging::new(config.max_apps),
            unknown: Aging::new(config.max_apps),
            flights: HashMap::new(),
            wanted: VecDeque::new(),
            workers: 0,
        };
        Ok(Self {
            config,
            api,
            events,
            stop,
            known: Mutex::new(known),
        })
    }

    /// What is known of these at once; those that are known are used by that.
    pub(super) fn look(&self, guids: impl Iterator<Item = Option<Guid>>) -> Looked {
        let now = Instant::now();
        let mut known = self.known.lock();
        let mut missing = Vec::new();
        let mut outcomes = Vec::with_capacity(guids.size_hint().0);
        let (mut hits, mut negative) = (0, 0);
        for guid in guids {
            let outcome = guid.and_then(|guid| {
                let outcome = known.look(guid, now, &self.config);
                match &outcome {
                    Some(Outcome::App(_)) => hits += 1,
                    Some(_) => negative += 1,
                    None => missing.push(guid),
                }
                outcome
            });
            outcomes.push(outcome);
        }
        drop(known);
        self.events.looked_up("known", hits);
        self.events.looked_up("known_missing", negative);
        missing.sort_unstable();
        missing.dedup();
        Looked { outcomes, missing }
    }

    /// Waits until the Cloud Controller has said what it knows of these, or could not be asked.
    pub(super) async fn ask(self: &Arc<Self>, guids: &[Guid]) -> HashMap<Guid, Outcome> {
        let mut outcomes = HashMap::with_capacity(guids.len());
        for (guid, mut flight) in self.take_off(guids, &mut outcomes) {
            // Its sender is gone when the program ends.
            let landed = flight.wait_for(Option::is_some).await;
            let outcome = landed.ok().and_then(|outcome| outcome.clone());
            outcomes.insert(guid, outcome.unwrap_or(Outcome::Unavailable));
        }
        outcomes
    }

    /// Joins the questions that are under way and begins the others. What has become known meanwhile goes to `outcomes`.
    fn take_off(
        self: &Arc<Self>,
        guids: &[Guid],
        outcomes: &mut HashMap<Guid, Outcome>,
    ) -> Vec<(Guid, watch::Receiver<Option<Outcome>>)> {
        let now = Instant::now();
        let mut flights = Vec::with_capacity(guids.len());
        let mut known = self.known.lock();
        for guid in guids {
            if let Some(outcome) = known.look(*guid, now, &self.config) {
                outcomes.insert(*guid, outcome);
                continue;
            }
            let Known {
                flights: flying,
                wanted,
                ..
            } = &mut *known;
            let flight = flying.entry(*guid).or_insert_with(|| {
                wanted.push_back(*guid);
                watch::Sender::new(None)
            });
            flights.push((*guid, flight.subscribe()));
        }
        let needed = known.wanted.len().div_ceil(self.api.at_once());
        let most = self.config.max_concurrent_lookups;
        let new = needed.min(most.saturating_sub(known.workers));
        known.workers += new;
        drop(known);
        for _ in 0..new {
            tokio::spawn(Worker::new(self.clone()).run());
        }
        flights
    }

    /// Takes over what a listing has.
    pub(super) fn merge(&self, apps: Vec<App>) {
        let now = Instant::now();
        let mut known = self.known.lock();
        for app in apps {
            known.learn(Arc::new(app), now);
        }
        self.tell(&known);
    }

    /// Forgets applications that were long unused, unless they could not be asked for again.
    pub(super) fn expire(&self) {
        if self.events.is_away() {
            return;
        }
        let mut known = self.known.lock();
        known.apps.expire(self.config.expire.get(), Instant::now());
        self.tell(&known);
    }

    /// Forgets which applications the Cloud Controller did not know some time ago.
    pub(super) fn expire_unknown(&self) {
        let mut known = self.known.lock();
        let age = self.config.negative_expire.get();
        known.unknown.expire(age, Instant::now());
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        self.events.known(known.apps.len(), known.unknown.len());
    }
}

impl Known {
    fn look(&mut self, guid: Guid, now: Instant, config: &CloudFoundryConfig) -> Option<Outcome> {
        if let Some((app, used)) = self.apps.get(guid) {
            *used = now;
            return Some(Outcome::App(app.clone()));
        }
        let (_, since) = self.unknown.get(guid)?;
        let is_fresh = now.duration_since(*since) < config.negative_expire.get();
        is_fresh.then_some(Outcome::Unknown)
    }

    fn learn(&mut self, app: Arc<App>, now: Instant) {
        self.unknown.remove(app.guid());
        self.apps.insert(app.guid(), app, now);
    }
}

/// Asks for what is wanted, as many as go into one request, until nothing is. Dropped in the middle, it leaves nobody waiting.
struct Worker {
    shared: Arc<Shared>,
    guids: Vec<Guid>,
    /// It is no longer one of the `workers`.
    is_done: bool,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            guids: Vec::new(),
            is_done: false,
        }
    }

    async fn run(mut self) {
        let shared = self.shared.clone();
        while self.take() {
            let asked = shared.api.look_up(&self.guids);
            let answer = shared.stop.run_until_cancelled(asked).await;
            match answer {
                Some(Ok(found)) => self.land(Some(found)),
                Some(Err(_)) | None => self.land(None),
            }
        }
    }

    /// Whether there is something to do. If not, that is known before anybody wants something more.
    fn take(&mut self) -> bool {
        let mut known = self.shared.known.lock();
        let count = known.wanted.len().min(self.shared.api.at_once());
        self.guids = known.wanted.drain(..count).collect();
        if count == 0 {
            known.workers -= 1;
            self.is_done = true;
        }
        count > 0
    }

    /// Tells those who wait what was `found`; nothing: it could not be asked for.
    fn land(&mut self, found: Option<Vec<App>>) {
        let now = Instant::now();
        let (mut there, mut missing) = (0, 0);
        let answered = found.is_some();
        let mut found: HashMap<Guid, Arc<App>> = found
            .into_iter()
            .flatten()
            .map(|app| (app.guid(), Arc::new(app)))
            .collect();
        let mut known = self.shared.known.lock();
        for guid in self.guids.drain(..) {
            let outcome = match found.remove(&guid) {
                Some(app) => {
                    there += 1;
                    known.learn(app.clone(), now);
                    Outcome::App(app)
                }
                None if answered => {
                    missing += 1;
                    known.unknown.insert(guid, (), now);
                    Outcome::Unknown
                }
                None => Outcome::Unavailable,
            };
            if let Some(flight) = known.flights.remove(&guid) {
                flight.send_replace(Some(outcome));
            }
        }
        self.shared.tell(&known);
        drop(known);
        self.shared.events.looked_up("found", there);
        self.shared.events.looked_up("missing", missing);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut known = self.shared.known.lock();
        known.workers -= 1;
        if known.workers == 0 {
            // Nobody else would take these up.
            self.guids.extend(known.wanted.drain(..));
        }
        drop(known);
        self.land(None);
    }
}
