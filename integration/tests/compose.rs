//! The tier of `compose.yaml`, with processes on the loopback in place of containers: its own settings and environment, with nothing replaced but
//! addresses. Consul, carbon and Prometheus are real; what applications send comes out in whisper's files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tributary_integration::consul::{Consul, fetched};
use tributary_integration::tier::{free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compose() -> Value {
    yaml(&root().join("compose.yaml"))
}

/// The services that run our programs, with the program's name.
fn ours(compose: &Value) -> BTreeMap<String, &'static str> {
    let services = compose["services"].as_object().unwrap();
    let program = |service: &Value| match service["build"]["target"].as_str()? {
        "aggregator" => Some("aggregator"),
        "proxy" => Some("proxy"),
        other => panic!("no image {other}"),
    };
    services
        .iter()
        .filter_map(|(name, service)| Some((name.clone(), program(service)?)))
        .collect()
}

/// What a service mounts from here: the file or folder, and where it is in the container.
fn mounts(service: &Value) -> Vec<(PathBuf, String)> {
    let volumes = service["volumes"].as_array().map(Vec::as_slice);
    volumes
        .unwrap_or_default()
        .iter()
        .filter_map(|volume| {
            let mut parts = volume.as_str().unwrap().split(':');
            let (from, to) = (parts.next()?, parts.next()?);
            let from = from.strip_prefix("./")?;
            Some((root().join(from), to.to_owned()))
        })
        .collect()
}

/// The settings of one of our programs.
fn settings(service: &Value) -> String {
    let mounts = mounts(service);
    let (from, _) = mounts
        .iter()
        .find(|(_, to)| to.starts_with("/etc/tributary/"))
        .unwrap();
    fs::read_to_string(from).unwrap()
}

