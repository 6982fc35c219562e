//! The steps of which the hot paths are made, each for itself: `cargo bench -p tributary-integration`.
//!
//! What they add up to in a whole process is what `tributary bench` measures.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macro writes undocumented functions; a bench ends at the first surprise"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tributary_aggregator::dropsonde::{self, Guid};
use tributary_aggregator::enrich::cloudfoundry::{App, Named};
use tributary_aggregator::key::Tags;
use tributary_aggregator::point::{Batch, Point, PointKind, Timestamp};
use tributary_aggregator::receipt::Receipt;
use tributary_aggregator::sink::influxdb::line::{LineFormat, LineWriter};
use tributary_aggregator::sketch::{HyperLogLog, TDigest};
use tributary_aggregator::source::carbon::{line, path, pickle::Unpickler};
use tributary_aggregator::source::{Outlets, PointIntake, dogstatsd, registry};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_integration::load::{Mix, Workload};
use tributary_integration::tier::free_address;
use tributary_proto::metricpb::{Metric, metric::Value};
use tributary_proto::scan::Scanned;
use tributary_proxy::ring::{Algorithm, Member, Ring};

const SERIES: usize = 10_000;

fn of(mix: Mix) -> Workload {
    Workload {
        mix,
        series: SERIES,
        ..Workload::default()
    }
}

fn key(metric: &[u8], key: &mut Vec<u8>) {
    key.clear();
    let scanned = Scanned::scan(metric).unwrap();
    scanned.routing_key(|_| false, |piece| key.extend_from_slice(piece));
}

fn dogstatsd_lines(c: &mut Criterion) {
    let lines: Vec<String> = (0..SERIES)
        .map(|series| of(Mix::Mixed).line(series))
        .collect();
    let mut group = c.benchmark_group("dogstatsd");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            for line in &lines {
                dogstatsd::parse(line.as_bytes(), |item| {
                    black_box(&item);
                })
                .unwrap();
            }
        });
    });
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    group.bench_function("parse and merge", |b| {
        b.iter(|| {
            for line in &lines {
                dogstatsd::parse(line.as_bytes(), |item| {
                    if let dogstatsd::Item::Sample(sample) = item {
                        writer.sample(&sample).unwrap();
                    }
                })
                .unwrap();
            }
        });
    });
    group.finish();
}

const CARBON_TIME: i32 = 1_700_000_000;

fn carbon_path(series: usize) -> String {
    format!("servers.web{:03}.cpu.core{}.user", series / 16, series % 16)
}

/// One pickle of 500 points, as carbon-relay makes it.
fn carbon_pickle(first: usize) -> Vec<u8> {
    let mut pickle = b"\x80\x02]q\x00(".to_vec();
    for series in first..first + 500 {
        let path = carbon_path(series);
        pickle.push(b'X');
        pickle.extend((path.len() as u32).to_le_bytes());
        pickle.extend(path.as_bytes());
        for number in [f64::from(CARBON_TIME), series as f64 + 0.5] {
            pickle.push(b'G');
            pickle.extend(number.to_be_bytes());
        }
        pickle.extend([0x86, b'q', 1, 0x86, b'q', 2]);
    }
    pickle.extend(b"e.");
    pickle
}

/// Counts points, and throws them away.
#[derive(Default)]
struct Counting(Mutex<usize>, Condvar);

impl PointIntake for Counting {
    fn pass(&self, points: Vec<Point>, _: Receipt) {
        *self.0.lock().unwrap() += points.len();
        self.1.notify_all();
    }
}

impl Counting {
    /// Waits until so many came, and begins anew.
    fn wait_for(&self, points: usize) {
        let mut count = self.0.lock().unwrap();
        while *count < points {
            count = self.1.wait(count).unwrap();
        }
        *count -= points;
    }
}

