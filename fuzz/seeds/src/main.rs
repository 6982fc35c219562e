//! Writes the first inputs of each fuzz target, taken from what the real Veneur was recorded to read and write.
//!
//! `tributary-fuzz-seeds <corpus folder>`: one folder in it for each target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::Value;
use tributary_proto::ack::Unacknowledged;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::json::{decode, inflate};
use tributary_proto::metricpb::metric::Value as MetricValue;
use tributary_proto::metricpb::{HistogramValue, Metric, Scope, SetValue, Type};
use tributary_proto::scan::frame_into;
use tributary_proto::tdigest::MergingDigestData;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// More than any recorded body inflates to.
const CAP: usize = 1 << 20;

fn main() -> Outcome<()> {
    let corpus: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("the first argument is the corpus folder")?
        .into();
    lines(&corpus)?;
    carbon(&corpus)?;
    envelopes(&corpus)?;
    let sketches = recorded("hll")?.base64("canonical_b64")?;
    let digests = recorded("tdigest")?.base64("data_b64")?;
    forwarded(&corpus, &sketches, &digests)?;
    legacy(&corpus)?;

    let mut seeds = Seeds::of(&corpus, "ack")?;
    for positions in [&[0][..], &[3, 4, 5, 90], &[1, 3, 5, 200, 70_000]] {
        let encoded = Unacknowledged::from_iter(positions.iter().copied()).encode();
        seeds.add(&[&100_000_u32.to_be_bytes(), &encoded[..]].concat())?;
    }

    let mut seeds = Seeds::of(&corpus, "hll")?;
    for sketch in &sketches {
        // Merged with nothing, with a small set of our own, with a large one.
        for members in [0, 3, 200] {
            seeds.add(&[&[members], &sketch[..]].concat())?;
        }
    }
    let mut seeds = Seeds::of(&corpus, "tdigest")?;
    for digest in &digests {
        seeds.add(&framed([digest]))?;
    }
    seeds.add(&framed(&digests))
}

/// Each recorded packet, and packets that belong together.
fn lines(corpus: &Path) -> Outcome<()> {
    let mut seeds = Seeds::of(corpus, "dogstatsd")?;
    for packet in recorded("dogstatsd")?.texts("packet") {
        seeds.add(packet.as_bytes())?;
    }
    for packets in recorded("metrics")?.found("packets") {
        let packets = packets.as_array().map(Vec::as_slice).unwrap_or_default();
        let packets: Vec<&str> = packets.iter().filter_map(Value::as_str).collect();
        seeds.add(packets.join("\n").as_bytes())?;
    }
    Ok(())
}

