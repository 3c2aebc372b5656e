//! The bytes of a tree object (FORMAT.md, "Trees"): varints, one record an entry.
//!
//! Integers are LEB128. Within one object, packs are numbered as they first appear, and the place of an extent is
//! written as the difference to the one before it, so that an extent costs little more than its chunk id.

use lifeboat_model::id::{ChunkId, ObjectId};
use std::collections::HashMap;

use super::{ChangeMark, Entry, EntryKind, Extent, FileTime};

/// Longest path, link target, attribute or note.
const MAX_TEXT: u64 = 1 << 20;
/// Most extended attributes of an entry.
const MAX_XATTRS: u64 = 1 << 16;

const END: u8 = 0;
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const FIFO: u8 = 4;
const HARD_LINK: u8 = 5;

const HAS_XATTRS: u8 = 1;
const HAS_CHANGE: u8 = 2;
const HAS_NOTE: u8 = 4;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What the extent before this one said: the origin of the differences.
#[derive(Clone, Copy, Default)]
struct Place {
    pack: u64,
    frame_offset: u32,
    frame_len: u32,
    end_in_frame: u32,
}

/// Writes the records of one tree object.
#[derive(Default)]
pub(crate) struct Encoder {
    out: Vec<u8>,
    packs: HashMap<ObjectId, u64>,
    last: Place,
    entries: u64,
}

impl Encoder {
    /// The bytes of the records since the last call.
    pub fn take(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Entries written so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn time(&mut self, time: FileTime) {
        self.number(zigzag(time.seconds));
        self.number(u64::from(time.nanos));
    }

    /// Appends an entry.
    pub fn entry(&mut self, entry: &Entry) {
        self.entries += 1;
        self.byte(match entry.kind {
            EntryKind::Directory => DIRECTORY,
            EntryKind::File { .. } => FILE,
            EntryKind::Symlink { .. } => SYMLINK,
            EntryKind::Fifo => FIFO,
            EntryKind::HardLink { .. } => HARD_LINK,
        });
        self.text(&entry.path);
        self.number(u64::from(entry.mode));
        self.number(u64::from(entry.uid));
        self.number(u64::from(entry.gid));
        self.time(entry.mtime);
        self.options(entry);
        match &entry.kind {
            EntryKind::Directory | EntryKind::Fifo => {}
            EntryKind::Symlink { target } | EntryKind::HardLink { target } => self.text(target),
            EntryKind::File { size, extents } => self.extents(*size, extents),
        }
    }

    fn options(&mut self, entry: &Entry) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        self.byte(
            flag(!entry.xattrs.is_empty(), HAS_XATTRS)
                | flag(entry.change.is_some(), HAS_CHANGE)
                | flag(entry.note.is_some(), HAS_NOTE),
        );
        if !entry.xattrs.is_empty() {
            self.number(entry.xattrs.len() as u64);
            for (name, value) in &entry.xattrs {
                self.text(name);
                self.text(value);
            }
        }
        if let Some(change) = &entry.change {
            self.time(change.ctime);
            self.number(change.inode);
        }
        if let Some(note) = &entry.note {
            self.text(note.as_bytes());
        }
    }

    fn extents(&mut self, size: u64, extents: &[Extent]) {
        self.number(size);
        self.number(extents.len() as u64);
        let mut end = 0;
        for extent in extents {
            self.number(extent.offset - end);
            self.number(u64::from(extent.len));
            end = extent.offset + u64::from(extent.len);
            self.out.extend_from_slice(&extent.chunk.0);
            self.place(extent);
        }
    }

    fn place(&mut self, extent: &Extent) {
        let next = self.packs.len() as u64;
        let pack = *self.packs.entry(extent.pack).or_insert(next);
        self.number(pack);
        if pack == next {
            self.out.extend_from_slice(&extent.pack.0);
        }
        if pack != self.last.pack || pack == next {
            self.last = Place { pack, ..Place::default() };
        }
        let step = i64::from(extent.frame_offset) - i64::from(self.last.frame_offset);
        self.number(zigzag(step));
        if step != 0 {
            self.number(u64::from(extent.frame_len));
            self.last.end_in_frame = 0;
        }
        self.number(zigzag(i64::from(extent.offset_in_frame) - i64::from(self.last.end_in_frame)));
        self.last.frame_offset = extent.frame_offset;
        self.last.frame_len = extent.frame_len;
        self.last.end_in_frame = extent.offset_in_frame.wrapping_add(extent.len);
    }

