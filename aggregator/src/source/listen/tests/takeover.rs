//! One listener after the other on the same port, under traffic that never pauses.

use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use super::*;

/// Sends numbered samples from several sockets, each with a number of its own, until it is told to stop.
struct Traffic {
    going: Arc<AtomicBool>,
    senders: Vec<JoinHandle<u64>>,
}

impl Traffic {
    fn to(address: SocketAddr, senders: u64) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let senders = (0..senders)
            .map(|sender| {
                let going = Arc::clone(&going);
                std::thread::spawn(move || {
                    // A socket for each stretch of numbers: the kernel chooses by the sender's port.
                    let mut number = 0;
                    while going.load(Ordering::Relaxed) {
                        let from = if address.is_ipv4() {
                            "127.0.0.1:0"
                        } else {
                            "[::1]:0"
                        };
                        let socket = UdpSocket::bind(from).unwrap();
                        for _ in 0..20 {
                            let line = format!("s{sender}:{number}|c");
                            socket.send_to(line.as_bytes(), address).unwrap();
                            number += 1;
                            std::thread::sleep(Duration::from_micros(200));
                        }
                    }
                    number
                })
            })
            .collect();
        Self { going, senders }
    }

    /// Everything that was sent, as a basket shows it.
    fn stop(self) -> Vec<String> {
        self.going.store(false, Ordering::Relaxed);
        let mut sent = Vec::new();
        for (sender, thread) in self.senders.into_iter().enumerate() {
            let count = thread.join().unwrap();
            sent.extend((0..count).map(|number| format!("s{sender}={number}")));
        }
        sent.sort_unstable();
        sent
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_listener_takes_over_from_the_first_without_losing_a_datagram() {
    for (address, to) in [
        ("udp://127.0.0.1:0", "127.0.0.1"),
        ("udp4://0.0.0.0:0", "127.0.0.1"),
        ("udp6://[::1]:0", "::1"),
    ] {
        let basket = Basket::default();
        let mut config = listen_on(&[address]);
        config.reuse_port = true;
        config.num_readers = 2;
        let mut stop = CancellationToken::new();
        let mut listeners = start(&config, basket.intakes(), stop.clone()).unwrap();
        config.listen = listeners.addresses().to_vec();
        let port = at(&listeners, 0).port();
        let traffic = Traffic::to(SocketAddr::new(to.parse().unwrap(), port), 3);
        for _ in 0..5 {
            let next_stop = CancellationToken::new();
            let next = start(&config, basket.intakes(), next_stop.clone()).unwrap();
            let before = basket.0.lock().len();
            eventually(|| basket.0.lock().len() > before + 200).await;
            stop.cancel();
            std::mem::replace(&mut listeners, next).join().await;
            stop = next_stop;
        }
        let sent = traffic.stop();
        stop.cancel();
        let dropped = listeners.kernel_drops().total();
        listeners.join().await;
        assert!(sent.len() > 1000);
        assert_eq!((basket.sorted(), dropped), (sent, 0), "{address}");
    }
}

#[test]
fn a_socket_that_was_let_go_keeps_what_it_has_and_gets_nothing_new() {
    for (host, from) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
    ] {
        let open = |port: u16| {
            let address = SocketAddr::new(host.parse().unwrap(), port);
            let kind = socket2::Type::DGRAM;
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), kind, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket
        };
        let old = open(0);
        let port = old.local_addr().unwrap().as_socket().unwrap().port();
        let queued = UdpSocket::from(old.try_clone().unwrap());
        let new = UdpSocket::from(open(port));
        let send_from_many = || {
            for _ in 0..50 {
                let from = SocketAddr::new(from.parse().unwrap(), 0);
                let sender = UdpSocket::bind(from).unwrap();
                sender.send_to(b"a:1|c", (from.ip(), port)).unwrap();
            }
        };
        let count = |socket: &UdpSocket| {
            socket.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| socket.recv(&mut [0; 100]).ok()).count()
        };
        let lines = LineReader::new(Collect(Basket::default()), Protocol::Udp, complaints());
        let reader = DatagramReader::new(old, 4096, lines, None, true).unwrap();
        send_from_many();
        reader.let_go();
        send_from_many();
        let (old, new) = (count(&queued), count(&new));
        assert_eq!(old + new, 100, "{host}");
        assert!(
            (50..100).contains(&new) && old > 0,
            "{host}: {old} and {new}"
        );
        send_from_many();
        assert_eq!(count(&queued), 0, "{host}");
    }
}

#[tokio::test]
async fn without_reuse_port_a_second_listener_is_refused() {
    let basket = Basket::default();
    let stop = CancellationToken::new();
    let first = start(&listen_on(&["udp://127.0.0.1:0"]), basket.intakes(), stop).unwrap();
    let mut config = listen_on(&[]);
    config.listen = first.addresses().to_vec();
    config.reuse_port = true;
    let refused = start(&config, basket.intakes(), CancellationToken::new()).unwrap_err();
    assert!(matches!(refused, ListenError::Open { .. }), "{refused}");
}
