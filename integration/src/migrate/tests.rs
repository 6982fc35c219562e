use serde_json::json;

use super::*;

fn migrated(name: &str, text: &str) -> Migrated {
    migrate(Path::new(name), text, None).unwrap()
}

/// The new file's keys.
fn keys(migrated: &Migrated) -> Value {
    serde_saphyr::from_str(&migrated.config).unwrap()
}

fn word_on<'r>(migrated: &'r Migrated, key: &str) -> &'r Entry {
    let mut found = migrated.report.entries.iter();
    found
        .find(|entry| entry.key == key)
        .unwrap_or_else(|| panic!("nothing is said of {key} in\n{}", migrated.report))
}

fn verdict(migrated: &Migrated, key: &str) -> Verdict {
    word_on(migrated, key).verdict
}

#[test]
fn a_veneur_agent_becomes_an_agent_and_each_key_gets_a_word() {
    let new = migrated(
        "veneur.yaml",
        r#"
statsd_listen_addresses: ["udp://localhost:8126", "unixgram:///tmp/veneur.sock"]
ssf_listen_addresses: ["udp://localhost:8128"]
forward_address: veneur-proxy.example.com:8128
interval: 10s
num_readers: 0
num_workers: 96
http_address: ":8127"
stats_address: localhost:8125
tls_key: ""
tags_exclude: [nonce, "host_env|signalfx"]
percentiles: [0.5, 0.999]
aggregates: [min, max, count]
synchronize_with_interval: true
features: {enable_metric_sink_routing: true}
metric_sinks:
  - {kind: localfile, name: file, max_tags: 20, config: {flush_file: /tmp/metrics, delimiter: "\t"}}
  - {kind: signalfx, name: sfx, config: {api_key: hidden-text}}
metric_sink_routing:
  - name: all
    match: [{name: {kind: any}, tags: []}]
    sinks: {matched: [file], not_matched: []}
no_such_key: 1
"#,
    );
    assert_eq!(new.program, Ours::Aggregator);
    let config = keys(&new);
    assert_eq!(config["http_address"], "0.0.0.0:8127");
    assert_eq!(config["num_readers"], 1);
    assert_eq!(config["percentiles"], json!([0.5, 0.999]));
    assert_eq!(
        config["metric_sinks"],
        json!([{"kind": "localfile", "name": "file", "max_tags": 20, "config": {"path": "/tmp/metrics"}}])
    );
    assert_eq!(
        config["metric_sink_routing"][0]["sinks"]["matched"],
        json!(["file"])
    );
    assert!(config.get("forward_protocol").is_none());
    for key in ["interval", "forward_address", "aggregates", "stats_address"] {
        assert_eq!(verdict(&new, key), Verdict::Taken, "{key}");
    }
    for key in [
        "http_address",
        "num_readers",
        "metric_sinks[0].config.flush_file",
    ] {
        assert_eq!(verdict(&new, key), Verdict::Changed, "{key}");
    }
    for (key, why) in [
        ("ssf_listen_addresses", "spans"),
        ("num_workers", "shards"),
        ("metric_sinks[1]", "OTLP"),
        ("tags_exclude", "strip_tags"),
        ("no_such_key", "no such key"),
    ] {
        let entry = word_on(&new, key);
        assert_eq!(entry.verdict, Verdict::NotSupported, "{key}");
        assert!(entry.why.contains(why), "{key}: {}", entry.why);
    }
    assert!(new.report.is_anything_lost());
    assert!(!new.report.to_string().contains("hidden-text"));
}

