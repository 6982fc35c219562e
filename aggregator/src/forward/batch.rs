//! From a flush's metrics to batches: stamped, encoded, and small enough for every receiver.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::encoded_len_varint;
use tokio::time::Instant;
use tributary_proto::ack::Unacknowledged;
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;

use crate::receipt::Receipt;

/// The key of `MetricList.metrics`.
const METRICS_KEY: u8 = 0x0a;

/// The longest message that a receiver surely takes, in bytes: the default limit of Go's gRPC, which Veneur leaves as it is.
pub(super) const MAX_MESSAGE: usize = 4 << 20;

/// What a metric grows by, at most, when it says which interval it belongs to.
pub(super) const LABEL: usize = 14;

/// Whose a batch's metrics are: what proxies are told, because owners change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Those at the time of its flush, in milliseconds since the Unix epoch.
    At(u64),
    /// Those who will emit what they merge now.
    ///
    /// With the globals' interval, which they cut halfway between its multiples, that is whoever owns the metrics at the nearest multiple:
    /// after the middle of an interval, the owners to come.
    Emitting(Option<Duration>),
}

/// Where an attempt with a batch is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    /// The moment whose owners are meant, in milliseconds since the Unix epoch; `None`: now.
    pub moment: Option<u64>,
    /// What its metrics say as `interval`: 0 if nothing is handed over.
    pub interval: u64,
    /// When it was taken, in milliseconds since the Unix epoch.
    at: u64,
}

impl Owners {
    /// The aim of an attempt that begins `now`, in milliseconds since the Unix epoch, with metrics of this age.
    fn aim(self, now: u64, age: Duration) -> Aim {
        let of = |moment, interval| Aim {
            moment,
            interval,
            at: now,
        };
        match self {
            Self::At(moment) => of(Some(moment), 0),
            Self::Emitting(None) => of(None, scan::ANY_INTERVAL),
            Self::Emitting(Some(interval)) => {
                let step = u64::try_from(interval.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1);
                let left = step - now % step;
                let next = now.saturating_add(left);
                let (moment, label) = match left <= step / 2 {
                    true => (Some(next), next),
                    false => (None, next.saturating_sub(step)),
                };
                match age < interval {
                    true => of(moment, label),
                    // Somebody's clock or interval is another: late is better than never.
                    false => of(moment, scan::ANY_INTERVAL),
                }
            }
        }
    }
}

/// How large a batch may get before it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Metrics in one batch.
    pub metrics: u32,
    /// Encoded bytes of one batch. A single longer metric makes a batch of its own.
    pub bytes: usize,
}

/// Part of one flush: a `MetricList`, encoded. A repeat is cut from it and never encoded anew, so that it carries the same stamps.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The encoded `MetricList`.
    pub body: Bytes,
    /// How many metrics it has.
    pub metrics: u32,
    /// When its flush was handed over.
    pub since: Instant,
    /// Whose its metrics are.
    pub owners: Owners,
    /// Whether some of it may have been taken: then it is only sent to receivers that recognise repeats.
    pub uncertain: bool,
    /// Attempts that failed since the last one that got some of it acknowledged.
    pub failures: u32,
    /// The place of the destination that was tried last.
    pub tried: Option<usize>,
    /// Where the last attempt was aimed at.
    pub aim: Option<Aim>,
    /// Whether the attempt under way has come so far that it may be taken.
    pub sent: Arc<AtomicBool>,
    /// Of whoever brought it and can bring it again. What a flush made has none.
    pub receipt: Receipt,
}

impl Batch {
    /// A batch that was never tried.
    pub(super) fn of(body: Bytes, metrics: u32, since: Instant) -> Self {
        Self {
            body,
            metrics,
            since,
            owners: Owners::Emitting(None),
            uncertain: false,
            failures: 0,
            tried: None,
            aim: None,
            sent: Arc::default(),
            receipt: Receipt::default(),
        }
    }

    /// Aims the attempt that begins `now`, in milliseconds since the Unix epoch.
    ///
    /// What may have been taken goes where it went before, as of the same interval: only there can it be recognised, or refused for good.
    pub(super) fn take_aim(&mut self, now: u64) {
        self.aim = Some(match self.aim {
            Some(aim) if self.uncertain => Aim {
                moment: aim.moment.or(Some(aim.at)),
                ..aim
            },
            _ => self.owners.aim(now, self.since.elapsed()),
        });
    }

    /// What is sent: each metric says which interval it belongs to, if it is handed over.
    pub(super) fn message(&self) -> Bytes {
        let Some(Aim { interval: 1.., .. }) = self.aim else {
            return self.body.clone();
        };
        let said = Metric {
            interval: self.aim.map_or(0, |aim| aim.interval),
            ..Metric::default()
        }
        .encode_to_vec();
        let more = self.metrics as usize * (said.len() + 1);
        let mut message = Vec::with_capacity(self.body.len() + more);
        let mut labelled = Vec::new();
        // A packer has framed it.
        for metric in scan::entries(&self.body).into_iter().flatten() {
            labelled.clear();
            labelled.extend_from_slice(metric);
            // Messages one after the other are merged.
            labelled.extend_from_slice(&said);
            scan::frame_into(&mut message, &labelled);
        }
        message.into()
    }

