//! Batches that agents have forwarded.

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use tributary_proto::scan;

use super::{Format, Message, Poison, Reading, Readings};
use crate::source::Forwarded;

/// A `forwardrpc.MetricList` to a message. The metrics in it are not looked at: proxies skip, and count, those that cannot be routed.
pub(super) struct MetricList;

#[async_trait]
impl Format for MetricList {
    async fn read(&self, messages: &[Message]) -> Readings {
        let each: Vec<_> = messages.iter().map(read).collect();
        each.into()
    }
}

fn read(message: &Message) -> Reading {
    let mut reading = Reading::default();
    let poison = |cause, detail: String| Poison {
        cause,
        detail,
        part: None,
    };
    match scan::frames(&message.payload) {
        // To protobuf, much else is a list with fields that it does not know.
        Ok(metrics) if metrics.len() == 0 && !message.payload.is_empty() => {
            let detail = "there is no metric in it".to_owned();
            reading.poison.push(poison("no_metrics", detail));
        }
        Ok(metrics) => {
            let flushed_at = message.timestamp.and_then(|milliseconds| {
                let since = Duration::from_millis(u64::try_from(milliseconds).ok()?);
                UNIX_EPOCH.checked_add(since)
            });
            let metrics = u32::try_from(metrics.len()).unwrap_or(u32::MAX);
            reading.forwarded = (metrics > 0).then(|| Forwarded {
                list: message.payload.clone(),
                metrics,
                flushed_at,
            });
        }
        Err(error) => reading
            .poison
            .push(poison(error.cause(), error.to_string())),
    }
    reading
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use tributary_proto::forwardrpc;
    use tributary_proto::metricpb::Metric;

    use super::*;

    fn message(payload: impl Into<Bytes>, timestamp: Option<i64>) -> Message {
        Message {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp,
            key: None,
            payload: payload.into(),
        }
    }

    #[test]
    fn a_list_goes_on_as_it_is_with_the_time_of_its_flush() {
        let metrics = vec![Metric::default(), Metric::default()];
        let list = forwardrpc::MetricList { metrics }.encode_to_vec();
        let reading = read(&message(list.clone(), Some(1_700_000_000_123)));
        let forwarded = reading.forwarded.unwrap();
        assert_eq!((&*forwarded.list, forwarded.metrics), (&*list, 2));
        let since = forwarded.flushed_at.unwrap().duration_since(UNIX_EPOCH);
        assert_eq!(since.unwrap().as_millis(), 1_700_000_000_123);
        let reading = read(&message(list, Some(-1)));
        assert_eq!(reading.forwarded.unwrap().flushed_at, None);
    }

    #[test]
    fn what_is_no_list_is_poison_and_an_empty_one_is_nothing() {
        for bad in [&b"\xff\xff"[..], b"\x0a\x05abc", b"a.b 1 1700000000\n"] {
            let reading = read(&message(bad.to_vec(), None));
            assert!(reading.forwarded.is_none());
            assert_eq!(reading.poison.len(), 1, "{bad:?}");
        }
        let reading = read(&message(Vec::new(), None));
        assert!(reading.forwarded.is_none() && reading.poison.is_empty());
    }
}
