//! Turns the chunks of a stream into contiguous slices that never cross the end of a segment.

use bytes::{Bytes, BytesMut};
use lifeboat_model::lsn::Lsn;

use super::WalChunk;
use crate::error::{Error, Result};

/// A run of WAL within one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSlice {
    /// Position of the first byte.
    pub start: Lsn,
    /// The bytes.
    pub bytes: Bytes,
}

impl WalSlice {
    /// The position behind the last byte.
    pub fn end(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }
}

/// Collects chunks. Holds at most one slice: `max_slice` bytes.
///
/// To restore whole segment files, start streaming at [`Lsn::segment_start`] of the first position that is needed.
#[derive(Debug)]
pub struct Segmenter {
    segment_size: u64,
    max_slice: usize,
    start: Lsn,
    held: BytesMut,
}

impl Segmenter {
    /// Begins at a position. Slices are cut at the end of each segment, and before when they reach `max_slice` bytes.
    pub fn new(start: Lsn, segment_size: u64, max_slice: usize) -> Self {
        let max_slice = max_slice.max(1);
        Segmenter { segment_size: segment_size.max(1), max_slice, start, held: BytesMut::new() }
    }

    /// The position that the next chunk must start at.
    pub fn position(&self) -> Lsn {
        Lsn(self.start.0 + self.held.len() as u64)
    }

    /// Whether there is WAL that is in no slice yet.
    pub fn has_pending(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes a chunk and gives the slices that it completes. A chunk that does not continue the last one is refused.
    pub fn push(&mut self, chunk: &WalChunk) -> Result<Vec<WalSlice>> {
        if chunk.start != self.position() {
            return Err(Error::WalGap { expected: self.position(), got: chunk.start });
        }
        let mut rest = chunk.bytes.as_ref();
        let mut complete = Vec::new();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.room().min(rest.len()));
            if self.held.capacity() == 0 {
                self.held.reserve(self.room());
            }
            self.held.extend_from_slice(now);
            rest = later;
            if self.room() == 0 {
                complete.extend(self.cut());
            }
        }
        Ok(complete)
    }

    /// What is held, as a slice: when it must not wait longer for the end of its segment.
    pub fn cut(&mut self) -> Option<WalSlice> {
        if self.held.is_empty() {
            return None;
        }
        let slice = WalSlice { start: self.start, bytes: std::mem::take(&mut self.held).freeze() };
        self.start = slice.end();
        Some(slice)
    }

    /// How many more bytes the slice may take.
    fn room(&self) -> usize {
        let to_segment_end = self.segment_size - self.start.0 % self.segment_size;
        let limit = usize::try_from(to_segment_end).unwrap_or(usize::MAX).min(self.max_slice);
        limit.saturating_sub(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(start: u64, len: usize) -> WalChunk {
        let bytes: Vec<u8> = (0..len as u64).map(|at| (start + at) as u8).collect();
        WalChunk { start: Lsn(start), bytes: Bytes::from(bytes), server_end: Lsn(start + len as u64) }
    }

    fn check(start: u64, chunks: &[usize], max_slice: usize, expected: &[(u64, usize)]) {
        let mut segmenter = Segmenter::new(Lsn(start), 100, max_slice);
        let mut slices = Vec::new();
        for len in chunks {
            let next = segmenter.position().0;
            slices.extend(segmenter.push(&chunk(next, *len)).unwrap());
        }
        slices.extend(segmenter.cut());
        for slice in &slices {
            assert_eq!(slice.bytes, chunk(slice.start.0, slice.bytes.len()).bytes);
        }
        let shape: Vec<_> = slices.iter().map(|slice| (slice.start.0, slice.bytes.len())).collect();
        assert_eq!(shape, expected);
    }

    #[test]
    fn slices_end_with_segments() {
        check(200, &[100], 1000, &[(200, 100)]);
        check(200, &[60, 60, 1], 1000, &[(200, 100), (300, 21)]);
        check(230, &[250], 1000, &[(230, 70), (300, 100), (400, 80)]);
        check(
            200,
            &[250],
            40,
            &[(200, 40), (240, 40), (280, 20), (300, 40), (340, 40), (380, 20), (400, 40), (440, 10)],
        );
        check(200, &[], 1000, &[]);
    }

    #[test]
    fn gaps_are_refused() {
        let mut segmenter = Segmenter::new(Lsn(200), 100, 1000);
        segmenter.push(&chunk(200, 10)).unwrap();
        for start in [200, 209, 211] {
            assert!(matches!(segmenter.push(&chunk(start, 1)), Err(Error::WalGap { .. })), "{start}");
        }
        assert_eq!(segmenter.position(), Lsn(210));
    }
}
