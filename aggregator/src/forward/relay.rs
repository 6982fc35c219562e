//! What others have forwarded, on its way through this process: from a source that brings it, and that hears what becomes of it.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;
use tributary_proto::scan;

use super::batch::{Batch, BatchLimits, LABEL, MAX_MESSAGE, Owners, TooLarge};
use super::{Forwarder, unix_milliseconds};
use crate::receipt::Receipt;
use crate::source::{Forwarded, Relay};

impl Relay for Forwarder {
    fn relay(&self, forwarded: Forwarded, receipt: Receipt) {
        let Forwarded {
            list,
            metrics,
            flushed_at,
        } = forwarded;
        if metrics == 0 {
            return;
        }
        let has_room = self.shared.has_room(list.len());
        if self.closed.load(Ordering::Relaxed) || !has_room {
            // Whoever brought it brings it again.
            receipt.lose(metrics as usize);
            return;
        }
        let books = &self.shared.books;
        books.hand_over(u64::from(metrics));
        let owners = Owners::At(unix_milliseconds(self.owned_at(flushed_at)));
        let since = Instant::now();
        for part in parts(&list, metrics, self.shared.limits()) {
            match part {
                Ok((body, metrics)) => self.shared.enqueue(Batch {
                    owners,
                    receipt: receipt.clone(),
                    ..Batch::of(body, metrics, since)
                }),
                Err(too_large) => {
                    self.shared.lose_metric(&too_large);
                    receipt.refuse(1);
                }
            }
        }
        books.encoded();
    }
}

impl Forwarder {
    /// The moment whose owners are meant: that of the flush, so that repeats go where the metrics went before. What has waited for longer than an agent would
    /// have kept it belongs to the owners of now: it was hardly sent before, and those of then may be others, whom nobody else sends these series to.
    fn owned_at(&self, flushed_at: Option<SystemTime>) -> SystemTime {
        let now = SystemTime::now();
        let kept = self.shared.retention().time;
        flushed_at
            .filter(|then| now.duration_since(*then).is_ok_and(|age| age <= kept))
            .unwrap_or(now)
    }
}

/// A list, or what it has to be cut into, each with its number of metrics; or a metric that nobody takes.
fn parts(list: &Bytes, metrics: u32, limits: BatchLimits) -> Vec<Result<(Bytes, u32), TooLarge>> {
    if metrics <= limits.metrics && list.len() <= limits.bytes {
        return vec![Ok((list.clone(), metrics))];
    }
    let mut parts = Vec::new();
    let (mut open, mut count) = (Vec::new(), 0);
    // The source has seen that it is framed right.
    for metric in scan::entries(list).into_iter().flatten() {
        if metric.len() + LABEL > MAX_MESSAGE {
            let bytes = metric.len();
            parts.push(Err(TooLarge { bytes }));
            continue;
        }
        if count > 0 && (count >= limits.metrics || open.len() + metric.len() > limits.bytes) {
            parts.push(Ok((std::mem::take(&mut open).into(), count)));
            count = 0;
        }
        scan::frame_into(&mut open, metric);
        count += 1;
    }
    if count > 0 {
        parts.push(Ok((open.into(), count)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tributary_proto::forwardrpc::MetricList;
    use tributary_proto::metricpb::{Metric, SetValue, metric};

    use super::*;

    fn list(metrics: Vec<Metric>) -> (Bytes, u32) {
        let count = metrics.len() as u32;
        (MetricList { metrics }.encode_to_vec().into(), count)
    }

    fn named(name: String) -> Metric {
        Metric {
            name,
            ..Metric::default()
        }
    }

    const LIMITS: BatchLimits = BatchLimits {
        metrics: 4,
        bytes: 1000,
    };

    #[test]
    fn what_is_small_enough_goes_as_it_is() {
        let (body, count) = list((0..4).map(|number| named(number.to_string())).collect());
        assert_eq!(parts(&body, count, LIMITS), [Ok((body, 4))]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_nothing_is_missing() {
        let mut metrics: Vec<_> = (0..9).map(|number| named(number.to_string())).collect();
        metrics.push(named("x".repeat(998)));
        metrics.push(Metric {
            value: Some(metric::Value::Set(SetValue {
                hyper_log_log: vec![0; MAX_MESSAGE].into(),
            })),
            ..named("huge".to_owned())
        });
        metrics.push(named("last".to_owned()));
        let (body, count) = list(metrics.clone());
        let (mut got, mut counts, mut refused) = (Vec::new(), Vec::new(), 0);
        for part in parts(&body, count, LIMITS) {
            match part {
                Ok((body, count)) => {
                    counts.push(count);
                    got.extend(MetricList::decode(body).unwrap().metrics);
                }
                Err(TooLarge { bytes }) => refused += usize::from(bytes > MAX_MESSAGE),
            }
        }
        assert_eq!((counts, refused), (vec![4, 4, 1, 1, 1], 1));
        metrics.remove(10);
        assert_eq!(got, metrics);
    }
}
