//! What is known of single series: they are watched from the first question on, and for ten minutes after the last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Serialize;

use crate::key::{Key, Kind, Scope, Tags};
use crate::point::{Batch, Point, PointKind};
use crate::sink::{SinkReport, SinkVerdict, Sinks, unix_millis};
use crate::table::{Interval, Watched};

/// How long a series is watched after it was last asked about.
const WATCHED_FOR: Duration = Duration::from_secs(600);

/// Names with tags that are watched at the same time.
const WATCHES: usize = 64;

/// The longest name with its tags that is watched, in bytes.
const LONGEST: usize = 8192;

const KINDS: [Kind; 6] = [
    Kind::Counter,
    Kind::Gauge,
    Kind::Histogram,
    Kind::Timer,
    Kind::Set,
    Kind::Status,
];
const SCOPES: [Scope; 3] = [Scope::Mixed, Scope::Local, Scope::Global];

/// Which series is meant: name, all tags, and the type if only that is of interest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    name: String,
    kind: Option<Kind>,
    tags: Tags,
}

/// All that are watched.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Vec<Watch>>);

#[derive(Debug)]
struct Watch {
    name: Arc<str>,
    tags: Tags,
    until: Instant,
    /// Flushes since it began.
    flushes: u64,
    /// One for each kind and scope.
    series: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    key: Key,
    last: Option<Series>,
}

/// A series as it was in the last interval that had it.
#[derive(Debug, Clone, Serialize)]
struct Series {
    #[serde(rename = "type")]
    kind: &'static str,
    scope: &'static str,
    /// Of that interval's points, in seconds since the Unix epoch.
    timestamp: i64,
    /// Samples and imports merged in that interval.
    merged: u32,
    /// When the last import came, in milliseconds since the Unix epoch; none where all came as samples.
    last_import: Option<u64>,
    /// How many different agents forwarded it; 4096 at most are told apart.
    origins: usize,
    /// Imports that do not say which agent they come from.
    unstamped: u64,
    /// What went to the sinks.
    points: Vec<Emitted>,
    /// What each sink gets of them.
    sinks: Vec<SinkVerdict>,
}

#[derive(Debug, Clone, Serialize)]
struct Emitted {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    value: f64,
}

/// What `/api/series` answers.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) hostname: Arc<str>,
    /// Flushes since the series is watched; what was before is not known.
    flushes: u64,
    /// For how many seconds it is watched if nobody asks again.
    watched_for: u64,
    /// None that came since then: nothing of it came here, or it has other tags.
    series: Vec<Series>,
    pub(super) sinks: Vec<SinkReport>,
}

impl Question {
    pub(super) fn read(question: &[(String, String)]) -> Result<Self, String> {
        let (mut name, mut kind, mut tags) = ("", None, Vec::new());
        for (key, value) in question {
            match key.as_str() {
                "name" => name = value,
                "type" => {
                    let known = KINDS.into_iter().find(|kind| kind.as_str() == value);
                    kind = Some(known.ok_or_else(|| format!("type {value:?} is not known"))?);
                }
                "tag" => tags.push(value.as_str()),
                other => return Err(format!("{other:?} is not asked for: name, type, tag")),
            }
        }
        if name.is_empty() {
            return Err("name is missing".to_owned());
        }
        if name.len() + tags.iter().map(|tag| tag.len() + 1).sum::<usize>() > LONGEST {
            return Err(format!("name and tags are longer than {LONGEST} bytes"));
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            tags: Tags::sorted(tags),
        })
    }
}

impl Watches {
    /// What is known of a series, which is watched from now on; none if too many are.
    pub(super) fn answer(&self, question: Question, watched: &Watched) -> Option<Answer> {
        let mut watches = self.0.lock();
        let now = Instant::now();
        watches.retain(|watch| watch.until > now);
        let known = watches
            .iter()
            .position(|watch| *watch.name == *question.name && watch.tags == question.tags);
        let place = match known {
            Some(place) => place,
            None if watches.len() == WATCHES => return None,
            None => {
                watches.push(Watch::new(&question.name, &question.tags, now));
                watched.set(hashes(&watches));
                watches.len() - 1
            }
        };
        let watch = watches.get_mut(place)?;
        watch.until = now + WATCHED_FOR;
        let kind = question.kind.map(Kind::as_str);
        Some(Answer {
            hostname: Arc::default(),
            flushes: watch.flushes,
            watched_for: WATCHED_FOR.as_secs(),
            series: watch
                .series
                .iter()
                .filter_map(|seen| seen.last.clone())
                .filter(|series| kind.is_none_or(|kind| kind == series.kind))
                .collect(),
            sinks: Vec::new(),
        })
    }

