//! From settings and files to what rustls works with.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::Facts;
use super::pem::Source;
use super::settings::without;
use super::verify::NamedClients;
use super::{Alpn, ClientTls, Pem, ServerTls, TlsError};

/// What the files held when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    ca: Option<Vec<u8>>,
}

/// A configuration that works.
#[derive(Debug)]
pub(super) struct Made<C> {
    pub(super) config: Arc<C>,
    /// Of our certificate, or of the one in its chain that ends first.
    pub(super) own: Option<Facts>,
}

/// Settings with files, from which a configuration is made again and again.
pub(super) trait Material: Send + Sync + 'static {
    type Config: Send + Sync + 'static;

    /// Reads the files. Blocks.
    fn read(&self) -> Result<Contents, TlsError>;

    /// Makes a configuration of what was read. May read the system's CAs.
    fn make(&self, contents: &Contents) -> Result<Made<Self::Config>, TlsError>;

    /// Where our certificate is from.
    fn certificate(&self) -> &Pem;
}

/// A server's.
pub(super) struct Server {
    settings: ServerTls,
    alpn: Alpn,
}

/// A client's.
pub(super) struct Client {
    settings: ClientTls,
}

impl Server {
    pub(super) fn new(settings: &ServerTls, alpn: Alpn) -> Self {
        Self {
            settings: settings.clone(),
            alpn,
        }
    }
}

impl Client {
    pub(super) fn new(settings: &ClientTls) -> Self {
        Self {
            settings: settings.clone(),
        }
    }
}

impl Material for Server {
    type Config = ServerConfig;

    fn read(&self) -> Result<Contents, TlsError> {
        let ServerTls {
            cert_file,
            key_file,
            client_ca_file,
            ..
        } = &self.settings;
        Ok(Contents {
            certificate: cert_file.read("cert_file")?,
            key: key_file.read("key_file")?,
            ca: client_ca_file.read("client_ca_file")?,
        })
    }

    fn make(&self, contents: &Contents) -> Result<Made<ServerConfig>, TlsError> {
        let settings = &self.settings;
        let provider = Arc::new(ring::default_provider());
        let (key, own) = identity(contents, &settings.cert_file, &settings.key_file, &provider)?
            .ok_or_else(|| missing("cert_file"))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("cert_file", &error))?;
        let builder = match &contents.ca {
            None if settings.allowed_names.is_empty() => builder.with_no_client_auth(),
            None => return Err(without("allowed_names", "client_ca_file")),
            Some(bytes) => {
                let ca = Source {
                    field: "client_ca_file",
                    from: &settings.client_ca_file,
                    bytes,
                };
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(ca.roots()?, Arc::clone(&provider))
                        .build()
                        .map_err(|error| unusable("client_ca_file", &error))?;
                let verifier = NamedClients::new(verifier, &settings.allowed_names);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = self.alpn.protocols();
        // Connections live long, and a resumed one would not be verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Made {
            config: Arc::new(config),
            own,
        })
    }

    fn certificate(&self) -> &Pem {
        &self.settings.cert_file
    }
}

impl Material for Client {
    type Config = ClientConfig;

    fn read(&self) -> Result<Contents, TlsError> {
        let ClientTls {
            ca_file,
            cert_file,
            key_file,
            ..
        } = &self.settings;
        Ok(Contents {
            certificate: cert_file.read("cert_file")?,
            key: key_file.read("key_file")?,
            ca: ca_file.read("ca_file")?,
        })
    }

    fn make(&self, contents: &Contents) -> Result<Made<ClientConfig>, TlsError> {
        let settings = &self.settings;
        let provider = Arc::new(ring::default_provider());
        let identity = identity(contents, &settings.cert_file, &settings.key_file, &provider)?;
        let roots = match &contents.ca {
            Some(bytes) => Source {
                field: "ca_file",
                from: &settings.ca_file,
                bytes,
            }
            .roots()?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("ca_file", &error))?
            .with_root_certificates(roots);
        let (mut config, own) = match identity {
            None => (builder.with_no_client_auth(), None),
            Some((key, own)) => {
                let resolver = Arc::new(SingleCertAndKey::from(key));
                (builder.with_client_cert_resolver(resolver), own)
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Made {
            config: Arc::new(config),
            own,
        })
    }

    fn certificate(&self) -> &Pem {
        &self.settings.cert_file
    }
}

/// Our certificate with its key, and the facts of the one in its chain that ends first. `None` where there is neither.
pub(super) fn identity(
    contents: &Contents,
    certificate: &Pem,
    key: &Pem,
    provider: &CryptoProvider,
) -> Result<Option<(CertifiedKey, Option<Facts>)>, TlsError> {
    let (certificate, key) = match (&contents.certificate, &contents.key) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(without("key_file", "cert_file")),
        (Some(_), None) => return Err(missing("key_file")),
        (Some(chain), Some(bytes)) => (
            Source {
                field: "cert_file",
                from: certificate,
                bytes: chain,
            },
            Source {
                field: "key_file",
                from: key,
                bytes,
            },
        ),
    };
    let key = key.key_of(&certificate, provider)?;
    let own = key.cert.iter().filter_map(Facts::of);
    let own = own.min_by_key(|facts| facts.not_after);
    Ok(Some((key, own)))
}

/// The CAs that this system trusts.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store has a few oddities in it: those that can be used are.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        return Err(TlsError {
            field: "ca_file",
            what: format!(
                "is empty, and this system trusts no CA{}",
                why.unwrap_or_default()
            ),
        });
    }
    Ok(Arc::new(roots))
}

fn missing(field: &'static str) -> TlsError {
    TlsError {
        field,
        what: "is missing".to_owned(),
    }
}

fn unusable(field: &'static str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError {
        field,
        what: format!("cannot be used: {error}"),
    }
}
