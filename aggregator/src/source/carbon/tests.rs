//! Real sockets, recorded clients, and a collecting outlet.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::point::{Point, Timestamp};
use crate::receipt::Receipt;
use crate::sample::{Event, Sample};
use crate::source::listen::tests::Counted;
use crate::source::registry::Build as _;
use crate::source::{Intake, PointIntake, Refused};

/// What came in.
#[derive(Default)]
struct Basket {
    points: Mutex<Vec<Point>>,
    samples: Mutex<Vec<String>>,
    largest: Mutex<usize>,
}

impl PointIntake for Basket {
    fn pass(&self, points: Vec<Point>, _: Receipt) {
        let mut largest = self.largest.lock();
        *largest = points.len().max(*largest);
        self.points.lock().extend(points);
    }
}

struct Samples(Arc<Basket>);

impl Intake for Samples {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused> {
        if sample.name == b"refused" {
            return Err(Refused {
                cause: "series_cap",
            });
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let shown = format!(
            "{} {} {:?} {:?}",
            sample.kind.as_str(),
            text(sample.name),
            sample.tags.map(text).unwrap_or_default(),
            sample.value
        );
        self.0.samples.lock().push(shown);
        Ok(())
    }

    fn event(&mut self, _: Event) {}
}

/// What a source did.
struct Outcome {
    counted: Counted,
    basket: Arc<Basket>,
}

impl Outcome {
    /// `name tags value`, without times.
    fn points(&self) -> Vec<String> {
        let points = self.basket.points.lock();
        let shown = |point: &Point| format!("{} {:?} {}", point.name(), point.tags, point.value);
        points.iter().map(shown).collect()
    }

    fn lost(&self) -> Vec<(String, u64)> {
        let all = self.counted.all().into_iter();
        all.filter_map(|(name, count)| {
            Some((name.strip_prefix("packet.error_total")?.to_owned(), count))
        })
        .collect()
    }
}

/// Where a source listens, in the order of line, pickle, udp as far as configured.
type Ports = [SocketAddr];

/// Runs a source on this thread while `peers` runs on another, and stops it when they are done.
fn run(config: Value, peers: impl FnOnce(&Ports, &Basket) + Send) -> Outcome {
    let counted = Counted::default();
    let basket = Arc::new(Basket::default());
    let samples = Arc::clone(&basket);
    let outlets = Outlets {
        points: Arc::clone(&basket) as Arc<dyn PointIntake>,
        samples: Arc::new(move || Box::new(Samples(Arc::clone(&samples)))),
        forward: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config: CarbonConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config.problems(), [""; 0]);
    let source = runtime.block_on(async {
        let plan = config.plan("carbon").unwrap();
        Box::new(Carbon::open(&config, plan).unwrap())
    });
    let ports: Vec<_> = source
        .addresses
        .iter()
        .map(|address| address.socket_addr().unwrap())
        .collect();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let peers = scope.spawn({
            let stop = stop.clone().drop_guard();
            let (ports, basket) = (&ports, &basket);
            move || {
                peers(ports, basket);
                drop(stop);
            }
        });
        metrics::with_local_recorder(&counted, || runtime.block_on(source.run(outlets, stop)));
        peers.join().unwrap();
    });
    Outcome { counted, basket }
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends it all on one connection, closes that cleanly, and waits until the other side has, too.
fn send(address: SocketAddr, bytes: &[u8]) {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(address).unwrap();
    // The other side may have closed before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn lines(config: Value, bytes: &[u8]) -> Outcome {
    let mut whole = json!({"line": "127.0.0.1:0"});
    for (key, value) in config.as_object().unwrap() {
        whole[key] = value.clone();
    }
    run(whole, |ports, _| send(ports[0], bytes))
}

fn pickles(bytes: &[u8]) -> Outcome {
    run(json!({"pickle": "127.0.0.1:0"}), |ports, _| {
        send(ports[0], bytes)
    })
}

fn fixture(path: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(fixtures.join(path)).unwrap()
}

fn counts(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    let owned = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
    counts.iter().map(owned).collect()
}

