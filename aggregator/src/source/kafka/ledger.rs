//! What was read and has no fate yet, and up to where each partition may be committed.
//!
//! Messages are handed on in batches. Of each batch a partition has one run of offsets, which is done once every sink has its points; what may be committed is
//! what stands in front of the first run that is not done. A run that a sink has lost is read again, with all that follows it. What always holds: no offset is
//! committable while one before it is not done, and a fate that comes after its partition was taken away, or set back, changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A topic and the number of a partition.
pub(super) type Place = (Arc<str>, i32);

/// As many runs wait for an earlier one at most: then nothing more is read until that one has its fate.
const MOST_RUNS: usize = 1 << 16;

/// The pause before lost messages are read again; it doubles with each time in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest of those.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The books.
#[derive(Debug)]
pub(super) struct Ledger {
    partitions: HashMap<Place, Partition>,
    /// The last that a partition was given.
    epochs: u64,
    batches: u64,
    open: Vec<Position>,
    out: Out,
    runs: usize,
    /// Partitions that were assigned since somebody asked.
    fresh: Vec<Place>,
    /// How many partitions are set back.
    set_backs: usize,
    bounds: Bounds,
    /// How much may be out now: less than the bound after a sink has lost something, and then ever more again.
    window: usize,
}

/// How much may be without a fate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages, or points if there are more of those.
    pub(super) in_flight: usize,
    /// Bytes of messages of which no points are made yet.
    pub(super) unread_bytes: usize,
}

/// How much is without a fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) messages: usize,
    pub(super) points: usize,
    pub(super) unread_bytes: usize,
}

#[derive(Debug)]
struct Partition {
    /// Changes with each setting back: what was read before does not go with what is read after.
    epoch: u64,
    runs: VecDeque<Run>,
    /// The next offset to read after a restart, once there is one.
    done: Option<i64>,
    /// What of that was asked to be committed.
    sent: Option<i64>,
    set_back: Option<SetBack>,
    /// How many times in a row it was set back.
    setbacks: u32,
}

#[derive(Debug)]
struct Run {
    batch: u64,
    first: i64,
    next: i64,
    done: bool,
}

/// It is to be read again.
#[derive(Debug, Clone, Copy)]
struct SetBack {
    to: i64,
    at: Instant,
}

/// A batch that was handed on.
#[derive(Debug)]
pub(super) struct Ticket {
    batch: u64,
    positions: Vec<Position>,
    messages: usize,
    bytes: usize,
    points: usize,
}

