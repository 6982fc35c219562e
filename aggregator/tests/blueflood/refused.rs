//! Blueflood refuses some of the points, and the others get through.

use serde_json::json;

use super::mock::{Fault, millis};
use super::{batch, pair, point, point_at, points, write};

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn named_points_that_break_a_rule_are_lost_and_the_others_stored_once() {
    for all_or_nothing in [false, true] {
        let (blueflood, mut sink) = pair(json!({})).await;
        blueflood.state().all_or_nothing = all_or_nothing;
        let mut given = points(50);
        given.insert(20, point_at("old", 1.0, millis() - 4 * DAY));
        given.insert(30, point_at("ahead", 1.0, millis() + DAY));
        assert_eq!(write(&mut sink, &batch(given)).await, (vec![], Err(2)));
        let state = blueflood.state();
        assert_eq!(state.counts(), (50, 0));
        // A 207 has stored the others; with a 400 they go again, without those two.
        let expected: &[u16] = if all_or_nothing { &[400, 200] } else { &[207] };
        assert_eq!(state.statuses(), expected);
    }
}

#[tokio::test]
async fn none_good_is_no_end_to_what_comes_after() {
    let (blueflood, mut sink) = pair(json!({})).await;
    let old = point_at("old", 1.0, millis() - 4 * DAY);
    assert_eq!(write(&mut sink, &batch(vec![old])).await, (vec![], Err(1)));
    assert_eq!(write(&mut sink, &batch(points(2))).await, (vec![], Ok(2)));
    assert_eq!(blueflood.state().statuses(), [400, 200]);
}

#[tokio::test]
async fn points_that_could_not_be_stored_are_sent_again_alone() {
    let (blueflood, mut sink) = pair(json!({})).await;
    blueflood
        .state()
        .unstorable
        .extend([("m3".to_owned(), 2), ("m5".to_owned(), 1)]);
    let (failures, end) = write(&mut sink, &batch(points(10))).await;
    assert_eq!((failures.len(), end), (2, Ok(10)));
    assert!(
        failures[0]
            .to_string()
            .contains("2 points were refused and are sent again: could not be stored")
    );
    let state = blueflood.state();
    assert_eq!(state.counts(), (10, 0));
    let names: Vec<_> = state.seen.iter().skip(1).map(|seen| seen.names()).collect();
    assert_eq!(names, [vec!["m3", "m5"], vec!["m3"]]);
}

#[tokio::test]
async fn points_that_never_can_be_stored_are_given_up() {
    for (retries, all_or_nothing) in [(0, false), (3, false), (3, true)] {
        let (blueflood, mut sink) = pair(json!({"retries": retries})).await;
        blueflood.state().all_or_nothing = all_or_nothing;
        blueflood
            .state()
            .unstorable
            .insert("m3".to_owned(), usize::MAX);
        let (failures, end) = write(&mut sink, &batch(points(10))).await;
        assert_eq!((failures.len(), end), (retries, Err(1)));
        let state = blueflood.state();
        assert_eq!(state.counts(), (9, 0));
        let tries = state
            .seen
            .iter()
            .filter(|seen| seen.names().contains(&"m3".to_owned()));
        assert_eq!(tries.count(), retries + 1);
    }
}

#[tokio::test]
async fn a_bad_point_that_nobody_names_is_found_by_halves() {
    let (blueflood, mut sink) = pair(json!({})).await;
    {
        let mut state = blueflood.state();
        state.all_or_nothing = true;
        state.wordless = true;
    }
    let mut given = points(1000);
    for place in [3, 500, 501, 999] {
        given[place] = point_at(&format!("old{place}"), 1.0, millis() - 4 * DAY);
    }
    assert_eq!(write(&mut sink, &batch(given)).await, (vec![], Err(4)));
    let state = blueflood.state();
    assert_eq!(state.counts(), (996, 0));
    assert!(state.seen.len() < 80, "{}", state.seen.len());
}

#[tokio::test]
async fn the_search_for_bad_points_ends() {
    let (blueflood, mut sink) = pair(json!({})).await;
    {
        let mut state = blueflood.state();
        state.all_or_nothing = true;
        state.wordless = true;
    }
    // Every second one.
    let mut given = points(5000);
    for place in (0..5000).step_by(2) {
        given[place] = point_at("old", 1.0, millis() - 4 * DAY);
    }
    let good = point("good", 1.0);
    let (failures, end) = write(&mut sink, &batch(given)).await;
    assert!(failures.is_empty());
    let stored = blueflood.state().stored.len();
    assert_eq!(end, Err(5000 - stored));
    assert!(blueflood.state().seen.len() <= 2 * 256 + 1);
    assert_eq!(write(&mut sink, &batch(vec![good])).await, (vec![], Ok(1)));
}

#[tokio::test]
async fn partly_stored_without_a_word_is_cleared_up_by_halves() {
    let (blueflood, mut sink) = pair(json!({})).await;
    blueflood.state().wordless = true;
    let mut given = points(8);
    given[5] = point_at("old", 1.0, millis() - 4 * DAY);
    assert_eq!(write(&mut sink, &batch(given)).await, (vec![], Err(1)));
    // Those beside it were sent more than once: nobody could know.
    assert_eq!(blueflood.state().stored.len(), 7);
}

#[tokio::test]
async fn answers_that_name_other_points_than_ours_are_as_good_as_none() {
    let (blueflood, mut sink) = pair(json!({})).await;
    let errors =
        json!({"errors": [{"metricName": "stranger", "timestamp": 5, "source": "metricName"}]});
    let fault = Fault::Answer(400, "", errors.to_string());
    blueflood.state().faults.push_back(fault);
    assert_eq!(write(&mut sink, &batch(points(10))).await, (vec![], Ok(10)));
    assert_eq!(blueflood.state().counts(), (10, 0));
    assert_eq!(blueflood.state().statuses(), [400, 200, 200]);
}

#[tokio::test]
async fn a_gateway_that_takes_less_gets_less() {
    let (blueflood, mut sink) = pair(json!({"body_limit": 10_000})).await;
    blueflood.state().limit = 3000;
    let mut given = points(200);
    let long = "x".repeat(4000);
    given.insert(77, point(&long, 1.0));
    assert_eq!(write(&mut sink, &batch(given)).await, (vec![], Err(1)));
    let state = blueflood.state();
    assert_eq!(state.counts(), (200, 0));
    assert!(state.statuses().contains(&413));
}

#[tokio::test]
async fn a_point_that_is_longer_than_a_body_is_lost_alone() {
    let (blueflood, mut sink) = pair(json!({"body_limit": 256})).await;
    let mut given = points(4);
    given.insert(2, point(&"x".repeat(300), 1.0));
    assert_eq!(write(&mut sink, &batch(given)).await, (vec![], Err(1)));
    assert_eq!(blueflood.state().counts(), (4, 0));
    assert!(blueflood.state().seen.iter().all(|seen| seen.length <= 256));
}
