//! The sink `statsd`: into another of our own agents by every transport, and into Etsy's statsd, which `integration/test` brings.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Emitted, Tier, free_address, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Etsy's statsd, which flushes hardly ever: its counters can be read.
struct Etsy {
    address: String,
    console: String,
    config: PathBuf,
    child: Child,
    _directory: TempDir,
}

impl Etsy {
    async fn start(server: &str) -> io::Result<Self> {
        let (address, console) = (free_address()?, free_address()?);
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let directory = TempDir::new()?;
        let config = directory.path().join("config.js");
        let text = format!(
            "{{port: {}, address: '127.0.0.1', mgmt_address: '127.0.0.1', mgmt_port: {}, server: './servers/{server}', flushInterval: 3600000, backends: []}}",
            port(&address),
            port(&console)
        );
        std::fs::write(&config, text)?;
        let child = spawn(&config)?;
        let etsy = Self {
            address,
            console,
            config,
            child,
            _directory: directory,
        };
        etsy.until_up().await?;
        Ok(etsy)
    }

    async fn until_up(&self) -> io::Result<()> {
        wait_for("statsd", async || self.ask("health").await.ok().map(drop)).await
    }

    fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    async fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.config)?;
        self.until_up().await
    }

    /// Its console takes one command at a time, and says when a list is over.
    async fn ask(&self, what: &str) -> io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(&self.console).await?;
        stream.write_all(format!("{what}\n").as_bytes()).await?;
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.ends_with("END\n\n") && !text.starts_with("health:") {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(text)
    }

    /// Waits until the list of that sort has all of these.
    async fn wait_for(&self, sort: &str, lines: &[&str]) -> io::Result<()> {
        let mut last = String::new();
        wait_for(&format!("{lines:?}"), async || {
            last = self.ask(sort).await.ok()?;
            lines.iter().all(|line| last.contains(line)).then_some(())
        })
        .await
        .map_err(|error| io::Error::other(format!("{error}\n{last}")))
    }
}

impl Drop for Etsy {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn spawn(config: &std::path::Path) -> io::Result<Child> {
    let place = fetched("TEST_STATSD")?;
    Command::new("node")
        .arg("stats.js")
        .arg(config)
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

async fn repeating(tier: &Tier, name: &str, config: Value) -> io::Result<Aggregator> {
    let sinks = json!([{"kind": "statsd", "name": "out", "config": config}]);
    tier.agent(name).with("metric_sinks", sinks).start().await
}

fn find<'a>(points: &'a [Emitted], name: &str) -> Option<&'a Emitted> {
    points.iter().find(|point| point.name == name)
}

#[tokio::test]
async fn our_own_agent_reads_back_what_another_repeats_by_every_transport() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let path = tier.directory();
    let (udp, tcp) = (free_address()?, free_address()?);
    let addresses = [
        format!("udp://{udp}"),
        format!("tcp://{tcp}"),
        format!("unixgram://{}", path.join("gram.sock").display()),
        format!("unix://{}", path.join("stream.sock").display()),
    ];
    let sink = tier
        .agent("receiver")
        .with("statsd_listen_addresses", json!(addresses))
        .start()
        .await?;
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("from{number}");
        let mut config = json!({"address": address, "prefix": name, "backoff": "100ms"});
        if number == 0 {
            // As Veneur has it.
            config = json!({"repeater_address": udp, "network_type": "udp", "prefix": name});
        }
        let agent = repeating(&tier, &name, config).await?;
        agent.send(
            "orders:3|c|#env:prod,b\norders:4|c|#env:prod,b\nload:0.1|g\ntemp:-5.5|g|#room:1\nbig:123456789012|g\n\
             _sc|db.up|2|h:db9|#env:prod|m:it is down",
        )?;
        let points = wait_for(&format!("the points by {address}"), async || {
            let points = sink.emitted().ok()?;
            let names = ["orders", "load", "temp", "big", "db.up"];
            let there = |name: &&str| find(&points, &format!("from{number}.{name}")).is_some();
            names.iter().all(there).then_some(points)
        })
        .await?;
        let point =
            |short: &str| find(&points, &format!("from{number}.{short}")).ok_or("it was there");
        let orders = point("orders")?;
        assert_eq!((orders.value, orders.kind.as_str()), (7.0, "counter"));
        assert_eq!(orders.tags, ["b", "env:prod"]);
        assert_eq!(point("load")?.value, 0.1);
        assert_eq!(
            (point("temp")?.value, point("temp")?.tags.clone()),
            (-5.5, vec!["room:1".to_owned()])
        );
        assert_eq!(point("big")?.value, 123_456_789_012.0);
        let check = point("db.up")?;
        assert_eq!((check.value, check.hostname.as_str()), (2.0, "db9"));
        assert_eq!(check.message.as_deref(), Some("it is down"));
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Etsy's statsd: run integration/test"
)]
async fn etsys_statsd_has_the_same_values_and_over_tcp_gets_what_came_while_it_was_away() -> Outcome
{
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let etsy = Etsy::start("udp").await?;
    let config =
        json!({"address": format!("udp://{}", etsy.address), "tags": "flatten", "prefix": "shop"});
    let agent = repeating(&tier, "plain", config).await?;
    agent.send("orders:7|c|#env:prod\nload:0.1|g\ntemp:-5.5|g\n_sc|db.up|1")?;
    etsy.wait_for("counters", &["'shop.orders.env.prod': 7"])
        .await?;
    etsy.wait_for(
        "gauges",
        &["'shop.load': 0.1", "'shop.temp': -5.5", "'shop.db.up': 1"],
    )
    .await?;
    // Set twice, a negative gauge is what it was set to, and not the sum.
    agent.send("temp:-6.5|g\ndone:1|g")?;
    etsy.wait_for("gauges", &["'shop.temp': -6.5", "'shop.done': 1"])
        .await?;

    let mut etsy = Etsy::start("tcp").await?;
    let config = json!({"address": format!("tcp://{}", etsy.address), "tags": "drop", "backoff": "100ms", "max_backoff": "300ms"});
    let agent = repeating(&tier, "stream", config).await?;
    agent.send("before:1|c")?;
    etsy.wait_for("counters", &["before: 1"]).await?;
    etsy.stop()?;
    agent.send("while:5|c")?;
    wait_for("an error", async || {
        agent.program.log().contains("cannot connect").then_some(())
    })
    .await?;
    etsy.start_again().await?;
    etsy.wait_for("counters", &["while: 5"]).await?;
    Ok(())
}
