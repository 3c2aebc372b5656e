//! Moving to other recipients: points, WAL and documents are opened and written again into a repository of its own.
//!
//! What is locked cannot be rewritten, so new keys mean new objects. They go through the same writer as a backup: sealed to
//! the recipients of today, signed by the key of today. Trees, times, WAL and details stay; ids, chunk keys and packs are
//! new. A point is damaged or complete: one that does not open whole is not written.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use lifeboat_model::{
    id::{PointId, RepositoryId, Sha256Digest},
    lsn::Lsn,
    signature::PublicKey,
};
use lifeboat_store::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CopyProblem, Side, content::Content, transfer::blame};
use crate::{
    document::{DocumentKeys, DocumentKind, DocumentRef},
    error::{Error, Result},
    point::{Point, PointDetails, PointRef},
    progress::{Progress, Silent},
    reader::{Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
    tree::{Entry, EntryKind, TreeKind},
    wal::{WalObject, WalObjectKind, WalWriter},
    writer::{Chunking, Finish, PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};

/// Where a re-encrypted point came from, in its sealed details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The repository.
    pub repository: RepositoryId,
    /// The point.
    pub point: PointId,
    /// SHA-256 of its object.
    pub sha256: Sha256Digest,
}

impl Origin {
    /// The name among a point's facts.
    pub const FACT: &str = "reencrypted_from";

    /// Where a point came from, if it was re-encrypted.
    pub fn of(details: &PointDetails) -> Option<Origin> {
        details.facts.get(Self::FACT).and_then(|fact| serde_json::from_value(fact.clone()).ok())
    }
}

/// Opens one repository and writes another.
pub struct Reencrypt<'a> {
    /// Read from.
    pub from: &'a InstanceRepo,
    /// Recovery identities that open it.
    pub identities: &'a [Identity],
    /// Whose points count.
    pub trusted: &'a [PublicKey],
    /// Written to: an instance of a repository of its own.
    pub to: &'a InstanceRepo,
    /// Whom to seal to, and what signs.
    pub keys: &'a WriterKeys,
    /// How to write. The clock is not used for points: they keep their times.
    pub options: &'a WriterOptions,
    /// Follows the run.
    pub progress: Arc<dyn Progress>,
}

impl fmt::Debug for Reencrypt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reencrypt").field("from", &self.from.repository()).field("to", &self.to.repository()).finish()
    }
}

/// A point, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The point it was made from.
    pub from: PointId,
    /// The new one.
    pub to: PointId,
    /// Its key.
    pub key: Key,
    /// SHA-256 of its object.
    pub sha256: Sha256Digest,
    /// When it was finished: the same on both sides.
    pub finished: Timestamp,
    /// It was there already.
    pub there: bool,
}

/// What was written beside points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveMoved {
    /// Segments and slices.
    pub wal_objects: u64,
    /// Documents.
    pub documents: u64,
    /// Objects that were there.
    pub there: u64,
    /// What does not open, and was not written.
    pub problems: Vec<CopyProblem>,
}

