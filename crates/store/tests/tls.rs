//! HTTPS to the testbed's bucket, through a TLS end of our own with the testbed's certificate.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use lifeboat_store::{Error, Key, Store as _, retry::Policy, s3::S3Options, s3::S3Store};
use lifeboat_testkit::{bucket, testbed};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::{TcpListener, TcpStream};

/// Ends TLS and forwards to `server`.
async fn tls_end(listen: &str, server: SocketAddr) -> SocketAddr {
    let folder = testbed::state_dir().join("tls");
    let chain = CertificateDer::pem_file_iter(folder.join("server.crt")).unwrap().map(|c| c.unwrap()).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_show_a_certificate_of_a_trusted_authority() {
    if !testbed::enabled() {
        return;
    }
    let mut options = bucket::options(&bucket::random_prefix("tls"));
    let plain = options.endpoint.as_ref().unwrap().socket_addrs(|| None).unwrap()[0];
    let port = tls_end("127.0.0.1:0", plain).await.port();
    options.limits.retry = Policy::ONCE;
    options.endpoint = Some(format!("https://localhost:{port}").parse().unwrap());
    options.ca_file = Some(testbed::state_dir().join("tls/ca.crt"));
    let store = S3Store::connect(options.clone()).await.unwrap();
    let (key, bytes) = (Key::new("tls/one").unwrap(), Bytes::from(vec![7; 1 << 20]));
    let version = store.put(&key, bytes.clone()).await.unwrap().version;
    assert!(store.get(&key, version.as_ref(), None).await.unwrap() == bytes);
    store.delete(&key, version.as_ref()).await.unwrap();

    let unnamed = tls_end("127.0.0.2:0", plain).await;
    let wrong_name = format!("https://{unnamed}").parse().unwrap();
    let cases = [
        ("an unknown authority", S3Options { ca_file: None, ..options.clone() }),
        ("another name", S3Options { endpoint: Some(wrong_name), ..options.clone() }),
    ];
    for (what, options) in cases {
        let error = S3Store::connect(options).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Unusable { .. }) && text.contains("certificate"), "{what}: {text}");
        assert!(!error.is_transient() && text.contains("ca_file"), "{what}: {text}");
    }
}
