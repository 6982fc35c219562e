//! Whether clients still come.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Knows of every request while it lasts, and when the last one ended.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    open: usize,
    last: Instant,
}

/// A request that lasts.
#[derive(Debug)]
pub(super) struct Lasting<'a>(&'a Activity);

impl Default for Activity {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                open: 0,
                last: Instant::now(),
            }),
            ended: Notify::new(),
        }
    }
}

impl Activity {
    /// A request begins.
    pub(super) fn begin(&self) -> Lasting<'_> {
        self.state.lock().open += 1;
        Lasting(self)
    }

    /// Completes when there has been no request for as long, counted from now on at the earliest.
    pub(crate) async fn quiet(&self, time: Duration) {
        let start = Instant::now();
        loop {
            let (open, last) = {
                let state = self.state.lock();
                (state.open, state.last.max(start))
            };
            match time.checked_sub(last.elapsed()) {
                _ if open > 0 => self.ended.notified().await,
                None => return,
                Some(left) => tokio::time::sleep(left.max(Duration::from_millis(1))).await,
            }
        }
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open -= 1;
        state.last = Instant::now();
        drop(state);
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_quiet_when_the_last_request_has_ended_and_none_follows() {
        let activity = Activity::default();
        let time = Duration::from_millis(50);
        let first = activity.begin();
        let start = Instant::now();
        let lasting = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let second = activity.begin();
            drop(first);
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(second);
        };
        tokio::join!(activity.quiet(time), lasting);
        assert!(start.elapsed() >= Duration::from_millis(250));
    }
}
