//! Self-metrics are what the catalogue says: in the sources, on `/metrics`, at a statsd receiver, in dashboards and in alert rules.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tributary_integration::metrics::{Catalogue, catalogues};
use tributary_integration::tier::{Binaries, Tier, get, wait_for};
use tributary_node::telemetry::catalog::{DESTINATION, Kind, Metric, TAGS};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What the issue that asked for self-metrics names for the proxy, exactly.
const SEEDS: &[(&str, Kind, &[&str])] = &[
    ("proxy.duration_ns", Kind::Histogram, &[]),
    ("import.duration_ns", Kind::Histogram, &["protocol"]),
    ("forward.duration_ns", Kind::Histogram, &[]),
    (
        "forward.error_total",
        Kind::Counter,
        &["cause", "destination"],
    ),
    ("forward.content_length_bytes", Kind::Histogram, &[]),
    ("metrics_by_destination", Kind::Gauge, &["destination"]),
    ("discoverer.destination_number", Kind::Gauge, &["service"]),
    ("discoverer.errors", Kind::Counter, &["service"]),
    (
        "discoverer.update_duration_ns",
        Kind::Histogram,
        &["service"],
    ),
];

/// Veneur's own names that an aggregator keeps; those of spans, SSF and Go's runtime have nothing here that they could tell of.
const VENEUR: &[&str] = &[
    "worker.metrics_processed_total",
    "worker.metrics_imported_total",
    "worker.metrics_flushed_total",
    "worker.other_samples_flushed_total",
    "flushed_metrics",
    "sink.metric_flush_total_duration_ms",
    "sink.metrics_flushed_total",
    "sink.metrics_skipped_total",
    "sink.metrics_dropped_total",
    "flush.flush_timestamp_ns",
    "flush.unique_timeseries_total",
    "listen.received_per_protocol_total",
    "packet.error_total",
    "forward.duration_ns",
    "forward.metrics_total",
    "forward.post_metrics_total",
    "forward.error_total",
    "tcp.connects",
    "tcp.disconnects",
    "sentry.errors_total",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

#[test]
fn the_catalogue_is_sound_and_has_the_names_that_operators_know() {
    let [proxy, aggregator] = catalogues();
    for catalogue in [&proxy, &aggregator] {
        let names: BTreeSet<&str> = catalogue.metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(
            names.len(),
            catalogue.metrics.len(),
            "{}: a name stands for two things",
            catalogue.program
        );
        for metric in &catalogue.metrics {
            let name = metric.name;
            let of_good_form =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
            assert!(name.chars().all(of_good_form), "{name}");
            assert!(
                metric.meaning.ends_with('.') && !metric.unit.is_empty(),
                "{name}"
            );
            for tag in metric.tags {
                assert!(
                    TAGS.iter().any(|known| known.name == *tag),
                    "{name}: tag {tag} is not in TAGS: what bounds its values?"
                );
            }
            assert!(
                metric.kind != Kind::Histogram || !metric.tags.contains(&DESTINATION),
                "{name}: the histograms of a destination that left are not dropped"
            );
        }
    }
    assert_eq!(
        (proxy.prefix.as_str(), aggregator.prefix.as_str()),
        ("veneur_proxy.", "veneur.")
    );
    for (name, kind, tags) in SEEDS {
        let metric = proxy.metrics.iter().find(|metric| metric.name == *name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!((metric.kind, metric.tags), (*kind, *tags), "{name}");
    }
    for name in VENEUR {
        assert!(
            aggregator.metrics.iter().any(|metric| metric.name == *name),
            "{name}"
        );
    }
}

/// The sources of a crate, without its tests.
fn sources(under: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, into);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            into.push((path, without_tests.to_owned()));
        }
    }
}

