//! The page of all self-metrics, written from the code: `tributary manual metrics > docs/metrics.md`.

use std::fmt::Write as _;

use tributary_node::Program;
use tributary_node::telemetry::catalog::{Metric, TAGS};

/// A program with the self-metrics that it emits.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// The program's name.
    pub program: &'static str,
    /// What stands in front of each name by default.
    pub prefix: String,
    /// Its own and the chassis', by name.
    pub metrics: Vec<&'static Metric>,
}

const INTRODUCTION: &str = "\
# Self-metrics

This page is generated from the code (`tributary manual metrics`). Both programs tell what they do in two ways: as DogStatsD to `stats_address`, each
`stats_interval`, and as Prometheus text at `http_address` under `/metrics`. Names are Veneur's where Veneur has the metric. `stats_prefix` sets what
stands in front of each name; below, and in `dashboards/` and `alerts/`, it is the default. In Prometheus' names dots are underscores, and no unit or
`_total` is appended.

Below each name stand its type, its unit, its tags, and its name in Prometheus.

* A **counter** grows. Statsd gets the increment of each interval (`|c`), Prometheus the total since start.
* A **gauge** is the state now (`|g`).
* A **histogram** is many values. Statsd gets a distribution (`|d`): up to 100 values an interval, with the sample rate that restores their number.
  Prometheus gets a summary: quantiles of the last minute, `_sum` and `_count`.

Nothing is sent from where metrics travel: values gather in atomics, and a task of its own sends packets of up to 1,432 bytes without waiting for
anybody. A receiver that is away costs nothing; the receiver's name is looked up again every minute.

[The dashboards](../dashboards) for Grafana and [the alert rules](../alerts/tributary.yaml) for Prometheus use these names.

";

/// The self-metrics of both programs.
pub fn catalogues() -> [Catalogue; 2] {
    [
        of::<tributary_proxy::config::Config>(),
        of::<tributary_aggregator::config::Config>(),
    ]
}

fn of<P: Program>() -> Catalogue {
    let mut metrics: Vec<_> = [P::METRICS, tributary_node::metrics::METRICS].concat();
    metrics.sort_by_key(|metric| metric.name);
    Catalogue {
        program: P::NAME,
        prefix: P::default().chassis().stats_prefix,
        metrics,
    }
}

/// The whole page, as Markdown.
pub fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    // Writing into a string cannot fail.
    for catalogue in catalogues() {
        let _ = write!(text, "## {}\n\n", catalogue.program);
        for metric in &catalogue.metrics {
            text.push_str(&entry(metric, &catalogue.prefix));
        }
    }
    text.push_str("## Tags\n\n| tag | values | what bounds their number |\n|---|---|---|\n");
    for tag in TAGS {
        let _ = writeln!(text, "| `{}` | {} | {} |", tag.name, tag.values, tag.bound);
    }
    text
}

fn entry(metric: &Metric, prefix: &str) -> String {
    let tags: Vec<String> = metric.tags.iter().map(|tag| format!("`{tag}`")).collect();
    let tags = match tags.is_empty() {
        true => "no tags".to_owned(),
        false => format!("by {}", tags.join(", ")),
    };
    let mut text = format!(
        "### {}\n\n{:?} · {} · {tags} · Prometheus: `{}`\n\n{}\n",
        metric.statsd_name(prefix),
        metric.kind,
        metric.unit,
        metric.prometheus_name(prefix),
        metric.meaning,
    );
    if !metric.worry.is_empty() {
        let _ = writeln!(text, "\n**Look closer when:** {}", metric.worry);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == super::manual(),
            "docs/metrics.md is out of date: cargo run -- manual metrics > docs/metrics.md"
        );
    }
}
