//! Keeps the routing table up with discovery.
//!
//! Whoever is new gets a destination at once, and a place on the ring at the next boundary of intervals; whoever is gone leaves the ring at once
//! (see `roster`); another weight counts from such a boundary on. What it was never sent is routed again, unless its sender can repeat it, and it is closed when it is idle.
//!
//! What always holds: a table that has destinations is never followed by one that has none. Discovery that fails, or names nobody,
//! changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tributary_node::BoxError;
use tributary_node::admin::Condition;
use tributary_node::discovery::{Discovery, Endpoint};

use crate::changes::{Change, Moved};
use crate::destination::{Batch, Budget, Destination, Settings};
use crate::event::{DiscoveryFailed, RingChanged, RingScheduled, WeightsIgnored};
use crate::ignore::IgnoredTags;
use crate::metrics;
use crate::ring::{Algorithm, Member, Ring, RingError};
use crate::roster::Roster;
use crate::route::{Router, Table, wall_clock};

/// The clock is looked at so often while somebody waits for a boundary: it may be set.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// How the ring follows its members.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How keys are placed.
    pub algorithm: Algorithm,
    /// The aggregators' interval: whoever is new joins at a multiple of it.
    pub interval: Duration,
    /// A destination that has been unavailable for so long leaves the ring until it is back; zero: never.
    pub failover_after: Duration,
}

/// Settings that have changed while the proxy runs.
#[derive(Debug)]
pub(crate) struct Reconfiguration {
    /// The destinations, if they are configured and others than before.
    pub endpoints: Option<Vec<Endpoint>>,
    /// Tags that are left out of the key, if they are others than before.
    pub ignored: Option<IgnoredTags>,
    /// See [`Rules`].
    pub failover_after: Duration,
    /// Of all destinations.
    pub settings: Settings,
}

/// A [`Reconfiguration`], and who wants to know what became of it.
#[derive(Debug)]
pub(crate) struct Order {
    pub what: Reconfiguration,
    pub done: oneshot::Sender<Result<(), BoxError>>,
}

/// The one place that changes the routing table; see the module.
#[derive(Debug)]
pub struct Membership {
    router: Arc<Router>,
    rules: Rules,
    roster: Roster,
    ignored: Arc<IgnoredTags>,
    settings: Settings,
    budget: Arc<Budget>,
    orphans: UnboundedSender<Batch>,
    /// Those discovered, and those that have left and not ended yet.
    fleet: HashMap<Arc<str>, Arc<Destination>>,
    /// The destinations' tasks.
    tasks: TaskTracker,
    /// Closes all of those at once.
    abort: CancellationToken,
    /// What a change of the ring is put down to.
    cause: &'static str,
}