    /// The metrics at the positions that are left; `None` if that is none.
    pub(super) fn cut(&self, left: &Unacknowledged) -> Option<Self> {
        if left.positions() >= self.metrics {
            return Some(self.clone());
        }
        // What a packer has framed is framed right; if it were not, all of it would be left.
        let Ok(metrics) = scan::entries(&self.body) else {
            return Some(self.clone());
        };
        let mut ranges = left.ranges().peekable();
        let mut body = Vec::new();
        let mut kept = 0;
        for (position, metric) in (0_u32..).zip(metrics) {
            while ranges.next_if(|range| range.end <= position).is_some() {}
            match ranges.peek() {
                Some(range) if range.contains(&position) => {
                    scan::frame_into(&mut body, metric);
                    kept += 1;
                }
                Some(_) => {}
                None => break,
            }
        }
        (kept > 0).then(|| Self {
            // Of exactly its length: what is cut off must not stay in memory.
            body: Bytes::from(body.into_boxed_slice()),
            metrics: kept,
            ..self.clone()
        })
    }
}

/// Fills batches with the metrics of one flush.
///
/// Each metric gets its stamp: whoever receives it twice can tell.
#[derive(Debug)]
pub(super) struct Packer {
    limits: BatchLimits,
    origin: u64,
    flush: u64,
    since: Instant,
    owners: Owners,
    next_index: u32,
    open: BytesMut,
    metrics: u32,
}

/// A metric that no receiver would take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// Its encoded length.
    pub bytes: usize,
}

impl Packer {
    /// For the flush with this number, handed over at `since`, whose metrics are those of `owners`.
    pub(super) fn new(
        limits: BatchLimits,
        origin: u64,
        flush: u64,
        since: Instant,
        owners: Owners,
    ) -> Self {
        Self {
            limits,
            origin,
            flush,
            since,
            owners,
            next_index: 0,
            open: BytesMut::new(),
            metrics: 0,
        }
    }

    /// Adds the flush's next metric, and gives the batch that had to be closed for it.
    pub(super) fn add(&mut self, mut metric: Metric) -> Result<Option<Batch>, TooLarge> {
        metric.origin = self.origin;
        metric.flush = self.flush;
        metric.index = self.next_index;
        self.next_index = self.next_index.wrapping_add(1);
        let bytes = metric.encoded_len();
        let framed = 1 + encoded_len_varint(bytes as u64) + bytes + LABEL;
        if framed > MAX_MESSAGE {
            return Err(TooLarge { bytes });
        }
        let full = self.metrics >= self.limits.metrics
            || self.open.len().saturating_add(framed) > self.limits.bytes;
        let closed = if full { self.close() } else { None };
        self.open.reserve(framed);
        self.open.put_u8(METRICS_KEY);
        // The room is there: writing to `BytesMut` cannot fail.
        let _ = metric.encode_length_delimited(&mut self.open);
        self.metrics += 1;
        Ok(closed)
    }

