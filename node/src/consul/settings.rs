//! Where Consul is and how it is asked: as the programs' settings say it, and as the client uses it.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Problems, Secret};

/// What a program's settings say about Consul: the keys `consul_…`, which both programs have and describe.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `consul_address`: `host:port` or `http://host:port/prefix`. Empty: `CONSUL_HTTP_ADDR`, then what is usual.
    pub address: String,
    /// `consul_token`. Empty, and no file either: `CONSUL_HTTP_TOKEN`, then the file that `CONSUL_HTTP_TOKEN_FILE` names, then none.
    pub token: Secret,
    /// `consul_token_file`: it is read for each question, so that a token that changes is followed.
    pub token_file: String,
    /// `consul_datacenter`. Empty: the one that Consul's agent is in.
    pub datacenter: String,
    /// `consul_tag`: only instances that have all of these.
    pub tags: Vec<String>,
    /// `consul_stale`
    pub stale: bool,
    /// `consul_address_preference`
    pub prefer: AddressPreference,
    /// `consul_refresh_interval`: the longest time that the list may go without being looked at.
    pub refresh_interval: Duration,
}

/// Which of an instance's two addresses is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressPreference {
    /// The one that the service registered, the node's where it registered none.
    #[default]
    Service,
    /// The node's, as Veneur's proxies have it.
    Node,
}

/// Where Consul is and how it is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) authority: Authority,
    /// In front of `/v1/…`, for a Consul behind a reverse proxy; without a slash at its end.
    pub(super) prefix: String,
    pub(super) token: Token,
    pub(super) datacenter: String,
    pub(super) tags: Vec<String>,
    pub(super) stale: bool,
    pub(super) prefer: AddressPreference,
    pub(super) refresh_interval: Duration,
    /// Between the beginnings of two questions, at least.
    pub(super) least_gap: Duration,
    /// What a question may take beyond the wait that it asks for.
    pub(super) patience: Duration,
}

/// Where the ACL token comes from.
#[derive(Debug, Clone)]
pub(super) enum Token {
    /// Empty: none is sent.
    Given(Secret),
    /// Read for each question.
    File(PathBuf),
}

/// An address that this client cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a host and a port.
    #[error("{0:?} is not Consul's address, write it like 127.0.0.1:8500")]
    Malformed(String),
    /// `https://…`, `unix://…`
    #[error("{0:?} cannot be spoken to, only plain http:// can")]
    Scheme(String),
}

// What Consul's own tools assume.
const USUAL_ADDRESS: &str = "127.0.0.1:8500";
// Consul's own bound for a wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

// === impl Options ===

impl Options {
    /// Adds what is wrong with these settings, under the keys named at the fields.
    pub fn check(&self, problems: &mut Problems) {
        if let Err(error) = Settings::new(self) {
            problems.add("consul_address", error);
        }
        if !self.token.is_empty() && !self.token_file.is_empty() {
            problems.add("consul_token_file", "there is a consul_token already");
        }
        if self.refresh_interval.is_zero() {
            problems.add("consul_refresh_interval", "must be more than 0s");
        }
        if self.tags.iter().any(|tag| tag.trim().is_empty()) {
            problems.add("consul_tag", "a tag is empty");
        }
    }
}

// === impl Settings ===

impl Settings {
    /// What `options` and, for what they leave open, the variables of Consul's own tools say.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn new(options: &Options) -> Result<Self, AddressError> {
        Self::with_variables(options, |name| std::env::var(name).ok())
    }

    pub(super) fn with_variables(
        options: &Options,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let given = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let address = match options.address.trim() {
            "" => given("CONSUL_HTTP_ADDR").unwrap_or_else(|| USUAL_ADDRESS.to_owned()),
            address => address.to_owned(),
        };
        let token = if !options.token.is_empty() {
            Token::Given(options.token.clone())
        } else if !options.token_file.is_empty() {
            Token::File(PathBuf::from(&options.token_file))
        } else if let Some(token) = given("CONSUL_HTTP_TOKEN") {
            Token::Given(Secret::new(token))
        } else if let Some(file) = given("CONSUL_HTTP_TOKEN_FILE") {
            Token::File(PathBuf::from(file))
        } else {
            Token::Given(Secret::default())
        };
        let (authority, prefix) = parse(address.trim())?;
        Ok(Self {
            authority,
            prefix,
            token,
            datacenter: options.datacenter.clone(),
            tags: options.tags.clone(),
            stale: options.stale,
            prefer: options.prefer,
            refresh_interval: options.refresh_interval.clamp(SHORTEST_WAIT, LONGEST_WAIT),
            least_gap: Duration::from_millis(100),
            patience: Duration::from_secs(10),
        })
    }
}

fn parse(address: &str) -> Result<(Authority, String), AddressError> {
    let malformed = || AddressError::Malformed(address.to_owned());
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    if !with_scheme.starts_with("http://") {
        return Err(AddressError::Scheme(address.to_owned()));
    }
    let uri: http::Uri = with_scheme.parse().map_err(|_| malformed())?;
    let parts = uri.into_parts();
    let (Some(authority), Some(true)) = (
        parts.authority,
        parts.scheme.map(|scheme| scheme == Scheme::HTTP),
    ) else {
        return Err(malformed());
    };
    if authority.host().is_empty() {
        return Err(malformed());
    }
    let prefix = parts
        .path_and_query
        .as_ref()
        .map_or("", PathAndQuery::path)
        .trim_end_matches('/')
        .to_owned();
    Ok((authority, prefix))
}
