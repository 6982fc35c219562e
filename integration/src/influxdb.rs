//! A real InfluxDB 1 for tests.

use std::io;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::consul::fetched;
use crate::tier::{free_address, get, post, wait_for};

/// A server of one test, on free ports of the loopback. It keeps its data while the test lasts, and is ended with it.
#[derive(Debug)]
pub struct Influx {
    address: String,
    child: Child,
    data: TempDir,
}

impl Influx {
    /// Starts a server without any database, and waits until it answers.
    pub async fn start() -> io::Result<Self> {
        let (address, rpc) = (free_address()?, free_address()?);
        let data = TempDir::new()?;
        let config = format!(
            "reporting-disabled = true\n\
             bind-address = \"{rpc}\"\n\
             [meta]\n  dir = \"meta\"\n\
             [data]\n  dir = \"data\"\n  wal-dir = \"wal\"\n\
             [monitor]\n  store-enabled = false\n\
             [http]\n  bind-address = \"{address}\"\n  log-enabled = false\n"
        );
        std::fs::write(data.path().join("influxdb.conf"), config)?;
        let child = spawn(&data)?;
        let server = Self {
            address,
            child,
            data,
        };
        server.until_up().await?;
        Ok(server)
    }

    /// `host:port` of its HTTP API.
    pub fn http(&self) -> &str {
        &self.address
    }

    /// As the sink's `url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with what it has stored.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.data)?;
        self.until_up().await
    }

    /// Asks a question in InfluxQL; gives its answer's `results`.
    pub async fn query(&self, database: &str, question: &str) -> io::Result<Value> {
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let path = format!(
            "/query?epoch=ns&db={}&q={}",
            encode(database),
            encode(question)
        );
        let answer = post(&self.address, &path, &[], Bytes::new()).await?;
        let text = answer.text();
        let answer: Value = serde_json::from_str(&text)?;
        let results = &answer["results"];
        let failed = results
            .as_array()
            .is_none_or(|all| all.iter().any(|one| one.get("error").is_some()));
        match failed {
            true => Err(io::Error::other(format!("{question}: {text}"))),
            false => Ok(results.clone()),
        }
    }

    /// Makes a database.
    pub async fn create(&self, database: &str) -> io::Result<()> {
        self.query("", &format!("CREATE DATABASE \"{database}\""))
            .await
            .map(drop)
    }

    /// The number that a question for one answers; none while there is no such series.
    pub async fn number(&self, database: &str, question: &str) -> io::Result<Option<f64>> {
        let results = self.query(database, question).await?;
        Ok(results[0]["series"][0]["values"][0][1].as_f64())
    }

    /// Writes lines.
    pub async fn write(&self, database: &str, lines: &str) -> io::Result<()> {
        let path = format!("/write?precision=ns&db={database}");
        let answer = post(&self.address, &path, &[], Bytes::from(lines.to_owned())).await?;
        match answer.status.as_u16() {
            204 => Ok(()),
            _ => Err(io::Error::other(answer.text())),
        }
    }

    async fn until_up(&self) -> io::Result<()> {
        wait_for("InfluxDB", async || {
            let answer = get(&self.address, "/ping").await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(data: &TempDir) -> io::Result<Child> {
    Command::new(fetched("TEST_INFLUXD")?)
        .args(["-config", "influxdb.conf"])
        .current_dir(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
