//! The runner with sinks that do as the test says. All on one thread, so that the test's recorder sees every counter.

mod replacing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::sample::Event;
use crate::sink::recorder::Counts;

const SOON: Duration = Duration::from_secs(20);

/// What one write answers; without an entry all is written.
type Answer = Result<Amount, SinkError>;

/// A sink that waits for leave, answers by a script, and tells which points it was given.
struct Scripted {
    leave: Arc<Semaphore>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    given: mpsc::UnboundedSender<Vec<String>>,
    closed: Arc<AtomicUsize>,
}

#[async_trait]
impl Sink for Scripted {
    async fn write(&mut self, batch: &Batch) -> Answer {
        self.leave.acquire().await.unwrap().forget();
        let names = batch
            .points
            .iter()
            .map(|point| point.name().to_string())
            .collect();
        let answer = self
            .answers
            .lock()
            .pop_front()
            .unwrap_or(Ok(Amount::of(batch)));
        assert!(answer != Err(panics()), "as the test wants");
        self.given.send(names).unwrap();
        answer
    }

    async fn close(&mut self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The test's hand on a sink.
struct Hand {
    leave: Arc<Semaphore>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    given: mpsc::UnboundedReceiver<Vec<String>>,
    /// How often it was told that nothing more comes.
    closed: Arc<AtomicUsize>,
}

impl Hand {
    async fn next(&mut self) -> Vec<String> {
        timeout(SOON, self.given.recv()).await.unwrap().unwrap()
    }

    /// The next write answers this.
    fn answer(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }
}

/// A sink that may write as often as `leave` says.
fn scripted(config: serde_json::Value, leave: usize) -> (SinkConfig, Box<dyn Sink>, Hand) {
    let config: SinkConfig = serde_json::from_value(config).unwrap();
    let (given, receiver) = mpsc::unbounded_channel();
    let leave = Arc::new(Semaphore::new(leave));
    let answers = Arc::<Mutex<VecDeque<Answer>>>::default();
    let closed = Arc::<AtomicUsize>::default();
    let sink = Scripted {
        leave: Arc::clone(&leave),
        answers: Arc::clone(&answers),
        given,
        closed: Arc::clone(&closed),
    };
    let given = receiver;
    (
        config,
        Box::new(sink),
        Hand {
            leave,
            answers,
            given,
            closed,
        },
    )
}

fn running(sinks: Vec<(SinkConfig, Box<dyn Sink>)>) -> Sinks {
    let start = |(config, sink)| {
        let filter = Filter::compile(&config, "", &mut Vec::new());
        Member::start(&config, filter, sink, None)
    };
    Sinks {
        routing: None,
        members: sinks.into_iter().map(start).collect(),
    }
}

/// One sink `a` that may write without end.
fn one() -> (Sinks, Hand) {
    let (config, sink, hand) = scripted(
        json!({"kind": "debug", "name": "a"}),
        Semaphore::MAX_PERMITS,
    );
    (running(vec![(config, sink)]), hand)
}

fn flush(names: &[&str]) -> Arc<Batch> {
    let point = |name: &&str| Point {
        base: (*name).into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Counter,
        value: 1.0,
        timestamp: Timestamp::from_seconds(1),
        check: None,
    };
    Arc::new(Batch {
        points: names.iter().map(point).collect(),
        ..Batch::default()
    })
}

fn event() -> Event {
    Event {
        title: "deploy".to_owned(),
        text: String::new(),
        timestamp: 1,
        hostname: None,
        aggregation_key: None,
        priority: "normal",
        source_type: None,
        alert_type: "info",
        tags: Vec::new(),
    }
}

fn points(points: usize) -> Amount {
    Amount { points, events: 0 }
}

fn retriable(after: Option<Duration>) -> Answer {
    Err(SinkError::Retriable {
        reason: "not now".to_owned(),
        after,
    })
}

fn fatal(reason: &str, lost: usize) -> Answer {
    Err(SinkError::Fatal {
        reason: reason.to_owned(),
        lost: points(lost),
    })
}

fn panics() -> SinkError {
    fatal("panic", 0).unwrap_err()
}

fn in_good_time() -> Instant {
    Instant::now() + SOON
}

#[tokio::test]
async fn each_sink_gets_every_flush_in_order() {
    let (a, sink_a, mut hand_a) = scripted(
        json!({"kind": "debug", "name": "a"}),
        Semaphore::MAX_PERMITS,
    );
    let (b, sink_b, mut hand_b) = scripted(
        json!({"kind": "debug", "name": "b"}),
        Semaphore::MAX_PERMITS,
    );
    let sinks = running(vec![(a, sink_a), (b, sink_b)]);
    sinks.send(flush(&["x", "y"]));
    sinks.send(flush(&["z"]));
    assert_eq!(sinks.close(in_good_time()).await, []);
    for hand in [&mut hand_a, &mut hand_b] {
        assert_eq!(hand.next().await, ["x", "y"]);
        assert_eq!(hand.next().await, ["z"]);
        assert_eq!(hand.given.recv().await, None);
        assert_eq!(hand.closed.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_sink_that_hangs_does_not_delay_another_and_close_says_what_it_kept() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (slow, sink_slow, _hand) = scripted(json!({"kind": "debug", "name": "slow"}), 0);
    let (fast, sink_fast, mut hand) = scripted(
        json!({"kind": "debug", "name": "fast"}),
        Semaphore::MAX_PERMITS,
    );
    let sinks = running(vec![(slow, sink_slow), (fast, sink_fast)]);
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    sinks.send(flush(&["y", "z"]));
    assert_eq!(hand.next().await, ["y", "z"]);
    let unwritten = sinks
        .close(Instant::now() + Duration::from_millis(50))
        .await;
    let sink = "slow".into();
    assert_eq!(
        unwritten,
        [Unwritten {
            sink,
            amount: points(3)
        }]
    );
    assert_eq!(counts.get("sink.metrics_dropped_total slow shutdown"), 3);
    assert_eq!(counts.get("sink.metrics_dropped_total fast shutdown"), 0);
}

#[tokio::test]
async fn over_the_bound_the_oldest_waiting_flush_is_dropped_and_counted() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (config, sink, mut hand) =
        scripted(json!({"kind": "debug", "name": "a", "queue_points": 3}), 0);
    let sinks = running(vec![(config, sink)]);
    for names in [&["a", "b"][..], &["c"], &["d", "e"]] {
        sinks.send(flush(names));
    }
    assert_eq!(counts.get("sink.metrics_dropped_total a queue_full"), 2);
    // The last flush found the queue full.
    assert_eq!(counts.gauge("sink.queue_fill_ratio a"), 1.0);
    hand.leave.add_permits(2);
    assert_eq!(hand.next().await, ["c"]);
    assert_eq!(hand.next().await, ["d", "e"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(counts.get("sink.metrics_flushed_total a"), 3);
    assert_eq!(counts.get("flushed_metrics a flushed"), 5);
    assert_eq!(counts.get("sink.metric_flush_total_duration_ms a"), 2);
}

#[tokio::test]
async fn a_retriable_batch_is_tried_again_with_the_next_flush_and_before_it() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (sinks, mut hand) = one();
    hand.answer(retriable(None));
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    sinks.send(flush(&["y"]));
    assert_eq!(hand.next().await, ["x"]);
    assert_eq!(hand.next().await, ["y"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(counts.get("sink.write_errors_total a true"), 1);
    assert_eq!(counts.get("sink.metrics_flushed_total a"), 2);
}

#[tokio::test]
async fn an_empty_flush_is_not_written_but_lets_a_failed_batch_try_again() {
    let (sinks, mut hand) = one();
    hand.answer(retriable(None));
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    sinks.send(flush(&[]));
    assert_eq!(hand.next().await, ["x"]);
    sinks.send(flush(&[]));
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(hand.given.recv().await, None);
}

#[tokio::test]
async fn a_sink_that_names_a_time_is_tried_again_without_a_flush() {
    let (sinks, mut hand) = one();
    hand.answer(retriable(Some(Duration::from_millis(1))));
    hand.answer(retriable(Some(Duration::from_millis(1))));
    sinks.send(flush(&["x"]));
    for _ in 0..3 {
        assert_eq!(hand.next().await, ["x"]);
    }
    assert_eq!(sinks.close(in_good_time()).await, []);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_long_rest_is_cut_short() {
    let (sinks, mut hand) = one();
    for _ in 0..3 {
        hand.answer(retriable(Some(Duration::from_secs(3_600))));
    }
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
    for _ in 0..3 {
        assert_eq!(hand.next().await, ["x"]);
    }
}

#[tokio::test]
async fn a_batch_that_failed_is_dropped_when_newer_ones_fill_the_queue() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (config, sink, mut hand) = scripted(
        json!({"kind": "debug", "name": "a", "queue_points": 2}),
        Semaphore::MAX_PERMITS,
    );
    let sinks = running(vec![(config, sink)]);
    hand.answer(retriable(None));
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    sinks.send(flush(&["y", "z"]));
    assert_eq!(hand.next().await, ["y", "z"]);
    assert_eq!(counts.get("sink.metrics_dropped_total a queue_full"), 1);
    assert_eq!(sinks.close(in_good_time()).await, []);
}

#[tokio::test]
async fn a_fatal_error_loses_what_it_says_and_the_next_batch_goes_on() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (sinks, mut hand) = one();
    hand.answer(fatal("refused", 2));
    sinks.send(flush(&["x", "y", "z"]));
    sinks.send(flush(&["next"]));
    assert_eq!(hand.next().await, ["x", "y", "z"]);
    assert_eq!(hand.next().await, ["next"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(counts.get("sink.write_errors_total a false"), 1);
    assert_eq!(counts.get("sink.metrics_dropped_total a write_error"), 2);
    assert_eq!(counts.get("sink.metrics_flushed_total a"), 2);
}

#[tokio::test]
async fn a_panic_in_a_sink_costs_its_batch_only() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (sinks, mut hand) = one();
    hand.answer(Err(panics()));
    sinks.send(flush(&["x"]));
    sinks.send(flush(&["y"]));
    assert_eq!(hand.next().await, ["y"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(counts.get("sink.metrics_dropped_total a write_error"), 1);
}

#[tokio::test]
async fn what_a_sink_cannot_carry_is_counted_as_skipped() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (sinks, hand) = one();
    hand.answer(Ok(points(1)));
    let batch = Batch {
        events: vec![event(), event()],
        ..(*flush(&["x", "y", "z"])).clone()
    };
    sinks.send(Arc::new(batch));
    assert_eq!(sinks.close(in_good_time()).await, []);
    assert_eq!(counts.get("sink.metrics_flushed_total a"), 1);
    assert_eq!(counts.get("sink.metrics_skipped_total a"), 2);
    assert_eq!(counts.get("sink.events_skipped_total a"), 2);
}

#[tokio::test]
async fn closing_tries_once_more_and_gives_up_unless_the_sink_names_a_time() {
    let (sinks, mut hand) = one();
    hand.answer(retriable(None));
    hand.answer(retriable(None));
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    let unwritten = sinks.close(in_good_time()).await;
    assert_eq!(
        unwritten.iter().map(|left| left.amount).collect::<Vec<_>>(),
        [points(1)]
    );
    assert_eq!(hand.next().await, ["x"]);
    assert_eq!(hand.given.recv().await, None);

    let (sinks, mut hand) = one();
    hand.answer(retriable(None));
    hand.answer(retriable(Some(Duration::from_millis(1))));
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
}

#[tokio::test]
async fn verdicts_are_counted_as_veneur_names_them() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (config, sink, _hand) = scripted(
        json!({"kind": "debug", "name": "a", "max_name_length": 3}),
        Semaphore::MAX_PERMITS,
    );
    let mut sinks = running(vec![(config, sink)]);
    let rules: Vec<RoutingRule> = serde_json::from_value(json!([
        {"match": [{"name": {"kind": "exact", "value": "internal"}}], "sinks": {"not_matched": ["a"]}},
    ]))
    .unwrap();
    sinks.routing = Some(Routing::compile(&rules, &["a"], &mut Vec::new()));
    sinks.send(flush(&["one", "three", "internal", "two"]));
    assert_eq!(sinks.close(in_good_time()).await, []);
    for (status, expected) in [
        ("flushed", 2),
        ("skipped", 1),
        ("max_name_length", 1),
        ("max_tags", 0),
    ] {
        assert_eq!(
            counts.get(&format!("flushed_metrics a {status}")),
            expected,
            "{status}"
        );
    }
}

#[tokio::test]
async fn all_problems_of_the_configuration_are_told_at_once() {
    let config: Vec<SinkConfig> = serde_json::from_value(json!([
        {"kind": "debug"},
        {"kind": "debug", "config": {"colour": true}},
        {"kind": "localfile", "name": "", "config": {"path": "/", "format": "xml"}},
        {"kind": "influx", "strip_tags": [{"kind": "regex", "value": "("}]},
    ]))
    .unwrap();
    let rules: Vec<RoutingRule> =
        serde_json::from_value(json!([{"sinks": {"matched": ["debgu"]}}])).unwrap();
    let problems = check(&config, &rules);
    let unknown = registry::find("influx").err().unwrap_or_default();
    let unknown = format!("metric_sinks[3].kind: {unknown}");
    let expected = [
        "metric_sinks[1].name: `debug` is the name of another sink",
        "metric_sinks[1].config.colour: unknown key, there are none here",
        "metric_sinks[2].name: is empty",
        "metric_sinks[2].config.format: unknown variant `xml`, expected `jsonl` or `tsv`",
        &unknown,
        "metric_sinks[3].strip_tags[0].value: `(` is no regular expression: unclosed group",
        "metric_sink_routing[0].sinks.matched: there is no sink `debgu`, did you mean `debug`?",
    ];
    assert_eq!(problems, expected);
    assert_eq!(
        Sinks::start(&config, &rules).unwrap_err(),
        Problems(problems)
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_a_problem_at_the_start() {
    let config = SinkConfig {
        config: json!({"path": "/proc/no-such-file"}),
        ..SinkConfig::new("localfile")
    };
    let Problems(problems) = Sinks::start(&[config], &[]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("metric_sinks[0].config.path: cannot open `/proc/no-such-file`: "),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_report_tells_what_was_written_what_waits_and_what_went_wrong() {
    let (sinks, mut hand) = one();
    let report = || serde_json::to_value(sinks.views()[0].report()).unwrap();
    assert_eq!(report()["last_success"], serde_json::Value::Null);
    hand.answer(fatal("the disk is full", 1));
    sinks.send(flush(&["a", "b"]));
    hand.next().await;
    sinks.send(flush(&["c"]));
    hand.next().await;
    let told = timeout(SOON, async {
        // The batch is in the record a moment after it was given.
        while report()["written"] != 2 {
            tokio::task::yield_now().await;
        }
        report()
    });
    let told = told.await.unwrap();
    assert_eq!(told["dropped"], json!({"write_error": 1}));
    assert_eq!(told["last_error"]["message"], "the disk is full");
    assert!(told["last_success"].as_u64() >= told["last_error"]["at"].as_u64());
    assert_eq!(told["queued"], 0);
}
