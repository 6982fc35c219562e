//! A batch on its way: which points and events are done, and which are still to be sent.

use std::collections::HashMap;
use std::ops::Range;

use super::answer::Words;
use super::happened::{Cause, Events};
use super::line::LineWriter;
use crate::point::Batch;
use crate::sink::Amount;

/// What is known of one batch. Its points, and behind them its events, are its items: each is in one part, or done.
#[derive(Debug)]
pub(super) struct Work {
    /// What is still to be sent, the next part last.
    parts: Vec<Part>,
    /// How many times the items of one body may yet be divided.
    divisions: u32,
    /// What somebody on the way takes in one body, in bytes.
    limit: usize,
    /// Items before this one were written into a body before.
    seen: usize,
    pub(super) lost: Amount,
    /// Written into no line: they cannot be carried.
    pub(super) skipped: Amount,
    /// What was said of the last ones lost.
    pub(super) reason: String,
}

#[derive(Debug)]
struct Part {
    items: Range<usize>,
    /// It is a piece of a body that was refused.
    divided: bool,
}

/// Lines that are sent together. Its memory is kept from body to body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) text: Vec<u8>,
    lines: Vec<Line>,
    items: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// The first of its items.
    first: usize,
    items: usize,
    /// Where it ends in the text.
    end: usize,
}

/// What work is done with.
pub(super) struct View<'a> {
    pub(super) batch: &'a Batch,
    pub(super) events: &'a Events,
    /// How many items go into one body.
    pub(super) most: usize,
    /// Whether there is a place for events.
    pub(super) takes_events: bool,
}

/// With them some forty bad lines are found among ten thousand without InfluxDB naming any.
const DIVISIONS: u32 = 1024;

impl Work {
    /// Nothing is done yet.
    pub(super) fn new(view: &View<'_>, limit: usize) -> Self {
        let Amount { points, events } = Amount::of(view.batch);
        let carried = if view.takes_events { events } else { 0 };
        Self {
            parts: vec![Part {
                items: 0..points + carried,
                divided: false,
            }],
            divisions: DIVISIONS,
            limit,
            seen: 0,
            lost: Amount::default(),
            skipped: Amount {
                points: 0,
                events: events - carried,
            },
            reason: String::new(),
        }
    }

    /// Writes the next body; false when all is done.
    pub(super) fn fill(
        &mut self,
        view: &View<'_>,
        writer: &mut LineWriter,
        body: &mut Body,
    ) -> bool {
        while let Some(Part { items, divided }) = self.parts.pop() {
            if !divided {
                self.divisions = DIVISIONS;
            }
            body.text.clear();
            body.lines.clear();
            let mut at = items.start;
            let most = items.end.min(items.start + view.most);
            while at < most {
                let before = body.text.len();
                let taken = writer.write(view.batch, at..items.end, &mut body.text);
                let length = body.text.len() - before;
                let line = Line {
                    first: at,
                    items: taken,
                    end: body.text.len(),
                };
                if length == 0 {
                    if at >= self.seen {
                        self.skipped += amount(view.batch, at..at + taken);
                    }
                } else if line.end <= self.limit {
                    body.lines.push(line);
                } else {
                    if before == 0 {
                        let (text, said) =
                            (body.text_of(0..length), "it is longer than body_limit");
                        self.lose(view, line.amount(view.batch), Cause::TooLarge, &text, said);
                    }
                    body.text.truncate(before);
                    if before > 0 {
                        break;
                    }
                }
                at += taken;
            }
            body.items = items.start..at;
            let changed = writer.changed();
            if items.start >= self.seen {
                view.events.changed(changed);
            }
            self.seen = self.seen.max(at);
            if at < items.end {
                self.parts.push(Part {
                    items: at..items.end,
                    divided,
                });
            }
            if !body.lines.is_empty() {
                return true;
            }
        }
        false
    }

    /// Nothing is known about a body: it is sent first next time.
    pub(super) fn put_back(&mut self, body: &Body) {
        self.push(body.items.clone());
    }

