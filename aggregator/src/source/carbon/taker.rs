//! From lines and pickles to points, with counts kept aside until a batch ends.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tributary_node::allocator;

use memchr::memchr2_iter;
use regex::Regex;

use super::cache::{Allowance, SampleKey, Series, SeriesCache};
use super::event::{Loss, Lost, Received, Way};
use super::line;
use super::naming::Naming;
use super::path::{Path, PathError};
use super::pickle::Unpickler;
use crate::key::Kind;
use crate::point::{Point, PointKind, Timestamp};
use crate::receipt::Receipt;
use crate::sample::{Sample, Value};
use crate::source::listen::{Complaints, shown};
use crate::source::{Intake, Outlets};

/// How many points are handed on at once at most: a large pickle must not become one large batch.
const BATCH: usize = 4096;

/// What all peers of a source share.
pub(super) struct Shared {
    pub(super) outlets: Outlets,
    /// Whether points become samples.
    pub(super) aggregate: bool,
    pub(super) rules: Vec<(Regex, Kind)>,
    pub(super) naming: Naming,
    pub(super) allowance: Arc<Allowance>,
    pub(super) complaints: Arc<Complaints>,
    /// Reads the large frames of all connections, one at a time: what a hostile one takes is taken once.
    pub(super) large: Mutex<Unpickler>,
}

/// From this length on, in bytes, a frame is a large one. Carbon's own have 500 points, about 30 KB.
const LARGE: usize = 64 << 10;

/// What honest frames do not need, in bytes: it goes back to the system at once.
const GREEDY: usize = 4 << 20;

/// Takes what one peer sends, or what comes to the UDP address.
pub(super) struct Taker {
    shared: Arc<Shared>,
    way: Way,
    /// None for UDP, where many speak.
    peer: Option<SocketAddr>,
    cache: SeriesCache,
    /// Where points become samples.
    intake: Option<Box<dyn Intake>>,
    points: Vec<Point>,
    unpickler: Unpickler,
    tally: Tally,
}

/// Counts since they were last published.
#[derive(Default)]
struct Tally {
    read: u64,
    taken: u64,
    /// Few different ones, and mostly none.
    lost: Vec<(Loss, u64)>,
    /// The first loss of the batch, for people.
    example: Option<String>,
    /// All that was lost, published or not.
    all_lost: u64,
    /// Whether the log has an example of this peer.
    told: bool,
}

impl Taker {
    pub(super) fn new(shared: Arc<Shared>, way: Way, peer: Option<SocketAddr>) -> Self {
        Self {
            cache: SeriesCache::new(Arc::clone(&shared.allowance)),
            intake: shared.aggregate.then(|| (shared.outlets.samples)()),
            points: Vec::new(),
            unpickler: Unpickler::default(),
            tally: Tally::default(),
            shared,
            way,
            peer,
        }
    }

    /// A datagram: lines with line feeds, carriage returns or both between.
    pub(super) fn datagram(&mut self, datagram: &[u8]) {
        let mut start = 0;
        for end in memchr2_iter(b'\n', b'\r', datagram) {
            self.line(datagram.get(start..end).unwrap_or_default());
            start = end + 1;
        }
        self.line(datagram.get(start..).unwrap_or_default());
    }

    /// One line without its line feed.
    #[inline]
    pub(super) fn line(&mut self, line: &[u8]) {
        let parsed = match line::parse(line) {
            Ok(None) => return,
            Ok(Some(parsed)) => parsed,
            Err(error) => {
                self.tally.read += 1;
                return self.lose(Loss::line(error.cause()), line);
            }
        };
        self.tally.read += 1;
        if let Err(reason) = self.point(parsed.path, parsed.value, parsed.timestamp, true) {
            self.lose(Loss::line(reason), line);
        }
    }

    /// One pickle without its length.
    pub(super) fn frame(&mut self, frame: &[u8]) {
        if frame.len() > LARGE {
            let shared = Arc::clone(&self.shared);
            let mut unpickler = shared.large.lock();
            self.unpickle(frame, &mut unpickler);
            if unpickler.relax() > GREEDY {
                allocator::give_back();
            }
            return;
        }
        // Out of the way while its items are taken.
        let mut unpickler = std::mem::take(&mut self.unpickler);
        self.unpickle(frame, &mut unpickler);
        unpickler.relax();
        self.unpickler = unpickler;
    }

    fn unpickle(&mut self, frame: &[u8], unpickler: &mut Unpickler) {
        match unpickler.decode(frame) {
            Ok(items) => {
                for item in items {
                    self.tally.read += 1;
                    match item {
                        Ok(item) => {
                            let taken = self.point(item.path, item.value, item.timestamp, false);
                            if let Err(reason) = taken {
                                self.lose(Loss::item(reason), item.path);
                            }
                        }
                        Err(error) => self.lose(Loss::item(error.cause()), frame),
                    }
                }
            }
            Err(error) => self.lose(Loss::frame(error.cause()), frame),
        }
    }

