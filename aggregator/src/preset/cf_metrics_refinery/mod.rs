//! `--preset cf-metrics-refinery`: takes the place of cf-metrics-refinery, with its environment.
//!
//! Its variables become a configuration with the source `kafka`, which looks apps up at the Cloud Controller, and the sink `influxdb`. Nothing else listens but the
//! admin server. Exit codes are the original's: 1 for a bad configuration, 2 when something cannot be had at the start, 0 after an orderly stop; and unlike
//! there, a run that fails does not end with 0.

pub mod stats;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tributary_node::cli::{self, Args, Given as GivenSettings};
use tributary_node::config::redacted;
use tributary_node::telemetry::LogFormat;
use tributary_node::{BoxError, Node};

use self::variables::{Given, Values};
use crate::app;
use crate::config::Config;

/// As `--preset` takes it.
pub(super) const NAME: &str = "cf-metrics-refinery";

/// A configuration that was wrong.
const BAD_CONFIG: u8 = 1;
/// Something that the configuration asks for cannot be had.
const BUILD_FAILED: u8 = 2;

/// Between SIGTERM and SIGKILL Cloud Foundry leaves ten seconds.
const SHUTDOWN: &str = "9s";

/// After a crash Cloud Foundry starts the next one at once, and that gets no partitions before the group takes the last one for dead.
const SESSION: &str = "15s";

/// The arguments, beside `--preset` itself.
#[derive(Debug, clap::Args)]
struct Options {
    /// Run as cf-metrics-refinery, with its environment.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Say what is wrong with the variables, or ok, and leave.
    #[arg(long)]
    check: bool,
    /// Write the settings that the variables amount to, with secrets hidden, and leave.
    #[arg(long)]
    print: bool,
    /// DEBUG, INFO or ERROR. Also written -log-level.
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    log_level: String,
    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// Runs it with these arguments, program name first.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let command = clap::Command::new("tributary-aggregator")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs as cf-metrics-refinery: events of Cloud Foundry from Kafka to InfluxDB")
        .after_help(format!("Environment:\n{}", variables::table()));
    let parsed = <Options as clap::Args>::augment_args(command)
        .try_get_matches_from(arguments.iter().map(with_two_dashes))
        .and_then(|found| <Options as clap::FromArgMatches>::from_arg_matches(&found));
    let options = match parsed {
        Ok(options) => options,
        Err(error) => return cli::exit(&error),
    };
    let unicode = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let given = Given::new(std::env::vars_os().filter_map(unicode));
    let settings = match settings(&given, &options.log_level) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                cli::complain(&problem);
            }
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if options.print {
        cli::say(&format!("{:#}", redacted(&settings)));
        return ExitCode::SUCCESS;
    }
    if given.get("CFMR_KAFKA_ZOOKEEPERS").is_some() {
        cli::complain("warning: CFMR_KAFKA_ZOOKEEPERS is not used any more, CFMR_KAFKA_BROKERS is");
    }
    let instance = given
        .get("CF_INSTANCE_INDEX")
        .and_then(|text| text.parse().ok());
    let args = Args {
        check: options.check,
        log_format: options.log_format,
        given: Some(GivenSettings {
            source: format!("preset {NAME}"),
            text: settings.to_string(),
        }),
        ..Args::default()
    };
    run(&args, instance.unwrap_or_default())
}

fn run(args: &Args, instance_index: i64) -> ExitCode {
    let failed = Arc::new(AtomicBool::new(false));
    let has_failed = Arc::clone(&failed);
    let code = tributary_node::run(
        args,
        async move |config: Config, node: Node| -> Result<(), BoxError> {
            let stats = tokio::spawn(stats::keep(instance_index, node.stop.clone()));
            let ended = Box::pin(app::run_with(config, node, stats::router(instance_index))).await;
            stats.abort();
            has_failed.store(ended.is_err(), Ordering::Relaxed);
            ended
        },
    );
    match failed.load(Ordering::Relaxed) {
        true => ExitCode::from(BUILD_FAILED),
        false => code,
    }
}

/// Go's programs take long flags with one dash.
fn with_two_dashes(argument: &OsString) -> OsString {
    let text = argument.to_string_lossy();
    let name = text.split('=').next().unwrap_or_default();
    match name {
        "-log-level" | "-help" | "-check" | "-preset" => format!("-{text}").into(),
        _ => argument.clone(),
    }
}

