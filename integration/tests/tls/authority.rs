//! A CA of a test's own, and files with what it signed.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use serde_json::{Value, json};

/// A CA that signs what a test wants.
pub(crate) struct Authority {
    /// Its certificate.
    pub(crate) file: PathBuf,
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Its files are in `directory`.
    pub(crate) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, certificate.pem())?;
        Ok(Self {
            file,
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// `cert_file` and `key_file` of a certificate with this common name, which a server on 127.0.0.1 can show too.
    pub(crate) fn issue(&self, name: &str) -> io::Result<Value> {
        self.issue_until(name, 4096)
    }

    /// One that expired long ago.
    pub(crate) fn issue_expired(&self, name: &str) -> io::Result<Value> {
        self.issue_until(name, 2002)
    }

    fn issue_until(&self, name: &str, year: i32) -> io::Result<Value> {
        let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
        params.distinguished_name = common_name(name);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.signed_by(&key, &self.issuer);
        let file = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        let (certificate_file, key_file) = (file("crt"), file("key"));
        std::fs::write(&certificate_file, signed.map_err(io::Error::other)?.pem())?;
        std::fs::write(&key_file, key.serialize_pem())?;
        Ok(json!({"cert_file": certificate_file, "key_file": key_file}))
    }

    /// Settings of a client that trusts this CA, and shows this certificate.
    pub(crate) fn client(&self, identity: &Value) -> Value {
        with(identity, "ca_file", json!(self.file))
    }

    /// Settings of a server that shows this certificate, and lets in whom this CA signed.
    pub(crate) fn server(&self, identity: &Value) -> Value {
        with(identity, "client_ca_file", json!(self.file))
    }
}

/// The same settings with one more.
pub(crate) fn with(settings: &Value, key: &str, value: Value) -> Value {
    let mut settings = settings.clone();
    settings[key] = value;
    settings
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
