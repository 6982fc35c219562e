//! A batch on its way: what is sent of it, and what is left.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::time::Instant;

use xxhash_rust::xxh3::Xxh3;

use super::answer::Cause;
use super::happened::Events;
use super::message::{MetricKind, Said, Version};
use super::totals::Totals;
use crate::point::{Batch, Point};
use crate::prometheus::naming::{Labels, Naming, Role};

/// How points become samples, and the totals of counters.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) naming: Naming,
    /// Whether totals are sent.
    pub(super) monotonic: bool,
    pub(super) totals: Totals,
}

/// What is known of one batch. It was added to the totals once, however often it is sent.
#[derive(Debug)]
pub(super) struct Work {
    /// In order of time.
    samples: Vec<Sample>,
    /// The first that was not looked at yet.
    next: usize,
    /// Samples that are sent before those.
    parts: VecDeque<Range<usize>>,
    /// How many times samples of one request may yet be divided.
    divisions: u32,
    pub(super) written: usize,
    pub(super) lost: usize,
    /// What was said of the last one lost.
    pub(super) reason: String,
}

#[derive(Debug)]
struct Sample {
    from: From,
    value: f64,
    /// In milliseconds.
    at: i64,
    created: i64,
    /// How many points are in it.
    points: usize,
}

/// What a sample is named by.
#[derive(Debug, Clone, Copy)]
enum From {
    /// A point of the batch.
    Point(usize),
    /// A total that the batch did not add to.
    Total(u128),
}

/// How many points are looked at before other tasks get their turn.
const CHUNK: usize = 1024;

/// With them some six bad samples are found among two thousand.
const DIVISIONS: u32 = 64;

impl Maker {
    /// The labels of a point's series, with its name.
    fn labels<'a>(&'a self, point: &'a Point, hostname: &'a str, role: &'a Role) -> Labels<'a> {
        let mut name = String::with_capacity(64);
        self.naming.name(point, role, &mut name);
        match role {
            Role::Sum => name.push_str("_sum"),
            Role::Count => name.push_str("_count"),
            _ => {}
        }
        let mut labels = self.naming.labels(point, hostname, role);
        labels.push(("__name__".into(), name.into()));
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels
    }

    fn role(&self, point: &Point, aggregated: bool) -> Role {
        Role::of(point, aggregated, self.naming.style)
    }

    fn adds_up(&self, role: &Role) -> bool {
        self.monotonic && matches!(role, Role::Counter | Role::Sum | Role::Count)
    }
}

impl Work {
    /// Takes in a batch: counters are added to their totals.
    pub(super) async fn new(batch: &Batch, maker: &mut Maker, events: &Events) -> Self {
        let mut work = Self {
            samples: Vec::with_capacity(batch.points.len()),
            next: 0,
            parts: VecDeque::new(),
            divisions: DIVISIONS,
            written: 0,
            lost: 0,
            reason: String::new(),
        };
        let aggregated = !batch.interval.is_zero();
        let began = Instant::now();
        // Where each series' sample of each time is, and what the series is made of.
        let mut places: HashMap<(u128, i64), (usize, u64)> = HashMap::new();
        for (index, point) in batch.points.iter().enumerate() {
            if index % CHUNK == CHUNK - 1 {
                tokio::task::yield_now().await;
            }
            let role = maker.role(point, aggregated);
            let labels = maker.labels(point, &batch.hostname, &role);
            let series = series(&labels);
            drop(labels);
            let adds_up = maker.adds_up(&role);
            let identity = identity(point);
            match places.entry((series, point.timestamp.millis())) {
                Entry::Occupied(known) => {
                    let (place, of) = *known.get();
                    let Some(sample) = work.samples.get_mut(place) else {
                        continue;
                    };
                    if of != identity {
                        let said = "another series has the same name and labels";
                        work.lose_points(1, Cause::Collision, &point.name(), said, events);
                        continue;
                    }
                    sample.points += 1;
                    sample.value = match role {
                        _ if adds_up => {
                            let total = maker.totals.add_more(series, point.value);
                            total.unwrap_or(sample.value)
                        }
                        Role::Counter | Role::Sum | Role::Count => sample.value + point.value,
                        _ => point.value,
                    };
                }
                Entry::Vacant(free) => {
                    let mut sample = Sample {
                        from: From::Point(index),
                        value: point.value,
                        at: point.timestamp.millis(),
                        created: 0,
                        points: 1,
                    };
                    if adds_up {
                        let hostname = &batch.hostname;
                        let totals = &mut maker.totals;
                        let Some(total) = totals.add(series, point, hostname, aggregated, began)
                        else {
                            let said = "there are too many counters";
                            work.lose_points(1, Cause::MaxSeries, &point.name(), said, events);
                            continue;
                        };
                        sample.value = total.value;
                        sample.at = total.at;
                        sample.created = total.created;
                    }
                    free.insert((work.samples.len(), identity));
                    work.samples.push(sample);
                }
            }
        }
        let newest = batch.points.iter().map(|point| point.timestamp.millis());
        if let (true, true, Some(at)) = (aggregated, maker.monotonic, newest.max()) {
            let still = maker.totals.still(began, at).into_iter();
            let still = still.map(|(series, value, created)| Sample {
                from: From::Total(series),
                value,
                at,
                created,
                points: 0,
            });
            work.samples.extend(still);
        }
        if !work.samples.is_sorted_by_key(|sample| sample.at) {
            work.samples.sort_by_key(|sample| sample.at);
        }
        work
    }

