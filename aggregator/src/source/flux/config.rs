//! The configuration of a Flux source. The documentation of the fields is the manual.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::admin;
use tributary_node::config::{Duration, Secret, Size};
use tributary_node::tls::{ClientTls, ServerTls};

use super::aggregate::AggregateConfig;
use super::keys::{ApiKeys, Keys, read_key, read_keys};
use super::populate::Hosts;
use super::rules::Rules;
use super::upload::UploadKeys;
use super::{Flux, redis};
use crate::source::{Source, registry};

/// Takes metrics by Skyline Flux's HTTP interface, in its place: `GET /metric_data`, `POST /metric_data_post`, and, where they are set, uploads
/// and `POST /populate_metric`; each also below `/flux/`. See `docs/flux.md`, and `docs/telegraf.md` for telegraf.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FluxConfig {
    /// Where to listen. Flux's `FLUX_IP` and `FLUX_PORT`. Default: `127.0.0.1:8000`.
    pub address: String,

    /// TLS on `address`. Default: none; Flux stands behind nginx.
    pub tls: ServerTls,

    /// The key whose metrics keep their names: 32 ASCII letters and digits. Flux's `FLUX_SELF_API_KEY`. Never shown. Default: none.
    pub self_api_key: Secret,

    /// A file that holds the key in place of `self_api_key`. Read again when it changes. Default: none.
    pub self_api_key_file: PathBuf,

    /// More keys, each with the namespace that the names of its metrics get: `{KEY: warehouse-1}`. Flux's `FLUX_API_KEYS`. Never shown.
    /// Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub api_keys: ApiKeys,

    /// A file of more keys, a line `KEY: NAMESPACE` for each. Read again when it changes. Default: none.
    pub api_keys_file: PathBuf,

    /// How old a metric may be; `fill` sets it aside for one. Flux's `FLUX_MAX_AGE`. Default: `1h`.
    pub max_age: Duration,

    /// The longest request body as it is sent; a longer one is answered with 413. Default: `1MiB`.
    pub max_body: Size,

    /// The longest body after it is unpacked. What is parsed at a time takes a multiple of it in memory. Default: `4MiB`.
    pub max_inflated: Size,

    /// How many metrics one POST may bring; more are answered with 413. 0 is as many as fit into `max_body`. Flux advises at most 450; telegraf
    /// sends 1,000. Default: 0.
    pub max_metrics: usize,

    /// How long a request's body may take to come; a slower one is answered with 408. Default: `30s`.
    pub body_timeout: Duration,

    /// How many connections may be open; further ones wait. Each may hold a body of `max_body`. Default: 256.
    pub max_connections: usize,

    /// Where Graphite keeps its files: names are refused that would make longer paths than 4,096 bytes there. Flux's
    /// `FLUX_GRAPHITE_WHISPER_PATH`. Default: `/opt/graphite/storage/whisper`.
    pub whisper_path: String,

    /// Whether a point is left out that is not newer than the last one of its metric: it came before. `fill` sets it aside for a metric. Flux's
    /// `FLUX_CHECK_LAST_TIMESTAMP`. Default: true.
    pub check_last_timestamp: bool,

    /// A directory of this program's own for what has to outlive a restart: the last timestamps, the names that count toward quotas, and, with
    /// `persist_queue`, points that no sink has yet. It is made if it is not there. Empty: kept in memory only. Default: `/var/lib/tributary`.
    pub state_dir: PathBuf,

    /// A Redis by which several instances share their last timestamps, under Flux's own keys: `redis://127.0.0.1:6379/0`. While it is away each
    /// instance goes by what it knows itself. Default: none.
    pub redis: Secret,

    /// Whether points are on the disk in `state_dir` before they are answered with 204, so that not even a crash loses one. It costs a write to
    /// the disk for each request, several at a time together. Flux's `FLUX_PERSIST_QUEUE`. Default: false.
    pub persist_queue: bool,

    /// How many different metrics the owner of a namespace may send: `{warehouse-1: 500}`; further names are rejected. Flux's
    /// `FLUX_NAMESPACE_QUOTAS`. Each instance counts for itself. Default: no bounds.
    pub quotas: BTreeMap<String, usize>,

    /// Namespaces whose metrics get a 0 each minute in which they are silent. Flux's `FLUX_ZERO_FILL_NAMESPACES`. Default: none.
    pub zero_fill_namespaces: Vec<String>,

    /// Namespaces whose metrics get their last value each minute in which they are silent. Flux's `FLUX_LAST_KNOWN_VALUE_NAMESPACES`.
    /// Default: none.
    pub last_known_value_namespaces: Vec<String>,

    /// Namespaces whose metrics are aggregated: one point an interval for each method, with the time of the interval's start. Points that arrive
    /// in an interval count in it, and neither their times nor repeats are looked at. For each: `method` (`avg`, `sum`, `min`, `max`, or a list;
    /// default `avg`), `interval` (default `1m`), `zero_fill` and `last_known_value` (what a silent metric gets; default false), `method_suffix`
    /// (whether a single method is added to the name, too; default false). Flux's `FLUX_AGGREGATE_NAMESPACES`. Default: none.
    pub aggregate_namespaces: BTreeMap<String, AggregateConfig>,

    /// What the names of Flux's own metrics start with, which go to the sinks each minute: `skyline.flux.HOST` where there are several. Empty:
    /// they are left out. Default: `skyline.flux`.
    pub self_metrics_prefix: String,

    /// Uploads of tables: `POST /upload_data`, a form at `GET /upload_data`, and `GET /api?upload_status`. See `docs/flux.md`.
    pub uploads: UploadsConfig,

    /// The hosts that `POST /populate_metric` may fetch from: `graphite.example.org`, or `10.0.0.1:9090` for that port alone. Nobody else is asked,
    /// whatever is posted, and redirects are not followed. Empty: there is no `/populate_metric`. Default: none.
    pub populate_hosts: Vec<String>,

    /// TLS to those of them that are asked by `https://`. Default: the CAs that this system trusts.
    pub populate_tls: ClientTls,

    /// Whether posted names with blanks, `*`, `'` or several dots in a row are repaired, as later versions of Flux do, rather than refused.
    /// telegraf's are always. Default: false.
    pub repair_names: bool,

    /// Whether dots in the host of telegraf's metrics become `_`, as in the other parts of a name. Flux leaves them. Default: true.
    pub telegraf_replace_host: bool,
}

