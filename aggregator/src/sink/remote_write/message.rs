//! The messages of both versions, and a request that is being filled.
//!
//! After <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/> and <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use std::collections::HashMap;

use prost::Message;

use crate::prometheus::naming::{Labels, Role};

/// Version 1.0: `prometheus.WriteRequest`.
mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        /// In milliseconds.
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }
}

/// Version 2.0: `io.prometheus.write.v2.Request`.
mod v2 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        /// The first is empty.
        #[prost(string, repeated, tag = "4")]
        pub(super) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        /// Places of names and values in the symbols, in turn.
        #[prost(uint32, repeated, tag = "1")]
        pub(super) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, optional, tag = "5")]
        pub(super) metadata: Option<Metadata>,
        /// The start of each sample, as drafts before 2.0-rc.4 have it: Prometheus before 3.8, and Mimir, read it here. In milliseconds; 0: not known.
        #[prost(int64, tag = "6")]
        pub(super) created_timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        /// In milliseconds.
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
        /// Where a total began, in milliseconds; 0: not known.
        #[prost(int64, tag = "3")]
        pub(super) start_timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) r#type: i32,
    }
}

/// What one series of a request says.
#[derive(Debug, Clone)]
pub(super) struct Said<'a> {
    /// In order, with `__name__`.
    pub(super) labels: Labels<'a>,
    pub(super) value: f64,
    /// In milliseconds.
    pub(super) at: i64,
    /// Of a total, in milliseconds; otherwise 0.
    pub(super) created: i64,
    pub(super) kind: MetricKind,
}

/// As 2.0 numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter = 1,
    Gauge = 2,
    Summary = 5,
}

impl MetricKind {
    /// Of a role; `monotonic` tells that totals are sent.
    pub(super) fn of(role: &Role, monotonic: bool) -> Self {
        match role {
            Role::Counter if monotonic => Self::Counter,
            Role::Sum | Role::Count if monotonic => Self::Summary,
            Role::Quantile(_) => Self::Summary,
            _ => Self::Gauge,
        }
    }
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// As in `X-Prometheus-Remote-Write-Version`.
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }

    /// A request, not yet packed.
    pub(super) fn encode<'a>(self, said: impl Iterator<Item = Said<'a>>) -> Vec<u8> {
        match self {
            Self::V1 => {
                let timeseries = said.map(|said| v1::TimeSeries {
                    labels: said
                        .labels
                        .iter()
                        .map(|(name, value)| v1::Label {
                            name: name.to_string(),
                            value: value.to_string(),
                        })
                        .collect(),
                    samples: vec![v1::Sample {
                        value: said.value,
                        timestamp: said.at,
                    }],
                });
                let timeseries = timeseries.collect();
                v1::WriteRequest { timeseries }.encode_to_vec()
            }
            Self::V2 => {
                let mut symbols = Symbols::default();
                let timeseries = said.map(|said| {
                    let labels = said.labels.iter();
                    let refs = labels.flat_map(|(name, value)| [&**name, &**value]);
                    v2::TimeSeries {
                        labels_refs: refs.map(|text| symbols.place(text)).collect(),
                        samples: vec![v2::Sample {
                            value: said.value,
                            timestamp: said.at,
                            start_timestamp: said.created,
                        }],
                        metadata: Some(v2::Metadata {
                            r#type: said.kind as i32,
                        }),
                        created_timestamp: said.created,
                    }
                });
                let timeseries = timeseries.collect();
                let symbols = symbols.list();
                v2::Request {
                    symbols,
                    timeseries,
                }
                .encode_to_vec()
            }
        }
    }
}

/// Texts of a request, each once.
struct Symbols(HashMap<String, u32>);

impl Default for Symbols {
    fn default() -> Self {
        Self(HashMap::from([(String::new(), 0)]))
    }
}

impl Symbols {
    fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.0.get(text) {
            return *place;
        }
        // A request has a few thousand samples; their texts can be counted.
        let place = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(text.to_owned(), place);
        place
    }

    fn list(self) -> Vec<String> {
        let mut list: Vec<_> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(_, place)| *place);
        list.into_iter().map(|(text, _)| text).collect()
    }
}

/// What a request of ours says, for tests: each series with its labels, value, time, start and kind.
#[cfg(test)]
pub(super) type Read = (String, f64, i64, i64, i32);

/// Reads a request back.
#[cfg(test)]
pub(super) fn read(version: Version, body: &[u8]) -> Vec<Read> {
    let body = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let text = |labels: &mut dyn Iterator<Item = (String, String)>| {
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        labels.join(",")
    };
    match version {
        Version::V1 => {
            let request = v1::WriteRequest::decode(&*body).unwrap();
            let series = request.timeseries.into_iter().map(|series| {
                let mut labels = series.labels.into_iter().map(|l| (l.name, l.value));
                let sample = &series.samples[0];
                (text(&mut labels), sample.value, sample.timestamp, 0, 0)
            });
            series.collect()
        }
        Version::V2 => {
            let request = v2::Request::decode(&*body).unwrap();
            assert_eq!(request.symbols[0], "");
            let series = request.timeseries.into_iter().map(|series| {
                let pairs = series.labels_refs.chunks(2);
                let mut labels = pairs.map(|pair| {
                    let text = |at: u32| request.symbols[at as usize].clone();
                    (text(pair[0]), text(pair[1]))
                });
                let sample = &series.samples[0];
                let kind = series.metadata.unwrap().r#type;
                let created = series.created_timestamp;
                assert_eq!(sample.start_timestamp, created, "in both places");
                (
                    text(&mut labels),
                    sample.value,
                    sample.timestamp,
                    created,
                    kind,
                )
            });
            series.collect()
        }
    }
}
