//! Etsy's statsd: the JavaScript object of its `config.js`, from `exampleConfig.js` of release 0.10.

use serde_json::{Map, Value, json};

use super::Ours;
use super::draft::Draft;

/// Keys that have no counterpart, with the reason.
const WITHOUT: &[(&str, &str)] = &[
    ("mgmt_address", MANAGEMENT),
    ("mgmt_port", MANAGEMENT),
    ("title", "a process is told by its arguments"),
    ("healthStatus", "/healthcheck and /ready tell it"),
    ("dumpMessages", "`tributary tap` shows live samples"),
    ("flush_counts", "a counter's total is what is emitted"),
    ("keyFlush", "`tributary top` tells the busiest names"),
    ("deleteIdleStats", SILENT),
    ("deleteCounters", SILENT),
    ("deleteGauges", SILENT),
    ("deleteSets", SILENT),
    ("deleteTimers", SILENT),
    (
        "gaugesMaxTTL",
        "a gauge is emitted in the intervals in which it comes",
    ),
    (
        "histogram",
        "percentiles are merged over all hosts, so that no bins are needed",
    ),
    (
        "keyNameSanitize",
        "names are made fit by each sink, and not before",
    ),
    (
        "automaticConfigReload",
        "SIGHUP reads the file again; nothing is read by itself",
    ),
    ("server", "see servers"),
    (
        "repeaterProtocol",
        "it is part of the address of the sink statsd",
    ),
    ("console", "the sink debug has one form"),
];
const MANAGEMENT: &str = "http_address has an API and pages instead";
const SILENT: &str =
    "a series that fell silent is never emitted: where a zero is expected, let the query fill it";

/// What a timer has in statsd.
const TIMER: [&str; 6] = ["min", "max", "count", "sum", "avg", "median"];

pub(super) fn migrate(mut old: Map<String, Value>) -> Draft {
    let mut draft = Draft::new(Ours::Aggregator);
    listen(&mut draft, &mut old);
    match old.remove("flushInterval") {
        Some(value) => draft.changed(
            "flushInterval",
            &value,
            "interval",
            format!("{}ms", value.as_u64().unwrap_or(10_000)),
            "",
        ),
        None => draft.set("interval", "10s"),
    }
    percentiles(&mut draft, old.remove("percentThreshold"));
    aggregates(&mut draft, old.remove("calculatedTimerMetrics"));
    log(&mut draft, &mut old);
    backends(&mut draft, &mut old);
    for (key, value) in old {
        match WITHOUT.iter().find(|(known, _)| *known == key) {
            Some((_, why)) => draft.refused(&key, &value, why),
            None => draft.refused(&key, &value, "no such key is known of statsd"),
        }
    }
    draft.note(
        "names: a counter NAME is NAME, its total in the interval (statsd: stats.counters.NAME.count and .rate); a timer's are NAME.max, NAME.99percentile and so on (statsd: stats.timers.NAME.upper_99). The sink's prefix and template shape them.",
    );
    draft
}

fn listen(draft: &mut Draft, old: &mut Map<String, Value>) {
    let mut take = |key: &str| old.remove(key);
    let (address, port, six) = (take("address"), take("port"), take("address_ipv6"));
    let servers = take("servers").or_else(|| take("server"));
    let default_port = port.as_ref().and_then(Value::as_u64).unwrap_or(8125);
    let default_host = address.as_ref().and_then(Value::as_str);
    let url = |server: &Value| {
        let kind = server
            .get("server")
            .or(Some(server))
            .and_then(Value::as_str);
        let scheme = if kind.is_some_and(|kind| kind.ends_with("tcp")) {
            "tcp"
        } else {
            "udp"
        };
        let host = server.get("address").and_then(Value::as_str);
        let host = host.or(default_host).unwrap_or("0.0.0.0");
        let port = server.get("port").and_then(Value::as_u64);
        let port = port.unwrap_or(default_port);
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    };
    let urls: Vec<String> = match &servers {
        Some(Value::Array(list)) => list.iter().map(url).collect(),
        Some(one) => vec![url(one)],
        None => vec![url(&json!("./servers/udp"))],
    };
    let given = [
        ("address", address),
        ("port", port),
        ("address_ipv6", six),
        ("servers", servers),
    ];
    for (key, value) in given {
        if let Some(value) = value {
            draft.turned(key, &value, "now in statsd_listen_addresses");
        }
    }
    draft.set("statsd_listen_addresses", json!(urls));
}