/// How tables are uploaded.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UploadsConfig {
    /// Whether they are. It needs a `state_dir`, where they wait and where it is known for 30 days what became of them. Flux's
    /// `FLUX_PROCESS_UPLOADS`. Default: false.
    pub enabled: bool,

    /// Keys of whatever length, each with the namespace below which it may upload, in either order: `{KEY: warehouse-1}` or `{warehouse-1: KEY}`.
    /// `self_api_key` may upload everywhere, and each of `api_keys` below its namespace. Flux's `FLUX_UPLOADS_KEYS`. Never shown. Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub keys: UploadKeys,

    /// The longest upload as it is sent; a longer one is answered with 413. Default: `16MiB`.
    pub max_body: Size,

    /// How long one may take to come; a slower one is answered with 408. Default: `2m`.
    pub timeout: Duration,
}

impl Default for UploadsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            keys: UploadKeys::default(),
            max_body: Size::mib(16),
            timeout: Duration::seconds(120),
        }
    }
}

impl Default for FluxConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8000".to_owned(),
            tls: ServerTls::default(),
            self_api_key: Secret::default(),
            self_api_key_file: PathBuf::new(),
            api_keys: ApiKeys::default(),
            api_keys_file: PathBuf::new(),
            max_age: Duration::seconds(3600),
            max_body: Size::mib(1),
            max_inflated: Size::mib(4),
            max_metrics: 0,
            body_timeout: Duration::seconds(30),
            max_connections: 256,
            check_last_timestamp: true,
            state_dir: "/var/lib/tributary".into(),
            redis: Secret::default(),
            persist_queue: false,
            quotas: BTreeMap::new(),
            zero_fill_namespaces: Vec::new(),
            last_known_value_namespaces: Vec::new(),
            aggregate_namespaces: BTreeMap::new(),
            self_metrics_prefix: "skyline.flux".to_owned(),
            uploads: UploadsConfig::default(),
            populate_hosts: Vec::new(),
            populate_tls: ClientTls::default(),
            whisper_path: "/opt/graphite/storage/whisper".to_owned(),
            repair_names: false,
            telegraf_replace_host: true,
        }
    }
}

impl FluxConfig {
    /// The keys as they are now, those of files read.
    pub(super) fn keys(&self) -> Result<Keys, String> {
        let mut keys = self.given_keys()?;
        if !self.self_api_key_file.as_os_str().is_empty() {
            let read = read_key(&self.self_api_key_file);
            let added = read.and_then(|key| Ok(keys.add(key.expose(), None)?));
            added.map_err(|problem| format!("self_api_key_file: {problem}"))?;
        }
        if !self.api_keys_file.as_os_str().is_empty() {
            let read = read_keys(&self.api_keys_file);
            let added = read.and_then(|read| add(&mut keys, &read, &self.rules()));
            added.map_err(|problem| format!("api_keys_file: {problem}"))?;
        }
        Ok(keys)
    }

