//! A connection in replication mode: the commands that answer with a row, and the way to the two streams.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use lifeboat_model::lsn::Lsn;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    auth,
    base_backup::{BaseBackup, BaseBackupOptions},
    connection::{Backend, Connection, columns},
    error::{Error, Result},
    sql,
    transport::{ConnectOptions, Transport},
    wal::WalStream,
};

/// The first and the last major version that this client speaks with. 13 has the same commands as 14.
pub const SUPPORTED_MAJORS: std::ops::RangeInclusive<u32> = 13..=18;
/// From here on replication commands take options in parentheses, and all archives come in one copy.
pub(crate) const NEW_SYNTAX: u32 = 150_000;
/// A command that answers with a row answers at once, unless the server is in trouble.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What `IDENTIFY_SYSTEM` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Made by `initdb`; the same for all copies of a cluster.
    pub system_id: u64,
    /// The current timeline.
    pub timeline: u32,
    /// Up to where WAL is flushed.
    pub flush: Lsn,
}

/// A session in replication mode.
pub struct Replication {
    connection: Connection,
    version: u32,
    version_text: String,
    cancel: CancelToken,
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replication({}, {})", self.connection.server(), self.version)
    }
}

impl Replication {
    /// Connects and logs in, within `connect_timeout`.
    pub async fn connect(options: &ConnectOptions) -> Result<Replication> {
        let limit = options.connect_timeout;
        let connected = match timeout(limit, Self::log_in(options)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::Timeout { server: options.server(), during: "connecting", after: limit }),
        };
        match connected {
            // With wal_level = minimal a server must run without WAL senders, and says only that they are used up.
            Err(error @ Error::NoFreeWalSender { .. }) => Err(sql::explain_no_sender(options).await.unwrap_or(error)),
            other => other,
        }
    }

    async fn log_in(options: &ConnectOptions) -> Result<Replication> {
        let transport = Transport::open(options).await?;
        let mut connection = Connection::new(transport, options.server());
        let mut startup = BytesMut::new();
        let parameters = [
            ("user", options.user.as_str()),
            ("replication", "true"),
            ("application_name", options.application_name.as_str()),
        ];
        frontend::startup_message(parameters, &mut startup)
            .map_err(|error| Error::Invalid { what: "the user or application name", reason: error.to_string() })?;
        connection.write(&startup, "logging in").await?;
        auth::log_in(&mut connection, options).await?;
        Self::greeting(connection, options).await
    }

    /// Reads what the server tells about itself after the login.
    async fn greeting(mut connection: Connection, options: &ConnectOptions) -> Result<Replication> {
        const DURING: &str = "logging in";
        let mut version_text = String::new();
        let mut key = (0, 0);
        loop {
            match connection.read(DURING).await? {
                Backend::Error(cause) => return Err(auth::refusal(options, cause)),
                Backend::Other(Message::BackendKeyData(body)) => key = (body.process_id(), body.secret_key()),
                Backend::Other(Message::ParameterStatus(body)) => {
                    let garbled = |error| connection.garbled(DURING, &error);
                    if body.name().map_err(garbled)? == "server_version" {
                        version_text = body.value().map_err(garbled)?.to_owned();
                    }
                }
                Backend::Other(Message::ReadyForQuery(_)) => break,
                Backend::Notice(_) => {}
                _ => return Err(connection.unexpected(DURING, "no greeting")),
            }
        }
        let version = parse_version(&version_text).filter(|version| SUPPORTED_MAJORS.contains(&(version / 10_000)));
        let Some(version) = version else {
            return Err(Error::UnsupportedVersion { server: options.server(), version: version_text });
        };
        let cancel = CancelToken { options: options.clone(), process_id: key.0, secret_key: key.1 };
        Ok(Replication { connection, version, version_text, cancel })
    }

    /// The version as a number: 170004 is 17.4.
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// The version as the server tells it: `17.4 (Debian 17.4-1)`.
    pub fn server_version_text(&self) -> &str {
        &self.version_text
    }

    /// What ends a running command from outside.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// `IDENTIFY_SYSTEM`.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        const COMMAND: &str = "IDENTIFY_SYSTEM";
        let row = self.one_row(COMMAND).await?;
        let identity = || {
            Some(SystemIdentity {
                system_id: text(&row, 0)?.parse().ok()?,
                timeline: text(&row, 1)?.parse().ok()?,
                flush: text(&row, 2)?.parse().ok()?,
            })
        };
        identity().ok_or_else(|| self.connection.unexpected(COMMAND, "no system identifier, timeline and position"))
    }

    /// `SHOW name`: a setting as text.
    pub async fn show(&mut self, name: &str) -> Result<String> {
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'.') {
            return Err(Error::Invalid { what: "the name of a setting", reason: format!("\"{name}\"") });
        }
        let row = self.one_row(&format!("SHOW {name}")).await?;
        text(&row, 0).map(str::to_owned).ok_or_else(|| self.connection.unexpected("SHOW", "no text"))
    }

    /// The size of a WAL segment in bytes, a power of two from 1 MiB to 1 GiB.
    pub async fn wal_segment_size(&mut self) -> Result<u64> {
        let text = self.show("wal_segment_size").await?;
        let size = parse_size(&text).filter(|size| size.is_power_of_two() && (1 << 20..=1 << 30).contains(size));
        size.ok_or_else(|| self.connection.unexpected("SHOW wal_segment_size", &text))
    }

    /// `TIMELINE_HISTORY`: the file's name and content. Timeline 1 has none.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<(String, Bytes)> {
        let mut row = self.one_row(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let name = text(&row, 0).map(str::to_owned);
        let content = row.pop().flatten();
        name.zip(content).ok_or_else(|| self.connection.unexpected("TIMELINE_HISTORY", "no file"))
    }

    /// Makes a physical slot that keeps WAL from now on. A temporary one ends with this session.
    pub async fn create_physical_slot(&mut self, name: &str, temporary: bool) -> Result<()> {
        check_slot_name(name)?;
        let temporary = if temporary { " TEMPORARY" } else { "" };
        let reserve = if self.version >= NEW_SYNTAX { "(RESERVE_WAL)" } else { "RESERVE_WAL" };
        self.rows(&format!("CREATE_REPLICATION_SLOT {name}{temporary} PHYSICAL {reserve}")).await.map(drop)
    }

    /// Removes a slot; the server may then recycle the WAL it kept.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        check_slot_name(name)?;
        self.rows(&format!("DROP_REPLICATION_SLOT {name}")).await.map(drop)
    }

    /// Starts a base backup. The first event comes when the server has finished its checkpoint.
    pub async fn base_backup(mut self, options: BaseBackupOptions) -> Result<BaseBackup> {
        let command = options.command(self.version)?;
        self.connection.query(&command).await?;
        Ok(BaseBackup::new(self, options))
    }

    /// Streams WAL of one timeline from a position on, through a physical slot where one is named. WAL that the server has
    /// no longer is [`Error::WalRemoved`]: from here, or from [`WalStream::next`] if it goes while it is streamed.
    ///
    /// Up to 17 a slot that was invalidated can be streamed through while its WAL lasts, and protects nothing: look at
    /// [`crate::slot::Slot::is_lost`] before.
    pub async fn start_wal(mut self, start: Lsn, timeline: u32, slot: Option<&str>) -> Result<WalStream> {
        let slot = match slot {
            Some(name) => {
                check_slot_name(name)?;
                format!("SLOT {name} ")
            }
            None => String::new(),
        };
        let sender_timeout = self.show("wal_sender_timeout").await?;
        let sender_timeout = parse_duration(&sender_timeout).filter(|limit| !limit.is_zero());
        let is_behind = start < self.identify_system().await?.flush;
        let command = format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}");
        self.connection.query(&command).await?;
        WalStream::begin(self, command, start, is_behind, sender_timeout).await
    }

    /// Ends the session.
    pub async fn close(self) {
        self.connection.close().await;
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn server(&self) -> &str {
        self.connection.server()
    }

    async fn one_row(&mut self, command: &str) -> Result<Vec<Option<Bytes>>> {
        let mut rows = self.rows(command).await?;
        match rows.len() {
            1 => Ok(rows.swap_remove(0)),
            count => {
                let reason = format!("{count} rows in answer to {command}");
                Err(self.connection.unexpected("reading one row", &reason))
            }
        }
    }

    /// Runs a command and reads its rows up to `ReadyForQuery`.
    async fn rows(&mut self, command: &str) -> Result<Vec<Vec<Option<Bytes>>>> {
        const DURING: &str = "answering a replication command";
        self.connection.query(command).await?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let message = match self.connection.read_within(COMMAND_TIMEOUT, DURING).await {
                Ok(message) => message,
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            match message {
                Backend::Error(cause) => failure = Some(Error::of_statement(self.server(), command, cause)),
                Backend::Other(Message::DataRow(row)) => {
                    rows.push(columns(&row).map_err(|error| self.connection.garbled(DURING, &error))?);
                }
                Backend::Other(Message::ReadyForQuery(_)) => break,
                Backend::CopyData(_) | Backend::CopyBoth => return Err(self.connection.unexpected(DURING, "a copy")),
                Backend::Notice(_) | Backend::Other(_) => {}
            }
        }
        failure.map_or(Ok(rows), Err)
    }
}

