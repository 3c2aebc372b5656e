//! The only way out of the browser's network: a proxy for plain HTTP that goes to the sandbox's Odoo and refuses the rest.
//!
//! It adds the cookie of the session, so the browser knows no password and no cookie of its own counts. One request a
//! connection: after it both ends are closed, and nothing has to be known of how an answer ends.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lifeboat_model::secret::Secret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use url::Url;

use crate::error::{Error, Result};

/// Requests at the same time; a browser opens six connections to a host.
const AT_ONCE: usize = 16;
/// A request's head.
const HEAD: usize = 64 << 10;
/// A request's body.
const BODY: usize = 8 << 20;
/// One request and its answer.
const REQUEST: Duration = Duration::from_secs(15);
/// Headers that are about the connection, or ours to say.
const DROPPED: [&str; 8] =
    ["connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade", "te", "cookie", "host"];

/// Where it goes, and what came by.
pub(super) struct Gate {
    /// `host:port` of the sandbox's Odoo: the only address that may be asked for.
    authority: String,
    cookie: Secret,
    refused: AtomicU64,
    login: AtomicBool,
}

/// What the browser asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Requests to any other address.
    pub refused: u64,
    /// The login page: nobody was logged in.
    pub login: bool,
}

impl Gate {
    /// A gate to the Odoo at `base`, for the session of the cookie.
    pub fn new(base: &Url, cookie: Secret) -> Result<Gate> {
        let authority = authority(base).ok_or_else(|| Error::Task(format!("{base} is no address")))?;
        Ok(Gate { authority, cookie, refused: AtomicU64::new(0), login: AtomicBool::new(false) })
    }

    /// What came by until now.
    pub fn seen(&self) -> Seen {
        Seen { refused: self.refused.load(Ordering::Relaxed), login: self.login.load(Ordering::Relaxed) }
    }

    pub fn note(&self, path: &str) {
        self.login.fetch_or(path.starts_with("/web/login"), Ordering::Relaxed);
    }
}

fn authority(url: &Url) -> Option<String> {
    let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
    plain.then_some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Answers until it is dropped, and every connection with it.
pub(super) async fn serve(listener: TcpListener, gate: Arc<Gate>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= AT_ONCE {
            connections.join_next().await;
        }
        let Ok((browser, _)) = listener.accept().await else { return };
        let gate = Arc::clone(&gate);
        connections.spawn(async move {
            // A browser that goes away, or an Odoo that does: the page shows it.
            if let Ok(Err(error)) = timeout(REQUEST, pass(browser, &gate)).await {
                tracing::debug!(%error, "a request of the browser was not answered");
            }
        });
    }
}

async fn pass(mut browser: TcpStream, gate: &Gate) -> io::Result<()> {
    let (head, mut body) = read_head(&mut browser).await?;
    let Some(request) = Request::read(&head, gate) else {
        gate.refused.fetch_add(1, Ordering::Relaxed);
        return refuse(browser).await;
    };
    if request.body > BODY || body.len() > request.body {
        return refuse(browser).await;
    }
    gate.note(&request.path);
    let read = body.len();
    body.resize(request.body, 0);
    browser.read_exact(&mut body[read..]).await?;
    let mut odoo = TcpStream::connect(&gate.authority).await?;
    odoo.write_all(request.head.as_bytes()).await?;
    odoo.write_all(&body).await?;
    tokio::io::copy(&mut odoo, &mut browser).await?;
    browser.shutdown().await
}

async fn refuse(mut browser: TcpStream) -> io::Result<()> {
    browser.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
    browser.shutdown().await
}

/// A request's head, and what came of its body with it.
async fn read_head(browser: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::with_capacity(4096);
    loop {
        if browser.read_buf(&mut read).await? == 0 || read.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            let head = String::from_utf8(read).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            return Ok((head, body));
        }
    }
}

/// What goes on to Odoo.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    head: String,
    path: String,
    body: usize,
}

impl Request {
    /// None where it is not for our Odoo, or not plain HTTP with a body of known length.
    fn read(head: &str, gate: &Gate) -> Option<Request> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, Url::parse(words.next()?).ok()?);
        let known = ["GET", "HEAD", "POST"].contains(&method);
        if !known || authority(&target).as_ref() != Some(&gate.authority) {
            return None;
        }
        let path = &target[url::Position::BeforePath..url::Position::AfterQuery];
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", gate.authority);
        text.push_str(&format!("Cookie: {}\r\n", gate.cookie.expose()));
        let mut kept = HashMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let name = name.to_ascii_lowercase();
            if !DROPPED.contains(&name.as_str()) {
                text.push_str(&format!("{line}\r\n"));
                kept.insert(name, value.trim().to_owned());
            }
        }
        if kept.contains_key("transfer-encoding") {
            return None;
        }
        let body = kept.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
        text.push_str("\r\n");
        Some(Request { head: text, path: path.to_owned(), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(port: u16) -> Gate {
        let base = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        Gate::new(&base, Secret::new("session_id=ours")).unwrap()
    }

    #[test]
    fn a_request_goes_on_with_our_cookie_and_no_other() {
        let head = "POST http://127.0.0.1:8069/web/dataset?a=b HTTP/1.1\r\nHost: 127.0.0.1:8069\r\nCookie: session_id=theirs\r\n\
                    Proxy-Connection: keep-alive\r\nContent-Length: 3\r\nAccept: */*\r\n\r\n";
        let request = Request::read(head, &gate(8069)).unwrap();
        assert_eq!((request.path.as_str(), request.body), ("/web/dataset?a=b", 3));
        assert_eq!(
            request.head,
            "POST /web/dataset?a=b HTTP/1.1\r\nHost: 127.0.0.1:8069\r\nConnection: close\r\nCookie: session_id=ours\r\n\
             Content-Length: 3\r\nAccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "CONNECT 127.0.0.1:8069 HTTP/1.1",
            "GET http://127.0.0.1:8070/ HTTP/1.1",
            "GET http://127.0.0.1/ HTTP/1.1",
            "GET http://localhost:8069/ HTTP/1.1",
            "GET http://127.0.0.1:8069@evil.example/ HTTP/1.1",
            "GET https://127.0.0.1:8069/ HTTP/1.1",
            "GET ftp://127.0.0.1:8069/ HTTP/1.1",
            "GET /web HTTP/1.1",
            "PUT http://127.0.0.1:8069/ HTTP/1.1",
            "POST http://127.0.0.1:8069/ HTTP/1.1\r\nTransfer-Encoding: chunked",
            "POST http://127.0.0.1:8069/ HTTP/1.1\r\nContent-Length: many",
            "",
        ] {
            assert_eq!(Request::read(&format!("{line}\r\n\r\n"), &gate(8069)), None, "{line}");
        }
    }

    #[test]
    fn a_login_page_is_noticed() {
        let gate = gate(8069);
        gate.note("/web");
        assert_eq!(gate.seen(), Seen { refused: 0, login: false });
        gate.note("/web/login?redirect=/web");
        assert_eq!(gate.seen(), Seen { refused: 0, login: true });
    }
}
