//! What a user sees: a file in, settings or a list of problems out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// Which ring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    /// The default.
    Hashring,
    /// As the original does it.
    Veneur,
}

/// The ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Ring {
    /// How keys are placed.
    algorithm: Algorithm,
    /// Points per destination.
    points: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Hashring,
            points: 160,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Sink {
    /// Which kind.
    kind: String,
    /// How many at once.
    #[serde(default)]
    limit: Option<u32>,
    /// Its own settings.
    #[serde(default)]
    config: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Example {
    /// Where metrics come in.
    statsd_listen_addresses: Vec<String>,
    /// Where metrics go.
    forward_address: OneOrMany<String>,
    /// How often.
    interval: Duration,
    /// How much.
    buffer: Size,
    /// Which percentiles.
    percentiles: Vec<f64>,
    /// More words.
    debug: bool,
    /// The name of this host.
    hostname: Option<String>,
    /// The ring.
    ring: Ring,
    /// The sinks.
    metric_sinks: Vec<Sink>,
    /// Weights by destination.
    weights: BTreeMap<String, u32>,
    /// Where errors go.
    sentry_dsn: Secret,
}

impl Default for Example {
    fn default() -> Self {
        Self {
            statsd_listen_addresses: vec!["udp://127.0.0.1:8126".to_owned()],
            forward_address: OneOrMany::default(),
            interval: Duration::seconds(10),
            buffer: Size::mib(2),
            percentiles: vec![0.5, 0.99],
            debug: false,
            hostname: None,
            ring: Ring::default(),
            metric_sinks: Vec::new(),
            weights: BTreeMap::new(),
            sentry_dsn: Secret::default(),
        }
    }
}

impl Settings for Example {
    fn check(&self, problems: &mut Problems) {
        if self.interval.is_zero() {
            problems.add("interval", "0s is too short, use at least 1s");
        }
        for (index, percentile) in self
            .percentiles
            .iter()
            .enumerate()
            .filter(|(_, p)| !(0.0..=1.0).contains(*p))
        {
            problems.add(
                format!("percentiles[{index}]"),
                format!("{percentile} is not between 0 and 1"),
            );
        }
    }

    fn aliases() -> &'static [(&'static str, &'static str)] {
        &[
            ("flush_interval", "interval"),
            ("statsd.address", "hostname"),
        ]
    }

    fn ignored() -> &'static [(&'static str, &'static str)] {
        &[("num_workers", "threads follow the load")]
    }
}

const PREFIXES: Prefixes = Prefixes {
    ours: "TRIBUTARY_",
    veneur: &["VENEUR_PROXY_", "VENEUR_"],
};

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(
        PREFIXES,
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn read(text: &str) -> Result<Example, String> {
    let loaded = parse::<Example>("config.yaml", text, &Environment::default());
    loaded
        .map(|loaded| loaded.settings)
        .map_err(|problems| problems.to_string())
}

#[track_caller]
fn refused(text: &str) -> String {
    match read(text) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(problems) => problems,
    }
}

#[test]
fn no_file_an_empty_file_and_nulls_mean_the_defaults() {
    let none = load::<Example>(None, &Environment::default())
        .expect("defaults")
        .settings;
    assert_eq!(none, Example::default());
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "{}",
        "interval: null\nring:\n  points: ~\nmetric_sinks:\n",
        "ring:",
    ] {
        assert_eq!(read(text), Ok(Example::default()), "{text:?}");
    }
}

#[test]
fn yaml_and_json_are_read_alike() {
    let yaml = "interval: 1m30s\nbuffer: 64kB\nforward_address: a:1\nring: {algorithm: veneur}\nweights: {a: 2}\n";
    let json = r#"{"interval":"1m30s","buffer":64000,"forward_address":["a:1"],"ring":{"algorithm":"veneur"},"weights":{"a":2}}"#;
    let expected = Example {
        interval: Duration::seconds(90),
        buffer: Size::bytes(64_000),
        forward_address: vec!["a:1".to_owned()].into(),
        ring: Ring {
            algorithm: Algorithm::Veneur,
            ..Ring::default()
        },
        weights: BTreeMap::from([("a".to_owned(), 2)]),
        ..Example::default()
    };
    assert_eq!(read(yaml), Ok(expected.clone()));
    assert_eq!(read(json), Ok(expected));
}

