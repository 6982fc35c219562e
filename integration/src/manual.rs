//! The manual of all settings, written from the code: `tributary manual > docs/configuration.md`.

use std::fmt::Write as _;

use schemars::Schema;
use tributary_aggregator::{sink, source};
use tributary_node::config::{document, document_schema};

const INTRODUCTION: &str = "\
# Configuration

This page is generated from the code (`tributary manual`). Both programs read one YAML or JSON file, named with `-f`. Unknown keys are refused, and
every key has a default, so that no file at all is a valid configuration. `--check` reports everything that is wrong at once, and ends.

Durations are written as `10s`, `1m30s` or `500ms`, sizes as `64MiB`, `2MB` or a number of bytes.

Environment variables override keys: `TRIBUTARY_` and the key in capitals, with two underscores between a key and the one below it
(`TRIBUTARY_FORWARD_ADDRESS`, `TRIBUTARY_FORWARD_RETENTION__TIME`). Lists are separated by commas. Veneur's variables (`VENEUR_FORWARDADDRESS`;
for the proxy `VENEUR_PROXY_…`, too) work where the key has the same name.

On SIGHUP, and with `--watch` whenever the file has another content, an aggregator reads its file again. It goes over to what has changed of `forward_address`, `forward_protocol`, `forward_timeout`,
`forward_retention`, `handoff_address`, `percentiles`, `aggregates`, `count_unique_timeseries`, `metric_sinks`, `metric_sink_routing`,
`shutdown_timeout`, `debug` and `log_level`, and logs every other changed key as one that needs a restart. A file with anything wrong in it changes nothing.
What waits for a sink whose settings have changed is written by the new one, and what waits to be forwarded goes to the new addresses.

A proxy does so with the forward addresses and their weights, `ignore_tags` (every proxy must change alike), `queue`, `ack_timeout`, `stall_after`, `failover_after`,
`dial_timeout`, `forward_timeout`, `shutdown_timeout`, `debug` and `log_level`. A file that names no destination is refused.

";

/// The whole manual, as Markdown.
pub fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    let chapters = [
        (
            "tributary-aggregator",
            document::<tributary_aggregator::config::Config>(),
        ),
        (
            "tributary-proxy",
            document::<tributary_proxy::config::Config>(),
        ),
    ];
    for (title, keys) in chapters {
        // Writing into a string cannot fail.
        let _ = write!(text, "## {title}\n\n{keys}");
    }
    text.push_str("## Kinds of sources\n\nWhat `sources[].config` takes for each `kind`.\n\n");
    let sources = source::registry::KINDS.iter();
    kinds(&mut text, sources.map(|kind| (kind.name, kind.schema())));
    text.push_str("## Kinds of sinks\n\nWhat `metric_sinks[].config` takes for each `kind`.\n\n");
    let sinks = sink::registry::KINDS.iter();
    kinds(&mut text, sinks.map(|kind| (kind.name, kind.schema())));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn kinds(text: &mut String, kinds: impl Iterator<Item = (&'static str, Schema)>) {
    for (name, schema) in kinds {
        let keys = document_schema(schema, "config.");
        let keys = if keys.is_empty() {
            "No keys.\n\n".to_owned()
        } else {
            keys.replace("### ", "#### ")
        };
        // Writing into a string cannot fail.
        let _ = write!(text, "### kind: {name}\n\n{keys}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_in_docs_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == super::manual(),
            "docs/configuration.md is out of date: cargo run -- manual > docs/configuration.md"
        );
    }
}
