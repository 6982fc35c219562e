//! The configuration of a Flux source. The documentation of the fields is the manual.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::admin;
use tributary_node::config::{Duration, Secret, Size};
use tributary_node::tls::ServerTls;

use super::Flux;
use super::keys::{ApiKeys, Keys, read_key, read_keys};
use super::rules::Rules;
use crate::source::{Source, registry};

/// Takes metrics by Skyline Flux's HTTP interface, in its place: `GET /metric_data`, `POST /metric_data_post`, each also below `/flux/`. See
/// `docs/flux.md`, and `docs/telegraf.md` for telegraf.
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

    /// The longest body after it is unpacked. Default: `8MiB`.
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

    /// Whether posted names with blanks, `*`, `'` or several dots in a row are repaired, as later versions of Flux do, rather than refused.
    /// telegraf's are always. Default: false.
    pub repair_names: bool,

    /// Whether dots in the host of telegraf's metrics become `_`, as in the other parts of a name. Flux leaves them. Default: true.
    pub telegraf_replace_host: bool,
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
            max_inflated: Size::mib(8),
            max_metrics: 0,
            body_timeout: Duration::seconds(30),
            max_connections: 256,
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
