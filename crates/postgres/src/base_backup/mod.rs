//! `BASE_BACKUP`: the whole cluster as a stream of files, while it runs.
//!
//! A backup is good only when [`BackupEvent::Finished`] has come. The server verifies page checksums while it reads and
//! tells the result *after* the copy is over and its end position is sent, so the stream is always drained to
//! `ReadyForQuery`, and an error on the way there is the result of the backup.

mod stream;
mod tar;

use std::time::Duration;

use bytes::Bytes;
use lifeboat_model::lsn::Lsn;

use crate::{
    error::{Error, Result},
    replication::{NEW_SYNTAX, Replication},
};

use stream::BackupStream;

/// How a base backup is made.
#[derive(Debug, Clone)]
pub struct BaseBackupOptions {
    /// Shown in `backup_label`.
    pub label: String,
    /// Checkpoint at once, rather than spread over `checkpoint_timeout`.
    pub fast_checkpoint: bool,
    /// Ask for `backup_manifest`, with CRC-32C of every file.
    pub manifest: bool,
    /// Let the server check the checksum of every page that it reads.
    pub verify_checksums: bool,
    /// Send the tablespaces' places as the file `tablespace_map` instead of as symlinks. The file wins over symlinks when
    /// the copy is started, so it stands in the way of a restore to another place; but only so can the location of a
    /// tablespace be longer than 100 bytes.
    pub tablespace_map: bool,
    /// A limit in kB/s, kept by the server.
    pub max_rate: Option<u32>,
    /// The longest wait for the checkpoint at the beginning.
    pub start_timeout: Duration,
    /// The longest silence afterwards. A server is silent while it reads from a slow disk.
    pub silence: Duration,
}

impl Default for BaseBackupOptions {
    fn default() -> Self {
        BaseBackupOptions {
            label: "lifeboat".into(),
            fast_checkpoint: true,
            manifest: true,
            verify_checksums: true,
            tablespace_map: false,
            max_rate: None,
            start_timeout: Duration::from_secs(30 * 60),
            silence: Duration::from_secs(10 * 60),
        }
    }
}

impl BaseBackupOptions {
    /// The command, in the words of this server version. No WAL in the backup and no wait for an archiver: the WAL is
    /// streamed beside.
    pub(crate) fn command(&self, version: u32) -> Result<String> {
        if self.label.contains(['\0', '\n']) || self.label.len() > 1000 {
            return Err(Error::Invalid { what: "the label", reason: "it is too long or has a line break".into() });
        }
        let label = self.label.replace('\'', "''");
        let is_new = version >= NEW_SYNTAX;
        let mut options = vec![format!("LABEL '{label}'")];
        let mut add = |wanted: bool, new: &str, old: &str| {
            if wanted {
                options.push(if is_new { new } else { old }.to_owned());
            }
        };
        add(true, "PROGRESS true", "PROGRESS");
        add(self.fast_checkpoint, "CHECKPOINT 'fast'", "FAST");
        add(is_new, "WAL false", "");
        add(true, "WAIT false", "NOWAIT");
        add(self.tablespace_map, "TABLESPACE_MAP true", "TABLESPACE_MAP");
        add(!self.verify_checksums, "VERIFY_CHECKSUMS false", "NOVERIFY_CHECKSUMS");
        add(self.manifest, "MANIFEST 'yes'", "MANIFEST 'yes'");
        add(self.manifest, "MANIFEST_CHECKSUMS 'CRC32C'", "MANIFEST_CHECKSUMS 'CRC32C'");
        if let Some(rate) = self.max_rate {
            options.push(format!("MAX_RATE {rate}"));
        }
        Ok(if is_new {
            format!("BASE_BACKUP ({})", options.join(", "))
        } else {
            format!("BASE_BACKUP {}", options.join(" "))
        })
    }
}

/// A tablespace besides the two that lie in PGDATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its OID; its files are at `pg_tblspc/<oid>/`.
    pub oid: u32,
    /// Where it lies on the server.
    pub location: String,
    /// About how many bytes will come.
    pub size: u64,
}

