//! What is sent: names, tags, kinds and values.

use std::fmt::Write as _;

use prost::Message;
use tributary_aggregator::sketch::HyperLogLog;
use tributary_proto::metricpb::{
    CounterValue, GaugeValue, HistogramValue, Metric, Scope, SetValue, Type, metric::Value,
};
use tributary_proto::tdigest::{Centroid, MergingDigestData};

/// Which kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Mix {
    /// Counters alone.
    Counters,
    /// Forwarded: 2/6 counters, 1/6 gauges, 2/6 digests, 1/6 small sets. DogStatsD: 2/6 counters, and a sixth each of gauges, histograms, timers and sets.
    Mixed,
    /// Digests of histograms alone; DogStatsD: histograms.
    Digests,
}

/// A set of series and their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Which kinds.
    pub mix: Mix,
    /// How many series there are.
    pub series: usize,
    /// How many tags a series has; one of them, `id`, makes it what it is.
    pub tags: usize,
    /// Centroids of a digest.
    pub centroids: usize,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            mix: Mix::Mixed,
            series: 10_000,
            tags: 4,
            centroids: 20,
        }
    }
}

/// Members of a forwarded set.
const MEMBERS: usize = 8;

impl Workload {
    /// The name of a series.
    pub fn name(&self, series: usize) -> String {
        format!("svc.{}.request.latency_{}", series % 97, series % 13)
    }

    /// The tags of a series, sorted.
    pub fn tags(&self, series: usize) -> Vec<String> {
        let mut tags = vec![format!("id:{series}")];
        let usual = [
            "env:prod".to_owned(),
            format!("host_group:hg{}", series % 31),
            "region:eu-west-1".to_owned(),
        ];
        tags.extend(usual.into_iter().take(self.tags.saturating_sub(1)));
        tags.extend((4..self.tags).map(|more| format!("more{more}:{}", series % 7)));
        tags.sort();
        tags
    }

    /// What an agent forwards of a series.
    pub fn metric(&self, series: usize) -> Metric {
        let (kind, value) = match (self.mix, series % 6) {
            (Mix::Counters, _) | (Mix::Mixed, 0 | 1) => {
                (Type::Counter, Value::Counter(CounterValue { value: 1 }))
            }
            (Mix::Mixed, 2) => {
                let value = series as f64;
                (Type::Gauge, Value::Gauge(GaugeValue { value }))
            }
            (Mix::Mixed, 3) => (Type::Set, self.set(series)),
            (Mix::Mixed, 4) => (Type::Timer, self.digest(series)),
            (Mix::Digests | Mix::Mixed, _) => (Type::Histogram, self.digest(series)),
        };
        Metric {
            name: self.name(series),
            tags: self.tags(series),
            r#type: kind.into(),
            scope: Scope::Global.into(),
            value: Some(value),
            ..Metric::default()
        }
    }

    /// The same, encoded.
    pub fn encoded(&self, series: usize) -> Vec<u8> {
        self.metric(series).encode_to_vec()
    }

    /// A line of DogStatsD.
    pub fn line(&self, series: usize) -> String {
        let value = series % 1_000;
        let kind = match (self.mix, series % 6) {
            (Mix::Counters, _) | (Mix::Mixed, 0 | 1) => "c",
            (Mix::Mixed, 2) => "g",
            (Mix::Mixed, 3) => "s",
            (Mix::Mixed, 4) => "ms",
            (Mix::Digests | Mix::Mixed, _) => "h",
        };
        let mut line = format!("{}:{value}|{kind}|#", self.name(series));
        for (position, tag) in self.tags(series).iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            // Writing into a string cannot fail.
            let _ = write!(line, "{comma}{tag}");
        }
        line
    }

    fn digest(&self, series: usize) -> Value {
        let centroids = self.centroids.max(1);
        let mean = |place: usize| (series % 100 + place * 10) as f64;
        let main_centroids = (0..centroids).map(|place| Centroid {
            mean: mean(place),
            weight: 1.0 + (place % 3) as f64,
            samples: Vec::new(),
        });
        let main_centroids: Vec<_> = main_centroids.collect();
        let reciprocal = main_centroids.iter().map(|c| c.weight / c.mean.max(1.0));
        let t_digest = MergingDigestData {
            compression: 100.0,
            min: mean(0),
            max: mean(centroids - 1),
            reciprocal_sum: reciprocal.sum(),
            main_centroids,
        };
        Value::Histogram(HistogramValue {
            t_digest: Some(t_digest),
        })
    }

    fn set(&self, series: usize) -> Value {
        let mut members = HyperLogLog::new();
        for member in 0..MEMBERS {
            members.insert(format!("member-{series}-{member}").as_bytes());
        }
        let hyper_log_log = members.to_bytes().into();
        Value::Set(SetValue { hyper_log_log })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_series_is_another_and_all_kinds_are_there() {
        let workload = Workload::default();
        let keys: BTreeSet<_> = (0..10_000)
            .map(|series| (workload.name(series), workload.tags(series)))
            .collect();
        assert_eq!(keys.len(), 10_000);
        let kinds: BTreeSet<_> = (0..6)
            .map(|series| workload.metric(series).r#type)
            .collect();
        assert_eq!(kinds.len(), 5);
        assert_eq!(workload.tags(5).len(), 4);
        assert_eq!(
            Workload {
                tags: 9,
                ..workload
            }
            .tags(5)
            .len(),
            9
        );
        assert_eq!(
            workload.line(40),
            "svc.40.request.latency_1:40|ms|#env:prod,host_group:hg9,id:40,region:eu-west-1"
        );
    }
}
