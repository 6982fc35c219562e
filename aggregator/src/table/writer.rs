//! The way in for samples and events.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;
use tributary_node::tap::Taps;

use super::bulk::Bulk;
use super::cache::{KeyCache, Probe};
use super::names::Names;
use super::sampler::Sampler;
use super::{Brought, Table, shown};
use crate::key::Kind;
use crate::sample::{Check, Event, Sample, Value};
use crate::sketch::ReceivedDigest;

/// Why a sample was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SampleError {
    /// Name or tags hold bytes that are no UTF-8; Veneur would forward them as protobuf strings that no receiver takes.
    #[error("{part} are not valid utf-8")]
    InvalidUtf8 {
        /// `name` or `tags`.
        part: &'static str,
    },
    /// There is no name.
    #[error("name is empty")]
    EmptyName,
    /// The value is not one of this kind.
    #[error("value does not fit a {}", .kind.as_str())]
    TypeMismatch {
        /// The sample's kind.
        kind: Kind,
    },
    /// The value is NaN or infinite.
    #[error("value is not finite")]
    NotFinite,
    /// The rate is not above 0 and at most 1, or so small that what it stands for overflows.
    #[error("sample rate is out of range")]
    Rate,
}

impl SampleError {
    /// A short word for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::EmptyName => "empty_name",
            Self::TypeMismatch { .. } => "type_mismatch",
            Self::NotFinite => "not_finite",
            Self::Rate => "rate",
        }
    }
}

/// Writes into a table. Each thread or connection has one of its own.
#[derive(Debug)]
pub struct Writer {
    pub(super) table: Arc<Table>,
    pub(super) cache: KeyCache,
    pub(super) names: Names,
    /// Reused by imports for the tags of the metric at hand.
    pub(super) joined: String,
    /// Reused by imports for the digest of the metric at hand.
    pub(super) received: ReceivedDigest,
    /// Of its own: a metric looks there, at nothing else that is shared.
    pub(super) taps: Taps,
    pub(super) bulk: Bulk,
}

impl Writer {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self {
            cache: KeyCache::new(table.cached_keys, Arc::clone(&table.allowance)),
            names: Names::default(),
            taps: table.taps.clone(),
            table,
            joined: String::new(),
            received: ReceivedDigest::default(),
            bulk: Bulk::default(),
        }
    }

    /// Merges one sample. A refused one changed nothing and is in [`super::IntervalCounts`]; the caller counts it by [`SampleError::cause`].
    pub fn sample(&mut self, sample: &Sample<'_>) -> Result<(), SampleError> {
        let outcome = self.merge_sample(sample);
        if outcome.is_err() {
            self.table.refused.samples.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(open) = self.taps.open() {
            shown::sample(&open, sample, outcome.err());
        }
        outcome
    }

    /// Keeps an event for the next flush.
    pub fn event(&mut self, event: Event) {
        self.table.event(event);
    }

    pub(super) fn merge_sample(&mut self, sample: &Sample<'_>) -> Result<(), SampleError> {
        let observation = Observation::of(sample)?;
        let Self {
            table,
            cache,
            names,
            ..
        } = self;
        let make = || table.canon.key_of(names, sample);
        let key = cache.get_or_make(Probe::of(sample), make)?;
        table.merge(key, Brought::Sample, |sampler| {
            observation.merge_into(sampler)
        })
    }
}

/// A sample's value, checked and scaled: merging it cannot fail.
#[derive(Debug, Clone, Copy)]
pub(super) enum Observation<'a> {
    Amount(f64),
    Level(f64),
    Weighted { value: f64, weight: f64 },
    Member(&'a [u8]),
    Check(&'a Check<'a>),
}

impl<'a> Observation<'a> {
    #[inline]
    pub(super) fn of(sample: &'a Sample<'a>) -> Result<Self, SampleError> {
        match (sample.kind, &sample.value) {
            (Kind::Set, Value::Member(member)) => Ok(Self::Member(member)),
            (Kind::Status, Value::Status(check)) => Ok(Self::Check(check)),
            (Kind::Counter | Kind::Gauge | Kind::Histogram | Kind::Timer, Value::Number(value)) => {
                Self::number(sample.kind, *value, sample.rate)
            }
            (kind, _) => Err(SampleError::TypeMismatch { kind }),
        }
    }

    fn number(kind: Kind, value: f64, rate: f64) -> Result<Self, SampleError> {
        if !value.is_finite() {
            return Err(SampleError::NotFinite);
        }
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(SampleError::Rate);
        }
        match kind {
            Kind::Gauge => Ok(Self::Level(value)),
            Kind::Counter => Ok(Self::Amount(value / rate)),
            _ => {
                // In single precision, as Veneur does it: a tenth stands for exactly ten.
                let weight = f64::from(1.0 / rate as f32);
                match weight.is_finite() {
                    true => Ok(Self::Weighted { value, weight }),
                    false => Err(SampleError::Rate),
                }
            }
        }
    }

    /// Reads the fields that [`Observation::merge_into`] will, so that they are near by then. The branch is taken by the observation's kind, which is here,
    /// and not by the sampler's, which a processor would have to wait for.
    #[inline]
    pub(super) fn warm(&self, sampler: &Sampler) {
        match (self, sampler) {
            (Self::Weighted { .. }, Sampler::Distribution(distribution)) => {
                black_box(distribution.warm());
            }
            (Self::Member(_), Sampler::Set(set)) => {
                black_box(set.warm());
            }
            _ => {}
        }
    }

    /// The same for what those fields point to.
    #[inline]
    pub(super) fn warm_end(&self, sampler: &Sampler) {
        match (self, sampler) {
            (Self::Weighted { .. }, Sampler::Distribution(distribution)) => {
                black_box(distribution.digest.warm_tail());
            }
            (Self::Member(_), Sampler::Set(set)) => {
                black_box(set.warm_waiting());
            }
            _ => {}
        }
    }

    /// Fails only where a digest's weights would come to infinity, which takes a series that has many already.
    #[inline]
    pub(super) fn merge_into(self, sampler: &mut Sampler) -> Result<(), SampleError> {
        match (self, sampler) {
            (Self::Amount(amount), Sampler::Counter(sum)) => sum.add(amount),
            (Self::Level(value), Sampler::Gauge(gauge)) => gauge.set(value),
            (Self::Weighted { value, weight }, Sampler::Distribution(distribution)) => {
                distribution
                    .digest
                    .add(value, weight)
                    .map_err(|_| SampleError::Rate)?;
                distribution.own.add(value, weight);
            }
            (Self::Member(member), Sampler::Set(set)) => set.insert(member),
            (Self::Check(check), Sampler::Status(status)) => status.set(check),
            (_, sampler) => debug_assert!(false, "a key's kind decides its sampler: {sampler:?}"),
        }
        Ok(())
    }
}
