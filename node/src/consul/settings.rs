//! Where Consul is and how it is asked: as the programs' settings say it, and as the client uses it.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Problems, Secret};
use crate::tls::{ClientTls, Pem};

/// What a program's settings say about Consul: the keys `consul_…`, which both programs have and describe.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `consul_address`: `host:port`, `http://host:port/prefix` or `https://…`. Empty: `CONSUL_HTTP_ADDR`, then what is usual.
    pub address: String,
    /// `consul_tls`. Files that it leaves open are those that `CONSUL_CACERT`, `CONSUL_CLIENT_CERT` and `CONSUL_CLIENT_KEY` name.
    pub tls: ClientTls,
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
    /// If it is spoken.
    pub(super) tls: Option<ClientTls>,
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
    /// `unix://…`
    #[error("{0:?} cannot be spoken to, only http:// and https:// can")]
    Scheme(String),
    /// `http://…` beside settings for TLS.
    #[error("{0:?} is without TLS, although consul_tls asks for it")]
    Plain(String),
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
        match Settings::new(self) {
            Ok(Settings { tls: Some(tls), .. }) => tls.check("consul_tls", problems),
            Ok(_) => {}
            Err(error) => problems.add("consul_address", error),
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
        let on = options.tls.is_on()
            || given("CONSUL_HTTP_SSL").is_some_and(|on| on == "true" || on == "1");
        let usual = if on { Scheme::HTTPS } else { Scheme::HTTP };
        let (scheme, authority, prefix) = parse(address.trim(), &usual)?;
        let tls = if scheme == Scheme::HTTPS {
            Some(with_usual_files(&options.tls, given))
        } else if options.tls.is_on() {
            return Err(AddressError::Plain(address));
        } else {
            None
        };
        Ok(Self {
            authority,
            prefix,
            tls,
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

/// What the settings leave open is what Consul's own tools use.
fn with_usual_files(tls: &ClientTls, given: impl Fn(&str) -> Option<String>) -> ClientTls {
    let usual = |own: &Pem, name: &str| match own.is_empty() {
        true => given(name).map(Pem::new).unwrap_or_default(),
        false => own.clone(),
    };
    let (cert_file, key_file) = match tls.cert_file.is_empty() && tls.key_file.is_empty() {
        true => (
            usual(&tls.cert_file, "CONSUL_CLIENT_CERT"),
            usual(&tls.key_file, "CONSUL_CLIENT_KEY"),
        ),
        false => (tls.cert_file.clone(), tls.key_file.clone()),
    };
    let server_name = match tls.server_name.as_str() {
        "" => given("CONSUL_TLS_SERVER_NAME").unwrap_or_default(),
        name => name.to_owned(),
    };
    ClientTls {
        enabled: Some(true),
        ca_file: usual(&tls.ca_file, "CONSUL_CACERT"),
        cert_file,
        key_file,
        server_name,
    }
}

/// Scheme, host with port, and what stands before `/v1`; `usual` is the scheme where none is given.
fn parse(address: &str, usual: &Scheme) -> Result<(Scheme, Authority, String), AddressError> {
    let malformed = || AddressError::Malformed(address.to_owned());
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("{usual}://{address}")
    };
    if !["http://", "https://"]
        .iter()
        .any(|scheme| with_scheme.starts_with(scheme))
    {
        return Err(AddressError::Scheme(address.to_owned()));
    }
    let uri: http::Uri = with_scheme.parse().map_err(|_| malformed())?;
    let parts = uri.into_parts();
    let (Some(authority), Some(scheme)) = (parts.authority, parts.scheme) else {
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
    Ok((scheme, authority, prefix))
}
