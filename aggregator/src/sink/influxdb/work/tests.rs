//! Whatever InfluxDB answers, each item is stored or lost, and it comes to an end.

use proptest::prelude::*;

use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::sink::influxdb::answer::{self, Answer};
use crate::sink::influxdb::line::LineFormat;

/// Lines of two fields each.
fn batch(lines: usize) -> Batch {
    let point = |number: usize, suffix: &str| Point {
        base: format!("m{number}").into(),
        suffix: Some(suffix.into()),
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: 1.0,
        timestamp: Timestamp::from_millis(5),
        check: None,
    };
    Batch {
        points: (0..lines)
            .flat_map(|number| [point(number, ".a"), point(number, ".b")])
            .collect(),
        ..Batch::default()
    }
}

fn words(text: &str) -> Words {
    let body = serde_json::json!({"error": text}).to_string();
    let reply = crate::sink::http::Reply {
        status: http::StatusCode::BAD_REQUEST,
        headers: http::HeaderMap::new(),
        body: body.into(),
    };
    match answer::read(&reply).0 {
        Answer::Partial(words) | Answer::Refused(words) => words,
        other => panic!("{other:?}"),
    }
}

struct Rig {
    batch: Batch,
    events: Events,
    most: usize,
}

impl Rig {
    fn new(lines: usize, most: usize) -> Self {
        Self {
            batch: batch(lines),
            events: Events::new("test"),
            most,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            batch: &self.batch,
            events: &self.events,
            most: self.most,
            takes_events: true,
        }
    }

    /// Sends everything to a server that knows of each body what to say; gives the lines stored, and the work.
    fn run(
        &self,
        limit: usize,
        mut server: impl FnMut(&str) -> Said,
    ) -> (Vec<String>, Work, usize) {
        let view = self.view();
        let mut work = Work::new(&view, limit);
        let mut writer = LineWriter::new(LineFormat::default());
        let mut body = Body::default();
        let (mut stored, mut requests) = (Vec::new(), 0);
        while work.fill(&view, &mut writer, &mut body) {
            requests += 1;
            let text = String::from_utf8(body.text.clone()).unwrap();
            assert!(text.len() <= limit);
            let keep = |stored: &mut Vec<String>, good: &dyn Fn(&str) -> bool| {
                stored.extend(text.lines().filter(|line| good(line)).map(str::to_owned));
            };
            match server(&text) {
                Said::Stored => keep(&mut stored, &|_| true),
                Said::Later => work.put_back(&body),
                Said::TooLarge => work.too_large(&view, &body, "413"),
                Said::Refused(said) => work.refused(&view, &body, &words(&said)),
                Said::Partial(said, bad) => {
                    keep(&mut stored, &|line| !bad.iter().any(|bad| bad == line));
                    work.partial(&view, &body, &words(&said));
                }
            }
        }
        (stored, work, requests)
    }
}

#[derive(Debug, Clone)]
enum Said {
    Stored,
    Later,
    TooLarge,
    Refused(String),
    Partial(String, Vec<String>),
}

fn is_bad(line: &str, bad: &[usize]) -> bool {
    bad.iter()
        .any(|number| line.starts_with(&format!("m{number} ")))
}

#[test]
fn a_batch_goes_in_bodies_of_whole_lines() {
    let rig = Rig::new(10, 5);
    let mut sizes = Vec::new();
    let (stored, work, _) = rig.run(10_000, |text| {
        sizes.push(text.lines().count());
        Said::Stored
    });
    assert_eq!(
        sizes,
        [3, 3, 3, 1],
        "two points to a line, and no line is cut"
    );
    assert_eq!((stored.len(), work.lost), (10, Amount::default()));
}

#[test]
fn of_a_partial_write_the_lines_that_are_shown_are_lost_with_all_their_points() {
    let rig = Rig::new(10, 100);
    let (stored, work, requests) = rig.run(10_000, |text| {
        let bad: Vec<String> = text
            .lines()
            .filter(|line| is_bad(line, &[2, 7]))
            .map(str::to_owned)
            .collect();
        let shown: Vec<String> = bad
            .iter()
            .map(|line| format!("unable to parse '{line}': invalid boolean"))
            .collect();
        Said::Partial(
            format!("partial write: {} dropped=0", shown.join("\n")),
            bad,
        )
    });
    assert_eq!((stored.len(), requests), (8, 1), "it is not repeated");
    assert_eq!(
        work.lost,
        Amount {
            points: 4,
            events: 0
        }
    );
}

