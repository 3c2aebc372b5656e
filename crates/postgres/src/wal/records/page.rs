//! The header that each page of WAL begins with (`XLogPageHeaderData`).

use std::ops::RangeInclusive;

use lifeboat_model::lsn::Lsn;

use super::record::{u16_at, u32_at, u64_at};

/// Bytes in a page (`XLOG_BLCKSZ`). Servers can be built with another size; no distribution does.
pub(super) const PAGE: u64 = 8192;
/// What a segment can hold.
pub(super) const SEGMENT_SIZES: RangeInclusive<u64> = 1 << 20..=1 << 30;
pub(super) const SHORT_HEADER: usize = 24;
/// On the first page of a segment.
pub(super) const LONG_HEADER: usize = 40;

const FIRST_IS_CONTINUATION: u16 = 0x0001;
const LONG: u16 = 0x0002;
const FIRST_IS_OVERWRITE: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000f;

/// `XLOG_PAGE_MAGIC` of each major version.
const MAGICS: [(u16, u32); 6] = [(0xd106, 13), (0xd10d, 14), (0xd110, 15), (0xd113, 16), (0xd116, 17), (0xd118, 18)];

#[derive(Debug, Clone, Copy)]
pub(super) struct PageHeader {
    magic: u16,
    flags: u16,
    timeline: u32,
    address: u64,
    /// How much of a record that began before is still to come.
    pub remaining: u32,
    system_id: u64,
    segment_size: u32,
    page_size: u32,
}

impl PageHeader {
    /// Of a short one the rest is not looked at.
    pub fn parse(bytes: &[u8; LONG_HEADER]) -> PageHeader {
        PageHeader {
            magic: u16_at(bytes, 0),
            flags: u16_at(bytes, 2),
            timeline: u32_at(bytes, 4),
            address: u64_at(bytes, 8),
            remaining: u32_at(bytes, 16),
            system_id: u64_at(bytes, 24),
            segment_size: u32_at(bytes, 32),
            page_size: u32_at(bytes, 36),
        }
    }

    pub fn is_continuation(&self) -> bool {
        self.flags & FIRST_IS_CONTINUATION != 0
    }

    /// The record that the page before ends with stays incomplete for ever.
    pub fn is_overwrite(&self) -> bool {
        self.flags & FIRST_IS_OVERWRITE != 0
    }
}

/// What all pages have in common.
#[derive(Debug, Default)]
pub(super) struct Pages {
    last: Option<PageHeader>,
    system_id: Option<u64>,
}

impl Pages {
    pub fn major(&self) -> Option<u32> {
        self.last.and_then(|header| major_of(header.magic))
    }

    /// Whether a header can be the one of this page; why not.
    pub fn check(&mut self, header: &PageHeader, page: Lsn, segment_size: u64) -> Result<(), String> {
        if major_of(header.magic).is_none() {
            return Err(format!("no page header of PostgreSQL 13 to 18 (magic {:04X})", header.magic));
        }
        if header.address != page.0 {
            return Err(format!("the page header is that of {}", Lsn(header.address)));
        }
        if header.flags & !ALL_FLAGS != 0 || header.is_continuation() && header.is_overwrite() {
            return Err(format!("the page header has impossible flags ({:04X})", header.flags));
        }
        let is_first = page.0.is_multiple_of(segment_size);
        if is_first != (header.flags & LONG != 0) {
            return Err("the page header has the wrong length for its place in the segment".into());
        }
        if is_first {
            self.check_first(header, segment_size)?;
        }
        if let Some(last) = &self.last {
            if last.magic != header.magic {
                return Err(format!("the page is of another version (magic {:04X})", header.magic));
            }
            if last.timeline > header.timeline {
                return Err(format!("the page is of timeline {} behind one of {}", header.timeline, last.timeline));
            }
        }
        self.last = Some(*header);
        Ok(())
    }

    fn check_first(&mut self, header: &PageHeader, segment_size: u64) -> Result<(), String> {
        if u64::from(header.page_size) != PAGE {
            return Err(format!("pages of {} bytes are not supported, only of {PAGE}", header.page_size));
        }
        if u64::from(header.segment_size) != segment_size {
            return Err(format!("the segment has {} bytes, not {segment_size}", header.segment_size));
        }
        if *self.system_id.get_or_insert(header.system_id) != header.system_id {
            return Err(format!("the segment is of another system ({})", header.system_id));
        }
        Ok(())
    }
}

fn major_of(magic: u16) -> Option<u32> {
    MAGICS.iter().find(|known| known.0 == magic).map(|known| known.1)
}
