//! The way in for forwarded metrics.
//!
//! A metric is checked whole, its sketch decoded and its fit proven, before the table is touched: a bad one is refused and
//! leaves no series behind; the one who brought it counts it by [`ImportError::cause`]. (One such metric ends the real Veneur's process, or leaves a zero that is flushed.)
//!
//! Counters and gauges go to the global series whatever their scope says, sets to the mixed one, histograms and timers to the one of their scope,
//! as with Veneur. Tags are sorted here, so that senders who do not sort them share a series.

mod plain;

use std::sync::atomic::Ordering;

use prost::Message;
use thiserror::Error;
use tributary_proto::metricpb::metric::Value;
use tributary_proto::metricpb::{self, Metric, Type};
use tributary_proto::scan::Scanned;

use self::plain::{Plain, join_sorted};
use super::canon::effective_scope;
use super::sampler::Sampler;
use super::wanted::{KeyParts, NamedParts};
use super::writer::Writer;
use super::{Brought, shown};
use crate::key::{Key, Kind, Scope};
use crate::sketch::{DigestError, HllError, HyperLogLog, ReceivedDigest};

/// Why a forwarded metric was refused.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The bytes are no metric.
    #[error("not a metric: {0}")]
    Decode(#[from] prost::DecodeError),
    /// There is no name.
    #[error("metric has no name")]
    EmptyName,
    /// The type's number is none that we know.
    #[error("metric {name:?} has unknown type {number}")]
    UnknownType {
        /// The metric's name.
        name: String,
        /// As on the wire.
        number: i32,
    },
    /// No value is set, or a histogram without digest.
    #[error("metric {name:?} has no value")]
    MissingValue {
        /// The metric's name.
        name: String,
    },
    /// The value is of another type than the metric says.
    #[error("metric {name:?} says {kind} but holds another value", kind = .kind.as_str())]
    TypeMismatch {
        /// The metric's name.
        name: String,
        /// What it says that it is.
        kind: Kind,
    },
    /// A histogram, timer or set that must not have left its agent.
    #[error("metric {name:?} is of local scope")]
    LocalScope {
        /// The metric's name.
        name: String,
    },
    /// The scope's number is none that we know.
    #[error("metric {name:?} has unknown scope {number}")]
    UnknownScope {
        /// The metric's name.
        name: String,
        /// As on the wire.
        number: i32,
    },
    /// A gauge that is NaN or infinite.
    #[error("gauge {name:?} is {value}")]
    NotFinite {
        /// The metric's name.
        name: String,
        /// Its value.
        value: f64,
    },
    /// The digest breaks a rule of digests.
    #[error("metric {name:?} has a bad digest: {source}")]
    Digest {
        /// The metric's name.
        name: String,
        /// Which rule.
        source: DigestError,
    },
    /// A digest without any centroid: there is nothing to merge, and nothing could be emitted of it.
    #[error("metric {name:?} has an empty digest")]
    EmptyDigest {
        /// The metric's name.
        name: String,
    },
    /// The set's bytes are no HyperLogLog, or one of another precision.
    #[error("set {name:?} has a bad sketch: {source}")]
    Set {
        /// The metric's name.
        name: String,
        /// What is wrong.
        source: HllError,
    },
}

impl ImportError {
    /// A short word for counters.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Decode(_) => "decode",
            Self::EmptyName => "empty_name",
            Self::UnknownType { .. } => "unknown_type",
            Self::MissingValue { .. } => "missing_value",
            Self::TypeMismatch { .. } => "type_mismatch",
            Self::LocalScope { .. } => "local_scope",
            Self::UnknownScope { .. } => "unknown_scope",
            Self::NotFinite { .. } => "not_finite",
            Self::Digest { source, .. } => digest_cause(*source),
            Self::EmptyDigest { .. } => "empty_digest",
            Self::Set { source, .. } => set_cause(*source),
        }
    }
}

fn digest_cause(error: DigestError) -> &'static str {
    match error {
        DigestError::Mean(_) => "digest_mean",
        DigestError::Weight(_) => "digest_weight",
        DigestError::WeightOverflow => "digest_weight_overflow",
        DigestError::Compression(_) => "digest_compression",
        DigestError::Range { .. } => "digest_range",
        DigestError::Centroids(_) => "digest_centroids",
        DigestError::Order(_) => "digest_order",
    }
}

