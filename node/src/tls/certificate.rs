//! What a certificate says, for people and for [`super::ServerTls::allowed_names`]. Whether it is to be believed, rustls decides.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Name};

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Common names, DNS names and URIs.
    pub(super) names: Vec<String>,
    issuer: String,
    /// In seconds since 1970.
    pub(super) not_before: i64,
    /// In seconds since 1970.
    pub(super) not_after: i64,
}

impl Facts {
    /// `None` where it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut names = common_names(parsed.subject());
        if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
            let more = alternatives.value.general_names.iter();
            names.extend(more.filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            }));
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let issuer = common_names(parsed.issuer());
        Some(Self {
            names,
            issuer: match issuer.is_empty() {
                true => parsed.issuer().to_string(),
                false => issuer.join(", "),
            },
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// `agent-1, spiffe://fleet/agent (issued by Fleet CA, valid until …)`.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.names.is_empty() {
            true => "without a name".to_owned(),
            false => self.names.join(", "),
        };
        let (issuer, until) = (&self.issuer, date(self.not_after));
        write!(f, "{names} (issued by {issuer}, valid until {until})")
    }
}

fn common_names(name: &X509Name<'_>) -> Vec<String> {
    name.iter_common_name()
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect()
}

/// A time in seconds since 1970, to be read.
pub(super) fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(
        |_| format!("{seconds} s after 1970"),
        |time| time.to_string(),
    )
}
