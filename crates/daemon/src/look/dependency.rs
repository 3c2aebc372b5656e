//! Whether something that an instance cannot work without answers. Asked as anybody could: nothing is signed in to, nothing is
//! sent that a server keeps.

use std::{fmt, io, path::PathBuf, time::Duration};

use lifeboat_model::config::{Dependency, DependencyKind};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use url::Url;

use super::probe;
use crate::error::with_causes;

/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Ports of schemes that are written without one.
const SCHEMES: [(&str, u16); 11] = [
    ("postgres", 5432),
    ("postgresql", 5432),
    ("redis", 6379),
    ("rediss", 6379),
    ("ldap", 389),
    ("ldaps", 636),
    ("smtp", 25),
    ("smtps", 465),
    ("imaps", 993),
    ("amqp", 5672),
    ("sftp", 22),
];

/// How it is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The first page of a web server: any answer but that of a gateway that reaches nobody.
    Http(Url),
    /// A connection is made and ended.
    Connect(String, u16),
    /// The same, with PostgreSQL's own first question.
    Postgres(String, u16),
    /// A socket on this host.
    Socket(PathBuf),
    /// A name is looked up.
    Name(String),
}

impl Way {
    /// Of what stands in the configuration; or why it cannot be asked.
    pub fn of(dependency: &Dependency) -> Result<Way, String> {
        let (address, kind) = (dependency.address.trim(), dependency.kind);
        if address.contains("://") {
            return of_url(address, kind);
        }
        if let Some(path) = address.strip_prefix('/') {
            return Ok(match kind {
                DependencyKind::Postgresql => Way::Postgres(format!("/{path}"), 5432),
                _ => Way::Socket(PathBuf::from(format!("/{path}"))),
            });
        }
        let Some((host, port)) = host_and_port(address) else {
            return Err("its address is neither host:port nor a URL".to_owned());
        };
        match (port, kind) {
            (None, DependencyKind::Dns) => Ok(Way::Name(host)),
            (Some(port), _) => Ok(server(host, port, kind)),
            (None, _) => match usual_port(kind) {
                Some(port) => Ok(server(host, port, kind)),
                None => Err("its address names no port; write host:port or a URL".to_owned()),
            },
        }
    }
}

fn of_url(address: &str, kind: DependencyKind) -> Result<Way, String> {
    let url = Url::parse(address).map_err(|error| format!("its address is no URL: {error}"))?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err("its URL names no host".to_owned());
    };
    match url.scheme() {
        "http" | "https" => match Url::parse(&url.origin().ascii_serialization()) {
            Ok(origin) => Ok(Way::Http(origin)),
            Err(error) => Err(format!("its address is no URL: {error}")),
        },
        "dns" if url.port().is_none() => Ok(Way::Name(host.to_owned())),
        scheme => {
            let usual = SCHEMES.iter().find(|(known, _)| *known == scheme).map(|(_, port)| *port);
            match url.port().or(usual) {
                Some(port) => Ok(server(host.trim_matches(['[', ']']).to_owned(), port, kind)),
                None => Err(format!("what answers at {scheme}:// is not known; write host:port or an https URL")),
            }
        }
    }
}

fn server(host: String, port: u16, kind: DependencyKind) -> Way {
    match kind {
        DependencyKind::Postgresql => Way::Postgres(host, port),
        _ => Way::Connect(host, port),
    }
}

fn usual_port(kind: DependencyKind) -> Option<u16> {
    match kind {
        DependencyKind::Postgresql => Some(5432),
        DependencyKind::Redis => Some(6379),
        DependencyKind::Mail => Some(25),
        DependencyKind::Ingress => Some(443),
        _ => None,
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    let port = port.map(str::parse::<u16>).transpose().ok()?;
    Some((host.to_owned(), port)).filter(|_| port != Some(0))
}

/// Asks.
#[derive(Clone)]
pub struct Asker(reqwest::Client);

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}

