//! Veneur's sinks: the entries of `metric_sinks`, and the keys of its releases before they were entries.

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::report::Verdict;

/// A kind of ours for one of Veneur's, with what becomes of its settings.
struct Kind {
    theirs: &'static str,
    ours: &'static str,
    /// Their key, and ours; the same twice where it is called the same.
    keys: &'static [(&'static str, &'static str)],
    /// Their keys that are of no use here, with the reason.
    without: &'static [(&'static str, &'static str)],
}

const BOUNDED: &str = "requests are bounded by bytes and points";
const LIBRARY: &str = "the client gathers by itself";

const KINDS: &[Kind] = &[
    Kind {
        theirs: "cortex",
        ours: "remote_write",
        keys: &[
            ("url", "url"),
            ("remote_timeout", "remote_timeout"),
            ("proxy_url", "proxy_url"),
            ("batch_write_size", "batch_write_size"),
            ("headers", "headers"),
            ("basic_auth", "basic_auth"),
            ("authorization", "authorization"),
            (
                "convert_counters_to_monotonic",
                "convert_counters_to_monotonic",
            ),
        ],
        without: &[],
    },
    Kind {
        theirs: "datadog",
        ours: "datadog",
        keys: &[
            ("api_key", "api_key"),
            ("datadog_api_key", "api_key"),
            ("api_hostname", "api_hostname"),
            ("datadog_api_hostname", "api_hostname"),
            ("metric_name_prefix_drops", "metric_name_prefix_drops"),
            (
                "datadog_metric_name_prefix_drops",
                "metric_name_prefix_drops",
            ),
            (
                "exclude_tags_prefix_by_prefix_metric",
                "exclude_tags_prefix_by_prefix_metric",
            ),
            (
                "datadog_exclude_tags_prefix_by_prefix_metric",
                "exclude_tags_prefix_by_prefix_metric",
            ),
            ("flush_max_per_body", "flush_max_per_body"),
            ("datadog_flush_max_per_body", "flush_max_per_body"),
        ],
        without: &[],
    },
    Kind {
        theirs: "debug",
        ours: "debug",
        keys: &[],
        without: &[],
    },
    Kind {
        theirs: "kafka",
        ours: "kafka",
        keys: &[
            ("broker", "brokers"),
            ("kafka_broker", "brokers"),
            ("metric_topic", "topic"),
            ("kafka_metric_topic", "topic"),
        ],
        without: &[
            (
                "metric_require_acks",
                "all replicas in sync have to have it",
            ),
            (
                "kafka_metric_require_acks",
                "all replicas in sync have to have it",
            ),
            ("check_topic", "service checks go to the same topic"),
            ("kafka_check_topic", "service checks go to the same topic"),
            ("event_topic", "events are not sent to Kafka"),
            ("kafka_event_topic", "events are not sent to Kafka"),
            (
                "partitioner",
                "points are partitioned by their series' hash",
            ),
            (
                "kafka_partitioner",
                "points are partitioned by their series' hash",
            ),
            ("retry_max", "what is not taken stays queued"),
            ("kafka_retry_max", "what is not taken stays queued"),
            ("metric_buffer_bytes", LIBRARY),
            ("kafka_metric_buffer_bytes", LIBRARY),
            ("metric_buffer_messages", LIBRARY),
            ("kafka_metric_buffer_messages", LIBRARY),
            ("metric_buffer_frequency", LIBRARY),
            ("kafka_metric_buffer_frequency", LIBRARY),
        ],
    },
    Kind {
        theirs: "localfile",
        ours: "localfile",
        keys: &[("flush_file", "path")],
        without: &[(
            "delimiter",
            "TSV is separated by tabs, and the default is JSON lines",
        )],
    },
    Kind {
        theirs: "prometheus",
        ours: "statsd",
        keys: &[
            ("repeater_address", "address"),
            ("prometheus_repeater_address", "address"),
        ],
        without: &[],
    },
    Kind {
        theirs: "s3",
        ours: "s3",
        keys: &[
            ("access_key_id", "access_key_id"),
            ("aws_access_key_id", "access_key_id"),
            ("secret_access_key", "secret_access_key"),
            ("aws_secret_access_key", "secret_access_key"),
            ("s3_bucket", "bucket"),
            ("aws_s3_bucket", "bucket"),
            ("region", "region"),
            ("aws_region", "region"),
        ],
        without: &[],
    },
];

