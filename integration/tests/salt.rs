//! A real Salt minion's carbon returner, into our pickle listener and out of a file sink.

use std::io;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Tier, free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What a virtualisation host's module gives: data of each machine, whose names hold dots.
const MODULE: &str = r#"
def vm_cputime():
    return {
        "web.vm.example": {"cputime": 1234567890, "cputime_percent": 12},
        "db1": {"cputime": 987654321, "cputime_percent": 7.5},
    }
"#;

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

/// A minion without a master.
struct Minion(TempDir);

impl Minion {
    /// Its returner sends to that address in this mode.
    fn new(address: &str, mode: &str) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name);
        let (host, port) = address.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir(path("modules"))?;
        std::fs::write(path("modules").join("virt.py"), MODULE)?;
        let config = json!({
            "id": "web01.example.com",
            "file_client": "local",
            "root_dir": directory.path(),
            "pki_dir": path("pki"),
            "cachedir": path("cache"),
            "sock_dir": path("sock"),
            "log_file": path("log"),
            "module_dirs": [path("modules")],
            "carbon": {"host": host, "port": port.parse::<u16>().map_err(io::Error::other)?, "mode": mode},
        });
        // JSON is YAML.
        std::fs::write(path("minion"), config.to_string())?;
        Ok(Self(directory))
    }

    /// Runs a function on it, whose result goes to carbon.
    async fn call(&self, function: &str) -> Outcome {
        let salt_call = Path::new(&fetched("TEST_SALT")?).join("bin/salt-call");
        let output = Command::new(salt_call)
            .args(["--local", "--return", "carbon", "-c"])
            .arg(self.0.path())
            .arg(function)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{function}: {said}");
        Ok(())
    }
}

/// An agent that listens for carbon, with the addresses for lines and pickles.
async fn agent(tier: &Tier) -> io::Result<(Aggregator, String, String)> {
    let (line, pickle) = (free_address()?, free_address()?);
    let source = json!([{"kind": "carbon", "config": {"line": line, "pickle": pickle}}]);
    let agent = tier.agent("a").with("sources", source).start().await?;
    Ok((agent, line, pickle))
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Salt minion: run integration/test"
)]
async fn a_salt_minions_results_become_points() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (agent, _, pickle) = agent(&tier).await?;
    let minion = Minion::new(&pickle, "pickle")?;
    minion.call("virt.vm_cputime").await?;
    let mut stamps = Vec::new();
    for (name, value) in [
        ("web.vm.example.cputime", 1_234_567_890.0),
        ("web.vm.example.cputime_percent", 12.0),
        ("db1.cputime", 987_654_321.0),
        ("db1.cputime_percent", 7.5),
    ] {
        let name = format!("virt.vm_cputime.{name}");
        let point = agent
            .wait_for_point(&name, |point| point.name == name)
            .await?;
        assert_eq!(
            (point.kind.as_str(), point.value),
            ("gauge", value),
            "{name}"
        );
        stamps.push(point.timestamp);
    }
    // One time for all of a result.
    assert!(stamps.iter().all(|stamp| *stamp == stamps[0]), "{stamps:?}");
    minion.call("test.ping").await?;
    let ping = "test.ping.web01_example_com";
    agent
        .wait_for_point(ping, |point| point.name == ping && point.value == 1.0)
        .await?;
    let metrics = get(&agent.http, "/metrics").await?.text();
    assert!(!metrics.contains("packet_error_total{"), "{metrics}");
    Ok(())
}

/// The default mode of the returner is broken on Python 3: it connects, and sends nothing. Whoever reads our documentation is told so.
#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Salt minion: run integration/test"
)]
async fn salts_text_mode_connects_and_sends_nothing() -> Outcome {
    let tier = Tier::new(binaries())?;
    let (agent, line, _) = agent(&tier).await?;
    Minion::new(&line, "text")?.call("test.ping").await?;
    let metrics = wait_for("the connection's end", async || {
        let metrics = get(&agent.http, "/metrics").await.ok()?.text();
        let closed = r#"tcp_disconnects{protocol="carbon-line",reason="closed"} 1"#;
        metrics.contains(closed).then_some(metrics)
    })
    .await?;
    assert!(!metrics.contains("carbon_points_total{"), "{metrics}");
    assert!(!metrics.contains("packet_error_total{"), "{metrics}");
    Ok(())
}
