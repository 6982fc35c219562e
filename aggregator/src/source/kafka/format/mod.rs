//! From a message's bytes to points, or to what is forwarded.

mod carbon;
mod dropsonde;
mod json;
mod metric_list;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::enrich::cloudfoundry::Enricher;
use crate::point::Point;
use crate::source::Forwarded;

/// What the messages of a topic are. A further one is a name here, an arm in [`Name::reader`], and a [`Format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub(super) enum Name {
    /// Carbon's text lines, `path value timestamp`, one or several to a message. They become gauges with their own timestamps.
    #[serde(rename = "carbon")]
    Carbon,
    /// Events of Cloud Foundry: dropsonde's envelopes as JSON, one to a message. Requests, logs and the use of resources become points with the names of
    /// application, space and organization; needs `cloudfoundry`.
    #[serde(rename = "dropsonde")]
    Dropsonde,
    /// Finished points as JSON lines: what the sink `kafka` writes.
    #[serde(rename = "tributary-json")]
    TributaryJson,
    /// What agents have forwarded: what `forward_kafka` writes, a `forwardrpc.MetricList` of Veneur's protocol to a message. It goes on to the proxies that
    /// `forward_address` names, or that are discovered, as it is, and counts as done once its globals have merged it.
    #[serde(rename = "metric-list")]
    MetricList,
}

impl Name {
    /// What reads it. The enricher is there if any topic is `dropsonde`.
    pub(super) fn reader(
        self,
        enricher: Option<&Arc<Enricher>>,
    ) -> Result<Arc<dyn Format>, String> {
        Ok(match self {
            Self::Carbon => Arc::new(carbon::Carbon),
            Self::Dropsonde => {
                let enricher = enricher.ok_or("cloudfoundry: is needed by `dropsonde`")?;
                Arc::new(dropsonde::Dropsonde(Arc::clone(enricher)))
            }
            Self::TributaryJson => Arc::new(json::TributaryJson),
            Self::MetricList => Arc::new(metric_list::MetricList),
        })
    }
}

/// A message as it was fetched.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970, if it has a time.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    /// Empty for a message without one.
    pub(super) payload: Bytes,
}

/// What a message turned out to be. Nothing of all that: there is nothing in it to store, and it counts as done.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// In the order in which sinks are to write them, with finite values.
    pub(super) points: Vec<Point>,
    /// What others have forwarded, to be forwarded as it is.
    pub(super) forwarded: Option<Forwarded>,
    /// What could not be read.
    pub(super) poison: Vec<Poison>,
}

/// What the messages of a batch turned out to be.
pub(super) struct Readings {
    /// One for each message, in order.
    pub(super) each: Vec<Reading>,
    /// What somebody has to be asked for first. The batch is not done with before that, and others go on meanwhile.
    pub(super) later: Option<BoxFuture<'static, Later>>,
    /// How many messages wait for that.
    pub(super) waiting: usize,
}

/// What was waited for.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) points: Vec<Point>,
    /// Of how many messages they are.
    pub(super) messages: u64,
    /// The program ends before all is known: the batch has to be read again.
    pub(super) again: bool,
}

impl From<Vec<Reading>> for Readings {
    fn from(each: Vec<Reading>) -> Self {
        Self {
            each,
            later: None,
            waiting: 0,
        }
    }
}

/// Bytes that nobody can read, however often they are.
#[derive(Debug)]
pub(super) struct Poison {
    /// A short word for counters.
    pub(super) cause: &'static str,
    /// For people.
    pub(super) detail: String,
    /// The bad part of the payload, where it is not the whole.
    pub(super) part: Option<Range<usize>>,
}

/// Reads messages of one sort. It must not wait: no further batch is read meanwhile.
#[async_trait]
pub(super) trait Format: Send + Sync {
    /// What they are.
    async fn read(&self, messages: &[Message]) -> Readings;
}

/// Reads each line of a payload; a bad one costs only itself. What is empty, or white space, is no line. The error is a cause and a detail.
fn read_lines<E: fmt::Display>(
    payload: &[u8],
    mut read: impl FnMut(&[u8]) -> Result<Option<Point>, (&'static str, E)>,
) -> Reading {
    let mut reading = Reading::default();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', payload).chain([payload.len()]);
    for end in ends {
        let line = payload.get(start..end).unwrap_or_default();
        match read(line) {
            Ok(point) => reading.points.extend(point),
            Err((cause, detail)) => reading.poison.push(Poison {
                cause,
                detail: detail.to_string(),
                part: (line.len() < payload.len()).then_some(start..end),
            }),
        }
        start = end + 1;
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(name: Name, payload: &[u8]) -> Reading {
        let message = Message {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            payload: Bytes::copy_from_slice(payload),
        };
        name.reader(None)
            .unwrap()
            .read(&[message])
            .await
            .each
            .remove(0)
    }

    #[tokio::test]
    async fn a_bad_line_costs_only_itself() {
        let json = br#"{"v":1,"name":"a","kind":"gauge","value":1,"time":5}"#;
        let lines = [&json[..], b"{}", b"", json].join(&b'\n');
        let reading = read(Name::TributaryJson, &lines).await;
        assert_eq!(reading.points.len(), 2);
        assert_eq!(reading.poison.len(), 1);
        let part = reading.poison[0].part.clone().unwrap();
        assert_eq!(&lines[part], b"{}");

        let reading = read(
            Name::Carbon,
            b"a.b 1 1700000000\nnonsense\nc;t=x 2.5 1700000001\n",
        )
        .await;
        let points: Vec<_> = reading.points.iter().collect();
        assert_eq!(points.len(), 2);
        assert_eq!((&*points[1].base, points[1].value), ("c", 2.5));
        assert_eq!(points[1].tags.to_string(), "t:x");
        assert_eq!(points[0].timestamp.seconds(), 1_700_000_000);
        assert_eq!(reading.poison[0].cause, "fields");
    }

    #[tokio::test]
    async fn a_message_that_is_bad_as_a_whole_has_no_part() {
        for name in [Name::Carbon, Name::TributaryJson] {
            let reading = read(name, b"\xff\x00").await;
            assert!(reading.points.is_empty());
            assert_eq!(reading.poison.len(), 1);
            assert!(reading.poison[0].part.is_none());
            assert!(
                read(name, b"").await.poison.is_empty(),
                "there is nothing in it"
            );
        }
    }
}
