//! The enricher: events in, points out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::{CloudFoundryConfig, OnUnavailable};
use super::flights::{Looked, Outcome, Shared};
use super::stats::Stats;
use crate::backoff;
use crate::dropsonde::Event;
use crate::point::Point;

/// Names the applications of events. Its tasks end with it.
pub struct Enricher {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What is known of events at once, each with its place among them.
#[derive(Debug, Default)]
pub struct AtOnce {
    /// Their points, or why there are none.
    pub settled: Vec<(usize, Result<Vec<Point>, Passed>)>,
    /// Somebody has to be asked.
    pub waiting: Vec<(usize, Event)>,
}

/// Why there are no points of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Passed {
    /// It names no application.
    #[error("the event names no application")]
    NoApp,
    /// The Cloud Controller does not know its application, or may not show it to us.
    #[error("the Cloud Controller does not know the application")]
    UnknownApp,
    /// The Cloud Controller cannot be asked, and `on_unavailable` is `pass`.
    #[error("the Cloud Controller cannot be asked for the application")]
    Unavailable,
    /// The program ends while the event waits. It is not done with: whoever has it must not say that it is.
    #[error("the program ends before the application is known")]
    Stopping,
}

/// Waits between rounds while the Cloud Controller is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Wait after a first listing that failed; it doubles up to `refresh`.
const LIST_AGAIN: Duration = Duration::from_secs(5);

impl Passed {
    /// As in the label of a self-metric.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NoApp => "no_app",
            Self::UnknownApp => "unknown_app",
            Self::Unavailable => "unavailable",
            Self::Stopping => "stopping",
        }
    }
}

