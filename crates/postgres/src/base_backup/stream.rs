//! The order of messages in a base backup, without any I/O: messages in, events out.
//!
//! Up to version 14 every archive is a copy of its own, in the order of the list of tablespaces, and the manifest is the
//! last one. From 15 on there is one copy, whose pieces say by their first byte what they are.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};
use lifeboat_model::lsn::Lsn;
use postgres_protocol::message::backend::{DataRowBody, Message};

use super::{BackupEvent, Tablespace, tar::TarReader};
use crate::{
    connection::{Backend, columns},
    error::{Error, Result, ServerError},
    replication::text,
};

const DURING: &str = "receiving a base backup";
const MAX_WARNINGS: usize = 20;
/// `ERRCODE_DATA_CORRUPTED`: what a backup with broken pages ends with.
const DATA_CORRUPTED: &str = "XX001";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// One row: where WAL starts.
    Start,
    /// A row for each tablespace, PGDATA last.
    Tablespaces,
    /// Archives and manifest.
    Copies,
    /// One row: where WAL ends.
    End,
    /// `ReadyForQuery` has come.
    Done,
}

/// What the bytes of the current copy are.
enum Copy {
    Nothing,
    Archive(TarReader),
    Manifest,
}

pub(super) struct BackupStream {
    server: String,
    is_new: bool,
    wants_manifest: bool,
    phase: Phase,
    start: Option<(Lsn, u32)>,
    end: Option<(Lsn, u32)>,
    /// The archives that are to come: a tablespace, or PGDATA (`None`).
    archives: Vec<(Option<Tablespace>, u64)>,
    archives_begun: usize,
    has_manifest: bool,
    copy: Copy,
    /// What is left of the piece that came last.
    piece: Bytes,
    ready: VecDeque<BackupEvent>,
    warnings: Vec<String>,
    checksum_failures: u64,
    failure: Option<ServerError>,
}

impl BackupStream {
    pub(super) fn new(server: String, is_new: bool, wants_manifest: bool) -> Self {
        BackupStream {
            server,
            is_new,
            wants_manifest,
            phase: Phase::Start,
            start: None,
            end: None,
            archives: Vec::new(),
            archives_begun: 0,
            has_manifest: false,
            copy: Copy::Nothing,
            piece: Bytes::new(),
            ready: VecDeque::new(),
            warnings: Vec::new(),
            checksum_failures: 0,
            failure: None,
        }
    }

    pub(super) fn has_started(&self) -> bool {
        self.phase != Phase::Start
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The next event from what was pushed.
    pub(super) fn pop(&mut self) -> Result<Option<BackupEvent>> {
        if let Some(event) = self.ready.pop_front() {
            return Ok(Some(event));
        }
        match &mut self.copy {
            Copy::Archive(tar) => {
                let event = tar.next(&mut self.piece);
                event.map_err(|reason| self.unexpected(&reason))
            }
            _ => Ok(None),
        }
    }

    /// Takes in a message. All events of the one before must have been popped.
    pub(super) fn push(&mut self, message: Backend) -> Result<()> {
        match message {
            Backend::CopyData(bytes) if self.phase == Phase::Copies => self.copy_data(bytes),
            Backend::CopyData(_) | Backend::CopyBoth => Err(self.unexpected("a copy out of order")),
            Backend::Notice(notice) => {
                self.notice(&notice);
                Ok(())
            }
            Backend::Error(error) => {
                self.failure.get_or_insert(error);
                Ok(())
            }
            Backend::Other(message) => self.control(message),
        }
    }

    /// What the server refused or found, if anything.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        let cause = self.failure.take()?;
        if cause.code == DATA_CORRUPTED && !self.warnings.is_empty() {
            let count = self.checksum_failures.max(1);
            let examples = self.warnings.iter().take(5).cloned().collect();
            return Some(Error::ChecksumFailure { server: self.server.clone(), count, examples });
        }
        Some(Error::of_statement(&self.server, "BASE_BACKUP", cause))
    }

    fn control(&mut self, message: Message) -> Result<()> {
        match message {
            Message::ReadyForQuery(_) => return self.ready_for_query(),
            // After an error only `ReadyForQuery` matters.
            _ if self.failure.is_some() => {}
            Message::DataRow(row) => self.row(&row)?,
            Message::CommandComplete(_) => self.command_complete(),
            Message::CopyOutResponse(_) => self.copy_begins()?,
            Message::CopyDone => self.close_copy()?,
            Message::RowDescription(_) if self.phase == Phase::Copies => self.copies_end()?,
            Message::RowDescription(_) | Message::ParameterStatus(_) => {}
            _ => return Err(self.unexpected("a message out of order")),
        }
        Ok(())
    }

    fn ready_for_query(&mut self) -> Result<()> {
        if let Some(failure) = self.take_failure() {
            return Err(failure);
        }
        let (Phase::End, Some((end, timeline))) = (self.phase, self.end) else {
            return Err(self.unexpected("the end of the backup is missing"));
        };
        self.phase = Phase::Done;
        self.ready.push_back(BackupEvent::Finished { end, timeline });
        Ok(())
    }

    fn row(&mut self, row: &DataRowBody) -> Result<()> {
        let row = columns(row).map_err(|error| self.unexpected(&error.to_string()))?;
        let position = || Some((text(&row, 0)?.parse().ok()?, text(&row, 1)?.parse().ok()?));
        match self.phase {
            Phase::Start => self.start = position(),
            Phase::End => self.end = position(),
            Phase::Tablespaces => self.archives.push(archive(&row).ok_or_else(|| self.unexpected("a tablespace"))?),
            Phase::Copies | Phase::Done => return Err(self.unexpected("a row out of order")),
        }
        Ok(())
    }