fn carbon(c: &mut Criterion) {
    let mut lines = String::new();
    let mut frames = Vec::new();
    let mut stream = Vec::new();
    for series in 0..SERIES {
        lines += &format!("{} {series}.5 {CARBON_TIME}\n", carbon_path(series));
        if series % 500 == 0 {
            let pickle = carbon_pickle(series);
            stream.extend((pickle.len() as u32).to_be_bytes());
            stream.extend(&pickle);
            frames.push(pickle);
        }
    }
    let mut group = c.benchmark_group("carbon");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("parse lines", |b| {
        b.iter(|| {
            for text in lines.as_bytes().split(|byte| *byte == b'\n') {
                let _ = black_box(line::parse(black_box(text)));
            }
        });
    });
    group.bench_function("take paths apart", |b| {
        let paths: Vec<_> = (0..SERIES).map(carbon_path).collect();
        b.iter(|| {
            for text in &paths {
                let _ = black_box(path::Path::parse(text.as_bytes()));
            }
        });
    });
    group.bench_function("read pickles", |b| {
        let mut unpickler = Unpickler::default();
        b.iter(|| {
            for frame in &frames {
                for item in unpickler.decode(frame).unwrap() {
                    let _ = black_box(item);
                }
            }
        });
    });
    // Through sockets, with the kernel's work for both ends.
    let (by_line, by_pickle) = (free_address().unwrap(), free_address().unwrap());
    let counting = Arc::new(Counting::default());
    let outlets = Outlets {
        points: Arc::clone(&counting) as Arc<dyn PointIntake>,
        samples: {
            let table = Table::new(TableConfig::default());
            Arc::new(move || Box::new(table.writer()))
        },
        forward: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = serde_json::json!({"line": by_line, "pickle": by_pickle});
    let source = runtime
        .block_on(registry::open("carbon", "carbon", &config))
        .unwrap();
    let stop = CancellationToken::new();
    runtime.spawn(source.run(outlets, stop.clone()));
    for (name, address, bytes) in [
        ("lines over TCP", &by_line, lines.as_bytes()),
        ("pickles over TCP", &by_pickle, stream.as_slice()),
    ] {
        let mut socket = TcpStream::connect(address).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                socket.write_all(bytes).unwrap();
                counting.wait_for(SERIES);
            });
        });
    }
    stop.cancel();
    group.finish();
}

fn routing(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    group.throughput(Throughput::Elements(SERIES as u64));
    for mix in [Mix::Counters, Mix::Digests] {
        let metrics: Vec<_> = (0..SERIES).map(|series| of(mix).encoded(series)).collect();
        let mut buffer = Vec::new();
        group.bench_function(format!("scan and key, {mix:?}"), |b| {
            b.iter(|| {
                for metric in &metrics {
                    key(metric, &mut buffer);
                    black_box(&buffer);
                }
            });
        });
    }
    let keys: Vec<Vec<u8>> = (0..SERIES)
        .map(|series| {
            let mut bytes = Vec::new();
            key(&of(Mix::Counters).encoded(series), &mut bytes);
            bytes
        })
        .collect();
    for members in [3, 30, 300] {
        let members: Vec<_> = (0..members)
            .map(|member| Member::new(format!("10.0.{}.{}:8128", member / 250, member % 250)))
            .collect();
        let count = members.len();
        let ring = Ring::build(Algorithm::Hashring, members).unwrap();
        group.bench_function(format!("hash and owner among {count}"), |b| {
            b.iter(|| {
                for key in &keys {
                    black_box(ring.owner(key));
                }
            });
        });
    }
    group.finish();
}

fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("add", |b| {
        let mut digest = TDigest::new(100.0);
        b.iter(|| {
            for value in 0..1_000 {
                digest.add(f64::from(value * 7 % 1_000), 1.0).unwrap();
            }
        });
    });
    let metric: Metric = of(Mix::Digests).metric(1);
    let Some(Value::Histogram(histogram)) = metric.value else {
        return;
    };
    let proto = histogram.t_digest.unwrap();
    let encoded = proto.encode_to_vec();
    group.throughput(Throughput::Elements(1));
    group.bench_function("merge 20 centroids", |b| {
        let mut digest = TDigest::new(100.0);
        b.iter(|| digest.merge_proto(black_box(&proto)).unwrap());
    });
    group.bench_function("decode 20 centroids", |b| {
        type Digest = tributary_proto::tdigest::MergingDigestData;
        b.iter(|| Digest::decode(black_box(&encoded[..])).unwrap());
    });
    group.finish();
}

fn sets(c: &mut Criterion) {
    let mut group = c.benchmark_group("set");
    let members: Vec<_> = (0..10_000)
        .map(|member| format!("member-{member}"))
        .collect();
    group.throughput(Throughput::Elements(10_000));
    for (name, count) in [("small", 100), ("large", 10_000)] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("insert, {name}"), |b| {
            b.iter_batched(
                HyperLogLog::new,
                |mut set| {
                    for member in &members[..count] {
                        set.insert(member.as_bytes());
                    }
                    set
                },
                BatchSize::SmallInput,
            );
        });
        let mut other = HyperLogLog::new();
        for member in &members[..count] {
            other.insert(member.as_bytes());
        }
        let bytes = other.to_bytes();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("decode and merge, {name}"), |b| {
            let mut set = HyperLogLog::new();
            b.iter(|| set.merge(&HyperLogLog::from_bytes(black_box(&bytes)).unwrap()));
        });
    }
    group.finish();
}