fn environment(service: &Value) -> Vec<(String, String)> {
    let variables = service["environment"].as_object().cloned();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    variables
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

#[test]
fn the_programs_find_nothing_wrong_with_the_settings_that_containers_are_given() -> Outcome {
    let compose = compose();
    let directory = TempDir::new()?;
    let ours = ours(&compose);
    assert_eq!(ours.len(), 6, "{ours:?}");
    for (name, program) in ours {
        let service = &compose["services"][&name];
        let file = directory.path().join(&name);
        fs::write(&file, settings(service))?;
        let checked = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args([program, "--check", "-f"])
            .arg(&file)
            .envs(environment(service))
            .output()?;
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{name}: {said}");
        assert_eq!(said, "", "{name}");
    }
    Ok(())
}

#[test]
fn what_containers_mount_is_there_and_where_their_images_look_for_it() {
    let compose = compose();
    let image = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let mut mounted = Vec::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for (from, to) in mounts(service) {
            assert!(from.exists(), "{name} mounts {}", from.display());
            mounted.push(to);
        }
    }
    for file in ["aggregator", "proxy"] {
        let path = format!("/etc/tributary/{file}.yaml");
        // What starts it, and what checks it.
        assert_eq!(image.matches(&format!("\"{path}\"")).count(), 2, "{path}");
        assert!(mounted.contains(&path), "{path}");
    }
    // Grafana's own settings name a folder of its container.
    let provisioning = root().join("deploy/compose/grafana/provisioning");
    let provider = yaml(&provisioning.join("dashboards/tributary.yaml"));
    let dashboards = provider["providers"][0]["options"]["path"].as_str();
    assert!(mounted.contains(&dashboards.unwrap().to_owned()));
    let sources = yaml(&provisioning.join("datasources/tributary.yaml"));
    for source in sources["datasources"].as_array().unwrap() {
        let host = source["url"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://");
        let (host, _) = host.split_once(':').unwrap();
        assert!(compose["services"][host].is_object(), "{host}");
    }
}

#[test]
fn the_image_is_built_of_what_is_sent_to_the_builder() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = ["));
    let members = members.unwrap().trim_end_matches(']');
    let members = members.split(", ").map(|member| member.trim_matches('"'));
    for needed in members.chain(["Cargo.toml", "Cargo.lock"]) {
        assert!(
            ignored.lines().any(|line| line == format!("!{needed}")),
            "{needed} is not sent"
        );
    }
}

// === The tier, running ===

/// A process that is killed when it is dropped.
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, directory: &Path, command: &mut Command) -> io::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let name = name.to_owned();
        Ok(Self { name, child, log })
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("=== {}\n{log}", self.name)
    }

    /// Ends it as `docker compose stop` does.
    async fn stop(&mut self) -> io::Result<Option<i32>> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let what = format!("{} to end", self.name);
        let ended = wait_for(&what, async || self.child.try_wait().ok().flatten());
        Ok(ended.await?.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses of the containers' network, each with the one here in its place.
#[derive(Default)]
struct Network(BTreeMap<String, String>);

impl Network {
    fn add(&mut self, there: &str, here: &str) {
        self.0.insert(there.to_owned(), here.to_owned());
    }

    fn here(&self, there: &str) -> &str {
        &self.0[there]
    }

    /// `text`, with each of these addresses in it replaced.
    fn translate(&self, mut text: String) -> String {
        for (there, here) in &self.0 {
            text = text.replace(there.as_str(), here);
        }
        text
    }
}

/// carbon-cache, with its files below `directory`.
fn carbon(directory: &Path, pickle: &str) -> io::Result<Process> {
    let package = fetched("TEST_CARBON")?;
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let (lines, queries) = (free_address()?, free_address()?);
    let config = format!(
        "[cache]\nLINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\n\
         PICKLE_RECEIVER_PORT = {}\nCACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {}\nMAX_CREATES_PER_MINUTE = inf\n\
         MAX_UPDATES_PER_SECOND = inf\nENABLE_TAGS = False\nCARBON_METRIC_INTERVAL = 0\nUSER =\n",
        port(&lines),
        port(pickle),
        port(&queries),
    );
    fs::create_dir_all(directory.join("conf"))?;
    fs::create_dir_all(directory.join("storage/whisper"))?;
    fs::create_dir_all(directory.join("storage/log"))?;
    fs::write(directory.join("conf/carbon.conf"), config)?;
    let schemas = "[all]\npattern = .*\nretentions = 1s:1h\n";
    fs::write(directory.join("conf/storage-schemas.conf"), schemas)?;
    let mut command = Command::new("python3");
    command
        .arg(Path::new(&package).join("bin/carbon-cache.py"))
        .args(["--nodaemon", "start"])
        .env(
            "PYTHONPATH",
            format!("{package}:{package}/opt/graphite/lib"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GRAPHITE_ROOT", directory)
        .env("GRAPHITE_CONF_DIR", directory.join("conf"))
        .env("GRAPHITE_STORAGE_DIR", directory.join("storage"))
        .current_dir(directory);
    Process::start("carbon", directory, &mut command)
}

/// The values of one of whisper's files, as its own library reads them; none before there is one.
fn whisper(directory: &Path, series: &str) -> Vec<f64> {
    const READ: &str = "import sys, time, whisper\nfor v in whisper.fetch(sys.argv[1], int(time.time()) - 3000, int(time.time()) + 60)[1]:\n  \
                        if v is not None: print(v)";
    let file = format!("storage/whisper/{}.wsp", series.replace('.', "/"));
    let read = Command::new("python3")
        .args(["-c", READ])
        .arg(directory.join(file))
        .env("PYTHONPATH", fetched("TEST_CARBON").unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Prometheus with the settings of its container.
fn prometheus(directory: &Path, network: &Network, http: &str) -> io::Result<Process> {
    let config = fs::read_to_string(root().join("deploy/compose/prometheus.yml"))?;
    let rules = root().join("alerts/tributary.yaml");
    let config = network
        .translate(config)
        .replace("/etc/prometheus/tributary.yaml", &rules.to_string_lossy())
        .replace("10s", "1s");
    let file = directory.join("prometheus.yml");
    fs::write(&file, config)?;
    let mut command = Command::new(fetched("TEST_PROMETHEUS")?);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={http}"));
    Process::start("prometheus", directory, &mut command)
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Consul, carbon and Prometheus: run integration/test"
)]
async fn the_tier_of_the_containers_brings_a_percentile_to_graphite() -> Outcome {
    let compose = compose();
    let directory = TempDir::new()?;
    let consul = Consul::start().await?;
    let mut network = Network::default();
    network.add("consul:8500", &consul.http());
    network.add("graphite:2004", &free_address()?);
    let carbon = carbon(directory.path(), network.here("graphite:2004"))?;

    let ours = ours(&compose);
    for (name, program) in &ours {
        let ports = match *program {
            "proxy" => ["8227", "8228"],
            _ => ["8127", "8128"],
        };
        for port in ports {
            network.add(&format!("{name}:{port}"), &free_address()?);
        }
    }
    let statsd = free_address()?;
    let mut processes = Vec::new();
    for (name, program) in &ours {
        let service = &compose["services"][name];
        // What it listens on in its container, it listens on here where others reach it.
        let mut own = Network::default();
        own.add("0.0.0.0:8126", &statsd);
        for (there, here) in &network.0 {
            if let Some(port) = there.strip_prefix(&format!("{name}:")) {
                own.add(&format!("0.0.0.0:{port}"), here);
            }
        }
        // Rounds of a second in place of ten.
        let mut text = own.translate(network.translate(settings(service)));
        text = match text.contains("interval: 10s") {
            true => text.replace("interval: 10s", "interval: 1s"),
            false => format!("{text}\ninterval: 1s\n"),
        };
        let file = directory.path().join(format!("{name}.yaml"));
        fs::write(&file, text)?;
        let variables = environment(service);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.args([program, "-f"]).arg(&file).envs(
            variables
                .into_iter()
                .map(|(name, value)| (name, network.translate(value))),
        );
        processes.push(Process::start(name, directory.path(), &mut command)?);
    }
    let http = free_address()?;
    let _prometheus = prometheus(directory.path(), &network, &http)?;

    let logs = |processes: &[Process]| -> String { processes.iter().map(Process::log).collect() };
    // 1 to 100 milliseconds, again and again: the fleet's median is about 50, and the agent's own maximum is 100.
    let client = UdpSocket::bind("127.0.0.1:0")?;
    let lines: Vec<String> = (1..=100)
        .map(|value| format!("checkout.latency:{value}|ms"))
        .collect();
    let in_whisper = async |series: &str, from: f64, to: f64| {
        let what = format!("{series} of {from} to {to} in whisper's files");
        wait_for(&what, async || {
            client.send_to(lines.join("\n").as_bytes(), &statsd).ok()?;
            let mut values = whisper(directory.path(), series).into_iter();
            values
                .any(|value| (from..=to).contains(&value))
                .then_some(())
        })
        .await
        .map_err(|error| format!("{error}\n{}{}", logs(&processes), carbon.log()))
    };
    in_whisper("checkout.latency.50percentile", 45.0, 56.0).await?;
    in_whisper("checkout.latency.99percentile", 98.0, 100.0).await?;
    in_whisper("checkout.latency.max", 100.0, 100.0).await?;

    // Every program is scraped, and known to Consul where it has to be.
    wait_for("Prometheus to scrape all six", async || {
        let answer = get(&http, "/api/v1/query?query=sum(up)").await.ok()?;
        answer.text().contains(r#""6"]"#).then_some(())
    })
    .await?;
    for (service, number) in [("veneur-global", 3), ("veneur-proxy", 2)] {
        let healthy = consul.healthy(service, "").await?;
        assert_eq!(healthy.len(), number, "{service}: {healthy:?}");
    }
    for name in ["agent", "proxy", "global"] {
        for process in processes.iter_mut().filter(|p| p.name.starts_with(name)) {
            assert_eq!(process.stop().await?, Some(0), "{}", process.log());
        }
    }
    Ok(())
}
