//! Points, service checks and events as the bodies that Datadog's API takes.

use serde::{Serialize, Serializer};

use super::config::TagExclusion;
use crate::key::Tags;
use crate::point::{Batch, Point, PointKind};
use crate::sample::Event;

/// How points look to Datadog.
#[derive(Debug)]
pub(super) struct Format {
    /// Counters by the second.
    pub(super) rates: bool,
    /// Prefixes of names that are not sent.
    pub(super) drops: Vec<String>,
    pub(super) exclusions: Vec<TagExclusion>,
    /// Points in a body.
    pub(super) most: usize,
}

/// What goes to one path, and how long its bodies may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/api/v2/series`.
    Series,
    /// `/api/v1/check_run`.
    Checks,
    /// `/api/v1/events`.
    Events,
}

/// Of Datadog's `type`s of a series.
const COUNT: u8 = 1;
const RATE: u8 = 2;
const GAUGE: u8 = 3;

/// Datadog cuts longer texts of events off, or refuses them.
const LONGEST_TEXT: usize = 4000;

#[derive(Serialize)]
struct Series<'a> {
    metric: String,
    #[serde(rename = "type")]
    kind: u8,
    points: [Value; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Resource<'a>>,
    tags: TagList<'a>,
}

#[derive(Serialize)]
struct Value {
    timestamp: i64,
    value: f64,
}

#[derive(Serialize)]
struct Resource<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
}

#[derive(Serialize)]
struct Check<'a> {
    check: String,
    host_name: &'a str,
    status: u8,
    timestamp: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    tags: TagList<'a>,
}

#[derive(Serialize)]
struct EventBody<'a> {
    title: &'a str,
    text: &'a str,
    date_happened: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_key: Option<&'a str>,
    priority: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_type_name: Option<&'a str>,
    alert_type: &'a str,
    tags: &'a [String],
}

/// The tags but those that are something else to Datadog, or excluded.
struct TagList<'a> {
    tags: &'a Tags,
    excluded: Vec<&'a str>,
}

impl Serialize for TagList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sent = |tag: &&str| {
            let excluded = |prefix: &&str| tag.starts_with(prefix);
            !tag.starts_with(HOST)
                && !tag.starts_with(DEVICE)
                && !self.excluded.iter().any(excluded)
        };
        serializer.collect_seq(self.tags.iter().filter(sent))
    }
}

const HOST: &str = "host:";
const DEVICE: &str = "device:";

impl Route {
    /// The path below the address.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Series => "/api/v2/series",
            Self::Checks => "/api/v1/check_run",
            Self::Events => "/api/v1/events",
        }
    }

    /// As in the label `endpoint`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Checks => "check_run",
            Self::Events => "events",
        }
    }

    /// How long a body may be before it is compressed: a little below what Datadog takes.
    pub(super) fn longest(self) -> usize {
        match self {
            Self::Series => 5_242_880 - 1024,
            Self::Checks | Self::Events => LONGEST_SENT,
        }
    }

    fn carries(self, kind: PointKind) -> bool {
        (kind == PointKind::Status) == (self == Self::Checks)
    }

    /// What stands around the list.
    pub(super) fn frame(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Series => (br#"{"series":["#, b"]}"),
            Self::Checks => (b"[", b"]"),
            Self::Events => (b"", b""),
        }
    }
}

/// How long a body may be as it is sent.
pub(super) const LONGEST_SENT: usize = 512_000;

impl Format {
    /// Whether a point goes to a path.
    pub(super) fn takes(&self, route: Route, point: &Point) -> bool {
        route.carries(point.kind) && !self.drops.iter().any(|prefix| name_starts(point, prefix))
    }

    /// Appends a point.
    pub(super) fn point(
        &self,
        out: &mut Vec<u8>,
        batch: &Batch,
        point: &Point,
    ) -> serde_json::Result<()> {
        let tagged = |key: &str| {
            let values = point.tags.iter().filter_map(|tag| tag.strip_prefix(key));
            // The last one counts, as with Veneur.
            values.last().filter(|value| !value.is_empty())
        };
        let matching = self.exclusions.iter();
        let matching = matching.filter(|entry| name_starts(point, &entry.metric_prefix));
        let tags = TagList {
            tags: &point.tags,
            excluded: matching
                .flat_map(|entry| entry.tags.iter().map(String::as_str))
                .collect(),
        };
        let host = tagged(HOST).unwrap_or(&batch.hostname);
        if point.kind == PointKind::Status {
            let said = point.check.as_deref();
            let check = Check {
                check: point.name().to_string(),
                host_name: said
                    .and_then(|said| said.hostname.as_deref())
                    .unwrap_or(host),
                status: point.value as u8,
                timestamp: point.timestamp.seconds(),
                message: said.map_or("", |said| &said.message),
                tags,
            };
            return serde_json::to_writer(out, &check);
        }
        let seconds = batch.interval.as_secs_f64();
        let (kind, value) = match point.kind {
            PointKind::Counter if self.rates && seconds > 0.0 => (RATE, point.value / seconds),
            PointKind::Counter => (COUNT, point.value),
            _ => (GAUGE, point.value),
        };
        // Datadog's are whole seconds; an interval of less has none that is true.
        let interval = (kind != GAUGE).then_some(batch.interval.as_secs());
        let resource = |kind, name: Option<_>| name.map(|name| Resource { kind, name });
        let named = Some(host).filter(|host| !host.is_empty());
        let resources = [resource("host", named), resource("device", tagged(DEVICE))];
        let series = Series {
            metric: point.name().to_string(),
            kind,
            points: [Value {
                timestamp: point.timestamp.seconds(),
                value,
            }],
            interval: interval.filter(|seconds| *seconds > 0),
            resources: resources.into_iter().flatten().collect(),
            tags,
        };
        serde_json::to_writer(out, &series)
    }

    /// An event's body.
    pub(super) fn event(&self, batch: &Batch, event: &Event) -> serde_json::Result<Vec<u8>> {
        let end = event.text.char_indices().nth(LONGEST_TEXT);
        let end = end.map_or(event.text.len(), |(at, _)| at);
        serde_json::to_vec(&EventBody {
            title: &event.title,
            text: event.text.get(..end).unwrap_or_default(),
            date_happened: event.timestamp,
            host: event.hostname.as_deref().unwrap_or(&batch.hostname),
            aggregation_key: event.aggregation_key.as_deref(),
            priority: event.priority,
            source_type_name: event.source_type.as_deref(),
            alert_type: event.alert_type,
            tags: &event.tags,
        })
    }
}

/// Whether the full name starts so.
fn name_starts(point: &Point, prefix: &str) -> bool {
    let suffix = point.suffix.as_deref().unwrap_or_default();
    match prefix.strip_prefix(&*point.base) {
        Some(rest) => suffix.starts_with(rest),
        None => point.base.starts_with(prefix),
    }
}
