//! How long the slowest count took from being sent to being emitted.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Sent;
use crate::tier::Emitted;

/// The longest time from a count's sending to the flush of a global that emitted it.
///
/// `sent` was sent at a steady pace in the time from `started` to `stopped`. Counts have no name of their own, so those of a series are taken
/// to come out in the order in which they were sent; if they did not, one took longer than this. Points carry whole seconds, so this is up to
/// a second too short. Two flushes, the agent's and the global's, are part of it.
pub fn longest_delay(
    sent: &Sent,
    emitted: &[Emitted],
    started: SystemTime,
    stopped: SystemTime,
) -> Duration {
    let since_epoch = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    };
    let (started, stopped) = (since_epoch(started), since_epoch(stopped));
    let mut points: HashMap<usize, Vec<(i64, f64)>> = HashMap::new();
    for point in emitted {
        let series = point
            .tags
            .iter()
            .find_map(|tag| tag.strip_prefix("series:")?.parse().ok());
        if let Some(series) = series {
            let points = points.entry(series).or_default();
            points.push((point.timestamp, point.value));
        }
    }
    let mut longest = 0.0_f64;
    for (series, mut points) in points {
        let Some(total) = sent.get(&series).filter(|total| **total > 0) else {
            continue;
        };
        points.sort_by_key(|(timestamp, _)| *timestamp);
        let mut before = 0.0;
        for (timestamp, value) in points {
            let first_sent = started + (stopped - started) * before / *total as f64;
            longest = longest.max(timestamp as f64 - first_sent);
            before += value;
        }
    }
    Duration::from_secs_f64(longest.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(series: usize, timestamp: i64, value: f64) -> Emitted {
        Emitted {
            name: "load.count".into(),
            kind: "counter".into(),
            value,
            timestamp,
            tags: vec![format!("series:{series}")],
            hostname: "g".into(),
            interval: 1.0,
            message: None,
        }
    }

    #[test]
    fn the_first_count_of_the_latest_point_sets_the_longest_delay() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        // One count a second from 100 to 110: those sent from 102 on wait until 109.
        let sent = Sent::from([(1, 10), (2, 10)]);
        let held = [point(1, 102, 2.0), point(1, 109, 7.0), point(1, 110, 1.0)];
        assert_eq!(
            longest_delay(&sent, &held, at(100), at(110)),
            Duration::from_secs(7)
        );
        let steady: Vec<_> = (0..10).map(|n| point(2, 102 + n, 1.0)).collect();
        assert_eq!(
            longest_delay(&sent, &steady, at(100), at(110)),
            Duration::from_secs(2)
        );
    }
}