fn set_cause(error: HllError) -> &'static str {
    match error {
        HllError::Truncated(_) => "set_truncated",
        HllError::Trailing(_) => "set_trailing",
        HllError::Version(_) => "set_version",
        HllError::Precision(_) => "set_precision",
        HllError::Layout(_) => "set_layout",
        HllError::Offset(_) => "set_offset",
        HllError::Registers(_) => "set_registers",
        HllError::Oversized(..) => "set_oversized",
        HllError::Code(_) => "set_code",
        HllError::Count { .. } => "set_count",
        HllError::Last { .. } => "set_last",
    }
}

impl Writer {
    /// Merges one forwarded metric. A refused one changed nothing and is in [`super::IntervalCounts`].
    pub fn import(&mut self, metric: Metric) -> Result<(), ImportError> {
        let outcome = self.merge_import(metric);
        self.note_refusal(&outcome);
        outcome
    }

    /// Decodes one `metricpb.Metric` and merges it, as [`Writer::import`] does.
    pub fn import_bytes(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let outcome = match self.merge_plain(bytes) {
            Some(outcome) => outcome,
            None => Metric::decode(bytes)
                .map_err(ImportError::from)
                .and_then(|metric| self.merge_import(metric)),
        };
        self.note_refusal(&outcome);
        outcome
    }

    fn note_refusal(&self, outcome: &Result<(), ImportError>) {
        if outcome.is_err() {
            self.table.refused.imports.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn merge_import(&mut self, metric: Metric) -> Result<(), ImportError> {
        if let Some(open) = self.taps.open() {
            shown::import(&open, &metric);
        }
        let Metric {
            name,
            tags,
            r#type,
            value,
            scope,
            origin,
            flush,
            interval,
            ..
        } = metric;
        let kind = kind(&name, r#type)?;
        let contribution = match Contribution::of(kind, value, &mut self.received) {
            Ok(contribution) => contribution,
            Err(fault) => return Err(fault.of_metric(&name, kind)),
        };
        let of = Of {
            name: &name,
            kind,
            scope: import_scope(&name, kind, scope)?,
            sent: Sent::of(origin, flush, interval),
        };
        self.merge_contribution(of, tags.iter().map(String::as_str), contribution)
    }

    /// Merges a metric without decoding it, as nearly all are merged. `None` if it is not of the usual form, or something seems to be wrong with it, or
    /// somebody wants to see it decoded: then nothing was merged.
    fn merge_plain(&mut self, bytes: &[u8]) -> Option<Result<(), ImportError>> {
        if self.taps.open().is_some() {
            return None;
        }
        let metric = Scanned::scan(bytes).ok()?;
        let plain = Plain::of(&metric)?;
        let contribution = plain.value.contribution(&mut self.received)?;
        Some(self.merge_contribution(plain.of, metric.tags(), contribution))
    }

    #[inline]
    fn merge_contribution<'a>(
        &mut self,
        of: Of<'_>,
        tags: impl Iterator<Item = &'a str> + Clone,
        contribution: Contribution,
    ) -> Result<(), ImportError> {
        let Of {
            name,
            kind,
            scope,
            sent,
        } = of;
        let Self {
            table,
            names,
            joined,
            received,
            ..
        } = self;
        joined.clear();
        join_sorted(joined, tags);
        let hash = Key::hash_of(name, kind, scope, joined);
        let parts = KeyParts {
            name,
            kind,
            scope,
            tags: joined,
            hash,
        };
        table
            .merge(NamedParts { parts, names }, Brought::Import, |sampler| {
                contribution.merge_into(sampler, sent, received)
            })
            .map_err(|fault| fault.of_metric(name, kind))?;
        table.watched.note(hash, sent.origin());
        Ok(())
    }
}

/// What a metric is, apart from its tags and its value.
#[derive(Clone, Copy)]
struct Of<'a> {
    name: &'a str,
    kind: Kind,
    scope: Scope,
    sent: Sent,
}

fn kind(name: &str, number: i32) -> Result<Kind, ImportError> {
    if name.is_empty() {
        return Err(ImportError::EmptyName);
    }
    let unknown = |_| ImportError::UnknownType {
        name: name.to_owned(),
        number,
    };
    Type::try_from(number).map(of_type).map_err(unknown)
}

fn of_type(r#type: Type) -> Kind {
    match r#type {
        Type::Counter => Kind::Counter,
        Type::Gauge => Kind::Gauge,
        Type::Histogram => Kind::Histogram,
        Type::Set => Kind::Set,
        Type::Timer => Kind::Timer,
    }
}

