//! The byte stream under a connection: TCP or a Unix socket, with or without TLS. Both the replication client and the
//! SQL client run on it, so addresses, timeouts and certificates mean the same for both.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use lifeboat_model::{config::TlsMode, secret::Secret};
use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Error, Result},
    tls,
};

/// A dead peer is noticed after about `IDLE + INTERVAL × PROBES`.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// Where a server is and how to log in.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Host name, IP address, or the folder of a Unix socket (starts with `/`).
    pub host: String,
    /// The port, 5432 by default at the server.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<Secret>,
    /// How the connection is protected; ignored on a Unix socket.
    pub tls: TlsMode,
    /// Authorities that may sign the server's certificate (PEM); the system's own store where none is given.
    pub root_cert: Option<PathBuf>,
    /// The longest time until the server lets us in.
    pub connect_timeout: Duration,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
}

impl ConnectOptions {
    /// The defaults: full verification, 20 s to connect.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        ConnectOptions {
            host: host.into(),
            port,
            user: user.into(),
            password: None,
            tls: TlsMode::VerifyFull,
            root_cert: None,
            connect_timeout: Duration::from_secs(20),
            application_name: "lifeboat".into(),
        }
    }

    /// `host:port`, as messages name the server.
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// An open byte stream to a server.
pub(crate) struct Transport {
    stream: Stream,
    /// The `tls-server-end-point` channel binding, where TLS is on and the certificate allows one.
    pub(crate) channel_binding: Option<Vec<u8>>,
    /// Nobody else can read what is sent: TLS, a Unix socket or loopback.
    pub(crate) is_private: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Connects and does the TLS handshake. The caller bounds the time.
    pub(crate) async fn open(options: &ConnectOptions) -> Result<Transport> {
        let unreachable = |error: io::Error| Error::Unreachable { server: options.server(), reason: error.to_string() };
        if options.is_unix_socket() {
            let path = format!("{}/.s.PGSQL.{}", options.host, options.port);
            let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
            return Ok(Transport { stream: Stream::Unix(stream), channel_binding: None, is_private: true });
        }
        let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
        keep_alive(&stream).map_err(unreachable)?;
        let is_loopback = stream.peer_addr().is_ok_and(|address| address.ip().is_loopback());
        if options.tls == TlsMode::Disable {
            return Ok(Transport { stream: Stream::Tcp(stream), channel_binding: None, is_private: is_loopback });
        }
        let stream = start_tls(stream, options).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let channel_binding = certificates.and_then(|all| all.first()).and_then(|der| tls::end_point_binding(der));
        Ok(Transport { stream: Stream::Tls(Box::new(stream)), channel_binding, is_private: true })
    }
}

#[cfg(test)]
impl Transport {
    /// A plain stream that claims to be bound to a certificate.
    pub(crate) fn claiming(stream: TcpStream, channel_binding: Option<Vec<u8>>, is_private: bool) -> Transport {
        Transport { stream: Stream::Tcp(stream), channel_binding, is_private }
    }
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

async fn start_tls(mut stream: TcpStream, options: &ConnectOptions) -> Result<TlsStream<TcpStream>> {
    let server = options.server();
    let name = tls::server_name(&options.host)?;
    let (mode, root_cert) = (options.tls, options.root_cert.clone());
    // Reading the system's certificates takes a while.
    let config = tokio::task::spawn_blocking(move || tls::client_config(mode, root_cert.as_deref()))
        .await
        .map_err(|error| Error::TlsHandshake { server: server.clone(), reason: error.to_string() })??;
    ask_for_tls(&mut stream, &server).await?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| tls::handshake_error(&server, &error))
}

/// Asks a PostgreSQL server to begin with TLS.
pub(crate) async fn ask_for_tls(stream: &mut TcpStream, server: &str) -> Result<()> {
    let lost = |error: io::Error| Error::ConnectionLost {
        server: server.to_owned(),
        during: "asking for TLS",
        reason: error.to_string(),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(lost)?;
    // Exactly one byte is read, so nothing that an attacker put before the handshake is taken for the server's.
    match stream.read_u8().await.map_err(lost)? {
        b'S' => Ok(()),
        b'N' => Err(Error::TlsRefused { server: server.to_owned() }),
        other => {
            let reason = format!("answer {other:#04x} to a request for TLS");
            Err(Error::Protocol { server: server.to_owned(), during: "asking for TLS", reason })
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
