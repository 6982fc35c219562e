//! What happens around TLS: the log line and the self-metric together.

use std::sync::LazyLock;

use super::TlsError;
use super::certificate::{Facts, date};
use super::failure::{Cause, Failure, Side};
use crate::metrics::{
    TLS_CERTIFICATE_EXPIRY, TLS_HANDSHAKE_ERRORS, TLS_RELOAD_ERRORS, TLS_RELOADS,
};
use crate::repeats::Repeats;

/// Told by hop, peer without its port, and what happened.
static REPEATS: LazyLock<Repeats<(&'static str, String, String)>> = LazyLock::new(Repeats::default);

/// A handshake failed.
pub(super) struct HandshakeFailed<'a> {
    /// The settings' key: `grpc_tls`.
    pub(super) hop: &'static str,
    pub(super) side: Side,
    /// `host:port`
    pub(super) peer: &'a str,
    pub(super) failure: &'a Failure,
}

/// Files have changed and are in force.
pub(super) struct Reloaded<'a> {
    pub(super) hop: &'static str,
    pub(super) certificate: Option<&'a Facts>,
}

/// Files have changed and are not right.
pub(super) struct ReloadFailed<'a> {
    pub(super) hop: &'static str,
    pub(super) error: &'a TlsError,
}

/// How long our certificate is still valid.
pub(super) struct CertificateAge<'a> {
    pub(super) hop: &'static str,
    /// Where it is from.
    pub(super) file: &'a str,
    pub(super) certificate: &'a Facts,
    /// In seconds; below 0 it has expired.
    pub(super) left: i64,
    /// Whether it is to be told.
    pub(super) warn: bool,
}

impl HandshakeFailed<'_> {
    pub(super) fn emit(&self) {
        let Self { hop, peer, .. } = *self;
        let Failure { cause, words } = self.failure;
        TLS_HANDSHAKE_ERRORS
            .with([hop.into(), cause.tag().into()])
            .increment(1);
        if *cause == Cause::Closed && self.side == Side::Server {
            tracing::debug!(hop, peer, detail = words, "no TLS connection with a client");
            return;
        }
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        let Some(more) = REPEATS.tell(&(hop, host.to_owned(), words.clone())) else {
            return;
        };
        let (cause, detail) = (cause.tag(), words);
        match self.side {
            Side::Server => {
                tracing::warn!(
                    hop,
                    peer,
                    cause,
                    detail,
                    "no TLS connection with a client{more}"
                );
            }
            Side::Client => {
                tracing::warn!(
                    hop,
                    peer,
                    cause,
                    detail,
                    "no TLS connection to a server{more}"
                );
            }
        }
    }
}

impl Reloaded<'_> {
    pub(super) fn emit(&self) {
        let hop = self.hop;
        TLS_RELOADS.with([hop.into()]).increment(1);
        let certificate = self.certificate.map(ToString::to_string);
        tracing::info!(hop, certificate, "TLS files read again");
    }
}

impl ReloadFailed<'_> {
    pub(super) fn emit(&self) {
        let (hop, error) = (self.hop, self.error);
        TLS_RELOAD_ERRORS.with([hop.into()]).increment(1);
        tracing::error!(hop, %error, "TLS files have changed and cannot be used, going on with the old ones");
    }
}

impl CertificateAge<'_> {
    pub(super) fn emit(&self) {
        let Self {
            hop, file, left, ..
        } = *self;
        TLS_CERTIFICATE_EXPIRY
            .with([hop.into(), file.to_owned().into()])
            .set(left as f64);
        if !self.warn {
            return;
        }
        let until = date(self.certificate.not_after);
        let names = self.certificate.names.join(", ");
        if left <= 0 {
            tracing::error!(hop, file, names, until, "our certificate has expired");
        } else {
            tracing::warn!(hop, file, names, until, "our certificate expires soon");
        }
    }
}
