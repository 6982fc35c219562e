//! The source `flux` with real programs: restarts, the documentation's own examples, and a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{
    Aggregator, AggregatorBuilder, Binaries, Tier, free_address, get, post, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// As the documentation has it.
const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
const WAREHOUSE_KEY: &str = "vutsrqponmlkjihgfedcba9876543210";

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// An agent with a Flux at that address, and `more` settings of the source.
fn flux(tier: &Tier, name: &str, address: &str, more: Value) -> AggregatorBuilder {
    let mut config = json!({
        "address": address,
        "self_api_key": KEY,
        "api_keys": {WAREHOUSE_KEY: "warehouse-1"},
        "state_dir": tier.directory().join(format!("{name}-state")),
        "self_metrics_prefix": "",
    });
    let Value::Object(more) = more else {
        panic!("settings")
    };
    config.as_object_mut().unwrap().extend(more);
    tier.agent(name)
        .with("sources", json!([{"kind": "flux", "config": config}]))
}

async fn send(address: &str, metric: &str, seconds: i64) -> std::io::Result<u16> {
    let body = json!({"key": KEY, "metric": metric, "timestamp": seconds, "value": seconds});
    let answer = post(
        address,
        "/flux/metric_data_post",
        &[],
        body.to_string().into(),
    )
    .await?;
    Ok(answer.status.as_u16())
}

/// How often each point of these clients is in the file.
fn stored(agent: &Aggregator) -> std::io::Result<BTreeMap<(String, i64), usize>> {
    let mut stored = BTreeMap::new();
    for point in agent.emitted()? {
        if point.name.starts_with("client.") {
            assert_eq!(point.value, point.timestamp as f64);
            *stored.entry((point.name, point.timestamp)).or_default() += 1;
        }
    }
    Ok(stored)
}

/// Clients that send a point after the other, each again until it is answered with 204. Ends a while after `enough` says so, and gives the points
/// that were accepted.
struct Clients {
    tasks: JoinSet<Vec<(String, i64)>>,
    accepted: watch::Receiver<usize>,
    enough: watch::Sender<bool>,
}

impl Clients {
    fn start(address: &str, number: usize) -> Self {
        let (enough, over) = watch::channel(false);
        let (count, accepted) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        for client in 0..number {
            let (address, over, count) = (address.to_owned(), over.clone(), Arc::clone(&count));
            tasks.spawn(async move {
                let metric = format!("client.{client}");
                let mut accepted = Vec::new();
                let first = now() - 3000;
                for seconds in first..first + 2900 {
                    while !matches!(send(&address, &metric, seconds).await, Ok(204)) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    accepted.push((metric.clone(), seconds));
                    count.send_modify(|count| *count += 1);
                    if *over.borrow() {
                        break;
                    }
                }
                accepted
            });
        }
        Self {
            tasks,
            accepted,
            enough,
        }
    }

    /// Waits until so many more points are accepted.
    async fn accept(&mut self, more: usize) {
        let wanted = *self.accepted.borrow() + more;
        let reached = self.accepted.wait_for(|count| *count >= wanted);
        let _ = tokio::time::timeout(Duration::from_secs(120), reached)
            .await
            .expect("points are accepted");
    }

    async fn end(self) -> Vec<(String, i64)> {
        self.enough.send_replace(true);
        self.tasks.join_all().await.concat()
    }
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_no_accepted_point_and_stores_none_twice() -> Outcome {
    let tier = Tier::new(binaries())?;
    let address = free_address()?;
    let mut agent = flux(&tier, "a", &address, json!({})).start().await?;
    let mut clients = Clients::start(&address, 4);
    for _ in 0..2 {
        clients.accept(100).await;
        agent.stop().await?;
        agent.start_again().await?;
    }
    clients.accept(100).await;
    let accepted = clients.end().await;
    agent.stop().await?;
    let stored = stored(&agent)?;
    for point in &accepted {
        assert_eq!(stored.get(point), Some(&1), "{point:?}");
    }
    assert_eq!(
        stored.len(),
        accepted.len(),
        "what was repeated is stored once"
    );
    Ok(())
}

#[tokio::test]
async fn with_a_persisted_queue_not_even_a_crash_loses_an_accepted_point() -> Outcome {
    let tier = Tier::new(binaries())?;
    let address = free_address()?;
    let config = json!({"persist_queue": true});
    let mut agent = flux(&tier, "a", &address, config).start().await?;
    let mut clients = Clients::start(&address, 4);
    for _ in 0..2 {
        clients.accept(60).await;
        agent.program.kill().await?;
        agent.start_again().await?;
    }
    clients.accept(60).await;
    let accepted = clients.end().await;
    agent.stop().await?;
    let stored = stored(&agent)?;
    for point in &accepted {
        assert!(stored.contains_key(point), "{point:?}");
    }
    Ok(())
}

/// The commands of a page's shell blocks that call curl.
fn examples(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    blocks.filter(|block| block.contains("curl")).collect()
}

#[tokio::test]
async fn the_documentations_examples_work_as_they_stand() -> Outcome {
    let tier = Tier::new(binaries())?;
    let address = free_address()?;
    let config = json!({"uploads": {"enabled": true}});
    let agent = flux(&tier, "a", &address, config).start().await?;
    let examples = examples("flux.md");
    assert!(examples.len() >= 5, "{examples:?}");
    for example in &examples {
        let call = example.replace("127.0.0.1:8000", &address);
        assert_ne!(&call, example, "it calls a Flux");
        let output = Command::new("sh").arg("-c").arg(&call).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let ok = said.contains("HTTP/1.1 204") || said.contains("HTTP/1.1 200");
        assert!(
            ok,
            "{call}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for name in [
        "shop.orders",
        "warehouse-1.shop.orders",
        "shop.stock",
        "shop.old",
        "temp.warehouse.2.012383.floor",
    ] {
        agent
            .wait_for_point(name, |point| point.name == name)
            .await?;
    }
    let shown = get(&agent.http, "/config").await?.text();
    assert!(shown.contains("warehouse-1"), "{shown}");
    for secret in [KEY, WAREHOUSE_KEY] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!agent.program.log().contains(secret));
    }
    Ok(())
}

