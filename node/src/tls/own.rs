//! A client for our own server on this host: it knows that server by its certificate, whatever name that is for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
};

use super::material::{Material, Server, identity};
use super::{Alpn, ServerTls, TlsError};

/// A connection to the server with these settings, which is shown its own certificate if it asks for one; `None` where it speaks no TLS.
pub(crate) fn ask_own(settings: &ServerTls) -> Result<Option<ClientConnection>, TlsError> {
    if !settings.is_on() {
        return Ok(None);
    }
    let unusable = |error: Error| TlsError {
        field: "cert_file",
        what: format!("cannot be used: {error}"),
    };
    let contents = Server::new(settings, Alpn::Http1).read()?;
    let provider = Arc::new(ring::default_provider());
    let Some((key, _)) = identity(
        &contents,
        &settings.cert_file,
        &settings.key_file,
        &provider,
    )?
    else {
        return Ok(None);
    };
    let pinned = Pinned {
        certificate: key.cert.first().cloned(),
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = Alpn::Http1.protocols();
    let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    ClientConnection::new(Arc::new(config), nobody)
        .map(Some)
        .map_err(unusable)
}

/// Believes the server that holds this certificate's key, and no other.
#[derive(Debug)]
struct Pinned {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.certificate.as_ref() == Some(end_entity) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
