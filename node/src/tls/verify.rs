//! Which clients are let in: those whose certificates rustls believes, and among them those with an allowed name.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::Facts;

tokio::task_local! {
    /// The certificate that the client of this handshake was refused for: rustls's errors do not say which it was.
    pub(super) static REFUSED: RefCell<Option<Facts>>;
}

/// See the module.
#[derive(Debug)]
pub(super) struct NamedClients {
    inner: Arc<dyn ClientCertVerifier>,
    /// None: all.
    allowed: Vec<String>,
}

impl NamedClients {
    pub(super) fn new(inner: Arc<dyn ClientCertVerifier>, allowed: &[String]) -> Self {
        Self {
            inner,
            allowed: allowed.to_vec(),
        }
    }

    fn allows(&self, client: Option<&Facts>) -> bool {
        let named = |facts: &Facts| {
            let mut names = facts.names.iter();
            names.any(|name| self.allowed.contains(name))
        };
        self.allowed.is_empty() || client.is_some_and(named)
    }
}

impl ClientCertVerifier for NamedClients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let client = Facts::of(end_entity);
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)
            .and_then(|verified| match self.allows(client.as_ref()) {
                true => Ok(verified),
                // The client is told "access denied".
                false => Err(CertificateError::ApplicationVerificationFailure.into()),
            });
        if verified.is_err() {
            let _ = REFUSED.try_with(|refused| refused.replace(client));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
