//! Page checksums as PostgreSQL computes them (`checksum_impl.h`): 32 parallel sums of an FNV-1a variant over the page,
//! folded, mixed with the block number. A page that was exchanged for another one is found by the block number.
//!
//! Only what `pg_checksums` looks at is looked at: files of relations in `base/`, `global/` and `pg_tblspc/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    verify::{self, Findings, Options},
};

/// The block size of all packaged servers; others are not supported.
pub const PAGE: usize = 8192;
/// Blocks in a segment file of 1 GiB.
pub const BLOCKS_PER_SEGMENT: u32 = 131_072;

const SUMS: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
const CHECKSUM_AT: std::ops::Range<usize> = 8..10;
const UPPER_AT: std::ops::Range<usize> = 14..16;

/// The start values, one for each sum.
const BASE: [u32; SUMS] = [
    0x5b1f_36e9,
    0xb852_5960,
    0x02ab_50aa,
    0x1de6_6d2a,
    0x79ff_467a,
    0x9bb9_f8a3,
    0x217e_7cd2,
    0x83e1_3d2c,
    0xf8d4_474f,
    0xe39e_b970,
    0x42c6_ae16,
    0x9932_16fa,
    0x7b09_3b5d,
    0x98da_ff3c,
    0xf718_902a,
    0x0b1c_9cdb,
    0xe58f_764b,
    0x1876_36bc,
    0x5d7b_3bb1,
    0xe73d_e7de,
    0x92be_c979,
    0xcca6_c0b2,
    0x304a_0979,
    0x85aa_43d4,
    0x7831_25bb,
    0x6ca8_eaa2,
    0xe407_eac6,
    0x4b5c_fc3e,
    0x9fbf_8c76,
    0x15ca_20be,
    0xf2ca_9fd3,
    0x959b_d756,
];

/// What looking at the pages of a directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagesReport {
    /// Files of relations.
    pub files: u64,
    /// Pages whose checksum was computed and compared.
    pub checked: u64,
    /// Pages that are all zeros: allocated and never used, they have no checksum.
    pub new: u64,
    /// Pages written after the backup began. They may be torn, and replay of the WAL puts a whole page in their place.
    pub newer: u64,
    /// Pages with a wrong checksum.
    pub bad: Findings,
    /// Files that end in the middle of a page; the rest was not checked.
    pub partial: Findings,
}

/// Checks the page checksums of a restored directory. Blocks the thread.
pub fn verify_dir(pgdata: &Path, options: &Options) -> Result<PagesReport> {
    let options = Options { manifest: false, pages: true, ..options.clone() };
    Ok(verify::restored_dir(pgdata, &options)?.pages.unwrap_or_default())
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    Good,
    New,
    Newer,
    Bad {
        found: u16,
        computed: u16,
    },
    /// Marked as new, but not empty.
    NotEmpty,
}

/// Looks at one page. Pages with an LSN at or after `backup_start` are not judged.
pub(crate) fn look(page: &[u8; PAGE], block: u32, backup_start: Option<u64>) -> PageState {
    let field = |range: std::ops::Range<usize>| u16::from_le_bytes([page[range.start], page[range.start + 1]]);
    if field(UPPER_AT) == 0 {
        return if *page == [0; PAGE] { PageState::New } else { PageState::NotEmpty };
    }
    let found = field(CHECKSUM_AT);
    let computed = checksum(page, block);
    if found == computed {
        return PageState::Good;
    }
    let half = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    let lsn = (half(0) << 32) | half(4);
    match backup_start {
        Some(start) if lsn >= start => PageState::Newer,
        _ => PageState::Bad { found, computed },
    }
}

/// The checksum of a page; its own field counts as zero.
pub fn checksum(page: &[u8; PAGE], block: u32) -> u16 {
    let mut sums = BASE;
    let (rows, _) = page.as_chunks::<{ SUMS * 4 }>();
    let mut first = rows[0];
    first[CHECKSUM_AT].fill(0);
    mix(&mut sums, &first);
    for row in &rows[1..] {
        mix(&mut sums, row);
    }
    let zeros = [0; SUMS * 4];
    mix(&mut sums, &zeros);
    mix(&mut sums, &zeros);
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ block;
    // 1 to 65535: zero means "no checksum".
    u16::try_from(folded % 65_535 + 1).expect("at most 65535")
}

/// One round of all sums. Plain arrays of 32: the compiler makes vectors of them.
#[inline(always)]
fn mix(sums: &mut [u32; SUMS], row: &[u8; SUMS * 4]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

/// The segment number of a relation's file by its path below PGDATA, or `None` where it is no such file: maps, caches,
/// `pg_control`, temporary files and what else lies there have no page checksums.
pub(crate) fn relation_segment(path: &[u8]) -> Option<u32> {
    let path = std::str::from_utf8(path).ok()?;
    let parts: Vec<&str> = path.split('/').collect();
    let is_oid = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|c| c.is_ascii_digit());
    let name = match parts.as_slice() {
        ["global", name] => name,
        ["base", database, name] if is_oid(database) => name,
        ["pg_tblspc", tablespace, version, database, name]
            if is_oid(tablespace) && version.starts_with("PG_") && is_oid(database) =>
        {
            name
        }
        _ => return None,
    };
    let (relation, segment) = match name.split_once('.') {
        Some((relation, segment)) if is_oid(segment) => (relation, segment.parse().ok()?),
        Some(_) => return None,
        None => (*name, 0),
    };
    let node = match relation.split_once('_') {
        Some((node, "fsm" | "vm" | "init")) => node,
        Some(_) => return None,
        None => relation,
    };
    is_oid(node).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_files_have_pages() {
        for (path, segment) in [
            ("base/5/1259", Some(0)),
            ("base/5/1259.3", Some(3)),
            ("base/5/1259_fsm", Some(0)),
            ("base/5/16384_vm.1", Some(1)),
            ("base/5/16384_init", Some(0)),
            ("global/1262", Some(0)),
            ("pg_tblspc/16385/PG_17_202406281/5/16390", Some(0)),
            ("base/5/pg_filenode.map", None),
            ("base/5/pg_internal.init", None),
            ("base/5/PG_VERSION", None),
            ("base/5/t3_16384", None),
            ("base/5/16384_x", None),
            ("base/5/16384.old", None),
            ("base/pgsql_tmp/pgsql_tmp12.0", None),
            ("global/pg_control", None),
            ("pg_wal/000000010000000000000001", None),
            ("pg_xact/0000", None),
            ("1259", None),
        ] {
            assert_eq!(relation_segment(path.as_bytes()), segment, "{path}");
        }
    }

    #[test]
    fn states() {
        let mut page = [0; PAGE];
        assert_eq!(look(&page, 7, None), PageState::New);
        page[100] = 1;
        assert_eq!(look(&page, 7, None), PageState::NotEmpty);
        page[14] = 32;
        page[4] = 9; // LSN 0/9
        let sum = checksum(&page, 7);
        page[CHECKSUM_AT].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(look(&page, 7, None), PageState::Good);
        assert!(matches!(look(&page, 8, None), PageState::Bad { found, .. } if found == sum));
        page[8000] ^= 0x80;
        assert!(matches!(look(&page, 7, Some(10)), PageState::Bad { .. }));
        assert_eq!(look(&page, 7, Some(9)), PageState::Newer);
    }
}