    fn command_complete(&mut self) {
        match (self.phase, self.start) {
            (Phase::Start, Some(_)) => self.phase = Phase::Tablespaces,
            (Phase::Tablespaces, Some((start, timeline))) => {
                let size =
                    self.archives.iter().find(|(tablespace, _)| tablespace.is_none()).map_or(0, |(_, size)| *size);
                let tablespaces = self.archives.iter().filter_map(|(tablespace, _)| tablespace.clone()).collect();
                self.ready.push_back(BackupEvent::Started { start, timeline, tablespaces, size });
                self.phase = Phase::Copies;
            }
            // Each result set has its own, and the whole command another one.
            _ => {}
        }
    }

    /// `CopyOutResponse`: up to 14 an archive or the manifest begins, from 15 on everything.
    fn copy_begins(&mut self) -> Result<()> {
        if self.phase != Phase::Copies {
            return Err(self.unexpected("a copy out of order"));
        }
        if self.is_new {
            return Ok(());
        }
        match self.archives.get(self.archives_begun) {
            Some((tablespace, _)) => {
                let oid = tablespace.as_ref().map(|tablespace| tablespace.oid);
                self.begin_archive(oid);
                Ok(())
            }
            None => self.begin_manifest(),
        }
    }

    fn begin_archive(&mut self, tablespace: Option<u32>) {
        let prefix = tablespace.map(|oid| format!("pg_tblspc/{oid}/")).unwrap_or_default();
        self.copy = Copy::Archive(TarReader::new(prefix));
        self.archives_begun += 1;
    }

    fn begin_manifest(&mut self) -> Result<()> {
        if self.has_manifest || !self.wants_manifest || self.archives_begun != self.archives.len() {
            return Err(self.unexpected("a manifest out of order"));
        }
        self.copy = Copy::Manifest;
        self.has_manifest = true;
        Ok(())
    }

    fn close_copy(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.copy, Copy::Nothing) {
            Copy::Archive(tar) => tar.finish().map_err(|reason| self.unexpected(&reason)),
            Copy::Manifest | Copy::Nothing => Ok(()),
        }
    }

    fn copies_end(&mut self) -> Result<()> {
        let has_all = self.archives_begun == self.archives.len() && self.has_manifest == self.wants_manifest;
        if !has_all || !matches!(self.copy, Copy::Nothing) {
            let reason =
                format!("{} of {} archives, manifest: {}", self.archives_begun, self.archives.len(), self.has_manifest);
            return Err(self.unexpected(&reason));
        }
        self.phase = Phase::End;
        Ok(())
    }

    fn copy_data(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        if !self.is_new {
            return self.content(bytes);
        }
        if bytes.is_empty() {
            return Err(self.unexpected("an empty piece"));
        }
        match bytes.get_u8() {
            b'd' => self.content(bytes),
            b'p' => Ok(()),
            b'n' => {
                self.close_copy()?;
                let tablespace = self.named_archive(&bytes)?;
                self.begin_archive(tablespace);
                Ok(())
            }
            b'm' => {
                self.close_copy()?;
                self.begin_manifest()
            }
            kind => Err(self.unexpected(&format!("a piece of unknown kind {kind:#04x}"))),
        }
    }

    /// `base.tar` or `<oid>.tar`, checked against the list of tablespaces.
    fn named_archive(&self, bytes: &[u8]) -> Result<Option<u32>> {
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let expected = self.archives.get(self.archives_begun).map(|(tablespace, _)| tablespace.as_ref().map(|t| t.oid));
        let matches = match expected {
            Some(Some(oid)) => name == format!("{oid}.tar"),
            Some(None) => name == "base.tar",
            None => false,
        };
        match expected {
            Some(tablespace) if matches => Ok(tablespace),
            _ => Err(self.unexpected(&format!("archive \"{name}\" is not the next in the list of tablespaces"))),
        }
    }

    fn content(&mut self, bytes: Bytes) -> Result<()> {
        match &self.copy {
            Copy::Archive(_) => self.piece = bytes,
            Copy::Manifest => self.ready.push_back(BackupEvent::Manifest(bytes)),
            Copy::Nothing => return Err(self.unexpected("content outside of an archive")),
        }
        Ok(())
    }

    fn notice(&mut self, notice: &ServerError) {
        if notice.severity != "WARNING" {
            return;
        }
        // Broken pages are named one by one, and summed up at the end where there is more than one.
        if notice.routine.as_deref() == Some("perform_base_backup") {
            let number: String = notice.message.chars().filter(char::is_ascii_digit).take(18).collect();
            self.checksum_failures = number.parse().unwrap_or(0).max(self.checksum_failures);
        }
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(notice.message.clone());
        }
    }

    fn unexpected(&self, reason: &str) -> Error {
        Error::Protocol { server: self.server.clone(), during: DURING, reason: reason.to_owned() }
    }
}

/// A row of the list of tablespaces: OID, location, size in kB; PGDATA itself has neither OID nor location.
fn archive(row: &[Option<Bytes>]) -> Option<(Option<Tablespace>, u64)> {
    let size = text(row, 2).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024);
    let tablespace = match row.first()? {
        None => None,
        Some(_) => {
            let oid = text(row, 0)?.parse().ok()?;
            let location = String::from_utf8_lossy(row.get(1)?.as_ref()?).into_owned();
            Some(Tablespace { oid, location, size })
        }
    };
    Some((tablespace, size))
}
