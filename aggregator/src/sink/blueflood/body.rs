//! Points as the body of an ingest request.

use serde::Serialize;

use crate::graphite::naming::Naming;
use crate::point::Point;

/// How points look to Blueflood.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) naming: Naming,
    /// In seconds.
    pub(super) ttl: u64,
}

/// One point, with the keys that Blueflood knows: it refuses others.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    /// In milliseconds since 1970.
    collection_time: i64,
    metric_name: &'a str,
    ttl_in_seconds: u64,
    metric_value: f64,
}

/// A body that is being filled.
#[derive(Debug, Default)]
pub(super) struct Body {
    json: Vec<u8>,
    /// Kept from point to point, so that naming does not allocate.
    name: String,
}

/// What became of a point that was to go into a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is in there.
    In,
    /// There is no room left for it.
    Next,
    /// It would not even fit alone.
    Never,
}

/// How long a body may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// With one point in it.
    pub(super) alone: usize,
    /// With more.
    pub(super) together: usize,
}

impl Format {
    /// The name of a point.
    pub(super) fn name(&self, point: &Point, name: &mut String) {
        name.clear();
        self.naming.push_path(point, name);
    }
}

impl Body {
    /// Adds a point, if the whole body then is no longer than `limits` allow.
    pub(super) fn push(
        &mut self,
        format: &Format,
        point: &Point,
        time: i64,
        limits: Limits,
    ) -> Fit {
        let before = self.json.len();
        let first = before == 0;
        let limit = if first { limits.alone } else { limits.together };
        self.json.push(if first { b'[' } else { b',' });
        format.name(point, &mut self.name);
        let metric = Metric {
            collection_time: time,
            metric_name: &self.name,
            ttl_in_seconds: format.ttl,
            metric_value: point.value,
        };
        // Writing into memory cannot fail; what were not written has no place here.
        let written = serde_json::to_writer(&mut self.json, &metric).is_ok();
        // Less than the limit: there is a bracket to come.
        if written && self.json.len() < limit {
            return Fit::In;
        }
        self.json.truncate(before);
        if first { Fit::Never } else { Fit::Next }
    }

    /// The body as it is sent; empty when there is nothing in it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.json.is_empty() {
            self.json.push(b']');
        }
        self.json
    }
}

/// When a point holds, in milliseconds; `now` where its own time is not wanted.
pub(super) fn time(point: &Point, now: Option<i64>) -> i64 {
    now.unwrap_or_else(|| point.timestamp.millis())
}
