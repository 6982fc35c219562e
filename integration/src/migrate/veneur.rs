//! Veneur's server, of its last commit and of the releases before it: an agent or a global.

use serde_json::{Map, Value, json};
use tributary_aggregator::config::Config;
use tributary_node::config::Settings as _;

use super::Ours;
use super::draft::Draft;
use super::sinks;

const SPANS: &str = "there are no trace spans here";
const RUNTIME: &str = "it tunes Go's runtime";

/// The keys that are ours, too, by the same name.
pub(super) fn known_keys<T: serde::Serialize + Default>() -> Vec<String> {
    match serde_json::to_value(T::default()) {
        Ok(Value::Object(keys)) => keys.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn migrate(mut old: Map<String, Value>) -> Draft {
    let mut draft = Draft::new(Ours::Aggregator);
    let routing = old
        .get("features")
        .and_then(|features| features.get("enable_metric_sink_routing"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let excluded = old.remove("tags_exclude");
    let flat = sinks::FlatSinks::take(&mut old);
    let rest = listeners_and_forwarding(&mut draft, old);
    for (key, value) in rest {
        match key.as_str() {
            "metric_sinks" => sinks::metric_sinks(&mut draft, &value, routing),
            "metric_sink_routing" if !routing => draft.refused(
                &key,
                &value,
                "features.enable_metric_sink_routing is off, so it did nothing",
            ),
            "sources" => sources(&mut draft, &value),
            _ => plain(&mut draft, &key, value),
        }
    }
    flat.write(&mut draft);
    if let Some(excluded) = excluded {
        exclude_tags(&mut draft, &excluded);
    }
    defaults(&mut draft);
    draft
}

/// What listens, and what is forwarded: the keys whose meaning hangs together. Gives back the others.
fn listeners_and_forwarding(
    draft: &mut Draft,
    mut old: Map<String, Value>,
) -> Vec<(String, Value)> {
    for key in ["udp_address", "tcp_address"] {
        if let Some(value) = old.remove(key) {
            let scheme = key.trim_end_matches("_address");
            match value.as_str() {
                Some("") | None => draft.refused(key, &value, "nothing to listen on"),
                Some(address) => {
                    let url = json!(format!("{scheme}://{}", with_host(address)));
                    draft.turned(key, &value, "now in statsd_listen_addresses");
                    draft.push("statsd_listen_addresses", url);
                }
            }
        }
    }
    let grpc = old.remove("forward_use_grpc");
    if let Some(value) = old.remove("forward_address") {
        let text = value.as_str().unwrap_or_default();
        let legacy = text.starts_with("http://") || text.starts_with("https://");
        if legacy && grpc.as_ref().and_then(Value::as_bool) != Some(true) {
            draft.taken("forward_address", value);
            draft.set("forward_protocol", "json");
            draft.note(
                "forward_address is an HTTP address, so forward_protocol is json. Once the receivers are Tributary's, unary to their gRPC address costs a fraction.",
            );
        } else {
            draft.taken("forward_address", value);
        }
    }
    if let Some(value) = grpc {
        draft.turned(
            "forward_use_grpc",
            &value,
            "now forward_protocol, which is gRPC by default",
        );
    }
    for key in ["http_address", "grpc_address"] {
        let Some(value) = old.remove(key) else {
            continue;
        };
        match value.as_str() {
            Some(text) if text.starts_with("einhorn@") || text.starts_with("fd@") => draft.refused(
                key,
                &value,
                "sockets come by systemd's socket activation here: give the socket's address",
            ),
            Some(text) if text.starts_with(':') => {
                let full = with_host(text);
                draft.changed(key, &value, key, full, "all interfaces are named");
            }
            _ => draft.taken(key, value),
        }
    }
    if let Some(value) = old.remove("num_readers") {
        match value.as_u64() {
            Some(0) => draft.changed(
                "num_readers",
                &value,
                "num_readers",
                1,
                "0 readers read nothing",
            ),
            _ => draft.taken("num_readers", value),
        }
    }
    if let Some(value) = old.remove("stats_address") {
        match value.as_str() {
            Some(text) if text.starts_with("unix") => draft.refused(
                "stats_address",
                &value,
                "self-metrics are sent to host:port, and are on /metrics of http_address",
            ),
            _ => draft.taken("stats_address", value),
        }
    }
    old.into_iter().collect()
}

/// `:8127` and a bare port listen on all interfaces.
fn with_host(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    }
}

fn plain(draft: &mut Draft, key: &str, value: Value) {
    if let Value::Object(below) = &value {
        let known = Config::aliases().iter().chain(Config::ignored());
        if known
            .clone()
            .any(|(alias, _)| alias.starts_with(&format!("{key}.")))
        {
            for (name, value) in below.clone() {
                plain(draft, &format!("{key}.{name}"), value);
            }
            return;
        }
    }
    if known_keys::<Config>().iter().any(|known| known == key) {
        draft.taken(key, value);
    } else if let Some((_, to)) = Config::aliases().iter().find(|(alias, _)| *alias == key) {
        draft.changed(key, &value, to, value.clone(), "");
    } else if let Some((_, why)) = Config::ignored().iter().find(|(known, _)| *known == key) {
        draft.refused(key, &value, why);
    } else {
        draft.refused(key, &value, why_not(key));
    }
}

/// Why a key of Veneur's has no counterpart.
fn why_not(key: &str) -> &'static str {
    match key {
        "tags" => {
            "it was another name of extend_tags, which Veneur's last release still read: move its tags there"
        }
        "veneur_metrics_additional_tags" | "veneur_metrics_scopes" => {
            "self-metrics have no scope here: they are on /metrics, and go to stats_address with the host as it is"
        }
        "grpc_listen_addresses" => {
            "SSF and DogStatsD inside of gRPC are not taken: send DogStatsD to statsd_listen_addresses"
        }
        "ssf_listen_addresses" | "span_sinks" | "ssf_buffer_size" | "debug_ingested_spans" => SPANS,
        "flush_max_per_body" => "each sink bounds its requests by itself",
        _ if key.starts_with("trace_")
            || key.starts_with("lightstep_")
            || key.starts_with("xray_") =>
        {
            SPANS
        }
        _ if key.starts_with("splunk_") || key.starts_with("falconer_") || key.contains("span") => {
            SPANS
        }
        _ if key.starts_with("signalfx_") => {
            "there is no SignalFx sink: Splunk takes OTLP, see the sink otlp"
        }
        _ if key.starts_with("newrelic_") => {
            "there is no New Relic sink: New Relic takes OTLP, see the sink otlp"
        }
        "go_debug" | "gc_percent" => RUNTIME,
        _ => "no such key is known of Veneur or of Tributary",
    }
}

fn sources(draft: &mut Draft, value: &Value) {
    for (index, source) in value.as_array().into_iter().flatten().enumerate() {
        let key = format!("sources[{index}]");
        match source.get("kind").and_then(Value::as_str) {
            Some("openmetrics") => {
                let mut entry = Map::from_iter([("kind".to_owned(), json!("openmetrics"))]);
                if let Some(name) = source.get("name") {
                    entry.insert("name".to_owned(), name.clone());
                }
                let mut config = source.get("config").cloned().unwrap_or_default();
                let tags = source.get("tags").and_then(Value::as_array);
                if let (Value::Object(config), Some(tags)) = (&mut config, tags) {
                    let tags = tags.iter().filter_map(Value::as_str);
                    let tags: Map<String, Value> = tags
                        .map(|tag| tag.split_once(':').unwrap_or((tag, "")))
                        .map(|(key, value)| (key.to_owned(), json!(value)))
                        .collect();
                    config.insert("add_tags".to_owned(), Value::Object(tags));
                }
                entry.insert("config".to_owned(), config);
                draft.report.add(
                    &key,
                    source,
                    super::Verdict::Taken,
                    "the same settings; tags are config.add_tags",
                );
                draft.push("sources", Value::Object(entry));
            }
            Some("proxy") => draft.refused(
                &key,
                source,
                "not needed: grpc_address takes what proxies and agents forward",
            ),
            _ => draft.refused(&key, source, "there is no such source"),
        }
    }
}

/// `tag` or `tag|sink`: in Veneur only some sinks take notice.
fn exclude_tags(draft: &mut Draft, excluded: &Value) {
    const HEEDING: [&str; 2] = ["remote_write", "datadog"];
    let Some(entries) = excluded.as_array().filter(|entries| !entries.is_empty()) else {
        draft.refused("tags_exclude", excluded, "nothing is named");
        return;
    };
    let mut used = false;
    if let Some(Value::Array(sinks)) = draft.get_mut("metric_sinks") {
        for sink in sinks.iter_mut().filter_map(Value::as_object_mut) {
            let text = |key: &str| sink.get(key).and_then(Value::as_str).unwrap_or_default();
            let (kind, name) = (text("kind").to_owned(), text("name").to_owned());
            if !HEEDING.contains(&kind.as_str()) {
                continue;
            }
            let mut strip = Vec::new();
            for entry in entries.iter().filter_map(Value::as_str) {
                let mut parts = entry.split('|');
                let tag = parts.next().unwrap_or_default();
                let named: Vec<&str> = parts.collect();
                let old_kind = match kind.as_str() {
                    "remote_write" => "cortex",
                    other => other,
                };
                if named.is_empty() || named.contains(&old_kind) || named.contains(&name.as_str()) {
                    strip.push(json!({"kind": "prefix", "value": format!("{tag}:")}));
                    strip.push(json!({"kind": "exact", "value": tag}));
                }
            }
            if !strip.is_empty() {
                used = true;
                match sink.get_mut("strip_tags") {
                    Some(Value::Array(own)) => own.extend(strip),
                    _ => {
                        sink.insert("strip_tags".to_owned(), Value::Array(strip));
                    }
                }
            }
        }
    }
    if used {
        draft.turned(
            "tags_exclude",
            excluded,
            "now strip_tags of the sinks that took notice of it",
        );
    } else {
        draft.refused(
            "tags_exclude",
            excluded,
            "none of the sinks took notice of it; to drop tags anywhere, use a sink's strip_tags",
        );
    }
}

/// Where Veneur's defaults emit other series than ours, they are written down.
fn defaults(draft: &mut Draft) {
    if !draft.has("percentiles") {
        draft.set("percentiles", Value::Array(Vec::new()));
        draft.note(
            "percentiles: [] is written, because Veneur emits none unless told to. Tributary's default is 0.5, 0.75 and 0.99.",
        );
    }
    if !draft.has("metric_sinks") {
        draft.set("metric_sinks", Value::Array(Vec::new()));
        draft.note(
            "metric_sinks: [] is written, because the old file has none that is supported. Tributary's default is debug, which prints.",
        );
    }
    if !draft.has("synchronize_with_interval") {
        draft.note(
            "flushes happen on multiples of the interval, which is Tributary's default: set synchronize_with_interval: false for Veneur's.",
        );
    }
}
