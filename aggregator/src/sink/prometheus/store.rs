//! The last value of each series, and the totals of counters.
//!
//! One task writes here. Readers get a [`Page`], which never changes: it shares with the store what has not changed since, and the store copies a family before
//! it writes to it again. So neither waits for the other, and a page has all of a flush or nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3;

use super::page::{Page, push_labels};
use crate::point::{Batch, Point, Timestamp};
use crate::prometheus::naming::{Naming, Role};

/// Series by family.
#[derive(Debug)]
pub(super) struct Store {
    naming: Naming,
    limits: Limits,
    families: HashMap<Arc<str>, Family>,
    /// The names of samples, and whose they are: no two families may write the same.
    claimed: HashMap<String, Arc<str>>,
    series: usize,
    swept: Instant,
    /// Kept from point to point, so that naming does not allocate.
    name: String,
    labels: String,
}

/// Bounds in number and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) series: usize,
    pub(super) expiry: Expiry,
}

/// How long what no flush brings is kept; `None` for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub(super) gauges: Option<Duration>,
    pub(super) counters: Option<Duration>,
}

#[derive(Debug)]
struct Family {
    shown: Arc<Shown>,
    /// Where the series with these labels is.
    index: HashMap<Arc<str>, usize>,
}

/// A family as readers see it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// A counter's ends in `_total`.
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    pub(super) series: Vec<Series>,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Summary,
}

/// One series.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// As they are written between braces.
    pub(super) labels: Arc<str>,
    /// Of the name and tags that it was made of.
    identity: u64,
    pub(super) value: Value,
    pub(super) seen: Instant,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Total { total: f64, created: Timestamp },
    Gauge { value: f64, at: Timestamp },
    Summary(Arc<Summary>),
}

/// What is known of a distribution.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    /// In the order in which they came.
    pub(super) quantiles: Vec<Quantile>,
    pub(super) sum: Option<f64>,
    pub(super) count: Option<f64>,
    pub(super) created: Timestamp,
}

/// One quantile: its label, its value, and when it was last brought.
#[derive(Debug, Clone)]
pub(super) struct Quantile {
    pub(super) label: Arc<str>,
    pub(super) value: f64,
    pub(super) seen: Instant,
}

/// Why a point is not on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// There are too many series.
    MaxSeries,
    /// Another series has the same name and labels.
    Collision,
    /// A newer value is there, or it is older than what is kept.
    Late,
}

impl Refusal {
    /// As in the label `cause`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::MaxSeries => "max_series",
            Self::Collision => "collision",
            Self::Late => "late",
        }
    }
}

/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(1);

impl Kind {
    fn of(role: &Role) -> Self {
        match role {
            Role::Counter => Self::Counter,
            Role::Gauge => Self::Gauge,
            Role::Quantile(_) | Role::Sum | Role::Count => Self::Summary,
        }
    }

    /// As `# TYPE` says.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }

    /// Every name that a family writes in either format, its own included.
    fn names(self, name: &str) -> Vec<String> {
        let with = |base: &str, suffixes: &[&str]| {
            let suffixes = suffixes.iter();
            suffixes.map(|suffix| format!("{base}{suffix}")).collect()
        };
        match self {
            Self::Gauge => with(name, &[""]),
            Self::Counter => {
                let base = name.strip_suffix("_total").unwrap_or(name);
                with(base, &["", "_total", "_created"])
            }
            Self::Summary => with(name, &["", "_sum", "_count", "_created"]),
        }
    }
}

impl Expiry {
    /// Whether something of that kind, seen then, is gone now.
    pub(super) fn is_over(self, kind: Kind, seen: Instant, now: Instant) -> bool {
        let after = match kind {
            Kind::Gauge => self.gauges,
            Kind::Counter | Kind::Summary => self.counters,
        };
        after.is_some_and(|after| now.saturating_duration_since(seen) > after)
    }
}

impl Store {
    pub(super) fn new(naming: Naming, limits: Limits) -> Self {
        Self {
            naming,
            limits,
            families: HashMap::new(),
            claimed: HashMap::new(),
            series: 0,
            swept: Instant::now(),
            name: String::new(),
            labels: String::new(),
        }
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series
    }

    /// Takes a point of a batch.
    pub(super) fn take(
        &mut self,
        point: &Point,
        batch: &Batch,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), Refusal> {
        let role = Role::of(point, !batch.interval.is_zero(), self.naming.style);
        let kind = Kind::of(&role);
        if kind == Kind::Gauge && self.is_old(point, time) {
            return Err(Refusal::Late);
        }
        self.naming.name(point, &role, &mut self.name);
        self.labels.clear();
        // The parts of a summary share their labels; the quantile's own is written with it.
        let shared = match kind {
            Kind::Summary => &Role::Count,
            _ => &role,
        };
        let labels = self.naming.labels(point, &batch.hostname, shared);
        push_labels(&mut self.labels, &labels);
        let identity = identity(point, kind);
        let place = self.place(kind, identity, now, time)?;
        let Some(family) = self.families.get_mut(self.name.as_str()) else {
            return Err(Refusal::Collision);
        };
        let shown = Arc::make_mut(&mut family.shown);
        let Some(series) = shown.series.get_mut(place) else {
            return Err(Refusal::Collision);
        };
        series.take(point, role, now)
    }

