//! What objects are called.

use jiff::tz::TimeZone;

use crate::point::{Batch, Timestamp};

/// A prefix with places for times and names, and the numbers that make each name another.
#[derive(Debug)]
pub(super) struct Template {
    prefix: String,
    sink: String,
    /// Random for each start: two that write to the same prefix do not overwrite each other's objects.
    start: u32,
    sequence: u64,
}

/// What stands for an empty name.
const NONE: &str = "none";

const PLACES: [&str; 7] = [
    "{year}",
    "{month}",
    "{day}",
    "{hour}",
    "{minute}",
    "{hostname}",
    "{sink}",
];

impl Template {
    /// The error says what is wrong with the prefix.
    pub(super) fn new(prefix: &str, sink: &str) -> Result<Self, String> {
        let mut rest = prefix.to_owned();
        for place in PLACES {
            rest = rest.replace(place, "");
        }
        if rest.contains(['{', '}']) {
            return Err(format!(
                "`{prefix}` has a place that is none of {}",
                PLACES.join(" ")
            ));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            sink: sink.to_owned(),
            start: fastrand::u32(..),
            sequence: 0,
        })
    }

    /// The name of another batch's objects, up to the part: by the time of the newest of its points, or of its events where there is no point.
    pub(super) fn stem(&mut self, batch: &Batch) -> String {
        let points = batch.points.iter().map(|point| point.timestamp);
        let events = batch.events.iter();
        let events = events.map(|event| Timestamp::from_seconds(event.timestamp));
        let newest = points.max().or(events.max()).unwrap_or_default().seconds();
        let time = jiff::Timestamp::from_second(newest).unwrap_or_default();
        let time = time.to_zoned(TimeZone::UTC);
        let name = |text: &str| match text {
            "" => NONE.to_owned(),
            text => text.replace('/', "_"),
        };
        let prefix = self
            .prefix
            .replace("{year}", &format!("{:04}", time.year()))
            .replace("{month}", &format!("{:02}", time.month()))
            .replace("{day}", &format!("{:02}", time.day()))
            .replace("{hour}", &format!("{:02}", time.hour()))
            .replace("{minute}", &format!("{:02}", time.minute()))
            .replace("{hostname}", &name(&batch.hostname))
            .replace("{sink}", &name(&self.sink));
        self.sequence += 1;
        format!("{prefix}{newest}-{:08x}-{:06}", self.start, self.sequence)
    }

    /// The whole name of one of a batch's objects.
    pub(super) fn part(stem: &str, part: usize, ending: &str) -> String {
        match part {
            0 => format!("{stem}.{ending}"),
            _ => format!("{stem}-{part}.{ending}"),
        }
    }
}
