//! What the tests share: the servers, one pipeline of each test, and questions to all of them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tributary_integration::influxdb::Influx;
use tributary_integration::tier::{free_address, get, wait_for};

use crate::kafka::producer;
use crate::mock::CloudFoundry;
use crate::server::Kafka;

/// For what waits for a member of the group that was killed, too.
const PATIENCE: Duration = Duration::from_secs(90);

/// Servers for tests that do not stop them.
pub(crate) struct Servers {
    pub(crate) kafka: Kafka,
    pub(crate) influx: Influx,
}

/// They end with the last test that has them.
static SHARED: tokio::sync::Mutex<Weak<Servers>> = tokio::sync::Mutex::const_new(Weak::new());

pub(crate) async fn servers() -> Arc<Servers> {
    let mut shared = SHARED.lock().await;
    if let Some(servers) = shared.upgrade() {
        return servers;
    }
    let mut kafka = Kafka::prepare("PLAINTEXT", "").await.unwrap();
    kafka.start().await.unwrap();
    let influx = Influx::start().await.unwrap();
    let servers = Arc::new(Servers { kafka, influx });
    *shared = Arc::downgrade(&servers);
    servers
}

/// The pipeline of one test. Its topic, consumer group and database have the test's name.
pub(crate) struct Pipeline {
    pub(crate) name: &'static str,
    pub(crate) cf: CloudFoundry,
    pub(crate) http: String,
    pub(crate) brokers: String,
    environment: Vec<(String, String)>,
    producer: FutureProducer,
    directory: TempDir,
    running: Option<Running>,
}

/// The program while it runs.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// SIGTERM; gives how it ended, within the time that Cloud Foundry leaves.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        ended
            .unwrap_or_else(|_| panic!("no end in ten seconds:\n{}", log()))
            .unwrap()
    }

    /// As a crash would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Pipeline {
    /// Everything but the program, which [`start`](Self::start) starts.
    pub(crate) async fn new(name: &'static str, kafka: &Kafka, influx: &Influx) -> Self {
        influx.create(name).await.unwrap();
        let cf = CloudFoundry::start().await;
        let http = free_address().unwrap();
        let port = http.rsplit(':').next().unwrap();
        let environment = [
            ("CFMR_CF_API", cf.url()),
            ("CFMR_CF_USER", "alice".to_owned()),
            ("CFMR_CF_PASSWORD", "p4ss".to_owned()),
            ("CFMR_CF_TIMEOUT", "5s".to_owned()),
            ("CFMR_INFLUXDB_ADDR", influx.url()),
            ("CFMR_INFLUXDB_DATABASE", name.to_owned()),
            ("CFMR_KAFKA_BROKERS", kafka.open.clone()),
            ("CFMR_KAFKA_TOPICS", name.to_owned()),
            ("CFMR_KAFKA_CONSUMERGROUP", name.to_owned()),
            ("CFMR_BATCHER_FLUSHINTERVAL", "300ms".to_owned()),
            ("CFMR_SERVER_PORT", port.to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Self {
            name,
            cf,
            http,
            brokers: kafka.open.clone(),
            environment: environment.into(),
            producer: producer(&kafka.open),
            directory: TempDir::new().unwrap(),
            running: None,
        }
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Starts the program, and waits until it serves.
    pub(crate) async fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["aggregator", "--preset", "cf-metrics-refinery"])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        self.running = Some(Running {
            child: child.unwrap(),
            log: self.log_file(),
        });
        self.until("the program to serve", async || {
            get(&self.http, "/stats/app").await.is_ok()
        })
        .await;
    }

    /// The program, for whoever wants to end it while this is in use.
    pub(crate) fn take(&mut self) -> Running {
        self.running.take().unwrap()
    }

    /// Ends the program in order.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.take().stop().await
    }

    /// Waits until something is so; else this is a failure, with the log.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let start = tokio::time::Instant::now();
        while !is_so().await {
            if start.elapsed() > PATIENCE {
                let stats = get(&self.http, "/stats/app").await;
                let stats = stats.map(|answer| answer.text());
                panic!("{}: never {what}; {stats:?}\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes messages to the pipeline's topic, and waits until they are there.
    pub(crate) async fn write(&self, messages: impl IntoIterator<Item = String>) {
        self.write_to(self.name, messages).await;
    }

    pub(crate) async fn write_to(&self, topic: &str, messages: impl IntoIterator<Item = String>) {
        let messages: Vec<String> = messages.into_iter().collect();
        let sent = messages.iter().map(|message| {
            let record = FutureRecord::<(), _>::to(topic).payload(message);
            self.producer.send(record, Duration::from_secs(60))
        });
        try_join_all(sent).await.unwrap();
    }

    /// A number of `/stats/app`.
    pub(crate) async fn stat(&self, key: &str) -> u64 {
        let answer = get(&self.http, "/stats/app").await.unwrap();
        let stats: Value = serde_json::from_str(&answer.text()).unwrap();
        stats[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {stats}"))
    }

    /// The sum of a self-metric over what has this label.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = get(&self.http, "/metrics").await.unwrap().text();
        let lines = text.lines().filter(|line| {
            let name_of = line.split(['{', ' ']).next().unwrap_or_default();
            name_of == format!("veneur_{name}") && line.contains(label)
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    /// What the group has committed of a topic, and how much there is: its offsets summed up. Asked of Kafka itself.
    pub(crate) async fn offsets(&self, topic: &str) -> (i64, i64) {
        let (brokers, group, topic) =
            (self.brokers.clone(), self.name.to_owned(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let wait = Duration::from_secs(20);
            let asker: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &brokers)
                .set("group.id", &group)
                .create()
                .unwrap();
            let metadata = asker.fetch_metadata(Some(&topic), wait).unwrap();
            let mut places = TopicPartitionList::new();
            let mut end = 0;
            for partition in metadata.topics()[0].partitions() {
                places.add_partition(&topic, partition.id());
                let marks = asker.fetch_watermarks(&topic, partition.id(), wait);
                end += marks.unwrap().1;
            }
            let committed = asker.committed_offsets(places, wait).unwrap();
            let offset = |offset| match offset {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            let elements = committed.elements();
            let done: i64 = elements.iter().map(|it| offset(it.offset())).sum();
            (done, end)
        });
        asked.await.unwrap()
    }

    /// Waits until all of a topic is committed.
    pub(crate) async fn until_committed(&self, topic: &str) {
        self.until("all offsets committed", async || {
            let (done, end) = self.offsets(topic).await;
            done == end
        })
        .await;
    }

    /// Waits until so many of the events are stored, and checks that it is not more.
    pub(crate) async fn until_stored(&self, influx: &Influx, count: u64) {
        let what = format!("{count} events in InfluxDB");
        self.until(&what, async || self.stored(influx).await >= count)
            .await;
        assert_eq!(self.stored(influx).await, count);
    }

    /// How many of the events are in InfluxDB.
    pub(crate) async fn stored(&self, influx: &Influx) -> u64 {
        let questions = r#"SELECT count("count") FROM log; SELECT count("count") FROM http_request; SELECT count("cpu") FROM instance"#;
        let Ok(results) = influx.query(self.name, questions).await else {
            return 0;
        };
        let counts = results.as_array().unwrap().iter();
        counts
            .filter_map(|result| result["series"][0]["values"][0][1].as_u64())
            .sum()
    }
}

/// Waits until a server does not answer any more.
pub(crate) async fn until_gone(address: &str) {
    wait_for("the end of a server", async || {
        let gone = tokio::net::TcpStream::connect(address).await.is_err();
        gone.then_some(())
    })
    .await
    .unwrap();
}