/// statsd's `[90]` is the upper 90 % of values, which is the 0.9 quantile; a negative one is of the lowest values.
fn percentiles(draft: &mut Draft, value: Option<Value>) {
    let Some(value) = value else {
        draft.set("percentiles", json!([0.9]));
        draft.note("percentiles: [0.9] is written, which is statsd's default.");
        return;
    };
    let list = match &value {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let shares: Vec<f64> = list
        .iter()
        .filter_map(Value::as_f64)
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .collect();
    let why = if shares.len() == list.len() {
        "shares of 1"
    } else {
        "shares of 1; those of the lowest values are left out"
    };
    draft.changed(
        "percentThreshold",
        &value,
        "percentiles",
        json!(shares),
        why,
    );
}

fn aggregates(draft: &mut Draft, value: Option<Value>) {
    let ours = |name: &str| match name {
        "mean" => Some("avg"),
        "lower" => Some("min"),
        "upper" => Some("max"),
        "count" => Some("count"),
        "sum" => Some("sum"),
        "median" => Some("median"),
        _ => None,
    };
    let Some(value) = value else {
        draft.set("aggregates", json!(TIMER));
        return;
    };
    let names = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut chosen: Vec<&str> = names.filter_map(ours).collect();
    chosen.dedup();
    draft.changed(
        "calculatedTimerMetrics",
        &value,
        "aggregates",
        json!(chosen),
        "those of one percentile (mean_90, sum_90 …), std and rates are left out",
    );
}

fn log(draft: &mut Draft, old: &mut Map<String, Value>) {
    if let Some(value) = old.remove("debug") {
        draft.taken("debug", value);
    }
    if let Some(value) = old.remove("log") {
        match value.get("level").and_then(Value::as_str) {
            Some(level) => {
                let level = match level {
                    "LOG_CRIT" | "LOG_ERR" => "error",
                    "LOG_WARNING" => "warn",
                    "LOG_DEBUG" => "debug",
                    _ => "info",
                };
                draft.changed(
                    "log",
                    &value,
                    "log_level",
                    level,
                    "it logs to standard error",
                );
            }
            None => draft.refused("log", &value, "it logs to standard error"),
        }
    }
    if let Some(value) = old.remove("prefixStats") {
        let prefix = format!("{}.", value.as_str().unwrap_or("statsd"));
        draft.changed("prefixStats", &value, "stats_prefix", prefix, "");
    }
}

fn backends(draft: &mut Draft, old: &mut Map<String, Value>) {
    let value = old.remove("backends");
    let names: Vec<String> = match &value {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        // statsd's own default.
        _ => vec!["./backends/graphite".to_owned()],
    };
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let mut unknown = Vec::new();
    for name in &names {
        match last(name).as_str() {
            "graphite" => graphite(draft, old),
            "console" => {
                draft.push("metric_sinks", json!({"kind": "debug"}));
            }
            "repeater" => repeater(draft, old),
            _ => unknown.push(name.clone()),
        }
    }
    if let Some(value) = value {
        if unknown.is_empty() {
            draft.turned("backends", &value, "now metric_sinks");
        } else {
            let why = format!(
                "now metric_sinks, without those that have no counterpart: {}",
                unknown.join(", ")
            );
            draft.turned("backends", &value, &why);
        }
    }
    if !draft.has("metric_sinks") {
        draft.set("metric_sinks", json!([]));
    }
}

fn graphite(draft: &mut Draft, old: &mut Map<String, Value>) {
    let host = old.remove("graphiteHost");
    let line_port = old.remove("graphitePort");
    let pickle_port = old.remove("graphitePicklePort");
    let protocol = old.remove("graphiteProtocol");
    let naming = old.remove("graphite");
    let pickle = protocol.as_ref().and_then(Value::as_str) == Some("pickle");
    let (port, default) = if pickle {
        (&pickle_port, 2004)
    } else {
        (&line_port, 2003)
    };
    let port = port.as_ref().and_then(Value::as_u64).unwrap_or(default);
    let name = host.as_ref().and_then(Value::as_str).unwrap_or("127.0.0.1");
    let mut config = json!({
        "destinations": [format!("{name}:{port}")],
        "protocol": if pickle { "pickle" } else { "line" },
    });
    for (key, value) in [
        ("graphiteHost", host),
        ("graphitePort", line_port),
        ("graphitePicklePort", pickle_port),
        ("graphiteProtocol", protocol),
    ] {
        if let Some(value) = value {
            draft.turned(key, &value, "now in config of the sink graphite");
        }
    }
    if let Some(naming) = naming {
        let prefix = naming.get("globalPrefix").and_then(Value::as_str);
        for (name, value) in naming.as_object().into_iter().flatten() {
            let key = format!("graphite.{name}");
            match name.as_str() {
                "globalPrefix" => {
                    draft.turned(&key, value, "now config.prefix of the sink graphite");
                }
                _ => draft.refused(
                    &key,
                    value,
                    "names have one form for all types: see config.prefix and config.template of the sink graphite",
                ),
            }
        }
        if let (Some(prefix), Value::Object(config)) = (prefix, &mut config) {
            let dotted = match prefix {
                "" => String::new(),
                prefix => format!("{}.", prefix.trim_end_matches('.')),
            };
            config.insert("prefix".to_owned(), json!(dotted));
        }
    }
    draft.push(
        "metric_sinks",
        json!({"kind": "graphite", "config": config}),
    );
}

/// statsd repeats packets as they come; we repeat what was aggregated.
fn repeater(draft: &mut Draft, old: &mut Map<String, Value>) {
    let scheme = match old.get("repeaterProtocol").and_then(Value::as_str) {
        Some("tcp") => "tcp",
        _ => "udp",
    };
    let Some(value) = old.remove("repeater") else {
        return;
    };
    for (index, target) in value.as_array().into_iter().flatten().enumerate() {
        let host = target.get("host").and_then(Value::as_str);
        let port = target.get("port").and_then(Value::as_u64);
        if let (Some(host), Some(port)) = (host, port) {
            draft.push(
                "metric_sinks",
                json!({
                    "kind": "statsd",
                    "name": format!("repeater{index}"),
                    "config": {"address": format!("{scheme}://{host}:{port}")},
                }),
            );
        }
    }
    draft.turned(
        "repeater",
        &value,
        "now sinks statsd, which send each interval's points, and not the packets that came in",
    );
}
