//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Secret};
use tributary_node::tls::ClientTls;

use crate::endpoint;

/// Where Cloud Foundry's names of applications, spaces and organizations come from.
///
/// The login is the first of these that is set: `token`, `client_id`, `user`. What it may read decides which applications are known: an auditor of
/// all organizations, or a client with `cloud_controller.admin_read_only`, sees all.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudFoundryConfig {
    /// The Cloud Controller, as `https://api.system.example`.
    pub api: String,

    /// The UAA client that logs in for itself (`client_credentials`). Default: empty.
    #[serde(default)]
    pub client_id: String,

    /// Its secret. Default: empty.
    #[serde(default)]
    pub client_secret: Secret,

    /// A file with that secret in place of `client_secret`. It is read at each login, so that a new secret needs no restart. White space around it does
    /// not count.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub client_secret_file: Option<PathBuf>,

    /// The user that logs in with a password, as by `cf login`. Default: empty.
    #[serde(default)]
    pub user: String,

    /// The user's password. Default: empty.
    #[serde(default)]
    pub password: Secret,

    /// A file with that password in place of `password`; read at each login.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub password_file: Option<PathBuf>,

    /// A token to use as it is, without `bearer` before it. It cannot be renewed. Default: empty.
    #[serde(default)]
    pub token: Secret,

    /// A file with that token in place of `token`. It is read again when the Cloud Controller refuses the token, so that something else may renew it.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub token_file: Option<PathBuf>,

    /// How long one request may take with its answer. Default: 1m.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,

    /// How many applications a page of a list has, 1 to 5000 (100 with `api_version: 2`). Larger pages are fewer requests, which count against a
    /// rate limit. Default: 50.
    #[serde(default = "default_per_page")]
    pub per_page: u32,

    /// How often all applications are listed: that is how soon a new name is seen. Each process takes this time with up to 10 % more or less, so that many
    /// do not ask at once. Default: 10m.
    #[serde(default = "default_refresh")]
    pub refresh: Duration,

    /// An application of which no event came for so long is forgotten, and asked for when there is one again. Default: 3m.
    #[serde(default = "default_expire")]
    pub expire: Duration,

    /// How often such applications are looked for. Default: 1m.
    #[serde(default = "default_expire_check")]
    pub expire_check: Duration,

    /// For how long an application that the Cloud Controller does not know is not asked for again. A listing that has it ends that. Default: 20m.
    #[serde(default = "default_negative_expire")]
    pub negative_expire: Duration,

    /// How often the memory of such applications is cleared of old ones. Default: 3m.
    #[serde(default = "default_negative_expire_check")]
    pub negative_expire_check: Duration,

    /// The version of the Cloud Controller's API, 3 or 2. Version 2 is switched off in today's installations, and asks for applications one by one.
    /// Default: 3.
    #[serde(default = "default_api_version")]
    pub api_version: u8,

    /// How many requests ask for single applications at a time. Each asks for up to 100 of them with `api_version: 3`. Default: 4.
    #[serde(default = "default_max_concurrent_lookups")]
    pub max_concurrent_lookups: usize,

    /// How many applications are known at most, and as many again that are known not to be there; beyond that the tenth that was longest unused is
    /// forgotten. One takes about half a KiB. Default: 100000.
    #[serde(default = "default_max_apps")]
    pub max_apps: usize,

    /// What becomes of events of applications that are not known while the Cloud Controller cannot be asked. `wait`: they wait until it can, while
    /// others go on, so that nothing is lost; `pass`: they are counted and left out after three tries. Default: `wait`.
    #[serde(default)]
    pub on_unavailable: OnUnavailable,

    /// Here for those who come from cf-metrics-refinery. Certificates are always verified: only `false` is taken, and `tls.ca_file` is for a CA of
    /// your own. Default: false.
    #[serde(default)]
    pub skip_ssl_validation: bool,

    /// TLS towards the Cloud Controller and UAA, for an `api` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    #[serde(default)]
    pub tls: ClientTls,
}

