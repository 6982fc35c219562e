//! The environment of cf-metrics-refinery, and the settings that it amounts to.

use super::*;
use crate::sink::registry;

const LEAST: [(&str, &str); 8] = [
    ("CFMR_CF_API", "https://api.cf.example"),
    ("CFMR_CF_USER", "refinery"),
    ("CFMR_CF_PASSWORD", "w0rd"),
    ("CFMR_INFLUXDB_ADDR", "http://influx.example:8086"),
    ("CFMR_INFLUXDB_DATABASE", "cf"),
    ("CFMR_KAFKA_BROKERS", "k1:9092, k2:9092"),
    ("CFMR_KAFKA_TOPICS", "http-start-stop,log-message"),
    ("CFMR_KAFKA_CONSUMERGROUP", "refinery"),
];

/// The least there must be, with changes; an empty value takes a variable away.
fn of(changes: &[(&str, &str)]) -> Result<Value, Vec<String>> {
    let all = LEAST.iter().chain(changes);
    let variables = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let given: BTreeMap<String, String> = variables.collect();
    settings(&Given::new(given), "INFO")
}

fn problems(changes: &[(&str, &str)]) -> Vec<String> {
    of(changes).unwrap_err()
}

#[test]
fn the_least_environment_amounts_to_the_originals_defaults() {
    let wanted = json!({
        "http_address": "0.0.0.0:8080",
        "statsd_listen_addresses": [],
        "log_level": "info",
        "shutdown_timeout": "9s",
        "sources": [{"kind": "kafka", "name": "cf", "config": {
            "brokers": ["k1:9092", "k2:9092"],
            "group": "refinery",
            "topics": {"http-start-stop": "dropsonde", "log-message": "dropsonde"},
            "start": "oldest",
            "processing_timeout": "1m",
            "session_timeout": "15s",
            "cloudfoundry": {
                "api": "https://api.cf.example", "user": "refinery", "password": "w0rd", "timeout": "1m", "per_page": 50,
                "refresh": "10m", "expire": "3m", "expire_check": "1m", "negative_expire": "20m",
                "negative_expire_check": "3m",
            },
        }}],
        "metric_sinks": [{"kind": "influxdb", "name": "influx", "config": {
            "url": "http://influx.example:8086", "version": 1, "database": "cf", "retention_policy": "", "user": "", "password": "",
            "timeout": "1m", "ping_timeout": "5s", "flush_interval": "3s", "flush_points": 5000, "retries": 2, "host_tag": "",
        }}],
    });
    assert_eq!(of(&[]).unwrap(), wanted);
}

#[test]
fn every_variable_has_its_place() {
    let settings = of(&[
        ("CFMR_CF_CLIENTID", "client"),
        ("CFMR_CF_CLIENTSECRET", "s3cret"),
        ("CFMR_CF_TIMEOUT", "1m30s"),
        ("CFMR_CF_CA", "/cf.pem"),
        ("CFMR_CF_RESULTSPERPAGE", "5000"),
        ("CFMR_INFLUXDB_USERNAME", "writer"),
        ("CFMR_INFLUXDB_PASSWORD", "p"),
        ("CFMR_INFLUXDB_RETENTIONPOLICY", "week"),
        ("CFMR_INFLUXDB_TIMEOUT", "60000ms"),
        ("CFMR_INFLUXDB_INFLUXPINGTIMEOUT", "2s"),
        ("CFMR_INFLUXDB_CA", "/ca.pem"),
        ("CFMR_BATCHER_FLUSHINTERVAL", "1.5s"),
        ("CFMR_BATCHER_FLUSHMESSAGES", "100"),
        ("CFMR_KAFKA_PROCESSINGTIMEOUT", "5s"),
        ("CFMR_KAFKA_OFFSETNEWEST", "1"),
        ("CFMR_SERVER_PORT", "9000"),
        ("PORT", "8081"),
        ("CFMR_METADATAREFRESH", "1h"),
        ("CFMR_METADATAEXPIRE", "2h"),
        ("CFMR_METADATAEXPIRECHECK", "3h"),
        ("CFMR_NEGATIVECACHEEXPIRE", "4h"),
        ("CFMR_NEGATIVECACHEEXPIRECHECK", "5h"),
    ])
    .unwrap();
    assert_eq!(
        settings["http_address"], "0.0.0.0:9000",
        "the own variable wins"
    );
    let source = &settings["sources"][0]["config"];
    assert_eq!(
        (&source["start"], &source["processing_timeout"]),
        (&json!("newest"), &json!("5s"))
    );
    assert_eq!(
        source["cloudfoundry"],
        json!({
            "api": "https://api.cf.example", "client_id": "client", "client_secret": "s3cret", "timeout": "1m30s", "per_page": 5000,
            "tls": {"ca_file": "/cf.pem"}, "refresh": "1h", "expire": "2h", "expire_check": "3h", "negative_expire": "4h",
            "negative_expire_check": "5h",
        })
    );
    assert_eq!(
        settings["metric_sinks"][0]["config"],
        json!({
            "url": "http://influx.example:8086", "version": 1, "database": "cf", "retention_policy": "week", "user": "writer", "password": "p",
            "timeout": "1m", "ping_timeout": "2s", "flush_interval": "1.5s", "flush_points": 100, "retries": 2, "host_tag": "",
            "tls": {"ca_file": "/ca.pem"},
        })
    );
    let token = of(&[
        ("CFMR_CF_TOKEN", "t0ken"),
        ("CFMR_CF_CLIENTID", "c"),
        ("CFMR_CF_CLIENTSECRET", "s"),
    ])
    .unwrap();
    let login = &token["sources"][0]["config"]["cloudfoundry"];
    assert_eq!(
        (&login["token"], &login["client_id"], &login["user"]),
        (&json!("t0ken"), &Value::Null, &Value::Null)
    );
    assert_eq!(
        of(&[("PORT", "8081")]).unwrap()["http_address"],
        "0.0.0.0:8081"
    );
}