/// Ends what a session is doing, from another connection, as Ctrl-C in psql does.
#[derive(Clone)]
pub struct CancelToken {
    options: ConnectOptions,
    process_id: i32,
    secret_key: i32,
}

impl fmt::Debug for CancelToken {
    /// Without the key: whoever has it can cancel.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelToken({}, process {})", self.options.server(), self.process_id)
    }
}

impl CancelToken {
    /// Asks the server to cancel. It answers nothing; the running command ends with SQLSTATE 57014.
    pub async fn cancel(&self) -> Result<()> {
        let options = &self.options;
        let request = async {
            let mut transport = Transport::open(options).await?;
            let mut buf = BytesMut::new();
            frontend::cancel_request(self.process_id, self.secret_key, &mut buf);
            let sent = async {
                transport.write_all(&buf).await?;
                transport.shutdown().await
            };
            let lost = |error: std::io::Error| Error::ConnectionLost {
                server: options.server(),
                during: "cancelling",
                reason: error.to_string(),
            };
            sent.await.map_err(lost)
        };
        let after = options.connect_timeout;
        let timed_out = |_| Error::Timeout { server: options.server(), during: "cancelling", after };
        timeout(after, request).await.map_err(timed_out)?
    }
}

pub(crate) fn text(row: &[Option<Bytes>], column: usize) -> Option<&str> {
    std::str::from_utf8(row.get(column)?.as_ref()?).ok()
}