impl Reencrypt<'_> {
    /// Writes a point again; to be called for the oldest first, as points are written in the order of their times.
    pub async fn point(&self, reference: &PointRef) -> Result<Moved> {
        let point = self.from.read_point(reference, self.trusted).await?;
        if let Some(there) = self.there(&point).await? {
            return Ok(moved(&point, &there, true));
        }
        let finished = point.header.finished;
        let options = WriterOptions { clock: Arc::new(move || finished), ..self.options.clone() };
        let mut writer = Writer::begin(self.to.clone(), self.keys.clone(), options, self.progress.clone()).await?;
        match self.fill(&mut writer, &point).await {
            Ok(draft) => Ok(moved(&point, &writer.commit(draft).await?, false)),
            Err(error) => {
                // The first error is the one that counts.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    /// The point that was made from this one. Times are kept to the nanosecond, and no two points have the same.
    async fn there(&self, point: &Point) -> Result<Option<Point>> {
        let own = [self.keys.signing.public()];
        let trusted = [&own[..], &self.keys.trusted].concat();
        for reference in self.to.list_points().await? {
            if reference.time.as_second() != point.header.finished.as_second() {
                continue;
            }
            match self.to.read_point(&reference, &trusted).await {
                Ok(found) if same_times(&found, point) => return Ok(Some(found)),
                Ok(_) => {}
                Err(error) if blame(&error).is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn fill(&self, writer: &mut Writer, point: &Point) -> Result<PointDraft> {
        let mut details = point.open_details(self.identities)?;
        let header = &point.header;
        let origin = Origin { repository: header.repository, point: header.point, sha256: point.sha256 };
        let fact = serde_json::to_value(&origin).map_err(|e| Error::usage(format!("the origin of a point: {e}")))?;
        details.facts.insert(Origin::FACT.to_owned(), fact);
        let options = ReaderOptions::default();
        let reader = Reader::open(self.from.clone(), point, self.identities, options, Arc::new(Silent)).await?;
        for tree in &header.trees {
            self.tree(writer, &reader, point, tree.kind).await?;
        }
        for slice in reader.wal_slices() {
            let bytes = reader.read_wal(&slice).await?;
            writer.put_wal(slice.system_id, slice.timeline, slice.first, bytes).await?;
        }
        let wal = header.wal.as_ref().map(|wal| WalSpan {
            system_id: wal.system_id,
            timeline: wal.timeline,
            start: wal.start,
            end: wal.end,
        });
        Ok(PointDraft { started: header.started, details, wal })
    }

    async fn tree(&self, writer: &mut Writer, reader: &Reader, point: &Point, kind: TreeKind) -> Result<()> {
        let Some(mut cursor) = reader.entries(kind)? else { return Ok(()) };
        let mut content = Content::new(self.from, point, reader.chunk_key(), self.identities);
        writer.begin_tree(kind).await?;
        while let Some(entry) = cursor.next().await? {
            match &entry.kind {
                EntryKind::File { .. } => file(writer, &mut content, entry, kind).await?,
                _ => writer.entry(entry).await?,
            }
        }
        writer.end_tree().await.map(drop)
    }

    /// Writes documents and streamed WAL again, from a position of a cluster on (all of other clusters).
    pub async fn archive(&self, base: Option<(u64, Lsn)>) -> Result<ArchiveMoved> {
        let mut done = ArchiveMoved::default();
        for kind in DocumentKind::ALL {
            self.documents(kind, &mut done).await?;
        }
        for (system_id, timeline) in self.from.wal_archive().streams().await? {
            let from = base.filter(|(system, _)| *system == system_id).map_or(Lsn(0), |(_, start)| start);
            self.stream(system_id, timeline, from, &mut done).await?;
        }
        Ok(done)
    }

    async fn documents(&self, kind: DocumentKind, done: &mut ArchiveMoved) -> Result<()> {
        let recipients = self.keys.recipients.iter().cloned().chain([self.keys.host.recipient()]).collect();
        let keys = DocumentKeys { recipients, signing: self.keys.signing.clone() };
        // Of several at one position as many are there as were written so far, in the same order.
        let mut there: Vec<_> = self.to.list_documents(kind).await?.into_iter().map(|found| found.position).collect();
        for reference in self.from.list_documents(kind).await? {
            if let Some(at) = there.iter().position(|position| *position == reference.position) {
                there.swap_remove(at);
                done.there += 1;
                continue;
            }
            match self.document(kind, &reference, &keys).await {
                Ok(()) => done.documents += 1,
                Err(error) => done.blame(&reference.key, error)?,
            }
        }
        Ok(())
    }

    async fn document(&self, kind: DocumentKind, reference: &DocumentRef, keys: &DocumentKeys) -> Result<()> {
        let read = self.from.read_document::<Value>(reference, self.trusted, self.identities).await?;
        self.to.put_document(kind, reference.position, &read.details, keys, read.created).await.map(drop)
    }

    async fn stream(&self, system_id: u64, timeline: u32, from: Lsn, done: &mut ArchiveMoved) -> Result<()> {
        let ranges = |objects: &[WalObject]| -> BTreeSet<(WalObjectKind, Lsn, Lsn)> {
            objects.iter().map(|object| (object.kind, object.first, object.last)).collect()
        };
        let there = ranges(self.to.wal_archive().list(system_id, timeline, from).await?.objects());
        let (recipients, signing) = (self.keys.recipients.clone(), self.keys.signing.clone());
        let writer = WalWriter::new(self.to.clone(), recipients, signing, self.options.level);
        let listing = self.from.wal_archive().list(system_id, timeline, from).await?;
        for object in listing.objects() {
            if there.contains(&(object.kind, object.first, object.last)) {
                done.there += 1;
                continue;
            }
            match self.wal_object(&writer, object).await {
                Ok(()) => done.wal_objects += 1,
                Err(error) => done.blame(&object.key, error)?,
            }
        }
        Ok(())
    }

    /// A damaged segment is made up for by the slices under it, as in a restore.
    async fn wal_object(&self, writer: &WalWriter, object: &WalObject) -> Result<()> {
        let archive = self.from.wal_archive();
        let header = archive.head(object, self.trusted).await?;
        let reader = archive.reader(self.trusted.to_vec(), self.identities.to_vec());
        let bytes = reader.read_or_replace(object).await?.bytes;
        let (kind, size, commits) = (object.kind, header.segment_size, header.commits);
        let (system_id, timeline) = (object.system_id, object.timeline);
        writer.put(kind, system_id, timeline, size, object.first, bytes, commits).await.map(drop)
    }
}

impl ArchiveMoved {
    /// Notes what is wrong with an object; anything else ends the run.
    fn blame(&mut self, key: &Key, error: Error) -> Result<()> {
        let Some(what) = blame(&error) else { return Err(error) };
        self.problems.push(CopyProblem { side: Side::Source, key: key.clone(), what, points: Vec::new() });
        Ok(())
    }
}

fn same_times(a: &Point, b: &Point) -> bool {
    (a.header.started, a.header.finished) == (b.header.started, b.header.finished)
}

fn moved(from: &Point, to: &Point, there: bool) -> Moved {
    let (key, sha256, finished) = (to.key.clone(), to.sha256, to.header.finished);
    Moved { from: from.header.point, to: to.header.point, key, sha256, finished, there }
}

async fn file(writer: &mut Writer, content: &mut Content, entry: Entry, kind: TreeKind) -> Result<()> {
    let chunking = match kind {
        TreeKind::Database => Chunking::RELATION,
        _ => Chunking::DOCUMENT,
    };
    let (size, extents) = (entry.size(), entry.extents().to_vec());
    let finish = Finish { size: Some(size), note: entry.note.clone(), ..Finish::default() };
    writer.begin_file(entry, chunking).await?;
    let mut position = 0;
    for extent in &extents {
        if extent.offset > position {
            writer.hole(extent.offset - position).await?;
        }
        writer.data_from(&content.chunk(extent).await?).await?;
        position = extent.offset + u64::from(extent.len);
    }
    writer.end_file(finish).await
}