#[test]
fn an_unknown_key_is_refused_at_any_depth_and_the_nearest_is_named() {
    let problems = refused(
        "forward_adress: a:1\nring: {algoritm: veneur}\nmetric_sinks: [{kind: debug}, {kind: debug, knd: x}]\npoints: 5\n",
    );
    let lines: Vec<&str> = problems.lines().collect();
    for expected in [
        "config.yaml: forward_adress: unknown key, did you mean forward_address?",
        "config.yaml: ring.algoritm: unknown key, did you mean ring.algorithm?",
        "config.yaml: metric_sinks[1].knd: unknown key, did you mean metric_sinks[1].kind?",
        "config.yaml: points: unknown key, did you mean ring.points?",
    ] {
        assert!(
            lines.contains(&expected),
            "{expected}\n  is not in\n{problems}"
        );
    }
    assert_eq!(lines.len(), 4, "{problems}");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_value() {
    let problems = refused(
        "interval: 10\nbuffer: lots\ndebug: maybe\nstatsd_listen_addresses: udp://x\npercentiles: [0.5, high, 7, low]\n\
         ring: {algorithm: cicrle, points: -3}\nmetric_sinks: [{kind: 1}, {limit: 2}, {kind: debug, limit: many}]\nextra: 1\n",
    );
    let lines: Vec<&str> = problems.lines().collect();
    for expected in [
        r#"interval: "10" lacks a unit, write for instance 10s or 10ms"#,
        r#"buffer: "lots" is not a size, write it like 2MiB, 64kB or 1024"#,
        r#"debug: expected true or false, got "maybe""#,
        r#"statsd_listen_addresses: expected a list, got "udp://x""#,
        r#"percentiles[1]: expected a number, got "high""#,
        r#"percentiles[3]: expected a number, got "low""#,
        "ring.algorithm: unknown variant `cicrle`, expected `hashring` or `veneur`",
        "ring.points: expected a whole number, not negative, got -3",
        "metric_sinks[0].kind: expected a text, got 1 (put it in quotes)",
        "metric_sinks[1]: missing field `kind`",
        r#"metric_sinks[2].limit: expected a whole number, not negative, got "many""#,
    ] {
        assert!(
            lines.contains(&format!("config.yaml: {expected}").as_str()),
            "{expected}\n  is not in\n{problems}"
        );
    }
    assert!(problems.contains("extra: unknown key"), "{problems}");
    assert_eq!(
        lines.len(),
        12,
        "nothing follows from what was told already:\n{problems}"
    );
}

#[test]
fn what_the_check_says_comes_with_what_the_types_say() {
    let problems = refused("interval: 0s\npercentiles: [1.5]\ndebug: 3\n");
    assert_eq!(
        problems.lines().collect::<Vec<_>>(),
        [
            "config.yaml: debug: expected true or false, got 3",
            "config.yaml: interval: 0s is too short, use at least 1s",
            "config.yaml: percentiles[0]: 1.5 is not between 0 and 1",
        ]
    );
}

#[test]
fn broken_yaml_names_line_and_column() {
    let problems = refused("debug: true\nring: {algorithm: veneur\ninterval: 1s\n");
    assert!(problems.starts_with("config.yaml:"), "{problems}");
    let place = problems
        .strip_prefix("config.yaml:")
        .and_then(|rest| rest.split(": ").next())
        .unwrap_or_default();
    let numbers: Vec<u32> = place
        .split(':')
        .filter_map(|number| number.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 2, "{problems}");
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let problems = refused("debug: true\ninterval: 1s\ndebug: false\n");
    assert!(problems.starts_with("config.yaml:3:1: "), "{problems}");
    assert!(problems.contains("debug"), "{problems}");
}

#[test]
fn a_document_that_is_no_mapping_is_refused() {
    assert_eq!(
        refused("[a, b]"),
        r#"config.yaml: expected keys with values, got ["a","b"]"#
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = Path::new("/nonexistent/agent.yaml");
    let problems = load::<Example>(Some(path), &Environment::default())
        .expect_err("no file")
        .to_string();
    assert!(
        problems.starts_with("/nonexistent/agent.yaml: cannot be read: "),
        "{problems}"
    );
}

#[test]
fn free_form_values_pass_untouched() {
    let settings =
        read("metric_sinks: [{kind: kafka, config: {any: {thing: [1, null, {x: null}]}}}]")
            .expect("free");
    assert_eq!(
        settings
            .metric_sinks
            .first()
            .map(|sink| sink.config.clone()),
        Some(serde_json::json!({"any": {"thing": [1, null, {"x": null}]}}))
    );
}

#[test]
fn a_secret_appears_in_no_problem() {
    let problems = refused("sentry_dsn: [hunter2]\n");
    assert!(!problems.contains("hunter2"), "{problems}");
    assert!(problems.contains("config.yaml: sentry_dsn"), "{problems}");
    let settings = read("sentry_dsn: hunter2").expect("a text");
    assert_eq!(settings.sentry_dsn.expose(), "hunter2");
    assert_eq!(
        redacted(&settings).get("sentry_dsn"),
        Some(&Value::from("REDACTED"))
    );
}

#[test]
fn another_name_of_a_key_works_and_a_key_without_effect_is_a_warning() {
    let loaded = parse::<Example>(
        "f",
        "flush_interval: 2s\nstatsd: {address: h}\nnum_workers: 4",
        &Environment::default(),
    );
    let loaded = loaded.expect("aliases");
    assert_eq!(loaded.settings.interval, Duration::seconds(2));
    assert_eq!(loaded.settings.hostname.as_deref(), Some("h"));
    assert_eq!(
        loaded.warnings,
        ["num_workers has no effect: threads follow the load"]
    );
}

#[test]
fn environment_variables_override_the_file() {
    let environment = environment(&[
        ("TRIBUTARY_INTERVAL", "5s"),
        ("TRIBUTARY_RING__ALGORITHM", "veneur"),
        ("TRIBUTARY_FORWARD_ADDRESS", "a:1, b:1"),
        ("TRIBUTARY_PERCENTILES", "0.5,0.9"),
        ("TRIBUTARY_METRIC_SINKS", "[{kind: debug}]"),
        ("TRIBUTARY_HOSTNAME", "0123"),
        ("TRIBUTARY_DEBUG", "true"),
        ("TRIBUTARY_WEIGHTS", "{a: 1}"),
        ("UNRELATED", "x"),
    ]);
    let loaded = parse::<Example>(
        "config.yaml",
        "interval: 1s\nring: {points: 7}",
        &environment,
    )
    .expect("overrides");
    assert_eq!(
        loaded.settings,
        Example {
            interval: Duration::seconds(5),
            ring: Ring {
                algorithm: Algorithm::Veneur,
                points: 7
            },
            forward_address: vec!["a:1".to_owned(), "b:1".to_owned()].into(),
            percentiles: vec![0.5, 0.9],
            metric_sinks: vec![Sink {
                kind: "debug".to_owned(),
                limit: None,
                config: Value::Null
            }],
            hostname: Some("0123".to_owned()),
            debug: true,
            weights: BTreeMap::from([("a".to_owned(), 1)]),
            ..Example::default()
        }
    );
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn veneurs_variables_work_and_ours_win() {
    let environment = environment(&[
        ("VENEUR_STATSDLISTENADDRESSES", "udp://a:1,udp://b:1"),
        ("VENEUR_PROXY_FORWARDADDRESS", "theirs:1"),
        ("VENEUR_FLUSHINTERVAL", "7s"),
        ("VENEUR_BUFFER", "1MiB"),
        ("TRIBUTARY_BUFFER", "3MiB"),
    ]);
    let settings = load::<Example>(None, &environment)
        .expect("overrides")
        .settings;
    assert_eq!(settings.statsd_listen_addresses, ["udp://a:1", "udp://b:1"]);
    assert_eq!(settings.forward_address.0, ["theirs:1"]);
    assert_eq!(settings.interval, Duration::seconds(7));
    assert_eq!(settings.buffer, Size::mib(3));
}

#[test]
fn an_unknown_variable_is_a_warning_and_a_service_link_is_nothing() {
    let environment = environment(&[
        ("TRIBUTARY_FORWARD_ADRESS", "a:1"),
        ("TRIBUTARY_PROXY_SERVICE_HOST", "10.0.0.1"),
        ("TRIBUTARY_PROXY_SERVICE_PORT_GRPC", "8228"),
        ("TRIBUTARY_PROXY_PORT", "tcp://10.0.0.1:8228"),
        ("TRIBUTARY_PROXY_PORT_8228_TCP_ADDR", "10.0.0.1"),
        ("VENEUR_PROXY_PORT_8128_TCP", "tcp://10.0.0.1:8128"),
    ]);
    let warnings = load::<Example>(None, &environment)
        .expect("defaults")
        .warnings;
    assert_eq!(
        warnings,
        ["TRIBUTARY_FORWARD_ADRESS is set and names no key, nearest: TRIBUTARY_FORWARD_ADDRESS"]
    );
}

#[test]
fn a_wrong_value_in_a_variable_names_the_variable() {
    let environment = environment(&[
        ("TRIBUTARY_INTERVAL", "soon"),
        ("TRIBUTARY_RING__POINTS", "[1"),
    ]);
    let problems = load::<Example>(None, &environment)
        .expect_err("wrong")
        .to_string();
    assert!(
        problems.contains("TRIBUTARY_INTERVAL: interval: \"soon\" is not a duration"),
        "{problems}"
    );
    assert!(
        problems.contains("TRIBUTARY_RING__POINTS: ring.points: is not YAML"),
        "{problems}"
    );
}

#[test]
fn the_manual_lists_every_key_in_order_with_type_default_and_words() {
    let manual = document::<Example>();
    let headings: Vec<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### `"))
        .collect();
    assert_eq!(
        headings,
        [
            "statsd_listen_addresses`",
            "forward_address`",
            "interval`",
            "buffer`",
            "percentiles`",
            "debug`",
            "hostname`",
            "ring`",
            "ring.algorithm`",
            "ring.points`",
            "metric_sinks`",
            "metric_sinks[].config`",
            "metric_sinks[].kind`",
            "metric_sinks[].limit`",
            "weights`",
            "sentry_dsn`",
        ]
    );
    for part in [
        "### `interval`\n\nduration, default `10s`.\n\nHow often.\n",
        "### `buffer`\n\nsize, default `2MiB`.\n",
        "### `forward_address`\n\ntext or list of text, default `[]`.\n",
        "### `hostname`\n\ntext, default: none.\n",
        "### `ring.algorithm`\n\n`hashring` or `veneur`, default `hashring`.\n\nHow keys are placed.\n\n- `hashring`: The default.\n",
        "### `ring`\n\nkeys as below.\n\nThe ring.\n",
        "### `metric_sinks`\n\nlist of keys as below, default `[]`.\n",
        "### `metric_sinks[].kind`\n\ntext.\n\nWhich kind.\n",
        "### `weights`\n\nkeys of your choice with whole number, default `{}`.\n",
        "### `sentry_dsn`\n\nsecret text, default `\"\"`.\n",
        "- `flush_interval`: [`interval`](#interval)\n",
        "- `num_workers`: threads follow the load\n",
    ] {
        assert!(manual.contains(part), "{part}\n  is not in\n{manual}");
    }
}

proptest::proptest! {
    #[test]
    fn no_file_panics(text in "([a-z_]{0,9}[:\\[\\]{},&*!|>'\"#%@`? \\n-]{0,3}){0,20}") {
        let _ = read(&text);
    }

    #[test]
    fn no_value_under_any_key_panics(key in 0usize..11, value in "[-a-z0-9.\\[\\]{},: \"~]{0,16}") {
        let shape = Shape::of::<Example>();
        if let Some((path, _)) = shape.paths().get(key) {
            let _ = read(&format!("{path}: {value}\n"));
        }
    }
}
