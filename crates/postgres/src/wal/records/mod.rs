//! The record stream: which transactions committed where, read out of WAL as it flows by.
//!
//! Of every record the checksum is verified, and that it names the record before it (`xl_prev`): damage cannot hide a
//! commit, nor make one up. Only commits and restore points are looked into; they are told once their last byte has been
//! fed. Nothing is copied but headers that lie across the end of a page or piece; memory does not grow with records,
//! pages or segments.
//!
//! Two things end a record early, both left by a crash: none is left half without a word (the page after it says
//! `XLP_FIRST_IS_OVERWRITE_CONTRECORD`), and after a segment switch the rest of the segment is zeros.

mod content;
mod page;
mod record;

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;

use self::{
    content::{Content, Found},
    page::{LONG_HEADER, PAGE, PageHeader, Pages, SEGMENT_SIZES, SHORT_HEADER},
    record::{Kind, RECORD_HEADER, RecordHeader},
};
use crate::error::{Error, Result};

/// What is told of the record stream, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalEvent {
    /// A transaction committed.
    Commit(Commit),
    /// Somebody named this position (`pg_create_restore_point`).
    RestorePoint(RestorePoint),
}

/// A commit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where the record begins.
    pub start: Lsn,
    /// The position behind it: a recovery to here has this commit.
    pub end: Lsn,
    /// The lower 32 bits of the transaction's id; of `COMMIT PREPARED`, the prepared transaction's.
    pub xid: u32,
    /// When, by the server's clock. Records that follow each other may be out of order by a little.
    pub time: Timestamp,
    /// Whether it is a `COMMIT PREPARED`.
    pub prepared: bool,
}

/// A named restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Where the record begins.
    pub start: Lsn,
    /// The position behind it: a recovery to the name ends here.
    pub end: Lsn,
    /// Its name.
    pub name: String,
    /// When it was made, by the server's clock.
    pub time: Timestamp,
}

/// Decodes the WAL of one timeline. The major version is told by the pages.
#[derive(Debug)]
pub struct WalDecoder {
    segment_size: u64,
    begin: Lsn,
    position: Lsn,
    pages: Pages,
    /// Of a page header that came in parts.
    page_parts: Parts<LONG_HEADER>,
    /// Of a record header that lies across the end of a page or piece.
    record_parts: Parts<RECORD_HEADER>,
    /// The last whole record.
    previous: Option<Lsn>,
    state: State,
    failed: Option<Fault>,
}

#[derive(Debug)]
enum State {
    /// A record begins at the position, or behind the page header that does.
    Between,
    /// Within the header of a record.
    Header { start: Lsn },
    /// Within a record's body.
    Body(Body),
    /// Nothing more comes before this position.
    Switched { until: Lsn },
}

#[derive(Debug)]
struct Body {
    /// `None`: it began before what was fed.
    record: Option<Record>,
    /// Bytes of the record that are still to come.
    left: u64,
    /// Bytes behind it, up to where the next record may begin.
    padding: u64,
}

#[derive(Debug)]
struct Record {
    start: Lsn,
    header: RecordHeader,
    /// Of the body so far.
    crc: u32,
    /// What is read out of it, where it is of interest.
    content: Option<Box<Content>>,
}

/// The first bytes of something that is whole when there are `N`, or fewer where it is short.
#[derive(Debug)]
struct Parts<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Parts<N> {
    const EMPTY: Self = Parts { bytes: [0; N], len: 0 };

    /// Takes from the front of `bytes` until there are `wanted`; gives how many it took.
    fn fill(&mut self, bytes: &mut &[u8], wanted: usize) -> u64 {
        let taken = bytes.len().min(wanted.saturating_sub(self.len));
        let (now, later) = bytes.split_at(taken);
        self.bytes[self.len..self.len + taken].copy_from_slice(now);
        *bytes = later;
        self.len += taken;
        taken as u64
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone)]
struct Fault {
    lsn: Lsn,
    reason: String,
}

impl Fault {
    fn at<T>(lsn: Lsn, reason: impl Into<String>) -> std::result::Result<T, Fault> {
        Err(Fault { lsn, reason: reason.into() })
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::WalCorrupt { lsn: fault.lsn, reason: fault.reason }
    }
}

impl WalDecoder {
    /// Begins at the start of a segment or page, or where a record starts. What remains there of an earlier record is
    /// stepped over.
    pub fn new(start: Lsn, segment_size: u64) -> WalDecoder {
        WalDecoder {
            segment_size,
            begin: start,
            position: start,
            pages: Pages::default(),
            page_parts: Parts::EMPTY,
            record_parts: Parts::EMPTY,
            previous: None,
            state: State::Between,
            failed: None,
        }
    }

