//! Servers that are not there, do not answer, or are not who they should be: no testbed needed.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::time::{Duration, Instant};

use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Error,
    retry::Policy,
    s3::{Limits, S3Options, S3Store},
};
use lifeboat_testkit::port;
use tokio::net::TcpListener;

fn options(endpoint: &str) -> S3Options {
    S3Options {
        endpoint: Some(endpoint.parse().unwrap()),
        bucket: "backup".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key: Secret::new("access"),
        secret_key: Secret::new("hunter2"),
        ca_file: None,
        path_style: true,
        multipart_threshold: S3Options::MULTIPART_THRESHOLD,
        limits: Limits {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(1),
            retry: Policy { attempts: 2, first_wait: Duration::from_millis(10), ..Policy::default() },
            ..Limits::default()
        },
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_endpoint() {
    let endpoint = format!("http://{}", port::closed());
    let error = S3Store::connect(options(&endpoint)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let expected = format!(
        "open of s3://backup/ at {endpoint} did not succeed: {endpoint} did not answer: tcp connect error: \
         Connection refused (os error 111)"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let begun = Instant::now();
    let error = S3Store::connect(options(&endpoint)).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }) && error.to_string().contains("within 1 s"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "two attempts of a second each");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let error = S3Store::connect(options(&endpoint)).await.unwrap_err().to_string();
    assert!(error.contains(&endpoint) && error.contains("did not answer"), "{error}");
}
