//! What is stored of an event.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use super::{Event, Instance, Kind};
use crate::enrich::cloudfoundry::{App, TagWriter};
use crate::point::{Point, PointKind};

/// The names of series, made once.
struct Names {
    request: Base<3>,
    log: Base<2>,
    container: Base<7>,
}

/// A series and its fields, sorted.
struct Base<const FIELDS: usize> {
    base: Arc<str>,
    suffixes: [Arc<str>; FIELDS],
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    request: Base::new("http_request", [".count", ".duration", ".response_size"]),
    log: Base::new("log", [".count", ".size"]),
    container: Base::new(
        "instance",
        [
            ".cpu",
            ".disk",
            ".disk_pct",
            ".disk_quota",
            ".memory",
            ".memory_pct",
            ".memory_quota",
        ],
    ),
});

impl<const FIELDS: usize> Base<FIELDS> {
    fn new(base: &str, suffixes: [&str; FIELDS]) -> Self {
        let suffixes = suffixes.map(Arc::from);
        let base = base.into();
        Self { base, suffixes }
    }

    /// Appends a point for each field.
    fn points(
        &self,
        event: &Event,
        tags: TagWriter<'_>,
        values: [(PointKind, f64); FIELDS],
        out: &mut Vec<Point>,
    ) {
        let tags = tags.finish();
        for (suffix, (kind, value)) in self.suffixes.iter().zip(values) {
            out.push(Point {
                base: self.base.clone(),
                suffix: Some(suffix.clone()),
                tags: tags.clone(),
                kind,
                value,
                timestamp: event.timestamp,
                check: None,
            });
        }
    }
}

impl Event {
    /// Appends the event's points: one for each field, sorted, with the event's time and the same tags, which name the application, its
    /// space and organization, and the instance.
    pub fn points(&self, app: &App, out: &mut Vec<Point>) {
        use PointKind::{Gauge, Integer};

        let mut number = String::new();
        let instance = match &self.instance {
            Instance::Index(index) => {
                let _ = write!(number, "{index}");
                &number
            }
            Instance::Other(text) => &**text,
        };
        let mut tags = app.tags();
        tags.push("instance", instance);
        match &self.kind {
            Kind::HttpRequest {
                method,
                status_code,
                duration,
                response_size,
            } => {
                tags.push("method", method);
                tags.place();
                number.clear();
                let _ = write!(number, "{status_code}");
                tags.push("status_code", &number);
                let values = [
                    (Integer, 1.0),
                    (Gauge, *duration),
                    (Integer, *response_size as f64),
                ];
                NAMES.request.points(self, tags, values, out);
            }
            Kind::Log { stream, size } => {
                tags.place();
                tags.push("type", stream);
                let values = [(Integer, 1.0), (Integer, *size as f64)];
                NAMES.log.points(self, tags, values, out);
            }
            Kind::Container {
                cpu,
                memory,
                disk,
                memory_quota,
                disk_quota,
            } => {
                tags.place();
                let [memory, disk, memory_quota, disk_quota] =
                    [*memory, *disk, *memory_quota, *disk_quota].map(|bytes| bytes as f64);
                let values = [
                    (Gauge, *cpu),
                    (Integer, disk),
                    (Gauge, disk / disk_quota),
                    (Integer, disk_quota),
                    (Integer, memory),
                    (Gauge, memory / memory_quota),
                    (Integer, memory_quota),
                ];
                NAMES.container.points(self, tags, values, out);
            }
        }
    }
}
