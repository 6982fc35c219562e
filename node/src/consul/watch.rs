//! Following one service: questions, waits, and the list that comes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::client::{Answer, Client, ConsulError};
use super::events::{Failed, Updated};
use crate::discovery::Endpoint;
use crate::repeats::Repeats;

/// The last good list, in order; empty only until there was one.
pub type Endpoints = Arc<[Endpoint]>;

/// Follows `service` until `stop`; the receiver sees each change of its healthy instances.
///
/// Self-metrics, by `service`: `discoverer.destination_number` (instances in the last good answer),
/// `discoverer.errors` (questions without one), `discoverer.update_duration_ns` (taking an answer over).
pub fn watch(
    settings: Settings,
    service: &str,
    stop: CancellationToken,
) -> watch::Receiver<Endpoints> {
    let (sender, receiver) = watch::channel(Endpoints::from([]));
    let watcher = Watcher {
        service: service.to_owned(),
        pace: Pace::new(&settings),
        client: Client::new(settings),
        index: 0,
        list: sender,
        repeats: Repeats::default(),
    };
    tokio::spawn(async move { stop.run_until_cancelled(watcher.run()).await });
    receiver
}

struct Watcher {
    service: String,
    client: Client,
    pace: Pace,
    /// Where the next question waits from; 0: it is answered at once.
    index: u64,
    list: watch::Sender<Endpoints>,
    repeats: Repeats<()>,
}

// === impl Watcher ===

impl Watcher {
    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let waited_for = self.index;
            let answer = self
                .client
                .health(&self.service, waited_for, self.pace.wait())
                .await;
            let pause = match answer {
                Ok(answer) => {
                    self.index = next_index(waited_for, answer.index);
                    // A question that waits for a change spends its time waiting, not working.
                    let since = if waited_for == 0 { began } else { answer.began };
                    // An empty answer changes nothing, but the first instance to come is a change to wait for.
                    if answer.endpoints.is_empty() {
                        self.fail(&ConsulError::Empty);
                    } else {
                        self.take(answer, since);
                    }
                    self.pace.after_success(self.index, began.elapsed())
                }
                Err(error) => {
                    // The next answer may be another server's, whose index says nothing about this one.
                    self.index = 0;
                    self.fail(&error);
                    self.pace.after_failure(began.elapsed())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.list.closed() => return,
            }
        }
    }

    fn take(&self, answer: Answer, since: Instant) {
        let instances = answer.endpoints.len();
        let changed = self.list.send_if_modified(|list| {
            let changed = **list != *answer.endpoints;
            if changed {
                *list = answer.endpoints.into();
            }
            changed
        });
        Updated {
            service: &self.service,
            instances,
            took: since.elapsed(),
            changed,
        }
        .emit();
    }

    fn fail(&self, error: &ConsulError) {
        let kept = self.list.borrow().len();
        Failed {
            service: &self.service,
            error,
            kept,
            told: self.repeats.tell(&()),
        }
        .emit();
    }
}

/// Consul's rules: an index that goes backwards (a restored or replaced server) or is none must not be waited from.
fn next_index(before: u64, now: u64) -> u64 {
    if now < before { 0 } else { now }
}

/// How long to wait: in Consul for a change, and here between questions.
struct Pace {
    refresh: Duration,
    least_gap: Duration,
    failures: u32,
}

// Beyond it a Consul that comes back would be noticed too late.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

// === impl Pace ===

impl Pace {
    fn new(settings: &Settings) -> Self {
        Self {
            refresh: settings.refresh_interval,
            least_gap: settings.least_gap,
            failures: 0,
        }
    }

    /// The wait to ask Consul for: below the refresh interval by a random part, so that many watchers spread, and by
    /// what Consul itself adds, so that the interval is kept.
    fn wait(&self) -> Duration {
        self.refresh.mul_f64(0.94 - fastrand::f64() / 16.0)
    }

    fn after_success(&mut self, index: u64, took: Duration) -> Duration {
        self.failures = 0;
        // Without an index Consul answers at once each time: ask by the clock then.
        let gap = if index == 0 {
            self.refresh.max(self.least_gap)
        } else {
            self.least_gap
        };
        gap.saturating_sub(took)
    }

    fn after_failure(&mut self, took: Duration) -> Duration {
        let longest = self.refresh.min(LONGEST_BACKOFF).max(self.least_gap);
        let gap = self
            .least_gap
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        // A question that took its time to fail has waited already, but never ask twice in a row.
        gap.mul_f64(0.75 + fastrand::f64() / 4.0)
            .saturating_sub(took)
            .max(self.least_gap / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_waited_from_unless_it_went_backwards() {
        assert_eq!(next_index(0, 7), 7);
        assert_eq!(next_index(7, 7), 7);
        assert_eq!(next_index(7, 9), 9);
        assert_eq!(next_index(7, 3), 0);
        assert_eq!(next_index(7, 0), 0);
    }

    fn pace() -> Pace {
        Pace {
            refresh: Duration::from_secs(30),
            least_gap: Duration::from_secs(1),
            failures: 0,
        }
    }

    #[test]
    fn waits_are_spread_and_stay_within_the_interval_with_what_consul_adds() {
        let waits: Vec<Duration> = (0..1000).map(|_| pace().wait()).collect();
        assert!(
            waits
                .iter()
                .all(|wait| *wait + *wait / 16 <= Duration::from_secs(30))
        );
        assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(26)));
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn questions_keep_their_distance() {
        let mut pace = pace();
        assert_eq!(
            pace.after_success(5, Duration::from_millis(1)),
            Duration::from_millis(999)
        );
        assert_eq!(
            pace.after_success(5, Duration::from_secs(20)),
            Duration::ZERO,
            "it waited long enough"
        );
        assert_eq!(
            pace.after_success(0, Duration::ZERO),
            Duration::from_secs(30),
            "nothing to wait from"
        );
        let pauses: Vec<f64> = (0..8)
            .map(|_| pace.after_failure(Duration::ZERO).as_secs_f64())
            .collect();
        for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]) {
            assert!((longest * 0.75..=longest).contains(pause), "{pauses:?}");
        }
        pace.after_success(5, Duration::ZERO);
        assert!(
            pace.after_failure(Duration::ZERO) <= Duration::from_secs(1),
            "a success begins anew"
        );
    }
}
