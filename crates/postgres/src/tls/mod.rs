//! TLS with libpq's meaning of the modes: `require` encrypts to whoever answers, `verify-ca` wants a certificate from a
//! known authority, `verify-full` wants it for this host name as well.
//!
//! The provider is given explicitly; nothing depends on a process-wide default.

mod certificate;

use std::{io, path::Path, sync::Arc};

use lifeboat_model::config::TlsMode;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use crate::error::{Error, Result};

pub(crate) use certificate::{end_point_binding, validity};

/// The configuration for one connection. Reads the root certificates, so that a renewed file is seen.
pub(crate) fn client_config(mode: TlsMode, root_cert: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(mode, root_cert, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the ring provider supports TLS 1.2 and 1.3");
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// How a host is named to the server and compared with its certificate.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| Error::Invalid {
        what: "host",
        reason: format!("\"{host}\" cannot be used with TLS: {error}"),
    })
}

/// Sorts a failed handshake by what a person has to do.
pub(crate) fn handshake_error(server: &str, error: &io::Error) -> Error {
    let server = server.to_owned();
    let reason = error.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Error::TlsHostname { server, reason },
        Some(TlsError::InvalidCertificate(_)) => Error::TlsUntrusted { server, reason },
        _ => Error::TlsHandshake { server, reason },
    }
}

fn is_name_mismatch(error: &TlsError) -> bool {
    matches!(
        error,
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

/// Checks a server's certificate as the mode demands.
#[derive(Debug)]
pub(crate) struct Verifier {
    mode: TlsMode,
    provider: Arc<CryptoProvider>,
    /// Checks chain and name; none with `require`.
    chain: Option<Arc<dyn ServerCertVerifier>>,
    /// The certificates of `root_cert`: a server may present exactly one of them, as a self-signed one does.
    pinned: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub(crate) fn new(mode: TlsMode, root_cert: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let provider = Arc::clone(provider);
        let (chain, pinned) = match (mode, root_cert) {
            (TlsMode::Disable | TlsMode::Require, _) => (None, Vec::new()),
            (_, Some(path)) => {
                let pinned = read_certificates(path)?;
                (Some(chain_of(path, &pinned, &provider)?), pinned)
            }
            (_, None) => (Some(platform(&provider)?), Vec::new()),
        };
        Ok(Verifier { mode, provider, chain, pinned })
    }

    fn verify_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> std::result::Result<(), TlsError> {
        match certificate::is_valid_at(certificate, now) {
            Some(true) => {}
            Some(false) => return Err(CertificateError::Expired.into()),
            None => return Err(CertificateError::BadEncoding.into()),
        }
        if self.mode == TlsMode::VerifyFull {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(())
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |reason: String| Error::RootCertificate { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unusable(format!("not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    Ok(certificates)
}

fn chain_of(
    path: &Path,
    certificates: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    let unusable = |reason: String| Error::RootCertificate { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.build().map_err(|error| unusable(error.to_string()))?)
}

fn platform(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(provider)).map_err(|error| Error::Invalid {
        what: "the system's store of root certificates",
        reason: format!("{error}; install ca-certificates, or set root_cert_file"),
    })?;
    Ok(Arc::new(verifier))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            self.verify_pinned(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is checked before the name, so this is a good chain for another name.
            Err(error) if self.mode == TlsMode::VerifyCa && is_name_mismatch(&error) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
