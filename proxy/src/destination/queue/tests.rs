use super::*;
use crate::receipt::Receipt;

fn queue(bytes: usize) -> Queue {
    let budget = Arc::new(Budget::new(1 << 30));
    Queue::new(Limits::of_queue(bytes), budget, Arc::default())
}

/// Appends stamped metrics that somebody waits for.
fn entrust(queue: &Queue, metrics: &[&[u8]]) -> (Result<u64, NotQueued>, Receipt) {
    let mut receipt = Receipt::new(Instant::now() + Duration::from_secs(60));
    let claim = receipt.claim((0..).take(metrics.len()).collect());
    let size = crate::destination::size_of(metrics.iter().copied());
    (
        queue.append_stamped(size, metrics.iter().copied(), claim),
        receipt,
    )
}

fn append(queue: &Queue, metrics: &[&[u8]]) -> u64 {
    let size = metrics
        .iter()
        .map(|metric| scan::framed_len(metric.len()))
        .sum();
    queue.append(size, metrics.iter().copied()).unwrap()
}

fn take(queue: &Queue, under_way: usize) -> Option<Batch> {
    match queue.next(under_way) {
        Next::Batch(batch) => Some(batch),
        Next::Late(_) | Next::Linger(_) | Next::Empty => None,
    }
}

#[test]
fn what_comes_in_goes_out_in_order_and_is_forgotten_when_done() {
    let queue = queue(1 << 20);
    append(&queue, &[b"one", b"two"]);
    append(&queue, &[b"three"]);
    let batch = take(&queue, 0).unwrap();
    assert_eq!(&batch.list()[..], b"\x0a\x03one\x0a\x03two\x0a\x05three");
    assert_eq!((queue.bytes(), queue.metrics()), (batch.bytes(), 3));
    assert_eq!(queue.budget.used(), batch.bytes());
    queue.done(&batch);
    assert_eq!(
        (queue.bytes(), queue.metrics(), queue.budget.used()),
        (0, 0, 0)
    );
    assert!(matches!(queue.next(0), Next::Empty));
}

#[test]
fn an_open_batch_waits_for_more_only_while_another_is_under_way() {
    let queue = queue(1 << 20);
    append(&queue, &[b"one"]);
    assert!(matches!(queue.next(1), Next::Linger(_)));
    assert!(take(&queue, 0).is_some());
    queue.state.lock().limits.linger = Duration::ZERO;
    append(&queue, &[b"two"]);
    assert!(take(&queue, 1).is_some());
}

#[test]
fn no_batch_exceeds_its_bounds_but_for_a_single_long_metric() {
    let queue = queue(8 * 1000);
    let metric = [7; 300];
    append(&queue, &[&metric[..]; 7]);
    append(&queue, &[&[8; 3000]]);
    append(&queue, &[&metric]);
    let metrics: Vec<u32> = std::iter::from_fn(|| take(&queue, 0))
        .map(|batch| {
            assert!(batch.bytes() <= 1000 || batch.metrics() == 1);
            batch.metrics()
        })
        .collect();
    assert_eq!(metrics, [3, 3, 1, 1, 1]);
}