#[test]
fn source_and_sink_take_what_they_are_given() {
    let settings = of(&[
        ("CFMR_CF_SKIPSSLVALIDATION", "f"),
        ("CFMR_INFLUXDB_USERNAME", "u"),
        ("CFMR_INFLUXDB_PASSWORD", "p"),
    ])
    .unwrap();
    let source = &settings["sources"][0];
    let kafka = crate::source::registry::find("kafka").unwrap();
    assert_eq!(kafka.check(&source["config"]), Vec::<String>::new());
    let sink = &settings["metric_sinks"][0];
    assert_eq!(
        registry::check("influxdb", &sink["config"]),
        Vec::<String>::new()
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_by_the_variables_names() {
    let found = problems(&[
        ("CFMR_CF_APPI", "x"),
        ("CFMR_CF_API", "api.cf.example"),
        ("CFMR_CF_USER", ""),
        ("CFMR_CF_TIMEOUT", "60"),
        ("CFMR_CF_RESULTSPERPAGE", "0"),
        ("CFMR_CF_SKIPSSLVALIDATION", "yes"),
        ("CFMR_KAFKA_TOPICS", " , "),
        ("CFMR_SERVER_PORT", "70000"),
        ("CFMR_INFLUXDB_SKIPSSLVALIDATION", "true"),
    ]);
    assert_eq!(
        problems(&[("CFMR_CF_SKIPSSLVALIDATION", "T")]),
        [
            "CFMR_CF_SKIPSSLVALIDATION: the Cloud Controller's certificate is always verified: set CFMR_CF_CA to the CA that signed it (a PEM file, or the \
          PEM text itself)"
        ]
    );
    let begins = |text: &str| found.iter().any(|problem| problem.starts_with(text));
    assert_eq!(found.len(), 9, "{found:#?}");
    assert!(
        begins("CFMR_CF_APPI: there is no such variable, did you mean CFMR_CF_API?"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_CF_API: is neither an http nor an https URL"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_CF_USER: is required, unless there is CFMR_CF_TOKEN"),
        "{found:#?}"
    );
    assert!(begins("CFMR_CF_TIMEOUT: \"60\" lacks a unit"), "{found:#?}");
    assert!(
        begins("CFMR_CF_RESULTSPERPAGE: \"0\" is no whole number above 0"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_CF_SKIPSSLVALIDATION: \"yes\" is neither true nor false"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_KAFKA_TOPICS: \" , \" names none"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_SERVER_PORT: \"70000\" is no port"),
        "{found:#?}"
    );
    assert!(
        begins("CFMR_INFLUXDB_SKIPSSLVALIDATION: InfluxDB's certificate is always verified"),
        "{found:#?}"
    );
}

#[test]
fn zookeepers_alone_are_told_what_to_set() {
    let found = problems(&[
        ("CFMR_KAFKA_BROKERS", ""),
        ("CFMR_KAFKA_ZOOKEEPERS", "zk1,zk2/kafka"),
    ]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("CFMR_KAFKA_ZOOKEEPERS: ")
            && found[0].contains("set CFMR_KAFKA_BROKERS"),
        "{found:?}"
    );
    assert!(
        of(&[("CFMR_KAFKA_ZOOKEEPERS", "zk1")]).is_ok(),
        "beside the brokers they do no harm"
    );
}

#[test]
fn logins_go_whole_or_not_at_all() {
    assert_eq!(
        problems(&[("CFMR_CF_CLIENTID", "c")]),
        ["CFMR_CF_CLIENTSECRET: is required with CFMR_CF_CLIENTID"]
    );
    assert_eq!(
        problems(&[("CFMR_CF_TOKEN", "Bearer x")]),
        ["CFMR_CF_TOKEN: begins with \"bearer\": give the token alone"]
    );
    assert_eq!(
        problems(&[("CFMR_INFLUXDB_PASSWORD", "p")]),
        ["CFMR_INFLUXDB_USERNAME: is required with CFMR_INFLUXDB_PASSWORD"]
    );
}

#[test]
fn the_log_level_is_one_of_three() {
    let given = Given::new(LEAST.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (given_level, level) in [("DEBUG", "debug"), ("Info", "info"), ("error", "error")] {
        assert_eq!(settings(&given, given_level).unwrap()["log_level"], level);
    }
    assert_eq!(
        settings(&given, "WARN").unwrap_err(),
        ["-log-level: \"WARN\" is neither DEBUG nor INFO nor ERROR"]
    );
}

#[test]
fn the_table_names_every_variable() {
    let table = variables::table();
    for variable in variables::VARIABLES {
        assert!(table.contains(variable.name), "{}", variable.name);
    }
}

#[test]
fn flags_have_one_dash_or_two() {
    for (given, meant) in [
        ("-log-level", "--log-level"),
        ("-log-level=DEBUG", "--log-level=DEBUG"),
        ("-h", "-h"),
        ("x", "x"),
    ] {
        assert_eq!(
            with_two_dashes(&OsString::from(given)),
            OsString::from(meant)
        );
    }
}

#[tokio::test]
async fn the_pages_are_where_the_originals_are() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, stats::router(7)).await });
    for (path, wanted) in [
        ("/stats/app", "\"instance_index\":7"),
        ("/stats/runtime", "\"uptime_seconds\":"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("application/json"),
            "{text}"
        );
        assert!(text.contains(wanted), "{text}");
    }
}