    /// InfluxDB has taken a body but for some lines, and says how many or shows them.
    pub(super) fn partial(&mut self, view: &View<'_>, body: &Body, words: &Words) {
        let mut lines = HashMap::with_capacity(body.lines.len());
        let mut start = 0;
        let texts: Vec<String> = (body.lines.iter())
            .map(|line| body.text_of(std::mem::replace(&mut start, line.end)..line.end))
            .collect();
        for (text, line) in texts.iter().zip(&body.lines) {
            lines.insert(text.as_str(), *line);
        }
        let (found, strange) = words.find(&lines);
        let mut lost = Amount::default();
        for line in &found {
            lost += line.amount(view.batch);
        }
        // Which lines these are is not said: they are taken to be like the others.
        let unknown = words.dropped() + strange;
        let all = body.amount(view.batch);
        let share = |items: usize| {
            items
                .saturating_mul(unknown)
                .div_ceil(body.lines.len().max(1))
        };
        let guess = Amount::points(share(all.points));
        let points_only = all.points > 0;
        lost += if points_only {
            guess
        } else {
            Amount {
                points: 0,
                events: share(all.events),
            }
        };
        lost = Amount {
            points: lost.points.min(all.points),
            events: lost.events.min(all.events),
        };
        // A server that says neither has lost something all the same.
        if lost.total() == 0 {
            lost = body
                .lines
                .first()
                .map(|line| line.amount(view.batch))
                .unwrap_or_default();
        }
        let example = found
            .first()
            .map(|line| body.text_at(line))
            .unwrap_or_default();
        self.lose(view, lost, Cause::Partial, &example, &words.0);
    }

    /// A body was refused whole: it is sent in halves, to find what is bad in it.
    pub(super) fn refused(&mut self, view: &View<'_>, body: &Body, words: &Words) {
        // It shows each line, and none is good.
        let hopeless = words.unread() >= body.lines.len();
        self.divide(view, body, hopeless, Cause::Refused, &words.0);
    }

    /// A body was too long for somebody.
    pub(super) fn too_large(&mut self, view: &View<'_>, body: &Body, said: &str) {
        if body.lines.len() > 1 {
            self.limit = self.limit.min(body.text.len() / 2).max(1);
        }
        self.divide(view, body, false, Cause::TooLarge, said);
    }

    fn divide(&mut self, view: &View<'_>, body: &Body, hopeless: bool, cause: Cause, said: &str) {
        let middle = body.lines.get(body.lines.len() / 2).map(|line| line.first);
        match middle {
            Some(middle) if body.lines.len() > 1 && !hopeless && self.divisions > 0 => {
                self.divisions -= 1;
                self.push(middle..body.items.end);
                self.push(body.items.start..middle);
            }
            _ => {
                let example = body.lines.first().map(|line| body.text_at(line));
                let lost = body.amount(view.batch);
                self.lose(view, lost, cause, &example.unwrap_or_default(), said);
            }
        }
    }

    fn push(&mut self, items: Range<usize>) {
        self.parts.push(Part {
            items,
            divided: true,
        });
    }

    fn lose(&mut self, view: &View<'_>, lost: Amount, cause: Cause, example: &str, said: &str) {
        self.lost += lost;
        said.clone_into(&mut self.reason);
        view.events.refused(lost, cause, example, said);
    }
}

impl Body {
    /// All that is in its lines.
    fn amount(&self, batch: &Batch) -> Amount {
        let mut all = Amount::default();
        for line in &self.lines {
            all += line.amount(batch);
        }
        all
    }

    fn text_at(&self, line: &Line) -> String {
        let before = self
            .lines
            .iter()
            .map(|line| line.end)
            .take_while(|end| *end < line.end);
        self.text_of(before.last().unwrap_or(0)..line.end)
    }

    /// A line without its end.
    fn text_of(&self, range: Range<usize>) -> String {
        let text = self.text.get(range).unwrap_or_default();
        String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text)).into_owned()
    }
}

impl Line {
    fn amount(&self, batch: &Batch) -> Amount {
        amount(batch, self.first..self.first + self.items)
    }
}

/// How many points and events these items are.
fn amount(batch: &Batch, items: Range<usize>) -> Amount {
    let points = batch.points.len();
    let of_points = items
        .end
        .min(points)
        .saturating_sub(items.start.min(points));
    Amount {
        points: of_points,
        events: items.len() - of_points,
    }
}

#[cfg(test)]
mod tests;