#[test]
fn no_self_metric_is_written_outside_of_a_catalogue_and_none_in_it_is_unused() {
    for room in ["node", "proxy", "aggregator"] {
        let src = root().join(room).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        let table = src.join("metrics.rs");
        let (tables, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(path, _)| *path == table);
        for (path, text) in &files {
            if path.starts_with(src.join("telemetry")) {
                continue;
            }
            for call in [
                "counter!(",
                "gauge!(",
                "histogram!(",
                ".register_counter(",
                ".register_gauge(",
                ".register_histogram(",
            ] {
                assert!(
                    !text.contains(call),
                    "{} uses {call}…): write the metric into {}, and use its constant",
                    path.display(),
                    table.display()
                );
            }
        }
        let constants: Vec<&str> = tables[0]
            .1
            .lines()
            .filter_map(|line| {
                let line = line.trim_start();
                let kinds = ["Counter ", "Gauge ", "Histogram "];
                let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
                Some(rest.split_once(" = ")?.0)
            })
            .collect();
        assert!(constants.len() > 3, "{room}: {constants:?}");
        for constant in constants {
            let used = files.iter().any(|(_, text)| {
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .any(|word| word == constant)
            });
            assert!(used, "{room}: nothing emits {constant}");
        }
    }
}

/// What a page of `/metrics` shows of one metric.
#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
    /// Label keys and values, and the value, of each sample; a summary's with its suffix.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let labels = labels
                .split("\",")
                .filter(|label| !label.is_empty())
                .map(|label| {
                    let (key, value) = label.split_once("=\"").unwrap();
                    (key.to_owned(), value.trim_end_matches('"').to_owned())
                });
            assert!(name.starts_with(&current), "{line} is not under its # TYPE");
            let suffix = name[current.len()..].to_owned();
            let sample = (suffix, labels.collect(), value.parse().unwrap());
            families.get_mut(&current).unwrap().samples.push(sample);
        }
    }
    families
}

/// Compares a page with the catalogue; the names that it shows.
fn assert_page_is_catalogued(page: &str, catalogue: &Catalogue) -> BTreeSet<&'static str> {
    let known: HashMap<String, &Metric> = catalogue
        .metrics
        .iter()
        .map(|metric| (metric.prometheus_name(&catalogue.prefix), *metric))
        .collect();
    let mut shown = BTreeSet::new();
    for (name, family) in families(page) {
        let metric = known
            .get(&name)
            .unwrap_or_else(|| panic!("{}: {name} is not in the catalogue", catalogue.program));
        assert_eq!(family.kind, metric.kind.prometheus(), "{name}");
        assert_eq!(family.help, metric.meaning, "{name}");
        for (_, labels, _) in &family.samples {
            let keys = labels.keys().map(String::as_str);
            let keys: BTreeSet<&str> = keys.filter(|key| *key != "quantile").collect();
            assert_eq!(keys, metric.tags.iter().copied().collect(), "{name}");
        }
        shown.insert(metric.name);
    }
    shown
}

/// The counters of a page: statsd name with sorted tags, and the total.
fn counters(page: &str, catalogue: &Catalogue) -> BTreeMap<String, f64> {
    let mut totals = BTreeMap::new();
    let families = families(page);
    for metric in catalogue
        .metrics
        .iter()
        .filter(|metric| metric.kind == Kind::Counter)
    {
        let Some(family) = families.get(&metric.prometheus_name(&catalogue.prefix)) else {
            continue;
        };
        for (_, labels, value) in family.samples.iter().filter(|(_, _, value)| *value > 0.0) {
            let tags: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect();
            let name = metric.statsd_name(&catalogue.prefix);
            totals.insert(format!("{name} {}", tags.join(",")), *value);
        }
    }
    totals
}

