//! The way in for forwarded metrics.
//!
//! A metric is checked whole, its sketch decoded and its fit proven, before the table is touched: a bad one is refused and
//! leaves no series behind; the one who brought it counts it by [`ImportError::cause`]. (One such metric ends the real Veneur's process, or leaves a zero that is flushed.)
//!
//! Counters and gauges go to the global series whatever their scope says, sets to the mixed one, histograms and timers to the one of their scope,
//! as with Veneur. Tags are sorted here, so that senders who do not sort them share a series.

use std::sync::atomic::Ordering;

use prost::Message;
use thiserror::Error;
use tributary_proto::metricpb::metric::Value;
use tributary_proto::metricpb::{self, Metric, Type};
use tributary_proto::tdigest::MergingDigestData;

use super::canon::effective_scope;
use super::sampler::Sampler;
use super::wanted::{KeyParts, NamedParts};
use super::writer::Writer;
use super::{Brought, shown};
use crate::key::{Key, Kind, SEPARATOR, Scope, Tags};
use crate::sketch::{DigestError, HllError, HyperLogLog};

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
        let outcome = Metric::decode(bytes)
            .map_err(ImportError::from)
            .and_then(|metric| self.merge_import(metric));
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
            mut tags,
            r#type,
            value,
            scope,
            origin,
            flush,
            interval,
            ..
        } = metric;
        let kind = kind(&name, r#type)?;
        let sent = match interval {
            0 => Sent::Flushed { origin, flush },
            _ => Sent::HandedOver,
        };
        let contribution = match Contribution::of(kind, value, sent) {
            Ok(contribution) => contribution,
            Err(fault) => return Err(fault.of_metric(name, kind)),
        };
        let scope = import_scope(&name, kind, scope)?;
        // Such a tag counts as two, which have to be apart before they are sorted: a tier above gets them as two.
        if tags.iter().any(|tag| tag.contains(SEPARATOR)) {
            let split = tags.iter().flat_map(|tag| tag.split(SEPARATOR));
            tags = split.map(str::to_owned).collect();
        }
        if !tags.is_sorted() {
            tags.sort_unstable();
        }
        self.joined.clear();
        for (position, tag) in tags.iter().enumerate() {
            Tags::join(&mut self.joined, tag, position == 0);
        }
        let parts = KeyParts {
            name: &name,
            kind,
            scope,
            tags: &self.joined,
            hash: Key::hash_of(&name, kind, scope, &self.joined),
        };
        let hash = parts.hash;
        let wanted = NamedParts {
            parts,
            names: &mut self.names,
        };
        self.table
            .merge(wanted, Brought::Import, |sampler| {
                contribution.merge_into(sampler)
            })
            .map_err(|fault| fault.of_metric(name, kind))?;
        self.table.watched.note(hash, origin);
        Ok(())
    }
}

fn kind(name: &str, number: i32) -> Result<Kind, ImportError> {
    if name.is_empty() {
        return Err(ImportError::EmptyName);
    }
    match Type::try_from(number) {
        Ok(Type::Counter) => Ok(Kind::Counter),
        Ok(Type::Gauge) => Ok(Kind::Gauge),
        Ok(Type::Histogram) => Ok(Kind::Histogram),
        Ok(Type::Set) => Ok(Kind::Set),
        Ok(Type::Timer) => Ok(Kind::Timer),
        Err(_) => Err(ImportError::UnknownType {
            name: name.to_owned(),
            number,
        }),
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

/// Why a metric came.
#[derive(Clone, Copy)]
enum Sent {
    /// It is of this flush.
    Flushed { origin: u64, flush: u64 },
    /// Its owner leaves, and hands over what it had.
    HandedOver,
}

/// What a metric brings, checked as far as that goes without the series.
enum Contribution {
    Total(i64),
    Level { value: f64, sent: Sent },
    Digest(MergingDigestData),
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
    fn of_metric(self, name: String, kind: Kind) -> ImportError {
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
    fn of(kind: Kind, value: Option<Value>, sent: Sent) -> Result<Self, Fault> {
        match (kind, value.ok_or(Fault::Missing)?) {
            (Kind::Counter, Value::Counter(counter)) => Ok(Self::Total(counter.value)),
            (Kind::Gauge, Value::Gauge(gauge)) if gauge.value.is_finite() => {
                let value = gauge.value;
                Ok(Self::Level { value, sent })
            }
            (Kind::Gauge, Value::Gauge(gauge)) => Err(Fault::NotFinite(gauge.value)),
            (Kind::Histogram | Kind::Timer, Value::Histogram(histogram)) => {
                let digest = histogram.t_digest.ok_or(Fault::Missing)?;
                match digest.main_centroids.is_empty() {
                    true => Err(Fault::EmptyDigest),
                    false => Ok(Self::Digest(digest)),
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
    fn merge_into(self, sampler: &mut Sampler) -> Result<(), Fault> {
        match (self, sampler) {
            (Self::Total(total), Sampler::Counter(sum)) => sum.add_whole(total),
            (Self::Level { value, sent }, Sampler::Gauge(gauge)) => match sent {
                Sent::Flushed { origin, flush } => gauge.set_forwarded(value, origin, flush),
                Sent::HandedOver => gauge.set_handed_over(value),
            },
            (Self::Digest(data), Sampler::Distribution(distribution)) => {
                distribution
                    .digest
                    .merge_proto(&data)
                    .map_err(Fault::Digest)?;
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
