//! Why a handshake failed: a cause to count, and words for whoever reads the log.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::certificate::{Facts, date};

/// What `tls.handshake_errors_total` is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// A certificate has expired, or is not valid yet.
    Expired,
    /// A certificate is signed by no CA that the other side knows.
    UnknownCa,
    /// The client showed no certificate to a server that wants one.
    NoClientCertificate,
    /// The client's certificate is right, and its names are not among the allowed ones.
    NameNotAllowed,
    /// The server's certificate is for another name.
    WrongName,
    /// One side speaks TLS and the other does not.
    NotTls,
    /// It took too long.
    Timeout,
    /// The other side went away: a port scan, a load balancer's check.
    Closed,
    /// Anything else.
    Other,
}

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) words: String,
}

impl Cause {
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::UnknownCa => "unknown_ca",
            Self::NoClientCertificate => "no_client_certificate",
            Self::NameNotAllowed => "name_not_allowed",
            Self::WrongName => "wrong_name",
            Self::NotTls => "not_tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }
}

impl Side {
    /// What the other side is called.
    fn peer(self) -> &'static str {
        match self {
            Self::Server => "the client",
            Self::Client => "the server",
        }
    }
}

impl Failure {
    pub(super) fn new(cause: Cause, words: impl Into<String>) -> Self {
        Self {
            cause,
            words: words.into(),
        }
    }

    /// The other side took too long.
    pub(super) fn timeout(side: Side, within: std::time::Duration) -> Self {
        let words = format!("{} did not finish within {within:?}", side.peer());
        Self::new(Cause::Timeout, words)
    }

    /// Judges an error of a handshake. `shown` is the certificate that was refused, where that is known.
    pub(super) fn of(error: &io::Error, side: Side, shown: Option<&Facts>) -> Self {
        if let Some(error) = of_tls(error) {
            return Self::of_rustls(error, side, shown);
        }
        let peer = side.peer();
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => {
                Self::new(Cause::Closed, format!("{peer} closed the connection"))
            }
            io::ErrorKind::TimedOut => Self::new(Cause::Timeout, error.to_string()),
            _ => Self::new(Cause::Other, error.to_string()),
        }
    }

    fn of_rustls(error: &Error, side: Side, shown: Option<&Facts>) -> Self {
        let peer = side.peer();
        match error {
            Error::InvalidCertificate(error) => of_certificate(error, side, shown),
            Error::NoCertificatesPresented => Self::new(
                Cause::NoClientCertificate,
                format!("{peer} showed no certificate, and client_ca_file asks for one"),
            ),
            Error::InvalidMessage(_) => Self::new(
                Cause::NotTls,
                format!("{peer} does not speak TLS, and this side does"),
            ),
            Error::AlertReceived(alert) => of_alert(*alert, side),
            error => Self::new(Cause::Other, error.to_string()),
        }
    }
}

/// The error of TLS in an error of a stream, if that is what it is.
pub(super) fn of_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// We refused the other side's certificate.
fn of_certificate(error: &CertificateError, side: Side, shown: Option<&Facts>) -> Failure {
    let shown = shown.map_or_else(String::new, |facts| format!(" {facts}"));
    let certificate = format!("{}'s certificate{shown}", side.peer());
    let ca = match side {
        Side::Server => "client_ca_file",
        Side::Client => "ca_file, or of the system where that is empty",
    };
    let (cause, what) = match error {
        CertificateError::ExpiredContext { not_after, .. } => (
            Cause::Expired,
            format!(
                "expired on {}",
                date(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX))
            ),
        ),
        CertificateError::Expired => (Cause::Expired, "has expired".to_owned()),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            Cause::Expired,
            "is not valid yet: is the clock right?".to_owned(),
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            (Cause::UnknownCa, format!("is signed by no CA of {ca}"))
        }
        CertificateError::ApplicationVerificationFailure => (
            Cause::NameNotAllowed,
            "has none of the allowed_names".to_owned(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Cause::WrongName, format!("is for another name: {error}"))
        }
        error => (Cause::Other, format!("was refused: {error}")),
    };
    Failure::new(cause, format!("{certificate} {what}"))
}

/// The other side refused something of ours.
fn of_alert(alert: AlertDescription, side: Side) -> Failure {
    let peer = side.peer();
    let ours = format!("{peer} refused our certificate:");
    let (cause, words) = match alert {
        AlertDescription::CertificateExpired => (
            Cause::Expired,
            format!("{ours} it has expired, or is not valid yet"),
        ),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => (
            Cause::UnknownCa,
            format!("{ours} it is signed by no CA that {peer} knows"),
        ),
        AlertDescription::CertificateRequired => (
            Cause::NoClientCertificate,
            format!("{peer} wants a certificate of ours: set cert_file and key_file"),
        ),
        AlertDescription::AccessDenied => (
            Cause::NameNotAllowed,
            format!("{ours} its names are not among those allowed there"),
        ),
        AlertDescription::BadCertificate if side == Side::Server => (
            Cause::WrongName,
            format!("{ours} it is broken, or for another name than {peer} connects to"),
        ),
        alert => (
            Cause::Other,
            format!("{peer} ended the handshake with the alert {alert:?}"),
        ),
    };
    Failure::new(cause, words)
}
