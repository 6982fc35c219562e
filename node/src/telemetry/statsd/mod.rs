//! Self-metrics to a statsd receiver: each interval the counters' increments, the gauges, and what histograms saw.
//!
//! `metrics-exporter-statsd` formats the lines. It neither aggregates nor flushes on a timer, so it is driven from here,
//! once an interval, into packets of our own. A receiver that is gone, slow or never was costs nothing but its packets.

mod lines;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use metrics::{Key, Label, Recorder as _};
use metrics_exporter_statsd::{StatsdBuilder, StatsdRecorder};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::recorder::{METADATA, Recorder, Samples};
use crate::metrics::STATS_DROPPED;
use lines::Lines;
use target::Target;

// Of each histogram and interval; the sample rate tells the receiver how many these stand for.
const MOST_VALUES: usize = 100;

/// Reports the self-metrics to `address` (`host:port`) every `interval` until `stop`, and once more then.
pub(super) async fn report(
    recorder: Recorder,
    address: String,
    interval: Duration,
    stop: CancellationToken,
) {
    recorder.keep_samples();
    let mut reporter = Reporter::new(recorder);
    let mut target = Target::new(address);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once and has nothing to tell.
    ticks.tick().await;
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let packets = reporter.packets();
        let dropped = target.send(&packets).await;
        if dropped > 0 {
            STATS_DROPPED.increment(dropped);
        }
        if last {
            return;
        }
    }
}

/// Turns self-metrics into packets.
struct Reporter {
    recorder: Recorder,
    statsd: Option<StatsdRecorder>,
    lines: Lines,
}

// === impl Reporter ===

impl Reporter {
    fn new(recorder: Recorder) -> Self {
        let lines = Lines::default();
        let prefix = recorder.prefix().trim_end_matches('.').to_owned();
        let built = StatsdBuilder::from("", 0)
            .with_sink(lines.clone())
            .histogram_is_distribution()
            .build(Some(&prefix));
        let statsd = match built {
            Ok(statsd) => Some(statsd),
            Err(error) => {
                tracing::error!(%error, "self-metrics cannot be reported");
                None
            }
        };
        Self {
            recorder,
            statsd,
            lines,
        }
    }

    /// What happened since the last call.
    fn packets(&mut self) -> Vec<Vec<u8>> {
        let snapshot = self.recorder.snapshot();
        let Some(statsd) = &self.statsd else {
            return Vec::new();
        };
        for (key, increment) in snapshot.counters {
            statsd
                .register_counter(&clean(&key), &METADATA)
                .increment(increment);
        }
        for (key, value) in snapshot
            .gauges
            .into_iter()
            .filter(|(_, value)| value.is_finite())
        {
            statsd.register_gauge(&clean(&key), &METADATA).set(value);
        }
        for (key, samples) in snapshot.histograms {
            let seen = samples.seen;
            let values = thinned(samples);
            let rate = values.len() as f64 / seen as f64;
            self.lines.set_rate((rate < 1.0).then_some(rate));
            let histogram = statsd.register_histogram(&clean(&key), &METADATA);
            for value in values {
                histogram.record(value);
            }
            self.lines.set_rate(None);
        }
        self.lines.take()
    }
}

/// Few values that have the same smallest, largest and percentiles.
fn thinned(samples: Samples) -> Vec<f64> {
    let mut values: Vec<f64> = samples
        .kept
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    if values.len() <= MOST_VALUES {
        return values;
    }
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    (0..MOST_VALUES)
        .filter_map(|step| values.get(step * last / (MOST_VALUES - 1)).copied())
        .collect()
}

/// The key without the characters that would end a field or a line.
fn clean(key: &Key) -> Key {
    let name = replaced(key.name(), |c| {
        c.is_control() || c.is_whitespace() || matches!(c, ':' | '|' | '@' | '#')
    });
    let labels: Vec<Label> = key
        .labels()
        .map(|label| {
            let ends = |c: char| c.is_control() || matches!(c, ',' | '|' | '#');
            Label::new(
                replaced(label.key(), |c| ends(c) || c == ':'),
                replaced(label.value(), ends),
            )
        })
        .collect();
    Key::from_parts(name, labels)
}

fn replaced(text: &str, bad: impl Fn(char) -> bool) -> String {
    text.chars().map(|c| if bad(c) { '_' } else { c }).collect()
}