fn check_slot_name(name: &str) -> Result<()> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if (1..=63).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let reason = format!("\"{name}\": use 1 to 63 of a-z, 0-9 and '_'");
    Err(Error::Invalid { what: "the name of a replication slot", reason })
}

/// `17.4 (Debian …)` → 170004, `18beta1` → 180000.
pub(crate) fn parse_version(text: &str) -> Option<u32> {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse::<u32>().ok()
    };
    let major = number(text)?;
    let minor = text.split_once('.').filter(|(before, _)| before.parse::<u32>().is_ok());
    let minor = minor.and_then(|(_, minor)| number(minor)).unwrap_or(0);
    // 9.6 and older counted otherwise; they are refused by their major.
    (major < 1000 && minor < 10_000).then(|| major * 10_000 + minor)
}

/// A size as `SHOW` prints it: `16MB`, `1GB`, `8192`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// A time as `SHOW` prints it: `1min`, `500ms`, `0`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match &text[digits..] {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("17.4 (Debian 17.4-1.pgdg120+2)"), Some(170_004));
        assert_eq!(parse_version("18beta1"), Some(180_000));
        assert_eq!(parse_version("15.13"), Some(150_013));
        assert_eq!(parse_version("9.6.24"), Some(90_006));
        assert_eq!(parse_version("EnterpriseDB"), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("16MB"), Some(16 << 20));
        assert_eq!(parse_size("1GB"), Some(1 << 30));
        assert_eq!(parse_size("-1"), None);
        assert_eq!(parse_size("16 parsecs"), None);
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1min"), Some(Duration::from_secs(60)));
        assert_eq!(parse_duration("2500ms"), Some(Duration::from_millis(2500)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        assert_eq!(parse_duration("-1"), None);
    }

    #[test]
    fn slot_names_cannot_carry_commands() {
        assert!(check_slot_name("lifeboat_clinic_1").is_ok());
        for bad in ["", "a b", "A", "x;DROP", &"a".repeat(64)] {
            assert!(check_slot_name(bad).is_err(), "{bad:?}");
        }
    }
}
