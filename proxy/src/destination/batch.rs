//! What travels to a destination in one piece.

use std::time::Instant;

use bytes::Bytes;
use tributary_proto::ack::Unacknowledged;
use tributary_proto::scan;

use super::buffers::Buffers;
use super::queue::Sum;
use crate::receipt::Claim;

/// Length of gRPC's message prefix: a byte for compression and four for the length.
const PREFIX: usize = 5;

/// Undecoded metrics and what waits for them.
#[derive(Debug)]
pub struct Batch {
    load: Load,
    /// Whether every metric carries a stamp, so that a destination which keeps track recognises it if it comes again.
    stamped: bool,
    /// When its first metric came in.
    since: Instant,
    /// Those of stamped metrics, as long as somebody may wait for them.
    claims: Vec<Claim>,
    /// Whether an attempt of before may have been taken.
    uncertain: bool,
}

/// Undecoded metrics as one `forwardrpc.MetricList`, with gRPC's message prefix in front so that it is sent without another copy.
#[derive(Debug, Clone)]
pub(super) struct Load {
    message: Bytes,
    metrics: u32,
}

impl Batch {
    /// What is sent.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// The `MetricList` alone.
    pub fn list(&self) -> Bytes {
        self.load.list()
    }

    /// How many metrics it holds.
    pub fn metrics(&self) -> u32 {
        self.load.metrics
    }

    /// Bytes that it takes in a queue.
    pub(super) fn bytes(&self) -> usize {
        self.load.bytes()
    }

    /// What it takes in a queue.
    pub(super) fn sum(&self) -> Sum {
        Sum {
            bytes: self.bytes(),
            metrics: u64::from(self.metrics()),
        }
    }

    /// Whether every metric carries a stamp.
    pub(crate) fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// When its first metric came in.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether anybody waits to hear that it is merged.
    pub(super) fn is_waited_for(&self) -> bool {
        self.claims.iter().any(Claim::is_waited_for)
    }

    /// It is merged, or repeating it is of no use.
    pub(super) fn acknowledge(&mut self) {
        self.claims.drain(..).for_each(Claim::merged);
    }

    /// It is sent: from now on it may be merged without a word.
    pub(super) fn depart(&mut self) {
        self.set_doubtful(true);
    }

    /// What was sent last was not taken.
    pub(super) fn not_taken(&mut self) {
        self.set_doubtful(self.uncertain);
    }

    /// What was sent last may have been taken.
    pub(super) fn maybe_taken(&mut self) {
        self.uncertain = true;
    }

    fn set_doubtful(&mut self, doubtful: bool) {
        for claim in &mut self.claims {
            claim.set_doubtful(doubtful);
        }
    }

    /// Its destination vouches that the metrics in `left` are not merged there, nor will be, and that all others are: those are acknowledged and go.
    /// Returns how many they are; `None`, and nothing has changed, if `left` does not fit.
    ///
    /// It does not fit either if somebody has ceased to wait, since it cannot be told then which metrics whom belong to.
    pub(super) fn turned_away(&mut self, left: &Unacknowledged) -> Option<u32> {
        let total = self.metrics();
        let claimed: usize = self.claims.iter().map(Claim::metrics).sum();
        let fits = left.ranges().last().is_some_and(|last| last.end <= total);
        if !fits || claimed != total as usize {
            return None;
        }
        self.uncertain = false;
        self.set_doubtful(false);
        if left.positions() == total {
            return Some(0);
        }
        let list = self.list();
        let mut metrics = scan::entries(&list).ok()?;
        let mut claims = std::mem::take(&mut self.claims).into_iter();
        let mut claim = claims.next();
        let mut kept = OpenBatch::new(self.stamped);
        let mut at = 0;
        for range in left.ranges().chain(std::iter::once(total..total)) {
            // What lies before it is merged, and it itself is not.
            for (stop, merged) in [(range.start, true), (range.end, false)] {
                while at < stop {
                    let Some(whole) = claim.as_mut() else { break };
                    let piece = whole.split_first((stop - at) as usize);
                    let count = piece.metrics();
                    for metric in metrics.by_ref().take(count) {
                        if !merged {
                            kept.push(metric);
                        }
                    }
                    match merged {
                        true => piece.merged(),
                        false if count > 0 => kept.claim(piece),
                        false => {}
                    }
                    at += count as u32;
                    if whole.metrics() == 0 {
                        claim = claims.next();
                    }
                }
            }
        }
        let since = self.since;
        if let Some(kept) = kept.seal() {
            *self = Self { since, ..kept };
        }
        Some(total - left.positions())
    }

    /// Its metrics, each with its claim.
    pub(crate) fn claimed(list: &[u8], claims: Vec<Claim>) -> impl Iterator<Item = (&[u8], Claim)> {
        let single = claims.into_iter().flat_map(|mut claim| {
            std::iter::from_fn(move || (claim.metrics() > 0).then(|| claim.split_first(1)))
        });
        scan::entries(list).into_iter().flatten().zip(single)
    }

    /// The claims, which are the caller's from now on.
    pub(crate) fn take_claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    /// What it was sent as.
    pub(super) fn into_message(self) -> Bytes {
        self.load.message
    }

    /// Whoever waits is told that it is not known to be merged.
    pub(super) fn release(&mut self) {
        self.claims.clear();
    }
}

