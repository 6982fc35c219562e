//! Following one service: questions, waits, and the list that comes of them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::client::{Answer, Client, ConsulError, Question};
use super::events::{Failed, Updated, WeightIgnored};
use super::pace::Pace;
use crate::discovery::Endpoint;
use crate::repeats::Repeats;
use crate::tls::TlsError;

/// The last good list, in order; empty only until there was one.
pub type Endpoints = Arc<[Endpoint]>;

/// Follows `service` until `stop`; the receiver sees each change of its healthy instances.
///
/// Self-metrics, by `service`: `discoverer.destination_number` (instances in the last good answer),
/// `discoverer.errors` (questions without one), `discoverer.update_duration_ns` (taking an answer over).
///
/// # Errors
/// When the files for TLS cannot be used.
pub fn watch(
    settings: Settings,
    service: &str,
    stop: CancellationToken,
) -> Result<watch::Receiver<Endpoints>, TlsError> {
    let (sender, receiver) = watch::channel(Endpoints::from([]));
    let watcher = Watcher {
        service: service.to_owned(),
        pace: Pace::new(&settings),
        stale: settings.stale,
        client: Client::new(settings)?,
        index: 0,
        doubted: false,
        list: sender,
        repeats: Repeats::default(),
        odd_weights: Repeats::default(),
    };
    tokio::spawn(async move { stop.run_until_cancelled(watcher.run()).await });
    Ok(receiver)
}

struct Watcher {
    service: String,
    client: Client,
    pace: Pace,
    /// Any of Consul's servers may answer, not the leader alone.
    stale: bool,
    /// Where the next question waits from; 0: it is answered at once.
    index: u64,
    /// The last answer was another server's and may be old: the leader is asked next.
    doubted: bool,
    list: watch::Sender<Endpoints>,
    repeats: Repeats<()>,
    odd_weights: Repeats<String>,
}

// === impl Watcher ===

impl Watcher {
    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let waited_for = self.index;
            let question = Question {
                service: &self.service,
                index: waited_for,
                wait: self.pace.wait(),
                stale: self.stale && !self.doubted,
            };
            let asked_any = question.stale;
            let answer = self.client.health(question).await;
            self.doubted = false;
            let took = began.elapsed();
            let pause = match answer {
                // Without a list, an old one is better than none.
                Ok(answer) if asked_any && answer.is_old() && !self.list.borrow().is_empty() => {
                    self.doubted = true;
                    self.index = 0;
                    self.fail(&ConsulError::Old(answer.last_contact));
                    self.pace.after_failure(took, Instant::now())
                }
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
                    self.pace.after_success(self.index, took, Instant::now())
                }
                Err(error) => {
                    // The next answer may be another server's, whose index says nothing about this one.
                    self.index = 0;
                    self.fail(&error);
                    self.pace.after_failure(took, Instant::now())
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
        for odd in &answer.odd_weights {
            WeightIgnored {
                service: &self.service,
                instance: &odd.instance,
                weight: &odd.weight,
                told: self.odd_weights.tell(&odd.instance),
            }
            .emit();
        }
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
}