    /// Closes the open batch, unless it is empty.
    pub(super) fn close(&mut self) -> Option<Batch> {
        let metrics = std::mem::take(&mut self.metrics);
        (metrics > 0).then(|| Batch {
            owners: self.owners,
            ..Batch::of(self.open.split().freeze(), metrics, self.since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_proto::forwardrpc::MetricList;
    use tributary_proto::metricpb::{SetValue, metric};

    fn packer(metrics: u32, bytes: usize) -> Packer {
        Packer::new(
            BatchLimits { metrics, bytes },
            7,
            3,
            Instant::now(),
            Owners::At(1_000),
        )
    }

    fn named(name: &str) -> Metric {
        Metric {
            name: name.into(),
            ..Metric::default()
        }
    }

    fn set_of(bytes: usize) -> Metric {
        Metric {
            value: Some(metric::Value::Set(SetValue {
                hyper_log_log: vec![0; bytes].into(),
            })),
            ..named("set")
        }
    }

    #[test]
    fn what_is_merged_after_the_middle_of_an_interval_belongs_to_the_owners_to_come() {
        let interval = Duration::from_secs(10);
        let aim = |owners: Owners, now| {
            let aim = owners.aim(now, Duration::ZERO);
            (aim.moment, aim.interval)
        };
        let emitting = Owners::Emitting(Some(interval));
        assert_eq!(aim(emitting, 30_000), (None, 30_000));
        assert_eq!(aim(emitting, 34_999), (None, 30_000));
        assert_eq!(aim(emitting, 35_000), (Some(40_000), 40_000));
        assert_eq!(aim(emitting, 39_999), (Some(40_000), 40_000));
        let any = scan::ANY_INTERVAL;
        assert_eq!(aim(Owners::Emitting(None), 39_999), (None, any));
        assert_eq!(aim(Owners::At(7), 39_999), (Some(7), 0));
        // Nobody wanted it in all of an interval.
        let late = emitting.aim(39_999, interval);
        assert_eq!((late.moment, late.interval), (Some(40_000), any));
    }

    #[tokio::test]
    async fn what_is_handed_over_says_so_and_in_doubt_goes_where_it_went() {
        let mut packer = packer(1000, 1 << 20);
        for name in ["a", "b"] {
            assert!(packer.add(named(name)).unwrap().is_none());
        }
        let mut batch = packer.close().unwrap();
        let intervals = |batch: &Batch| -> Vec<u64> {
            let list = MetricList::decode(batch.message()).unwrap();
            list.metrics.iter().map(|metric| metric.interval).collect()
        };
        batch.take_aim(31_000);
        assert_eq!(batch.message(), batch.body);
        batch.owners = Owners::Emitting(Some(Duration::from_secs(10)));
        batch.take_aim(31_000);
        assert_eq!(intervals(&batch), [30_000, 30_000]);
        let mut doubtful = Batch {
            uncertain: true,
            ..batch.clone()
        };
        doubtful.take_aim(36_000);
        assert_eq!(intervals(&doubtful), [30_000, 30_000]);
        assert_eq!(doubtful.aim.unwrap().moment, Some(31_000));
        batch.take_aim(36_000);
        assert_eq!(intervals(&batch), [40_000, 40_000]);
    }

    #[test]
    fn a_batch_closes_at_its_number_of_metrics_and_stamps_go_on() {
        let mut packer = packer(2, 1 << 20);
        let mut batches: Vec<Batch> = ["a", "b", "c"]
            .into_iter()
            .filter_map(|name| packer.add(named(name)).unwrap())
            .collect();
        batches.extend(packer.close());
        assert_eq!(packer.close().map(|batch| batch.metrics), None);
        let lists: Vec<_> = batches
            .iter()
            .map(|batch| MetricList::decode(batch.body.clone()).unwrap().metrics)
            .collect();
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let stamps: Vec<_> = lists
            .concat()
            .iter()
            .map(|metric| (metric.origin, metric.flush, metric.index))
            .collect();
        assert_eq!(stamps, [(7, 3, 0), (7, 3, 1), (7, 3, 2)]);
    }

    #[test]
    fn a_batch_stays_within_its_bytes_except_for_a_single_metric() {
        let mut packer = packer(1000, 1000);
        assert!(packer.add(set_of(600)).unwrap().is_none());
        let first = packer.add(set_of(5000)).unwrap().unwrap();
        let second = packer.add(set_of(10)).unwrap().unwrap();
        assert_eq!((first.metrics, second.metrics), (1, 1));
        assert!(first.body.len() < 1000 && second.body.len() > 5000);
    }

    #[test]
    fn a_metric_over_the_limit_of_receivers_is_refused_and_the_open_batch_goes_on() {
        let mut packer = packer(1000, 1 << 20);
        assert!(packer.add(named("before")).unwrap().is_none());
        let TooLarge { bytes } = packer.add(set_of(MAX_MESSAGE)).unwrap_err();
        assert!(bytes > MAX_MESSAGE);
        assert!(packer.add(named("after")).unwrap().is_none());
        assert_eq!(packer.close().unwrap().metrics, 2);
    }

    #[test]
    fn a_cut_batch_has_what_is_left_with_the_same_stamps() {
        let mut packer = packer(1000, 1 << 20);
        for number in 0..10 {
            assert!(packer.add(named(&format!("m{number}"))).unwrap().is_none());
        }
        let batch = packer.close().unwrap();
        let left: Unacknowledged = [0, 3, 4, 9].into_iter().collect();
        let rest = batch.cut(&left).unwrap();
        assert_eq!((rest.metrics, rest.owners), (4, Owners::At(1_000)));
        let indices: Vec<_> = MetricList::decode(rest.body.clone())
            .unwrap()
            .metrics
            .iter()
            .map(|metric| metric.index)
            .collect();
        assert_eq!(indices, [0, 3, 4, 9]);
        // What is left is counted from the beginning of the rest from now on.
        let last: Unacknowledged = [3].into_iter().collect();
        let last = rest.cut(&last).unwrap();
        let metrics = MetricList::decode(last.body).unwrap().metrics;
        assert_eq!((metrics.len(), metrics[0].index), (1, 9));
        assert!(batch.cut(&Unacknowledged::default()).is_none());
        assert_eq!(
            batch.cut(&Unacknowledged::all(10)).unwrap().body,
            batch.body
        );
    }
}
