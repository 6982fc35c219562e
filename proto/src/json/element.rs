//! One element of a body, and what it is as a `metricpb.Metric`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::gob::{self, GobError};
use crate::metricpb::metric::Value;
use crate::metricpb::{CounterValue, GaugeValue, HistogramValue, Metric, Scope, SetValue, Type};

/// One forwarded metric as legacy JSON has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JsonMetric {
    /// The metric's name.
    pub name: String,
    /// The type's lower-case name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The tags, joined by commas.
    pub tagstring: String,
    /// The tags.
    pub tags: Vec<String>,
    /// The value, encoded as its type wants; base64 in JSON.
    #[serde(serialize_with = "base64")]
    pub value: Vec<u8>,
}

fn base64<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(value))
}

/// Why an element makes no metric, or a metric no element.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ElementError {
    /// A field holds another kind of JSON value than it should.
    #[error("{field} is not {expected}")]
    Shape {
        /// The field, or "element" for the element itself.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// The value is not standard base64. The text is that of Veneur's answer.
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    /// There is no name.
    #[error("metric has no name")]
    Name,
    /// The type is none of the protocol's.
    #[error("metric {name:?} has unknown type {kind:?}")]
    Type {
        /// The metric's name.
        name: String,
        /// What stands for its type.
        kind: String,
    },
    /// A counter or a gauge whose value is not 8 bytes long.
    #[error("metric {name:?} has a value of {length} bytes instead of 8")]
    Length {
        /// The metric's name.
        name: String,
        /// The value's length.
        length: usize,
    },
    /// A histogram or timer whose value is no digest.
    #[error("metric {name:?} has a digest that cannot be read: {error}")]
    Digest {
        /// The metric's name.
        name: String,
        /// What is wrong with it.
        error: GobError,
    },
    /// The value is missing, or of another kind than the type says.
    #[error("metric {name:?} has no value of its type")]
    Value {
        /// The metric's name.
        name: String,
    },
}

impl ElementError {
    /// The cause to count it by.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Shape { .. } => "json",
            Self::Base64(_) => "base64",
            Self::Name => "name",
            Self::Type { .. } => "type",
            Self::Length { .. } => "length",
            Self::Digest { .. } => "gob",
            Self::Value { .. } => "value",
        }
    }

    /// Whether Veneur finds it while it reads the body, and thus refuses the request.
    pub(super) const fn is_malformed(&self) -> bool {
        matches!(self, Self::Shape { .. } | Self::Base64(_))
    }
}

impl JsonMetric {
    /// Whether all fields are empty, which is the sign of a body that is something else.
    pub fn is_empty(&self) -> bool {
        let Self {
            name,
            kind,
            tagstring,
            tags,
            value,
        } = self;
        name.is_empty()
            && kind.is_empty()
            && tagstring.is_empty()
            && tags.is_empty()
            && value.is_empty()
    }

    /// The metric: counters and gauges have scope Global, the others Mixed, since only such ones are forwarded.
    ///
    /// The tags are those of `tags`, or of `tagstring` if there are none in `tags`.
    ///
    /// # Errors
    /// See [`ElementError`]. A set's bytes and a digest's numbers are the importing global's to judge.
    pub fn into_metric(self) -> Result<Metric, ElementError> {
        let name = self.name;
        if name.is_empty() {
            return Err(ElementError::Name);
        }
        let kind = self.kind;
        let Some(kind) = Type::from_lower_name(&kind) else {
            return Err(ElementError::Type {
                name: excerpt(&name),
                kind: excerpt(&kind),
            });
        };
        let (scope, value) = match kind {
            Type::Counter => {
                let value = i64::from_le_bytes(eight_bytes(&name, &self.value)?);
                (Scope::Global, Value::Counter(CounterValue { value }))
            }
            Type::Gauge => {
                let value = f64::from_le_bytes(eight_bytes(&name, &self.value)?);
                (Scope::Global, Value::Gauge(GaugeValue { value }))
            }
            Type::Set => {
                let hyper_log_log = self.value.into();
                (Scope::Mixed, Value::Set(SetValue { hyper_log_log }))
            }
            Type::Histogram | Type::Timer => match gob::decode(&self.value) {
                Ok(digest) => {
                    let t_digest = Some(digest);
                    (Scope::Mixed, Value::Histogram(HistogramValue { t_digest }))
                }
                Err(error) => {
                    let name = excerpt(&name);
                    return Err(ElementError::Digest { name, error });
                }
            },
        };
        let mut tags = self.tags;
        if tags.is_empty() && !self.tagstring.is_empty() {
            tags = self.tagstring.split(',').map(str::to_owned).collect();
        }
        Ok(Metric {
            name,
            tags,
            r#type: kind.into(),
            scope: scope.into(),
            value: Some(value),
            ..Metric::default()
        })
    }