/// Our settings, or all that is wrong with the variables.
fn settings(given: &Given, log_level: &str) -> Result<Value, Vec<String>> {
    let level = log_level.to_ascii_lowercase();
    let level_problem = (!matches!(level.as_str(), "debug" | "info" | "error"))
        .then(|| format!("-log-level: {log_level:?} is neither DEBUG nor INFO nor ERROR"));
    let values = match (given.read(), level_problem) {
        (Ok(values), None) => values,
        (Ok(_), Some(problem)) => return Err(vec![problem]),
        (Err(mut problems), problem) => {
            problems.extend(problem);
            return Err(problems);
        }
    };
    // Cloud Foundry says by PORT where it looks for us; who sets the other means it.
    let own_port = given.get("CFMR_SERVER_PORT").or_else(|| given.get("PORT"));
    let port = own_port.unwrap_or_else(|| values.text("CFMR_SERVER_PORT"));
    Ok(json!({
        "http_address": format!("0.0.0.0:{port}"),
        "statsd_listen_addresses": [],
        "log_level": level,
        "shutdown_timeout": SHUTDOWN,
        "sources": [{"kind": "kafka", "name": "cf", "config": source(&values)}],
        "metric_sinks": [{"kind": "influxdb", "name": "influx", "config": sink(&values)}],
    }))
}

fn source(values: &Values) -> Value {
    let topics: BTreeMap<&str, &str> = values
        .list("CFMR_KAFKA_TOPICS")
        .into_iter()
        .map(|topic| (topic, "dropsonde"))
        .collect();
    let newest = values.boolean("CFMR_KAFKA_OFFSETNEWEST");
    json!({
        "brokers": values.list("CFMR_KAFKA_BROKERS"),
        "group": values.text("CFMR_KAFKA_CONSUMERGROUP"),
        "topics": topics,
        "start": if newest { "newest" } else { "oldest" },
        "processing_timeout": values.duration("CFMR_KAFKA_PROCESSINGTIMEOUT"),
        "session_timeout": SESSION,
        "cloudfoundry": cloudfoundry(values),
    })
}

fn cloudfoundry(values: &Values) -> Value {
    let mut config = json!({
        "api": values.text("CFMR_CF_API"),
        "timeout": values.duration("CFMR_CF_TIMEOUT"),
        "per_page": values.number("CFMR_CF_RESULTSPERPAGE"),
        "refresh": values.duration("CFMR_METADATAREFRESH"),
        "expire": values.duration("CFMR_METADATAEXPIRE"),
        "expire_check": values.duration("CFMR_METADATAEXPIRECHECK"),
        "negative_expire": values.duration("CFMR_NEGATIVECACHEEXPIRE"),
        "negative_expire_check": values.duration("CFMR_NEGATIVECACHEEXPIRECHECK"),
    });
    // Of several logins one is used, in the original's order.
    let token = ("token", "CFMR_CF_TOKEN");
    let client = [
        ("client_id", "CFMR_CF_CLIENTID"),
        ("client_secret", "CFMR_CF_CLIENTSECRET"),
    ];
    let user = [("user", "CFMR_CF_USER"), ("password", "CFMR_CF_PASSWORD")];
    let login: &[(&str, &str)] = if !values.text(token.1).is_empty() {
        &[token]
    } else if !values.text("CFMR_CF_CLIENTID").is_empty() {
        &client
    } else {
        &user
    };
    for (key, name) in login {
        config[*key] = json!(values.text(name));
    }
    if !values.text("CFMR_CF_CA").is_empty() {
        config["tls"] = json!({"ca_file": values.text("CFMR_CF_CA")});
    }
    config
}

fn sink(values: &Values) -> Value {
    let mut config = json!({
        "url": values.text("CFMR_INFLUXDB_ADDR"),
        "version": 1,
        "database": values.text("CFMR_INFLUXDB_DATABASE"),
        "retention_policy": values.text("CFMR_INFLUXDB_RETENTIONPOLICY"),
        "user": values.text("CFMR_INFLUXDB_USERNAME"),
        "password": values.text("CFMR_INFLUXDB_PASSWORD"),
        "timeout": values.duration("CFMR_INFLUXDB_TIMEOUT"),
        "ping_timeout": values.duration("CFMR_INFLUXDB_INFLUXPINGTIMEOUT"),
        "flush_interval": values.duration("CFMR_BATCHER_FLUSHINTERVAL"),
        "flush_points": values.number("CFMR_BATCHER_FLUSHMESSAGES"),
        // Three attempts in all, as there.
        "retries": 2,
        // Lines are the original's to the byte.
        "host_tag": "",
    });
    if !values.text("CFMR_INFLUXDB_CA").is_empty() {
        config["tls"] = json!({"ca_file": values.text("CFMR_INFLUXDB_CA")});
    }
    config
}

#[cfg(test)]
mod tests;
