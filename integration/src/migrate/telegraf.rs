//! Telegraf with its statsd input: the TOML of release 1.3x. What is no part of a statsd pipeline is reported and left out.

use serde_json::{Map, Value, json};

use super::Ours;
use super::draft::Draft;
use super::report::Verdict;

const GATHERING: &str = "sinks gather and retry by themselves";

pub(super) fn migrate(old: Map<String, Value>) -> Draft {
    let mut draft = Draft::new(Ours::Aggregator);
    for (key, value) in old {
        match key.as_str() {
            "agent" => agent(&mut draft, &value),
            "global_tags" => {
                let tags = value.as_object().into_iter().flatten();
                let tags: Vec<String> = tags
                    .map(|(key, value)| format!("{key}:{}", value.as_str().unwrap_or_default()))
                    .collect();
                draft.changed("global_tags", &value, "extend_tags", json!(tags), "");
            }
            "inputs" => each(&mut draft, "inputs", &value, input),
            "outputs" => each(&mut draft, "outputs", &value, output),
            _ => draft.refused(
                &key,
                &value,
                "processors, aggregators and the like have no counterpart",
            ),
        }
    }
    if !draft.has("metric_sinks") {
        draft.set("metric_sinks", json!([]));
    }
    if !draft.has("percentiles") {
        draft.set("percentiles", json!([]));
    }
    draft.note(
        "telegraf sends a statsd metric's values as fields of one measurement (api_latency with 90_percentile, mean …); here they are points of one name, which the sink influxdb writes as the fields of one line again.",
    );
    draft
}

/// Calls `one` with each table of `[[inputs.kind]]` or `[[outputs.kind]]`.
fn each(
    draft: &mut Draft,
    group: &str,
    value: &Value,
    one: fn(&mut Draft, &str, &str, &Map<String, Value>),
) {
    for (kind, tables) in value.as_object().into_iter().flatten() {
        let tables: Vec<&Value> = match tables {
            Value::Array(tables) => tables.iter().collect(),
            table => vec![table],
        };
        for (index, table) in tables.iter().enumerate() {
            let key = format!("{group}.{kind}[{index}]");
            if let Value::Object(table) = table {
                one(draft, kind, &key, table);
            }
        }
    }
}

fn agent(draft: &mut Draft, value: &Value) {
    let old = value.as_object().cloned().unwrap_or_default();
    let flush = old.get("flush_interval").cloned();
    for (name, value) in old {
        let key = format!("agent.{name}");
        match name.as_str() {
            "interval" => draft.changed(&key, &value, "interval", value.clone(), ""),
            "flush_interval" => {
                let why = "points leave with each interval";
                draft.refused(&key, flush.as_ref().unwrap_or(&value), why);
            }
            "hostname" => draft.changed(&key, &value, "hostname", value.clone(), ""),
            "omit_hostname" if value == json!(true) => {
                draft.changed(
                    &key,
                    &value,
                    "omit_empty_hostname",
                    true,
                    "hostname is empty",
                );
                draft.set("hostname", "");
            }
            "omit_hostname" => draft.turned(&key, &value, "the host's name is the default"),
            "debug" => draft.changed(&key, &value, "debug", value.clone(), ""),
            "quiet" if value == json!(true) => {
                draft.changed(&key, &value, "log_level", "error", "");
            }
            "quiet" => draft.turned(&key, &value, "the default"),
            "logformat" | "logfile" | "logtarget" => draft.refused(
                &key,
                &value,
                "it logs to standard error; log_format: json for structured lines",
            ),
            "round_interval" => {
                draft.changed(&key, &value, "synchronize_with_interval", value.clone(), "");
            }
            _ => draft.refused(&key, &value, GATHERING),
        }
    }
}

fn input(draft: &mut Draft, kind: &str, key: &str, old: &Map<String, Value>) {
    if kind == "openmetrics" || kind == "prometheus" {
        return scrape(draft, key, old);
    }
    if kind != "statsd" {
        let what = Value::Object(old.clone());
        return draft.refused(key, &what, "only statsd and prometheus inputs have a counterpart: run telegraf beside it for the others, with an output to the source flux, carbon or otlp");
    }
    let text = |name: &str| old.get(name).and_then(Value::as_str);
    let protocol = text("protocol").unwrap_or("udp");
    let address = text("service_address").unwrap_or(":8125");
    let address = match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    };
    draft.push(
        "statsd_listen_addresses",
        json!(format!("{protocol}://{address}")),
    );
    for (name, value) in old {
        let key = format!("{key}.{name}");
        match name.as_str() {
            "protocol" | "service_address" => {
                draft.turned(&key, value, "now in statsd_listen_addresses");
            }
            "percentiles" => {
                let list = value.as_array().into_iter().flatten();
                let shares: Vec<f64> = list
                    .filter_map(Value::as_f64)
                    .map(|percent| percent / 100.0)
                    .collect();
                draft.changed(&key, value, "percentiles", json!(shares), "shares of 1");
            }
            "read_buffer_size" => {
                draft.changed(&key, value, "read_buffer_size_bytes", value.clone(), "")
            }
            "delete_gauges" | "delete_counters" | "delete_sets" | "delete_timings" | "max_ttl" => {
                draft.refused(
                    &key,
                    value,
                    "a series is emitted in the intervals in which it comes, and forgotten then",
                );
            }
            "datadog_extensions" | "parse_data_dog_tags" | "datadog_distributions" => {
                draft.report.add(
                    &key,
                    value,
                    Verdict::Changed,
                    "DogStatsD's tags, events, checks and distributions are always taken",
                )
            }
            "metric_separator" => draft.refused(&key, value, "names stay as they are"),
            "templates" => draft.refused(
                &key,
                value,
                "names are not taken apart; send tags, or shape names at the sink graphite",
            ),
            "percentile_limit" | "allowed_pending_messages" | "number_workers_threads" => {
                draft.refused(
                    &key,
                    value,
                    "sketches and sockets bound memory by themselves",
                );
            }
            _ => draft.refused(&key, value, "it has no counterpart"),
        }
    }
}