/// What clients of carbon were recorded to send, and what none should.
fn carbon(corpus: &Path) -> Outcome<()> {
    let fixtures = fixtures();
    let mut seeds = Seeds::of(corpus, "carbon_line")?;
    for name in [
        "carbon-relay/relay_line_basic.bin",
        "salt/salt_text_loadavg.bin",
        "salt/article2013_text_no_trailing_newline.bin",
    ] {
        seeds.add(&fs::read(fixtures.join(name))?)?;
    }
    seeds.add(br#"disk{rack="a1",dc="d\"c\\1"} 1e3 -1"#)?;
    let mut seeds = Seeds::of(corpus, "pickle")?;
    for folder in ["pickle-py", "pickle-evil", "salt", "carbon-relay"] {
        let mut files: Vec<PathBuf> = fs::read_dir(fixtures.join(folder))?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let is_pickled = ["pickle", "py"].iter().any(|word| name.contains(word));
            let stream = fs::read(&file)?;
            // Larger ones teach nothing more, and slow every run down.
            if name.ends_with(".bin")
                && (is_pickled || folder == "pickle-evil")
                && stream.len() < 20_000
            {
                // Without the length in front.
                seeds.add(stream.get(4..).unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

/// Each recorded message of Cloud Foundry.
fn envelopes(corpus: &Path) -> Outcome<()> {
    let recorded: Value = serde_json::from_slice(&fs::read(fixtures().join("cf/events.json"))?)?;
    let mut seeds = Seeds::of(corpus, "dropsonde")?;
    for message in Recorded(recorded).texts("message") {
        seeds.add(message.as_bytes())?;
    }
    Ok(())
}

/// Metrics that Veneur's agents forwarded, and others around the recorded sketches.
fn forwarded(corpus: &Path, sketches: &[Vec<u8>], digests: &[Vec<u8>]) -> Outcome<()> {
    let recorded = recorded("metrics")?.base64("pb_b64")?;
    let mut metrics: Vec<Metric> = recorded
        .iter()
        .map(|bytes| Metric::decode(&bytes[..]))
        .collect::<Result<_, _>>()?;
    for sketch in sketches {
        let hyper_log_log = sketch.clone().into();
        let value = MetricValue::Set(SetValue { hyper_log_log });
        metrics.push(metric("set", Type::Set, Scope::Mixed, value));
    }
    for digest in digests {
        let t_digest = Some(MergingDigestData::decode(&digest[..])?);
        let value = MetricValue::Histogram(HistogramValue { t_digest });
        metrics.push(metric("timer", Type::Timer, Scope::Mixed, value.clone()));
        metrics.push(metric("all", Type::Histogram, Scope::Global, value));
    }

    let (mut scan, mut merge) = (Seeds::of(corpus, "scan")?, Seeds::of(corpus, "merge")?);
    for metric in &metrics {
        let metric = metric.encode_to_vec();
        let list = framed([&metric]);
        // Scans do not look into sketches.
        if metric.len() < 1000 {
            scan.add(&metric)?;
            scan.add(&list)?;
        }
        merge.add(&list)?;
    }
    for (index, metric) in (0..).zip(&mut metrics) {
        metric.origin = 0x0102_0304_0506_0708;
        metric.flush = 300;
        metric.index = index;
    }
    metrics.truncate(recorded.len());
    let list = MetricList { metrics }.encode_to_vec();
    scan.add(&list)?;
    merge.add(&list)
}

fn metric(name: &str, kind: Type, scope: Scope, value: MetricValue) -> Metric {
    Metric {
        name: name.to_owned(),
        tags: vec!["env:prod".to_owned(), "zone:a".to_owned()],
        r#type: kind.into(),
        scope: scope.into(),
        value: Some(value),
        ..Metric::default()
    }
}

/// Bodies of requests, and the values in them that are gob streams.
fn legacy(corpus: &Path) -> Outcome<()> {
    let recorded = recorded("import_json")?;
    let mut bodies: Vec<Vec<u8>> = recorded
        .texts("body")
        .map(|body| body.as_bytes().to_vec())
        .collect();
    let mut seeds = Seeds::of(corpus, "import_json")?;
    for captured in recorded.base64("raw_b64")? {
        bodies.push(inflate(&captured, CAP)?);
        seeds.add(&captured)?;
    }
    let mut gob = Seeds::of(corpus, "gob")?;
    for body in bodies {
        seeds.add(&body)?;
        let mut values = Vec::new();
        // Some bodies are answers, or requests that were refused: there is nothing in them.
        let _ = decode(&body, |element| values.extend(element));
        for element in values {
            if ["histogram", "timer"].contains(&element.kind.as_str()) {
                gob.add(&element.value)?;
            }
        }
    }
    Ok(())
}

/// A list of these entries.
fn framed<'a>(entries: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut list = Vec::new();
    for entry in entries {
        frame_into(&mut list, entry);
    }
    list
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../aggregator/tests/fixtures")
}

/// One of the recordings.
struct Recorded(Value);

fn recorded(name: &str) -> Outcome<Recorded> {
    let path = fixtures().join("veneur").join(name).with_extension("json");
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Recorded(serde_json::from_slice(&text)?))
}

impl Recorded {
    /// Everything that stands under this key, at any depth.
    fn found(&self, key: &str) -> Vec<&Value> {
        let mut found = Vec::new();
        let mut rest = vec![&self.0];
        while let Some(value) = rest.pop() {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get(key));
                    rest.extend(fields.values());
                }
                Value::Array(items) => rest.extend(items),
                _ => {}
            }
        }
        found
    }

    fn texts(&self, key: &str) -> impl Iterator<Item = &str> {
        self.found(key).into_iter().filter_map(Value::as_str)
    }

    fn base64(&self, key: &str) -> Outcome<Vec<Vec<u8>>> {
        let decoded = self.texts(key).map(|text| STANDARD.decode(text));
        Ok(decoded.collect::<Result<_, _>>()?)
    }
}

/// The seeds of one target.
struct Seeds {
    folder: PathBuf,
    count: usize,
}

impl Seeds {
    fn of(corpus: &Path, target: &str) -> io::Result<Self> {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, count: 0 })
    }

    fn add(&mut self, input: &[u8]) -> Outcome<()> {
        self.count += 1;
        fs::write(self.folder.join(format!("seed-{:03}", self.count)), input)?;
        Ok(())
    }
}