    /// The position that the next piece must start at.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// The server's major version, once a page header was seen.
    pub fn major(&self) -> Option<u32> {
        self.pages.major()
    }

    /// Takes the piece of WAL that follows, of any length, and tells what ends in it: the last byte of an event lies in
    /// the piece that told it. An error that is not [`Error::WalGap`] is final: begin anew at a later segment.
    pub fn feed(&mut self, first: Lsn, bytes: &[u8], each: &mut dyn FnMut(WalEvent)) -> Result<()> {
        if let Some(fault) = &self.failed {
            return Err(fault.clone().into());
        }
        if first != self.position {
            return Err(Error::WalGap { expected: self.position, got: first });
        }
        self.walk(bytes, each).map_err(|fault| {
            self.failed = Some(fault.clone());
            fault.into()
        })
    }

    fn walk(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(WalEvent)) -> std::result::Result<(), Fault> {
        self.check_limits(bytes.len() as u64)?;
        while !bytes.is_empty() {
            if let State::Switched { until } = self.state {
                self.skip_to(until, &mut bytes);
            } else if self.page_parts.len > 0 || self.position.0.is_multiple_of(PAGE) {
                self.page_header(&mut bytes)?;
            } else {
                let room = (PAGE - self.position.0 % PAGE).min(bytes.len() as u64);
                let (here, later) = bytes.split_at(room as usize);
                self.records(here, each)?;
                bytes = later;
            }
        }
        Ok(())
    }

    /// What would let the sums below overflow.
    fn check_limits(&self, len: u64) -> std::result::Result<(), Fault> {
        if !self.segment_size.is_power_of_two() || !SEGMENT_SIZES.contains(&self.segment_size) {
            return Fault::at(self.position, format!("segments of {} bytes are not possible", self.segment_size));
        }
        match self.position.0.checked_add(len).and_then(|end| end.checked_add(self.segment_size)) {
            Some(_) => Ok(()),
            None => Fault::at(self.position, "there are no positions behind it"),
        }
    }

    fn skip_to(&mut self, until: Lsn, bytes: &mut &[u8]) {
        let skipped = (until.0 - self.position.0).min(bytes.len() as u64);
        *bytes = &bytes[skipped as usize..];
        self.position.0 += skipped;
        if self.position == until {
            self.state = State::Between;
        }
    }

    fn page_header(&mut self, bytes: &mut &[u8]) -> std::result::Result<(), Fault> {
        let page = Lsn(self.position.0 - self.page_parts.len as u64);
        let is_first = page.0.is_multiple_of(self.segment_size);
        let wanted = if is_first { LONG_HEADER } else { SHORT_HEADER };
        self.position.0 += self.page_parts.fill(bytes, wanted);
        if self.page_parts.len < wanted {
            return Ok(());
        }
        let header = PageHeader::parse(&self.page_parts.bytes);
        self.page_parts.len = 0;
        self.pages.check(&header, page, self.segment_size).or_else(|reason| Fault::at(page, reason))?;
        self.cross(page, &header)
    }

    /// What a new page means for the record that it cuts.
    fn cross(&mut self, page: Lsn, header: &PageHeader) -> std::result::Result<(), Fault> {
        let left = match &self.state {
            State::Between | State::Switched { .. } => return self.enter(page, header),
            State::Header { .. } => {
                RecordHeader::length_of(&self.record_parts.bytes).saturating_sub(self.record_parts.len as u64)
            }
            State::Body(body) => body.left,
        };
        let start = match &self.state {
            State::Header { start } => *start,
            State::Body(Body { record: Some(record), .. }) => record.start,
            _ => self.begin,
        };
        if header.is_overwrite() {
            // The server fell before it had written the rest, and said so when it was up again.
            self.state = State::Between;
            return Ok(());
        }
        if !header.is_continuation() {
            return Fault::at(start, format!("the record that begins here is not continued on the page at {page}"));
        }
        if u64::from(header.remaining) != left {
            let reason =
                format!("{} bytes of it are said to follow on the page at {page}, not {left}", header.remaining);
            return Fault::at(start, reason);
        }
        Ok(())
    }

    /// Enters a page between two records, or the first page.
    fn enter(&mut self, page: Lsn, header: &PageHeader) -> std::result::Result<(), Fault> {
        if !header.is_continuation() {
            return Ok(());
        }
        if page != self.begin || header.remaining == 0 {
            return Fault::at(page, "the page continues a record that does not begin before it");
        }
        let left = u64::from(header.remaining);
        self.state = State::Body(Body { record: None, left, padding: padding(left) });
        Ok(())
    }

