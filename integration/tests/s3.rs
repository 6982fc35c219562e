//! The sink `s3` with a server that checks signatures, which `integration/test` brings; its objects are read from where it keeps them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{
    Aggregator, Binaries, Emitted, Tier, free_address, get, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The key that the server knows.
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI";

/// versitygw, with a bucket `points`.
struct Server {
    address: String,
    child: Child,
    directory: TempDir,
}

impl Server {
    async fn start() -> io::Result<Self> {
        let address = free_address()?;
        let directory = TempDir::new()?;
        // A directory is a bucket.
        std::fs::create_dir(directory.path().join("points"))?;
        let child = spawn(&address, directory.path())?;
        let server = Self {
            address,
            child,
            directory,
        };
        server.until_up().await?;
        Ok(server)
    }

    async fn until_up(&self) -> io::Result<()> {
        wait_for("versitygw", async || {
            get(&self.address, "/").await.ok().map(drop)
        })
        .await
    }

    fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    async fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.address, self.directory.path())?;
        self.until_up().await
    }

    /// Each object's name and content, unpacked.
    fn objects(&self) -> io::Result<BTreeMap<String, String>> {
        let root = self.directory.path().join("points");
        let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path
                    .strip_prefix(&root)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(name, content(&path)?);
                }
            }
        }
        Ok(found)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn spawn(address: &str, directory: &Path) -> io::Result<Child> {
    Command::new(fetched("TEST_VERSITYGW")?)
        .args([
            "--access", ID, "--secret", SECRET, "--port", address, "posix",
        ])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn content(path: &PathBuf) -> io::Result<String> {
    let raw = std::fs::read(path)?;
    let mut text = String::new();
    match raw.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::GzDecoder::new(raw.as_slice()).read_to_string(&mut text)?,
        false => raw.as_slice().read_to_string(&mut text)?,
    };
    Ok(text)
}

async fn agent(tier: &Tier, server: &Server, name: &str, config: Value) -> io::Result<Aggregator> {
    let path = tier.directory().join(format!("{name}.jsonl"));
    let mut own = json!({
        "bucket": "points", "endpoint": format!("http://{}", server.address), "region": "us-east-1",
        "access_key_id": ID, "secret_access_key": SECRET,
        "flush_interval": "0s", "backoff": "100ms", "max_backoff": "300ms",
    });
    if let (Some(own), Some(config)) = (own.as_object_mut(), config.as_object()) {
        own.extend(config.clone());
        own.retain(|_, value| !value.is_null());
    }
    let mut agent = tier
        .agent(name)
        .with(
            "metric_sinks",
            json!([
                {"kind": "s3", "name": "store", "config": own},
                {"kind": "localfile", "name": "file", "config": {"path": path}},
            ]),
        )
        .start()
        .await?;
    agent.points = path;
    Ok(agent)
}

fn sorted(mut points: Vec<Emitted>) -> Vec<String> {
    points.sort_by(|a, b| (a.timestamp, &a.name, &a.tags).cmp(&(b.timestamp, &b.name, &b.tags)));
    points.iter().map(|point| format!("{point:?}")).collect()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a server that speaks S3: run integration/test"
)]
async fn every_point_is_in_an_object_once_through_a_restart_of_the_server() -> Outcome {
    let mut server = Server::start().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let config = json!({"format": "jsonl", "prefix": "{sink}/{year}/{month}/{day}/{hostname}/"});
    let mut agent = agent(&tier, &server, "web-1", config).await?;
    let send = |round: usize| -> io::Result<()> {
        for chunk in 0..10 {
            let lines: Vec<_> = (0..20)
                .map(|n| format!("m.{chunk}.{n}:{}.5|g|#round:{round}", n + chunk))
                .collect();
            agent.send(&lines.join("\n"))?;
        }
        agent.send("hits:3|c\n_sc|db.up|1|m:slow, \"very\"")
    };
    send(1)?;
    wait_for("an object", async || {
        (!server.objects().ok()?.is_empty()).then_some(())
    })
    .await?;
    server.stop()?;
    send(2)?;
    wait_for("an error", async || {
        agent
            .program
            .log()
            .contains("cannot be reached")
            .then_some(())
    })
    .await?;
    server.start_again().await?;
    send(3)?;
    wait_for("the third round", async || {
        let written = agent.emitted().ok()?;
        written
            .iter()
            .any(|point| point.has_tag("round:3"))
            .then_some(())
    })
    .await?;
    assert!(agent.program.stop().await?.success());
    let objects = server.objects()?;
    for name in objects.keys() {
        assert!(
            name.starts_with("store/20") && name.contains("/web-1/"),
            "{name}"
        );
        assert!(name.ends_with(".jsonl.gz"), "{name}");
    }
    let lines = objects.values().flat_map(|text| text.lines());
    let stored: Vec<Emitted> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(stored.len() >= 3 * 202, "{}", stored.len());
    assert_eq!(sorted(stored), sorted(agent.emitted()?));
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a server that speaks S3: run integration/test"
)]
async fn a_wrong_secret_or_bucket_is_said_clearly_and_what_waits_goes_out_once_it_is_right()
-> Outcome {
    let server = Server::start().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let file = tier.directory().join("secret");
    std::fs::write(&file, "wr0ng-s3cret")?;
    // With Veneur's names and its format.
    let config = json!({"bucket": null, "s3_bucket": "points", "secret_access_key": null, "secret_access_key_file": file});
    let mut web = agent(&tier, &server, "web-2", config).await?;
    web.send("hits:20|c|#env:prod,b\nload:0.25|g")?;
    wait_for("the server's words", async || {
        let log = web.program.log();
        (log.contains("check access_key_id") && log.contains("SignatureDoesNotMatch")).then_some(())
    })
    .await?;
    assert!(server.objects()?.is_empty());
    std::fs::write(&file, format!("{SECRET}\n"))?;
    let objects = wait_for("the object", async || {
        let objects = server.objects().ok()?;
        (!objects.is_empty()).then_some(objects)
    })
    .await?;
    let (name, text) = objects.first_key_value().ok_or("there is one")?;
    assert!(
        name.ends_with(".tsv.gz") && name.contains("/web-2/"),
        "{name}"
    );
    let mut rows: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    rows.sort();
    let interval: f64 = web.emitted()?.first().ok_or("a point")?.interval;
    let rate = (20.0 / interval).to_string();
    assert_eq!(rows[0][..4], ["hits", "{b,env:prod}", "rate", "web-2"]);
    assert_eq!(rows[0][6], rate);
    assert_eq!(rows[1][..4], ["load", "{}", "gauge", "web-2"]);
    assert_eq!(rows[1][6], "0.25");
    assert_eq!(
        rows[1][5]
            .get(..10)
            .map(|day| day.replace('-', ""))
            .as_deref(),
        Some(rows[1][7])
    );
    assert!(!web.program.log().contains("wr0ng-s3cret"));
    let shown = get(&web.http, "/config").await?.text();
    assert!(
        shown.contains("secret_access_key_file") && !shown.contains(ID),
        "{shown}"
    );
    assert!(web.program.stop().await?.success());

    let elsewhere = agent(&tier, &server, "web-3", json!({"bucket": "no-such"})).await?;
    elsewhere.send("hits:1|c")?;
    wait_for("the server's words", async || {
        let log = elsewhere.program.log();
        log.contains("there is no such bucket").then_some(())
    })
    .await?;
    Ok(())
}