impl Membership {
    /// Takes over a router whose table is still empty.
    pub fn new(router: Arc<Router>, rules: Rules, settings: Settings, budget: Arc<Budget>) -> Self {
        let (orphans, mut orphaned) = mpsc::unbounded_channel::<Batch>();
        let again = router.clone();
        tokio::spawn(async move {
            while let Some(batch) = orphaned.recv().await {
                again.reroute(batch);
            }
        });
        Self {
            ignored: router.table().ignored().clone(),
            router,
            rules,
            roster: Roster::new(rules.interval),
            settings,
            budget,
            orphans,
            fleet: HashMap::new(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            cause: "discovery",
        }
    }

    /// Follows a discovery for ever, and does what it is ordered to. `known` holds as soon as there is a destination.
    pub(crate) async fn follow(
        &mut self,
        mut discovery: Box<dyn Discovery>,
        known: Condition,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let service = discovery.service().to_owned();
        loop {
            let applied = tokio::select! {
                // What was configured at first must not come after what was ordered.
                biased;
                answer = discovery.next() => match answer {
                    Ok(endpoints) => self.apply(endpoints).await.map(|()| known.holds()),
                    Err(error) => Err(error),
                },
                Some(Order { what, done }) = orders.recv() => {
                    let named = what.endpoints.is_some();
                    let outcome = self.reconfigure(what).await;
                    if named && outcome.is_ok() {
                        known.holds();
                    }
                    // Whoever ordered it may have left.
                    let _ = done.send(outcome);
                    Ok(())
                }
                () = tokio::time::sleep(self.nap()) => self.tick().await,
            };
            if let Err(error) = applied {
                let failed = DiscoveryFailed {
                    service: &service,
                    detail: &error.to_string(),
                };
                failed.emit();
            }
        }
    }

    /// These are the destinations from now on, in this order.
    ///
    /// # Errors
    /// When no ring can be made of them, or none of them would own anything; nothing changes then.
    pub async fn apply(&mut self, endpoints: Vec<Endpoint>) -> Result<(), BoxError> {
        let now = wall_clock();
        let members = self.members(endpoints)?;
        self.advance(now).await?;
        self.cause = "discovery";
        let mut roster = self.roster.clone();
        roster.discover(members, now);
        self.follow_roster(roster, now).await
    }

    /// Goes over to other settings. Other tags are ignored from now on, in the middle of an interval; what was flushed before goes where it went.
    ///
    /// # Errors
    /// When there would be no destination, or no ring can be made of them; nothing changes then.
    pub(crate) async fn reconfigure(&mut self, new: Reconfiguration) -> Result<(), BoxError> {
        let now = wall_clock();
        let members = match new.endpoints {
            Some(endpoints) => Some(self.members(endpoints)?),
            None => None,
        };
        self.advance(now).await?;
        self.cause = "settings";
        let mut roster = self.roster.clone();
        if let Some(members) = members {
            roster.discover(members, now);
        }
        if new.failover_after.is_zero() {
            // Nobody would look after the dead any more.
            roster.bury(HashSet::new(), now);
        }
        let before = self.ignored.clone();
        if let Some(ignored) = new.ignored {
            self.ignored = Arc::new(ignored);
        }
        if let Err(error) = self.follow_roster(roster, now).await {
            self.ignored = before;
            return Err(error);
        }
        self.rules.failover_after = new.failover_after;
        self.settings = new.settings;
        for destination in self.fleet.values() {
            destination.reconfigure(self.settings.clone());
        }
        Ok(())
    }

    /// What the ring is to be made of: weights mean nothing to one that is placed as Veneur's.
    fn members(&self, endpoints: Vec<Endpoint>) -> Result<Vec<Member>, BoxError> {
        if endpoints.is_empty() {
            return Err("names no destination".into());
        }
        let algorithm = self.rules.algorithm;
        if !algorithm.knows_weights()
            && let Some(first) = endpoints.iter().find(|endpoint| endpoint.weight != 1)
        {
            WeightsIgnored {
                algorithm: algorithm.name(),
                destination: &first.address,
                weight: first.weight,
            }
            .emit();
        }
        let members = algorithm.members(endpoints);
        match members.iter().all(|member| member.weight == 0) {
            true => Err("names no destination of a weight above 0".into()),
            false => Ok(members),
        }
    }

    /// Does what is due by the clock.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub async fn tick(&mut self) -> Result<(), BoxError> {
        let now = wall_clock();
        self.advance(now).await?;
        self.cause = "availability";
        let failover_after = self.rules.failover_after;
        if failover_after.is_zero() {
            return Ok(());
        }
        let dead: HashSet<Arc<str>> = self
            .fleet
            .values()
            .filter(|destination| {
                let time = destination.unavailable_for();
                time.is_some_and(|time| time >= failover_after)
            })
            .map(|destination| destination.address().clone())
            .collect();
        let mut roster = self.roster.clone();
        roster.bury(dead, now);
        self.follow_roster(roster, now).await
    }

    /// How long until [`Self::tick`] has something to do.
    fn nap(&self) -> Duration {
        let due = self.roster.next().map_or(u64::MAX, |(due, _)| due);
        let until_due = Duration::from_millis(due.saturating_sub(wall_clock()));
        let nap = until_due.min(LONGEST_NAP);
        match self.rules.failover_after {
            Duration::ZERO => nap,
            failover_after => nap.min((failover_after / 4).max(Duration::from_millis(10))),
        }
    }

    /// Lets those join whose time has come.
    async fn advance(&mut self, now: u64) -> Result<(), BoxError> {
        self.cause = "interval";
        let mut roster = self.roster.clone();
        match roster.advance(now) {
            Some(boundary) => self.follow_roster(roster, boundary).await,
            None => Ok(()),
        }
    }

    /// Brings the tables up to a roster. A ring that changes by it is in force from `since` on, which is a moment ago.
    async fn follow_roster(&mut self, roster: Roster, since: u64) -> Result<(), BoxError> {
        let start = Instant::now();
        let tables = self.router.tables();
        let old = tables.current();
        let mut active = self.ring_of(old, tables.next(), roster.active()).await?;
        if active.is_none() && !Arc::ptr_eq(old.ignored(), &self.ignored) {
            active = Some(old.ring().clone());
        }
        let current_generation = old.generation() + u64::from(active.is_some());
        let (due, to_come) = match roster.next() {
            Some((due, members)) => (due, Some(self.build(members).await?)),
            None => (0, None),
        };

        // From here on nothing can fail.
        let scheduled = roster.pending() != self.roster.pending();
        self.roster = roster;
        self.enlist();
        let current = match active {
            Some(ring) => self.table(current_generation, since, ring),
            None => old.clone(),
        };
        let next = to_come.map(|ring| self.table(current_generation + 1, due, ring));
        self.router.swap(current.clone(), next);
        let pending = self.roster.pending();
        if current.generation() != old.generation() {
            self.tell_of_change(old, &current, &pending, start);
        } else if scheduled && !pending.is_empty() {
            RingScheduled {
                generation: current.generation(),
                pending: &told(&pending),
                within: Duration::from_millis(due.saturating_sub(wall_clock())),
            }
            .emit();
        }
        self.dismiss(&current);
        Ok(())
    }

