//! The bytes of a tree object (FORMAT.md, "Trees"): varints, one record an entry.
//!
//! Within one object, packs are numbered as they first appear, and the place of an extent is written as the difference
//! to the one before it, so that an extent costs little more than its chunk id.

use std::collections::HashMap;

use lifeboat_model::id::{ChunkId, ObjectId};

use super::{ChangeMark, Entry, EntryKind, Extent, FileTime, is_inside};
use crate::wire::{Bad, Input, Output};

const END: u8 = 0;
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const FIFO: u8 = 4;
const HARD_LINK: u8 = 5;

const HAS_XATTRS: u8 = 1;
const HAS_CHANGE: u8 = 2;
const HAS_NOTE: u8 = 4;

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
    out: Output,
    packs: HashMap<ObjectId, u64>,
    last: Place,
    entries: u64,
}

impl Encoder {
    /// The bytes that have gathered; to be taken out.
    pub fn out(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Whether no entry has been written since the start or the last end mark.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn time(&mut self, time: FileTime) {
        self.out.signed(time.seconds);
        self.out.number(u64::from(time.nanos));
    }

    /// Appends an entry.
    pub fn entry(&mut self, entry: &Entry) {
        self.entries += 1;
        self.out.bytes(&[match entry.kind {
            EntryKind::Directory => DIRECTORY,
            EntryKind::File { .. } => FILE,
            EntryKind::Symlink { .. } => SYMLINK,
            EntryKind::Fifo => FIFO,
            EntryKind::HardLink { .. } => HARD_LINK,
        }]);
        self.out.text(&entry.path);
        for number in [entry.mode, entry.uid, entry.gid] {
            self.out.number(u64::from(number));
        }
        self.time(entry.mtime);
        self.options(entry);
        match &entry.kind {
            EntryKind::Directory | EntryKind::Fifo => {}
            EntryKind::Symlink { target } | EntryKind::HardLink { target } => self.out.text(target),
            EntryKind::File { size, extents } => self.extents(*size, extents),
        }
    }

    fn options(&mut self, entry: &Entry) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        self.out.bytes(&[flag(!entry.xattrs.is_empty(), HAS_XATTRS)
            | flag(entry.change.is_some(), HAS_CHANGE)
            | flag(entry.note.is_some(), HAS_NOTE)]);
        if !entry.xattrs.is_empty() {
            self.out.number(entry.xattrs.len() as u64);
            for (name, value) in &entry.xattrs {
                self.out.text(name);
                self.out.text(value);
            }
        }
        if let Some(change) = &entry.change {
            self.time(change.ctime);
            self.out.number(change.inode);
        }
        if let Some(note) = &entry.note {
            self.out.text(note.as_bytes());
        }
    }

    fn extents(&mut self, size: u64, extents: &[Extent]) {
        self.out.number(size);
        self.out.number(extents.len() as u64);
        let mut end = 0;
        for extent in extents {
            self.out.number(extent.offset - end);
            self.out.number(u64::from(extent.len));
            end = extent.offset + u64::from(extent.len);
            self.out.bytes(&extent.chunk.0);
            self.place(extent);
        }
    }

    fn place(&mut self, extent: &Extent) {
        let next = self.packs.len() as u64;
        let pack = *self.packs.entry(extent.pack).or_insert(next);
        self.out.number(pack);
        if pack == next {
            self.out.bytes(&extent.pack.0);
        }
        if pack != self.last.pack || pack == next {
            self.last = Place { pack, ..Place::default() };
        }
        let step = i64::from(extent.frame_offset) - i64::from(self.last.frame_offset);
        self.out.signed(step);
        if step != 0 {
            self.out.number(u64::from(extent.frame_len));
            self.last.end_in_frame = 0;
        }
        self.out.signed(i64::from(extent.offset_in_frame) - i64::from(self.last.end_in_frame));
        self.last.frame_offset = extent.frame_offset;
        self.last.frame_len = extent.frame_len;
        self.last.end_in_frame = extent.offset_in_frame.wrapping_add(extent.len);
    }

    /// Appends the end mark, gives the bytes that have gathered and starts anew.
    pub fn end(&mut self) -> Vec<u8> {
        let entries = self.entries;
        self.out.bytes(&[END]);
        self.out.number(entries);
        std::mem::take(self).out.into_bytes()
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

impl Decoder {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0, packs: Vec::new(), last: Place::default(), entries: 0, ended: false }
    }

    /// The next entry; none after the end mark.
    pub fn next(&mut self) -> Result<Option<Entry>, Bad> {
        if self.ended {
            return Ok(None);
        }
        let input = Input::new(&self.bytes[self.at..]);
        let mut record = Record { input, packs: &mut self.packs, last: &mut self.last };
        let entry = record.entry()?;
        let mut rest = record.input;
        match entry {
            Some(_) => self.entries += 1,
            None => {
                self.ended = true;
                if rest.number()? != self.entries {
                    return Err("the end mark does not fit");
                }
                rest.end()?;
            }
        }
        self.at = self.bytes.len() - rest.rest().len();
        Ok(entry)
    }
}

