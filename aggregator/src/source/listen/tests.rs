//! Real sockets, hostile peers, and a collecting intake.

mod takeover;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use parking_lot::Mutex;

use super::*;
use crate::sample::{Event, Sample, Value};
use crate::source::Refused;

/// What came in, over all intakes, as `name=value` of samples and `!title` of events.
#[derive(Clone, Default)]
struct Basket(Arc<Mutex<Vec<String>>>);

impl Basket {
    fn intakes(&self) -> impl Fn() -> Collect + Clone + Send + Sync + 'static {
        let basket = self.clone();
        move || Collect(basket.clone())
    }

    fn sorted(&self) -> Vec<String> {
        let mut taken = self.0.lock().clone();
        taken.sort_unstable();
        taken
    }

    /// Waits until so many came in.
    async fn holds(&self, count: usize) -> Vec<String> {
        eventually(|| self.0.lock().len() >= count).await;
        self.sorted()
    }
}

/// Refuses the name `refused`, for a test.
struct Collect(Basket);

impl Intake for Collect {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused> {
        if sample.name == b"refused" {
            return Err(Refused {
                cause: "series_cap",
            });
        }
        let name = String::from_utf8_lossy(sample.name);
        let value = match sample.value {
            Value::Number(number) => number.to_string(),
            Value::Member(member) => String::from_utf8_lossy(member).into_owned(),
            Value::Status(check) => check.status.to_string(),
        };
        self.0.0.lock().push(format!("{name}={value}"));
        Ok(())
    }