/// The scope of the series that a metric is merged into.
fn import_scope(name: &str, kind: Kind, number: i32) -> Result<Scope, ImportError> {
    if matches!(kind, Kind::Counter | Kind::Gauge) {
        return Ok(Scope::Global);
    }
    let name = || name.to_owned();
    match metricpb::Scope::try_from(number) {
        Ok(metricpb::Scope::Mixed) => Ok(Scope::Mixed),
        Ok(metricpb::Scope::Global) => Ok(effective_scope(kind, Scope::Global)),
        Ok(metricpb::Scope::Local) => Err(ImportError::LocalScope { name: name() }),
        Err(_) => Err(ImportError::UnknownScope {
            name: name(),
            number,
        }),
    }
}

/// Why a metric came. Origin 0 is none.
#[derive(Clone, Copy)]
enum Sent {
    /// It is of this flush.
    Flushed { origin: u64, flush: u64 },
    /// Its owner leaves, and hands over what it had.
    HandedOver { origin: u64 },
}

impl Sent {
    fn origin(self) -> u64 {
        match self {
            Self::Flushed { origin, .. } | Self::HandedOver { origin } => origin,
        }
    }

    fn of(origin: u64, flush: u64, interval: u64) -> Self {
        match interval {
            0 => Self::Flushed { origin, flush },
            _ => Self::HandedOver { origin },
        }
    }
}

/// What a metric brings, checked as far as that goes without the series.
enum Contribution {
    Total(i64),
    Level(f64),
    /// What the writer has received last.
    Digest,
    Set(HyperLogLog),
}

/// What is wrong with a value.
enum Fault {
    Missing,
    Mismatch,
    NotFinite(f64),
    Digest(DigestError),
    EmptyDigest,
    Set(HllError),
}

impl Fault {
    fn of_metric(self, name: &str, kind: Kind) -> ImportError {
        let name = name.to_owned();
        match self {
            Self::Missing => ImportError::MissingValue { name },
            Self::Mismatch => ImportError::TypeMismatch { name, kind },
            Self::NotFinite(value) => ImportError::NotFinite { name, value },
            Self::Digest(source) => ImportError::Digest { name, source },
            Self::EmptyDigest => ImportError::EmptyDigest { name },
            Self::Set(source) => ImportError::Set { name, source },
        }
    }
}

impl Contribution {
    fn of(kind: Kind, value: Option<Value>, received: &mut ReceivedDigest) -> Result<Self, Fault> {
        match (kind, value.ok_or(Fault::Missing)?) {
            (Kind::Counter, Value::Counter(counter)) => Ok(Self::Total(counter.value)),
            (Kind::Gauge, Value::Gauge(gauge)) if gauge.value.is_finite() => {
                Ok(Self::Level(gauge.value))
            }
            (Kind::Gauge, Value::Gauge(gauge)) => Err(Fault::NotFinite(gauge.value)),
            (Kind::Histogram | Kind::Timer, Value::Histogram(histogram)) => {
                received.put(&histogram.t_digest.ok_or(Fault::Missing)?);
                match received.is_empty() {
                    true => Err(Fault::EmptyDigest),
                    false => Ok(Self::Digest),
                }
            }
            (Kind::Set, Value::Set(set)) => match HyperLogLog::from_bytes(&set.hyper_log_log) {
                Ok(sketch) => Ok(Self::Set(sketch)),
                Err(error) => Err(Fault::Set(error)),
            },
            _ => Err(Fault::Mismatch),
        }
    }

    /// Changes nothing where it fails.
    #[inline]
    fn merge_into(
        self,
        sampler: &mut Sampler,
        sent: Sent,
        received: &ReceivedDigest,
    ) -> Result<(), Fault> {
        match (self, sampler) {
            (Self::Total(total), Sampler::Counter(sum)) => sum.add_whole(total),
            (Self::Level(value), Sampler::Gauge(gauge)) => match sent {
                Sent::Flushed { origin, flush } => gauge.set_forwarded(value, origin, flush),
                Sent::HandedOver { .. } => gauge.set_handed_over(value),
            },
            (Self::Digest, Sampler::Distribution(distribution)) => {
                let merged = distribution.digest.merge_received(received);
                merged.map_err(Fault::Digest)?;
            }
            (Self::Set(sketch), Sampler::Set(set)) => set.merge(&sketch),
            (_, sampler) => {
                debug_assert!(false, "a key's kind decides its sampler: {sampler:?}");
                return Err(Fault::Mismatch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