#[test]
fn of_a_partial_write_that_says_a_number_that_many_lines_are_lost() {
    let rig = Rig::new(10, 100);
    let said = "partial write: field type conflict: input field \"a\" dropped=3";
    let (_, work, _) = rig.run(10_000, |_| Said::Partial(said.to_owned(), Vec::new()));
    assert_eq!(
        work.lost,
        Amount {
            points: 6,
            events: 0
        }
    );
    let (_, work, _) = rig.run(10_000, |_| {
        Said::Partial("partial write: odd dropped=99".to_owned(), Vec::new())
    });
    assert_eq!(
        work.lost,
        Amount {
            points: 20,
            events: 0
        },
        "no more than there were"
    );
    let (_, work, _) = rig.run(10_000, |_| {
        Said::Partial("partial write: odd".to_owned(), Vec::new())
    });
    assert_eq!(
        work.lost,
        Amount {
            points: 2,
            events: 0
        },
        "something is"
    );
}

#[test]
fn a_body_of_nothing_but_unreadable_lines_is_not_divided() {
    let rig = Rig::new(4, 100);
    let (stored, work, requests) = rig.run(10_000, |text| {
        let shown: Vec<String> = text
            .lines()
            .map(|line| format!("unable to parse '{line}': no"))
            .collect();
        Said::Refused(shown.join("\n"))
    });
    assert_eq!((stored.len(), requests), (0, 1));
    assert_eq!(work.lost.points, 8);
}

#[test]
fn a_line_that_is_too_long_for_a_body_is_lost_alone() {
    let mut rig = Rig::new(3, 100);
    rig.batch.points[2].base = "x".repeat(500).into();
    let (stored, work, _) = rig.run(200, |_| Said::Stored);
    assert_eq!(
        stored,
        ["m0 a=1,b=1 5000000", "m1 b=1 5000000", "m2 a=1,b=1 5000000"]
    );
    assert_eq!(work.lost.points, 1);
    assert_eq!(work.reason, "it is longer than body_limit");
}

#[test]
fn a_body_that_is_too_long_for_somebody_goes_in_pieces() {
    let rig = Rig::new(40, 1000);
    let (stored, work, _) = rig.run(10_000, |text| match text.len() > 100 {
        true => Said::TooLarge,
        false => Said::Stored,
    });
    assert_eq!((stored.len(), work.lost.points), (40, 0));
    let (stored, work, _) = rig.run(10_000, |_| Said::TooLarge);
    assert_eq!((stored.len(), work.lost.points), (0, 80));
}

#[test]
fn a_server_that_refuses_everything_is_asked_a_bounded_number_of_times() {
    let rig = Rig::new(5000, 10_000);
    let (_, work, requests) = rig.run(1_000_000, |_| Said::Refused("no".to_owned()));
    assert_eq!(work.lost.points, 10_000);
    assert!(requests <= 2 * DIVISIONS as usize + 1, "{requests}");
}

#[test]
fn points_without_a_name_and_events_without_a_place_are_skipped_once() {
    let mut rig = Rig::new(2, 1);
    rig.batch.points[0].base = "".into();
    rig.batch.points[1].base = "".into();
    let mut first = true;
    let (stored, work, _) = rig.run(1000, |_| match std::mem::take(&mut first) {
        true => Said::Later,
        false => Said::Stored,
    });
    assert_eq!((stored.len(), work.skipped.points), (1, 2));
}

fn said() -> impl Strategy<Value = u8> {
    0..4_u8
}

proptest! {
    #[test]
    fn bad_lines_alone_are_lost_whatever_is_said_before(
        count in 1..60_usize,
        most in 1..50_usize,
        bad in prop::collection::btree_set(0..60_usize, 0..4),
        script in prop::collection::vec(said(), 0..30),
    ) {
        let rig = Rig::new(count, most);
        let bad: Vec<usize> = bad.into_iter().filter(|number| *number < count).collect();
        let mut script = script.into_iter();
        let (stored, work, _) = rig.run(100_000, |text| {
            if script.next() == Some(0) {
                return Said::Later;
            }
            if text.lines().any(|line| is_bad(line, &bad)) {
                return Said::Refused("something is bad".to_owned());
            }
            Said::Stored
        });
        let mut all = stored.clone();
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), stored.len(), "each once");
        prop_assert_eq!(stored.len() , count - bad.len());
        prop_assert_eq!(work.lost.points, 2 * bad.len());
    }
}