#[tokio::test]
async fn what_a_tier_emits_is_in_the_catalogue_on_its_pages_and_at_a_statsd_receiver() -> Outcome {
    let [of_proxy, of_aggregator] = catalogues();
    let tier = Tier::new(binaries())?;
    // An aggregator of its own receives the others' self-metrics: it says what it does not understand.
    let receiver = tier
        .agent("receiver")
        .with("aggregates", json!(["count"]))
        .with("percentiles", json!([]))
        .start()
        .await?;
    let global = tier
        .global("g")
        .with("stats_address", json!(receiver.statsd))
        .with("stats_interval", json!("1s"))
        .start()
        .await?;
    let mut proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        // Nobody listens there: connecting fails.
        .destination("127.0.0.1:9")
        .with("stats_address", json!(receiver.statsd))
        .with("stats_interval", json!("1s"))
        .start()
        .await?;
    let agent = tier
        .agent("a")
        .forward_to(&proxy.grpc)
        .with("stats_address", json!(receiver.statsd))
        .with("stats_interval", json!("1s"))
        .start()
        .await?;
    for number in 0..200 {
        agent.send(&format!(
            "m{number}:1|c|#veneurglobalonly\nt{number}:{number}|ms\nbroken"
        ))?;
    }
    agent.send("_e{1,1}:a|b")?;

    // Everything that the nine names of the proxy need has happened.
    let seeds = wait_for("all seed metrics on the proxy's page", async || {
        let page = get(&proxy.http, "/metrics").await.ok()?.text();
        let shown = families(&page);
        let missing = SEEDS.iter().any(|(name, _, _)| {
            let name = format!("veneur_proxy_{}", name.replace('.', "_"));
            shown
                .get(&name)
                .is_none_or(|family| family.samples.is_empty())
        });
        (!missing).then_some(page)
    })
    .await?;
    for name in [
        "proxy_duration_ns",
        "import_duration_ns",
        "forward_duration_ns",
    ] {
        let shown = families(&seeds);
        let family = &shown[&format!("veneur_proxy_{name}")];
        let of = |suffix: &str| -> f64 {
            family
                .samples
                .iter()
                .filter(|(own, _, _)| own == suffix)
                .map(|(_, _, value)| value)
                .sum()
        };
        let mean = of("_sum") / of("_count");
        assert!((1e3..60e9).contains(&mean), "{name}: a mean of {mean} ns");
    }

    let page = get(&proxy.http, "/metrics").await?.text();
    assert_page_is_catalogued(&page, &of_proxy);
    for node in [&global, &agent] {
        let page = get(&node.http, "/metrics").await?.text();
        assert_page_is_catalogued(&page, &of_aggregator);
    }

    // Whatever name arrives there is one of the catalogue, with its tags and its type.
    let mut known: HashMap<String, (&Metric, &str)> = HashMap::new();
    for catalogue in [&of_proxy, &of_aggregator] {
        for metric in &catalogue.metrics {
            let suffix = if metric.kind == Kind::Histogram {
                ".count"
            } else {
                ""
            };
            let kind = if metric.kind == Kind::Gauge {
                "gauge"
            } else {
                "counter"
            };
            known.insert(
                metric.statsd_name(&catalogue.prefix) + suffix,
                (metric, kind),
            );
        }
    }
    let check = || -> Result<BTreeMap<String, f64>, Box<dyn std::error::Error>> {
        let mut totals = BTreeMap::new();
        for point in receiver.emitted()? {
            let (metric, kind) = known
                .get(&point.name)
                .unwrap_or_else(|| panic!("{} is not in the catalogue", point.name));
            assert_eq!(point.kind, *kind, "{}", point.name);
            let tags = point.tags.iter().map(|tag| tag.split_once(':').unwrap().0);
            let (tags, wanted): (BTreeSet<_>, BTreeSet<_>) =
                (tags.collect(), metric.tags.iter().copied().collect());
            assert_eq!(tags, wanted, "{}", point.name);
            *totals
                .entry(format!("{} {}", point.name, point.tags.join(",")))
                .or_insert(0.0) += point.value;
        }
        Ok(totals)
    };
    wait_for("every seed at the receiver", async || {
        let arrived = check().unwrap();
        let all = SEEDS.iter().all(|(name, kind, _)| {
            let suffix = if *kind == Kind::Histogram {
                ".count"
            } else {
                ""
            };
            // Nothing fails where the list of destinations is fixed.
            *name == "discoverer.errors"
                || arrived
                    .keys()
                    .any(|key| key.starts_with(&format!("veneur_proxy.{name}{suffix} ")))
        });
        let merged = "veneur.worker.metrics_imported_total ";
        (all && arrived.keys().any(|key| key.starts_with(merged))).then_some(())
    })
    .await?;

    // Once nothing happens any more but attempts to connect, each counter there is what the proxy's page says.
    wait_for("the counters to agree", async || {
        let page = get(&proxy.http, "/metrics").await.ok()?.text();
        let steady = |totals: BTreeMap<String, f64>| -> BTreeMap<String, f64> {
            totals
                .into_iter()
                .filter(|(key, _)| !key.contains("connect") && !key.contains("127.0.0.1:9"))
                .collect()
        };
        let here = steady(counters(&page, &of_proxy));
        let there = steady(check().unwrap());
        let agree = here
            .iter()
            .all(|(series, total)| there.get(series) == Some(total));
        (agree && here.len() >= 4).then_some(())
    })
    .await?;

    // The proxy's last words arrive, too: it tells of its own shutdown.
    assert!(proxy.stop().await?.success());
    let page = get(&receiver.http, "/metrics").await?.text();
    assert!(
        families(&page)
            .get("veneur_packet_error_total")
            .is_none_or(|family| family.samples.is_empty()),
        "something was not understood:\n{page}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_told_of_a_destination_ends_soon_after_it() -> Outcome {
    let tier = Tier::new(binaries())?;
    let global = tier.global("g").start().await?;
    let proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        .destination("127.0.0.1:9")
        .with("stats_interval", json!("1s"))
        .start()
        .await?;
    let gauges = async || -> Option<BTreeSet<String>> {
        let page = get(&proxy.http, "/metrics").await.ok()?.text();
        let shown = families(&page);
        let samples = &shown.get("veneur_proxy_forward_available")?.samples;
        Some(
            samples
                .iter()
                .filter_map(|(_, labels, _)| labels.get("destination").cloned())
                .collect(),
        )
    };
    let both = BTreeSet::from([global.grpc.clone(), "127.0.0.1:9".to_owned()]);
    wait_for("both destinations on the page", async || {
        (gauges().await? == both).then_some(())
    })
    .await?;
    let file = tier.directory().join("p.yaml");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["forward_addresses"] = json!([global.grpc]);
    fs::write(&file, config.to_string())?;
    proxy.program.signal(Signal::SIGHUP)?;
    let one = BTreeSet::from([global.grpc.clone()]);
    wait_for("the gauges of the one that left to be gone", async || {
        (gauges().await? == one).then_some(())
    })
    .await?;
    Ok(())
}

/// The names that a text uses, as Prometheus has them, with a summary's suffixes.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("veneur_"))
        .collect()
}

fn known_to_prometheus() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for catalogue in catalogues() {
        for metric in &catalogue.metrics {
            let name = metric.prometheus_name(&catalogue.prefix);
            if metric.kind == Kind::Histogram {
                known.extend([format!("{name}_sum"), format!("{name}_count")]);
            }
            known.insert(name);
        }
    }
    known
}

#[test]
fn dashboards_and_alert_rules_use_names_that_exist() {
    let known = known_to_prometheus();
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("dashboards"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // That one shows what is stored in InfluxDB.
        .filter(|path| !path.ends_with("cloudfoundry.json"))
        .collect();
    assert_eq!(files.len(), 3);
    for path in &files {
        let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let variables: Vec<&str> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            variables,
            ["datasource", "job", "instance"],
            "{}",
            path.display()
        );
    }
    files.push(root().join("alerts/tributary.yaml"));
    files.push(root().join("alerts/tests.yaml"));
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let used = names_in(&text);
        assert!(used.len() >= 5, "{}: {used:?}", path.display());
        for name in used {
            assert!(
                known.contains(name),
                "{} uses {name}, which nobody emits",
                path.display()
            );
        }
    }
}