    /// The samples of the next request, up to a number of them.
    pub(super) fn next(&mut self, most: usize) -> Option<Range<usize>> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part);
        }
        let end = self.samples.len().min(self.next.saturating_add(most));
        let part = self.next..end;
        self.next = end;
        self.divisions = DIVISIONS;
        (!part.is_empty()).then_some(part)
    }

    /// A request's body, packed.
    pub(super) fn encode(
        &self,
        part: &Range<usize>,
        version: Version,
        batch: &Batch,
        maker: &Maker,
    ) -> Result<Vec<u8>, snap::Error> {
        let samples = self.samples.get(part.clone()).unwrap_or_default().iter();
        let aggregated = !batch.interval.is_zero();
        let named: Vec<_> = samples
            .filter_map(|sample| {
                let (point, hostname, aggregated) = match sample.from {
                    From::Point(index) => (batch.points.get(index)?, &*batch.hostname, aggregated),
                    From::Total(series) => {
                        let total = maker.totals.get(series)?;
                        (&total.point, &*total.hostname, total.aggregated)
                    }
                };
                let role = maker.role(point, aggregated);
                Some((sample, point, hostname, role))
            })
            .collect();
        let said = named.iter().map(|(sample, point, hostname, role)| Said {
            labels: maker.labels(point, hostname, role),
            value: sample.value,
            at: sample.at,
            created: sample.created,
            kind: MetricKind::of(role, maker.monotonic),
        });
        snap::raw::Encoder::new().compress_vec(&version.encode(said))
    }

    /// Nothing is known about these: they are sent first next time.
    pub(super) fn put_back(&mut self, part: Range<usize>) {
        self.parts.push_front(part);
    }

    /// These are stored.
    pub(super) fn stored(&mut self, part: &Range<usize>) {
        self.written += self.points(part);
    }

    /// Of these a number is stored, and which is not known.
    pub(super) fn stored_some(
        &mut self,
        part: &Range<usize>,
        stored: usize,
        cause: Cause,
        batch: &Batch,
        said: &str,
        events: &Events,
    ) {
        let points = self.points(part);
        let lost = part.len().saturating_sub(stored).min(points);
        self.written += points - lost;
        let example = self.name(part, batch);
        self.lose_points(lost, cause, &example, said, events);
    }

    /// A request with these was refused. If `divide`, they are sent in halves, to find those that are bad.
    pub(super) fn refused(
        &mut self,
        part: Range<usize>,
        divide: bool,
        cause: Cause,
        batch: &Batch,
        said: &str,
        events: &Events,
    ) {
        if divide && part.len() > 1 && self.divisions > 0 {
            self.divisions -= 1;
            let middle = part.start + part.len() / 2;
            self.parts.push_front(middle..part.end);
            self.parts.push_front(part.start..middle);
            return;
        }
        let example = self.name(&part, batch);
        let points = self.points(&part);
        self.lose_points(points, cause, &example, said, events);
    }

    fn points(&self, part: &Range<usize>) -> usize {
        let samples = self.samples.get(part.clone()).unwrap_or_default();
        samples.iter().map(|sample| sample.points).sum()
    }

    /// The name of the first of these.
    fn name(&self, part: &Range<usize>, batch: &Batch) -> String {
        let mut samples = self.samples.get(part.clone()).unwrap_or_default().iter();
        let point = samples.find_map(|sample| match sample.from {
            From::Point(index) => batch.points.get(index),
            From::Total(_) => None,
        });
        point.map_or(String::new(), |point| point.name().to_string())
    }

    fn lose_points(
        &mut self,
        points: usize,
        cause: Cause,
        example: &impl std::fmt::Display,
        said: &str,
        events: &Events,
    ) {
        self.lost += points;
        said.clone_into(&mut self.reason);
        events.refused(points, cause, example, said);
    }
}

/// What a server knows a series by.
fn series(labels: &Labels<'_>) -> u128 {
    let mut hash = Xxh3::new();
    for (key, value) in labels {
        for text in [key, value] {
            hash.update(&text.len().to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.digest128()
}

/// What we know a series by.
fn identity(point: &Point) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(point.base.as_bytes());
    hash.update(point.suffix.as_deref().unwrap_or_default().as_bytes());
    hash.update(&[0xff]);
    hash.update(point.tags.joined().as_bytes());
    hash.digest()
}
