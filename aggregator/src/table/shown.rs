//! What comes in, as a tap shows it: samples as they were read, imports as they were sent.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};
use tributary_node::tap::{Observed, Open};
use tributary_proto::metricpb::metric::Value as Imported;
use tributary_proto::metricpb::{Metric, Scope, Type};

use super::writer::SampleError;
use crate::sample::{Sample, Value};

/// Shows a sample, and why it was refused if it was.
#[cold]
pub(super) fn sample(open: &Open, sample: &Sample<'_>, refused: Option<SampleError>) {
    open.offer(&ShownSample {
        name: String::from_utf8_lossy(sample.name),
        sample,
        refused,
    });
}

/// Shows a forwarded metric that is about to be merged.
#[cold]
pub(super) fn import(open: &Open, metric: &Metric) {
    open.offer(&ShownImport(metric));
}

struct ShownSample<'a> {
    name: Cow<'a, str>,
    sample: &'a Sample<'a>,
    refused: Option<SampleError>,
}

struct ShownImport<'a>(&'a Metric);

fn put(line: &mut Map<String, Json>, key: &str, value: impl Into<Json>) {
    line.insert(key.to_owned(), value.into());
}

// === impl ShownSample ===

impl Observed for ShownSample<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.sample.kind.as_str()
    }

    fn any_tag(&self, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        let tags = self.sample.tags.unwrap_or_default();
        !tags.is_empty()
            && tags
                .split(|byte| *byte == b',')
                .any(|tag| is_wanted(&String::from_utf8_lossy(tag)))
    }

    fn describe(&self, line: &mut Map<String, Json>) {
        put(line, "from", "dogstatsd");
        match self.sample.value {
            Value::Number(value) => put(line, "value", value),
            Value::Member(member) => put(line, "value", String::from_utf8_lossy(member)),
            Value::Status(check) => {
                put(line, "value", check.status);
                put(line, "message", check.message);
            }
        }
        if self.sample.rate != 1.0 {
            put(line, "rate", self.sample.rate);
        }
        if let Some(refused) = self.refused {
            put(line, "refused", refused.cause());
        }
    }
}

// === impl ShownImport ===

impl Observed for ShownImport<'_> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        Type::try_from(self.0.r#type).map_or("unknown", Type::lower_name)
    }

    fn any_tag(&self, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.tags.iter().any(|tag| is_wanted(tag))
    }

    fn describe(&self, line: &mut Map<String, Json>) {
        put(line, "from", "import");
        match &self.0.value {
            Some(Imported::Counter(counter)) => put(line, "value", counter.value),
            Some(Imported::Gauge(gauge)) => put(line, "value", gauge.value),
            Some(Imported::Histogram(histogram)) => {
                let centroids = histogram.t_digest.as_ref();
                let centroids = centroids.map(|digest| &digest.main_centroids);
                let weights = centroids.iter().flat_map(|list| list.iter());
                let weight: f64 = weights.map(|centroid| centroid.weight).sum();
                put(line, "samples", weight);
            }
            Some(Imported::Set(set)) => put(line, "sketch_bytes", set.hyper_log_log.len()),
            None => {}
        }
        let scope = Scope::try_from(self.0.scope).map(|scope| scope.as_str_name().to_lowercase());
        put(line, "scope", scope.ok());
        if self.0.origin != 0 {
            // As text: the origin has more digits than JSON numbers carry everywhere.
            put(line, "origin", format!("{:016x}", self.0.origin));
            put(line, "flush", self.0.flush);
        }
    }
}
