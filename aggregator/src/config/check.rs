//! What the types of the settings alone cannot tell.

use tributary_node::Program;
use tributary_node::admin::check_address;
use tributary_node::config::Problems;

use super::Config;
use crate::flush::Percentiles;
use crate::forward;
use crate::sink;
use crate::source::{self, ListenAddress, registry};

/// Adds everything that is wrong with `config`.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    config.chassis().check(problems);
    for (index, address) in config.statsd_addresses().iter().enumerate() {
        if let Err(error) = address.parse::<ListenAddress>() {
            problems.add(format!("statsd_listen_addresses[{index}]"), error);
        }
    }
    if !config.grpc_address.is_empty()
        && let Err(error) = check_address(&config.grpc_address)
    {
        problems.add("grpc_address", error);
    }
    config.grpc_tls.check("grpc_tls", problems);
    config.statsd_tls.check("statsd_tls", problems);
    config.forward_tls.check("forward_tls", problems);
    let tls = config.forward_tls.is_on();
    for address in &config.forward_address {
        if let Err(error) = forward::check_address(address, tls) {
            problems.add("forward_address", error);
        }
    }
    config
        .forward_discovery
        .check("forward_discovery", problems);
    if config.forward_discovery.is_given() && !config.consul_forward_service_name.is_empty() {
        problems.add(
            "forward_discovery.kind",
            "excludes consul_forward_service_name: give one or the other",
        );
    }
    #[cfg(feature = "kafka")]
    if let Some(topic) = &config.forward_kafka {
        for problem in topic.problems() {
            tell(
                problems,
                "forward_kafka",
                format!("forward_kafka.{problem}"),
            );
        }
        if config.forwards_to_proxies() {
            problems.add(
                "forward_kafka",
                "excludes forward_address, forward_discovery and consul_forward_service_name: give one of them",
            );
        }
    }
    for address in &config.handoff_address {
        if let Err(error) = forward::check_address(address, tls) {
            problems.add("handoff_address", error);
        }
    }
    if config.uses_consul() {
        config.consul().check(problems);
    }
    config.consul_register.check(&config.grpc_address, problems);
    for (key, duration) in [
        ("interval", config.interval),
        ("forward_timeout", config.forward_timeout),
        ("dedup.window", config.dedup.window),
        (
            "grpc_max_connection_age_grace",
            config.grpc_max_connection_age_grace,
        ),
    ] {
        if duration.is_zero() {
            problems.add(key, "0s is too short, use for instance 10s");
        }
    }
    if config.metric_max_length.get() == 0 {
        problems.add("metric_max_length", "0 would refuse every datagram");
    }
    for (index, share) in config.percentiles.iter().enumerate() {
        if let Err(error) = Percentiles::new(&[*share]) {
            problems.add(format!("percentiles[{index}]"), error);
        }
    }
    if let Some(history) = &config.history {
        history.check(problems);
        if config.http_address.is_empty() {
            problems.add("history", "is of no use without http_address");
        }
    }
    for problem in source::check(&config.sources) {
        tell(problems, "sources", problem);
    }
    for (index, source) in config.sources.iter().enumerate() {
        let forwards = registry::find(&source.kind).is_ok_and(|kind| kind.forwards(&source.config));
        if forwards && !config.forwards_to_proxies() {
            problems.add(
                format!("sources[{index}].config"),
                "brings what others have forwarded, which needs proxies: set forward_address, forward_discovery or consul_forward_service_name",
            );
        }
    }
    for problem in sink::check(&config.metric_sinks, &config.metric_sink_routing) {
        tell(problems, "metric_sinks", problem);
    }
}

/// Adds what starts with its key, or is of this one.
fn tell(problems: &mut Problems, key: &str, problem: String) {
    match problem.split_once(": ") {
        Some((key, what)) => problems.add(key, what),
        None => problems.add(key, problem),
    }
}