#[test]
fn over_the_bound_the_oldest_batch_goes_and_the_newest_stay() {
    let queue = queue(8 * 100);
    let mut dropped = 0;
    for i in 0..100_u8 {
        dropped += append(&queue, &[&[i; 40]]);
        assert!(queue.bytes() <= 800);
    }
    assert_eq!(queue.budget.used(), queue.bytes());
    let left: Vec<u8> = std::iter::from_fn(|| take(&queue, 0))
        .flat_map(|batch| {
            let list = batch.list();
            let entries = scan::entries(&list).unwrap();
            entries.map(|metric| metric[0]).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(dropped as usize + left.len(), 100);
    assert_eq!(left, (100 - left.len() as u8..100).collect::<Vec<_>>());
}

#[test]
fn a_metric_that_would_crowd_out_the_others_is_dropped_alone() {
    let queue = queue(1000);
    append(&queue, &[b"one"]);
    assert_eq!(append(&queue, &[&[7; 600], b"two"]), 1);
    assert_eq!(take(&queue, 0).unwrap().metrics(), 2);
}

#[test]
fn what_is_under_way_counts_and_is_never_dropped() {
    let queue = queue(800);
    append(&queue, &[&[1; 90]]);
    let under_way = take(&queue, 0).unwrap();
    let mut dropped = 0;
    for _ in 0..50 {
        dropped += append(&queue, &[&[2; 90]]);
    }
    assert!(dropped >= 42);
    assert!(queue.bytes() <= 800);
    assert!(queue.put_back(under_way).is_none());
    assert_eq!(take(&queue, 0).unwrap().list()[2], 1);
}

#[test]
fn a_queue_that_leaves_gives_out_what_was_not_sent_and_is_retired_when_it_is_idle() {
    let queue = queue(1 << 20);
    append(&queue, &[b"sent"]);
    let under_way = take(&queue, 0).unwrap();
    append(&queue, &[b"queued"]);
    let batches = queue.leave();
    assert_eq!(batches.len(), 1);
    assert_eq!(&batches[0].list()[..], b"\x0a\x06queued");
    assert_eq!(queue.append(3, [&b"x"[..]].into_iter()), Err(Retired));
    queue.retire_if_idle();
    assert!(!queue.is_finished());
    assert_eq!(queue.put_back(under_way).unwrap().metrics(), 1);
    assert_eq!((queue.bytes(), queue.budget.used()), (0, 0));
    queue.retire_if_idle();
    assert!(queue.is_finished() && !queue.rejoin());
    assert_eq!(entrust(&queue, &[b"x"]).0, Err(NotQueued::Retired));
}

#[test]
fn a_queue_that_leaves_still_takes_what_is_stamped_and_can_come_back() {
    let queue = queue(1 << 20);
    let _first = entrust(&queue, &[b"one"]);
    assert!(queue.leave().is_empty());
    let _second = entrust(&queue, &[b"two"]);
    let batch = take(&queue, 0).unwrap();
    assert_eq!(batch.metrics(), 2);
    assert!(queue.put_back(batch).is_none());
    assert!(queue.rejoin());
    append(&queue, &[b"three"]);
    assert_eq!(queue.metrics(), 3);
}

#[tokio::test]
async fn stamped_metrics_travel_apart_and_each_sender_learns_what_became_of_its_own() {
    let queue = queue(8 * 1000);
    let metric = [7; 300];
    let (_, first) = entrust(&queue, &[&metric[..]; 2]);
    append(&queue, &[b"plain"]);
    let (_, second) = entrust(&queue, &[&metric[..]; 3]);
    let mut batches: Vec<_> = std::iter::from_fn(|| take(&queue, 0)).collect();
    let shape: Vec<_> = batches
        .iter()
        .map(|batch| (batch.is_stamped(), batch.metrics()))
        .collect();
    assert_eq!(shape, [(true, 3), (false, 1), (true, 2)]);
    batches[0].acknowledge();
    batches[2].release();
    assert!(first.wait().await.left.is_empty());
    assert_eq!(second.wait().await.left, [1, 2].into_iter().collect());
}

#[test]
fn what_is_stamped_and_does_not_fit_is_not_taken_and_never_crowds_out() {
    let queue = queue(1000);
    let (_, _held) = entrust(&queue, &[&[1; 400]]);
    assert_eq!(
        entrust(&queue, &[&[2; 400], &[2; 400]]).0,
        Err(NotQueued::Full)
    );
    let mut dropped = 0;
    for _ in 0..10 {
        dropped += append(&queue, &[&[3; 200]]);
    }
    assert!(dropped >= 7);
    assert!(queue.bytes() <= 1000);
    assert!(take(&queue, 0).unwrap().is_stamped());
}

#[test]
fn what_nobody_waits_for_any_more_is_not_sent() {
    let queue = queue(1 << 20);
    let mut receipt = Receipt::new(Instant::now());
    let claim = receipt.claim(vec![0]);
    queue
        .append_stamped(3, [&b"x"[..]].into_iter(), claim)
        .unwrap();
    assert!(matches!(queue.next(0), Next::Late(batch) if batch.metrics() == 1));
    assert_eq!((queue.bytes(), queue.metrics()), (0, 0));
}

#[test]
fn a_draining_queue_is_finished_when_nothing_is_left_and_lingers_no_more() {
    let queue = queue(1 << 20);
    append(&queue, &[b"one"]);
    queue.drain();
    assert!(!queue.is_finished());
    let batch = take(&queue, 3).unwrap();
    assert!(!queue.is_finished());
    queue.done(&batch);
    assert!(queue.is_finished());
}

#[test]
fn abandoning_counts_what_is_queued_and_what_is_under_way() {
    let queue = queue(1 << 20);
    append(&queue, &[b"one", b"two"]);
    let _under_way = take(&queue, 0).unwrap();
    append(&queue, &[b"three"]);
    let _waits = entrust(&queue, &[b"four"]);
    let left = Left {
        plain: 3,
        stamped: 1,
    };
    assert_eq!(queue.abandon(), left);
    assert_eq!((queue.bytes(), queue.budget.used()), (0, 0));
}
