//! What a record of interest says, read as its bytes go by: nothing is kept but the field that is being read.
//!
//! A record's body is a row of small headers (of the blocks that it touches, then of its main data), then the blocks'
//! data, then the main data. The time of a commit is the first thing in its main data; the id of a prepared transaction
//! stands behind lists of any length.

use jiff::Timestamp;

use super::{
    Parts,
    record::{Kind, RecordHeader, u16_at, u32_at, u64_at},
};

/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// Ids of the headers in a body (`xlogrecord.h`); lower ones are blocks.
const MAX_BLOCK: u8 = 32;
const TOP_LEVEL_XID: u8 = 252;
const ORIGIN: u8 = 253;
const LONG_DATA: u8 = 254;
const SHORT_DATA: u8 = 255;

const BLOCK_HAS_IMAGE: u8 = 0x10;
const BLOCK_SAME_RELATION: u8 = 0x80;
const RELATION: u64 = 12;
const BLOCK_NUMBER: u64 = 4;
const IMAGE_HAS_HOLE: u8 = 0x01;

/// In a commit record's info: its main data says what else is there.
const HAS_XINFO: u8 = 0x80;
const XINFO_DATABASE: u32 = 1 << 0;
const XINFO_TWO_PHASE: u32 = 1 << 4;
const XINFO_ORIGIN: u32 = 1 << 5;
const XINFO_IDENTIFIER: u32 = 1 << 7;
const XINFO_DROPPED_STATISTICS: u32 = 1 << 8;
/// From 18 on the objects of dropped statistics have ids of 64 bits: 16 bytes an item.
const NEW_STATISTICS: u32 = 18;
const OLD_STATISTICS: u32 = 17;
/// The lists of a commit record in their order: each its flag, and the bytes of an item.
const LISTS: [(u32, u64); 4] = [
    (1 << 1, 4),  // subtransactions
    (1 << 2, 12), // relation files to remove
    (XINFO_DROPPED_STATISTICS, 12),
    (1 << 3, 16), // cache invalidations
];
const DATABASE: u64 = 8;
const REPLICATION_ORIGIN: u64 = 16;
/// `xl_restore_point`: a time, and a name that ends with a zero byte.
const RESTORE_POINT: usize = 72;

/// What a record has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Commit { xid: u32, time: Timestamp, prepared: bool },
    RestorePoint { name: String, time: Timestamp },
    Switch,
}

/// The field that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    HeaderId,
    Block,
    Image {
        has_relation: bool,
    },
    ShortLength,
    LongLength,
    Time,
    Xinfo,
    Count {
        list: usize,
    },
    Prepared,
    /// The name of a prepared transaction, byte by byte.
    Identifier,
    RestorePoint,
    Nothing,
}

/// One way to read a record: the form of some records depends on the server's version.
#[derive(Debug)]
struct Reader {
    kind: Kind,
    info: u8,
    major: u32,
    /// Bytes to pass over before the field.
    skip: u64,
    field: Field,
    held: Parts<RESTORE_POINT>,
    /// Of the blocks: stands before the main data.
    block_data: u64,
    xinfo: u32,
    xid: u32,
    time: i64,
    name: String,
    /// Why it makes no sense this way.
    nonsense: Option<&'static str>,
    /// Whether nothing was left when all was read.
    is_exact: bool,
}

/// A record of interest as its bytes go by.
#[derive(Debug)]
pub(super) struct Content {
    reader: Reader,
    /// Where the version is not known yet: read in another way too. Only one of them can come out right at the end.
    other: Option<Reader>,
}

impl Content {
    pub fn new(header: &RecordHeader, major: Option<u32>) -> Content {
        let reader = Reader::new(header, major.unwrap_or(OLD_STATISTICS));
        let is_in_doubt = major.is_none() && header.kind() == Kind::CommitPrepared;
        let other = is_in_doubt.then(|| Reader::new(header, NEW_STATISTICS));
        Content { reader, other }
    }

    /// The next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        self.reader.take(bytes);
        if let Some(other) = &mut self.other {
            other.take(bytes);
        }
    }

    /// All bytes have come, and their checksum is right.
    pub fn finish(self) -> Result<Found, String> {
        let Some(other) = self.other else { return self.reader.finish() };
        let is_same = self.reader.xid == other.xid;
        match (self.reader.is_right(), other.is_right()) {
            (true, false) => self.reader.finish(),
            (false, true) => other.finish(),
            (true, true) if is_same => self.reader.finish(),
            _ => Err("the record cannot be read without the version of its server: begin where a page does".into()),
        }
    }
}

impl Reader {
    fn new(header: &RecordHeader, major: u32) -> Reader {
        let kind = header.kind();
        Reader {
            kind,
            info: header.info,
            major,
            skip: 0,
            field: if kind == Kind::Switch { Field::Nothing } else { Field::HeaderId },
            held: Parts::EMPTY,
            block_data: 0,
            xinfo: 0,
            xid: header.xid,
            time: 0,
            name: String::new(),
            nonsense: None,
            is_exact: true,
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            if self.field == Field::Nothing {
                self.is_exact &= bytes.is_empty();
                return;
            }
            let wanted = self.field.len();
            self.held.fill(&mut bytes, wanted);
            if self.held.len == wanted {
                self.held.len = 0;
                self.read();
            }
        }
    }

    /// Whether the record was read to its very end, and no further.
    fn is_right(&self) -> bool {
        self.nonsense.is_none() && self.is_exact && self.skip == 0 && self.field == Field::Nothing
    }

