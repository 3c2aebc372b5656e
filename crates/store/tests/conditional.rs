//! Servers that honour `If-None-Match: *`, and one that does not know it: what a put says when replies are lost.
//!
//! The testbed's Ceph ignores the condition, so a small server of our own keeps it here.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Error, Key, Store as _,
    retry::Policy,
    s3::{Limits, S3Options, S3Store},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

/// What the server does with the next PUT.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Next {
    StoreThenClose,
    StoreThenFail,
    Fail,
    /// Store, say "500", and hide the object from the next HEAD: the first look comes too early.
    StoreLate,
}

#[derive(Default)]
struct Server {
    objects: HashMap<String, (String, usize)>,
    script: VecDeque<Next>,
    knows_condition: bool,
    hidden: bool,
    puts: Vec<bool>,
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: usize,
}

async fn read_request(stream: &mut BufStream<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: HashMap<String, String> =
        lines[1..].iter().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.into())).collect();
    if headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = lines[0].split(' ');
    Some(Request { method: words.next()?.into(), path: words.next()?.into(), headers, body: len })
}

fn refusal(status: &str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>words</Message></Error>");
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl Server {
    fn answer(&mut self, request: Request) -> Option<String> {
        let name = request.path.split('?').next().unwrap_or_default().to_owned();
        match request.method.as_str() {
            "GET" => Some("HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n<VersioningConfiguration/>".into()),
            "HEAD" if std::mem::take(&mut self.hidden) => Some("HTTP/1.1 404 Not Found\r\n\r\n".into()),
            "HEAD" => Some(match self.objects.get(&name) {
                Some((tag, len)) => {
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nx-amz-meta-lifeboat-put: {tag}\r\n\r\n")
                }
                None => "HTTP/1.1 404 Not Found\r\n\r\n".into(),
            }),
            _ => self.put(name, request),
        }
    }

    fn put(&mut self, name: String, request: Request) -> Option<String> {
        let conditional = request.headers.get("if-none-match").is_some_and(|value| value == "*");
        self.puts.push(conditional);
        if conditional && !self.knows_condition {
            return Some(refusal("501 Not Implemented", "NotImplemented"));
        }
        if conditional && self.objects.contains_key(&name) {
            return Some(refusal("412 Precondition Failed", "PreconditionFailed"));
        }
        let next = self.script.pop_front();
        if next != Some(Next::Fail) {
            self.objects.insert(name, (request.headers["x-amz-meta-lifeboat-put"].clone(), request.body));
        }
        self.hidden = next == Some(Next::StoreLate);
        match next {
            None => Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
            Some(Next::StoreThenClose) => None,
            Some(_) => Some(refusal("500 Internal Server Error", "InternalError")),
        }
    }
}

async fn start(server: Server) -> (S3Store, Arc<Mutex<Server>>) {
    let server = Arc::new(Mutex::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = Arc::clone(&serving);
            tokio::spawn(async move {
                let mut stream = BufStream::new(client);
                while let Some(request) = read_request(&mut stream).await {
                    let Some(answer) = server.lock().unwrap().answer(request) else { return };
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.flush().await;
                }
            });
        }
    });
    let options = S3Options {
        endpoint: Some(endpoint.parse().unwrap()),
        bucket: "backup".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key: Secret::new("access"),
        secret_key: Secret::new("secret"),
        ca_file: None,
        path_style: true,
        multipart_threshold: S3Options::MULTIPART_THRESHOLD,
        limits: Limits {
            retry: Policy { first_wait: Duration::from_millis(5), ..Policy::default() },
            ..Limits::default()
        },
    };
    (S3Store::connect(options).await.unwrap(), server)
}

const BODY: Bytes = Bytes::from_static(b"0123456789");

#[tokio::test]
async fn a_lost_reply_is_success_and_a_taken_key_is_said() {
    let cases: [(&[Next], usize); 6] = [
        (&[], 1),
        (&[Next::StoreThenClose], 1),
        (&[Next::StoreThenFail], 1),
        (&[Next::Fail], 2),
        (&[Next::Fail, Next::Fail, Next::StoreThenClose], 3),
        // Refused with 412 the second time, by the object that we wrote ourselves.
        (&[Next::StoreLate], 2),
    ];
    for (script, puts) in cases {
        let (store, server) =
            start(Server { script: script.iter().copied().collect(), knows_condition: true, ..Server::default() })
                .await;
        let key = Key::new("points/one").unwrap();
        store.put(&key, BODY).await.unwrap_or_else(|e| panic!("{script:?}: {e}"));
        assert_eq!(server.lock().unwrap().puts.len(), puts, "requests for {script:?}");
        let tag = server.lock().unwrap().objects["/backup/points/one"].clone();
        for again in [&[][..], &[Next::Fail][..]] {
            server.lock().unwrap().script = again.iter().copied().collect();
            let answer = store.put(&key, Bytes::from_static(b"another ten")).await;
            assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{script:?}: {answer:?}");
            assert_eq!(server.lock().unwrap().objects["/backup/points/one"], tag, "untouched");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_condition_is_asked_without_it() {
    let (store, server) = start(Server::default()).await;
    store.put(&Key::new("points/one").unwrap(), BODY).await.unwrap();
    store.put(&Key::new("points/two").unwrap(), BODY).await.unwrap();
    assert_eq!(server.lock().unwrap().puts, [true, false, false], "conditional requests");
}