    /// Takes the records, and parts of them, that lie on one page.
    fn records(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(WalEvent)) -> std::result::Result<(), Fault> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Between => self.begin_record(&mut bytes, each)?,
                State::Header { start } => {
                    let start = *start;
                    self.position.0 += self.record_parts.fill(&mut bytes, RECORD_HEADER);
                    if self.record_parts.len == RECORD_HEADER {
                        let header = RecordHeader::parse(&self.record_parts.bytes);
                        self.begin_body(start, header, each)?;
                    }
                }
                State::Body(body) => {
                    let taken = body.left.min(bytes.len() as u64);
                    let (now, later) = bytes.split_at(taken as usize);
                    if let Some(record) = &mut body.record {
                        record.take(now);
                    }
                    body.left -= taken;
                    let padding = body.padding.min(later.len() as u64);
                    body.padding -= padding;
                    bytes = &later[padding as usize..];
                    self.position.0 += taken + padding;
                    self.end_record(each)?;
                }
                State::Switched { until } => {
                    let until = *until;
                    self.skip_to(until, &mut bytes);
                }
            }
        }
        Ok(())
    }

    fn begin_record(&mut self, bytes: &mut &[u8], each: &mut dyn FnMut(WalEvent)) -> std::result::Result<(), Fault> {
        let start = self.position;
        if start == self.begin && (!start.0.is_multiple_of(ALIGNMENT) || start.0 % PAGE < SHORT_HEADER as u64) {
            return Fault::at(start, "no record can begin here");
        }
        let Some((header, body)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
            self.record_parts.len = 0;
            self.state = State::Header { start };
            return Ok(());
        };
        let header = RecordHeader::parse(header);
        // The usual case, without a change of state: of no interest, and whole on this page.
        let aligned = header.length.next_multiple_of(ALIGNMENT);
        if aligned <= bytes.len() as u64 && header.kind() == Kind::Other {
            header.check(start, self.previous).or_else(|reason| Fault::at(start, reason))?;
            header.verify(crc32c::crc32c(&body[..header.body_len()])).or_else(|reason| Fault::at(start, reason))?;
            self.previous = Some(start);
            self.position.0 += aligned;
            *bytes = &bytes[aligned as usize..];
            return Ok(());
        }
        self.position.0 += RECORD_HEADER as u64;
        *bytes = body;
        self.begin_body(start, header, each)
    }

    fn begin_body(
        &mut self,
        start: Lsn,
        header: RecordHeader,
        each: &mut dyn FnMut(WalEvent),
    ) -> std::result::Result<(), Fault> {
        header.check(start, self.previous).or_else(|reason| Fault::at(start, reason))?;
        let left = header.body_len() as u64;
        let content = (header.kind() != Kind::Other).then(|| Box::new(Content::new(&header, self.pages.major())));
        let record = Record { start, header, crc: 0, content };
        self.state = State::Body(Body { record: Some(record), left, padding: padding(left) });
        self.end_record(each)
    }

    /// Tells what the record has said, if its last byte has come.
    fn end_record(&mut self, each: &mut dyn FnMut(WalEvent)) -> std::result::Result<(), Fault> {
        let State::Body(Body { record, left: 0, padding: 0 }) = &mut self.state else { return Ok(()) };
        let record = record.take();
        self.state = State::Between;
        let Some(Record { start, header, crc, content }) = record else { return Ok(()) };
        header.verify(crc).or_else(|reason| Fault::at(start, reason))?;
        self.previous = Some(start);
        let end = self.position;
        let Some(content) = content else { return Ok(()) };
        match content.finish().or_else(|reason| Fault::at(start, reason))? {
            Found::Switch => {
                let until = Lsn(end.0.next_multiple_of(self.segment_size));
                if until != end {
                    self.state = State::Switched { until };
                }
            }
            Found::Commit { xid, time, prepared } => {
                each(WalEvent::Commit(Commit { start, end, xid, time, prepared }));
            }
            Found::RestorePoint { name, time } => {
                each(WalEvent::RestorePoint(RestorePoint { start, end, name, time }));
            }
        }
        Ok(())
    }
}

impl Record {
    fn take(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        if let Some(content) = &mut self.content {
            content.take(bytes);
        }
    }
}

/// Records begin at multiples of this (`MAXALIGN`).
const ALIGNMENT: u64 = 8;

/// What follows a record, or the part of one that begins behind a page header, before the next.
fn padding(len: u64) -> u64 {
    len.next_multiple_of(ALIGNMENT) - len
}

#[cfg(test)]
mod tests;
