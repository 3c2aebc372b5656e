//! Finding what the archive holds, by names alone.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_store::Key;

use super::{
    MAX_OBJECT, WalHeader, WalListing, WalObject, WalObjectKind, WalReader, content::Range, writer::check_cut,
};
use crate::{
    blocking::blocking,
    document::DocumentKind,
    envelope::{self, Head},
    error::{Error, Result},
    repository::InstanceRepo,
    seal::Identity,
};

/// Bytes of an object that hold its header as a rule.
const HEAD: u64 = 4 << 10;

/// The WAL that is held beyond the recovery points' own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WalArchive {
    pub(super) repo: InstanceRepo,
}

/// What header, sealing and bytes that do not compress may add to an object's WAL.
const OVERHEAD: u64 = 8 << 20;

/// An object, or a name in its folder that is none of an object's.
pub(crate) type Named = std::result::Result<WalObject, Key>;

impl InstanceRepo {
    /// The WAL that is held beyond the recovery points' own; nothing is read yet.
    pub fn wal_archive(&self) -> WalArchive {
        WalArchive { repo: self.clone() }
    }
}

impl WalArchive {
    /// The streams that were ever begun, as (system id, timeline), by the names of their timeline documents; sorted.
    pub async fn streams(&self) -> Result<Vec<(u64, u32)>> {
        let documents = self.repo.list_documents(DocumentKind::Timeline).await?;
        let streams = documents.iter().map(|found| (found.position.system_id, found.position.timeline));
        Ok(streams.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// What a stream holds from `from` on: all segments, and slices where no segment is.
    pub async fn list(&self, system_id: u64, timeline: u32, from: Lsn) -> Result<WalListing> {
        // An object that begins before `from` and holds it begins in the same aligned piece of the largest size.
        let base = Lsn(from.0 - from.0 % MAX_OBJECT);
        let stream = (system_id, timeline);
        let mut segments = self.names(WalObjectKind::Segment, stream, base);
        let (mut objects, mut reached) = (Vec::new(), base);
        while let Some(named) = segments.try_next().await? {
            let Ok(segment) = named else { continue };
            if segment.first > reached && segment.first > from {
                self.list_hole(stream, reached, Some(segment.first), from, &mut objects).await?;
            }
            reached = reached.max(segment.last);
            if segment.last > from {
                objects.push(segment);
            }
        }
        self.list_hole(stream, reached, None, from, &mut objects).await?;
        Ok(WalListing::new(objects))
    }

    /// Slices that begin in the hole and reach beyond `from`. A hole begins at a segment's end, and no slice reaches over
    /// one, so that nothing that begins before the hole is missed.
    async fn list_hole(
        &self,
        stream: (u64, u32),
        first: Lsn,
        end: Option<Lsn>,
        from: Lsn,
        objects: &mut Vec<WalObject>,
    ) -> Result<()> {
        let mut slices = self.names(WalObjectKind::Slice, stream, first);
        while let Some(named) = slices.try_next().await? {
            match named {
                Ok(slice) if end.is_some_and(|end| slice.first >= end) => break,
                Ok(slice) if slice.last > from => objects.push(slice),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of one kind whose first position is `from` or later, in order.
    pub(crate) fn names(
        &self,
        kind: WalObjectKind,
        (system_id, timeline): (u64, u32),
        from: Lsn,
    ) -> BoxStream<'static, Result<Named>> {
        let layout = self.repo.layout().clone();
        let folder = layout.wal_folder(kind, system_id, timeline);
        let found = self.repo.store().list_from(&folder, &format!("{folder}{:016x}", from.0));
        found.map_ok(move |info| WalObject::listed(&layout, info)).map_err(Error::from).boxed()
    }

    /// All other objects that hold some of the same range, slices under a segment included; in the order of their first
    /// positions. What to read when the object itself is damaged.
    pub async fn replacements(&self, object: &WalObject) -> Result<Vec<WalObject>> {
        let stream = (object.system_id, object.timeline);
        let base = match object.kind {
            WalObjectKind::Segment => object.first,
            WalObjectKind::Slice => Lsn(object.first.0 - object.first.0 % MAX_OBJECT),
        };
        let mut found = Vec::new();
        for kind in [WalObjectKind::Segment, WalObjectKind::Slice] {
            let mut names = self.names(kind, stream, base);
            while let Some(named) = names.try_next().await? {
                match named {
                    Ok(other) if other.first >= object.last => break,
                    Ok(other) if other.last > object.first && other.key != object.key => found.push(other),
                    _ => {}
                }
            }
        }
        found.sort_by_key(|object| (object.first, object.last));
        Ok(found)
    }

    /// Reads an object's header alone, and verifies its signature and that it belongs where it lies.
    pub async fn head(&self, object: &WalObject, trusted: &[PublicKey]) -> Result<WalHeader> {
        let mut wanted = HEAD.min(object.len);
        loop {
            let start = self.repo.store().get(&object.key, object.version.as_ref(), Some(0..wanted)).await?;
            let trust = self.repo.trust(trusted, object.modified);
            match envelope::decode_head(&object.key, &start, object.len, &trust)? {
                Head::Header(header) => return self.fitting(header, object),
                Head::Needs(more) => wanted = more,
            }
        }
    }

    /// Reads a whole object, and verifies what can be verified without opening it.
    pub(crate) async fn verify(&self, object: &WalObject, trusted: &[PublicKey]) -> Result<()> {
        let file = self.fetch(object).await?;
        let (archive, object, trusted) = (self.clone(), object.clone(), trusted.to_vec());
        let verifying = move || {
            let trust = archive.repo.trust(&trusted, object.modified);
            let opened = envelope::decode::<WalHeader>(&object.key, &file, &trust)?;
            archive.fitting(opened.header, &object).map(drop)
        };
        blocking("verifying WAL", verifying).await
    }

    /// The object's bytes, of bounded length.
    pub(super) async fn fetch(&self, object: &WalObject) -> Result<Bytes> {
        if object.len > MAX_OBJECT + OVERHEAD {
            return Err(Error::damaged(&object.key, format!("it has {} bytes; no WAL object has so many", object.len)));
        }
        Ok(self.repo.store().get(&object.key, object.version.as_ref(), None).await?)
    }

    /// Reads objects with these keys.
    pub fn reader(&self, trusted: Vec<PublicKey>, identities: Vec<Identity>) -> WalReader {
        WalReader::new(self.clone(), trusted, identities)
    }

    /// The header, if it is the one of the object of this name.
    pub(crate) fn fitting(&self, header: WalHeader, object: &WalObject) -> Result<WalHeader> {
        let repo = &self.repo;
        let untrusted = |reason: String| Error::Untrusted { object: object.key.to_string(), reason };
        if header.repository != repo.repository()
            || (&header.tenant, &header.instance) != (repo.tenant(), repo.instance())
        {
            let WalHeader { tenant, instance, repository, .. } = &header;
            return Err(untrusted(format!("it is WAL of {tenant}/{instance} in repository {repository}")));
        }
        let asked = (object.kind, object.system_id, object.timeline, object.first, object.last);
        let WalHeader { kind, system_id, timeline, first, last, .. } = header;
        if repo.layout().wal_name(&object.key) != Some(header.name())
            || asked != (kind, system_id, timeline, first, last)
        {
            let of = format!("a {kind} {first} to {last} on timeline {timeline} of system {system_id}");
            return Err(untrusted(format!("its header is that of {of}: it was renamed or copied")));
        }
        let range = Range { system_id, timeline, first, last };
        check_cut(kind, header.segment_size, &range).map_err(|e| untrusted(e.to_string()))?;
        Ok(header)
    }
}