/// The entries of `metric_sinks`.
pub(super) fn metric_sinks(draft: &mut Draft, value: &Value, routing: bool) {
    const LIMITS: [&str; 5] = [
        "max_name_length",
        "max_tag_length",
        "max_tags",
        "strip_tags",
        "add_tags",
    ];
    for (index, sink) in value.as_array().into_iter().flatten().enumerate() {
        let key = format!("metric_sinks[{index}]");
        let text = |name: &str| sink.get(name).and_then(Value::as_str);
        let theirs = text("kind").unwrap_or_default();
        let Some(kind) = KINDS.iter().find(|kind| kind.theirs == theirs) else {
            draft.refused(&key, sink, why_no_sink(theirs));
            continue;
        };
        let settings = sink.get("config").and_then(Value::as_object).cloned();
        let mut entry = convert(draft, kind, &format!("{key}.config"), settings);
        // Rules name sinks, so the old name stays.
        let name = text("name").filter(|name| !name.is_empty());
        entry.insert("name".to_owned(), json!(name.unwrap_or(theirs)));
        for limit in LIMITS {
            let Some(value) = sink.get(limit).filter(|value| !is_empty(value)) else {
                continue;
            };
            let here = format!("{key}.{limit}");
            if routing {
                draft.report.add(&here, value, Verdict::Taken, "");
                entry.insert(limit.to_owned(), value.clone());
            } else {
                draft.refused(
                    &here,
                    value,
                    "features.enable_metric_sink_routing is off, so it did nothing",
                );
            }
        }
        if kind.ours == kind.theirs {
            draft
                .report
                .add(&format!("{key}.kind"), &json!(theirs), Verdict::Taken, "");
        } else {
            draft.turned(
                &format!("{key}.kind"),
                &json!(theirs),
                &format!("now {}", kind.ours),
            );
        }
        draft.push("metric_sinks", Value::Object(entry));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        Value::Bool(true) => false,
    }
}

fn why_no_sink(kind: &str) -> &'static str {
    match kind {
        "signalfx" => "there is no such sink: Splunk takes OTLP, see the sink otlp",
        "newrelic" => "there is no such sink: New Relic takes OTLP, see the sink otlp",
        "cloudwatch" => {
            "there is no such sink: CloudWatch's agent takes OTLP and statsd, see the sinks otlp and statsd"
        }
        "blackhole" => "leave the sink out",
        _ => "there is no such sink",
    }
}

/// An entry of ours with the settings that have a counterpart; each of theirs gets its word.
fn convert(
    draft: &mut Draft,
    kind: &Kind,
    key: &str,
    settings: Option<Map<String, Value>>,
) -> Map<String, Value> {
    let mut config = Map::new();
    let mut settings = settings.unwrap_or_default();
    if kind.theirs == "prometheus" {
        repeater(draft, key, &mut settings, &mut config);
    }
    for (name, value) in settings {
        let here = match key {
            "" => name.clone(),
            key => format!("{key}.{name}"),
        };
        if let Some((_, to)) = kind.keys.iter().find(|(theirs, _)| *theirs == name) {
            let (new, why) = translated(kind, to, &value);
            match (*to == name, why) {
                (true, "") => draft.report.add(&here, &value, Verdict::Taken, ""),
                (_, why) => draft.turned(
                    &here,
                    &value,
                    format!("now {to} of the sink {}. {why}", kind.ours)
                        .trim_end_matches([' ', '.']),
                ),
            }
            config.insert((*to).to_owned(), new);
        } else if let Some((_, why)) = kind.without.iter().find(|(theirs, _)| *theirs == name) {
            draft.refused(&here, &value, why);
        } else if name.contains("span") || name.contains("trace") {
            draft.refused(&here, &value, "there are no trace spans here");
        } else {
            draft.refused(&here, &value, BOUNDED);
        }
    }
    for (name, value) in kept(kind.theirs) {
        config.entry(name.to_owned()).or_insert(value);
    }
    let mut entry = Map::from_iter([("kind".to_owned(), json!(kind.ours))]);
    if !config.is_empty() {
        entry.insert("config".to_owned(), Value::Object(config));
    }
    entry
}