    /// Whether a point's time is further away than values are kept.
    fn is_old(&self, point: &Point, time: Timestamp) -> bool {
        let kept = self.limits.expiry.gauges.map_or(i64::MAX, |kept| {
            i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX)
        });
        time.nanos().saturating_sub(point.timestamp.nanos()) > kept
    }

    /// Where the series of `name` and `labels` is; it is made if there is none.
    fn place(
        &mut self,
        kind: Kind,
        identity: u64,
        now: Instant,
        time: Timestamp,
    ) -> Result<usize, Refusal> {
        if let Some(family) = self.families.get(self.name.as_str()) {
            if family.shown.kind != kind {
                return Err(Refusal::Collision);
            }
            if let Some(place) = family.index.get(self.labels.as_str()) {
                let known = family.shown.series.get(*place);
                return match known.is_some_and(|known| known.identity == identity) {
                    true => Ok(*place),
                    false => Err(Refusal::Collision),
                };
            }
        }
        if self.series >= self.limits.series {
            return Err(Refusal::MaxSeries);
        }
        if !self.families.contains_key(self.name.as_str()) {
            self.add_family(kind)?;
        }
        let Some(family) = self.families.get_mut(self.name.as_str()) else {
            return Err(Refusal::Collision);
        };
        let labels: Arc<str> = self.labels.as_str().into();
        let shown = Arc::make_mut(&mut family.shown);
        let place = shown.series.len();
        shown.series.push(Series {
            labels: Arc::clone(&labels),
            identity,
            value: Value::new(kind, time),
            seen: now,
        });
        family.index.insert(labels, place);
        self.series += 1;
        Ok(place)
    }

    fn add_family(&mut self, kind: Kind) -> Result<(), Refusal> {
        let names = kind.names(&self.name);
        if names.iter().any(|name| self.claimed.contains_key(name)) {
            return Err(Refusal::Collision);
        }
        let name: Arc<str> = self.name.as_str().into();
        let claims = names.into_iter().map(|claim| (claim, Arc::clone(&name)));
        self.claimed.extend(claims);
        let shown = Shown {
            name: Arc::clone(&name),
            kind,
            series: Vec::new(),
        };
        let family = Family {
            shown: Arc::new(shown),
            index: HashMap::new(),
        };
        self.families.insert(name, family);
        Ok(())
    }

    /// Takes away what has expired, if it is time to look.
    pub(super) fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let expiry = self.limits.expiry;
        let mut gone = 0;
        for family in self.families.values_mut() {
            let kind = family.shown.kind;
            let is_over = |series: &Series| expiry.is_over(kind, series.seen, now);
            if !family.shown.series.iter().any(is_over) {
                continue;
            }
            let shown = Arc::make_mut(&mut family.shown);
            let before = shown.series.len();
            shown.series.retain(|series| !is_over(series));
            gone += before - shown.series.len();
            let places = shown.series.iter().enumerate();
            family.index = places
                .map(|(place, series)| (Arc::clone(&series.labels), place))
                .collect();
        }
        if gone > 0 {
            self.series = self.series.saturating_sub(gone);
            let families = &mut self.families;
            families.retain(|_, family| !family.index.is_empty());
            self.claimed
                .retain(|_, family| families.contains_key(family));
        }
    }

    /// All there is now, for readers.
    pub(super) fn page(&self) -> Page {
        let families = self.families.values();
        let mut families: Vec<_> = families.map(|family| Arc::clone(&family.shown)).collect();
        families.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Page {
            families,
            expiry: self.limits.expiry,
        }
    }
}

impl Value {
    fn new(kind: Kind, now: Timestamp) -> Self {
        match kind {
            Kind::Counter => Self::Total {
                total: 0.0,
                created: now,
            },
            Kind::Gauge => Self::Gauge {
                value: 0.0,
                at: Timestamp::from_nanos(i64::MIN),
            },
            Kind::Summary => Self::Summary(Arc::new(Summary {
                quantiles: Vec::new(),
                sum: None,
                count: None,
                created: now,
            })),
        }
    }
}

impl Series {
    fn take(&mut self, point: &Point, role: Role, now: Instant) -> Result<(), Refusal> {
        match (&mut self.value, role) {
            (Value::Total { total, .. }, _) => *total += point.value,
            (Value::Gauge { value, at }, _) => {
                if point.timestamp < *at {
                    return Err(Refusal::Late);
                }
                (*value, *at) = (point.value, point.timestamp);
            }
            (Value::Summary(summary), role) => {
                Arc::make_mut(summary).take(point.value, role, now);
            }
        }
        self.seen = now;
        Ok(())
    }
}

impl Summary {
    fn take(&mut self, value: f64, role: Role, now: Instant) {
        match role {
            Role::Count => *self.count.get_or_insert(0.0) += value,
            Role::Sum => *self.sum.get_or_insert(0.0) += value,
            Role::Quantile(label) => {
                let mut known = self.quantiles.iter_mut();
                match known.find(|known| *known.label == *label) {
                    Some(known) => (known.value, known.seen) = (value, now),
                    None => self.quantiles.push(Quantile {
                        label: label.into(),
                        value,
                        seen: now,
                    }),
                }
            }
            Role::Counter | Role::Gauge => {}
        }
    }
}

/// Of what makes a series: two that are written alike and differ here are not the same.
fn identity(point: &Point, kind: Kind) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(point.base.as_bytes());
    if kind != Kind::Summary {
        hash.update(point.suffix.as_deref().unwrap_or_default().as_bytes());
    }
    hash.update(&[0xff]);
    hash.update(point.tags.joined().as_bytes());
    let check = point.check.as_deref();
    let host = check.and_then(|check| check.hostname.as_deref());
    hash.update(&[0xff]);
    hash.update(host.unwrap_or_default().as_bytes());
    hash.digest()
}
