//! What can go wrong with a PostgreSQL server, told apart by what a person has to do about it.
//!
//! Servers speak the language of their `lc_messages`, so nothing here is decided by a server's words: only by SQLSTATE
//! and by the name of the server routine that raised the error.

use std::{fmt, path::PathBuf, time::Duration};

use lifeboat_model::lsn::Lsn;

/// The result of talking to a server.
pub type Result<T> = std::result::Result<T, Error>;

/// An error or notice as the server sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING` …, never translated.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The server's words.
    pub message: String,
    /// More of them.
    pub detail: Option<String>,
    /// The server's advice.
    pub hint: Option<String>,
    /// The function in the server that raised it.
    pub routine: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        write!(f, " (SQLSTATE {})", self.code)
    }
}

/// Something that did not work, with what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answered at the address.
    #[error("cannot reach PostgreSQL at {server}: {reason}; check host, port, firewall and listen_addresses")]
    Unreachable {
        /// `host:port`.
        server: String,
        /// The operating system's words.
        reason: String,
    },
    /// The server did not answer in time.
    #[error(
        "PostgreSQL at {server} was silent for {} s while {during}; check the server's load and the network", .after.as_secs()
    )]
    Timeout {
        /// `host:port`.
        server: String,
        /// What was waited for.
        during: &'static str,
        /// How long.
        after: Duration,
    },
    /// The connection broke.
    #[error(
        "lost the connection to PostgreSQL at {server} while {during}: {reason}; the server may have been restarted"
    )]
    ConnectionLost {
        /// `host:port`.
        server: String,
        /// What was going on.
        during: &'static str,
        /// Why, as far as known.
        reason: String,
    },
    /// The server is starting, stopping, recovering from a crash, or an administrator ended the session.
    #[error("PostgreSQL at {server} is shutting down, restarting or not ready: {cause}; try again when it runs")]
    ServerUnavailable {
        /// `host:port`.
        server: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The server shut down in good order while it streamed WAL.
    #[error("PostgreSQL at {server} was shut down; all its WAL up to {end} was received; try again when it runs")]
    ServerStopped {
        /// `host:port`.
        server: String,
        /// The end of its WAL.
        end: Lsn,
    },
    /// The receiver of a WAL stream stands still, and the server would have to wait for it.
    #[error(
        "WAL from PostgreSQL at {server} was not taken or not stored for {} s: the connection was given up, so that the server need not wait; the slot keeps the WAL",
        .after.as_secs()
    )]
    ReceiverStalled {
        /// `host:port`.
        server: String,
        /// How long.
        after: Duration,
    },
    /// The password is wrong, or the role has none, or does not exist.
    #[error("PostgreSQL at {server} refused the password of role \"{user}\": {cause}; check the role and its password")]
    WrongPassword {
        /// `host:port`.
        server: String,
        /// The role.
        user: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The server wants a password, and none is configured.
    #[error(
        "PostgreSQL at {server} asks for a password of role \"{user}\" and none is configured: set password_file or password_env"
    )]
    PasswordMissing {
        /// `host:port`.
        server: String,
        /// The role.
        user: String,
    },
    /// `pg_hba.conf` lets nobody in from here.
    #[error(
        "PostgreSQL at {server} has no pg_hba.conf entry that admits this connection: {cause}; add a line \"{line}\" and reload"
    )]
    NoHbaEntry {
        /// `host:port`.
        server: String,
        /// The server's words.
        cause: Box<ServerError>,
        /// A line that would admit it.
        line: String,
    },
    /// The role may not log in at all (no such role, NOLOGIN, expired).
    #[error("PostgreSQL at {server} does not let role \"{user}\" in: {cause}; create it with LOGIN, or check its name")]
    LoginRefused {
        /// `host:port`.
        server: String,
        /// The role.
        user: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The role lacks `REPLICATION`.
    #[error("role \"{user}\" may not replicate from {server}: {cause}; run: ALTER ROLE \"{user}\" REPLICATION")]
    NoReplicationRight {
        /// `host:port`.
        server: String,
        /// The role.
        user: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The server does not speak TLS.
    #[error(
        "PostgreSQL at {server} does not offer TLS (ssl = off): turn ssl on at the server, or set tls = \"disable\" where the network is trusted"
    )]
    TlsRefused {
        /// `host:port`.
        server: String,
    },
    /// The server's certificate is not from an authority that we know, or not valid now.
    #[error(
        "the certificate of PostgreSQL at {server} is not trusted: {reason}; set root_cert_file to the authority's certificate"
    )]
    TlsUntrusted {
        /// `host:port`.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is for another name.
    #[error(
        "the certificate of PostgreSQL at {server} is not for this host: {reason}; use a host name from its subjectAltName, or tls = \"verify-ca\""
    )]
    TlsHostname {
        /// `host:port`.
        server: String,
        /// What was compared.
        reason: String,
    },
    /// The TLS handshake failed in another way.
    #[error("the TLS handshake with PostgreSQL at {server} failed: {reason}")]
    TlsHandshake {
        /// `host:port`.
        server: String,
        /// Why.
        reason: String,
    },
    /// The file with the root certificates is unusable.
    #[error("cannot use root_cert_file {}: {reason}", .path.display())]
    RootCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The server asks for a password in a form that others on the network could read.
    #[error(
        "PostgreSQL at {server} asks for {method} authentication over an unencrypted connection; refused: turn on TLS, or use scram-sha-256 in pg_hba.conf"
    )]
    InsecureAuthentication {
        /// `host:port`.
        server: String,
        /// What the server asked for.
        method: &'static str,
    },
    /// The server asks for something that we do not speak (GSS, SSPI, client certificates …).
    #[error(
        "PostgreSQL at {server} asks for {method}, which is not supported; use scram-sha-256 in pg_hba.conf for this role"
    )]
    UnsupportedAuthentication {
        /// `host:port`.
        server: String,
        /// What the server asked for.
        method: String,
    },
    /// The server could not prove that it knows the password: somebody else may be answering.
    #[error("PostgreSQL at {server} did not prove its identity in SCRAM ({reason}); check that nobody stands between")]
    ServerNotAuthentic {
        /// `host:port`.
        server: String,
        /// What did not fit.
        reason: String,
    },
    /// Too old or too new.
    #[error("PostgreSQL {version} at {server} is not supported: this release speaks with 13 to 18")]
    UnsupportedVersion {
        /// `host:port`.
        server: String,
        /// As the server tells it.
        version: String,
    },
    /// `wal_level = minimal`.
    #[error(
        "PostgreSQL at {server} runs with wal_level = minimal, so it cannot be backed up while running: set wal_level = replica and max_wal_senders >= 4, and restart it"
    )]
    WalLevelMinimal {
        /// `host:port`.
        server: String,
    },
    /// All WAL senders (or all connections of the role) are in use.
    #[error(
        "PostgreSQL at {server} has no free WAL sender: {cause}; raise max_wal_senders (or the role's connection limit), or end a stale one"
    )]
    NoFreeWalSender {
        /// `host:port`.
        server: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// WAL that is needed is gone.
    #[error(
        "PostgreSQL at {server} no longer has WAL from {start} on: {cause}; use a replication slot, or raise wal_keep_size"
    )]
    WalRemoved {
        /// `host:port`.
        server: String,
        /// Where the stream should have started.
        start: Lsn,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The server found pages whose checksum is wrong. The copy is not a good backup.
    #[error("PostgreSQL at {server} found {count} page(s) with a wrong checksum while copying ({}); the data there is damaged: look at the disks, restore these files or run pg_amcheck, then back up again", .examples.join("; "))]
    ChecksumFailure {
        /// `host:port`.
        server: String,
        /// How many pages the server named.
        count: u64,
        /// The first few, in the server's words.
        examples: Vec<String>,
    },
    /// A statement or replication command failed.
    #[error("PostgreSQL at {server} answered {statement} with: {cause}")]
    Statement {
        /// `host:port`.
        server: String,
        /// What was asked, shortened.
        statement: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The server said something that the protocol does not allow here.
    #[error("unexpected answer from PostgreSQL at {server} while {during}: {reason}; please report this")]
    Protocol {
        /// `host:port`.
        server: String,
        /// What was going on.
        during: &'static str,
        /// What did not fit.
        reason: String,
    },
    /// A chunk of WAL does not continue the one before.
    #[error("WAL is not contiguous: expected {expected}, got {got}")]
    WalGap {
        /// The next position that was expected.
        expected: Lsn,
        /// The position that came.
        got: Lsn,
    },
    /// The bytes at a position are not what WAL can be there.
    #[error("WAL at {lsn} cannot be read: {reason}; compare with pg_waldump --start={lsn} at the server")]
    WalCorrupt {
        /// The page or record.
        lsn: Lsn,
        /// What does not fit.
        reason: String,
    },
    /// The server is a standby: it writes no WAL of its own.
    #[error(
        "PostgreSQL at {server} is a standby and cannot write a heartbeat: {cause}; send heartbeats to its primary"
    )]
    HeartbeatOnStandby {
        /// `host:port`, where known.
        server: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// The role may not call `pg_logical_emit_message`.
    #[error(
        "the role may not write heartbeats to PostgreSQL at {server}: {cause}; run: GRANT EXECUTE ON FUNCTION pg_logical_emit_message TO the role, or set heartbeat = \"off\""
    )]
    NoHeartbeatRight {
        /// `host:port`, where known.
        server: String,
        /// The server's words.
        cause: Box<ServerError>,
    },
    /// A value given by the caller cannot be sent.
    #[error("{what} is not usable: {reason}")]
    Invalid {
        /// Which value.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A backup manifest cannot be read or contradicts itself.
    #[error("backup_manifest is damaged: {reason}")]
    Manifest {
        /// What does not fit.
        reason: String,
    },
    /// The caller ended it early.
    #[error("ended early on request")]
    Interrupted,
    /// A file of a restored directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::Timeout { .. }
            | Error::ConnectionLost { .. }
            | Error::ServerUnavailable { .. }
            | Error::ServerStopped { .. }
            | Error::ReceiverStalled { .. }
            | Error::NoFreeWalSender { .. } => true,
            // Classes 08 (connection), 40 (rollback), 53 (resources), 57 (operator).
            Error::Statement { cause, .. } => {
                ["08", "40", "53", "57"].iter().any(|class| cause.code.starts_with(class))
            }
            _ => false,
        }
    }

    /// The server's own words, where it gave some.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Error::ServerUnavailable { cause, .. }
            | Error::WrongPassword { cause, .. }
            | Error::NoHbaEntry { cause, .. }
            | Error::LoginRefused { cause, .. }
            | Error::NoReplicationRight { cause, .. }
            | Error::NoFreeWalSender { cause, .. }
            | Error::WalRemoved { cause, .. }
            | Error::HeartbeatOnStandby { cause, .. }
            | Error::NoHeartbeatRight { cause, .. }
            | Error::Statement { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// An error of a statement, sorted by its SQLSTATE.
    pub(crate) fn of_statement(server: &str, statement: &str, cause: ServerError) -> Error {
        let (server, cause) = (server.to_owned(), Box::new(cause));
        match cause.code.as_str() {
            "57P01" | "57P02" | "57P03" => Error::ServerUnavailable { server, cause },
            _ => Error::Statement { server, statement: shortened(statement), cause },
        }
    }
}

/// The first line of a statement, at most 60 characters: enough to know which one it was.
fn shortened(statement: &str) -> String {
    let line = statement.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("\"{}…\"", &line[..end]),
        None => format!("\"{line}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_errors_are_sorted_by_code() {
        let cause = |code: &str| ServerError { code: code.into(), message: "x".into(), ..ServerError::default() };
        assert!(matches!(Error::of_statement("h:1", "SELECT 1", cause("57P01")), Error::ServerUnavailable { .. }));
        let error = Error::of_statement("h:1", "SELECT 1", cause("42601"));
        assert!(!error.is_transient());
        assert_eq!(error.to_string(), "PostgreSQL at h:1 answered \"SELECT 1\" with: x (SQLSTATE 42601)");
        assert!(Error::of_statement("h:1", "SELECT 1", cause("53100")).is_transient());
    }
}
