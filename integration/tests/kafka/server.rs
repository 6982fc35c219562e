//! Apache Kafka itself, which `integration/test` brings.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{free_address, wait_for};

/// One broker that is its own controller, for one test. Clients log in where `protocol` asks for it; tests that write use the other address.
pub struct Kafka {
    /// `host:port` for clients.
    pub clients: String,
    /// `host:port` without a login.
    pub open: String,
    child: Option<Child>,
    directory: TempDir,
}

/// The user that may log in.
pub const USER: &str = "tributary";
/// Its password.
pub const PASSWORD: &str = "s3same";

impl Kafka {
    /// `protocol` is what clients speak: `PLAINTEXT`, `SASL_PLAINTEXT`, `SASL_SSL`; `more` are further properties.
    pub async fn prepare(protocol: &str, more: &str) -> io::Result<Self> {
        let (clients, open, controller) = (free_address()?, free_address()?, free_address()?);
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        let login = "org.apache.kafka.common.security";
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=CLIENTS://{clients},OPEN://{open},CONTROLLER://{controller}\nadvertised.listeners=CLIENTS://{clients},OPEN://{open}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=OPEN\n\
             listener.security.protocol.map=CLIENTS:{protocol},OPEN:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             listener.name.clients.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.clients.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             listener.name.clients.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
             log.dirs={}\nnum.partitions=4\noffsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n{more}\n",
            data.display()
        );
        fs::write(directory.path().join("server.properties"), properties)?;
        let kafka = Self {
            clients,
            open,
            child: None,
            directory,
        };
        let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        let mut format = kafka.java("kafka.tools.StorageTool")?;
        format.args([
            "format",
            "-t",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "--add-scram",
            &user,
            "-c",
        ]);
        let done = format.arg(kafka.properties()).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(io::Error::other(said));
        }
        Ok(kafka)
    }

    pub async fn start(&mut self) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))?;
        let mut server = self.java("kafka.Kafka")?;
        server
            .arg(self.properties())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(server.spawn()?);
        let open = self.open.clone();
        wait_for("Kafka", async || {
            tokio::net::TcpStream::connect(&open).await.ok()
        })
        .await
        .map(drop)
        .map_err(|error| {
            let log = fs::read_to_string(self.directory.path().join("log"));
            io::Error::other(format!("{error}\n{}", log.unwrap_or_default()))
        })
    }

    /// Ends it in order.
    pub async fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        kill(
            Pid::from_raw(child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )?;
        wait_for("Kafka's end", async || child.try_wait().ok().flatten()).await?;
        Ok(())
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn properties(&self) -> std::path::PathBuf {
        self.directory.path().join("server.properties")
    }

    fn java(&self, class: &str) -> io::Result<Command> {
        let mut java = Command::new("java");
        let jars = format!("{}/*", fetched("TEST_KAFKA")?);
        java.args([
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            &jars,
            class,
        ]);
        java.current_dir(self.directory.path());
        Ok(java)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
