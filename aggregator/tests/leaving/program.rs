//! The aggregator as a process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tributary-aggregator");

/// A running aggregator; dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    dir: PathBuf,
    name: String,
}

/// One point in a file of JSON lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Emitted {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) value: f64,
}

impl Program {
    /// Starts an aggregator that writes its points to `points(name)`, with `config` laid over that, and waits until it is ready.
    pub(crate) fn start(dir: &TempDir, name: &str, config: Value) -> Self {
        let program = Self::start_unready(dir, name, config);
        program.until_logged("admin server listens address=");
        eventually(
            || {
                program
                    .get("/ready")
                    .starts_with("HTTP/1.1 200")
                    .then_some(())
            },
            || program.log(),
        );
        program
    }

    /// Starts it and waits for nothing.
    pub(crate) fn start_unready(dir: &TempDir, name: &str, config: Value) -> Self {
        let command = Command::new(PROGRAM);
        Self::spawn(command, Stdio::null(), dir, name, config)
    }

    /// Starts it as systemd does which holds a socket for it, as file descriptor 3, and waits for nothing.
    pub(crate) fn start_with_socket(
        dir: &TempDir,
        name: &str,
        config: Value,
        socket: OwnedFd,
    ) -> Self {
        let mut shell = Command::new("/bin/sh");
        // The shell becomes the program, with its process id.
        let script = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 0</dev/null"#;
        shell.args(["-c", script, PROGRAM]);
        Self::spawn(shell, socket.into(), dir, name, config)
    }

    fn spawn(mut command: Command, stdin: Stdio, dir: &TempDir, name: &str, config: Value) -> Self {
        let file = |kind: &str| dir.path().join(format!("{name}.{kind}"));
        write_config(name, dir.path(), config);
        let child = command
            .arg("-f")
            .arg(file("yaml"))
            .env_remove("RUST_LOG")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(File::create(file("log")).expect("a log"))
            .spawn()
            .expect("it starts");
        Self {
            child,
            dir: dir.path().to_owned(),
            name: name.to_owned(),
        }
    }

    /// Writes its settings anew.
    pub(crate) fn write_config(&self, config: Value) {
        write_config(&self.name, &self.dir, config);
    }

    /// A file of its own.
    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", self.name))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for a line of the log; what follows `text` there, up to a space.
    pub(crate) fn until_logged(&self, text: &str) -> String {
        eventually(
            || {
                let log = self.log();
                let (_, rest) = log.split_once(text)?;
                let (line, _) = rest.split_once('\n')?;
                Some(line.split(' ').next().unwrap_or_default().to_owned())
            },
            || format!("{text} is not in\n{}", self.log()),
        )
    }

    /// Where it takes DogStatsD by UDP.
    pub(crate) fn statsd(&self) -> SocketAddr {
        let address = self.until_logged("listening for DogStatsD address=udp://");
        address.parse().expect("an address")
    }

    /// Where it imports by gRPC.
    pub(crate) fn grpc(&self) -> String {
        self.until_logged("gRPC import listens address=")
    }

    /// The answer of its admin server, with its head.
    pub(crate) fn get(&self, path: &str) -> String {
        let address = self.until_logged("admin server listens address=");
        let Ok(mut stream) = TcpStream::connect(address) else {
            return String::new();
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        // A server that is about to end may cut this short.
        let _ = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        answer
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a pid"));
        kill(pid, signal).expect("it runs");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to leave and waits until it has, with the exit code 0; how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        assert!(status.success(), "{status}:\n{}", self.log());
        asked.elapsed()
    }

    /// What it emitted so far.
    pub(crate) fn points(&self) -> Vec<Emitted> {
        read_points(&self.path("points"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(name: &str, dir: &Path, config: Value) {
    let points = dir.join(format!("{name}.points"));
    let mut whole = json!({
        "http_address": "127.0.0.1:0",
        "hostname": name,
        "interval": "1h",
        // Or whether a test meets a flush, or the second half of an interval, would be the wall clock's business.
        "synchronize_with_interval": false,
        "metric_sinks": [{"kind": "localfile", "name": "file", "config": {"path": points}}],
    });
    for (key, value) in config.as_object().expect("keys") {
        whole[key] = value.clone();
    }
    std::fs::write(dir.join(format!("{name}.yaml")), whole.to_string()).expect("written");
}

/// The points in a file of JSON lines.
pub(crate) fn read_points(path: &Path) -> Vec<Emitted> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let point: Value = serde_json::from_str(line).expect("JSON");
            Emitted {
                name: point["name"].as_str().expect("a name").to_owned(),
                tags: point["tags"]
                    .as_array()
                    .expect("tags")
                    .iter()
                    .map(|tag| tag.as_str().expect("a tag").to_owned())
                    .collect(),
                value: point["value"].as_f64().expect("a value"),
            }
        })
        .collect()
}
