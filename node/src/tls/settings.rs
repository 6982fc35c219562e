//! What can be set. The fields' documentation is the manual.

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::material::{Client, Material, Server};
use super::{Alpn, Pem, TlsError};
use crate::config::Problems;

/// TLS where we listen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// The server's certificate and those between it and the CA, in this order: a PEM file, or the PEM text itself. Empty: no TLS.
    pub cert_file: Pem,
    /// The private key of `cert_file`, not encrypted: a PEM file, or the PEM text itself.
    pub key_file: Pem,
    /// The CAs that clients' certificates must be signed by: a PEM file, or the PEM text itself. With it, a client without a valid certificate is
    /// refused (mutual TLS). Empty: clients are not asked for one, and whoever can reach the port can send.
    pub client_ca_file: Pem,
    /// Which clients may come in: a common name, DNS name or URI that stands in their certificates, each in full. Empty: everyone that
    /// `client_ca_file` signed.
    pub allowed_names: Vec<String>,
}

/// TLS where we connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// Whether TLS is spoken. Default: as soon as another of these keys is set.
    pub enabled: Option<bool>,
    /// The CAs that servers' certificates must be signed by: a PEM file, or the PEM text itself. Empty: the CAs that this system trusts.
    pub ca_file: Pem,
    /// The certificate to show to a server that asks for one, and those between it and the CA: a PEM file, or the PEM text itself. Empty: none.
    pub cert_file: Pem,
    /// The private key of `cert_file`, not encrypted: a PEM file, or the PEM text itself.
    pub key_file: Pem,
    /// The name that servers' certificates must be valid for. Empty: the host of the address, which for an address without a name means that
    /// the certificate must have the IP address in it.
    pub server_name: String,
}

impl ServerTls {
    /// Whether TLS is spoken.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }

    /// Adds what is wrong, with the files too; `key` is where these settings stand: `grpc_tls`.
    pub fn check(&self, key: &str, problems: &mut Problems) {
        if let Err(error) = self.problem() {
            problems.add(format!("{key}.{}", error.field), error.what);
        }
    }

    fn problem(&self) -> Result<(), TlsError> {
        if !self.is_on() {
            let others = [
                ("key_file", !self.key_file.is_empty()),
                ("client_ca_file", !self.client_ca_file.is_empty()),
                ("allowed_names", !self.allowed_names.is_empty()),
            ];
            return match others.iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(without(field, "cert_file")),
                None => Ok(()),
            };
        }
        let material = Server::new(self, Alpn::None);
        material.make(&material.read()?).map(drop)
    }
}

impl ClientTls {
    /// Whether TLS is spoken.
    pub fn is_on(&self) -> bool {
        self.enabled.unwrap_or_else(|| {
            !(self.ca_file.is_empty()
                && self.cert_file.is_empty()
                && self.key_file.is_empty()
                && self.server_name.is_empty())
        })
    }

    /// Adds what is wrong, with the files too; `key` is where these settings stand: `forward_tls`.
    pub fn check(&self, key: &str, problems: &mut Problems) {
        if self.is_on()
            && let Err(error) = self.problem()
        {
            problems.add(format!("{key}.{}", error.field), error.what);
        }
    }

    fn problem(&self) -> Result<(), TlsError> {
        self.server_name()?;
        let material = Client::new(self);
        material.make(&material.read()?).map(drop)
    }

    /// The name that is set, if one is.
    pub(super) fn server_name(&self) -> Result<Option<ServerName<'static>>, TlsError> {
        if self.server_name.is_empty() {
            return Ok(None);
        }
        let name = ServerName::try_from(self.server_name.clone());
        name.map(Some).map_err(|_| TlsError {
            field: "server_name",
            what: format!(
                "{:?} is neither a host name nor an IP address",
                self.server_name
            ),
        })
    }
}

/// A field that makes no sense without another.
pub(super) fn without(field: &'static str, other: &str) -> TlsError {
    TlsError {
        field,
        what: format!("does nothing without {other}"),
    }
}
