//! Datagrams that the kernel dropped because a UDP socket's receive buffer was full: the one loss that happens before we see anything.
//!
//! The kernel counts them for each socket and shows the counts in `/proc/self/net/udp` and `udp6`, where a socket is known by its inode. One
//! task reads them for all sockets once a second, and each reader once more when it has read all that its socket held, just before it
//! closes it. (Ancillary data, `SO_RXQ_OVFL`, would come with the datagram after the drop: late or never at the end of a burst,
//! and at a cost for each datagram.)
//!
//! Unix sockets have no such loss: where the buffer is full the sender waits, or is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::Socket;

use super::events::{DatagramsDropped, DropsUnknown, Protocol};

/// How many datagrams the kernel has dropped since the listeners were started, over all of their sockets.
///
/// Behind the truth by about a second while readers run, and final once [`super::Listeners::join`] has returned. These are datagrams: how many
/// samples each held nobody knows.
#[derive(Debug, Clone, Default)]
pub struct KernelDrops(Arc<AtomicU64>);

impl KernelDrops {
    /// The running total.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often the kernel's counts are read.
const EVERY: Duration = Duration::from_secs(1);

/// The kernel's count for one socket, and how much of it is in the total.
#[derive(Debug)]
pub(super) struct DropWatch {
    inode: u64,
    protocol: Protocol,
    total: KernelDrops,
    /// The kernel's count when it was last read; it starts at 0 with the socket and wraps around.
    seen: Mutex<u32>,
}

impl DropWatch {
    pub(super) fn new(
        socket: &Socket,
        protocol: Protocol,
        total: KernelDrops,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            inode: nix::sys::stat::fstat(socket)?.st_ino,
            protocol,
            total,
            seen: Mutex::new(0),
        }))
    }

    /// Whether both are of one socket.
    pub(super) fn is_of_one_with(&self, other: &Self) -> bool {
        self.inode == other.inode
    }

    fn note(&self, drops: u32) {
        let mut seen = self.seen.lock();
        let count = drops.wrapping_sub(*seen);
        // The reader's last look and the task's may cross: what is a little older must not count as nearly a whole turn.
        if count > u32::MAX / 2 {
            return;
        }
        *seen = drops;
        drop(seen);
        if count > 0 {
            let (protocol, count) = (self.protocol, u64::from(count));
            self.total.0.fetch_add(count, Ordering::Relaxed);
            DatagramsDropped { protocol, count }.emit();
        }
    }
}

/// Looks again and again.
pub(super) async fn watch(watches: Vec<Arc<DropWatch>>) {
    let watches: Arc<[_]> = watches.into();
    loop {
        tokio::time::sleep(EVERY).await;
        let watches = Arc::clone(&watches);
        if let Err(error) = tokio::task::spawn_blocking(move || look(&watches)).await {
            tracing::error!(%error, "looking for dropped datagrams failed");
        }
    }
}

/// Leaves out what the kernel has dropped so far: on a socket that is older than this process.
pub(super) fn pass_over(watch: &DropWatch) {
    for path in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        // Whoever cannot read them is told so by the first look.
        let table = std::fs::read_to_string(path).unwrap_or_default();
        let mut sockets = table.lines().filter_map(socket_line);
        if let Some((_, drops)) = sockets.find(|(inode, _)| *inode == watch.inode) {
            *watch.seen.lock() = drops;
        }
    }
}

/// Reads the kernel's counts of these sockets. Blocks for well under a millisecond as a rule.
pub(super) fn look(watches: &[Arc<DropWatch>]) {
    for path in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        match std::fs::read_to_string(path) {
            Ok(table) => look_in(&table, watches),
            // A system without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => {}
            Err(error) => DropsUnknown { path, error }.emit(),
        }
    }
}

fn look_in(table: &str, watches: &[Arc<DropWatch>]) {
    for (inode, drops) in table.lines().filter_map(socket_line) {
        if let Some(watch) = watches.iter().find(|watch| watch.inode == inode) {
            watch.note(drops);
        }
    }
}

/// The inode and the drops of a line of the table; none of its headline.
fn socket_line(line: &str) -> Option<(u64, u32)> {
    let mut columns = line.split_ascii_whitespace().skip(9);
    let inode = columns.next()?.parse().ok()?;
    let drops = columns.nth(2)?.parse().ok()?;
    Some((inode, drops))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn watch_one(socket: &Socket) -> [Arc<DropWatch>; 1] {
        [DropWatch::new(socket, Protocol::Udp, KernelDrops::default()).unwrap()]
    }

    #[test]
    fn the_drops_of_a_full_socket_are_counted_once_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = Socket::from(UdpSocket::bind(address).unwrap());
            receiver.set_recv_buffer_size(1).unwrap();
            let sender = UdpSocket::bind(address).unwrap();
            sender
                .connect(receiver.local_addr().unwrap().as_socket().unwrap())
                .unwrap();
            let watches = watch_one(&receiver);
            let total = watches[0].total.clone();
            look(&watches);
            assert_eq!(total.total(), 0);
            for _ in 0..100 {
                sender.send(&[0; 1000]).unwrap();
            }
            look(&watches);
            look(&watches);
            receiver.set_nonblocking(true).unwrap();
            let receiver = UdpSocket::from(receiver);
            let kept = std::iter::from_fn(|| receiver.recv(&mut [0; 1000]).ok()).count();
            assert!(kept < 100, "the buffer was meant to be too small");
            assert_eq!(total.total(), 100 - kept as u64);
        }
    }

    #[test]
    fn the_kernels_count_may_wrap_around_and_be_read_out_of_turn() {
        let socket = Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let [watch] = watch_one(&socket);
        *watch.seen.lock() = u32::MAX - 1;
        for (drops, total) in [(3, 5), (2, 5), (3, 5), (10, 12)] {
            watch.note(drops);
            assert_eq!(watch.total.total(), total);
        }
    }

    #[test]
    fn inode_and_drops_stand_at_their_columns() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  467: 0100007F:1FBE 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 44771 2 0000000000000000 17
 9999: cut off";
        let lines: Vec<_> = table.lines().map(socket_line).collect();
        assert_eq!(lines, [None, Some((44_771, 17)), None]);
    }
}
