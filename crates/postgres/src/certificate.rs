//! The certificate that an endpoint shows: when it ends, and whether a connection would trust it.
//!
//! Nothing is sent but the handshake, so a certificate that nobody trusts can be looked at as well. The endpoint is a
//! PostgreSQL server or any other that begins with TLS at once, as an object store does: TLS is in one place.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use lifeboat_model::config::TlsMode;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    error::{Error, Result},
    tls::{self, Verifier},
    transport::ask_for_tls,
};

/// Who shows a certificate.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What a connection demands of the certificate.
    pub tls: TlsMode,
    /// Authorities that may sign it (PEM); the system's own store where none is given.
    pub root_cert: Option<PathBuf>,
    /// Whether it speaks PostgreSQL's protocol and is asked for TLS first.
    pub is_postgres: bool,
}

impl Endpoint {
    /// `host:port`
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// When it ends.
    pub not_after: Timestamp,
    /// Why a connection refuses it.
    pub not_trusted: Option<String>,
}

/// Looks at an endpoint's certificate. The caller bounds the time.
pub async fn look(endpoint: &Endpoint) -> Result<Shown> {
    let server = endpoint.name();
    let name = tls::server_name(&endpoint.host)?;
    let (mode, root_cert) = (endpoint.tls, endpoint.root_cert.clone());
    // Reading the system's certificates takes a while.
    let watcher = tokio::task::spawn_blocking(move || Watcher::new(mode, root_cert))
        .await
        .map_err(|error| Error::TlsHandshake { server: server.clone(), reason: error.to_string() })??;
    let watcher = Arc::new(watcher);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider supports TLS 1.2 and 1.3")
        .dangerous() // nothing is sent to whoever it is
        .with_custom_certificate_verifier(watcher.clone())
        .with_no_client_auth();
    let unreachable = |error: std::io::Error| Error::Unreachable { server: server.clone(), reason: error.to_string() };
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
    if endpoint.is_postgres {
        ask_for_tls(&mut stream, &server).await?;
    }
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    // Whatever became of the handshake: a server that wants a certificate of ours has shown its own by then.
    let seen = watcher.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(seen) = seen else {
        let reason = handshake.err().map_or_else(|| "it showed no certificate".to_owned(), |error| error.to_string());
        return Err(Error::TlsHandshake { server, reason });
    };
    let unreadable = || Error::TlsHandshake {
        server: server.clone(),
        reason: "the dates of its certificate cannot be read".to_owned(),
    };
    let end = seen.not_after.and_then(|end| Timestamp::from_second(end).ok()).ok_or_else(unreadable)?;
    Ok(Shown { not_after: end, not_trusted: seen.refused })
}

/// Takes every certificate, and remembers what would have been said of it.
#[derive(Debug)]
struct Watcher {
    verifier: Verifier,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    not_after: Option<i64>,
    refused: Option<String>,
}

impl Watcher {
    fn new(mode: TlsMode, root_cert: Option<PathBuf>) -> Result<Watcher> {
        let verifier = Verifier::new(mode, root_cert.as_deref(), &Arc::new(ring::default_provider()))?;
        Ok(Watcher { verifier, seen: Mutex::default() })
    }
}

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let not_after = tls::validity(end_entity).map(|validity| *validity.end());
        let refused = verified.err().map(|error| error.to_string());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { not_after, refused });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