    fn finish(self) -> Result<Found, String> {
        if let Some(nonsense) = self.nonsense {
            return Err(nonsense.into());
        }
        if !matches!(self.field, Field::Nothing | Field::Identifier) {
            return Err("the record is shorter than its parts".into());
        }
        let time = || {
            let time = self.time.checked_add(EPOCH).and_then(|time| Timestamp::from_microsecond(time).ok());
            time.ok_or_else(|| format!("the record's time ({} µs since 2000) is not possible", self.time))
        };
        Ok(match self.kind {
            Kind::Commit => Found::Commit { xid: self.xid, time: time()?, prepared: false },
            Kind::CommitPrepared => Found::Commit { xid: self.xid, time: time()?, prepared: true },
            Kind::RestorePoint => Found::RestorePoint { time: time()?, name: self.name },
            Kind::Switch | Kind::Other => Found::Switch,
        })
    }

    /// Reads the field that is held, and sets what comes next.
    fn read(&mut self) {
        let held = self.held.bytes;
        match self.field {
            Field::HeaderId => self.header_id(held[0]),
            Field::Block => {
                self.block_data += u64::from(u16_at(&held, 1));
                let has_relation = held[0] & BLOCK_SAME_RELATION == 0;
                if held[0] & BLOCK_HAS_IMAGE != 0 {
                    self.field = Field::Image { has_relation };
                } else {
                    self.next_header(place_of(has_relation));
                }
            }
            Field::Image { has_relation } => {
                self.block_data += u64::from(u16_at(&held, 0));
                let info = held[4];
                let hole_length = if info & IMAGE_HAS_HOLE != 0 && self.is_compressed(info) { 2 } else { 0 };
                self.next_header(hole_length + place_of(has_relation));
            }
            Field::ShortLength | Field::LongLength => self.main_data(),
            Field::Time => {
                self.time = u64_at(&held, 0).cast_signed();
                let goes_on = self.kind == Kind::CommitPrepared;
                self.field = if goes_on { Field::Xinfo } else { Field::Nothing };
            }
            Field::Xinfo => {
                self.xinfo = u32_at(&held, 0);
                self.skip = if self.xinfo & XINFO_DATABASE != 0 { DATABASE } else { 0 };
                self.next_list(0);
            }
            Field::Count { list } => {
                self.skip = u64::from(u32_at(&held, 0)) * self.item_len(list);
                self.next_list(list + 1);
            }
            Field::Prepared => {
                self.xid = u32_at(&held, 0);
                self.field = Field::Identifier;
                if self.xinfo & XINFO_IDENTIFIER == 0 {
                    self.last_part();
                }
            }
            Field::Identifier if held[0] == 0 => self.last_part(),
            Field::Identifier => {}
            Field::RestorePoint => {
                self.time = u64_at(&held, 0).cast_signed();
                let name = held[8..].split(|byte| *byte == 0).next().unwrap_or_default();
                self.name = String::from_utf8_lossy(name).into_owned();
                self.field = Field::Nothing;
            }
            Field::Nothing => {}
        }
    }

    fn header_id(&mut self, id: u8) {
        match id {
            0..=MAX_BLOCK => self.field = Field::Block,
            ORIGIN => self.next_header(2),
            TOP_LEVEL_XID => self.next_header(4),
            SHORT_DATA => self.field = Field::ShortLength,
            LONG_DATA => self.field = Field::LongLength,
            _ => self.give_up("the record has a part of unknown kind"),
        }
    }

    fn next_header(&mut self, skip: u64) {
        self.skip = skip;
        self.field = Field::HeaderId;
    }

    /// Behind the last header come the blocks' data, then the main data.
    fn main_data(&mut self) {
        self.skip = self.block_data;
        self.field = match self.kind {
            Kind::RestorePoint => Field::RestorePoint,
            _ => Field::Time,
        };
        if self.kind == Kind::CommitPrepared && self.info & HAS_XINFO == 0 {
            self.give_up("the commit of a prepared transaction does not name it");
        }
    }

    /// The next list that is there, or what stands behind the lists.
    fn next_list(&mut self, from: usize) {
        let there = LISTS.iter().skip(from).position(|(flag, _)| self.xinfo & flag != 0);
        self.field = match there {
            Some(list) => Field::Count { list: from + list },
            None if self.xinfo & XINFO_TWO_PHASE != 0 => Field::Prepared,
            None => return self.give_up("the commit of a prepared transaction does not name it"),
        };
    }

    fn last_part(&mut self) {
        self.skip = if self.xinfo & XINFO_ORIGIN != 0 { REPLICATION_ORIGIN } else { 0 };
        self.field = Field::Nothing;
    }

    fn item_len(&self, list: usize) -> u64 {
        match LISTS[list] {
            (XINFO_DROPPED_STATISTICS, _) if self.major >= NEW_STATISTICS => 16,
            (_, len) => len,
        }
    }

    /// Until 14 there was one way to compress an image, from 15 on there are three.
    fn is_compressed(&self, info: u8) -> bool {
        info & if self.major < 15 { 0x02 } else { 0x04 | 0x08 | 0x10 } != 0
    }

    fn give_up(&mut self, why: &'static str) {
        self.nonsense = Some(why);
        self.field = Field::Nothing;
    }
}

impl Field {
    fn len(self) -> usize {
        match self {
            Field::HeaderId | Field::ShortLength | Field::Identifier => 1,
            Field::Block => 3,
            Field::LongLength | Field::Xinfo | Field::Count { .. } | Field::Prepared => 4,
            Field::Image { .. } => 5,
            Field::Time => 8,
            Field::RestorePoint => RESTORE_POINT,
            Field::Nothing => 0,
        }
    }
}

/// Where a block lies: its relation, unless it is that of the block before, and its number.
fn place_of(has_relation: bool) -> u64 {
    BLOCK_NUMBER + if has_relation { RELATION } else { 0 }
}
