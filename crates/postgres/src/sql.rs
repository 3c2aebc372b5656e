//! SQL sessions: `tokio-postgres` on the same transport as the replication client, so that addresses, TLS modes, time
//! limits and messages mean the same in both.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use lifeboat_model::config::TlsMode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_postgres::{
    Client, Config,
    config::{SslMode, SslNegotiation},
    tls::{ChannelBinding, NoTls, TlsConnect, TlsStream},
};

use crate::{
    auth,
    error::{Error, Result, ServerError},
    transport::{ConnectOptions, Transport},
};

/// Opens a session with a database. The connection lives in a task of its own, until the client is dropped.
pub async fn connect(options: &ConnectOptions, database: &str) -> Result<Client> {
    let limit = options.connect_timeout;
    match timeout(limit, open(options, database)).await {
        Ok(client) => client,
        Err(_) => Err(Error::Timeout { server: options.server(), during: "connecting", after: limit }),
    }
}

async fn open(options: &ConnectOptions, database: &str) -> Result<Client> {
    let transport = Transport::open(options).await?;
    let mut config = Config::new();
    config.user(&options.user).dbname(database).application_name(&options.application_name);
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    let is_encrypted = options.tls != TlsMode::Disable && !options.is_unix_socket();
    let server = options.server();
    if is_encrypted {
        // The transport has shaken hands already: "direct" hands it through as it is, with its channel binding.
        config.host(&options.host).ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        let (client, connection) =
            config.connect_raw(transport, Encrypted).await.map_err(|error| login_error(options, error))?;
        drive(server, connection);
        Ok(client)
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) =
            config.connect_raw(transport, NoTls).await.map_err(|error| login_error(options, error))?;
        drive(server, connection);
        Ok(client)
    }
}

fn drive<F>(server: String, connection: F)
where
    F: Future<Output = std::result::Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%server, %error, "an SQL session ended");
        }
    });
}

/// An error of a statement, in this crate's terms.
pub fn statement_error(options: &ConnectOptions, statement: &str, error: tokio_postgres::Error) -> Error {
    error_of(&options.server(), statement, error)
}

pub(crate) fn error_of(server: &str, statement: &str, error: tokio_postgres::Error) -> Error {
    match server_error(&error) {
        Some(cause) => Error::of_statement(server, statement, cause),
        None if error.is_closed() || is_io(&error) => {
            Error::ConnectionLost { server: server.into(), during: "running a statement", reason: chain(&error) }
        }
        None => Error::Protocol { server: server.into(), during: "running a statement", reason: chain(&error) },
    }
}

fn login_error(options: &ConnectOptions, error: tokio_postgres::Error) -> Error {
    if let Some(cause) = server_error(&error) {
        return match auth::refusal(options, cause) {
            // The line of advice is for replication; here a database is wanted.
            Error::NoHbaEntry { server, cause, line } => {
                Error::NoHbaEntry { server, cause, line: line.replacen(" replication ", " all ", 1) }
            }
            // What these say is about replication too.
            Error::NoReplicationRight { server, cause, .. } | Error::NoFreeWalSender { server, cause } => {
                Error::Statement { server, statement: "the login".into(), cause }
            }
            other => other,
        };
    }
    let server = options.server();
    if is_io(&error) {
        return Error::ConnectionLost { server, during: "logging in", reason: chain(&error) };
    }
    if options.password.is_none() {
        return Error::PasswordMissing { server, user: options.user.clone() };
    }
    Error::ServerNotAuthentic { server, reason: chain(&error) }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>())
}

fn chain(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn server_error(error: &tokio_postgres::Error) -> Option<ServerError> {
    let error = error.as_db_error()?;
    Some(ServerError {
        severity: error.severity().to_owned(),
        code: error.code().code().to_owned(),
        message: error.message().to_owned(),
        detail: error.detail().map(str::to_owned),
        hint: error.hint().map(str::to_owned),
        routine: error.routine().map(str::to_owned),
    })
}

/// Why no WAL sender is free, where the role may ask: with `wal_level = minimal` there can be none.
pub(crate) async fn explain_no_sender(options: &ConnectOptions) -> Option<Error> {
    let client = connect(options, "postgres").await.ok()?;
    let row = timeout(options.connect_timeout, client.query_one("SHOW wal_level", &[])).await.ok()?.ok()?;
    let level: &str = row.try_get(0).ok()?;
    (level == "minimal").then(|| Error::WalLevelMinimal { server: options.server() })
}

/// Hands an encrypted transport to `tokio-postgres` as it is.
struct Encrypted;

impl TlsConnect<Transport> for Encrypted {
    type Stream = EncryptedStream;
    type Error = Infallible;
    type Future = Ready<std::result::Result<EncryptedStream, Infallible>>;

    fn connect(self, transport: Transport) -> Self::Future {
        ready(Ok(EncryptedStream(transport)))
    }
}

struct EncryptedStream(Transport);

impl TlsStream for EncryptedStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.channel_binding.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for EncryptedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for EncryptedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