fn imports(c: &mut Criterion) {
    let mut group = c.benchmark_group("import");
    group.throughput(Throughput::Elements(SERIES as u64));
    for mix in [Mix::Counters, Mix::Mixed, Mix::Digests] {
        let metrics: Vec<bytes::Bytes> = (0..SERIES)
            .map(|series| of(mix).encoded(series).into())
            .collect();
        let table = Table::new(TableConfig::default());
        let mut writer = table.writer();
        group.bench_function(format!("{mix:?}"), |b| {
            b.iter(|| {
                for metric in &metrics {
                    writer.import_bytes(metric).unwrap();
                }
            });
        });
    }
    group.finish();
}

fn cloudfoundry(c: &mut Criterion) {
    let recorded = include_str!("../../aggregator/tests/fixtures/cf/events.json");
    let recorded: Vec<serde_json::Value> = serde_json::from_str(recorded).unwrap();
    let guid = Guid::parse("be268fe2-00cc-41c6-8b7f-0fdb65e25060").unwrap();
    let named = |name: &str| Named {
        guid: guid.to_string(),
        name: name.to_owned(),
    };
    let app = App::new(guid, "web", &named("dev"), &named("acme"));
    let mut group = c.benchmark_group("cloudfoundry");
    group.throughput(Throughput::Elements(1));
    for name in ["container_metric", "log_app_out", "http"] {
        let case = recorded.iter().find(|case| case["name"] == name).unwrap();
        let message = case["message"].as_str().unwrap().as_bytes();
        group.bench_function(format!("parse, {name}"), |b| {
            b.iter(|| dropsonde::parse(black_box(message)).unwrap());
        });
        let event = dropsonde::parse(message).unwrap().unwrap();
        let mut points = Vec::new();
        group.bench_function(format!("points, {name}"), |b| {
            b.iter(|| {
                points.clear();
                event.points(&app, &mut points);
            });
        });
    }
    group.finish();
}

/// Lines for InfluxDB: a request of Cloud Foundry is three fields and nine tags.
fn influx(c: &mut Criterion) {
    let tags = Tags::sorted(vec![
        "app:shop",
        "app_guid:be268fe2-00cc-41c6-8b7f-0fdb65e25060",
        "instance:1",
        "method:GET",
        "org:acme",
        "org_guid:20000000-0000-4000-8000-000000000001",
        "space:dev",
        "space_guid:10000000-0000-4000-8000-000000000001",
        "status_code:200",
    ]);
    let fields = [
        (".count", PointKind::Integer, 1.0),
        (".duration", PointKind::Gauge, 0.012_345_678),
        (".response_size", PointKind::Integer, 512.0),
    ];
    let (base, fields): (Arc<str>, _) = (
        "http_request".into(),
        fields.map(|(suffix, kind, value)| (Arc::<str>::from(suffix), kind, value)),
    );
    let points = (0..SERIES).flat_map(|event| {
        let (base, tags) = (Arc::clone(&base), tags.clone());
        fields.clone().map(move |(suffix, kind, value)| Point {
            base: Arc::clone(&base),
            suffix: Some(suffix),
            tags: tags.clone(),
            kind,
            value,
            timestamp: Timestamp::from_nanos(1_700_000_000_000_000_000 + event as i64),
            check: None,
        })
    });
    let batch = Batch {
        points: points.collect(),
        ..Batch::default()
    };
    let mut writer = LineWriter::new(LineFormat::default());
    let mut out = Vec::new();
    let mut group = c.benchmark_group("influxdb");
    group.throughput(Throughput::Elements(batch.points.len() as u64));
    group.bench_function("lines", |b| {
        b.iter(|| {
            out.clear();
            let mut at = 0;
            while at < batch.points.len() {
                at += writer.write(&batch, at..batch.points.len(), &mut out);
            }
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    dogstatsd_lines,
    carbon,
    routing,
    digests,
    sets,
    imports,
    cloudfoundry,
    influx
);
criterion_main!(benches);