    /// The element for a metric; scope and stamp have no place in it.
    ///
    /// # Errors
    /// [`ElementError::Type`] and [`ElementError::Value`] for a metric that no sender of ours makes.
    pub fn from_metric(metric: &Metric) -> Result<Self, ElementError> {
        let name = metric.name.clone();
        let Ok(kind) = Type::try_from(metric.r#type) else {
            let kind = metric.r#type.to_string();
            let name = excerpt(&name);
            return Err(ElementError::Type { name, kind });
        };
        let value = match (kind, &metric.value) {
            (Type::Counter, Some(Value::Counter(counter))) => counter.value.to_le_bytes().to_vec(),
            (Type::Gauge, Some(Value::Gauge(gauge))) => gauge.value.to_le_bytes().to_vec(),
            (Type::Set, Some(Value::Set(set))) => set.hyper_log_log.to_vec(),
            (
                Type::Histogram | Type::Timer,
                Some(Value::Histogram(HistogramValue {
                    t_digest: Some(digest),
                })),
            ) => gob::encode(digest),
            _ => {
                let name = excerpt(&name);
                return Err(ElementError::Value { name });
            }
        };
        Ok(Self {
            name,
            kind: kind.lower_name().to_owned(),
            tagstring: metric.tags.join(","),
            tags: metric.tags.clone(),
            value,
        })
    }
}

fn eight_bytes(name: &str, value: &[u8]) -> Result<[u8; 8], ElementError> {
    <[u8; 8]>::try_from(value).map_err(|_| ElementError::Length {
        name: excerpt(name),
        length: value.len(),
    })
}

/// As much of a peer's text as an error carries, since it ends up in a log.
fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(kind: &str, value: &[u8]) -> JsonMetric {
        JsonMetric {
            name: "n".to_owned(),
            kind: kind.to_owned(),
            tagstring: "a:1,b:2".to_owned(),
            tags: vec!["a:1".to_owned(), "b:2".to_owned()],
            value: value.to_vec(),
        }
    }

    #[test]
    fn scopes_are_those_of_what_is_forwarded() {
        let digest = gob::encode(&Default::default());
        for (kind, value, scope) in [
            ("counter", &[1; 8][..], Scope::Global),
            ("gauge", &[1; 8], Scope::Global),
            ("set", &[1, 14], Scope::Mixed),
            ("histogram", &digest, Scope::Mixed),
            ("timer", &digest, Scope::Mixed),
        ] {
            let element = element(kind, value);
            let metric = element.clone().into_metric().expect("a metric");
            assert_eq!(metric.scope(), scope, "{kind}");
            assert_eq!(metric.r#type().lower_name(), kind);
            assert_eq!(JsonMetric::from_metric(&metric), Ok(element));
        }
    }

    #[test]
    fn the_tagstring_stands_in_for_missing_tags() {
        let mut element = element("set", &[]);
        element.tags.clear();
        let tags = element.into_metric().expect("a metric").tags;
        assert_eq!(tags, ["a:1", "b:2"]);
    }

    #[test]
    fn each_kind_of_bad_element_has_its_cause() {
        let cause = |element: JsonMetric| element.into_metric().expect_err("no metric").cause();
        assert_eq!(cause(JsonMetric::default()), "name");
        assert_eq!(cause(element("Counter", &[0; 8])), "type");
        assert_eq!(cause(element("status", &[0; 8])), "type");
        assert_eq!(cause(element("counter", &[0; 7])), "length");
        assert_eq!(cause(element("gauge", &[0; 9])), "length");
        assert_eq!(cause(element("timer", b"\x0d\xff")), "gob");
    }

    #[test]
    fn a_metric_without_a_value_of_its_type_makes_no_element() {
        let mut metric = element("set", &[]).into_metric().expect("a metric");
        for kind in [Type::Counter, Type::Gauge, Type::Histogram, Type::Timer] {
            metric.set_type(kind);
            let error = JsonMetric::from_metric(&metric).expect_err("no element");
            assert_eq!(error.cause(), "value");
        }
        metric.set_type(Type::Timer);
        metric.value = Some(Value::Histogram(HistogramValue { t_digest: None }));
        let error = JsonMetric::from_metric(&metric).expect_err("no element");
        assert_eq!(error.to_string(), "metric \"n\" has no value of its type");
        metric.r#type = 9;
        let error = JsonMetric::from_metric(&metric).expect_err("no element");
        assert_eq!(error.to_string(), "metric \"n\" has unknown type \"9\"");
    }
}