impl Enricher {
    /// Begins to list applications, and goes on with that until `stop`, or until it is dropped. A Cloud Controller that is away is no error.
    ///
    /// # Errors
    /// What is wrong with the settings, starting with the key.
    pub async fn start(
        config: CloudFoundryConfig,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let stop = stop.child_token();
        let shared = Arc::new(Shared::new(config, stop.clone())?);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(refresh(shared.clone())),
        );
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(expire(shared.clone())),
        );
        Ok(Arc::new(Self {
            shared,
            _stop: stop.drop_guard(),
        }))
    }

    /// What can be said without asking anybody: for events of applications that are known, or known not to be there. The others have to wait; they are for
    /// [`events`](Self::events).
    pub fn at_once(&self, events: Vec<Event>) -> AtOnce {
        let Looked { outcomes, .. } = self.shared.look(events.iter().map(|event| event.app));
        let mut said = AtOnce::default();
        for (place, (event, outcome)) in events.into_iter().zip(outcomes).enumerate() {
            match outcome {
                Some(Outcome::App(app)) => {
                    let mut points = Vec::new();
                    event.points(&app, &mut points);
                    said.settled.push((place, Ok(points)));
                }
                Some(Outcome::Unknown) => said.settled.push((place, Err(Passed::UnknownApp))),
                None if event.app.is_none() => said.settled.push((place, Err(Passed::NoApp))),
                Some(Outcome::Unavailable) | None => said.waiting.push((place, event)),
            }
        }
        self.count(said.settled.iter().map(|(_, result)| result));
        said
    }

    /// The points of each event, in order, or why there are none.
    ///
    /// It takes as long as the Cloud Controller needs to say what it knows of the applications that are not known yet. While that cannot be asked, and
    /// `on_unavailable` is `wait`, this waits until it can, or until the program ends; so whoever calls it has to bound how many events wait.
    pub async fn events(&self, events: Vec<Event>) -> Vec<Result<Vec<Point>, Passed>> {
        let guids = events.iter().map(|event| event.app);
        let Looked {
            mut outcomes,
            missing,
        } = self.shared.look(guids);
        if !missing.is_empty() {
            self.wait_for(&events, &mut outcomes, missing).await;
        }
        let stopping = self.shared.stop.is_cancelled();
        let made = events
            .iter()
            .zip(outcomes)
            .map(|(event, outcome)| match outcome {
                Some(Outcome::App(app)) => {
                    let mut points = Vec::new();
                    event.points(&app, &mut points);
                    Ok(points)
                }
                Some(Outcome::Unknown) => Err(Passed::UnknownApp),
                None if event.app.is_none() => Err(Passed::NoApp),
                Some(Outcome::Unavailable) | None if stopping => Err(Passed::Stopping),
                Some(Outcome::Unavailable) | None => Err(Passed::Unavailable),
            });
        let made: Vec<_> = made.collect();
        self.count(made.iter());
        made
    }

    /// What happened so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.events.stats
    }

    /// Fills in what is missing, and leaves out what cannot be known.
    async fn wait_for(
        &self,
        events: &[Event],
        outcomes: &mut [Option<Outcome>],
        mut missing: Vec<crate::dropsonde::Guid>,
    ) {
        let shared = &self.shared;
        let waits = shared.config.on_unavailable == OnUnavailable::Wait;
        let mut rounds = 0;
        // Also while they are asked for again.
        let mut waiting = None;
        loop {
            let Some(answers) = shared.stop.run_until_cancelled(shared.ask(&missing)).await else {
                break;
            };
            let mut left = 0;
            for (event, outcome) in events.iter().zip(outcomes.iter_mut()) {
                if outcome.is_none()
                    && let Some(answer) = event.app.and_then(|guid| answers.get(&guid))
                {
                    match answer {
                        Outcome::Unavailable => left += 1,
                        answer => *outcome = Some(answer.clone()),
                    }
                }
            }
            if left == 0 || !waits {
                break;
            }
            missing.retain(|guid| matches!(answers.get(guid), Some(Outcome::Unavailable)));
            drop(waiting.take());
            waiting = Some(shared.events.waiting(left));
            let wait = backoff::after(FIRST_PAUSE, LONGEST_PAUSE, rounds);
            rounds = rounds.saturating_add(1);
            let waited = shared.stop.run_until_cancelled(sleep(wait)).await;
            if waited.is_none() {
                break;
            }
        }
    }

    fn count<'r>(&self, made: impl Iterator<Item = &'r Result<Vec<Point>, Passed>> + Clone) {
        use Passed::{NoApp, Stopping, Unavailable, UnknownApp};
        let count = |which| made.clone().filter(|result| **result == Err(which)).count() as u64;
        let events = &self.shared.events;
        events.enriched(made.clone().filter(|result| result.is_ok()).count() as u64);
        for passed in [NoApp, UnknownApp, Unavailable] {
            events.passed(passed.cause(), count(passed));
        }
        events.stopping(count(Stopping));
    }
}

/// Lists all applications again and again.
async fn refresh(shared: Arc<Shared>) {
    let every = spread(shared.config.refresh.get());
    let most = shared.config.max_apps;
    let mut failures = 0;
    loop {
        let listed = shared.api.list(most, |apps| shared.merge(apps)).await;
        let wait = match &listed {
            Ok(_) => every,
            Err(_) => backoff::after(LIST_AGAIN.min(every), every, failures),
        };
        failures = if listed.is_ok() { 0 } else { failures + 1 };
        shared.events.refreshed(listed.ok());
        sleep(wait).await;
    }
}

/// Forgets what is old.
async fn expire(shared: Arc<Shared>) {
    let every = |time: Duration| {
        let mut ticks = interval(time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut apps = every(shared.config.expire_check.get());
    let mut unknown = every(shared.config.negative_expire_check.get());
    loop {
        tokio::select! {
            _ = apps.tick() => shared.expire(),
            _ = unknown.tick() => shared.expire_unknown(),
        }
    }
}

/// A time with up to a tenth more or less.
fn spread(time: Duration) -> Duration {
    time.mul_f64(0.9 + fastrand::f64() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_spread_by_a_tenth() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let time = spread(10 * second);
            assert!(time >= 9 * second && time <= 11 * second, "{time:?}");
        }
    }
}
