//! The preset `cf-metrics-refinery` as it is called: what it says, and how it ends.

use std::process::{Command, Output};

const LEAST: [(&str, &str); 8] = [
    ("CFMR_CF_API", "https://api.cf.example"),
    ("CFMR_CF_USER", "refinery"),
    ("CFMR_CF_PASSWORD", "w0rd"),
    ("CFMR_INFLUXDB_ADDR", "http://127.0.0.1:9"),
    ("CFMR_INFLUXDB_DATABASE", "cf"),
    ("CFMR_KAFKA_BROKERS", "127.0.0.1:9"),
    ("CFMR_KAFKA_TOPICS", "events"),
    ("CFMR_KAFKA_CONSUMERGROUP", "refinery"),
];

fn call(arguments: &[&str], environment: &[(&str, &str)]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["aggregator", "--preset", "cf-metrics-refinery"])
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_has_the_table_of_variables() -> std::io::Result<()> {
    for flag in ["-h", "--help", "-help"] {
        let output = call(&[flag], &[])?;
        let said = text(&output.stdout);
        assert!(
            output.status.success() && said.contains("-log-level"),
            "{said}"
        );
        for variable in [
            "CFMR_CF_API ",
            "CFMR_KAFKA_BROKERS ",
            "CFMR_NEGATIVECACHEEXPIRECHECK ",
        ] {
            assert!(said.contains(variable), "{said}");
        }
    }
    Ok(())
}

#[test]
fn a_bad_environment_is_told_whole_and_ends_with_1() -> std::io::Result<()> {
    let bad = [
        ("CFMR_KAFKA_ZOOKEEPERS", "zk:2181"),
        ("CFMR_CF_TIMEOUT", "soon"),
        ("CFMR_KAFKA_TOPIC", "x"),
    ];
    let output = call(&[], &bad)?;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for problem in [
        "CFMR_CF_API: is required",
        "CFMR_KAFKA_ZOOKEEPERS: ZooKeeper is not asked",
        "CFMR_CF_TIMEOUT: \"soon\" is not a duration",
        "CFMR_KAFKA_TOPIC: there is no such variable, did you mean CFMR_KAFKA_TOPICS?",
    ] {
        assert!(said.contains(problem), "{said}");
    }
    let output = call(&["-log-level", "LOUD"], &LEAST)?;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    Ok(())
}

#[test]
fn the_settings_are_printed_without_secrets() -> std::io::Result<()> {
    let output = call(&["--print", "-log-level=DEBUG"], &LEAST)?;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        said.contains("\"kind\": \"kafka\"") && said.contains("\"log_level\": \"debug\""),
        "{said}"
    );
    assert!(
        said.contains("REDACTED") && !said.contains("w0rd"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_good_environment_is_ok() -> std::io::Result<()> {
    let output = call(&["--check"], &LEAST)?;
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("ok"), "{said}");
    // What only source and sink know to be wrong.
    let bad = LEAST.map(|(name, value)| match name {
        "CFMR_KAFKA_TOPICS" => (name, "a topic"),
        _ => (name, value),
    });
    let output = call(&["--check"], &bad)?;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`a topic` is no topic's name"), "{said}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_ends_with_2() -> std::io::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let mut environment = LEAST.to_vec();
    environment.push(("CFMR_SERVER_PORT", &port));
    let output = call(&[], &environment)?;
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&port), "{said}");
    Ok(())
}

#[test]
fn an_unknown_preset_names_the_known_one() -> std::io::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["aggregator", "--preset=cf-refinery"])
        .output()?;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cf-metrics-refinery"), "{said}");
    Ok(())
}
