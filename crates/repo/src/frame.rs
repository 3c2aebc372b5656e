//! Frames: chunks compressed together. What does not compress is stored as it is, and told cheaply beforehand.
//!
//! A filestore is mostly JPEG, PNG, PDF and ZIP. zstd finds out too, but only after it has searched; the entropy of a
//! sample costs some thousand byte counts, and a raw frame also costs nothing to read back.

use std::io;

/// Raw bytes a writer collects into one frame.
pub(crate) const TARGET: usize = 1 << 20;
/// The most raw bytes a frame may have.
pub(crate) const MAX_RAW: usize = 8 << 20;

/// How a frame's payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// Bytes looked at; a sample is spread over this many places.
const SAMPLE: usize = 4096;
const PLACES: usize = 8;
/// Shorter runs always go to zstd: their sample says little.
const MIN_RUN: usize = 2048;
/// Bits a byte above which nothing is gained. Random bytes give 7.95 in a sample of this size, JPEG 7.8 to 7.95,
/// English 4.5, base64 6.0.
const INCOMPRESSIBLE: f32 = 7.75;

/// Whether compression would be a waste of time.
pub(crate) fn looks_incompressible(bytes: &[u8]) -> bool {
    if bytes.len() < MIN_RUN {
        return false;
    }
    let mut counts = [0u16; 256];
    let part = SAMPLE / PLACES;
    let total = if bytes.len() <= SAMPLE {
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        bytes.len()
    } else {
        // Spread evenly; the first place is not the very start, which in most formats is a header.
        let step = (bytes.len() - part) / PLACES;
        for place in 1..=PLACES {
            bytes[place * step..][..part].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        }
        part * PLACES
    };
    entropy(&counts, total as f32) > INCOMPRESSIBLE
}

fn entropy(counts: &[u16; 256], total: f32) -> f32 {
    let used = counts.iter().filter(|count| **count > 0);
    used.map(|count| f32::from(*count) / total).map(|share| -share * share.log2()).sum()
}

/// Compresses, one thread's own; its context and buffer are used again and again.
pub(crate) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
}

impl Compressor {
    pub fn new(level: i32) -> io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        zstd.include_contentsize(true)?;
        zstd.include_checksum(false)?; // age authenticates every byte
        Ok(Self { zstd, out: Vec::new() })
    }

    /// The payload, where it is shorter than the raw bytes.
    pub fn compress(&mut self, raw: &[u8]) -> io::Result<Option<&[u8]>> {
        self.out.clear();
        self.out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.zstd.compress_to_buffer(raw, &mut self.out)?;
        Ok((self.out.len() < raw.len()).then_some(&self.out))
    }
}

/// Opens frames, one thread's own.
pub(crate) struct Decompressor {
    zstd: zstd::bulk::Decompressor<'static>,
    out: Vec<u8>,
}

impl Decompressor {
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()?, out: Vec::new() })
    }

    /// The raw bytes of a frame (codec byte and payload).
    pub fn open<'a>(&'a mut self, frame: &'a [u8]) -> Result<&'a [u8], String> {
        match frame.split_first() {
            Some((0, raw)) => Ok(raw),
            Some((1, payload)) => {
                let size = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
                let size = size.filter(|size| *size <= MAX_RAW as u64).ok_or("a frame has no valid size")?;
                self.out.clear();
                self.out.reserve(size as usize);
                self.zstd.decompress_to_buffer(payload, &mut self.out).map_err(|e| e.to_string())?;
                Ok(&self.out)
            }
            _ => Err("a frame has no known codec".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        crate::random::fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn random_and_text_are_told_apart() {
        for len in [2048, 5000, 65_536, 1 << 20] {
            assert!(looks_incompressible(&random(len)), "random {len}");
            let text: Vec<u8> = hex::encode(random(len / 2)).into_bytes();
            assert!(!looks_incompressible(&text), "text {len}");
            assert!(!looks_incompressible(&vec![7; len]), "constant {len}");
        }
        assert!(!looks_incompressible(&random(100)), "a short run goes to zstd");
    }

    #[test]
    fn frames_round_trip() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let raw = hex::encode(random(30_000)).into_bytes();
        let payload = compressor.compress(&raw).unwrap().unwrap();
        assert!(payload.len() < raw.len() * 6 / 10);
        let frame = [&[Codec::Zstd as u8], payload].concat();
        assert_eq!(decompressor.open(&frame).unwrap(), raw);
        assert_eq!(decompressor.open(&[&[0], &raw[..]].concat()).unwrap(), raw);
        assert!(decompressor.open(&frame[..frame.len() - 1]).is_err());
        assert!(decompressor.open(&[]).is_err() && decompressor.open(&[2, 1]).is_err());
        assert!(compressor.compress(&random(5000)).unwrap().is_none(), "not stored longer than it is");
    }
}
