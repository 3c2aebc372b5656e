//! `global/pg_control`: what a cluster says about itself while nothing runs.
//!
//! The struct grows with major versions, but from its float constant on, and in the few settings right before it, it has
//! been the same in 13 to 18: the constant is the landmark.

use std::{fs, io::Read as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The part of the file that is written at once.
const CONTROL_SIZE: usize = 512;
/// `FLOATFORMAT_VALUE` in PostgreSQL.
const LANDMARK: f64 = 1_234_567.0;

/// Facts of a cluster that is not running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlData {
    /// Made by `initdb`.
    pub system_id: u64,
    /// The version of the file: 1300, 1700 or 1800.
    pub control_version: u32,
    /// The version of the catalogs: another one needs another major (or beta) of PostgreSQL.
    pub catalog_version: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// Bytes in a WAL segment.
    pub wal_segment_size: u32,
    /// 0: without page checksums.
    pub page_checksum_version: u32,
    /// A standby or a recovery needs at least as much as the source had.
    pub max_connections: u32,
    /// As above.
    pub max_worker_processes: u32,
    /// As above.
    pub max_wal_senders: u32,
    /// As above.
    pub max_prepared_transactions: u32,
    /// As above.
    pub max_locks_per_transaction: u32,
}

impl ControlData {
    /// Reads the file of a data directory.
    pub fn read(pgdata: &Path) -> Result<ControlData> {
        let path = pgdata.join("global/pg_control");
        let mut bytes = Vec::new();
        let read = fs::File::open(&path).and_then(|file| file.take(CONTROL_SIZE as u64).read_to_end(&mut bytes));
        read.map_err(|source| Error::Read { path: path.clone(), source })?;
        let reason = || format!("{}: not a control file of PostgreSQL 13 to 18", path.display());
        Self::parse(&bytes).ok_or_else(|| Error::Invalid { what: "pg_control", reason: reason() })
    }

    /// Whether pages carry checksums.
    pub fn has_page_checksums(&self) -> bool {
        self.page_checksum_version != 0
    }

    fn parse(bytes: &[u8]) -> Option<ControlData> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let landmark = bytes.as_chunks::<8>().0.iter().position(|chunk| *chunk == LANDMARK.to_le_bytes())? * 8;
        // Before it: five settings, a flag, the alignment (8), and perhaps padding.
        let alignment = [4, 8].into_iter().find(|back| landmark.checked_sub(*back).and_then(word) == Some(8))?;
        let settings = landmark.checked_sub(alignment + 24)?;
        let after = landmark + 8;
        let data = ControlData {
            system_id: u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
            control_version: word(8)?,
            catalog_version: word(12)?,
            page_size: word(after)?,
            wal_segment_size: word(after + 12)?,
            // After eight words of sizes and a flag.
            page_checksum_version: word(after + 36)?,
            max_connections: word(settings)?,
            max_worker_processes: word(settings + 4)?,
            max_wal_senders: word(settings + 8)?,
            max_prepared_transactions: word(settings + 12)?,
            max_locks_per_transaction: word(settings + 16)?,
        };
        let is_sane = (1300..=1800).contains(&data.control_version)
            && data.page_size.is_power_of_two()
            && data.wal_segment_size.is_power_of_two()
            && data.page_checksum_version <= 1;
        is_sane.then_some(data)
    }
}