#[derive(Debug)]
struct Position {
    place: Place,
    epoch: u64,
    first: i64,
    next: i64,
    messages: usize,
    bytes: usize,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            partitions: HashMap::new(),
            epochs: 0,
            batches: 0,
            open: Vec::new(),
            out: Out::default(),
            runs: 0,
            fresh: Vec::new(),
            set_backs: 0,
            bounds,
            window: bounds.in_flight,
        }
    }

    /// Partitions are ours.
    pub(super) fn assign(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.epochs += 1;
            let fresh = Partition {
                epoch: self.epochs,
                runs: VecDeque::new(),
                done: None,
                sent: None,
                set_back: None,
                setbacks: 0,
            };
            self.fresh.push(place.clone());
            let before = self.partitions.insert(place, fresh);
            self.forget(before);
        }
    }

    /// Partitions are ours no longer; what is out of them is forgotten.
    pub(super) fn revoke(&mut self, places: &[Place]) {
        for place in places {
            let before = self.partitions.remove(place);
            self.forget(before);
        }
        self.fresh
            .retain(|place| self.partitions.contains_key(place));
    }

    fn forget(&mut self, partition: Option<Partition>) {
        if let Some(partition) = partition {
            self.runs -= partition.runs.len();
            self.set_backs -= usize::from(partition.set_back.is_some());
        }
    }

    /// Notes that a message was read. Whether it is to be handed on: one of a partition that is not ours, or is set back, is not.
    pub(super) fn take(&mut self, place: &Place, offset: i64, bytes: usize) -> bool {
        let Some(partition) = self.partitions.get(place) else {
            return false;
        };
        if partition.set_back.is_some() {
            return false;
        }
        let epoch = partition.epoch;
        self.out.messages += 1;
        self.out.unread_bytes += bytes;
        let known = self
            .open
            .iter_mut()
            .rev()
            .find(|position| position.epoch == epoch);
        match known {
            Some(position) => {
                position.next = offset + 1;
                position.messages += 1;
                position.bytes += bytes;
            }
            None => self.open.push(Position {
                place: place.clone(),
                epoch,
                first: offset,
                next: offset + 1,
                messages: 1,
                bytes,
            }),
        }
        true
    }

    /// Ends the batch; `None` if nothing was taken for it.
    pub(super) fn close_batch(&mut self) -> Option<Ticket> {
        if self.open.is_empty() {
            return None;
        }
        self.batches += 1;
        let positions = std::mem::take(&mut self.open);
        for position in &positions {
            let partition = self.partitions.get_mut(&position.place);
            // If it was set back meanwhile, these are read again.
            if let Some(partition) = partition.filter(|known| known.epoch == position.epoch) {
                partition.runs.push_back(Run {
                    batch: self.batches,
                    first: position.first,
                    next: position.next,
                    done: false,
                });
                self.runs += 1;
            }
        }
        Some(Ticket {
            batch: self.batches,
            messages: positions.iter().map(|position| position.messages).sum(),
            bytes: positions.iter().map(|position| position.bytes).sum(),
            points: 0,
            positions,
        })
    }

    /// The messages of a batch became so many points.
    pub(super) fn read(&mut self, ticket: &mut Ticket, points: usize) {
        self.out.unread_bytes -= std::mem::take(&mut ticket.bytes);
        self.out.points += points;
        ticket.points += points;
    }

    /// So many of a batch's messages and points are done, while others of it wait: these take no room any more, but nothing of the batch is committable.
    pub(super) fn partly(&mut self, ticket: &mut Ticket, messages: usize, points: usize) {
        let (messages, points) = (messages.min(ticket.messages), points.min(ticket.points));
        ticket.messages -= messages;
        ticket.points -= points;
        self.out.messages -= messages;
        self.out.points -= points;
    }

    /// A batch has its fate: all of it is `done`, or something of it is lost and everything from there on is to be read again.
    /// Returns how many messages those are at least.
    pub(super) fn settle(&mut self, ticket: Ticket, done: bool, now: Instant) -> usize {
        self.out.messages -= ticket.messages;
        self.out.points -= ticket.points;
        self.out.unread_bytes -= ticket.bytes;
        self.window = match done {
            true => (self.window + self.window / 16 + 1).min(self.bounds.in_flight),
            false => (self.window / 2).max(1),
        };
        let mut again = 0;
        for position in &ticket.positions {
            let Some(partition) = self.partitions.get_mut(&position.place) else {
                continue;
            };
            let before = partition.runs.len();
            let was_set_back = partition.set_back.is_some();
            if done {
                partition.finish(ticket.batch);
            } else {
                self.epochs += 1;
                let back = partition.set_back(ticket.batch, self.epochs, now);
                again += if back { position.messages } else { 0 };
            }
            self.runs -= before - partition.runs.len();
            self.set_backs += usize::from(partition.set_back.is_some() && !was_set_back);
        }
        again
    }

    /// The offsets that may be committed and were not asked to be yet. They count as asked from here on.
    pub(super) fn committable(&mut self) -> Vec<(Place, i64)> {
        let unsent = self.partitions.iter_mut().filter_map(|(place, partition)| {
            let done = partition.done?;
            (partition.sent != Some(done)).then(|| {
                partition.sent = Some(done);
                (place.clone(), done)
            })
        });
        unsent.collect()
    }

    /// All offsets of partitions that may be committed, whether or not they were asked to be: of the last of those nobody may have told yet that they failed.
    pub(super) fn done(&self, places: &[Place]) -> Vec<(Place, i64)> {
        let known = places.iter().filter_map(|place| {
            let done = self.partitions.get(place)?.done?;
            Some((place.clone(), done))
        });
        known.collect()
    }

    /// A commit failed: it is to be asked for again.
    pub(super) fn not_committed(&mut self, topic: &str, number: i32) {
        let place = (Arc::from(topic), number);
        if let Some(partition) = self.partitions.get_mut(&place) {
            partition.sent = None;
        }
    }

    /// Whether any message of these partitions has no fate yet.
    pub(super) fn waits_for(&self, places: &[Place]) -> bool {
        let mut partitions = places.iter().filter_map(|place| self.partitions.get(place));
        partitions.any(|partition| partition.runs.iter().any(|run| !run.done))
    }

    /// Whether nothing more may be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.filled(self.window)
    }

    /// Whether there is room again, and not for a single message only.
    pub(super) fn has_room(&self) -> bool {
        !self.filled(self.window.div_ceil(2))
    }

    fn filled(&self, window: usize) -> bool {
        self.out.messages.max(self.out.points) >= window
            || self.out.unread_bytes >= self.bounds.unread_bytes
            || self.runs >= MOST_RUNS
    }

    /// How many messages a batch may have.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    pub(super) fn out(&self) -> Out {
        self.out
    }

    /// Whether there is anything to do about a partition: it is new, or set back.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty() || self.set_backs > 0
    }

    /// The partitions that were assigned since the last call.
    pub(super) fn fresh(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.fresh)
    }

    /// How many partitions are ours.
    pub(super) fn assigned(&self) -> usize {
        self.partitions.len()
    }

    /// Partitions that are to be read again, and are not to be read until then.
    pub(super) fn set_back(&self) -> impl Iterator<Item = Place> {
        let partitions = self.partitions.iter();
        partitions.filter_map(|(place, known)| known.set_back.map(|_| place.clone()))
    }

    /// All partitions that are ours.
    pub(super) fn places(&self) -> Vec<Place> {
        self.partitions.keys().cloned().collect()
    }

    /// Partitions whose pause is over, and from where they are to be read again.
    pub(super) fn due(&self, now: Instant) -> Vec<(Place, i64)> {
        let due = self.partitions.iter().filter_map(|(place, partition)| {
            let back = partition.set_back.filter(|back| back.at <= now)?;
            Some((place.clone(), back.to))
        });
        due.collect()
    }

    /// A partition is read again from where it was set back to.
    pub(super) fn resumed(&mut self, place: &Place) {
        if let Some(partition) = self.partitions.get_mut(place) {
            let before = partition.set_back.take();
            self.set_backs -= usize::from(before.is_some());
        }
    }

    /// It could not be set back: the next try comes later.
    pub(super) fn postpone(&mut self, place: &Place, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(place)
            && let Some(back) = &mut partition.set_back
        {
            back.at = now + FIRST_PAUSE;
        }
    }
}

