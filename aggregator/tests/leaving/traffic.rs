//! DogStatsD that never pauses, every datagram of it to be told apart.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::program::Emitted;

/// Counters with the name `seen` and the tags `sender` and `number`, from several sockets.
pub(crate) struct Traffic {
    going: Arc<AtomicBool>,
    sent: Vec<Arc<AtomicU64>>,
    senders: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Each sender sends about 1000 datagrams a second: far less than what a receive buffer holds while a reader starts.
    pub(crate) fn start(to: SocketAddr, senders: usize) -> Self {
        Self::start_slowly(to, senders, Duration::from_millis(1))
    }

    /// Each sender pauses after each datagram.
    pub(crate) fn start_slowly(to: SocketAddr, senders: usize, pause: Duration) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let sent: Vec<Arc<AtomicU64>> = (0..senders).map(|_| Arc::default()).collect();
        let senders = sent
            .iter()
            .enumerate()
            .map(|(sender, sent)| {
                let (going, sent) = (Arc::clone(&going), Arc::clone(sent));
                std::thread::spawn(move || {
                    while going.load(Ordering::Relaxed) {
                        // Another socket for each stretch: the kernel chooses a receiver by the sender's port.
                        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                        for _ in 0..50 {
                            if !going.load(Ordering::Relaxed) {
                                return;
                            }
                            let number = sent.load(Ordering::SeqCst);
                            let line = format!("seen:1|c|#sender:{sender},number:{number}");
                            socket.send_to(line.as_bytes(), to).expect("sent");
                            sent.store(number + 1, Ordering::SeqCst);
                            std::thread::sleep(pause);
                        }
                    }
                })
            })
            .collect();
        Self {
            going,
            sent,
            senders,
        }
    }

    /// How many datagrams each sender has surely sent by now.
    pub(crate) fn sent(&self) -> Vec<u64> {
        self.sent
            .iter()
            .map(|sent| sent.load(Ordering::SeqCst))
            .collect()
    }

    /// Ends it; how many datagrams each sender sent.
    pub(crate) fn stop(&mut self) -> Vec<u64> {
        self.going.store(false, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("a sender");
        }
        self.sent()
    }
}

/// How often each datagram was counted, by sender and number.
pub(crate) fn counted(points: &[Emitted]) -> BTreeMap<(usize, u64), f64> {
    let mut counted = BTreeMap::new();
    for point in points.iter().filter(|point| point.name == "seen") {
        let tag = |key: &str| {
            let tag = point.tags.iter().find_map(|tag| tag.strip_prefix(key));
            tag.expect("its tag").parse::<u64>().expect("a number")
        };
        *counted
            .entry((tag("sender:") as usize, tag("number:")))
            .or_default() += point.value;
    }
    counted
}

/// The datagrams that were not counted once among those which each sender sent.
pub(crate) fn not_once(points: &[Emitted], sent: &[u64]) -> Vec<(usize, u64)> {
    let counted = counted(points);
    let all = (0..)
        .zip(sent)
        .flat_map(|(sender, sent)| (0..*sent).map(move |number| (sender, number)));
    all.filter(|datagram| counted.get(datagram) != Some(&1.0))
        .collect()
}