impl Load {
    /// An empty list, to ask whether anybody answers.
    pub(super) fn nothing() -> Self {
        Self {
            message: Bytes::from_static(&[0; PREFIX]),
            metrics: 0,
        }
    }

    /// The gRPC message: prefix and list.
    pub(super) fn message(&self) -> Bytes {
        self.message.clone()
    }

    /// The `MetricList` alone.
    pub(super) fn list(&self) -> Bytes {
        self.message.slice(PREFIX..)
    }

    /// How many metrics it holds.
    pub(super) fn metrics(&self) -> u32 {
        self.metrics
    }

    fn bytes(&self) -> usize {
        self.message.len()
    }

    /// Its metrics one after the other, each a gRPC message of its own: the body of a stream.
    pub(super) fn stream_body(&self) -> Bytes {
        let list = self.list();
        let mut body = Vec::with_capacity(list.len() + self.metrics as usize * PREFIX);
        // We framed the list ourselves.
        for metric in scan::entries(&list).into_iter().flatten() {
            body.extend_from_slice(&prefix(metric.len()));
            body.extend_from_slice(metric);
        }
        body.into()
    }
}

/// A batch that still grows. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct OpenBatch {
    message: Vec<u8>,
    metrics: u32,
    since: Instant,
    stamped: bool,
    claims: Vec<Claim>,
}

impl OpenBatch {
    /// For stamped metrics, each with a claim, or for others.
    pub(super) fn new(stamped: bool) -> Self {
        Self {
            message: Vec::new(),
            metrics: 0,
            since: Instant::now(),
            stamped,
            claims: Vec::new(),
        }
    }

    pub(super) fn metrics(&self) -> u32 {
        self.metrics
    }

    /// Bytes so far; 0 while it is empty.
    pub(super) fn bytes(&self) -> usize {
        self.message.len()
    }

    /// When the first metric came in.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Makes room for this many bytes more, in memory of before if it is empty.
    pub(super) fn reserve(&mut self, bytes: usize, buffers: &Buffers) {
        if self.message.capacity() == 0 {
            self.message = buffers.take();
        }
        self.message.reserve(PREFIX + bytes);
    }

    #[inline]
    pub(super) fn push(&mut self, metric: &[u8]) {
        if self.metrics == 0 {
            self.message.resize(PREFIX, 0);
            self.since = Instant::now();
        }
        scan::frame_into(&mut self.message, metric);
        self.metrics += 1;
    }

    /// Somebody waits for what was pushed last.
    pub(super) fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    /// What it holds as a batch, `None` if that is nothing; it is empty afterwards.
    pub(super) fn seal(&mut self) -> Option<Batch> {
        if self.metrics == 0 {
            return None;
        }
        let mut message = std::mem::take(&mut self.message);
        let length = message.len() - PREFIX;
        message
            .iter_mut()
            .zip(prefix(length))
            .for_each(|(to, from)| *to = from);
        Some(Batch {
            load: Load {
                message: message.into(),
                metrics: std::mem::take(&mut self.metrics),
            },
            stamped: self.stamped,
            since: self.since,
            claims: std::mem::take(&mut self.claims),
            uncertain: false,
        })
    }
}

/// gRPC's prefix of an uncompressed message of this length, which a queue's bound keeps below 4 GiB.
fn prefix(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Receipt;

    #[tokio::test]
    async fn of_what_is_turned_away_the_rest_is_acknowledged() {
        let mut open = OpenBatch::new(true);
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        let mut receipts = [Receipt::new(soon), Receipt::new(soon)];
        for (receipt, metrics) in receipts.iter_mut().zip([[b"a", b"b"], [b"c", b"d"]]) {
            metrics.into_iter().for_each(|metric| open.push(metric));
            open.claim(receipt.claim(vec![0, 1]));
        }
        let mut batch = open.seal().unwrap();
        batch.depart();
        assert_eq!(batch.turned_away(&Unacknowledged::all(5)), None);
        // The second of the first sender, and the first of the other one.
        let left: Unacknowledged = [1, 2].into_iter().collect();
        assert_eq!(batch.turned_away(&left), Some(2));
        assert_eq!(batch.metrics(), 2);
        assert_eq!(&batch.list()[..], b"\x0a\x01b\x0a\x01c");
        drop(batch);
        for (receipt, position) in receipts.into_iter().zip([1, 0]) {
            let settled = receipt.wait().await;
            assert_eq!(settled.left, [position].into_iter().collect());
            assert!(settled.turned_away);
        }
    }

    #[test]
    fn a_sealed_batch_is_a_grpc_message_with_its_metrics_in_order() {
        let mut open = OpenBatch::new(false);
        assert!(open.seal().is_none());
        open.push(b"one");
        open.push(b"three");
        let batch = open.seal().unwrap();
        assert_eq!(batch.metrics(), 2);
        assert_eq!(&batch.list()[..], b"\x0a\x03one\x0a\x05three");
        assert_eq!(
            &batch.load().message()[..],
            b"\0\0\0\0\x0c\x0a\x03one\x0a\x05three"
        );
        assert_eq!(
            &batch.load().stream_body()[..],
            b"\0\0\0\0\x03one\0\0\0\0\x05three"
        );
        assert_eq!((open.metrics(), open.bytes()), (0, 0));
    }
}
