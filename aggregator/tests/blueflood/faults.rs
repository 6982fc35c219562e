//! Blueflood is away, slow, or says nothing about the points.

use std::time::Duration;

use serde_json::json;
use tributary_aggregator::sink::{Gather, SinkError};

use super::mock::{Blueflood, Fault, start, start_at};
use super::{batch, pair, point, points, sink, sink_at, write};

#[tokio::test]
async fn a_batch_goes_out_in_bodies_within_the_limit_and_each_point_once() {
    let (blueflood, mut sink) = pair(json!({"body_limit": 1000})).await;
    assert_eq!(
        write(&mut sink, &batch(points(100))).await,
        (vec![], Ok(100))
    );
    let state = blueflood.state();
    assert_eq!(state.counts(), (100, 0));
    assert!(state.seen.len() >= 10, "{}", state.seen.len());
    for seen in &state.seen {
        assert!(seen.length <= 1000, "{}", seen.length);
        assert_eq!(seen.path, "/v2.0/123/ingest");
        assert_eq!(seen.header("content-length"), seen.length.to_string());
    }
    let full = state.seen.iter().filter(|seen| seen.length > 800).count();
    assert!(full >= state.seen.len() - 1, "bodies are filled");
}

#[tokio::test]
async fn a_batch_of_more_than_blueflood_takes_is_several_requests() {
    let (blueflood, mut sink) = pair(json!({})).await;
    assert_eq!(
        sink.gather(),
        Gather {
            amount: 10_485,
            time: Duration::ZERO
        }
    );
    let count = 40_000;
    assert_eq!(
        write(&mut sink, &batch(points(count))).await,
        (vec![], Ok(count))
    );
    let state = blueflood.state();
    assert_eq!(state.counts(), (count, 0));
    assert!((3..10).contains(&state.seen.len()), "{}", state.seen.len());
    assert!(state.seen.iter().all(|seen| seen.length <= 1_048_576));
}

#[tokio::test]
async fn what_was_stored_before_a_failure_is_not_sent_again() {
    let (blueflood, mut sink) = pair(json!({"body_limit": 1000})).await;
    // It fails three times in different ways.
    {
        let faults = &mut blueflood.state().faults;
        faults.extend([503, 500, 502].map(Fault::status));
    }
    let batch = batch(points(100));
    let (failures, end) = write(&mut sink, &batch).await;
    assert_eq!((failures.len(), end), (3, Ok(100)));
    assert_eq!(blueflood.state().counts(), (100, 0));

    // In the middle of a batch, twice.
    let (blueflood, mut sink) = pair(json!({"body_limit": 1000})).await;
    let away = || Fault::status(503);
    let faults = [Fault::Right, Fault::Right, away(), Fault::Right, away()];
    blueflood.state().faults.extend(faults);
    let (failures, end) = write(&mut sink, &batch).await;
    assert_eq!((failures.len(), end), (2, Ok(100)));
    let state = blueflood.state();
    assert_eq!(state.counts(), (100, 0));
    assert_eq!(state.statuses()[..6], [200, 200, 503, 200, 503, 200]);
    assert_eq!(state.seen[2].body, state.seen[3].body);
}

#[tokio::test]
async fn a_batch_that_was_pushed_out_leaves_nothing_behind_for_the_next() {
    let (blueflood, mut sink) = pair(json!({"body_limit": 1000})).await;
    let faults = [Fault::Right, Fault::status(503)];
    blueflood.state().faults.extend(faults);
    assert!(sink.write(&batch(points(30))).await.is_err());
    let before = blueflood.state().stored.len();
    assert!((1..30).contains(&before), "part of it is stored");
    // As many points, with other names.
    let other: Vec<_> = (0..30).map(|n| point(&format!("n{n}"), 1.0)).collect();
    assert_eq!(write(&mut sink, &batch(other)).await, (vec![], Ok(30)));
    let state = blueflood.state();
    assert_eq!(state.counts(), (before + 30, 0));
    let others = state
        .stored
        .keys()
        .filter(|(name, _)| name.starts_with('n'));
    assert_eq!(others.count(), 30);
}

