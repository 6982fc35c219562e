//! A real Consul server for tests.

use std::io;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tier::{free_address, get, put, wait_for};

/// The service that globals are registered as.
pub const SERVICE: &str = "veneur-global";

/// Its configuration's file.
const CONFIG: &str = "config.json";

/// Where `integration/servers/fetch` put something.
///
/// # Errors
/// If the tests were not started by `integration/test`.
pub fn fetched(variable: &str) -> io::Result<String> {
    std::env::var(variable)
        .map_err(|_| io::Error::other(format!("{variable} is not set: run integration/test")))
}

/// A Consul server in development mode, for one test. It keeps nothing when it ends.
#[derive(Debug)]
pub struct Consul {
    ports: [String; 4],
    child: Child,
    data: TempDir,
}

impl Consul {
    /// Starts a server on free ports and waits until it has elected itself.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&json!({})).await
    }

    /// Starts it with a configuration of its own beside that.
    pub async fn start_with(config: &Value) -> io::Result<Self> {
        let port = || {
            free_address().map(|address| address.rsplit(':').next().unwrap_or_default().to_owned())
        };
        let ports = [port()?, port()?, port()?, port()?];
        let data = TempDir::new()?;
        std::fs::write(data.path().join(CONFIG), config.to_string())?;
        let consul = Self {
            child: spawn(&ports, &data)?,
            ports,
            data,
        };
        consul.until_elected().await?;
        Ok(consul)
    }

    /// `host:port` of its HTTP API.
    pub fn http(&self) -> String {
        let [http, ..] = &self.ports;
        format!("127.0.0.1:{http}")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it on the same ports after it has ended; it knows of no service then.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.ports, &self.data)?;
        self.until_elected().await
    }

    /// Registers an instance of [`SERVICE`] at `host:port`, without a check: healthy.
    pub async fn register(&self, id: &str, address: &str) -> io::Result<()> {
        self.register_tagged(id, address, &[]).await
    }

    /// Registers an instance with tags.
    pub async fn register_tagged(&self, id: &str, address: &str, tags: &[&str]) -> io::Result<()> {
        let (host, port) = address
            .rsplit_once(':')
            .ok_or(io::ErrorKind::InvalidInput)?;
        let port: u16 = port.parse().map_err(io::Error::other)?;
        let service =
            json!({"ID": id, "Name": SERVICE, "Address": host, "Port": port, "Tags": tags});
        self.put("/v1/agent/service/register", &service).await
    }

    /// The healthy instances of a service as `host:port`, in order, as `token` may see them.
    pub async fn healthy(&self, service: &str, token: &str) -> io::Result<Vec<String>> {
        let path = format!("/v1/health/service/{service}?passing=1&token={token}");
        let entries: Value = serde_json::from_slice(&get(&self.http(), &path).await?.body)?;
        let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut addresses: Vec<_> = entries
            .iter()
            .map(|entry| {
                let service = &entry["Service"];
                let host = service["Address"].as_str().unwrap_or_default();
                format!("{host}:{}", service["Port"])
            })
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Makes a token, by the management token `root`, that may do what `rules` say.
    pub async fn token(&self, name: &str, rules: &str) -> io::Result<String> {
        let policy = json!({"Name": name, "Rules": rules});
        // The ACL system comes up after the leader is elected.
        wait_for("Consul's ACLs", async || {
            self.put("/v1/acl/policy?token=root", &policy).await.ok()
        })
        .await?;
        let token = json!({"Policies": [{"Name": name}]}).to_string();
        let answer = put(
            &self.http(),
            "/v1/acl/token?token=root",
            &[],
            Bytes::from(token),
        )
        .await?;
        let made: Value = serde_json::from_slice(&answer.body)?;
        let secret = made["SecretID"].as_str();
        secret
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other(answer.text()))
    }

    /// Takes an instance out.
    pub async fn deregister(&self, id: &str) -> io::Result<()> {
        self.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null)
            .await
    }

    async fn until_elected(&self) -> io::Result<()> {
        wait_for("a Consul leader", async || {
            let answer = get(&self.http(), "/v1/status/leader").await.ok()?;
            (answer.status == 200 && answer.text().contains(':')).then_some(())
        })
        .await
    }

    async fn put(&self, path: &str, body: &Value) -> io::Result<()> {
        let answer = put(&self.http(), path, &[], Bytes::from(body.to_string())).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(io::Error::other(answer.text()))
        }
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(ports: &[String; 4], data: &TempDir) -> io::Result<Child> {
    let [http, serf_lan, serf_wan, server] = ports;
    Command::new(fetched("TEST_CONSUL")?)
        .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"])
        .args(["-log-level=warn", "-dns-port=-1", "-grpc-port=-1"])
        .arg(format!("-config-file={CONFIG}"))
        .arg(format!("-http-port={http}"))
        .arg(format!("-serf-lan-port={serf_lan}"))
        .arg(format!("-serf-wan-port={serf_wan}"))
        .arg(format!("-server-port={server}"))
        .current_dir(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
