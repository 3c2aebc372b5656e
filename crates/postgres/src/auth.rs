//! Logging in: SCRAM-SHA-256, with channel binding over TLS. Passwords in forms that others could read on the way (clear
//! text, md5) are given only where nobody can listen.

use bytes::{Bytes, BytesMut};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::{backend::Message, frontend},
};
use tokio_postgres::fallible_iterator::FallibleIterator as _;

use crate::{
    connection::{Backend, Connection},
    error::{Error, Result, ServerError},
    transport::ConnectOptions,
};

const DURING: &str = "logging in";

/// Answers the server's questions until it is content. Its greeting (parameters, cancel key) follows and is not read here.
pub(crate) async fn log_in(connection: &mut Connection, options: &ConnectOptions) -> Result<()> {
    let password = || options.password.as_ref().ok_or_else(|| password_missing(options));
    match authentication(connection, options).await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            demand_privacy(connection, options, "clear-text")?;
            send_password(connection, password()?.expose().as_bytes()).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            demand_privacy(connection, options, "md5")?;
            let answer = md5_hash(options.user.as_bytes(), password()?.expose().as_bytes(), body.salt());
            send_password(connection, answer.as_bytes()).await?;
        }
        Message::AuthenticationSasl(body) => {
            let offered: Vec<String> = body
                .mechanisms()
                .map(|name| Ok(name.to_owned()))
                .collect()
                .map_err(|e| connection.garbled(DURING, &e))?;
            scram(connection, options, &offered, password()?.expose().as_bytes()).await?;
        }
        other => return Err(unsupported(options, &other)),
    }
    match authentication(connection, options).await? {
        Message::AuthenticationOk => Ok(()),
        other => Err(unsupported(options, &other)),
    }
}

async fn scram(
    connection: &mut Connection,
    options: &ConnectOptions,
    offered: &[String],
    password: &[u8],
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|mechanism| mechanism == name);
    let (mechanism, binding) = match connection.channel_binding() {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
        // We could, the server says that it cannot: it refuses us if somebody took its offer away ("y,,").
        Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => {
            let method = format!("SASL with {}", offered.join(", "));
            return Err(Error::UnsupportedAuthentication { server: options.server(), method });
        }
    };
    let not_authentic =
        |error: std::io::Error| Error::ServerNotAuthentic { server: options.server(), reason: error.to_string() };
    let mut scram = ScramSha256::new(password, binding);
    send(connection, |buf| frontend::sasl_initial_response(mechanism, scram.message(), buf)).await?;
    let Message::AuthenticationSaslContinue(body) = authentication(connection, options).await? else {
        return Err(connection.unexpected(DURING, "no continuation of SCRAM"));
    };
    // 4096 rounds of HMAC by default; a server may ask for many more, so not on this thread.
    let data = Bytes::copy_from_slice(body.data());
    let (mut scram, updated) = tokio::task::spawn_blocking(move || {
        let updated = scram.update(&data);
        (scram, updated)
    })
    .await
    .map_err(|error| connection.unexpected(DURING, &error.to_string()))?;
    updated.map_err(not_authentic)?;
    send(connection, |buf| frontend::sasl_response(scram.message(), buf)).await?;
    let Message::AuthenticationSaslFinal(body) = authentication(connection, options).await? else {
        return Err(connection.unexpected(DURING, "no end of SCRAM"));
    };
    scram.finish(body.data()).map_err(not_authentic)
}

/// The next message, with a refusal sorted by what has to be done about it.
async fn authentication(connection: &mut Connection, options: &ConnectOptions) -> Result<Message> {
    loop {
        match connection.read(DURING).await? {
            Backend::Error(cause) => return Err(refusal(options, cause)),
            Backend::Notice(_) => {}
            Backend::Other(message) => return Ok(message),
            Backend::CopyData(_) | Backend::CopyBoth => {
                return Err(connection.unexpected(DURING, "a copy before the login"));
            }
        }
    }
}

/// A refusal to let a connection in, sorted by SQLSTATE and by the server's routine.
pub(crate) fn refusal(options: &ConnectOptions, cause: ServerError) -> Error {
    let server = options.server();
    let (user, cause) = (options.user.clone(), Box::new(cause));
    match (cause.code.as_str(), cause.routine.as_deref()) {
        ("28P01", _) => Error::WrongPassword { server, user, cause },
        // The same routine speaks for "no entry" and "entry rejects"; others for unknown or locked roles.
        ("28000", Some("ClientAuthentication")) => Error::NoHbaEntry { server, cause, line: hba_line(options) },
        ("28000", _) => Error::LoginRefused { server, user, cause },
        ("42501", _) => Error::NoReplicationRight { server, user, cause },
        ("53300", _) => Error::NoFreeWalSender { server, cause },
        ("57P01" | "57P02" | "57P03", _) => Error::ServerUnavailable { server, cause },
        _ => Error::Statement { server, statement: "the login".into(), cause },
    }
}

fn hba_line(options: &ConnectOptions) -> String {
    let kind = if options.is_unix_socket() {
        return format!("local replication {} scram-sha-256", options.user);
    } else if options.tls == lifeboat_model::config::TlsMode::Disable {
        "host"
    } else {
        "hostssl"
    };
    format!("{kind} replication {} <address of this host>/32 scram-sha-256", options.user)
}

fn demand_privacy(connection: &Connection, options: &ConnectOptions, method: &'static str) -> Result<()> {
    if connection.is_private() {
        return Ok(());
    }
    Err(Error::InsecureAuthentication { server: options.server(), method })
}

fn password_missing(options: &ConnectOptions) -> Error {
    Error::PasswordMissing { server: options.server(), user: options.user.clone() }
}

fn unsupported(options: &ConnectOptions, message: &Message) -> Error {
    let method = match message {
        Message::AuthenticationGss | Message::AuthenticationGssContinue(_) => "GSSAPI authentication",
        Message::AuthenticationSspi => "SSPI authentication",
        Message::AuthenticationKerberosV5 => "Kerberos 5 authentication",
        _ => "an unknown kind of authentication",
    };
    Error::UnsupportedAuthentication { server: options.server(), method: method.into() }
}

async fn send_password(connection: &mut Connection, password: &[u8]) -> Result<()> {
    send(connection, |buf| frontend::password_message(password, buf)).await
}

async fn send(connection: &mut Connection, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
    let mut buf = BytesMut::new();
    write(&mut buf).map_err(|error| Error::Invalid { what: "the password", reason: error.to_string() })?;
    connection.write(&buf, DURING).await
}
