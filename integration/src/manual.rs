//! The manual of all settings, written from the code: `tributary manual > docs/configuration.md`, and `tributary manual kinds` for each kind of
//! source and sink.

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
    for (chapter, kinds) in [("sources", sources()), ("sinks", sinks())] {
        let _ = write!(text, "## Kinds of {chapter}\n\n");
        for Kind { name, about, .. } in kinds {
            let first = about.split(". ").next().unwrap_or_default();
            let first = first.replace('\n', " ");
            let first = first.trim_end_matches('.');
            let _ = writeln!(text, "- [`{name}`]({chapter}/{name}.md): {first}.");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The page of each kind of source and sink: its file below `docs/`, and its text.
pub fn kinds() -> Vec<(String, String)> {
    let of = |folder: &str, kinds: Vec<Kind>| {
        let page = |kind: Kind| (format!("{folder}/{}.md", kind.name), kind.page(folder));
        kinds.into_iter().map(page).collect::<Vec<_>>()
    };
    [of("sources", sources()), of("sinks", sinks())].concat()
}

/// What the page of a kind is made of.
struct Kind {
    name: &'static str,
    example: &'static str,
    guide: &'static str,
    about: String,
    schema: Schema,
}

fn sources() -> Vec<Kind> {
    let kinds = source::registry::KINDS.iter();
    kinds
        .map(|kind| Kind::new(kind.name, kind.example, kind.guide, kind.schema()))
        .collect()
}

fn sinks() -> Vec<Kind> {
    let kinds = sink::registry::KINDS.iter();
    kinds
        .map(|kind| Kind::new(kind.name, kind.example, kind.guide, kind.schema()))
        .collect()
}

impl Kind {
    fn new(name: &'static str, example: &'static str, guide: &'static str, schema: Schema) -> Self {
        let about = schema.get("description").and_then(|about| about.as_str());
        Self {
            name,
            example,
            guide,
            about: about.unwrap_or_default().to_owned(),
            schema,
        }
    }

    fn page(self, folder: &str) -> String {
        let Self {
            name,
            example,
            guide,
            about,
            schema,
        } = self;
        let (what, list) = match folder {
            "sources" => ("source", "sources"),
            _ => ("sink", "metric_sinks"),
        };
        let mut text = format!(
            "# The {what} `{name}`\n\n{about}\n\nThis page is generated from the code (`tributary manual kinds`)."
        );
        // Writing into a string cannot fail.
        if !guide.is_empty() {
            let _ = write!(text, " The whole story: [{guide}](../{guide}).");
        }
        let _ = write!(text, "\n\n```yaml\n{list}:\n");
        for line in example.lines() {
            let _ = writeln!(text, "  {line}");
        }
        let _ = write!(
            text,
            "```\n\nBeside `config`, each {what} has the keys of [`{list}`](../configuration.md).\n\n## Settings\n\n"
        );
        let keys = document_schema(schema, "config.");
        text.push_str(if keys.is_empty() { "None." } else { &keys });
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use tributary_aggregator::config::Config;
    use tributary_node::config::{Environment, Prefixes, parse};

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

    #[test]
    fn the_manual_in_docs_is_what_the_code_says() {
        let written =
            std::fs::read_to_string(format!("{DOCS}/configuration.md")).unwrap_or_default();
        assert!(
            written == super::manual(),
            "docs/configuration.md is out of date: cargo run -- manual > docs/configuration.md"
        );
    }

    #[test]
    fn the_pages_of_kinds_in_docs_are_what_the_code_says() {
        let pages = super::kinds();
        for (path, text) in &pages {
            let written = std::fs::read_to_string(format!("{DOCS}/{path}")).unwrap_or_default();
            assert!(
                written == *text,
                "docs/{path} is out of date: cargo run -- manual kinds --into docs"
            );
        }
        for folder in ["sources", "sinks"] {
            for file in std::fs::read_dir(format!("{DOCS}/{folder}")).unwrap() {
                let name = file.unwrap().file_name();
                let path = format!("{folder}/{}", name.to_string_lossy());
                assert!(
                    pages.iter().any(|(known, _)| *known == path),
                    "docs/{path} is of no kind"
                );
            }
        }
    }

    #[test]
    fn each_kind_has_an_example_that_passes_the_check_and_a_guide_that_is_there() {
        let none = || {
            let prefixes = Prefixes {
                ours: "TRIBUTARY_",
                veneur: &[],
            };
            Environment::new(prefixes, [])
        };
        let of = |list: &str, kinds: Vec<super::Kind>| {
            for kind in kinds {
                let text = format!("{list}:\n{}", kind.example);
                let loaded = parse::<Config>(kind.name, &text, &none());
                assert!(loaded.is_ok(), "{}: {}", kind.name, loaded.unwrap_err());
                let settings = loaded.unwrap().settings;
                let named = match list {
                    "sources" => settings.sources.first().map(|source| source.kind.clone()),
                    _ => settings.metric_sinks.first().map(|sink| sink.kind.clone()),
                };
                assert_eq!(named.as_deref(), Some(kind.name));
                let guide = format!("{DOCS}/{}", kind.guide);
                assert!(std::path::Path::new(&guide).exists(), "{guide}");
            }
        };
        of("sources", super::sources());
        of("metric_sinks", super::sinks());
    }
}