#[tokio::test]
async fn retry_after_is_kept_to() {
    let (blueflood, mut sink) = pair(json!({})).await;
    let busy = |after| Fault::Answer(429, after, "slow down".to_owned());
    blueflood.state().faults.extend([busy("1"), busy("100000")]);
    let batch = batch(points(3));
    let mut waits = Vec::new();
    for _ in 0..2 {
        let error = sink.write(&batch).await.unwrap_err();
        assert!(
            error.to_string().ends_with("answered 429: slow down"),
            "{error}"
        );
        let SinkError::Retriable { after, .. } = error else {
            panic!("{error:?}");
        };
        waits.push(after.unwrap());
    }
    assert_eq!(waits, [Duration::from_secs(1), Duration::from_secs(600)]);
    assert_eq!(write(&mut sink, &batch).await, (vec![], Ok(3)));
    assert_eq!(blueflood.state().counts(), (3, 0));
}

#[tokio::test]
async fn waits_grow_while_it_is_away_and_start_anew_afterwards() {
    let (blueflood, mut sink) = pair(json!({"backoff": "1s", "max_backoff": "4s"})).await;
    let batch = batch(points(1));
    let mut waits = Vec::new();
    for _ in 0..5 {
        blueflood.state().faults.push_back(Fault::status(503));
        let Err(SinkError::Retriable { after, .. }) = sink.write(&batch).await else {
            panic!("it was taken");
        };
        waits.push(after.unwrap().as_secs_f64());
    }
    for (wait, full) in waits.iter().zip([1.0, 2.0, 4.0, 4.0, 4.0]) {
        assert!((full / 2.0..=full).contains(wait), "{waits:?}");
    }
    sink.write(&batch).await.unwrap();
    blueflood.state().faults.push_back(Fault::status(503));
    let Err(SinkError::Retriable { after, .. }) = sink.write(&batch).await else {
        panic!("it was taken");
    };
    assert!(after.unwrap() <= Duration::from_secs(1));
}

#[tokio::test]
async fn a_blueflood_that_is_not_there_yet_gets_everything_once_it_is() {
    let address = {
        let taken = start::<Blueflood>().await;
        // Another address, that nobody listens at.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_ne!(port.local_addr().unwrap(), taken.address);
        port.local_addr().unwrap().to_string()
    };
    let mut sink = sink_at(&format!("http://{address}"), json!({}));
    let batch = batch(points(3));
    let error = sink.write(&batch).await.unwrap_err().to_string();
    assert!(
        error.contains("cannot be reached: Connection refused"),
        "{error}"
    );
    let blueflood = start_at::<Blueflood>(&address).await;
    assert_eq!(write(&mut sink, &batch).await, (vec![], Ok(3)));
    assert_eq!(blueflood.state().counts(), (3, 0));
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure_like_others() {
    let (blueflood, mut sink) = pair(json!({"timeout": "300ms"})).await;
    blueflood.state().faults.push_back(Fault::Hang);
    let batch = batch(points(3));
    let error = sink.write(&batch).await.unwrap_err().to_string();
    assert!(error.ends_with("did not answer within 300ms"), "{error}");
    // The machine may be slow enough that others come too late as well.
    let (_, end) = write(&mut sink, &batch).await;
    assert_eq!(end, Ok(3));
    assert_eq!(blueflood.state().stored.len(), 3);
}

#[tokio::test]
async fn a_lost_answer_is_the_one_case_in_which_points_come_twice() {
    let blueflood = start::<Blueflood>().await;
    let mut sink = sink(&blueflood, json!({"body_limit": 1000}));
    blueflood.state().faults.push_back(Fault::Cut);
    let (failures, end) = write(&mut sink, &batch(points(100))).await;
    assert_eq!((failures.len(), end), (1, Ok(100)));
    let state = blueflood.state();
    let first = state.seen.first().unwrap().names().len();
    assert_eq!(
        state.counts(),
        (100 - first, first),
        "the body without an answer, and no other"
    );
}

#[tokio::test]
async fn what_is_no_ingest_api_is_tried_again_until_somebody_corrects_it() {
    for status in [302, 401, 403, 404, 405, 418] {
        let (blueflood, mut sink) = pair(json!({})).await;
        blueflood.state().faults.push_back(Fault::status(status));
        let (failures, end) = write(&mut sink, &batch(points(2))).await;
        assert_eq!((failures.len(), end), (1, Ok(2)), "{status}");
        assert!(
            failures[0]
                .to_string()
                .ends_with(&format!("answered {status}"))
        );
        assert_eq!(blueflood.state().counts(), (2, 0));
    }
}

#[tokio::test]
async fn accepted_is_success() {
    let (blueflood, mut sink) = pair(json!({})).await;
    blueflood.state().faults.push_back(Fault::status(202));
    assert_eq!(write(&mut sink, &batch(points(2))).await, (vec![], Ok(2)));
    assert_eq!(blueflood.state().statuses(), [202]);
}