/// What comes, in this order: `Started`, then files, directories and links (each `File` followed by its `Data` and
/// `EndFile`; extra tablespaces before the rest, `global/pg_control` last), then `Manifest`, then `Finished`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupEvent {
    /// The checkpoint is done and the copy begins.
    Started {
        /// WAL is needed from here on.
        start: Lsn,
        /// On this timeline.
        timeline: u32,
        /// The extra tablespaces.
        tablespaces: Vec<Tablespace>,
        /// About how many bytes will come from PGDATA itself.
        size: u64,
    },
    /// A file begins; its content follows, `size` bytes in all.
    File {
        /// Relative to PGDATA; in tablespaces `pg_tblspc/<oid>/…`.
        path: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner on the server.
        uid: u32,
        /// Group on the server.
        gid: u32,
        /// Seconds since 1970.
        mtime: i64,
        /// Length in bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Relative to PGDATA.
        path: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner on the server.
        uid: u32,
        /// Group on the server.
        gid: u32,
        /// Seconds since 1970.
        mtime: i64,
    },
    /// A symbolic link: `pg_tblspc/<oid>` to a tablespace's location.
    Symlink {
        /// Relative to PGDATA.
        path: Vec<u8>,
        /// Where it points.
        target: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner on the server.
        uid: u32,
        /// Group on the server.
        gid: u32,
        /// Seconds since 1970.
        mtime: i64,
    },
    /// The next bytes of the file: a slice of a receive buffer of 256 KiB, which lives as long as its last slice.
    Data(Bytes),
    /// The file is complete.
    EndFile,
    /// The next bytes of `backup_manifest`.
    Manifest(Bytes),
    /// The server is content: this is a backup, together with the WAL from `start` to `end`.
    Finished {
        /// WAL is needed up to here.
        end: Lsn,
        /// On this timeline.
        timeline: u32,
    },
}

/// A running base backup. Dropping it closes the connection, which ends the backup at the server.
pub struct BaseBackup {
    replication: Replication,
    options: BaseBackupOptions,
    stream: BackupStream,
    has_failed: bool,
}

impl BaseBackup {
    pub(crate) fn new(replication: Replication, options: BaseBackupOptions) -> Self {
        let is_new = replication.server_version() >= NEW_SYNTAX;
        let stream = BackupStream::new(replication.server().to_owned(), is_new, options.manifest);
        BaseBackup { replication, options, stream, has_failed: false }
    }

    /// The next event; `None` after `Finished`. After an error nothing more comes, and there is no backup.
    pub async fn next(&mut self) -> Result<Option<BackupEvent>> {
        if self.has_failed {
            let reason = "it has failed already".into();
            let server = self.replication.server().to_owned();
            return Err(Error::Protocol { server, during: "making a base backup", reason });
        }
        let event = self.advance().await;
        self.has_failed = event.is_err();
        event
    }

    /// What the server warned about so far (the first 20).
    pub fn warnings(&self) -> &[String] {
        self.stream.warnings()
    }

    /// The session again, once the backup is finished; `None` before.
    pub fn into_replication(self) -> Option<Replication> {
        self.stream.is_done().then_some(self.replication)
    }

    async fn advance(&mut self) -> Result<Option<BackupEvent>> {
        loop {
            if let Some(event) = self.stream.pop()? {
                return Ok(Some(event));
            }
            if self.stream.is_done() {
                return Ok(None);
            }
            let (limit, during) = match self.stream.has_started() {
                false => (self.options.start_timeout, "waiting for the checkpoint of a base backup"),
                true => (self.options.silence, "receiving a base backup"),
            };
            match self.replication.connection().read_within(limit, during).await {
                Ok(message) => self.stream.push(message)?,
                // The server said why before it closed.
                Err(error) => return Err(self.stream.take_failure().unwrap_or(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_by_version() {
        let options = BaseBackupOptions { label: "it's".into(), ..BaseBackupOptions::default() };
        assert_eq!(
            options.command(170_004).unwrap(),
            "BASE_BACKUP (LABEL 'it''s', PROGRESS true, CHECKPOINT 'fast', WAL false, WAIT false, MANIFEST 'yes', \
             MANIFEST_CHECKSUMS 'CRC32C')"
        );
        assert_eq!(
            options.command(140_011).unwrap(),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
        );
        let line_break = BaseBackupOptions { label: "a\nb".into(), ..BaseBackupOptions::default() };
        assert!(line_break.command(170_004).is_err());
    }
}
