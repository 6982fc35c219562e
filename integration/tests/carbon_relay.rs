//! A real carbon-relay as a client of our listeners.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Tier, free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

/// A running carbon-relay. Dropped, it is killed.
struct Relay {
    /// Where it takes lines.
    line: String,
    _directory: TempDir,
    _child: Child,
}

impl Relay {
    /// Starts one that sends everything on, with room in its queue for all of a test's points, to `destination` by that protocol, and waits until it listens.
    async fn start(destination: &str, protocol: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let root = fetched("TEST_CARBON")?;
        let directory = TempDir::new()?;
        let (line, pickle) = (free_address()?, free_address()?);
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let config = format!(
            "[relay]\nLINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\n\
             PICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {}\n\
             RELAY_METHOD = consistent-hashing\nDESTINATIONS = {destination}:a\nDESTINATION_PROTOCOL = {protocol}\n\
             MAX_QUEUE_SIZE = 10000\nUSER =\nPID_DIR = {dir}\nLOG_DIR = {dir}\nSTORAGE_DIR = {dir}\n",
            port(&line),
            port(&pickle),
            dir = directory.path().display(),
        );
        let path = directory.path().join("carbon.conf");
        std::fs::write(&path, config)?;
        std::fs::write(directory.path().join("storage-schemas.conf"), "")?;
        let child = Command::new("python3")
            .arg(Path::new(&root).join("bin/carbon-relay.py"))
            .arg(format!("--config={}", path.display()))
            .args(["--nodaemon", "start"])
            // Its package installs itself apart from what it needs.
            .env("PYTHONPATH", format!("{root}:{root}/opt/graphite/lib"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GRAPHITE_ROOT", directory.path())
            .env("GRAPHITE_CONF_DIR", directory.path())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(directory.path().join("out"))?)
            .stderr(std::fs::File::create(directory.path().join("err"))?)
            .kill_on_drop(true)
            .spawn()?;
        let listens = wait_for("carbon-relay to listen", async || {
            TcpStream::connect(&line).ok()
        });
        if let Err(error) = listens.await {
            let said = ["out", "err"].map(|name| {
                std::fs::read_to_string(directory.path().join(name)).unwrap_or_default()
            });
            return Err(format!("{error}: {said:?}").into());
        }
        Ok(Self {
            line,
            _directory: directory,
            _child: child,
        })
    }
}

async fn all_arrives(protocol: &str) -> Outcome {
    const POINTS: usize = 2_000;
    let tier = Tier::new(binaries())?;
    let (line, pickle) = (free_address()?, free_address()?);
    let source = json!([{"kind": "carbon", "config": {"line": line, "pickle": pickle}}]);
    let agent: Aggregator = tier.agent("a").with("sources", source).start().await?;
    let destination = if protocol == "line" { &line } else { &pickle };
    let relay = Relay::start(destination, protocol).await?;

    let mut stream = TcpStream::connect(&relay.line)?;
    for number in 0..POINTS {
        writeln!(stream, "relayed.m{number:04} {number}.5 1700000000")?;
    }
    writeln!(stream, "disk.used;rack=a1;dc=dc1 42 1700000001")?;
    drop(stream);

    let tagged = agent
        .wait_for_point("the tagged point", |point| point.name == "disk.used")
        .await?;
    assert_eq!((tagged.value, tagged.timestamp), (42.0, 1_700_000_001));
    assert_eq!(tagged.tags, ["dc:dc1", "rack:a1"]);
    let mut emitted = wait_for("every point", async || {
        let mut emitted = agent.emitted().ok()?;
        emitted.retain(|point| point.name.starts_with("relayed."));
        (emitted.len() >= POINTS).then_some(emitted)
    })
    .await?;
    emitted.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(emitted.len(), POINTS);
    for (number, point) in emitted.iter().enumerate() {
        assert_eq!(point.name, format!("relayed.m{number:04}"));
        assert_eq!(point.value, number as f64 + 0.5);
    }
    let metrics = get(&agent.http, "/metrics").await?.text();
    assert!(!metrics.contains("packet_error_total{"), "{metrics}");
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon-relay: run integration/test"
)]
async fn a_carbon_relays_pickles_all_arrive() -> Outcome {
    all_arrives("pickle").await
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon-relay: run integration/test"
)]
async fn a_carbon_relays_lines_all_arrive() -> Outcome {
    all_arrives("line").await
}