impl Asker {
    /// One for all. It trusts the authorities that this host trusts.
    ///
    /// # Errors
    /// These cannot be read.
    pub fn new() -> Result<Asker, String> {
        let unusable = |error: &dyn std::error::Error| format!("no HTTP client: {}", with_causes(error));
        let tls = crate::tls::client_config(None).map_err(|error| unusable(&error))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls)
            .pool_max_idle_per_host(0) // whether it answers now, not whether it did
            .timeout(PATIENCE)
            .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Asker(client))
    }

    /// Whether it answers; if not, why. Never longer than some seconds.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ask(&self, way: &Way) -> Result<(), String> {
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, self.asked(way)).await.unwrap_or_else(|_| late())
    }

    async fn asked(&self, way: &Way) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        match way {
            Way::Http(origin) => {
                let answer = self.0.get(origin.clone()).send().await;
                let answer = answer.map_err(|error| root(&error.without_url()))?;
                match answer.status().as_u16() {
                    502..=504 => Err(format!("what is behind it does not answer: {}", answer.status())),
                    _ => Ok(()),
                }
            }
            Way::Connect(host, port) => TcpStream::connect((host.as_str(), *port)).await.map(drop).map_err(said),
            Way::Postgres(host, port) => probe::postgres(host, *port).await.map_err(said),
            Way::Socket(path) => UnixStream::connect(path).await.map(drop).map_err(said),
            Way::Name(name) => match lookup_host((name.as_str(), 0)).await.map_err(said)?.next() {
                Some(_) => Ok(()),
                None => Err("the name has no address".to_owned()),
            },
        }
    }
}

/// The last of the causes: those before it say that a request was sent.
fn root(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn way(kind: DependencyKind, address: &str) -> Result<Way, String> {
        Way::of(&Dependency { kind, address: address.to_owned(), note: None })
    }

    #[test]
    fn addresses_say_how_to_ask() {
        use DependencyKind::{Dns, Identity, Ingress, Mail, ObjectStorage, Other, Postgresql, Redis};
        let url = |text: &str| Way::Http(Url::parse(text).unwrap());
        let connect = |host: &str, port| Way::Connect(host.to_owned(), port);
        let cases = [
            (Identity, "https://id.example.org/realms/x?y=1", url("https://id.example.org/")),
            (Identity, "https://ann:secret@id.example.org:8443/x", url("https://id.example.org:8443/")),
            (Identity, "ldaps://ldap.example.org", connect("ldap.example.org", 636)),
            (Redis, "cache", connect("cache", 6379)),
            (Redis, "redis://:secret@cache:7000/0", connect("cache", 7000)),
            (Mail, "mail.example.org:587", connect("mail.example.org", 587)),
            (Ingress, "[2001:db8::1]:8443", connect("2001:db8::1", 8443)),
            (Other, "tcp://[::1]:9", connect("::1", 9)),
            (Postgresql, "db", Way::Postgres("db".to_owned(), 5432)),
            (Postgresql, "postgres://u:p@db:5433/x", Way::Postgres("db".to_owned(), 5433)),
            (Postgresql, "/var/run/postgresql", Way::Postgres("/var/run/postgresql".to_owned(), 5432)),
            (Redis, "/run/redis.sock", Way::Socket("/run/redis.sock".into())),
            (Dns, "clinic.example.org", Way::Name("clinic.example.org".to_owned())),
            (Dns, "ns1.example.org:53", connect("ns1.example.org", 53)),
        ];
        for (kind, address, expected) in cases {
            assert_eq!(way(kind, address), Ok(expected), "{address}");
        }
        for (kind, address) in [
            (ObjectStorage, "s3://bucket/prefix"),
            (Other, "the old fax machine"),
            (Other, "fax"),
            (Redis, "cache:0"),
            (Redis, "cache:port"),
            (Identity, "https://"),
            (Other, "tcp://host"),
        ] {
            let why = way(kind, address).unwrap_err();
            assert!(!why.is_empty() && !why.contains("secret"), "{address}: {why}");
        }
    }

    /// A web server that gives every question this status.
    async fn web(status: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
            }
        });
        url
    }

    #[tokio::test]
    async fn who_listens_answers_and_who_does_not_says_why() {
        let asker = Asker::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let here = Way::Connect("127.0.0.1".to_owned(), port);
        assert_eq!(asker.ask(&here).await, Ok(()));
        drop(listener);
        assert!(asker.ask(&here).await.unwrap_err().contains("refused"));
        for (status, answers) in [("200 OK", true), ("403 Forbidden", true), ("500 Oh", true), ("502 Bad", false)] {
            let answer = asker.ask(&Way::Http(web(status).await)).await;
            assert_eq!(answer.is_ok(), answers, "{status}: {answer:?}");
        }
        assert_eq!(asker.ask(&Way::Name("localhost".to_owned())).await, Ok(()));
        assert!(asker.ask(&Way::Name("nowhere.invalid".to_owned())).await.is_err());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        assert!(asker.ask(&Way::Socket(socket.clone())).await.is_err());
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(asker.ask(&Way::Socket(socket)).await, Ok(()));
    }
}
