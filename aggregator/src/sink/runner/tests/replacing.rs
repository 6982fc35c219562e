//! Sinks whose settings change while they run.

use super::*;

/// Puts a sink that may write without end in the place of the only one.
fn replace_the_only(sinks: &mut Sinks) -> Hand {
    let (config, sink, hand) = scripted(
        json!({"kind": "debug", "name": "a", "queue_points": 3}),
        Semaphore::MAX_PERMITS,
    );
    let filter = Filter::compile(&config, "", &mut Vec::new());
    let before = sinks.members.pop();
    sinks
        .members
        .push(Member::start(&config, filter, sink, before));
    hand
}

/// Lets every task go on as far as it can.
async fn let_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_sink_is_written_by_the_one_in_its_place() {
    let (config, sink, mut old) = scripted(json!({"kind": "debug", "name": "a"}), 1);
    let mut sinks = running(vec![(config, sink)]);
    old.answer(retriable(Some(Duration::ZERO)));
    sinks.send(flush(&["failed"]));
    assert_eq!(old.next().await, ["failed"]);
    sinks.send(flush(&["waiting"]));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut new = replace_the_only(&mut sinks);
    // The old one has `failed` in hand again, and nobody lets it write.
    let_run().await;
    assert!(new.given.try_recv().is_err());
    old.answer(retriable(Some(Duration::from_secs(1000))));
    old.leave.add_permits(1);
    assert_eq!(old.next().await, ["failed"]);
    assert_eq!(new.next().await, ["failed"]);
    assert_eq!(new.next().await, ["waiting"]);
    sinks.send(flush(&["later"]));
    assert_eq!(new.next().await, ["later"]);
    assert_eq!(sinks.close(in_good_time()).await, []);
}

#[tokio::test]
async fn a_sink_that_rests_is_replaced_at_once() {
    let (mut sinks, mut old) = one();
    old.answer(retriable(Some(Duration::from_secs(1000))));
    sinks.send(flush(&["x"]));
    assert_eq!(old.next().await, ["x"]);
    let mut new = replace_the_only(&mut sinks);
    assert_eq!(new.next().await, ["x"]);
    // It is gone with all it held.
    assert_eq!(timeout(SOON, old.given.recv()).await, Ok(None));
    assert_eq!(old.closed.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_last_write_without_end_is_given_up_and_counted() {
    let counts = Counts::default();
    let _here = metrics::set_default_local_recorder(&counts);
    let (config, sink, _old) = scripted(json!({"kind": "debug", "name": "a"}), 0);
    let mut sinks = running(vec![(config, sink)]);
    sinks.send(flush(&["x", "y"]));
    let_run().await;
    let mut new = replace_the_only(&mut sinks);
    sinks.send(flush(&["z"]));
    assert_eq!(
        timeout(LAST_WRITE * 2, new.given.recv()).await,
        Ok(Some(vec!["z".to_owned()]))
    );
    assert_eq!(counts.get("sink.metrics_dropped_total a write_error"), 2);
    assert_eq!(sinks.close(Instant::now() + SOON).await, []);
}

fn file(name: &str, path: &std::path::Path) -> SinkConfig {
    SinkConfig {
        name: Some(name.to_owned()),
        config: json!({"path": path, "format": "tsv"}),
        ..SinkConfig::new("localfile")
    }
}

#[tokio::test]
async fn settings_that_are_the_same_keep_their_sink_and_a_name_that_is_gone_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (kept, gone) = (file("kept", &at("kept")), file("gone", &at("gone")));
    let mut sinks = Sinks::start(&[kept.clone(), gone], &[]).unwrap();
    let queue = Arc::clone(&sinks.members[0].queue);
    sinks.send(flush(&["first"]));
    let (new, moved) = (file("new", &at("new")), file("kept", &at("moved")));
    let removed = sinks.replace(&[new.clone(), kept], &[]).unwrap();
    sinks.send(flush(&["second"]));
    assert!(!sinks.members[1].replaced.is_cancelled());
    assert_eq!(removed.members.len(), 1);
    assert_eq!(removed.close(in_good_time()).await, []);
    sinks.replace(&[moved, new], &[]).unwrap();
    sinks.send(flush(&["third"]));
    assert!(Arc::ptr_eq(&queue, &sinks.members[0].queue));
    assert_eq!(sinks.close(in_good_time()).await, []);
    let lines = |name: &str| std::fs::read_to_string(at(name)).unwrap().lines().count();
    // What the file `kept` did not have yet went to the one in its place.
    assert_eq!(lines("kept") + lines("moved"), 3);
    assert_eq!((lines("gone"), lines("new")), (1, 2));
}

#[tokio::test]
async fn settings_with_a_problem_change_nothing() {
    let (mut sinks, mut hand) = one();
    let wrong = file("wrong", std::path::Path::new("/proc/no-such-file"));
    let Problems(problems) = sinks.replace(&[wrong], &[]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    sinks.send(flush(&["x"]));
    assert_eq!(hand.next().await, ["x"]);
    assert!(!sinks.have_ended());
}