    /// The ring of these members, unless it is that of `old`.
    async fn ring_of(
        &self,
        old: &Arc<Table>,
        prepared: Option<&Arc<Table>>,
        members: Vec<Member>,
    ) -> Result<Option<Arc<Ring>>, BoxError> {
        if old.ring().is_of(&members) {
            return Ok(None);
        }
        if let Some(prepared) = prepared.filter(|table| table.ring().is_of(&members)) {
            return Ok(Some(prepared.ring().clone()));
        }
        Ok(Some(self.build(members).await?))
    }

    async fn build(&self, members: Vec<Member>) -> Result<Arc<Ring>, BoxError> {
        if let Some(prepared) = self.router.tables().next()
            && prepared.ring().is_of(&members)
        {
            return Ok(prepared.ring().clone());
        }
        let algorithm = self.rules.algorithm;
        // Placing many members takes a tenth of a second: not on a thread that serves connections.
        let ring: Result<Ring, RingError> =
            tokio::task::spawn_blocking(move || Ring::build(algorithm, members)).await?;
        Ok(Arc::new(ring?))
    }

    /// Sees to it that everybody who is discovered has a destination.
    fn enlist(&mut self) {
        for member in self.roster.discovered() {
            let address = &member.address;
            let known = self.fleet.get(address);
            if known.is_none_or(|destination| !destination.rejoin()) {
                let destination = self.start(address.clone());
                self.fleet.insert(address.clone(), destination);
            }
        }
    }

    fn table(&self, generation: u64, since: u64, ring: Arc<Ring>) -> Arc<Table> {
        let destinations = ring
            .members()
            .iter()
            // Everybody on a ring is discovered, and whoever is discovered is enlisted.
            .filter_map(|member| self.fleet.get(&member.address).cloned())
            .collect();
        let ignored = self.ignored.clone();
        Arc::new(Table::new(generation, since, ring, ignored, destinations))
    }

    fn tell_of_change(&self, old: &Table, current: &Table, pending: &[Member], start: Instant) {
        let not_in = |table: &Table, other: &Table| -> Vec<String> {
            let members = other.ring().members();
            let others: HashSet<&str> = members.iter().map(|member| &*member.address).collect();
            let members = table.ring().members().iter();
            members
                .filter(|member| !others.contains(&*member.address))
                .map(Member::to_string)
                .collect()
        };
        let weighed: HashMap<&str, u16> = old
            .ring()
            .members()
            .iter()
            .map(|member| (&*member.address, member.weight))
            .collect();
        let reweighted: Vec<String> = current
            .ring()
            .members()
            .iter()
            .filter(|member| {
                let before = weighed.get(&*member.address);
                before.is_some_and(|weight| *weight != member.weight)
            })
            .map(Member::to_string)
            .collect();
        let (added, removed) = (not_in(current, old), not_in(old, current));
        self.router.changes().note(Change {
            at: wall_clock(),
            generation: current.generation(),
            cause: self.cause,
            added: Moved::of(&added),
            removed: Moved::of(&removed),
        });
        RingChanged {
            generation: current.generation(),
            destinations: current.destinations().len(),
            added: &added,
            removed: &removed,
            reweighted: &reweighted,
            pending: &told(pending),
            took: start.elapsed(),
        }
        .emit();
    }

    /// Those that the ring has no place for let go of what they were never sent, and those that are gone leave.
    fn dismiss(&mut self, current: &Table) {
        let on_ring: HashSet<&str> = current
            .destinations()
            .iter()
            .map(|destination| &**destination.address())
            .collect();
        let discovered: HashSet<&str> = self
            .roster
            .discovered()
            .iter()
            .map(|member| &*member.address)
            .collect();
        for (address, destination) in &self.fleet {
            if on_ring.contains(&**address) {
                continue;
            }
            metrics::METRICS_BY_DESTINATION
                .with([address.to_string().into()])
                .set(0.0);
            let batches = match discovered.contains(&**address) {
                true => destination.give_out(),
                false => destination.leave(),
            };
            for batch in batches {
                self.router.reroute(batch);
            }
        }
        self.fleet.retain(|address, destination| {
            discovered.contains(&**address) || !destination.has_ended()
        });
    }

    fn start(&self, address: Arc<str>) -> Arc<Destination> {
        let account = self.router.ledger().account(&address);
        Destination::start(
            address,
            self.settings.clone(),
            self.budget.clone(),
            account,
            self.orphans.clone(),
            self.abort.clone(),
            &self.tasks,
        )
    }

    /// Sends what is queued, `within` at most; what is left is counted as lost. Nothing must be routed any more.
    pub async fn drain(self, within: Duration) {
        for destination in self.fleet.values() {
            destination.drain();
        }
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Members as logs show them.
fn told(members: &[Member]) -> Vec<String> {
    members.iter().map(Member::to_string).collect()
}