/// A Redis for one test. It keeps nothing when it ends.
struct Redis {
    address: String,
    child: Child,
    _directory: TempDir,
}

impl Redis {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let directory = TempDir::new()?;
        let address = free_address()?;
        let (host, port) = address.rsplit_once(':').unwrap();
        let child = Command::new(fetched("TEST_REDIS")?)
            .args([
                "--bind",
                host,
                "--port",
                port,
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Self {
            address,
            child,
            _directory: directory,
        };
        wait_for("Redis", async || {
            let answer = redis.ask("PING").await.ok()?;
            (answer == "+PONG").then_some(())
        })
        .await?;
        Ok(redis)
    }

    /// The last line of the answer to a command that has one.
    async fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let quit = format!("{command}\r\nQUIT\r\n");
        stream.write_all(quit.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let answer = answer.trim_end().trim_end_matches("+OK").trim_end();
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Redis server: run integration/test"
)]
async fn two_instances_share_their_marks_by_a_redis_under_fluxs_keys() -> Outcome {
    let redis = Redis::start().await?;
    let tier = Tier::new(binaries())?;
    let config = json!({"redis": format!("redis://{}/0", redis.address), "state_dir": ""});
    let mut fluxes = Vec::new();
    for name in ["a", "b"] {
        let address = free_address()?;
        let agent = flux(&tier, name, &address, config.clone()).start().await?;
        fluxes.push((address, agent));
    }
    let [(first, a), (second, b)] = fluxes.as_slice() else {
        panic!("two")
    };
    let (older, time) = (now() - 10, now());
    assert_eq!(send(first, "client.shared", time).await?, 204);
    wait_for("the mark in Redis", async || {
        let mark = redis.ask("GET flux.last.client.shared").await.ok()?;
        (mark == format!("[{time}, {time}.0]")).then_some(())
    })
    .await?;
    // The same and an older one at the other instance, a newer one, and what an original Flux has taken.
    assert_eq!(send(second, "client.shared", time).await?, 204);
    assert_eq!(send(second, "client.shared", older).await?, 204);
    assert_eq!(send(second, "client.shared", time + 1).await?, 204);
    redis
        .ask(&format!("SET flux.last.client.original \"[{time}, 5.0]\""))
        .await?;
    assert_eq!(send(second, "client.original", time).await?, 204);
    assert_eq!(send(second, "client.last", time).await?, 204);
    wait_for("the last point", async || {
        let all = stored(b).ok()?;
        all.contains_key(&("client.last".to_owned(), time))
            .then_some(())
    })
    .await?;
    let point = |name: &str, seconds| ((name.to_owned(), seconds), 1);
    assert_eq!(stored(a)?, BTreeMap::from([point("client.shared", time)]));
    assert_eq!(
        stored(b)?,
        BTreeMap::from([point("client.last", time), point("client.shared", time + 1)])
    );
    // Without Redis each goes by what it knows itself.
    drop(redis);
    assert_eq!(send(first, "client.alone", time).await?, 204);
    assert_eq!(send(first, "client.alone", time).await?, 204);
    assert_eq!(send(first, "client.alone", time + 1).await?, 204);
    wait_for("points without Redis", async || {
        let all = stored(a).ok()?;
        all.contains_key(&("client.alone".to_owned(), time + 1))
            .then_some(())
    })
    .await?;
    assert!(stored(a)?.values().all(|times| *times == 1));
    Ok(())
}

#[tokio::test]
async fn a_large_batch_in_one_piece_reaches_the_sink_whole() -> Outcome {
    let tier = Tier::new(binaries())?;
    let address = free_address()?;
    let agent = flux(&tier, "a", &address, json!({})).start().await?;
    let seconds = now();
    let item = |n: usize| {
        json!({"fields": {"value": n}, "name": "cpu", "timestamp": seconds,
            "tags": {"cpu": format!("cpu{n}"), "host": "client"}})
    };
    let batch = json!({"metrics": (0..1000).map(item).collect::<Vec<_>>()});
    let headers = [("key", KEY), ("telegraf", "true")];
    let body = Bytes::from(batch.to_string());
    let answer = post(&address, "/flux/metric_data_post", &headers, body).await?;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
    wait_for("1,000 points", async || {
        let points = agent.emitted().ok()?;
        let theirs = points
            .iter()
            .filter(|point| point.name.starts_with("client.cpu"));
        (theirs.count() == 1000).then_some(())
    })
    .await?;
    Ok(())
}
