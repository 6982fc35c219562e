//! The spool of the sink `graphite` and an agent that is killed in the middle: what was on the disk arrives.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tributary_integration::tier::{Aggregator, Binaries, Tier, free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Stands in for carbon: takes lines, each connection's first `limit` bytes.
struct Receiver {
    lines: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start(address: &str, limit: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&lines);
        // One connection at a time is all there is.
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut reader = BufReader::new(socket.take(limit)).lines();
                while let Ok(Some(line)) = reader.next_line().await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push(line);
                }
            }
        });
        Ok(Self { lines, task })
    }

    /// Closes everything, and gives what came in.
    async fn stop(self) -> Vec<String> {
        self.task.abort();
        // Aborted, as it should be.
        let _ = self.task.await;
        let lines = self.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A self-metric of the Graphite sink, or of its destination.
async fn metric(agent: &Aggregator, name: &str) -> Option<f64> {
    let text = get(&agent.http, "/metrics").await.ok()?.text();
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (labels, value) = rest.split_once("} ")?;
        labels
            .contains("sink_name=\"g\"")
            .then(|| value.parse().ok())?
    })
}

/// The first so many points that were flushed, as lines.
fn flushed(agent: &Aggregator, points: usize) -> io::Result<Vec<String>> {
    let emitted = agent.emitted()?.into_iter().take(points);
    Ok(emitted
        .map(|point| format!("{} {} {}", point.name, point.value, point.timestamp))
        .collect())
}

#[tokio::test]
async fn an_agent_killed_twice_delivers_all_that_was_spooled() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let address = free_address()?;
    let points = tier.directory().join("a1.jsonl");
    let sinks = json!([
        {"kind": "localfile", "name": "file", "config": {"path": points}},
        {"kind": "graphite", "name": "g", "config": {
            "protocol": "line", "destinations": [address], "timeout": "500ms", "reconnect_max": "300ms",
            "spool_dir": tier.directory().join("spool"), "max_frame_points": 10,
        }},
    ]);
    let agent = tier.agent("a1").with("metric_sinks", sinks).start();
    let mut agent = agent.await?;

    // Nobody is there. What the sink counts as written is on the disk.
    let mut round = 0;
    let durable = loop {
        for number in 0..200 {
            agent.send(&format!("crash.series{number}:{round}.5|g"))?;
        }
        round += 1;
        let durable = metric(&agent, "veneur_sink_metrics_flushed_total").await;
        if durable >= Some(1000.0) {
            break durable.unwrap_or_default() as usize;
        }
        if round == 600 {
            return Err("nothing was spooled".into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    agent.program.kill().await?;
    let expected: BTreeSet<String> = flushed(&agent, durable)?.into_iter().collect();
    assert!(expected.len() >= 500, "{}", expected.len());

    // It is killed again while it sends what it had, to somebody who hangs up early.
    let receiver = Receiver::start(&address, 5_000).await?;
    agent.start_again().await?;
    wait_for("the first points", async || {
        (receiver.lines().len() >= 100).then_some(())
    })
    .await?;
    agent.program.kill().await?;
    let mut received: BTreeSet<String> = receiver.stop().await.into_iter().collect();

    let receiver = Receiver::start(&address, u64::MAX).await?;
    agent.start_again().await?;
    let mut missing = Vec::new();
    wait_for("all points", async || {
        received.extend(receiver.lines());
        missing = expected.difference(&received).cloned().collect();
        missing.is_empty().then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}: {} of {} are missing, such as {:?}\n{}",
            missing.len(),
            expected.len(),
            missing.first(),
            agent.program.log()
        )
    })?;
    // The files go with what was in them.
    wait_for("an empty spool", async || {
        let bytes = metric(&agent, "veneur_sink_destination_spooled_bytes").await;
        (bytes == Some(0.0)).then_some(())
    })
    .await?;
    assert_eq!(
        metric(&agent, "veneur_sink_spool_damaged_bytes_total").await,
        None,
        "a torn end is no damage"
    );
    Ok(())
}
