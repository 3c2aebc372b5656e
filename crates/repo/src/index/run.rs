//! A sorted file of fixed-size records, searched by a fan-out table and one positioned read.
//!
//! Every record carries check bytes: a flipped bit on the disk makes a chunk unknown (it is stored again), never
//! misplaced.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lifeboat_model::id::{ChunkId, ObjectId};

use crate::pack::Location;

const MAGIC: &[u8; 8] = b"LBRUN001";
const FANOUT: usize = 65_536;
const FANOUT_BYTES: usize = FANOUT * 4;
const RECORD: usize = 64;
/// Magic, fan-out table, its BLAKE3.
const HEADER: u64 = (8 + FANOUT_BYTES + 32) as u64;

/// A chunk and its place.
pub(super) type Record = (ChunkId, Location);

fn to_bytes((chunk, place): &Record) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..32].copy_from_slice(&chunk.0);
    bytes[32..48].copy_from_slice(&place.pack.0);
    bytes[48..52].copy_from_slice(&place.frame_offset.to_le_bytes());
    bytes[52..56].copy_from_slice(&place.frame_len.to_le_bytes());
    bytes[56..60].copy_from_slice(&place.offset_in_frame.to_le_bytes());
    let check = blake3::hash(&bytes[..60]);
    bytes[60..].copy_from_slice(&check.as_bytes()[..4]);
    bytes
}

fn from_bytes(bytes: &[u8; RECORD]) -> Option<Record> {
    let check = blake3::hash(&bytes[..60]);
    if bytes[60..] != check.as_bytes()[..4] {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let place = Location {
        pack: ObjectId(bytes[32..48].try_into().expect("16 bytes")),
        frame_offset: number(48),
        frame_len: number(52),
        offset_in_frame: number(56),
    };
    Some((ChunkId(bytes[..32].try_into().expect("32 bytes")), place))
}

fn bucket(chunk: &ChunkId) -> usize {
    usize::from(u16::from_be_bytes([chunk.0[0], chunk.0[1]]))
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    file: File,
    path: PathBuf,
    /// `fanout[b]`: how many records lie in buckets up to and including `b`.
    fanout: Vec<u32>,
}

impl Run {
    /// Writes records, which come sorted by chunk id, as a new file; of equal ids the first is kept.
    pub fn write(path: &Path, records: impl Iterator<Item = io::Result<Record>>) -> io::Result<Run> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        out.write_all(MAGIC)?;
        out.write_all(&vec![0; FANOUT_BYTES + 32])?;
        let mut fanout = vec![0u32; FANOUT];
        let mut last = None;
        for record in records {
            let record = record?;
            if last.replace(record.0) != Some(record.0) {
                fanout[bucket(&record.0)] += 1;
                out.write_all(&to_bytes(&record))?;
            }
        }
        let mut sum = 0;
        for count in &mut fanout {
            sum += *count;
            *count = sum;
        }
        let table: Vec<u8> = fanout.iter().flat_map(|count| count.to_le_bytes()).collect();
        out.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        out.write_all(&table)?;
        out.write_all(blake3::hash(&table).as_bytes())?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Self::open(path)
    }

    /// Opens a file that [`write`](Self::write) made; a wrong table or length is an error.
    pub fn open(path: &Path) -> io::Result<Run> {
        let mut file = File::open(path)?;
        let mut header = vec![0; HEADER as usize];
        file.read_exact(&mut header)?;
        let table = &header[8..8 + FANOUT_BYTES];
        let fanout: Vec<u32> = table.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let len = HEADER + u64::from(*fanout.last().expect("65,536 entries")) * RECORD as u64;
        let whole = header.starts_with(MAGIC)
            && header[8 + FANOUT_BYTES..] == blake3::hash(table).as_bytes()[..]
            && file.metadata()?.len() == len;
        if !whole {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the cache file is damaged"));
        }
        Ok(Run { file, path: path.to_owned(), fanout })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finds a chunk; a record that cannot be read or does not check counts as absent.
    pub fn get(&self, chunk: &ChunkId) -> Option<Location> {
        let bucket = bucket(chunk);
        let first = if bucket == 0 { 0 } else { self.fanout[bucket - 1] };
        let (mut low, mut high) = (first, self.fanout[bucket]);
        while low < high {
            // A few records are read at once; more only where a run has millions.
            let middle = low + (high - low) / 2;
            let from = middle.saturating_sub(16).max(low);
            let count = (high - from).min(32);
            let mut bytes = vec![0; count as usize * RECORD];
            self.file.read_exact_at(&mut bytes, HEADER + u64::from(from) * RECORD as u64).ok()?;
            let records = bytes.as_chunks::<RECORD>().0;
            match records.binary_search_by(|record| record[..32].cmp(&chunk.0[..])) {
                Ok(at) => return from_bytes(&records[at]).map(|(_, place)| place),
                Err(0) => high = from,
                Err(at) if at == records.len() => low = from + count,
                Err(_) => return None,
            }
        }
        None
    }

    /// All records in order; those that do not check are left out.
    pub fn records(&self) -> io::Result<impl Iterator<Item = io::Result<Record>> + use<>> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(&self.path)?);
        file.seek(SeekFrom::Start(HEADER))?;
        let mut left = u64::from(*self.fanout.last().expect("65,536 entries"));
        Ok(std::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let mut bytes = [0; RECORD];
                match file.read_exact(&mut bytes) {
                    Ok(()) => match from_bytes(&bytes) {
                        Some(record) => return Some(Ok(record)),
                        None => continue,
                    },
                    Err(error) => return Some(Err(error)),
                }
            }
            None
        }))
    }
}