fn scrape(draft: &mut Draft, key: &str, old: &Map<String, Value>) {
    let mut urls: Vec<Value> = Vec::new();
    for (name, value) in old {
        let key = format!("{key}.{name}");
        if name == "urls" {
            draft.turned(
                &key,
                value,
                "now config.scrape_target of a source openmetrics",
            );
            urls.extend(value.as_array().into_iter().flatten().cloned());
        } else {
            draft.refused(&key, value, "see the settings of the source openmetrics");
        }
    }
    if !urls.is_empty() {
        draft.push(
            "sources",
            json!({"kind": "openmetrics", "config": {"scrape_target": urls}}),
        );
    }
}

/// How an output's keys become those of a sink.
struct Output {
    theirs: &'static str,
    ours: &'static str,
    keys: &'static [(&'static str, &'static str)],
}

const OUTPUTS: &[Output] = &[
    Output {
        theirs: "influxdb",
        ours: "influxdb",
        keys: &[
            ("urls", "url"),
            ("database", "database"),
            ("retention_policy", "retention_policy"),
            ("write_consistency", "consistency"),
            ("timeout", "timeout"),
            ("username", "user"),
            ("password", "password"),
        ],
    },
    Output {
        theirs: "influxdb_v2",
        ours: "influxdb",
        keys: &[
            ("urls", "url"),
            ("token", "token"),
            ("organization", "org"),
            ("bucket", "bucket"),
            ("timeout", "timeout"),
        ],
    },
    Output {
        theirs: "graphite",
        ours: "graphite",
        keys: &[
            ("servers", "destinations"),
            ("prefix", "prefix"),
            ("timeout", "timeout"),
        ],
    },
    Output {
        theirs: "prometheus_client",
        ours: "prometheus",
        keys: &[
            ("listen", "listen"),
            ("path", "path"),
            ("expiration_interval", "expire_after"),
        ],
    },
    Output {
        theirs: "datadog",
        ours: "datadog",
        keys: &[("apikey", "api_key"), ("timeout", "timeout")],
    },
    Output {
        theirs: "kafka",
        ours: "kafka",
        keys: &[("brokers", "brokers"), ("topic", "topic")],
    },
    Output {
        theirs: "opentelemetry",
        ours: "otlp",
        keys: &[("service_address", "url"), ("timeout", "timeout")],
    },
];

fn output(draft: &mut Draft, kind: &str, key: &str, old: &Map<String, Value>) {
    if kind == "file" {
        draft.turned(
            key,
            &Value::Object(old.clone()),
            "now a sink debug, which prints",
        );
        draft.push("metric_sinks", json!({"kind": "debug"}));
        return;
    }
    let Some(known) = OUTPUTS.iter().find(|output| output.theirs == kind) else {
        let what = Value::Object(old.clone());
        return draft.refused(key, &what, "there is no such sink");
    };
    let mut config = Map::new();
    if kind == "influxdb_v2" {
        config.insert("version".to_owned(), json!(2));
    }
    for (name, value) in old {
        let key = format!("{key}.{name}");
        let Some((_, to)) = known.keys.iter().find(|(theirs, _)| theirs == name) else {
            draft.refused(
                &key,
                value,
                &format!("see the settings of the sink {}", known.ours),
            );
            continue;
        };
        let (new, why) = translated(known.ours, to, value);
        draft.turned(
            &key,
            value,
            &format!("now config.{to} of the sink {}{why}", known.ours),
        );
        config.insert((*to).to_owned(), new);
    }
    let at = draft.push(
        "metric_sinks",
        json!({"kind": known.ours, "config": config}),
    );
    // Two outputs of one kind need names of their own.
    if at > 0
        && let Some(Value::Array(sinks)) = draft.get_mut("metric_sinks")
        && let Some(Value::Object(sink)) = sinks.get_mut(at)
    {
        sink.insert("name".to_owned(), json!(format!("{}{at}", known.ours)));
    }
}

fn translated(ours: &str, to: &str, value: &Value) -> (Value, &'static str) {
    match (ours, to, value) {
        ("influxdb", "url", Value::Array(urls)) => (
            urls.first().cloned().unwrap_or_default(),
            match urls.len() {
                0 | 1 => "",
                _ => {
                    ", the first of them: telegraf writes each batch to one; put a load balancer in front of several"
                }
            },
        ),
        ("prometheus", "listen", Value::String(text)) => match text.strip_prefix(':') {
            Some(port) => (json!(format!("0.0.0.0:{port}")), ""),
            None => (value.clone(), ""),
        },
        ("graphite", "prefix", Value::String(text)) if !text.is_empty() && !text.ends_with('.') => {
            (json!(format!("{text}.")), "")
        }
        ("otlp", "url", Value::String(text)) if !text.contains("://") => {
            (json!(format!("http://{text}")), "")
        }
        _ => (value.clone(), ""),
    }
}