impl Partition {
    fn finish(&mut self, batch: u64) {
        if let Some(place) = self.runs.iter().position(|run| run.batch == batch) {
            if let Some(run) = self.runs.get_mut(place) {
                run.done = true;
            }
            // However long one in front of them takes, those that are done are few.
            self.join(place);
            self.join(place.saturating_sub(1));
        }
        while self.runs.front().is_some_and(|run| run.done)
            && let Some(run) = self.runs.pop_front()
        {
            self.done = Some(run.next);
            self.setbacks = 0;
        }
    }

    /// Makes one run of this one and the next, if both are done.
    fn join(&mut self, place: usize) {
        let is_done = |place| self.runs.get(place).is_some_and(|run: &Run| run.done);
        if is_done(place)
            && is_done(place + 1)
            && let Some(second) = self.runs.remove(place + 1)
            && let Some(first) = self.runs.get_mut(place)
        {
            first.next = second.next;
        }
    }

    /// All from that batch on is as if it had never been read. Whether it was that partition's at all.
    fn set_back(&mut self, batch: u64, epoch: u64, now: Instant) -> bool {
        let runs = &self.runs;
        let lost = runs.iter().position(|run| run.batch == batch);
        let Some((place, to)) =
            lost.and_then(|place| runs.get(place).map(|run| (place, run.first)))
        else {
            return false;
        };
        // Those in front of it are still out, and may yet be done.
        self.runs.truncate(place);
        self.epoch = epoch;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.setbacks.min(6));
        self.setbacks += 1;
        self.set_back = Some(SetBack {
            to,
            at: now + pause.min(LONGEST_PAUSE),
        });
        true
    }
}

#[cfg(test)]
mod tests;
