//! Packs: many frames in one sealed object, with a table at the end, so that a pack explains itself.

use std::io::Write as _;

use lifeboat_model::id::{ChunkId, ObjectId};

use crate::{
    error::Result,
    frame::{self, Codec},
    seal::{Recipients, SealedBytes, Sealer},
    wire::{Bad, Input, Output},
};

const MAGIC: &[u8; 8] = b"LBPACK01";
const END: &[u8; 8] = b"LBPKEND1";
/// What a pack's footer takes for each chunk, at most.
const CHUNK_COST: u64 = 37;
/// The shortest pack that has a table.
const MIN_PLAIN: usize = 8 + 16 + 1 + 16;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub pack: ObjectId,
    pub frame_offset: u32,
    pub frame_len: u32,
    pub offset_in_frame: u32,
}

/// One frame of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameTable {
    pub len: u32,
    pub raw_len: u32,
    pub chunks: Vec<(ChunkId, u32)>,
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PackTable {
    pub frames: Vec<FrameTable>,
}

impl PackTable {
    /// How many chunks it lists.
    pub fn chunks(&self) -> usize {
        self.frames.iter().map(|frame| frame.chunks.len()).sum()
    }

    /// Every chunk with its place in `pack`.
    pub fn locations(&self, pack: ObjectId) -> impl Iterator<Item = (ChunkId, Location)> + '_ {
        let mut next = MAGIC.len() as u32;
        self.frames.iter().flat_map(move |frame| {
            let (frame_offset, frame_len) = (next, frame.len);
            next = next.saturating_add(frame.len);
            let mut offset_in_frame = 0;
            frame.chunks.iter().map(move |(chunk, len)| {
                let location = Location { pack, frame_offset, frame_len, offset_in_frame };
                offset_in_frame += len;
                (*chunk, location)
            })
        })
    }

    /// The lengths of the chunks, in the order of [`locations`](Self::locations).
    pub fn lengths(&self) -> impl Iterator<Item = u32> + '_ {
        self.frames.iter().flat_map(|frame| frame.chunks.iter().map(|(_, len)| *len))
    }

    pub fn encode(&self, out: &mut Output) {
        out.number(self.frames.len() as u64);
        for frame in &self.frames {
            out.number(u64::from(frame.len));
            out.number(u64::from(frame.raw_len));
            out.number(frame.chunks.len() as u64);
            for (chunk, len) in &frame.chunks {
                out.bytes(&chunk.0);
                out.number(u64::from(*len));
            }
        }
    }

    pub fn decode(input: &mut Input<'_>) -> std::result::Result<Self, Bad> {
        let mut table = PackTable::default();
        let mut end = MAGIC.len() as u32;
        for _ in 0..input.count(3)? {
            let (len, raw_len) = (input.small()?, input.small()?);
            end = end.checked_add(len).ok_or("a frame lies too far out")?;
            let mut chunks = Vec::new();
            let mut sum = 0u64;
            for _ in 0..input.count(33)? {
                let chunk = (ChunkId(input.array()?), input.small()?);
                sum += u64::from(chunk.1);
                chunks.push(chunk);
            }
            if sum != u64::from(raw_len) || raw_len as usize > frame::MAX_RAW || len == 0 {
                return Err("a frame's lengths do not fit");
            }
            table.frames.push(FrameTable { len, raw_len, chunks });
        }
        Ok(table)
    }
}

/// A pack that is being filled.
pub(crate) struct PackBuilder {
    pub id: ObjectId,
    sealer: Sealer,
    table: PackTable,
    footer_cost: u64,
    chunk_key: ObjectId,
}

/// A full pack, ready to be stored.
#[derive(Debug)]
pub(crate) struct FinishedPack {
    pub id: ObjectId,
    pub sealed: SealedBytes,
    pub table: PackTable,
}

impl PackBuilder {
    pub fn new(id: ObjectId, chunk_key: ObjectId, recipients: &Recipients, buffer: Vec<u8>) -> Result<Self> {
        let mut sealer = Sealer::new(recipients, buffer)?;
        sealer.write_all(MAGIC).expect("a write into memory cannot fail");
        Ok(Self { id, sealer, table: PackTable::default(), footer_cost: 0, chunk_key })
    }