#[test]
fn a_bad_line_costs_only_itself() {
    let long = "x".repeat(16 * 1024 + 1);
    let mut stream =
        format!("a 1 1700000000\nnonsense\n\r\n{long}\nb 2 1700000000.25\r\n").into_bytes();
    stream.extend(b"m\xff 1 1\nc nan 1\nd inf 1\ne 1 1e300\nf 1 inf\ng one 1\nh;t 1 1\ni;t=1;s=2 3 1700000000");
    let outcome = lines(json!({}), &stream);
    assert_eq!(
        outcome.points(),
        ["a [] 1", "b [] 2", r#"i ["s:2", "t:1"] 3"#]
    );
    let times: Vec<_> = outcome
        .basket
        .points
        .lock()
        .iter()
        .map(|point| point.timestamp)
        .collect();
    let nanos =
        [0, 250_000_000, 0].map(|nanos| Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos));
    assert_eq!(times, nanos);
    let expected = counts(&[
        ("carbon.points_total{carbon-line}", 3),
        ("listen.received_per_protocol_total{carbon-line}", 11),
        ("packet.error_total{carbon_line,fields}", 1),
        ("packet.error_total{carbon_line,infinite}", 1),
        ("packet.error_total{carbon_line,invalid_utf8}", 1),
        ("packet.error_total{carbon_line,nan}", 1),
        ("packet.error_total{carbon_line,tag_syntax}", 1),
        ("packet.error_total{carbon_line,timestamp}", 2),
        ("packet.error_total{carbon_line,too_long}", 1),
        ("packet.error_total{carbon_line,value}", 1),
        ("tcp.connects{carbon-line}", 1),
        ("tcp.disconnects{carbon-line,closed}", 1),
    ]);
    assert_eq!(outcome.counted.all(), expected);
}

#[test]
fn the_longest_line_is_taken() {
    let name = "x".repeat(16 * 1024 - 4);
    let outcome = lines(json!({}), format!("{name} 1 1\n{name}x 1 1\n").as_bytes());
    assert_eq!(outcome.points(), [format!("{name} [] 1")]);
    assert_eq!(outcome.lost(), counts(&[("{carbon_line,too_long}", 1)]));
}

#[test]
fn minus_one_is_now() {
    let before = Timestamp::now();
    let outcome = lines(json!({}), b"a 1 -1\nb 1 -1.5\nc 1 -2\nd 1 0\n");
    let points = outcome.basket.points.lock();
    let now = before..=Timestamp::now();
    assert!(now.contains(&points[0].timestamp) && now.contains(&points[1].timestamp));
    assert_eq!(points[2].timestamp, Timestamp::from_seconds(-2));
    assert_eq!(points[3].timestamp, Timestamp::default());
}

