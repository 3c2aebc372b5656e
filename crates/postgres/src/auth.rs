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

#[cfg(test)]
mod tests {
    use lifeboat_model::secret::Secret;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::Transport;

    const BOTH: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    const PLAIN: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
    const MD5: &[u8] = b"\0\0\0\x05salt";
    const CLEAR: &[u8] = b"\0\0\0\x03";

    /// Offers something to a client, and gives back what it says and how its login ended.
    async fn offer(request: &[u8], binding: Option<&[u8]>, is_private: bool) -> (Vec<u8>, Result<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut options = ConnectOptions::new("db", 5432, "lifeboat");
        options.password = Some(Secret::new("s3cret"));
        let transport = Transport::claiming(stream, binding.map(<[u8]>::to_vec), is_private);
        let mut connection = Connection::new(transport, options.server());
        let length = u32::try_from(request.len() + 4).unwrap();
        server.write_all(&[&b"R"[..], &length.to_be_bytes(), request].concat()).await.unwrap();
        server.shutdown().await.unwrap();
        let result = log_in(&mut connection, &options).await;
        drop(connection);
        let mut said = Vec::new();
        server.read_to_end(&mut said).await.unwrap();
        (said, result)
    }

    async fn check_scram(request: &[u8], binding: Option<&[u8]>, mechanism: &str, header: &str) {
        let (said, _) = offer(request, binding, true).await;
        let name = [mechanism.as_bytes(), b"\0"].concat();
        assert_eq!(said[5..5 + name.len()], name, "{}", String::from_utf8_lossy(&said));
        assert!(said[5 + name.len() + 4..].starts_with(header.as_bytes()), "{}", String::from_utf8_lossy(&said));
    }

    #[tokio::test]
    async fn the_channel_is_bound_where_it_can_be() {
        check_scram(BOTH, Some(b"hash"), SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,n=").await;
        check_scram(PLAIN, Some(b"hash"), SCRAM_SHA_256, "y,,n=").await;
        check_scram(BOTH, None, SCRAM_SHA_256, "n,,n=").await;
        check_scram(PLAIN, None, SCRAM_SHA_256, "n,,n=").await;
    }

    #[tokio::test]
    async fn readable_passwords_stay_at_home() {
        for (request, answer_len) in [(MD5, 5 + 36), (CLEAR, 5 + 7)] {
            let (said, result) = offer(request, None, false).await;
            assert!(said.is_empty(), "{said:?}");
            assert!(matches!(result, Err(Error::InsecureAuthentication { .. })), "{result:?}");
            let (said, _) = offer(request, None, true).await;
            assert_eq!(said.len(), answer_len);
        }
    }

    #[tokio::test]
    async fn what_we_do_not_speak_is_named() {
        let (said, result) = offer(b"\0\0\0\x07", None, true).await;
        assert!(said.is_empty());
        assert!(result.unwrap_err().to_string().contains("GSSAPI"));
        let (_, result) = offer(b"\0\0\0\x0aOAUTHBEARER\0\0", None, true).await;
        assert!(result.unwrap_err().to_string().contains("OAUTHBEARER"));
    }

    #[test]
    fn refusals_do_not_depend_on_words() {
        let options = ConnectOptions::new("db", 5432, "lifeboat");
        let refused = |code: &str, routine: &str| {
            let cause = ServerError { code: code.into(), routine: Some(routine.into()), ..ServerError::default() };
            refusal(&options, cause)
        };
        assert!(matches!(refused("28P01", "auth_failed"), Error::WrongPassword { .. }));
        assert!(matches!(refused("28000", "InitializeSessionUserId"), Error::LoginRefused { .. }));
        assert!(matches!(refused("57P03", "ProcessStartupPacket"), Error::ServerUnavailable { .. }));
        let Error::NoHbaEntry { line, .. } = refused("28000", "ClientAuthentication") else { panic!("another error") };
        assert_eq!(line, "hostssl replication lifeboat <address of this host>/32 scram-sha-256");
    }
}