/// What makes a sink of ours write as theirs does, where the defaults differ.
fn kept(theirs: &str) -> Vec<(&'static str, Value)> {
    match theirs {
        "cortex" => vec![
            ("naming", json!("veneur")),
            ("convert_counters_to_monotonic", json!(false)),
        ],
        // What it repeats to is Prometheus' exporter, which takes neither.
        "prometheus" => vec![("checks", json!("gauge")), ("events", json!(false))],
        _ => Vec::new(),
    }
}

/// A value in the form that our key has.
fn translated(kind: &Kind, to: &str, value: &Value) -> (Value, &'static str) {
    match (kind.ours, to, value) {
        ("kafka", "brokers", Value::String(text)) => (
            text.split(',').map(|broker| json!(broker.trim())).collect(),
            "",
        ),
        ("localfile", "path", _) => (
            value.clone(),
            "It is written as JSON lines, and not compressed",
        ),
        _ => (value.clone(), ""),
    }
}

/// Veneur's repeater has an address and a network; ours one URL.
fn repeater(
    draft: &mut Draft,
    key: &str,
    settings: &mut Map<String, Value>,
    config: &mut Map<String, Value>,
) {
    let mut take = |name: &str| {
        [name.to_owned(), format!("prometheus_{name}")]
            .into_iter()
            .find_map(|name| settings.remove(&name).map(|value| (name, value)))
    };
    let address = take("repeater_address");
    let network = take("network_type");
    let scheme = network
        .as_ref()
        .and_then(|(_, value)| value.as_str())
        .unwrap_or("udp")
        .to_owned();
    let here = |name: &str| match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    };
    if let Some((name, value)) = address {
        let url = format!("{scheme}://{}", value.as_str().unwrap_or_default());
        draft.turned(&here(&name), &value, "now address of the sink statsd");
        config.insert("address".to_owned(), json!(url));
    }
    if let Some((name, value)) = network {
        draft.turned(
            &here(&name),
            &value,
            "now the scheme of address of the sink statsd",
        );
    }
}

/// The sinks of Veneur's releases up to 14, which had keys of their own at the top.
pub(super) struct FlatSinks {
    found: Vec<(&'static Kind, Map<String, Value>)>,
    debug: Option<Value>,
}

impl FlatSinks {
    /// Takes their keys out of the file.
    pub(super) fn take(old: &mut Map<String, Value>) -> Self {
        let mut found = Vec::new();
        for kind in KINDS {
            let prefix = match kind.theirs {
                "s3" => "aws_",
                "localfile" => "flush_file",
                "cortex" | "debug" => continue,
                theirs => theirs,
            };
            let names: Vec<String> = old
                .keys()
                .filter(|key| key.starts_with(prefix))
                .cloned()
                .collect();
            let settings: Map<String, Value> = names
                .into_iter()
                .filter_map(|name| old.remove(&name).map(|value| (name, value)))
                .collect();
            if !settings.is_empty() {
                found.push((kind, settings));
            }
        }
        Self {
            found,
            debug: old.remove("debug_flushed_metrics"),
        }
    }

    /// Writes those that are in use: a release took a sink as on when its address, key or file was given.
    pub(super) fn write(self, draft: &mut Draft) {
        for (kind, settings) in self.found {
            let given = |names: &[&str]| {
                names
                    .iter()
                    .all(|name| settings.get(*name).is_some_and(|value| !is_empty(value)))
            };
            let on = match kind.theirs {
                "datadog" => given(&["datadog_api_key", "datadog_api_hostname"]),
                "kafka" => given(&["kafka_broker", "kafka_metric_topic"]),
                "localfile" => given(&["flush_file"]),
                "prometheus" => given(&["prometheus_repeater_address"]),
                "s3" => given(&["aws_s3_bucket"]),
                _ => false,
            };
            if !on {
                for (name, value) in &settings {
                    draft.refused(
                        name,
                        value,
                        "the sink is off: what it needs is not all given",
                    );
                }
                continue;
            }
            let set = settings.into_iter().filter(|(_, value)| !is_empty(value));
            let mut entry = convert(draft, kind, "", Some(set.collect()));
            entry.insert("name".to_owned(), json!(kind.theirs));
            draft.push("metric_sinks", Value::Object(entry));
        }
        if let Some(value) = self.debug {
            if value == json!(true) {
                draft.turned("debug_flushed_metrics", &value, "now a sink debug");
                draft.push("metric_sinks", json!({"kind": "debug"}));
            } else {
                draft.refused("debug_flushed_metrics", &value, "the sink is off");
            }
        }
    }
}