    /// Appends the end mark and starts anew.
    pub fn end(&mut self) -> Vec<u8> {
        let entries = self.entries;
        self.byte(END);
        self.number(entries);
        std::mem::take(self).out
    }
}

/// Reads the records of one tree object that has been opened and decompressed.
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    packs: Vec<ObjectId>,
    last: Place,
    entries: u64,
    ended: bool,
}

/// The reason why bytes are no tree records.
pub(crate) type Bad = &'static str;

impl Decoder {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0, packs: Vec::new(), last: Place::default(), entries: 0, ended: false }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], Bad> {
        let part = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or("a record is cut short")?;
        self.at += len;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8, Bad> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn small(&mut self) -> Result<u32, Bad> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn signed(&mut self) -> Result<i64, Bad> {
        self.number().map(unzigzag)
    }

    fn text(&mut self) -> Result<Vec<u8>, Bad> {
        match self.number()? {
            len if len <= MAX_TEXT => self.take(len as usize).map(<[u8]>::to_vec),
            _ => Err("a text is too long"),
        }
    }

    fn time(&mut self) -> Result<FileTime, Bad> {
        let time = FileTime { seconds: self.signed()?, nanos: self.small()? };
        if time.nanos < 1_000_000_000 { Ok(time) } else { Err("a time has too many nanoseconds") }
    }

    /// The next entry; none after the end mark.
    pub fn next(&mut self) -> Result<Option<Entry>, Bad> {
        if self.ended {
            return Ok(None);
        }
        let tag = self.byte()?;
        if tag == END {
            return self.end();
        }
        let mut entry = Entry {
            path: self.text()?,
            mode: self.small()?,
            uid: self.small()?,
            gid: self.small()?,
            mtime: self.time()?,
            ..Entry::default()
        };
        self.options(&mut entry)?;
        entry.kind = match tag {
            DIRECTORY => EntryKind::Directory,
            FIFO => EntryKind::Fifo,
            SYMLINK => EntryKind::Symlink { target: self.text()? },
            HARD_LINK => EntryKind::HardLink { target: self.text()? },
            FILE => self.file()?,
            _ => return Err("an entry is of no known kind"),
        };
        self.entries += 1;
        Ok(Some(entry))
    }

    fn end(&mut self) -> Result<Option<Entry>, Bad> {
        self.ended = true;
        if self.number()? != self.entries || self.at != self.bytes.len() {
            return Err("the end mark does not fit");
        }
        Ok(None)
    }

    fn options(&mut self, entry: &mut Entry) -> Result<(), Bad> {
        let flags = self.byte()?;
        if flags & !(HAS_XATTRS | HAS_CHANGE | HAS_NOTE) != 0 {
            return Err("an entry has unknown flags");
        }
        if flags & HAS_XATTRS != 0 {
            let count = self.number()?;
            if count > MAX_XATTRS {
                return Err("an entry has too many attributes");
            }
            for _ in 0..count {
                entry.xattrs.push((self.text()?, self.text()?));
            }
        }
        if flags & HAS_CHANGE != 0 {
            entry.change = Some(ChangeMark { ctime: self.time()?, inode: self.number()? });
        }
        if flags & HAS_NOTE != 0 {
            entry.note = Some(String::from_utf8(self.text()?).map_err(|_| "a note is not text")?);
        }
        Ok(())
    }

    fn file(&mut self) -> Result<EntryKind, Bad> {
        let size = self.number()?;
        let count = self.number()? as usize;
        // An extent takes at least 36 bytes: a count that cannot be true must not reserve memory.
        let mut extents = Vec::with_capacity(count.min((self.bytes.len() - self.at) / 36 + 1));
        let mut end = 0u64;
        for _ in 0..count {
            let extent = self.extent(end)?;
            end = extent.offset + u64::from(extent.len);
            extents.push(extent);
        }
        if end > size { Err("an extent reaches past its file") } else { Ok(EntryKind::File { size, extents }) }
    }

