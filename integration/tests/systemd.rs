//! The units of `deploy/systemd` before systemd's own judgement, and the programs as systemd starts, reloads and ends them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::fs;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{getsockopt, setsockopt};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tributary_integration::tier::{PATIENCE, free_address, get, read_points, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SERVICES: [&str; 3] = ["agent", "global", "proxy"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn unit(name: &str) -> String {
    fs::read_to_string(deploy().join("systemd").join(name)).unwrap()
}

/// Both programs under their own names, as the package installs them.
fn installed() -> io::Result<TempDir> {
    let directory = TempDir::new()?;
    for (name, called) in [
        ("tributary-aggregator", "aggregator"),
        ("tributary-proxy", "proxy"),
    ] {
        let path = directory.path().join(name);
        let whole = env!("CARGO_BIN_EXE_tributary");
        // The shell becomes the program, with its process id.
        fs::write(&path, format!("#!/bin/sh\nexec {whole} {called} \"$@\"\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(directory)
}

/// What systemd has to say of units whose programs are in `bin`, changed by `change`; nothing if all is well.
fn remarks(bin: &Path, change: impl Fn(String) -> String) -> io::Result<String> {
    let directory = TempDir::new()?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for entry in fs::read_dir(deploy().join("systemd"))? {
        let name = entry?.file_name().into_string().unwrap();
        if name.ends_with(".sysusers") {
            continue;
        }
        let there = unit(&name).replace("/usr/bin/", &format!("{}/", bin.display()));
        let path = directory.path().join(&name);
        fs::write(&path, change(there))?;
        verify.arg(path);
    }
    let said = verify.output()?;
    // It ends with 0 though it has told of a key that it does not know.
    Ok(String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}

#[test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs systemd-analyze: run integration/test"
)]
fn systemd_has_nothing_to_say_against_the_units() -> Outcome {
    let programs = installed()?;
    assert_eq!(remarks(programs.path(), |unit| unit)?, "");
    let misspelt = |unit: String| unit.replace("ProtectSystem=", "ProtectSytem=");
    let said = remarks(programs.path(), misspelt)?;
    assert!(said.contains("ProtectSytem"), "{said}");
    Ok(())
}

#[test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs systemd-analyze: run integration/test"
)]
fn the_services_are_exposed_to_little() -> Outcome {
    for role in SERVICES {
        let path = deploy().join(format!("systemd/tributary-{role}.service"));
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=19"])
            .arg(path)
            .output()?;
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
    Ok(())
}

#[test]
fn the_units_commands_find_nothing_wrong_with_the_settings_that_are_shipped() -> Outcome {
    let programs = installed()?;
    for role in SERVICES {
        let unit = unit(&format!("tributary-{role}.service"));
        let check = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStartPre="));
        let command = check
            .unwrap()
            .replace("/usr/bin/", &format!("{}/", programs.path().display()))
            .replace(
                "/etc/tributary/",
                &format!("{}/", deploy().join("config").display()),
            );
        let checked = Command::new("/bin/sh").args(["-c", &command]).output()?;
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{command}: {said}");
        assert_eq!((&*checked.stdout, &*said), (&b"ok\n"[..], ""), "{command}");
    }
    Ok(())
}

#[test]
fn each_socket_of_the_agents_unit_is_in_its_settings() {
    let settings = fs::read_to_string(deploy().join("config/agent.yaml")).unwrap();
    let listens = settings
        .lines()
        .find(|line| line.starts_with("statsd_listen_addresses:"));
    let unit = unit("tributary-agent.socket");
    let sockets: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ListenDatagram="))
        .collect();
    assert_eq!(sockets.len(), 2);
    for socket in sockets {
        let address = match socket.starts_with('/') {
            true => format!("unixgram://{socket}"),
            false => format!("udp://{socket}"),
        };
        assert!(listens.unwrap().contains(&address), "{address}");
    }
}

// === As systemd starts it ===

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Its exit code, once it has ended.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What systemd is told, in order.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn in_directory(directory: &Path) -> io::Result<Self> {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, path })
    }

    /// The next message that is not the watchdog's.
    fn told(&self) -> String {
        loop {
            let message = self.any();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

/// From the start over a reload, and one that is refused, to the end, with settings that are right and `file` for others.
async fn from_start_to_end(program: &str, http: &str, file: &Path, right: &str) -> Outcome {
    let directory = TempDir::new()?;
    let programs = installed()?;
    let supervisor = Supervisor::in_directory(directory.path())?;
    fs::write(file, right)?;
    let mut running = Running(
        Command::new(programs.path().join(program))
            .arg("-f")
            .arg(file)
            .env("NOTIFY_SOCKET", &supervisor.path)
            .env("WATCHDOG_USEC", "300000")
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log"))?)
            .spawn()?,
    );
    assert_eq!(supervisor.told(), "READY=1\nSTATUS=running\n");
    // Whoever has waited for that finds it listening: nothing is tried twice here.
    assert_eq!(get(http, "/healthcheck").await?.text(), "ok\n");
    for _ in 0..3 {
        assert_eq!(supervisor.any(), "WATCHDOG=1\n");
    }

    running.signal(Signal::SIGHUP);
    let told = supervisor.told();
    assert!(told.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told}");
    assert_eq!(
        supervisor.told(),
        "READY=1\nSTATUS=settings read again, nothing to change\n"
    );
    fs::write(file, format!("{right}\nshutdown_timeout: 7s\n"))?;
    running.signal(Signal::SIGHUP);
    assert!(supervisor.told().starts_with("RELOADING=1\n"));
    assert_eq!(
        supervisor.told(),
        "READY=1\nSTATUS=settings read again and applied\n"
    );
    fs::write(file, "nonsense: true\n")?;
    running.signal(Signal::SIGHUP);
    assert!(supervisor.told().starts_with("RELOADING=1\n"));
    let told = supervisor.told();
    assert!(
        told.starts_with("READY=1\nSTATUS=settings refused"),
        "{told}"
    );

    running.signal(Signal::SIGTERM);
    let told = supervisor.told();
    let patience = told
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let patience = Duration::from_micros(patience.unwrap().parse()?);
    assert!(told.starts_with("STOPPING=1\n"), "{told}");
    // The shutdown_timeout that was read again, and a margin.
    assert!(
        patience > Duration::from_secs(11) && patience <= Duration::from_secs(12),
        "{told}"
    );
    assert_eq!(running.ended(), Some(0));
    Ok(())
}

#[tokio::test]
async fn an_aggregator_tells_systemd_what_it_does() -> Outcome {
    let directory = TempDir::new()?;
    let http = free_address()?;
    let settings = json!({"http_address": http, "statsd_listen_addresses": ["udp://127.0.0.1:0"]});
    let settings: String = yaml_lines(&settings);
    let file = directory.path().join("agent.yaml");
    from_start_to_end("tributary-aggregator", &http, &file, &settings).await
}

#[tokio::test]
async fn a_proxy_that_knows_no_destination_as_yet_counts_as_started() -> Outcome {
    let directory = TempDir::new()?;
    let (http, grpc, consul) = (free_address()?, free_address()?, free_address()?);
    let settings = json!({
        "http_address": http,
        "grpc_address": grpc,
        "consul_address": consul,
        "consul_forward_service_name": "nobody",
    });
    let file = directory.path().join("proxy.yaml");
    from_start_to_end("tributary-proxy", &http, &file, &yaml_lines(&settings)).await
}

/// One key a line, so that lines can be added.
fn yaml_lines(settings: &serde_json::Value) -> String {
    let keys = settings.as_object().unwrap();
    keys.iter()
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect()
}

#[tokio::test]
async fn a_socket_is_given_a_larger_buffer_than_its_unit_gave_it_and_never_a_smaller_one() -> Outcome
{
    let directory = TempDir::new()?;
    let programs = installed()?;
    let file = directory.path().join("agent.yaml");
    // More than the agent asks for, and less.
    for (asked, wanted, kept) in [(Some(100_000), "64KiB", true), (None, "2MiB", false)] {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        if let Some(asked) = asked {
            setsockopt(&socket, RcvBuf, &asked)?;
        }
        let before = getsockopt(&socket, RcvBuf)?;
        let http = free_address()?;
        let listens = format!("udp://{}", socket.local_addr()?);
        let settings = json!({"statsd_listen_addresses": [listens], "http_address": http, "read_buffer_size_bytes": wanted});
        fs::write(&file, settings.to_string())?;
        let _agent = Running(
            Command::new("/bin/sh")
                .arg("-c")
                .arg(r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 0</dev/null"#)
                .arg(programs.path().join("tributary-aggregator"))
                .arg("-f")
                .arg(&file)
                .stdin(Stdio::from(OwnedFd::from(socket.try_clone()?)))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        wait_for("the agent", async || {
            let ready = get(&http, "/ready").await.ok()?;
            ready.status.is_success().then_some(())
        })
        .await?;
        let after = getsockopt(&socket, RcvBuf)?;
        assert_eq!(after == before, kept, "{before} and {after}");
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs systemd-socket-activate: run integration/test"
)]
async fn what_comes_before_the_agent_is_started_waits_in_the_sockets() -> Outcome {
    let directory = TempDir::new()?;
    let programs = installed()?;
    let udp = free_address()?;
    let unix = directory.path().join("statsd.sock");
    let points = directory.path().join("points");
    let settings = json!({
        "statsd_listen_addresses": [format!("udp://{udp}"), format!("unixgram://{}", unix.display())],
        "num_readers": 2,
        "interval": "1s",
        "metric_sinks": [{"kind": "localfile", "config": {"path": points}}],
    });
    let file = directory.path().join("agent.yaml");
    fs::write(&file, settings.to_string())?;
    let log = directory.path().join("log");
    // It opens the sockets as the unit has them, and starts the agent when something has come.
    let mut agent = Running(
        Command::new("systemd-socket-activate")
            .args([
                "--datagram",
                "--fdname=udp:unix",
                "--listen",
                &udp,
                "--listen",
            ])
            .arg(&unix)
            .arg(programs.path().join("tributary-aggregator"))
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?,
    );
    let sender = UnixDatagram::unbound()?;
    wait_for("systemd to open the sockets", async || {
        unix.exists().then_some(())
    })
    .await?;
    let from = UdpSocket::bind("127.0.0.1:0")?;
    // The first wakes systemd, which starts the agent: all of these are sent before it can read.
    for _ in 0..100 {
        from.send_to(b"early.udp:1|c", &udp)?;
    }
    for _ in 0..5 {
        sender.send_to(b"early.unix:1|c", &unix)?;
    }
    let count = |name: &str| -> f64 {
        let points = read_points(&points).unwrap_or_default();
        let of_name = points.iter().filter(|point| point.name == name);
        of_name.map(|point| point.value).sum()
    };
    wait_for("all that was sent", async || {
        (count("early.udp") >= 100.0 && count("early.unix") >= 5.0).then_some(())
    })
    .await
    .map_err(|error| {
        io::Error::new(
            ErrorKind::TimedOut,
            format!("{error}\n{}", fs::read_to_string(&log).unwrap_or_default()),
        )
    })?;
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.ended(), Some(0));
    assert_eq!((count("early.udp"), count("early.unix")), (100.0, 5.0));
    let said = fs::read_to_string(&log)?;
    assert_eq!(said.matches("stays when it leaves").count(), 2, "{said}");
    // Its path is systemd's to remove.
    assert!(unix.exists());
    Ok(())
}