    fn event(&mut self, event: Event) {
        self.0.0.lock().push(format!("!{}", event.title));
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Counters by name and tags, as `name{tag,tag}`.
#[derive(Default)]
pub(in crate::source) struct Counted(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counted {
    pub(in crate::source) fn all(&self) -> Vec<(String, u64)> {
        let counters = self.0.lock();
        let read = |(name, value): (&String, &Arc<AtomicU64>)| {
            (name.clone(), value.load(Ordering::Relaxed))
        };
        counters.iter().map(read).collect()
    }

    pub(in crate::source) fn of(&self, name: &str) -> u64 {
        self.0
            .lock()
            .get(name)
            .map_or(0, |value| value.load(Ordering::Relaxed))
    }
}

impl metrics::Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let tags: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{}{{{}}}", key.name(), tags.join(","));
        Counter::from_arc(Arc::clone(self.0.lock().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn complaints() -> Arc<Complaints> {
    Arc::new(Complaints::about("test"))
}

fn listen_on(addresses: &[&str]) -> StatsdConfig {
    StatsdConfig {
        listen: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..StatsdConfig::default()
    }
}

fn at(listeners: &Listeners, place: usize) -> SocketAddr {
    listeners.addresses()[place].socket_addr().unwrap()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(packet.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(packet);
    bytes
}

/// Whether the other side has closed.
fn is_closed(stream: &mut (impl Read + Write)) -> bool {
    // A reset says the same as an end: that there is nothing more to read.
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_listener_takes_what_had_arrived_before_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let abstract_name = format!("tributary-test-{}", std::process::id());
    let config = listen_on(&[
        "udp://127.0.0.1:0",
        "tcp://127.0.0.1:0",
        &format!("unixgram://{}", path("gram").display()),
        &format!("unixgram:@{abstract_name}"),
        &format!("unix://{}", path("stream").display()),
        "udp6://[::1]:0",
    ]);
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let listeners = start(&config, basket.intakes(), stop.clone()).unwrap();

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"udp:1|c\n_e{5,1}:event|x\n", at(&listeners, 0))
        .unwrap();
    let udp6 = UdpSocket::bind("[::1]:0").unwrap();
    udp6.send_to(b"udp6:1|c", at(&listeners, 5)).unwrap();
    let gram = UnixDatagram::unbound().unwrap();
    gram.send_to(b"gram:1|c", path("gram")).unwrap();
    let to = UnixAddr::from_abstract_name(&abstract_name).unwrap();
    gram.send_to_addr(b"abstract:1|c", &to).unwrap();
    let mut tcp = TcpStream::connect(at(&listeners, 1)).unwrap();
    tcp.write_all(b"tcp:1|c\ntcp:2|c\nhalf:1").unwrap();
    let mut closing = TcpStream::connect(at(&listeners, 1)).unwrap();
    closing.write_all(b"closing:3|s").unwrap();
    closing.shutdown(Shutdown::Write).unwrap();
    let mut lines = UnixStream::connect(path("stream")).unwrap();
    lines.write_all(b"lines:1|c\n").unwrap();
    let mut packets = UnixStream::connect(path("stream")).unwrap();
    packets
        .write_all(&framed(b"packet:1|c\npacket:2|c"))
        .unwrap();
    packets.write_all(&framed(b"packet:3|c")).unwrap();

    stop.cancel();
    let before = Instant::now();
    listeners.join().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    let expected = [
        "!event",
        "abstract=1",
        "closing=3",
        "gram=1",
        "lines=1",
        "packet=1",
        "packet=2",
        "packet=3",
        "tcp=1",
        "tcp=2",
        "udp6=1",
        "udp=1",
    ];
    assert_eq!(basket.sorted(), expected);
    assert!(!path("gram").exists());
    assert!(!path("stream").exists());
}

#[tokio::test]
async fn several_readers_share_one_port_and_lose_nothing() {
    let mut config = listen_on(&["udp://127.0.0.1:0"]);
    config.num_readers = 3;
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let listeners = start(&config, basket.intakes(), stop.clone()).unwrap();
    assert_eq!(listeners.threads.len(), 3);
    for sender in 0..20 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..50 {
            let line = format!("s{sender}:{number}|c");
            socket.send_to(line.as_bytes(), at(&listeners, 0)).unwrap();
        }
    }
    stop.cancel();
    listeners.join().await;
    assert_eq!(basket.sorted().len(), 1000);
}

#[tokio::test]
async fn bursts_that_come_while_a_reader_pauses_lose_nothing() {
    // So many fit into the smallest buffer that Linux gives by default.
    const BURST: usize = 150;
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let config = listen_on(&["udp://127.0.0.1:0"]);
    let listeners = start(&config, basket.intakes(), stop.clone()).unwrap();
    let drops = listeners.kernel_drops();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let burst = || {
        for number in 0..BURST {
            let line = format!("n{number}:1|c");
            socket.send_to(line.as_bytes(), at(&listeners, 0)).unwrap();
        }
    };
    // One after the other as soon as the one before was read: dense enough for pauses.
    for round in 1..=100 {
        burst();
        eventually(|| basket.0.lock().len() >= round * BURST).await;
    }
    burst();
    stop.cancel();
    listeners.join().await;
    assert_eq!(drops.total(), 0);
    assert_eq!(basket.0.lock().len(), 101 * BURST);
}

/// A reader that cannot keep up: the kernel has to drop.
struct Slow(Arc<AtomicU64>);

impl Intake for Slow {
    fn sample(&mut self, _: &Sample<'_>) -> Result<(), Refused> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    fn event(&mut self, _: Event) {}
}

#[tokio::test]
async fn what_was_sent_was_taken_or_dropped_by_the_kernel_and_that_is_known() {
    const SENT: u64 = 2_000;
    let mut config = listen_on(&["udp://127.0.0.1:0", "udp6://[::1]:0"]);
    config.read_buffer_size_bytes = 4096;
    let taken = Arc::new(AtomicU64::new(0));
    let slow = Arc::clone(&taken);
    let stop = CancellationToken::new();
    let listeners = start(&config, move || Slow(Arc::clone(&slow)), stop.clone()).unwrap();
    let drops = listeners.kernel_drops();
    let send = |place: usize, from: &str| {
        let socket = UdpSocket::bind(from).unwrap();
        for _ in 0..SENT / 4 {
            socket.send_to(b"a:1|c", at(&listeners, place)).unwrap();
        }
    };
    send(0, "127.0.0.1:0");
    send(1, "[::1]:0");
    // While they run it is known soon.
    eventually(|| drops.total() > 0).await;
    let known = drops.total();
    send(0, "127.0.0.1:0");
    send(1, "[::1]:0");
    stop.cancel();
    listeners.join().await;
    assert!(drops.total() > known);
    assert_eq!(taken.load(Ordering::Relaxed) + drops.total(), SENT);
}

#[tokio::test]
async fn listeners_take_samples_while_they_run() {
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let config = listen_on(&["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]);
    let listeners = start(&config, basket.intakes(), stop.clone()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut tcp = TcpStream::connect(at(&listeners, 1)).unwrap();
    for round in 1..=3 {
        udp.send_to(b"udp:1|c", at(&listeners, 0)).unwrap();
        tcp.write_all(b"tcp:1|c\n").unwrap();
        basket.holds(2 * round).await;
    }
    // Dropping stops too: the port is free again.
    let tcp_address = at(&listeners, 1);
    drop(listeners);
    eventually(|| TcpStream::connect(tcp_address).is_err()).await;
}

#[test]
fn a_datagram_over_the_bound_is_dropped_whole_and_counted() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let just_fits = format!("ok:1|c\n{}:1|c", "x".repeat(4096 - 11));
    assert_eq!(just_fits.len(), 4096);
    sender.send(just_fits.as_bytes()).unwrap();
    sender
        .send(format!("lost:1|c\n{}:1|c", "x".repeat(4096 - 12)).as_bytes())
        .unwrap();
    sender.send(&[b'x'; 60_000]).unwrap();
    sender.send(b"").unwrap();
    sender.send(b"\n\n").unwrap();
    sender
        .send(b"bad|c\ngood:1|c\nrefused:1|c\n_sc|refused|0\n_e{1,1}:a|b\nalso bad")
        .unwrap();

    let counted = Counted::default();
    let basket = Basket::default();
    metrics::with_local_recorder(&counted, || {
        let lines = LineReader::new(basket.intakes()(), Protocol::Udp, complaints());
        let reader = DatagramReader::new(receiver.into(), 4096, lines, None, false).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        reader.run(&stop);
    });
    let long = format!("{}=1", "x".repeat(4096 - 11));
    assert_eq!(basket.sorted(), ["!a", "good=1", "ok=1", &long]);
    let expected = [
        ("listen.received_per_protocol_total{dogstatsd-udp}", 8),
        ("packet.error_total{metric,no_colon}", 1),
        ("packet.error_total{metric,no_pipe}", 1),
        ("packet.error_total{metric,series_cap}", 1),
        ("packet.error_total{service_check,series_cap}", 1),
        ("packet.error_total{unknown,toolong}", 2),
    ];
    assert_eq!(
        counted.all(),
        expected.map(|(name, count)| (name.to_owned(), count))
    );
}

/// Serves one TCP listener on this thread while `peers` runs on another; gives what was counted and taken.
fn serve(
    bounds: Bounds,
    peers: impl FnOnce(SocketAddr, &Counted) + Send,
) -> (Arc<Counted>, Basket) {
    let counted = Arc::new(Counted::default());
    let basket = Basket::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let listener = StreamListener {
        listener,
        intakes: basket.intakes(),
        bounds,
        bad_lines: complaints(),
        bad_connections: complaints(),
    };
    std::thread::scope(|scope| {
        let peers = scope.spawn({
            let stop = stop.clone().drop_guard();
            let counted = &counted;
            move || {
                peers(address, counted);
                drop(stop);
            }
        });
        metrics::with_local_recorder(&*counted, || runtime.block_on(listener.run(stop)));
        peers.join().unwrap();
    });
    (counted, basket)
}

#[test]
fn a_bad_line_costs_a_connection_nothing() {
    let (counted, basket) = serve(Bounds::default(), |address, _| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"a:1|c\nnonsense\n\xff\xfe\x00\n\nb:2|g\n")
            .unwrap();
        stream.write_all(&[b'x'; 1 << 20]).unwrap();
        stream.write_all(b"\nc:3|c\nd:4").unwrap();
        stream.write_all(b"5|g\ne:6|c").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(is_closed(&mut stream));
    });
    assert_eq!(basket.sorted(), ["a=1", "b=2", "c=3", "d=45", "e=6"]);
    let expected = [
        ("listen.received_per_protocol_total{dogstatsd-tcp}", 7),
        ("packet.error_total{metric,no_pipe}", 2),
        ("packet.error_total{unknown,toolong}", 1),
        ("tcp.connects{dogstatsd-tcp}", 1),
        ("tcp.disconnects{dogstatsd-tcp,closed}", 1),
    ];
    for (name, count) in expected {
        assert_eq!(counted.of(name), count, "{name}");
    }
}

#[test]
fn a_silent_connection_is_closed_and_its_half_line_counted() {
    let bounds = Bounds {
        idle: Duration::from_millis(30),
        ..Bounds::default()
    };
    let (counted, basket) = serve(bounds, |address, _| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"a:1|c\nb:1|c").unwrap();
        assert!(is_closed(&mut stream));
    });
    assert_eq!(basket.sorted(), ["a=1"]);
    assert_eq!(counted.of("packet.error_total{unknown,cut_short}"), 1);
    assert_eq!(counted.of("tcp.disconnects{dogstatsd-tcp,idle}"), 1);
}

#[test]
fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let bounds = Bounds {
        connections: 2,
        ..Bounds::default()
    };
    let (counted, basket) = serve(bounds, |address, counted| {
        let mut first = TcpStream::connect(address).unwrap();
        let mut second = TcpStream::connect(address).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while counted.of("tcp.connects{dogstatsd-tcp}") < 2 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let mut third = TcpStream::connect(address).unwrap();
        assert!(is_closed(&mut third));
        first.write_all(b"first:1|c\n").unwrap();
        second.write_all(b"second:1|c\n").unwrap();
        drop((first, second));
        while counted.of("tcp.disconnects{dogstatsd-tcp,closed}") < 2 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let mut fourth = TcpStream::connect(address).unwrap();
        fourth.write_all(b"fourth:1|c\n").unwrap();
    });
    assert_eq!(basket.sorted(), ["first=1", "fourth=1", "second=1"]);
    let refused = "listen.connections_refused_total{dogstatsd-tcp,too_many_connections}";
    assert_eq!(counted.of(refused), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_of_four_gibibytes_closes_its_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let config = listen_on(&[&format!("unix://{}", path.display())]);
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let listeners = start(&config, basket.intakes(), stop.clone()).unwrap();
    let mut good = UnixStream::connect(&path).unwrap();
    good.write_all(&framed(b"good:1|c")).unwrap();
    let mut hostile = UnixStream::connect(&path).unwrap();
    hostile.write_all(b"\xff\xff\xff\xffa:1|c\n").unwrap();
    let mut late = UnixStream::connect(&path).unwrap();
    late.write_all(&framed(b"late:1|c")).unwrap();
    late.write_all(b"\x00\x00\x00\x7fa:1|c\n").unwrap();
    let closed =
        tokio::task::spawn_blocking(move || is_closed(&mut hostile) && is_closed(&mut late));
    assert!(closed.await.unwrap());
    good.write_all(&framed(b"good:2|c")).unwrap();
    assert_eq!(basket.holds(3).await, ["good=1", "good=2", "late=1"]);
    stop.cancel();
    listeners.join().await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_leaves_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = format!("udp://{}", taken.local_addr().unwrap());
    let config = listen_on(&[&format!("unixgram://{}", path.display()), &taken]);
    let error = start(
        &config,
        Basket::default().intakes(),
        CancellationToken::new(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken}: ")),
        "{error}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn settings_that_would_take_nothing_are_refused() {
    let refused = |change: fn(&mut StatsdConfig)| {
        let mut config = listen_on(&["udp://127.0.0.1:0"]);
        change(&mut config);
        start(
            &config,
            Basket::default().intakes(),
            CancellationToken::new(),
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        refused(|config| config.num_readers = 0),
        "num_readers must be at least 1"
    );
    assert_eq!(
        refused(|config| config.metric_max_length = 0),
        "metric_max_length must be at least 1"
    );
}

#[test]
fn listening_outside_of_a_runtime_is_an_error() {
    let config = listen_on(&["tcp://127.0.0.1:0"]);
    let error = start(
        &config,
        Basket::default().intakes(),
        CancellationToken::new(),
    )
    .unwrap_err();
    assert!(matches!(error, ListenError::NoRuntime), "{error}");
}

#[tokio::test]
async fn two_processes_worth_of_listeners_cannot_share_a_unix_path() {
    let dir = tempfile::tempdir().unwrap();
    let config = listen_on(&[&format!("unix://{}", dir.path().join("s").display())]);
    let stop = CancellationToken::new();
    let first = start(&config, Basket::default().intakes(), stop.clone()).unwrap();
    let error = start(&config, Basket::default().intakes(), stop.clone()).unwrap_err();
    let ListenError::Open { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    stop.cancel();
    first.join().await;
    start(
        &config,
        Basket::default().intakes(),
        CancellationToken::new(),
    )
    .unwrap();
}