    /// One point as carbon understands it: NaN is nothing, and a time of −1 (after its fraction is cut off) is now. The error is a word for counters.
    #[inline]
    fn point(
        &mut self,
        path: &[u8],
        value: f64,
        timestamp: f64,
        text: bool,
    ) -> Result<(), &'static str> {
        let timestamp = time_of(value, timestamp)?;
        let shared = &self.shared;
        let series = self
            .cache
            .get_or_make(path, |path| shared.series(path, text))
            .map_err(PathError::cause)?;
        match (&mut self.intake, &series.sample) {
            (Some(intake), Some(key)) => {
                let sample = Sample {
                    name: series.base.as_bytes(),
                    kind: key.kind,
                    tags: key.tags.as_deref().map(str::as_bytes),
                    value: Value::Number(value),
                    rate: 1.0,
                };
                intake.sample(&sample).map_err(|refused| refused.cause)?;
            }
            _ => {
                self.points.push(Point {
                    base: series.base,
                    suffix: None,
                    tags: series.tags,
                    kind: PointKind::Gauge,
                    value,
                    timestamp,
                    check: None,
                });
                if self.points.len() >= BATCH {
                    self.pass();
                }
            }
        }
        self.tally.taken += 1;
        Ok(())
    }

    fn pass(&mut self) {
        let next = Vec::with_capacity(self.points.len());
        let points = std::mem::replace(&mut self.points, next);
        self.shared.outlets.points.pass(points, Receipt::default());
    }

    /// Bytes that never became a point.
    #[cold]
    pub(super) fn lose(&mut self, loss: Loss, bytes: &[u8]) {
        let tally = &mut self.tally;
        tally.all_lost += 1;
        match tally.lost.iter_mut().find(|(known, _)| *known == loss) {
            Some((_, count)) => *count += 1,
            None => tally.lost.push((loss, 1)),
        }
        if !tally.told {
            let Loss {
                packet_type,
                reason,
            } = loss;
            tally
                .example
                .get_or_insert_with(|| format!("{packet_type} {reason}: {}", shown(bytes)));
        }
    }

    /// Hands on what was taken since the last call, and publishes the counts.
    pub(super) fn end_batch(&mut self) {
        if !self.points.is_empty() {
            self.pass();
        }
        if let Some(intake) = &mut self.intake {
            intake.end_batch();
        }
        let Tally { read, taken, .. } = &mut self.tally;
        Received {
            way: self.way,
            read: std::mem::take(read),
            taken: std::mem::take(taken),
        }
        .emit();
        if !self.tally.lost.is_empty() {
            self.publish_losses();
        }
    }

    fn publish_losses(&mut self) {
        let mut sum = 0;
        for (loss, count) in self.tally.lost.drain(..) {
            sum += count;
            Lost { loss, count }.emit();
        }
        match (self.tally.example.take(), self.peer) {
            // One connection, one example; but of UDP any number may speak.
            (Some(example), Some(peer)) => {
                self.tally.told = true;
                self.shared
                    .complaints
                    .complain(sum, || format!("{example} from {peer}"));
            }
            (Some(example), None) => self.shared.complaints.complain(sum, || example),
            (None, _) => self.shared.complaints.add(sum),
        }
    }

    /// How much of all that came was not taken.
    pub(super) fn lost(&self) -> u64 {
        self.tally.all_lost
    }
}

/// The time of a point whose value can be stored. The error is a word for counters.
fn time_of(value: f64, timestamp: f64) -> Result<Timestamp, &'static str> {
    if value.is_nan() {
        return Err("nan");
    }
    if value.is_infinite() {
        return Err("infinite");
    }
    if timestamp.trunc() == -1.0 {
        return Ok(Timestamp::now());
    }
    Timestamp::from_seconds_f64(timestamp).ok_or("timestamp")
}

/// The point of one text line without its line feed, by the rules of this source as they are without settings: a gauge. A line of nothing but white space is
/// `None`; the error is a word for counters.
#[cfg(feature = "kafka")]
pub(in crate::source) fn point(line: &[u8]) -> Result<Option<Point>, &'static str> {
    let Some(line) = line::parse(line).map_err(line::LineError::cause)? else {
        return Ok(None);
    };
    let timestamp = time_of(line.value, line.timestamp)?;
    let path = Path::parse(line.path).map_err(PathError::cause)?;
    Ok(Some(Point {
        base: path.name.into(),
        suffix: None,
        tags: path.tags(),
        kind: PointKind::Gauge,
        value: line.value,
        timestamp,
        check: None,
    }))
}

impl Shared {
    #[cold]
    fn series(&self, path: &[u8], text: bool) -> Result<Series, PathError> {
        let path = Path::parse(path)?;
        let name = self.naming.apply(path.name, text)?;
        let sample = self.aggregate.then(|| {
            let rule = self.rules.iter().find(|(regex, _)| regex.is_match(&name));
            Arc::new(SampleKey {
                kind: rule.map_or(Kind::Gauge, |(_, kind)| *kind),
                tags: Some(path.joined_tags()).filter(|tags| !tags.is_empty()),
            })
        });
        Ok(Series {
            base: name.as_ref().into(),
            tags: path.tags(),
            sample,
        })
    }
}
