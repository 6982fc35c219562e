//! A batch on its way: what is done, and what is still to be sent.

use std::collections::VecDeque;
use std::ops::Range;

use super::answer::Answer;
use super::body::{Format, LONGEST_SENT, Route};
use super::happened::Events;
use super::post::{Pause, Post};
use crate::point::Batch;
use crate::sink::Amount;

/// What is known of one batch.
#[derive(Debug)]
pub(super) struct Work {
    series: Lane,
    checks: Lane,
    /// Events that are still to be sent, and whether the places are known yet.
    events: Option<VecDeque<usize>>,
    pub(super) written: Amount,
    pub(super) lost: Amount,
    /// What was said of the last one lost.
    pub(super) reason: String,
}

/// The points that go to one path.
#[derive(Debug)]
struct Lane {
    /// The first point that was not looked at yet.
    next: usize,
    /// Places in the batch that are sent before those: the first part first.
    parts: VecDeque<Range<usize>>,
    /// How long a body may be, before compression.
    longest: usize,
    most: usize,
    /// How many times bodies may yet be divided because something in them is wrong.
    divisions: u32,
}

/// A body, and the places of what is in it.
#[derive(Debug)]
struct Part {
    places: Range<usize>,
    points: usize,
    body: Vec<u8>,
    /// The first point's name.
    example: String,
}

/// With them a dozen bad points are found among ten thousand.
const DIVISIONS: u32 = 256;
/// How many points are formatted before other tasks get their turn.
const CHUNK: usize = 1024;
/// Events that are under way at once.
const AT_ONCE: usize = 16;

impl Work {
    /// Nothing is done yet.
    pub(super) fn new(format: &Format) -> Self {
        let lane = |route: Route| Lane {
            next: 0,
            parts: VecDeque::new(),
            longest: route.longest(),
            most: format.most,
            divisions: DIVISIONS,
        };
        Self {
            series: lane(Route::Series),
            checks: lane(Route::Checks),
            events: None,
            written: Amount::default(),
            lost: Amount::default(),
            reason: String::new(),
        }
    }

