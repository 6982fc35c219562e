//! A CA of a test's own.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

use crate::tls::Pem;

/// A CA that signs what a test wants.
pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM text.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        let key = KeyPair::generate().unwrap();
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn certificate(&self) -> Pem {
        Pem::new(self.pem.clone())
    }

    /// For hosts, addresses and URIs; the first is the common name.
    pub(super) fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_for_years(names, 1975, 4096)
    }

    /// Valid from the first of January of one year to that of another.
    pub(super) fn issue_for_years(&self, names: &[&str], from: i32, until: i32) -> Leaf {
        let uris = names.iter().filter(|name| name.contains("://"));
        let hosts = names.iter().filter(|name| !name.contains("://"));
        let hosts: Vec<_> = hosts.map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        let uris = uris.map(|name| SanType::URI((*name).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.distinguished_name = common_name(names[0]);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: Pem::new(params.signed_by(&key, &self.issuer).unwrap().pem()),
            key: Pem::new(key.serialize_pem()),
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
