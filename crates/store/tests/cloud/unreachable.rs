//! Services that are not there, do not answer, or cannot be asked: no testbed needed.

use std::time::Duration;

use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Error,
    cloud::{AzureCredential, CloudOptions, CloudStore, Service},
    retry::Policy,
    s3::Limits,
};
use lifeboat_testkit::port;
use tokio::net::TcpListener;

fn azure() -> Service {
    let credential = AzureCredential::AccessKey(Secret::new("aHVudGVyMg=="));
    Service::Azure { account: "clinic".into(), container: "backup".into(), credential }
}

fn options(endpoint: &str) -> CloudOptions {
    CloudOptions {
        endpoint: Some(endpoint.parse().unwrap()),
        limits: Limits {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(1),
            retry: Policy { attempts: 2, first_wait: Duration::from_millis(10), ..Policy::default() },
            ..Limits::default()
        },
        ..CloudOptions::new(azure())
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_endpoint() {
    let endpoint = format!("http://{}", port::closed());
    let error = CloudStore::connect(options(&endpoint)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let expected = format!(
        "open of azure://clinic/backup/ at {endpoint} did not succeed: {endpoint} did not answer: Connection refused \
         (os error 111)"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let error = CloudStore::connect(options(&endpoint)).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }) && error.to_string().contains("within 1 s"), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let words = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let _ = tokio::io::AsyncReadExt::read(&mut client, &mut [0; 4096]).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, words).await;
        }
    });
    let error = CloudStore::connect(options(&endpoint)).await.unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("does not answer like this service"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_before_any_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.pem"), "nothing here").unwrap();
    let gcs = |key: &str| Service::Gcs { bucket: "backup".into(), service_account: Secret::new(key) };
    let with = |endpoint| options(endpoint);
    let cases = [
        (with("https://user:hunter2@blob.example.org"), "must not carry credentials"),
        (with("https://blob.example.org/?sig=hunter2"), "must not carry credentials"),
        (with("ftp://blob.example.org"), "scheme is ftp"),
        (
            CloudOptions { ca_file: Some(folder.path().join("empty.pem")), ..with("https://blob.example.org") },
            "holds no certificate",
        ),
        (CloudOptions { service: gcs("hunter2"), ..with("https://blob.example.org") }, "cannot use gs://backup"),
        (
            CloudOptions { service: gcs("{\"private_key\": \"hunter2\"}"), ..with("http://[::1]:1") },
            "cannot use gs://backup",
        ),
    ];
    for (options, says) in cases {
        let error = CloudStore::connect(options.clone()).await.unwrap_err();
        let texts = format!("{error} {error:?} {:?}", options.service);
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(says) && !texts.contains("hunter2"), "{says}: {texts}");
    }
}