    /// Sends all points and service checks that are left.
    pub(super) async fn send_points(
        &mut self,
        batch: &Batch,
        format: &Format,
        post: &mut Post,
        events: &Events,
    ) -> Result<(), Pause> {
        for which in [Route::Series, Route::Checks] {
            while let Some(mut part) = self.fill(which, batch, format, events).await {
                let route = which;
                let length = part.body.len();
                let packed = post.pack(route, std::mem::take(&mut part.body)).await;
                let sent = match packed {
                    Ok(packed) if packed.len() > LONGEST_SENT && part.points > 1 => {
                        self.lane(route).shorten(length, packed.len(), part.places);
                        continue;
                    }
                    Ok(packed) => post.send(route, &packed, events).await,
                    Err(pause) => Err(pause),
                };
                match sent {
                    Ok((Answer::Taken(_), _)) => self.written.points += part.points,
                    Ok((Answer::TooLarge, said)) => {
                        self.lane(route).longest = (length / 2).max(1);
                        self.divide(route, part, "too_large", &said, events);
                    }
                    Ok((_, said)) => self.divide(route, part, "refused", &said, events),
                    Err(pause) => {
                        self.lane(route).parts.push_front(part.places);
                        return Err(pause);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends all events that are left.
    pub(super) async fn send_events(
        &mut self,
        batch: &Batch,
        format: &Format,
        post: &mut Post,
        told: &Events,
    ) -> Result<(), Pause> {
        let left = self.events.take();
        let mut left = left.unwrap_or_else(|| (0..batch.events.len()).collect());
        while !left.is_empty() {
            let places: Vec<usize> = left.drain(..left.len().min(AT_ONCE)).collect();
            let mut bodies = Vec::with_capacity(places.len());
            for place in &places {
                let event = batch.events.get(*place);
                let body = event.and_then(|event| format.event(batch, event).ok());
                match post.pack(Route::Events, body.unwrap_or_default()).await {
                    Ok(packed) => bodies.push(packed),
                    Err(pause) => {
                        places
                            .iter()
                            .rev()
                            .for_each(|place| left.push_front(*place));
                        self.events = Some(left);
                        return Err(pause);
                    }
                }
            }
            let answers = post.send_all(Route::Events, &bodies, told).await;
            let mut failed = None;
            for (place, answer) in places.into_iter().zip(answers) {
                match answer {
                    Ok((Answer::Taken(_), _)) => self.written.events += 1,
                    Ok((_, said)) => {
                        let title = batch.events.get(place).map(|event| event.title.as_str());
                        told.refused(
                            Route::Events,
                            1,
                            "refused",
                            title.unwrap_or_default(),
                            &said,
                        );
                        self.lost.events += 1;
                        self.reason = said;
                    }
                    Err(pause) => {
                        left.push_back(place);
                        failed = Some(pause);
                    }
                }
            }
            if let Some(pause) = failed {
                self.events = Some(left);
                return Err(pause);
            }
        }
        self.events = Some(left);
        Ok(())
    }

    fn lane(&mut self, route: Route) -> &mut Lane {
        match route {
            Route::Checks => &mut self.checks,
            Route::Series | Route::Events => &mut self.series,
        }
    }

    /// The next body. `None` when all is done.
    async fn fill(
        &mut self,
        route: Route,
        batch: &Batch,
        format: &Format,
        events: &Events,
    ) -> Option<Part> {
        loop {
            let lane = self.lane(route);
            let places = lane.parts.pop_front().or_else(|| lane.rest(batch))?;
            let (longest, most) = (lane.longest, lane.most);
            let (opening, closing) = route.frame();
            let mut part = Part {
                places: places.start..places.end,
                points: 0,
                body: opening.to_vec(),
                example: String::new(),
            };
            for place in places.clone() {
                if place % CHUNK == CHUNK - 1 {
                    tokio::task::yield_now().await;
                }
                let Some(point) = batch.points.get(place) else {
                    continue;
                };
                if !format.takes(route, point) {
                    continue;
                }
                let before = part.body.len();
                if part.points > 0 {
                    part.body.push(b',');
                } else {
                    part.example = point.name().to_string();
                }
                // Writing into memory cannot fail.
                let written = format.point(&mut part.body, batch, point).is_ok();
                let fits = part.body.len() + closing.len() <= longest && part.points < most;
                if written && (fits || (part.points == 0 && part.body.len() < route.longest())) {
                    part.points += 1;
                    continue;
                }
                part.body.truncate(before);
                if part.points == 0 {
                    // Not even alone.
                    let said = "it is longer than Datadog takes";
                    events.refused(route, 1, "too_large", &part.example, said);
                    self.lost.points += 1;
                    said.clone_into(&mut self.reason);
                    continue;
                }
                part.places.end = place;
                self.lane(route).parts.push_front(place..places.end);
                break;
            }
            if part.points > 0 {
                part.body.extend_from_slice(closing);
                return Some(part);
            }
        }
    }

    /// Halves a body that was refused, or gives its point up where it is alone.
    fn divide(
        &mut self,
        route: Route,
        part: Part,
        cause: &'static str,
        said: &str,
        events: &Events,
    ) {
        let lane = self.lane(route);
        let left = lane.divisions.checked_sub(1);
        let length = part.places.len();
        if let Some(left) = left
            && part.points > 1
            && length > 1
        {
            lane.divisions = left;
            let middle = part.places.start + length / 2;
            lane.parts.push_front(middle..part.places.end);
            lane.parts.push_front(part.places.start..middle);
            return;
        }
        events.refused(route, part.points, cause, &part.example, said);
        self.lost.points += part.points;
        said.clone_into(&mut self.reason);
    }
}

impl Lane {
    fn rest(&mut self, batch: &Batch) -> Option<Range<usize>> {
        let rest = self.next..batch.points.len();
        self.next = batch.points.len();
        (!rest.is_empty()).then_some(rest)
    }

    /// A body was too long once it was compressed: from now on they are shorter, by what is known of how far they compress.
    fn shorten(&mut self, length: usize, compressed: usize, places: Range<usize>) {
        let share = LONGEST_SENT as f64 / compressed.max(1) as f64;
        self.longest = ((length as f64 * share * 0.9) as usize).max(1);
        self.parts.push_front(places);
    }
}
