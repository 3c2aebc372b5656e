//! Writes a tree as a row of sealed objects of bounded size.

use std::io::Write as _;

use lifeboat_model::id::ObjectId;

use super::{Entry, EntryKind, TreeKind, codec::Encoder, cursor};
use crate::{
    error::Result,
    seal::{Recipient, SealedBytes, Sealer},
    writer::TreeStats,
};

/// Records after which an object ends.
const TARGET: u64 = 8 << 20;
/// Records gathered before they are compressed.
const GATHER: usize = 64 << 10;
const LEVEL: i32 = 3;

/// A tree that is being written.
pub(crate) struct TreeBuilder {
    pub kind: TreeKind,
    pub stats: TreeStats,
    recipients: Vec<Recipient>,
    encoder: Encoder,
    open: Option<Open>,
}

struct Open {
    id: ObjectId,
    zstd: zstd::Encoder<'static, Sealer>,
    records: u64,
}

/// A finished object of a tree, ready to be stored.
pub(crate) struct FinishedTreeObject {
    pub id: ObjectId,
    pub sealed: SealedBytes,
}

impl TreeBuilder {
    pub fn new(kind: TreeKind, recipients: &[Recipient]) -> Self {
        let stats = TreeStats::default();
        Self { kind, stats, recipients: recipients.to_vec(), encoder: Encoder::default(), open: None }
    }

    /// Appends an entry; gives an object where one is full.
    pub fn push(&mut self, entry: &Entry) -> Result<Option<FinishedTreeObject>> {
        self.stats.entries += 1;
        if let EntryKind::File { size, .. } = entry.kind {
            self.stats.files += 1;
            self.stats.bytes += size;
        }
        self.encoder.entry(entry);
        if self.encoder.out().len() < GATHER {
            return Ok(None);
        }
        let records = std::mem::take(self.encoder.out()).into_bytes();
        let open = self.open()?;
        open.write(&records);
        if open.records >= TARGET { self.end_object() } else { Ok(None) }
    }

    fn open(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            let mut sealer = Sealer::new(&self.recipients, Vec::with_capacity(1 << 20))?;
            sealer.write_all(cursor::MAGIC).expect("a write into memory cannot fail");
            let zstd = zstd::Encoder::new(sealer, LEVEL).expect("level 3 is a level");
            self.open = Some(Open { id: ObjectId(crate::random::bytes()?), zstd, records: 0 });
        }
        Ok(self.open.as_mut().expect("just opened"))
    }

    fn end_object(&mut self) -> Result<Option<FinishedTreeObject>> {
        let records = self.encoder.end();
        self.open()?.write(&records);
        let Open { id, zstd, .. } = self.open.take().expect("just written to");
        let sealer = zstd.finish().expect("a write into memory cannot fail");
        Ok(Some(FinishedTreeObject { id, sealed: sealer.finish() }))
    }

    /// Ends the tree; gives its last object, where anything is left.
    pub fn finish(&mut self) -> Result<Option<FinishedTreeObject>> {
        if self.open.is_none() && self.encoder.is_empty() { Ok(None) } else { self.end_object() }
    }
}

impl Open {
    fn write(&mut self, records: &[u8]) {
        self.zstd.write_all(records).expect("a write into memory cannot fail");
        self.records += records.len() as u64;
    }
}
