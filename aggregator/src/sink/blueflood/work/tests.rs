//! Whatever Blueflood answers, each point is written or lost once, and it comes to an end.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graphite::naming::{Naming, NamingConfig};
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};

const RETRIES: u32 = 2;

fn batch(points: usize) -> Batch {
    let point = |number| Point {
        base: format!("m{number}").into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: 1.0,
        timestamp: Timestamp::from_millis(5),
        check: None,
    };
    Batch {
        points: (0..points).map(point).collect(),
        ..Batch::default()
    }
}

fn format() -> Format {
    Format {
        naming: Naming::new(&NamingConfig::default()).unwrap(),
        ttl: 1,
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
enum Said {
    Stored,
    Nothing,
    TooLarge,
    /// The first so many points, or none; whether the rest is stored, and whether they may pass.
    Refused(usize, bool, bool),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::Stored),
        Just(Said::Nothing),
        Just(Said::TooLarge),
        (0..4_usize, any::<bool>(), any::<bool>())
            .prop_map(|(named, rest, pass)| Said::Refused(named, rest, pass)),
    ]
}

/// An answer that names the points in those places.
fn naming(places: &[usize], may_pass: bool) -> Named {
    let source = if may_pass { "" } else { "metricName" };
    let error =
        |place| json!({"metricName": format!("m{place}"), "timestamp": 5, "source": source});
    let errors: Vec<_> = places.iter().map(error).collect();
    Named::read(json!({"errors": errors}).to_string().as_bytes())
}

proptest! {
    #[test]
    fn each_point_ends_once(
        count in 1..200_usize,
        limit in 256..2000_usize,
        script in prop::collection::vec(said(), 0..200),
    ) {
        let (batch, format, events) = (batch(count), format(), Events::new("test"));
        let view = View { batch: &batch, format: &format, events: &events, retries: RETRIES };
        let mut work = Work::new(limit, None);
        let mut script = script.into_iter();
        // What may be stored, by the word of the answers.
        let mut stored = vec![0; count];
        loop {
            let Some((body, part)) = work.fill(view) else {
                if work.send_again().is_none() {
                    break;
                }
                continue;
            };
            prop_assert!(body.len() <= limit);
            let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(sent.as_array().unwrap().len(), part.points.len());
            match script.next().unwrap_or(Said::Stored) {
                Said::Stored => {
                    part.points.iter().for_each(|place| stored[*place] += 1);
                    work.stored(&part);
                }
                Said::Nothing => work.put_back(part),
                Said::TooLarge => work.too_large(view, part, body.len(), "413"),
                Said::Refused(named, rest_stored, may_pass) => {
                    let (bad, rest) = part.points.split_at(named.min(part.points.len()));
                    if rest_stored && !bad.is_empty() {
                        rest.iter().for_each(|place| stored[*place] += 1);
                    }
                    let named = naming(bad, may_pass);
                    work.refused(view, part, rest_stored, &named, "no");
                }
            }
        }
        prop_assert_eq!(work.written + work.lost, count);
        prop_assert_eq!(work.written, stored.iter().filter(|times| **times == 1).count());
        prop_assert!(stored.iter().all(|times| *times <= 1));
    }
}

proptest! {
    // A thousand requests each.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_blueflood_that_refuses_everything_is_asked_a_bounded_number_of_times(
        count in 1..400_usize,
        answer in said().prop_filter("it says something", |said| !matches!(said, Said::Stored | Said::Nothing)),
    ) {
        let (batch, format, events) = (batch(count), format(), Events::new("test"));
        let view = View { batch: &batch, format: &format, events: &events, retries: RETRIES };
        let mut work = Work::new(1_000_000, None);
        let mut requests = 0;
        loop {
            let Some((body, part)) = work.fill(view) else {
                if work.send_again().is_none() {
                    break;
                }
                continue;
            };
            requests += 1;
            match answer {
                Said::Refused(named, rest_stored, may_pass) => {
                    let bad = part.points[..named.min(part.points.len())].to_vec();
                    let named = naming(&bad, may_pass);
                    work.refused(view, part, rest_stored, &named, "no");
                }
                _ => work.too_large(view, part, body.len(), "413"),
            }
        }
        prop_assert!(requests <= 4 * DIVISIONS as usize * (RETRIES as usize + 1), "{}", requests);
        prop_assert_eq!(work.written + work.lost, count);
    }
}