    /// The keys that stand in the configuration itself.
    fn given_keys(&self) -> Result<Keys, String> {
        let mut keys = Keys::default();
        if !self.self_api_key.is_empty() {
            let added = keys.add(self.self_api_key.expose(), None);
            added.map_err(|problem| format!("self_api_key: {problem}"))?;
        }
        let added = add(&mut keys, &self.api_keys, &self.rules());
        added.map_err(|problem| format!("api_keys: {problem}"))?;
        Ok(keys)
    }

    pub(super) fn rules(&self) -> Rules {
        let max_age = self.max_age.get().as_secs();
        Rules {
            max_age: i64::try_from(max_age).unwrap_or(i64::MAX / 2),
            whisper_path: self.whisper_path.trim_end_matches('/').to_owned(),
            repair_names: self.repair_names,
        }
    }
}

fn add(keys: &mut Keys, more: &ApiKeys, rules: &Rules) -> Result<(), String> {
    for (key, namespace) in more.iter() {
        keys.add(key, Some(namespace))?;
        rules
            .name(namespace)
            .map_err(|problem| format!("`{namespace}` is no namespace: {problem}"))?;
    }
    Ok(())
}

#[async_trait]
impl registry::Build for FluxConfig {
    const EXAMPLE: &'static str = "\
- kind: flux
  config:
    address: 127.0.0.1:8000
    self_api_key: 0123456789abcdefghijklmnopqrstuv
    state_dir: /var/lib/tributary
";
    const GUIDE: &'static str = "flux.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = admin::check_address(&self.address) {
            problems.push(format!("address: {error}"));
        }
        let files = [&self.self_api_key_file, &self.api_keys_file];
        match self.given_keys() {
            Err(problem) => problems.push(problem),
            Ok(keys) if keys.is_empty() && files.iter().all(|path| path.as_os_str().is_empty()) => {
                problems.push(
                    "self_api_key: neither it nor api_keys is given, so that nobody could send"
                        .to_owned(),
                );
            }
            Ok(_) => {}
        }
        if self.max_age.get().as_secs() == 0 {
            problems.push("max_age: has to be a second at least".to_owned());
        }
        if self.body_timeout.is_zero() {
            problems.push("body_timeout: has to be more than 0".to_owned());
        }
        if self.max_connections == 0 {
            problems.push("max_connections: has to be 1 at least".to_owned());
        }
        if !self.redis.is_empty()
            && let Err(problem) = redis::client(self.redis.expose())
        {
            problems.push(format!("redis: {problem}"));
        }
        if self.uploads.enabled && self.state_dir.as_os_str().is_empty() {
            problems.push("uploads.enabled: needs a state_dir".to_owned());
        }
        if let Err(problem) = Hosts::new(&self.populate_hosts) {
            problems.push(format!("populate_hosts: {problem}"));
        }
        if self.persist_queue && self.state_dir.as_os_str().is_empty() {
            problems.push("persist_queue: needs a state_dir".to_owned());
        }
        for (namespace, aggregate) in &self.aggregate_namespaces {
            let problem = |problem: &str| format!("aggregate_namespaces.{namespace}.{problem}");
            let interval = aggregate.interval.get();
            if interval.as_secs() == 0 || interval.subsec_nanos() != 0 {
                problems.push(problem("interval: has to be whole seconds"));
            }
            if aggregate.method.is_empty() {
                problems.push(problem("method: names none"));
            }
            if aggregate.zero_fill && aggregate.last_known_value {
                problems.push(problem(
                    "zero_fill: cannot be on together with last_known_value",
                ));
            }
        }
        let prefix = &self.self_metrics_prefix;
        if !prefix.is_empty()
            && let Err(problem) = self.rules().name(prefix)
        {
            problems.push(format!("self_metrics_prefix: {problem}"));
        }
        for (key, size) in [
            ("max_body", self.max_body),
            ("max_inflated", self.max_inflated),
        ] {
            if size.get() == 0 {
                problems.push(format!("{key}: has to be more than 0"));
            }
        }
        problems
    }

    async fn open(self, name: &str) -> Result<Box<dyn Source>, String> {
        Ok(Box::new(Flux::open(self, name).await?))
    }
}