/// Merges sorted runs into one new one; of equal ids the one of the later run is kept: what was stored
/// anew is where it is now.
pub(super) fn merge(runs: &[std::sync::Arc<Run>], path: &Path) -> io::Result<Run> {
    let mut sources = Vec::new();
    for run in runs {
        sources.push(run.records()?.peekable());
    }
    let next = move || {
        let mut least: Option<(usize, ChunkId)> = None;
        for (n, source) in sources.iter_mut().enumerate() {
            match source.peek() {
                Some(Ok((chunk, _))) if least.is_none_or(|(_, other)| *chunk <= other) => least = Some((n, *chunk)),
                Some(Err(_)) => return source.next(),
                _ => {}
            }
        }
        sources[least?.0].next()
    };
    Run::write(path, std::iter::from_fn(next))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn record(n: u32, salt: u32) -> Record {
        let chunk = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        (chunk, Location { pack: ObjectId([7; 16]), frame_offset: n, frame_len: salt, offset_in_frame: 3 })
    }

    fn write(path: &Path, numbers: impl Iterator<Item = u32>, salt: u32) -> Run {
        let mut records: Vec<_> = numbers.map(|n| record(n, salt)).collect();
        records.sort_by_key(|record| record.0);
        Run::write(path, records.into_iter().map(Ok)).unwrap()
    }

    #[test]
    fn finds_what_was_written_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // 200,000 in 65,536 buckets, and again all in one bucket.
        let run = write(&dir.path().join("a"), 0..200_000, 1);
        for n in (0..200_000).step_by(37) {
            assert_eq!(run.get(&record(n, 1).0), Some(record(n, 1).1), "{n}");
        }
        assert!((200_000..201_000).all(|n| run.get(&record(n, 1).0).is_none()));
        let same_bucket = |n: u32| {
            let (mut chunk, place) = record(n, 1);
            chunk.0[..2].fill(0);
            (chunk, place)
        };
        let mut records: Vec<_> = (0..5000).map(same_bucket).collect();
        records.sort_by_key(|record| record.0);
        let run = Run::write(&dir.path().join("b"), records.into_iter().map(Ok)).unwrap();
        assert!((0..5000).all(|n| run.get(&same_bucket(n).0) == Some(same_bucket(n).1)));
        assert!((5000..6000).all(|n| run.get(&same_bucket(n).0).is_none()));
    }

    #[test]
    fn merging_keeps_the_newest_of_equal_ids() {
        let dir = tempfile::tempdir().unwrap();
        let a = Arc::new(write(&dir.path().join("a"), 0..1000, 1));
        let b = Arc::new(write(&dir.path().join("b"), 500..1500, 2));
        let merged = merge(&[a, b], &dir.path().join("m")).unwrap();
        assert_eq!(merged.records().unwrap().count(), 1500);
        assert_eq!(merged.get(&record(300, 0).0).unwrap().frame_len, 1);
        assert_eq!(merged.get(&record(700, 0).0).unwrap().frame_len, 2);
        assert_eq!(merged.get(&record(1200, 0).0).unwrap().frame_len, 2);
    }

    #[test]
    fn flipped_bits_make_chunks_unknown_not_misplaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, 0..100, 1);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).rev().step_by(13).take(2000).chain(0..200) {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            let Ok(run) = Run::open(&path) else { continue };
            for n in 0..100 {
                let found = run.get(&record(n, 1).0);
                assert!(found.is_none() || found == Some(record(n, 1).1), "byte {at}, record {n}");
            }
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(Run::open(&path).is_err());
    }
}
