//! Azurite, Microsoft's own emulator of Azure Blob Storage, started by the test and ended with it.

use std::{process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, fmt::strtime};
use lifeboat_model::secret::Secret;
use lifeboat_store::{
    cloud::{AzureCredential, CloudOptions, CloudStore, Service},
    suite,
};
use lifeboat_testkit::testbed;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use url::Url;

const ACCOUNT: &str = "lifeboat";
/// As old as what `object_store` speaks.
const VERSION: &str = "2023-11-03";
/// The longest that it may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running Azurite with one container, `backup`, in a folder that goes with it.
pub struct Azurite {
    /// Ended when dropped.
    _server: Child,
    _folder: TempDir,
    endpoint: Url,
    key: Vec<u8>,
}

impl Azurite {
    pub async fn start() -> Azurite {
        let program = testbed::state_dir().join("azurite/node_modules/.bin/azurite-blob");
        assert!(program.exists(), "{} is missing; run testbed/azurite", program.display());
        let folder = tempfile::tempdir().unwrap();
        let mut key = vec![0; 64];
        getrandom::fill(&mut key).unwrap();
        let mut server = Command::new(&program)
            .args(["--blobPort", "0", "--disableTelemetry", "--location"])
            .arg(folder.path())
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", STANDARD.encode(&key)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let listens = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, address)) = line.split_once("successfully listens on ") {
                    return address.trim().to_owned();
                }
            }
            panic!("Azurite ended without a word of where it listens");
        };
        let address = tokio::time::timeout(START_LIMIT, listens).await.expect("Azurite starts");
        // What it says of each request is read and dropped, else it would stand still.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let endpoint = format!("{address}/{ACCOUNT}").parse().unwrap();
        let azurite = Azurite { _server: server, _folder: folder, endpoint, key };
        azurite.make_container("backup").await;
        azurite
    }

    /// How to reach a prefix of its own in the container.
    pub fn options(&self) -> CloudOptions {
        let service = Service::Azure {
            account: ACCOUNT.into(),
            container: "backup".into(),
            credential: AzureCredential::AccessKey(Secret::new(STANDARD.encode(&self.key))),
        };
        let prefix = format!("tests/{}", suite::random_name());
        CloudOptions { endpoint: Some(self.endpoint.clone()), prefix, ..CloudOptions::new(service) }
    }

    pub async fn store(&self) -> CloudStore {
        CloudStore::connect(self.options()).await.unwrap()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.endpoint.socket_addrs(|| None).unwrap()[0]
    }

    /// The only thing that is asked of it past `object_store`, which makes no containers.
    async fn make_container(&self, name: &str) {
        let date = strtime::format("%a, %d %b %Y %H:%M:%S GMT", Timestamp::now()).unwrap();
        let headers = format!("x-ms-date:{date}\nx-ms-version:{VERSION}\n");
        let resource = format!("/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container");
        let signed = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}{resource}");
        let signature = STANDARD.encode(hmac(&self.key, signed.as_bytes()));
        let request = format!(
            "PUT /{ACCOUNT}/{name}?restype=container HTTP/1.1\r\nHost: {}\r\nx-ms-date: {date}\r\nx-ms-version: {VERSION}\r\n\
             Authorization: SharedKey {ACCOUNT}:{signature}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address()
        );
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
}

/// HMAC with SHA-256 (RFC 2104), which signs requests to Azure.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64, "longer keys are hashed first");
    let padded = |with: u8| (0..64).map(|at| key.get(at).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}