    /// About how long the ciphertext would be if the pack ended now.
    pub fn size(&self) -> u64 {
        let plain = self.sealer.plain_len() + self.footer_cost;
        plain + plain / 4096 + 512
    }

    /// Appends a frame; gives its offset and stored length.
    pub fn push(&mut self, codec: Codec, parts: &[&[u8]], chunks: Vec<(ChunkId, u32)>) -> (u32, u32) {
        let offset = self.sealer.plain_len() as u32;
        let in_memory = "a write into memory cannot fail";
        self.sealer.write_all(&[codec as u8]).expect(in_memory);
        for part in parts {
            self.sealer.write_all(part).expect(in_memory);
        }
        let len = self.sealer.plain_len() as u32 - offset;
        let raw_len = chunks.iter().map(|(_, len)| len).sum();
        self.footer_cost += chunks.len() as u64 * CHUNK_COST;
        self.table.frames.push(FrameTable { len, raw_len, chunks });
        (offset, len)
    }

    /// Writes the footer and ends the pack.
    pub fn finish(mut self) -> FinishedPack {
        let mut out = Output::default();
        out.bytes(&self.chunk_key.0);
        self.table.encode(&mut out);
        let footer = out.into_bytes();
        let len = (footer.len() as u64).to_le_bytes();
        for part in [&footer[..], &len[..], &END[..]] {
            self.sealer.write_all(part).expect("a write into memory cannot fail");
        }
        FinishedPack { id: self.id, sealed: self.sealer.finish(), table: self.table }
    }
}

/// The chunk key's id and the table of an opened pack.
pub(crate) fn read_table(plain: &[u8]) -> std::result::Result<(ObjectId, PackTable), Bad> {
    if plain.len() < MIN_PLAIN || !plain.starts_with(MAGIC) || !plain.ends_with(END) {
        return Err("it is no pack of version 1");
    }
    let end = plain.len() - 16;
    let len = u64::from_le_bytes(plain[end..end + 8].try_into().expect("8 bytes"));
    let start = usize::try_from(len).ok().and_then(|len| end.checked_sub(len)).ok_or("its footer is too long")?;
    let mut input = Input::new(&plain[start..end]);
    let chunk_key = ObjectId(input.array()?);
    let table = PackTable::decode(&mut input)?;
    input.end()?;
    let frames: u64 = table.frames.iter().map(|frame| u64::from(frame.len)).sum();
    if frames + MAGIC.len() as u64 != start as u64 {
        return Err("its frames do not fill it");
    }
    Ok((chunk_key, table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Identity, open_all};

    #[test]
    fn a_pack_explains_itself() {
        let identity = Identity::generate();
        let (id, key) = (ObjectId([1; 16]), ObjectId([2; 16]));
        let mut builder = PackBuilder::new(id, key, &[identity.recipient()], Vec::new()).unwrap();
        let chunks = vec![(ChunkId([3; 32]), 3), (ChunkId([4; 32]), 2)];
        assert_eq!(builder.push(Codec::Raw, &[b"abc", b"de"], chunks), (8, 6));
        assert_eq!(builder.push(Codec::Raw, &[b"f"], vec![(ChunkId([5; 32]), 1)]), (14, 2));
        let pack = builder.finish();
        let plain = open_all(&[identity], &pack.sealed.bytes).unwrap();
        let (read_key, table) = read_table(&plain).unwrap();
        assert_eq!((read_key, &table), (key, &pack.table));
        let places: Vec<_> = table.locations(id).collect();
        let at =
            |frame_offset, frame_len, offset_in_frame| Location { pack: id, frame_offset, frame_len, offset_in_frame };
        assert_eq!(places[1], (ChunkId([4; 32]), at(8, 6, 3)));
        assert_eq!(places[2], (ChunkId([5; 32]), at(14, 2, 0)));
        for cut in 0..plain.len() {
            assert!(read_table(&plain[..cut]).is_err(), "cut at {cut}");
        }
    }
}
