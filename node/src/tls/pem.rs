//! PEM: where it comes from and what is in it.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::TlsError;
use crate::config::REDACTED;

/// A file with PEM in it, or the PEM text itself, which begins with `-----BEGIN`. The text is a secret: it is shown nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pem(String);

/// The two things that a [`Pem`] can be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PemGiven<'a> {
    /// The PEM text itself, which may be a secret.
    Text(&'a str),
    /// A file's path.
    File(&'a str),
}

/// As much as a file of certificates may have, in bytes; a whole system's CAs take a tenth of it.
const LONGEST: u64 = 4 << 20;

impl Pem {
    /// A file's path, or the text.
    pub fn new(path_or_text: impl Into<String>) -> Self {
        Self(path_or_text.into())
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// What was given, for libraries that read it themselves; `None` for nothing.
    pub fn given(&self) -> Option<PemGiven<'_>> {
        match self.is_text() {
            _ if self.is_empty() => None,
            true => Some(PemGiven::Text(&self.0)),
            false => Some(PemGiven::File(&self.0)),
        }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn is_text(&self) -> bool {
        self.0.trim_start().starts_with("-----BEGIN")
    }

    /// What it holds now; `None` where nothing was given.
    pub(super) fn read(&self, field: &'static str) -> Result<Option<Vec<u8>>, TlsError> {
        if self.is_empty() {
            return Ok(None);
        }
        if self.is_text() {
            return Ok(Some(self.0.clone().into_bytes()));
        }
        let failed = |what: String| TlsError { field, what };
        let mut bytes = Vec::new();
        File::open(&self.0)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| failed(format!("{self} cannot be read: {error}")))?;
        if bytes.len() as u64 > LONGEST {
            return Err(failed(format!("{self} has more than {LONGEST} bytes")));
        }
        Ok(Some(bytes))
    }
}

/// For people: the path, or that it is in the settings.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_text() {
            "the PEM text in the settings"
        } else {
            &self.0
        })
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(if self.is_text() { REDACTED } else { &self.0 }, f)
    }
}

impl Serialize for Pem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_text() { REDACTED } else { &self.0 })
    }
}

impl<'de> Deserialize<'de> for Pem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Pem {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Pem".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

/// A piece of PEM that was read, with where it is from.
pub(super) struct Source<'a> {
    pub(super) field: &'static str,
    pub(super) from: &'a Pem,
    pub(super) bytes: &'a [u8],
}

impl Source<'_> {
    pub(super) fn error(&self, what: impl fmt::Display) -> TlsError {
        TlsError {
            field: self.field,
            what: format!("{} {what}", self.from),
        }
    }

    /// The certificates, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let list = CertificateDer::pem_slice_iter(self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error(format_args!("is not PEM: {error}")))?;
        if list.is_empty() {
            return Err(self.error("holds no certificate (-----BEGIN CERTIFICATE-----)"));
        }
        Ok(list)
    }

    /// The certificates as those that others' must be signed by.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| {
                self.error(format_args!(
                    "holds a certificate that cannot be used: {error}"
                ))
            })?;
        }
        Ok(Arc::new(roots))
    }

    /// The private key, with the certificates that it belongs to.
    pub(super) fn key_of(
        &self,
        certificates: &Source<'_>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsError> {
        let chain = certificates.certificates()?;
        let key = PrivateKeyDer::from_pem_slice(self.bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => self.error(
                "holds no private key that can be used (unencrypted PKCS#8, PKCS#1 or SEC1)",
            ),
            error => self.error(format_args!("is not PEM: {error}")),
        })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => self.error(format_args!(
                "is not the key of the first certificate in {}",
                certificates.from
            )),
            rustls::Error::InvalidCertificate(error) => {
                certificates.error(format_args!("begins with a broken certificate: {error}"))
            }
            error => self.error(format_args!("cannot be used: {error}")),
        })
    }
}