    fn extent(&mut self, previous_end: u64) -> Result<Extent, Bad> {
        let far = "an extent lies too far out";
        let offset = previous_end.checked_add(self.number()?).ok_or(far)?;
        let len = self.small()?;
        offset.checked_add(u64::from(len)).ok_or(far)?;
        let chunk = ChunkId(self.take(32)?.try_into().expect("32 bytes were taken"));
        let pack = self.pack()?;
        let frame_offset = self.near(self.last.frame_offset)?;
        if frame_offset != self.last.frame_offset {
            self.last.frame_len = self.small()?;
            self.last.end_in_frame = 0;
        }
        self.last.frame_offset = frame_offset;
        let offset_in_frame = self.near(self.last.end_in_frame)?;
        self.last.end_in_frame = offset_in_frame.wrapping_add(len);
        Ok(Extent { offset, len, chunk, pack, frame_offset, frame_len: self.last.frame_len, offset_in_frame })
    }

    fn near(&mut self, base: u32) -> Result<u32, Bad> {
        let value = i64::from(base).checked_add(self.signed()?);
        value.and_then(|value| u32::try_from(value).ok()).ok_or("a place is out of range")
    }

    fn pack(&mut self) -> Result<ObjectId, Bad> {
        let number = self.number()?;
        let next = self.packs.len() as u64;
        if number == next {
            let id = ObjectId(self.take(16)?.try_into().expect("16 bytes were taken"));
            self.packs.push(id);
        }
        let id = *self.packs.get(number as usize).ok_or("a pack has no number")?;
        if number != self.last.pack || number == next {
            self.last = Place { pack: number, ..Place::default() };
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        let part = (0u64..1 << 40, 1u32..1 << 22, any::<[u8; 4]>(), 0u8..4, 8u32..1 << 26, 0u32..1 << 23);
        prop::collection::vec(part, 0..20).prop_map(|parts| {
            let mut end = 0;
            let build = |(gap, len, id, pack, frame_offset, offset_in_frame): (u64, u32, [u8; 4], u8, u32, u32)| {
                let offset = end + gap;
                end = offset + u64::from(len);
                let mut chunk = [0; 32];
                chunk[..4].copy_from_slice(&id);
                let pack = ObjectId([pack; 16]);
                let frame_len = frame_offset / 2; // one frame has one length
                Extent { offset, len, chunk: ChunkId(chunk), pack, frame_offset, frame_len, offset_in_frame }
            };
            parts.into_iter().map(build).collect()
        })
    }

    fn kinds() -> impl Strategy<Value = EntryKind> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            Just(EntryKind::Directory),
            Just(EntryKind::Fifo),
            bytes().prop_map(|target| EntryKind::Symlink { target }),
            bytes().prop_map(|target| EntryKind::HardLink { target }),
            (extents(), 0u64..1 << 30).prop_map(|(extents, tail)| {
                let end = extents.last().map_or(0, |e| e.offset + u64::from(e.len));
                EntryKind::File { size: end + tail, extents }
            }),
        ]
    }

    prop_compose! {
        fn entries()(
            path in prop::collection::vec(any::<u8>(), 0..60),
            kind in kinds(),
            mode in 0u32..0o10000,
            (uid, gid) in any::<(u32, u32)>(),
            (seconds, nanos) in (any::<i64>(), 0u32..1_000_000_000),
            xattrs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..3),
            change in prop::option::of(any::<u64>()),
            note in prop::option::of(".{0,12}"),
        ) -> Entry {
            let mtime = FileTime { seconds, nanos };
            let change = change.map(|inode| ChangeMark { ctime: mtime, inode });
            Entry { path, kind, mode, uid, gid, mtime, xattrs, change, note }
        }
    }

    proptest! {
        #[test]
        fn entries_round_trip(list in prop::collection::vec(entries(), 0..12)) {
            let mut encoder = Encoder::default();
            for entry in &list {
                encoder.entry(entry);
            }
            let mut decoder = Decoder::new(encoder.end());
            let mut back = Vec::new();
            while let Some(entry) = decoder.next().unwrap() {
                back.push(entry);
            }
            prop_assert_eq!(back, list);
        }

        #[test]
        fn wild_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::new(bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }

        #[test]
        fn a_cut_is_noticed(list in prop::collection::vec(entries(), 1..4), cut in any::<prop::sample::Index>()) {
            let mut encoder = Encoder::default();
            list.iter().for_each(|entry| encoder.entry(entry));
            let mut bytes = encoder.end();
            bytes.truncate(cut.index(bytes.len()));
            let mut decoder = Decoder::new(bytes);
            let mut result = decoder.next();
            while let Ok(Some(_)) = result {
                result = decoder.next();
            }
            prop_assert!(result.is_err());
        }
    }
}