    /// Finds what is watched in an interval.
    pub(super) fn look(&self, interval: &Interval, watched: &Watched, timestamp: i64) {
        let mut watches = self.0.lock();
        if watches.is_empty() {
            return;
        }
        let (now, before) = (Instant::now(), watches.len());
        watches.retain(|watch| watch.until > now);
        if watches.len() < before {
            watched.set(hashes(&watches));
        }
        for watch in watches.iter_mut() {
            watch.flushes += 1;
            for seen in &mut watch.series {
                let arrivals = watched.take(seen.key.hash64()).unwrap_or_default();
                let Some(series) = interval.find(&seen.key) else {
                    continue;
                };
                seen.last = Some(Series {
                    kind: seen.key.kind().as_str(),
                    scope: scope_name(seen.key.scope()),
                    timestamp,
                    merged: series.merged,
                    last_import: arrivals.last.map(unix_millis),
                    origins: arrivals.origins.len(),
                    unstamped: arrivals.unstamped,
                    points: Vec::new(),
                    sinks: Vec::new(),
                });
            }
        }
    }

    /// Keeps the points of what is watched.
    pub(super) fn keep(&self, batch: &Batch, sinks: &Sinks, timestamp: i64) {
        let names: Vec<_> = {
            let watches = self.0.lock();
            watches
                .iter()
                .map(|watch| Arc::clone(&watch.name))
                .collect()
        };
        if names.is_empty() {
            return;
        }
        // Without the lock, which questions wait for: there may be millions of points.
        let mut by_name: HashMap<Arc<str>, Vec<&Point>> =
            names.into_iter().map(|name| (name, Vec::new())).collect();
        for point in &batch.points {
            if let Some(points) = by_name.get_mut(&point.base) {
                points.push(point);
            }
        }
        for watch in self.0.lock().iter_mut() {
            let points = by_name.get(&watch.name).map_or(&[][..], Vec::as_slice);
            for seen in &mut watch.series {
                let Some(last) = &mut seen.last else { continue };
                if last.timestamp != timestamp {
                    continue;
                }
                let own = points
                    .iter()
                    .filter(|point| point.tags == watch.tags && is_of(point, seen.key.kind()));
                let own: Vec<Point> = own.map(|point| (*point).clone()).collect();
                last.points = own.iter().map(Emitted::of).collect();
                last.sinks = sinks.verdicts(&Arc::new(Batch {
                    points: own.into(),
                    ..Batch::default()
                }));
            }
        }
    }
}

impl Watch {
    fn new(name: &str, tags: &Tags, now: Instant) -> Self {
        let name: Arc<str> = name.into();
        let keys = KINDS.into_iter().flat_map(|kind| {
            let (name, tags) = (Arc::clone(&name), tags.clone());
            SCOPES.map(move |scope| Key::new(Arc::clone(&name), kind, tags.clone(), scope))
        });
        Self {
            series: keys.map(|key| Seen { key, last: None }).collect(),
            name,
            tags: tags.clone(),
            until: now + WATCHED_FOR,
            flushes: 0,
        }
    }
}

impl Emitted {
    fn of(point: &Point) -> Self {
        Self {
            name: point.name().to_string(),
            kind: point.kind.as_str(),
            value: point.value,
        }
    }
}

fn hashes(watches: &[Watch]) -> impl Iterator<Item = u64> {
    let series = watches.iter().flat_map(|watch| &watch.series);
    series.map(|seen| seen.key.hash64())
}

/// Whether a point of the name is one that a series of the kind makes. Types that share a name and tags are told apart as far as that goes.
fn is_of(point: &Point, kind: Kind) -> bool {
    match kind {
        Kind::Counter => point.suffix.is_none() && point.kind == PointKind::Counter,
        Kind::Gauge | Kind::Set => point.suffix.is_none() && point.kind == PointKind::Gauge,
        Kind::Histogram | Kind::Timer => point.suffix.is_some(),
        Kind::Status => point.kind == PointKind::Status,
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Mixed => "mixed",
        Scope::Local => "local",
        Scope::Global => "global",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(pairs: &[(&str, &str)]) -> Result<Question, String> {
        let owned: Vec<_> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Question::read(&owned)
    }

    #[test]
    fn a_question_names_one_series() {
        let asked = question(&[
            ("tag", "b:2"),
            ("name", "a"),
            ("type", "timer"),
            ("tag", "a:1"),
        ]);
        let meant = Question {
            name: "a".to_owned(),
            kind: Some(Kind::Timer),
            tags: Tags::new(["a:1", "b:2"]),
        };
        assert_eq!(asked, Ok(meant));
        assert!(question(&[]).unwrap_err().contains("name"));
        assert!(question(&[("name", "a"), ("type", "x")]).is_err());
        assert!(question(&[("name", "a"), ("tags", "x")]).is_err());
        assert!(question(&[("name", &"a".repeat(LONGEST + 1))]).is_err());
    }

    #[test]
    fn only_so_many_are_watched() {
        let (watches, watched) = (Watches::default(), Watched::default());
        for number in 0..WATCHES {
            let name = format!("n{number}");
            let asked = question(&[("name", &name)]).unwrap();
            assert!(watches.answer(asked, &watched).is_some());
        }
        let more = |name| watches.answer(question(&[("name", name)]).unwrap(), &watched);
        assert!(more("another").is_none());
        assert!(more("n0").is_some());
        for key in &watches.0.lock()[0].series {
            assert!(watched.take(key.key.hash64()).is_some());
        }
    }
}
