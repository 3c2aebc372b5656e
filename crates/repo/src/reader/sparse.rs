//! A pack of which only the age header and one range are at hand.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use bytes::Bytes;

/// Reads like the whole file where it has the bytes, and like its end elsewhere.
pub(super) struct SparseFile {
    head: Bytes,
    body: Bytes,
    body_start: u64,
    position: u64,
}

impl SparseFile {
    /// `head` lies at the start of the file, `body` at `body_start`.
    pub fn new(head: Bytes, body: Bytes, body_start: u64) -> Self {
        Self { head, body, body_start, position: 0 }
    }
}

impl BufRead for SparseFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let from = |part: &Bytes, start: u64| {
            let offset = usize::try_from(self.position.checked_sub(start)?).ok()?;
            (offset < part.len()).then_some(offset)
        };
        Ok(match (from(&self.body, self.body_start), from(&self.head, 0)) {
            (Some(offset), _) => &self.body[offset..],
            (None, Some(offset)) => &self.head[offset..],
            (None, None) => &[],
        })
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Read for SparseFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(buffer.len());
        buffer[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl Seek for SparseFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.position = moved.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok(self.position)
    }
}
