//! The header that each record begins with (`XLogRecord`).

use lifeboat_model::lsn::Lsn;

pub(super) const RECORD_HEADER: usize = 24;
/// The header's bytes that its checksum covers.
const SUMMED: usize = 20;
/// No record is longer: a server could not read it back (`MaxAllocSize`, `XLogRecordMaxSize`).
const MAX_LENGTH: u64 = 1 << 30;

const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
/// The resource managers of the server itself, and those of extensions.
const LAST_BUILT_IN: u8 = 21;
const FIRST_CUSTOM: u8 = 128;

/// What is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Commit,
    CommitPrepared,
    RestorePoint,
    /// The last record of its segment.
    Switch,
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHeader {
    pub length: u64,
    pub xid: u32,
    previous: u64,
    pub info: u8,
    manager: u8,
    crc: u32,
    summed: [u8; SUMMED],
}

impl RecordHeader {
    #[inline]
    pub fn parse(bytes: &[u8; RECORD_HEADER]) -> RecordHeader {
        let mut summed = [0; SUMMED];
        summed.copy_from_slice(&bytes[..SUMMED]);
        RecordHeader {
            length: Self::length_of(bytes),
            xid: u32_at(bytes, 4),
            previous: u64_at(bytes, 8),
            info: bytes[16],
            manager: bytes[17],
            crc: u32_at(bytes, 20),
            summed,
        }
    }

    /// Header included. These bytes are always on the page where the record begins.
    #[inline]
    pub fn length_of(bytes: &[u8; RECORD_HEADER]) -> u64 {
        u64::from(u32_at(bytes, 0))
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        match (self.manager, self.info & 0x70, self.info & 0xf0) {
            (TRANSACTION, 0x00, _) => Kind::Commit,
            (TRANSACTION, 0x30, _) => Kind::CommitPrepared,
            (XLOG, _, 0x40) => Kind::Switch,
            (XLOG, _, 0x70) => Kind::RestorePoint,
            _ => Kind::Other,
        }
    }

    /// Whether this can be a record at `start` behind the one at `previous`; why not.
    #[inline]
    pub fn check(&self, start: Lsn, previous: Option<Lsn>) -> Result<(), String> {
        let follows = previous.map_or(self.previous < start.0, |previous| self.previous == previous.0);
        let is_known = self.manager <= LAST_BUILT_IN || self.manager >= FIRST_CUSTOM;
        if follows && is_known && (RECORD_HEADER as u64..=MAX_LENGTH).contains(&self.length) {
            return Ok(());
        }
        Err(self.fault(previous))
    }

    /// The bytes behind the header. Only of a header that was checked.
    #[inline]
    pub fn body_len(&self) -> usize {
        (self.length as usize).saturating_sub(RECORD_HEADER)
    }

    /// Holds the record's checksum against that of its body; the header is summed last.
    #[inline]
    pub fn verify(&self, body: u32) -> Result<(), String> {
        if crc32c::crc32c_append(body, &self.summed) == self.crc {
            return Ok(());
        }
        Err("the record's checksum is wrong".into())
    }

    #[cold]
    fn fault(&self, previous: Option<Lsn>) -> String {
        if self.length == 0 {
            return "no record is here (its length is zero)".into();
        }
        if !(RECORD_HEADER as u64..=MAX_LENGTH).contains(&self.length) {
            return format!("no record begins here (its length would be {})", self.length);
        }
        let named = Lsn(self.previous);
        match previous {
            Some(previous) if self.previous != previous.0 => {
                format!("the record names {named} as the one before it, not {previous}")
            }
            None if self.manager <= LAST_BUILT_IN || self.manager >= FIRST_CUSTOM => {
                format!("the record names {named} as the one before it")
            }
            _ => format!("the record is of an unknown kind ({})", self.manager),
        }
    }
}

// The slices below are of constant length where they are called: the compiler leaves no check.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
