//! TLS: one provider of cryptography, given explicitly; nothing depends on a process-wide default.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::{Error, Result, settings::Tls};

/// For asking others. With a file, its authorities vouch for them; without, the system's.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let unusable = |file: &Path, why: String| Error::Unusable { file: file.to_owned(), problems: vec![why] };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider supports TLS 1.2 and 1.3");
    let Some(file) = ca_file else {
        let verified = builder.with_platform_verifier();
        let verified = verified.map_err(|error| unusable(Path::new("the system's certificates"), error.to_string()))?;
        return Ok(verified.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file).map_err(|error| unusable(file, error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| unusable(file, error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(file, error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable(file, "it holds no certificate".to_owned()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// For being asked. Read anew each time, so that a renewed certificate is used.
pub(crate) fn server_config(tls: &Tls) -> Result<ServerConfig> {
    let unusable = |file: &Path, why: String| Error::Unusable { file: file.to_owned(), problems: vec![why] };
    let found = CertificateDer::pem_file_iter(&tls.cert_file);
    let chain: std::result::Result<Vec<_>, _> = found.and_then(Iterator::collect);
    let chain = chain.map_err(|error| unusable(&tls.cert_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(&tls.cert_file, "it holds no certificate".to_owned()));
    }
    let text = lifeboat_engine::keys::read_secret_file(&tls.key_file)
        .map_err(|error| unusable(&tls.key_file, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(text.expose().as_bytes())
        .map_err(|error| unusable(&tls.key_file, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider supports TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&tls.cert_file, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
