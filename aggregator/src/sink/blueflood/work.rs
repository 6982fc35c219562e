//! A batch on its way: which points are done, and which are still to be sent.

use std::collections::VecDeque;

use super::answer::{Cause, Named, Refusal};
use super::body::{Body, Fit, Format, Limits, time};
use super::happened::Events;
use crate::point::Batch;

/// What is known of one batch's points. Each of them is written, lost, in a part, or from `next` on.
#[derive(Debug)]
pub(super) struct Work {
    /// The time of all points, where their own is not wanted; in milliseconds.
    now: Option<i64>,
    /// The first point that was not looked at yet.
    next: usize,
    /// Points that are sent before those: the last part first.
    parts: VecDeque<Part>,
    /// Points that are sent once everything else is done and some time has passed.
    again: Vec<Part>,
    /// How many times points of one slice of the batch may yet be divided, or sent again without those that were named.
    divisions: u32,
    /// What Blueflood, or a gateway before it, takes in one body.
    limits: Limits,
    pub(super) written: usize,
    pub(super) lost: usize,
    /// What was said of the last one lost.
    pub(super) reason: String,
}

/// Points that go into one body, or several where they do not fit.
#[derive(Debug)]
pub(super) struct Part {
    points: Vec<usize>,
    /// How many times Blueflood has refused these by name.
    tries: u32,
}

/// What a part is looked at with.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) batch: &'a Batch,
    pub(super) format: &'a Format,
    pub(super) events: &'a Events,
    /// How many times points are sent again that were refused by name.
    pub(super) retries: u32,
}

/// Points that are looked at together: they fill a body of Blueflood's own limit.
const SLICE: usize = 16 * 1024;

/// With them some thirty bad points are found among ten thousand without Blueflood naming any.
const DIVISIONS: u32 = 256;

impl Work {
    /// Nothing is done yet.
    pub(super) fn new(body_limit: usize, now: Option<i64>) -> Self {
        Self {
            now,
            next: 0,
            parts: VecDeque::new(),
            again: Vec::new(),
            divisions: DIVISIONS,
            limits: Limits {
                alone: body_limit,
                together: body_limit,
            },
            written: 0,
            lost: 0,
            reason: String::new(),
        }
    }

    /// The next body, and what is in it. `None` when all is done, but for what is sent [again](Self::send_again).
    pub(super) fn fill(&mut self, view: View<'_>) -> Option<(Vec<u8>, Part)> {
        loop {
            let Part { points, tries } = self.parts.pop_front().or_else(|| self.slice(view))?;
            let mut body = Body::default();
            let mut taken = Vec::with_capacity(points.len());
            let mut points = points.into_iter();
            for index in points.by_ref() {
                let Some(point) = view.batch.points.get(index) else {
                    continue;
                };
                match body.push(view.format, point, time(point, self.now), self.limits) {
                    Fit::In => taken.push(index),
                    Fit::Never => {
                        let said = "it is longer than body_limit";
                        self.lose(view, &[index], Cause::TooLarge, said);
                    }
                    Fit::Next => {
                        let points = std::iter::once(index).chain(points).collect();
                        self.parts.push_front(Part { points, tries });
                        break;
                    }
                }
            }
            if !taken.is_empty() {
                let points = taken;
                return Some((body.finish(), Part { points, tries }));
            }
        }
    }

    fn slice(&mut self, view: View<'_>) -> Option<Part> {
        let end = view.batch.points.len().min(self.next + SLICE);
        let points: Vec<usize> = (self.next..end).collect();
        self.next = end;
        self.divisions = DIVISIONS;
        (!points.is_empty()).then_some(Part { points, tries: 0 })
    }

    /// A part is stored.
    pub(super) fn stored(&mut self, part: &Part) {
        self.written += part.points.len();
    }

    /// Nothing is known about a part: it is sent first next time.
    pub(super) fn put_back(&mut self, part: Part) {
        self.parts.push_front(part);
    }

