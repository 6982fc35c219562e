//! When flushes happen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep_until};

/// The moments of the flushes, one each interval.
///
/// Aligned ones are multiples of the interval since the epoch and follow the wall clock, also when that is set. A flush that takes longer than
/// the interval leaves ticks out; it never makes them pile up.
///
/// With a phase they come that much after the multiple that they belong to: see `docs/adr/0002-globals-flush-half-an-interval-later.md`.
#[derive(Debug)]
pub(crate) struct Ticks {
    interval: Duration,
    aligned: bool,
    phase: Duration,
    last: Instant,
    /// The last aligned tick, since the epoch.
    last_multiple: Duration,
}

impl Ticks {
    pub(crate) fn new(interval: Duration, aligned: bool) -> Self {
        Self {
            interval,
            aligned,
            phase: Duration::ZERO,
            last: Instant::now(),
            last_multiple: Duration::ZERO,
        }
    }

    /// Lets aligned ticks come `phase` after their multiples.
    pub(crate) fn after(self, phase: Duration) -> Self {
        Self { phase, ..self }
    }

    /// The time that the next aligned tick will have.
    pub(crate) fn upcoming(&self) -> SystemTime {
        let wall = since_epoch().saturating_sub(self.phase);
        UNIX_EPOCH + next_multiple(wall, self.last_multiple, self.interval)
    }

    /// Waits for the next one, and gives its time: an aligned one's is the multiple itself, however early or late the timer fired.
    ///
    /// May be given up and called again.
    pub(crate) async fn next(&mut self) -> SystemTime {
        let now = Instant::now();
        if self.aligned {
            let wall = since_epoch().saturating_sub(self.phase);
            let multiple = next_multiple(wall, self.last_multiple, self.interval);
            sleep_until(now + multiple.saturating_sub(wall)).await;
            self.last_multiple = multiple;
            UNIX_EPOCH + multiple
        } else {
            let tick = self.last + self.interval * missed(now - self.last, self.interval).max(1);
            sleep_until(tick).await;
            self.last = tick;
            SystemTime::now()
        }
    }
}

/// How many intervals have begun in `elapsed`.
fn missed(elapsed: Duration, interval: Duration) -> u32 {
    let whole = elapsed.as_nanos().div_ceil(interval.as_nanos().max(1));
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// The first multiple of `step` after `time`, but not `last` again: a timer may fire a moment early.
fn next_multiple(time: Duration, last: Duration, step: Duration) -> Duration {
    let step_ns = step.as_nanos().max(1);
    let left = step_ns - time.as_nanos() % step_ns;
    let multiple = time + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
    if multiple == last {
        multiple + step
    } else {
        multiple
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    #[test]
    fn aligned_ticks_are_multiples_of_the_interval() {
        let (none, at) = (Duration::ZERO, Duration::from_secs);
        assert_eq!(next_multiple(at(23), none, STEP), at(30));
        assert_eq!(next_multiple(at(30), at(30), STEP), at(40));
    }

    #[test]
    fn a_timer_that_fires_early_does_not_tick_twice_and_one_given_up_late_ticks_still() {
        let early = Duration::from_millis(29_999);
        let (thirty, forty) = (Duration::from_secs(30), Duration::from_secs(40));
        assert_eq!(next_multiple(early, thirty, STEP), forty);
        assert_eq!(next_multiple(early, Duration::from_secs(20), STEP), thirty);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_flush_leaves_ticks_out() {
        let start = Instant::now();
        let mut ticks = Ticks::new(STEP, false);
        ticks.next().await;
        assert_eq!(start.elapsed(), STEP);
        tokio::time::advance(Duration::from_secs(25)).await;
        ticks.next().await;
        assert_eq!(start.elapsed(), Duration::from_secs(40));
    }
}