#[test]
fn each_sink_of_veneurs_that_has_a_counterpart_becomes_it() {
    let new = migrated(
        "veneur.yaml",
        r#"
interval: 10s
tags_exclude: [nonce, "env|datadog"]
sources:
  - {kind: openmetrics, name: nodes, tags: ["dc:fra"], config: {scrape_target: "http://127.0.0.1:9100/metrics", scrape_interval: 15s, denylist: "^go_"}}
  - {kind: proxy, name: imports}
metric_sinks:
  - {kind: cortex, name: mimir, config: {url: "http://127.0.0.1:9009/api/v1/push", remote_timeout: 5s, batch_write_size: 500}}
  - {kind: datadog, name: dd, config: {api_key: abcdef, api_hostname: "https://app.datadoghq.com", flush_max_per_body: 25000}}
  - {kind: kafka, name: k, config: {broker: "a:9092,b:9092", metric_topic: metrics, metric_require_acks: all, partitioner: hash}}
  - {kind: prometheus, name: exporter, config: {repeater_address: "127.0.0.1:9125", network_type: tcp}}
  - {kind: s3, name: archive, config: {access_key_id: AK, secret_access_key: SK, s3_bucket: metrics, region: eu-west-1}}
"#,
    );
    let config = keys(&new);
    let sinks = config["metric_sinks"].as_array().unwrap();
    let kinds: Vec<_> = sinks.iter().map(|sink| sink["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["remote_write", "datadog", "kafka", "statsd", "s3"].map(Some),
        "{}",
        new.report
    );
    assert_eq!(
        sinks[0]["config"],
        json!({"url": "http://127.0.0.1:9009/api/v1/push", "remote_timeout": "5s", "batch_write_size": 500, "naming": "veneur",
            "convert_counters_to_monotonic": false})
    );
    assert_eq!(
        sinks[1]["strip_tags"],
        json!([{"kind": "prefix", "value": "nonce:"}, {"kind": "exact", "value": "nonce"}, {"kind": "prefix", "value": "env:"},
            {"kind": "exact", "value": "env"}])
    );
    assert_eq!(sinks[0]["strip_tags"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        sinks[2]["config"],
        json!({"brokers": ["a:9092", "b:9092"], "topic": "metrics"})
    );
    assert_eq!(
        sinks[3]["config"],
        json!({"address": "tcp://127.0.0.1:9125", "checks": "gauge", "events": false})
    );
    assert_eq!(sinks[4]["config"]["bucket"], "metrics");
    assert_eq!(
        config["sources"][0]["config"]["add_tags"],
        json!({"dc": "fra"})
    );
    assert!(word_on(&new, "sources[1]").why.contains("grpc_address"));
    let told = new.report.to_string();
    assert!(!told.contains("abcdef") && !told.contains("SK"), "{told}");
}

#[test]
fn what_veneur_emits_by_default_is_still_emitted() {
    let new = migrated(
        "veneur.yaml",
        "interval: 10s\nstats_address: localhost:8125\n",
    );
    let config = keys(&new);
    assert_eq!(config["percentiles"], json!([]));
    assert_eq!(config["metric_sinks"], json!([]));
    assert!(!new.report.is_anything_lost());
    assert!(new.report.notes.iter().any(|note| note.contains("0.75")));
}

#[test]
fn sinks_of_veneurs_releases_before_metric_sinks_are_found() {
    let new = migrated(
        "veneur.yaml",
        "interval: 10s\nforward_address: http://global.example.com:8127\nforward_use_grpc: false\n\
         datadog_api_hostname: ''\ndatadog_api_key: ''\ndatadog_flush_max_per_body: 25000\n\
         flush_file: /var/lib/veneur.tsv\ndebug_flushed_metrics: true\nudp_address: ':8126'\nsignalfx_api_key: abc\n",
    );
    let config = keys(&new);
    assert_eq!(config["forward_protocol"], "json");
    assert_eq!(
        config["statsd_listen_addresses"],
        json!(["udp://0.0.0.0:8126"])
    );
    assert_eq!(
        config["metric_sinks"],
        json!([
            {"kind": "localfile", "name": "localfile", "config": {"path": "/var/lib/veneur.tsv"}},
            {"kind": "debug"},
        ])
    );
    assert!(
        word_on(&new, "datadog_flush_max_per_body")
            .why
            .contains("off")
    );
    assert!(word_on(&new, "signalfx_api_key").why.contains("OTLP"));
}

#[test]
fn sink_settings_that_veneur_took_no_notice_of_stay_without_effect() {
    let new = migrated(
        "veneur.yaml",
        "metric_sinks: [{kind: debug, name: d, max_tags: 1}]\nmetric_sink_routing: [{name: r, match: [], sinks: {matched: [], not_matched: []}}]\n",
    );
    let config = keys(&new);
    assert_eq!(
        config["metric_sinks"],
        json!([{"kind": "debug", "name": "d"}])
    );
    assert!(config.get("metric_sink_routing").is_none());
    assert_eq!(
        verdict(&new, "metric_sinks[0].max_tags"),
        Verdict::NotSupported
    );
}

/// Each key that Veneur's configuration has had from release 14.2 on, by the reference.
#[test]
fn every_key_of_veneur_is_known() {
    const KEYS: &str = "aggregates aws_access_key_id aws_region aws_s3_bucket aws_secret_access_key block_profile_rate \
        count_unique_timeseries datadog_api_hostname datadog_api_key datadog_exclude_tags_prefix_by_prefix_metric \
        datadog_flush_max_per_body datadog_metric_name_prefix_drops datadog_span_buffer_size datadog_trace_api_address debug \
        debug_flushed_metrics debug_ingested_spans enable_profiling extend_tags falconer_address features flush_file \
        flush_max_per_body flush_on_shutdown flush_watchdog_missed_flushes forward_address forward_use_grpc grpc_address \
        grpc_listen_addresses hostname http_address http_quit indicator_span_timer_name interval kafka_broker kafka_check_topic \
        kafka_event_topic kafka_metric_buffer_bytes kafka_metric_buffer_frequency kafka_metric_buffer_messages \
        kafka_metric_require_acks kafka_metric_topic kafka_partitioner kafka_retry_max kafka_span_topic lightstep_access_token \
        metric_max_length metric_sink_routing metric_sinks mutex_profile_fraction newrelic_insert_key num_readers num_span_workers \
        num_workers objective_span_timer_name omit_empty_hostname percentiles prometheus_network_type prometheus_repeater_address \
        read_buffer_size_bytes sentry_dsn signalfx_api_key sources span_channel_capacity span_sinks splunk_hec_address \
        ssf_buffer_size ssf_listen_addresses stats_address statsd_listen_addresses synchronize_with_interval tags tags_exclude \
        tls_authority_certificate tls_certificate tls_key trace_lightstep_access_token trace_max_length_bytes \
        veneur_metrics_additional_tags veneur_metrics_scopes xray_address";
    // A null is the default of any type.
    let old: Map<String, Value> = KEYS
        .split_whitespace()
        .map(|key| (key.to_owned(), Value::Null))
        .collect();
    let wanted = old.len();
    let report = veneur::migrate(old).report;
    let strange: Vec<&Entry> = report
        .entries
        .iter()
        .filter(|entry| entry.why.contains("no such key"))
        .collect();
    assert_eq!(strange, Vec::<&Entry>::new());
    let said: std::collections::BTreeSet<&str> = report
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    // Lists without elements have nothing to say anything of.
    assert_eq!(said.len(), wanted - 2, "{said:?}");
}

#[test]
fn a_veneur_proxy_keeps_its_ring() {
    let new = migrated(
        "proxy.yaml",
        "forward_service: veneur-global\ndiscovery_interval: 30s\ndial_timeout: 0s\nsend_buffer_size: 1024\n\
         grpc_address: ':8128'\nhttp_address: 127.0.0.1:8127\nshutdown_timeout: 10s\n\
         statsd: {address: 'localhost:8125', aggregation_interval: 10s, channel_buffer_size: 5}\n\
         grpc_server: {max_connection_age: 1m, ping_timeout: 2s}\nignore_tags: [{kind: prefix, value: 'host:'}]\n",
    );
    assert_eq!(new.program, Ours::Proxy);
    let config = keys(&new);
    assert_eq!(config["consul_forward_service_name"], "veneur-global");
    assert_eq!(config["grpc_address"], "0.0.0.0:8128");
    assert_eq!(config["stats_interval"], "10s");
    assert_eq!(config["grpc_max_connection_age"], "1m");
    assert_eq!(config["ring"]["algorithm"], "veneur");
    assert!(config.get("dial_timeout").is_none());
    assert!(word_on(&new, "dial_timeout").why.contains("literally"));
    assert!(word_on(&new, "send_buffer_size").why.contains("queue"));
    assert_eq!(
        verdict(&new, "grpc_server.ping_timeout"),
        Verdict::NotSupported
    );
    assert_eq!(verdict(&new, "ignore_tags"), Verdict::Taken);
}

#[test]
fn statsds_object_is_read_with_its_comments_and_bare_keys() {
    let new = migrated(
        "config.js",
        "{\n  // where to\n  graphiteHost: 'graphite.example.com', graphitePort: 2013,\n  port: 8125, mgmt_port: 8126,\n  \
         flushInterval: 5000, percentThreshold: [90, 99.5, -10],\n  backends: ['./backends/graphite', './backends/console', 'statsd-x'],\n  \
         graphite: { legacyNamespace: false, globalPrefix: 'stats' }, deleteIdleStats: true,\n}\n",
    );
    let config = keys(&new);
    assert_eq!(config["interval"], "5000ms");
    assert_eq!(config["percentiles"], json!([0.9, 0.995]));
    assert_eq!(
        config["statsd_listen_addresses"],
        json!(["udp://0.0.0.0:8125"])
    );
    assert_eq!(
        config["metric_sinks"],
        json!([
            {"kind": "graphite", "config": {"destinations": ["graphite.example.com:2013"], "protocol": "line", "prefix": "stats."}},
            {"kind": "debug"},
        ])
    );
    assert!(word_on(&new, "backends").why.contains("statsd-x"));
    assert!(word_on(&new, "mgmt_port").why.contains("http_address"));
    assert!(word_on(&new, "deleteIdleStats").why.contains("silent"));
}

#[test]
fn an_expression_in_statsds_file_is_refused_with_its_place() {
    let error = migrate(
        Path::new("config.js"),
        "{\n  port: process.env.PORT\n}\n",
        None,
    )
    .unwrap_err();
    assert!(
        error.contains("config.js") && error.contains("expressions"),
        "{error}"
    );
}

#[test]
fn telegrafs_statsd_input_and_its_outputs_are_taken() {
    let new = migrated(
        "telegraf.conf",
        r#"
[global_tags]
dc = "eu-1"
[agent]
interval = "10s"
flush_interval = "10s"
metric_batch_size = 1000
[[inputs.statsd]]
protocol = "udp"
service_address = ":8125"
percentiles = [50.0, 99.0]
datadog_extensions = true
delete_gauges = true
[[inputs.cpu]]
percpu = true
[[outputs.influxdb]]
urls = ["http://127.0.0.1:8086"]
database = "telegraf"
[[outputs.influxdb_v2]]
urls = ["http://127.0.0.1:8087", "http://127.0.0.1:8088"]
token = "t0ken"
organization = "o"
bucket = "b"
[[outputs.prometheus_client]]
listen = ":9273"
[[outputs.opentelemetry]]
service_address = "127.0.0.1:4317"
[[outputs.graphite]]
servers = ["carbon.example.com:2003"]
prefix = "hosts"
template = "host.tags.measurement.field"
"#,
    );
    let config = keys(&new);
    assert_eq!(
        config["statsd_listen_addresses"],
        json!(["udp://0.0.0.0:8125"])
    );
    assert_eq!(config["extend_tags"], json!(["dc:eu-1"]));
    assert_eq!(config["percentiles"], json!([0.5, 0.99]));
    assert_eq!(
        config["metric_sinks"],
        json!([
            {"kind": "graphite", "config": {"destinations": ["carbon.example.com:2003"], "prefix": "hosts."}},
            {"kind": "influxdb", "name": "influxdb1", "config": {"url": "http://127.0.0.1:8086", "database": "telegraf"}},
            {"kind": "influxdb", "name": "influxdb2",
                "config": {"version": 2, "url": "http://127.0.0.1:8087", "token": "t0ken", "org": "o", "bucket": "b"}},
            {"kind": "otlp", "name": "otlp3", "config": {"url": "http://127.0.0.1:4317"}},
            {"kind": "prometheus", "name": "prometheus4", "config": {"listen": "0.0.0.0:9273"}},
        ])
    );
    assert_eq!(
        verdict(&new, "inputs.statsd[0].datadog_extensions"),
        Verdict::Changed
    );
    assert!(word_on(&new, "inputs.cpu[0]").why.contains("beside it"));
    assert_eq!(
        verdict(&new, "outputs.graphite[0].template"),
        Verdict::NotSupported
    );
    assert_eq!(
        verdict(&new, "agent.metric_batch_size"),
        Verdict::NotSupported
    );
}

#[test]
fn what_our_own_check_refuses_is_left_out_and_told() {
    let new = migrated(
        "veneur.yaml",
        "interval: 10s\npercentiles: [0.5, 7]\nstatsd_listen_addresses: ['ftp://localhost:1', 'udp://localhost:2']\n",
    );
    let config = keys(&new);
    assert_eq!(config["percentiles"], json!([0.5]));
    assert_eq!(
        config["statsd_listen_addresses"],
        json!(["udp://localhost:2"])
    );
    assert!(word_on(&new, "percentiles[1]").why.contains("left out"));
}

#[test]
fn a_template_and_a_file_of_nobody_are_refused() {
    let error = migrate(
        Path::new("v.yaml"),
        "interval: 10s\nhostname: {{ env \"H\" }}\n",
        None,
    )
    .unwrap_err();
    assert!(error.starts_with("v.yaml:2: "), "{error}");
    let error = migrate(Path::new("v.yaml"), "a: 1\n", None).unwrap_err();
    assert!(error.contains("--from"), "{error}");
}