    /// A body of so many bytes was too long for somebody.
    pub(super) fn too_large(&mut self, view: View<'_>, part: Part, length: usize, said: &str) {
        if part.points.len() <= 1 || !self.divide() {
            self.lose(view, &part.points, Cause::TooLarge, said);
            return;
        }
        self.limits.together = length / 2;
        self.parts.push_front(part);
    }

    /// Points of a part were refused. Those `named` are lost or sent again later; the others are stored, or sent again at once. Where none is named,
    /// the part is sent in halves, to find those that are bad.
    pub(super) fn refused(
        &mut self,
        view: View<'_>,
        part: Part,
        rest_stored: bool,
        named: &Named,
        said: &str,
    ) {
        let Part { points, tries } = part;
        let mut name = String::new();
        let mut rest = Vec::new();
        let mut again: Option<(Refusal, Vec<usize>)> = None;
        let before = points.len();
        for index in points {
            let Some(point) = view.batch.points.get(index) else {
                continue;
            };
            view.format.name(point, &mut name);
            match named.find(&name, time(point, self.now)) {
                None => rest.push(index),
                Some(refusal) if refusal.cause.may_pass() && tries < view.retries => {
                    let (_, points) = again.get_or_insert_with(|| (refusal.clone(), Vec::new()));
                    points.push(index);
                }
                Some(refusal) => self.lose(view, &[index], refusal.cause, &refusal.message),
            }
        }
        if let Some((refusal, points)) = again {
            let example = self.name(view, &points);
            view.events.again(points.len(), &example, &refusal);
            let tries = tries + 1;
            self.reason = refusal.message;
            self.again.push(Part { points, tries });
        }
        let none_named = rest.len() == before;
        if none_named {
            self.halve(
                view,
                Part {
                    points: rest,
                    tries,
                },
                said,
            );
        } else if rest_stored {
            self.written += rest.len();
        } else if !rest.is_empty() {
            if self.divide() {
                self.parts.push_front(Part {
                    points: rest,
                    tries,
                });
            } else {
                self.lose(view, &rest, Cause::Unnamed, said);
            }
        }
    }

    fn halve(&mut self, view: View<'_>, part: Part, said: &str) {
        let Part { mut points, tries } = part;
        if points.len() <= 1 || !self.divide() {
            self.lose(view, &points, Cause::Unnamed, said);
            return;
        }
        let second = points.split_off(points.len() / 2);
        self.parts.push_front(Part {
            points: second,
            tries,
        });
        self.parts.push_front(Part { points, tries });
    }

    /// Whether there is another division left.
    fn divide(&mut self) -> bool {
        let left = self.divisions.checked_sub(1);
        self.divisions = left.unwrap_or_default();
        left.is_some()
    }

    /// When everything else is done: takes up what was refused and may pass, to be sent with the next write. How many points those are, and how many times
    /// they were sent; `None` if there are none.
    pub(super) fn send_again(&mut self) -> Option<(usize, u32)> {
        let tries = self.again.iter().map(|part| part.tries).max()?;
        let points = self.again.iter().map(|part| part.points.len()).sum();
        self.divisions = DIVISIONS;
        self.parts.extend(self.again.drain(..));
        Some((points, tries))
    }

    fn lose(&mut self, view: View<'_>, points: &[usize], cause: Cause, said: &str) {
        if points.is_empty() {
            return;
        }
        self.lost += points.len();
        said.clone_into(&mut self.reason);
        let example = self.name(view, points);
        view.events.refused(points.len(), cause, &example, said);
    }

    /// The name of the first of these.
    fn name(&self, view: View<'_>, points: &[usize]) -> String {
        let mut name = String::new();
        let first = points.first();
        if let Some(point) = first.and_then(|first| view.batch.points.get(*first)) {
            view.format.name(point, &mut name);
        }
        name
    }
}

#[cfg(test)]
mod tests;