/// One record that is being read.
struct Record<'a> {
    input: Input<'a>,
    packs: &'a mut Vec<ObjectId>,
    last: &'a mut Place,
}

impl Record<'_> {
    fn entry(&mut self) -> Result<Option<Entry>, Bad> {
        let tag = self.input.byte()?;
        if tag == END {
            return Ok(None);
        }
        let mut entry = Entry {
            path: self.text()?,
            mode: self.input.small()?,
            uid: self.input.small()?,
            gid: self.input.small()?,
            mtime: self.time()?,
            ..Entry::default()
        };
        if !is_inside(&entry.path) {
            return Err("a path leaves its tree");
        }
        self.options(&mut entry)?;
        entry.kind = match tag {
            DIRECTORY => EntryKind::Directory,
            FIFO => EntryKind::Fifo,
            SYMLINK => EntryKind::Symlink { target: self.text()? },
            HARD_LINK => match self.text()? {
                target if is_inside(&target) => EntryKind::HardLink { target },
                _ => return Err("a hard link leaves its tree"),
            },
            FILE => self.file()?,
            _ => return Err("an entry is of no known kind"),
        };
        Ok(Some(entry))
    }

    fn text(&mut self) -> Result<Vec<u8>, Bad> {
        self.input.text().map(<[u8]>::to_vec)
    }

    fn time(&mut self) -> Result<FileTime, Bad> {
        let time = FileTime { seconds: self.input.signed()?, nanos: self.input.small()? };
        if time.nanos < 1_000_000_000 { Ok(time) } else { Err("a time has too many nanoseconds") }
    }

    fn options(&mut self, entry: &mut Entry) -> Result<(), Bad> {
        let flags = self.input.byte()?;
        if flags & !(HAS_XATTRS | HAS_CHANGE | HAS_NOTE) != 0 {
            return Err("an entry has unknown flags");
        }
        if flags & HAS_XATTRS != 0 {
            for _ in 0..self.input.count(2)? {
                entry.xattrs.push((self.text()?, self.text()?));
            }
        }
        if flags & HAS_CHANGE != 0 {
            entry.change = Some(ChangeMark { ctime: self.time()?, inode: self.input.number()? });
        }
        if flags & HAS_NOTE != 0 {
            entry.note = Some(String::from_utf8(self.text()?).map_err(|_| "a note is not text")?);
        }
        Ok(())
    }

    fn file(&mut self) -> Result<EntryKind, Bad> {
        let size = self.input.number()?;
        let count = self.input.count(36)?;
        let mut extents = Vec::with_capacity(count);
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
        let offset = previous_end.checked_add(self.input.number()?).ok_or(far)?;
        let len = self.input.small()?;
        offset.checked_add(u64::from(len)).ok_or(far)?;
        let chunk = ChunkId(self.input.array()?);
        let pack = self.pack()?;
        let frame_offset = self.near(self.last.frame_offset)?;
        if frame_offset != self.last.frame_offset {
            self.last.frame_len = self.input.small()?;
            self.last.end_in_frame = 0;
        }
        self.last.frame_offset = frame_offset;
        let offset_in_frame = self.near(self.last.end_in_frame)?;
        self.last.end_in_frame = offset_in_frame.wrapping_add(len);
        Ok(Extent { offset, len, chunk, pack, frame_offset, frame_len: self.last.frame_len, offset_in_frame })
    }

    fn near(&mut self, base: u32) -> Result<u32, Bad> {
        let value = i64::from(base).checked_add(self.input.signed()?);
        value.and_then(|value| u32::try_from(value).ok()).ok_or("a place is out of range")
    }

    fn pack(&mut self) -> Result<ObjectId, Bad> {
        let number = self.input.number()?;
        let next = self.packs.len() as u64;
        if number == next {
            self.packs.push(ObjectId(self.input.array()?));
        }
        let id = *self.packs.get(number as usize).ok_or("a pack has no number")?;
        if number != self.last.pack || number == next {
            *self.last = Place { pack: number, ..Place::default() };
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

    fn paths() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(1u8.., 0..60).prop_filter("stays inside", |path| is_inside(path))
    }

    fn kinds() -> impl Strategy<Value = EntryKind> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            Just(EntryKind::Directory),
            Just(EntryKind::Fifo),
            bytes().prop_map(|target| EntryKind::Symlink { target }),
            paths().prop_map(|target| EntryKind::HardLink { target }),
            (extents(), 0u64..1 << 30).prop_map(|(extents, tail)| {
                let end = extents.last().map_or(0, |e| e.offset + u64::from(e.len));
                EntryKind::File { size: end + tail, extents }
            }),
        ]
    }

    prop_compose! {
        fn entries()(
            path in paths(),
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