#[test]
fn a_line_without_an_end_counts_after_a_clean_close_only() {
    assert_eq!(lines(json!({}), b"a 1 1").points(), ["a [] 1"]);
    let outcome = run(json!({"line": "127.0.0.1:0"}), |ports, basket| {
        let mut stream = TcpStream::connect(ports[0]).unwrap();
        stream.write_all(b"a 1 1\nb 1 17000").unwrap();
        eventually(|| basket.points.lock().len() == 1);
        // Closed with something unread, or told to, the system breaks the connection off.
        let linger = socket2::SockRef::from(&stream);
        linger.set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(outcome.points(), ["a [] 1"]);
    assert_eq!(outcome.lost(), counts(&[("{carbon_line,cut_short}", 1)]));
}

#[test]
fn datagrams_hold_lines_with_any_breaks_between() {
    let config = json!({"udp": "127.0.0.1:0", "max_line": 50});
    let outcome = run(config, |ports, basket| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let long = "x".repeat(60);
        for datagram in [
            "a 1 1\nb 2 1\r\nc 3 1\rd 4 1",
            "",
            "bad\n",
            &format!("{long} 1 1\ne 5 1"),
        ] {
            socket.send_to(datagram.as_bytes(), ports[0]).unwrap();
        }
        eventually(|| basket.points.lock().len() == 5);
    });
    assert_eq!(
        outcome.points(),
        ["a [] 1", "b [] 2", "c [] 3", "d [] 4", "e [] 5"]
    );
    let expected = counts(&[
        ("carbon.points_total{carbon-udp}", 5),
        ("listen.received_per_protocol_total{carbon-udp}", 6),
        ("packet.error_total{carbon_line,fields}", 1),
        ("packet.error_total{carbon_line,too_long}", 1),
    ]);
    assert_eq!(outcome.counted.all(), expected);
}

#[test]
fn what_a_real_carbon_relay_sends_arrives_the_same_by_both_protocols() {
    let by_line = lines(json!({}), &fixture("carbon-relay/relay_line_basic.bin"));
    let by_pickle = pickles(&fixture("carbon-relay/relay_pickle_basic.bin"));
    let expected = [
        "servers.web01.cpu.user [] 12.5",
        "servers.web01.cpu.system [] 3",
        r#"disk.used ["datacenter:dc1", "rack:a1", "server:web01"] 42"#,
        "neg.val [] -7.25",
        "big.val [] 12345678901234567000",
        "small.val [] 0.0000001",
        "frac.ts [] 5",
        "now.val [] 1",
        "pickled.metric.one [] 1",
        "pickled.metric.two [] 2.5",
        "udp.metric [] 9",
    ];
    assert_eq!(by_line.points(), expected);
    assert_eq!(by_pickle.points(), expected);
    assert_eq!((by_line.lost(), by_pickle.lost()), (vec![], vec![]));
    let fraction = by_pickle.basket.points.lock()[6].timestamp;
    assert_eq!(fraction, Timestamp::from_millis(1_700_000_004_750));
}

#[test]
fn twelve_hundred_points_of_a_carbon_relay_arrive_in_order() {
    let outcome = pickles(&fixture("carbon-relay/relay_pickle_bulk1200.bin"));
    let expected: Vec<_> = (0..1200)
        .map(|number| format!("bulk.m{number:04} [] {number}"))
        .collect();
    assert_eq!(outcome.points(), expected);
    assert_eq!(outcome.lost(), []);
}

#[test]
fn what_the_real_salt_sends_arrives() {
    let many: Vec<_> = (0..1200)
        .map(|number| format!("seedmod.many.web01_example_com.m{number:04} [] {number}"))
        .collect();
    let cpu = [
        "virt.vm_cputime.web.vm.example.cputime [] 1234567890",
        "virt.vm_cputime.web.vm.example.cputime_percent [] 12",
        "virt.vm_cputime.db1.cputime [] 987654321",
        "virt.vm_cputime.db1.cputime_percent [] 7",
    ]
    .map(str::to_owned);
    let ping = vec!["test.ping.web01_example_com [] 1".to_owned()];
    let load = |five: &str, fifteen: &str| {
        let one = "1-min [] 2.3154296875".to_owned();
        [
            one,
            format!("5-min [] {five}"),
            format!("15-min [] {fifteen}"),
        ]
        .map(|rest| format!("status.loadavg.web01_example_com.{rest}"))
        .to_vec()
    };
    let sizes =
        [10, 20, 30].map(|size| format!("seedmod.lists.web01_example_com.sizes.{size} [] {size}"));
    let mixed =
        ["ok [] 1", "ok2 [] 2"].map(|rest| format!("seedmod.mixed.web01_example_com.{rest}"));
    for (name, expected) in [
        ("fixedts_loadavg", load("3.15", "0")),
        ("fixedts_ping", ping.clone()),
        ("fixedts_virt.vm_cputime", cpu.to_vec()),
        ("pattern", ping.clone()),
        ("ping", ping.clone()),
        ("seedmod.lists", sizes.to_vec()),
        ("seedmod.many", many),
        ("skip_seedmod.mixed", mixed.to_vec()),
        ("status.loadavg", load("3.15576171875", "2.0634765625")),
        ("virt.vm_cputime", cpu.to_vec()),
    ] {
        let outcome = pickles(&fixture(&format!("salt/salt_pickle_{name}.bin")));
        assert_eq!(outcome.points(), expected, "{name}");
        assert_eq!(outcome.lost(), [], "{name}");
    }
    let outcome = pickles(&fixture("salt/salt_pickle_seedmod.nan.bin"));
    assert_eq!(outcome.points(), [""; 0]);
    assert_eq!(
        outcome.lost(),
        counts(&[("{carbon_item,infinite}", 1), ("{carbon_item,nan}", 1)])
    );

    let disks = pickles(&fixture("salt/salt_pickle_skip_disk.usage.bin")).points();
    assert_eq!(disks.len(), 15);
    assert_eq!(disks[4], "disk.usage.web01_example_com./dev/shm.used [] 4");

    for (name, expected) in [
        ("salt_text_loadavg", load("3.15", "0")),
        ("salt_text_ping", ping),
        ("salt_text_virt.vm_cputime", cpu.to_vec()),
        ("salt_text_ping_REAL_EMPTY", vec![]),
        (
            "article2013_text_no_trailing_newline",
            cpu.map(|line| line.replace("web.vm.example", "web_vm_example"))
                .to_vec(),
        ),
    ] {
        let outcome = lines(json!({}), &fixture(&format!("salt/{name}.bin")));
        assert_eq!(outcome.points(), expected, "{name}");
        assert_eq!(outcome.lost(), [], "{name}");
    }
}

#[test]
fn a_bad_item_costs_only_itself() {
    let outcome = pickles(&fixture("pickle-py/py313_pickle_p4_badelems.bin"));
    let names: Vec<_> = outcome
        .basket
        .points
        .lock()
        .iter()
        .map(|point| point.base.to_string())
        .collect();
    assert_eq!(names, ["ok.one", "bool.val", "now.val", "ok.two"]);
    let lost = outcome.lost();
    assert!(
        lost.iter()
            .all(|(cause, _)| cause.starts_with("{carbon_item,")),
        "{lost:?}"
    );
    // The eight that carbon skips, and the infinite one.
    assert_eq!(
        lost.iter().map(|(_, count)| count).sum::<u64>(),
        9,
        "{lost:?}"
    );
}

#[test]
fn every_hostile_stream_leaves_the_next_frame_of_its_connection_alone() {
    let index: Value = serde_json::from_slice(&fixture("pickle-evil/index.json")).unwrap();
    let good = fixture("pickle-evil/two_frames_one_write.bin");
    let good = &good[good.len() / 2..];
    for name in index.as_object().unwrap().keys() {
        let mut stream = fixture(&format!("pickle-evil/{name}"));
        stream.extend(good);
        let outcome = pickles(&stream);
        let last = outcome.points().pop();
        match name.as_str() {
            // Where the next frame begins is not known.
            "overlong_1MiB_plus_1.bin" => {
                assert_eq!(last, None, "{name}");
                assert_eq!(outcome.lost(), counts(&[("{carbon_frame,too_long}", 1)]));
                assert_eq!(
                    outcome
                        .counted
                        .of("tcp.disconnects{carbon-pickle,bad_length}"),
                    1
                );
            }
            // The beginning of the good frame is taken for the rest of it, and its middle for a length.
            "truncated_then_close.bin" => {
                assert_eq!(last, None, "{name}");
                let expected = [
                    ("{carbon_frame,too_long}", 1),
                    ("{carbon_frame,unknown_opcode}", 1),
                ];
                assert_eq!(outcome.lost(), counts(&expected));
            }
            _ => assert_eq!(last.as_deref(), Some("ok.second [] 2"), "{name}"),
        }
    }
    let outcome = pickles(&fixture("pickle-evil/truncated_then_close.bin"));
    assert_eq!(outcome.lost(), counts(&[("{carbon_frame,cut_short}", 1)]));
}

#[test]
fn large_pickles_are_handed_on_in_pieces() {
    let mut pickle = b"\x80\x02](".to_vec();
    for number in 0..20_000_u32 {
        pickle.extend(format!("U\x06m{number:05}").as_bytes());
        pickle.extend(b"J\x00\x00\x00\x01K\x01\x86\x86");
    }
    pickle.extend(b"e.");
    let mut stream = u32::try_from(pickle.len()).unwrap().to_be_bytes().to_vec();
    stream.extend(pickle);
    let outcome = pickles(&stream);
    assert_eq!(outcome.basket.points.lock().len(), 20_000);
    assert_eq!(*outcome.basket.largest.lock(), 4096);
}

#[test]
fn points_are_aggregated_as_the_rules_say() {
    let config = json!({
        "aggregate": true,
        "rules": [{"match": r"\.count$", "kind": "counter"}, {"match": "^c", "kind": "gauge"}],
    });
    let outcome = lines(
        config,
        b"a.count 2 1\ncpu;dc=x,y;b=z 1.5 1700000000\nrefused 1 1\nother nan 1\n",
    );
    assert_eq!(
        *outcome.basket.samples.lock(),
        [
            r#"counter a.count "" Number(2.0)"#,
            r#"gauge cpu "b:z,dc:x_y" Number(1.5)"#
        ]
    );
    assert_eq!(outcome.points(), [""; 0]);
    assert_eq!(
        outcome.lost(),
        counts(&[("{carbon_line,nan}", 1), ("{carbon_line,series_cap}", 1)])
    );
}

#[test]
fn connections_are_bounded_in_number_and_silence() {
    let config = json!({"line": "127.0.0.1:0", "max_connections": 1, "idle_timeout": "100ms"});
    let outcome = run(config, |ports, basket| {
        use std::io::Read as _;
        let mut first = TcpStream::connect(ports[0]).unwrap();
        first.write_all(b"a 1 1\n").unwrap();
        eventually(|| basket.points.lock().len() == 1);
        // Whether it is still within its silence is the clock's business: one of both is turned away, or neither.
        let mut second = TcpStream::connect(ports[0]).unwrap();
        let mut third = TcpStream::connect(ports[0]).unwrap();
        let mut nothing = Vec::new();
        for stream in [&mut first, &mut second, &mut third] {
            let _ = stream.read_to_end(&mut nothing);
        }
        // There is room again.
        send(ports[0], b"b 1 1\n");
    });
    assert_eq!(outcome.points(), ["a [] 1", "b [] 1"]);
    let refused = outcome
        .counted
        .of("listen.connections_refused_total{carbon-line,too_many_connections}");
    let idle = outcome.counted.of("tcp.disconnects{carbon-line,idle}");
    assert_eq!(refused + idle, 3);
    assert!(refused >= 1 && idle >= 1, "{:?}", outcome.counted.all());
}

#[test]
fn what_has_arrived_is_taken_when_it_stops() {
    let outcome = run(
        json!({"line": "127.0.0.1:0", "pickle": "127.0.0.1:0", "udp": "127.0.0.1:0"}),
        |ports, _| {
            let mut line = TcpStream::connect(ports[0]).unwrap();
            line.write_all(b"by.line 1 1\n").unwrap();
            let mut pickle = TcpStream::connect(ports[1]).unwrap();
            pickle
                .write_all(&fixture("salt/salt_pickle_ping.bin"))
                .unwrap();
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.send_to(b"by.udp 1 1", ports[2]).unwrap();
            // Left open: the stop signal comes while they are.
            std::mem::forget((line, pickle));
        },
    );
    let mut points = outcome.points();
    points.sort();
    assert_eq!(
        points,
        [
            "by.line [] 1",
            "by.udp [] 1",
            "test.ping.web01_example_com [] 1"
        ]
    );
}

#[test]
fn five_hundred_short_connections_lose_nothing() {
    let outcome = run(
        json!({"line": "127.0.0.1:0", "pickle": "127.0.0.1:0"}),
        |ports, _| {
            let ping = fixture("salt/salt_pickle_ping.bin");
            std::thread::scope(|scope| {
                for _ in 0..10 {
                    scope.spawn(|| {
                        for number in 0..50 {
                            match number % 2 {
                                0 => send(ports[0], format!("short.{number} 1 1").as_bytes()),
                                _ => send(ports[1], &ping),
                            }
                        }
                    });
                }
            });
        },
    );
    assert_eq!(outcome.basket.points.lock().len(), 500);
    for way in ["line", "pickle"] {
        assert_eq!(
            outcome.counted.of(&format!("tcp.connects{{carbon-{way}}}")),
            250
        );
        assert_eq!(
            outcome
                .counted
                .of(&format!("tcp.disconnects{{carbon-{way},closed}}")),
            250
        );
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config: CarbonConfig = serde_json::from_value(json!({"pickle": address})).unwrap();
    let error = runtime.block_on(config.open("carbon")).err().unwrap();
    assert!(
        error.starts_with(&format!("pickle: cannot listen on {address}: ")),
        "{error}"
    );
}