/// What becomes of events that wait for the Cloud Controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailable {
    /// They wait.
    #[default]
    Wait,
    /// They are left out.
    Pass,
}

const fn default_timeout() -> Duration {
    Duration::seconds(60)
}

const fn default_per_page() -> u32 {
    50
}

const fn default_refresh() -> Duration {
    Duration::seconds(600)
}

const fn default_expire() -> Duration {
    Duration::seconds(180)
}

const fn default_expire_check() -> Duration {
    Duration::seconds(60)
}

const fn default_negative_expire() -> Duration {
    Duration::seconds(1200)
}

const fn default_negative_expire_check() -> Duration {
    Duration::seconds(180)
}

const fn default_api_version() -> u8 {
    3
}

const fn default_max_concurrent_lookups() -> usize {
    4
}

const fn default_max_apps() -> usize {
    100_000
}

impl CloudFoundryConfig {
    /// What is wrong beyond the types of the keys, each text starting with its key. Opens and connects nothing.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.base().err().map(|what| format!("api: {what}")));
        self.login_problems(&mut problems);
        for (key, value) in [
            ("timeout", self.timeout),
            ("refresh", self.refresh),
            ("expire", self.expire),
            ("expire_check", self.expire_check),
            ("negative_expire", self.negative_expire),
            ("negative_expire_check", self.negative_expire_check),
        ] {
            if value.is_zero() {
                problems.push(format!("{key}: is zero"));
            }
        }
        let most = if self.api_version == 2 { 100 } else { 5000 };
        if !(1..=most).contains(&self.per_page) {
            problems.push(format!(
                "per_page: {} is not between 1 and {most}",
                self.per_page
            ));
        }
        if ![2, 3].contains(&self.api_version) {
            problems.push(format!(
                "api_version: {} is neither 3 nor 2",
                self.api_version
            ));
        }
        for (key, value, most) in [
            ("max_concurrent_lookups", self.max_concurrent_lookups, 100),
            ("max_apps", self.max_apps, 10_000_000),
        ] {
            if !(1..=most).contains(&value) {
                problems.push(format!("{key}: {value} is not between 1 and {most}"));
            }
        }
        if self.skip_ssl_validation {
            problems.push(
                "skip_ssl_validation: true is not taken: certificates are always verified; name the CA in `tls.ca_file`"
                    .to_owned(),
            );
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        problems
    }

    fn login_problems(&self, problems: &mut Vec<String>) {
        let given = |text: &Secret, file: &Option<PathBuf>| !text.is_empty() || file.is_some();
        for (key, text, file) in [
            (
                "client_secret",
                &self.client_secret,
                &self.client_secret_file,
            ),
            ("password", &self.password, &self.password_file),
            ("token", &self.token, &self.token_file),
        ] {
            if !text.is_empty() && file.is_some() {
                problems.push(format!("{key}_file: is set, and `{key}` as well"));
            }
        }
        let token = given(&self.token, &self.token_file);
        if !token && self.client_id.is_empty() && self.user.is_empty() {
            problems.push("user: none of `token`, `client_id` and `user` is set".to_owned());
        }
        if !self.user.is_empty() && !given(&self.password, &self.password_file) {
            problems.push("password: is not set for `user`".to_owned());
        }
        if self
            .token
            .expose()
            .to_ascii_lowercase()
            .starts_with("bearer ")
        {
            problems.push("token: starts with `bearer`, which is added".to_owned());
        }
        if http::HeaderValue::from_str(self.token.expose()).is_err() {
            problems.push("token: has characters that a header cannot hold".to_owned());
        }
    }

    /// Where the API is.
    pub(super) fn base(&self) -> Result<Uri, String> {
        let uri = endpoint::parse(&self.api, &self.tls, "https://api.example", "user")?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("has a path, which is not kept".to_owned());
        }
        Ok(uri)
    }
}
