//! The archive of WAL, documents and indexes: each object vouches for itself.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use lifeboat_model::{id::PointId, lsn::Lsn};
use lifeboat_store::ObjectInfo;

use super::{
    Copying, Side, WalFrom, WalReached,
    transfer::{Check, Identity, Item, Sent},
};
use crate::{
    document::{DocumentKind, DocumentRef},
    envelope,
    error::Result,
    locks::Keep,
    wal::{MAX_OBJECT, WalHeader, WalObject, WalObjectKind},
};

/// The longest objects: the WAL of one, and what header, sealing and bytes that do not compress may add to it.
const LONGEST_WAL: u64 = MAX_OBJECT + (8 << 20);
const LONGEST_DOCUMENT: u64 = 256 << 20;
const LONGEST_INDEX: u64 = 64 << 20;

impl Copying<'_> {
    /// Documents first: that of a timeline is there before the first WAL of its stream.
    pub(super) async fn archive(&self) -> Result<()> {
        let base = match self.options.wal {
            WalFrom::Nothing => return Ok(()),
            WalFrom::Beginning => None,
            WalFrom::Point(id) => self.start_of(id).await?,
        };
        for kind in DocumentKind::ALL {
            self.documents(kind).await?;
        }
        let mut reached = Vec::new();
        for (system_id, timeline) in self.from.wal_archive().streams().await? {
            let from = base.filter(|(system, _)| *system == system_id).map_or(Lsn(0), |(_, start)| start);
            reached.extend(self.stream(system_id, timeline, from).await?);
        }
        self.state().report.wal = reached;
        Ok(())
    }

    /// The cluster of a point, and where its WAL begins.
    async fn start_of(&self, id: PointId) -> Result<Option<(u64, Lsn)>> {
        let points = self.from.list_points().await?;
        let Some(reference) = points.iter().find(|point| point.id == id) else { return Ok(None) };
        match self.from.read_point(reference, self.trusted).await {
            Ok(point) => Ok(point.header.wal.map(|wal| (wal.system_id, wal.start))),
            Err(error) if super::transfer::blame(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn documents(&self, kind: DocumentKind) -> Result<()> {
        let layout = self.from.layout();
        let mut listed = self.from.store().list(&layout.prefix(kind.folder()));
        let mut found = Vec::new();
        while let Some(ObjectInfo { key, len, version, modified }) = listed.try_next().await? {
            if let Some((position, id)) = layout.document_parts(kind, &key) {
                found.push((DocumentRef { kind, position, id, key, version, modified }, len));
            }
        }
        let mut new = 0;
        let jobs = found.into_iter().map(|(reference, len)| self.document(reference, len));
        self.each(jobs, |sent| {
            new += u64::from(*sent == Sent::New);
            true
        })
        .await?;
        self.state().report.documents += new;
        Ok(())
    }

    fn document(&self, reference: DocumentRef, len: u64) -> BoxFuture<'_, Result<Sent>> {
        let (repo, trusted) = (self.from.clone(), self.trusted.to_vec());
        let (key, version) = (reference.key.clone(), reference.version.clone());
        let identity = Identity::Source(reference.modified);
        let check: Check = Arc::new(move |file| repo.verify_document_file(&reference, file, &trusted));
        self.kept(Item { key, version, len, retention: None, identity }, LONGEST_DOCUMENT, Keep::Document, check)
    }

    /// Segments, and slices where no segment is. A damaged segment is made up for by the slices under it.
    async fn stream(&self, system_id: u64, timeline: u32, from: Lsn) -> Result<Option<WalReached>> {
        let listing = self.from.wal_archive().list(system_id, timeline, from).await?;
        let (mut new, mut copied) = (0, Vec::new());
        for objects in listing.objects().chunks(1024) {
            let mut bad = Vec::new();
            let mut order = Vec::new();
            let jobs = objects.iter().map(|object| self.wal_object(object));
            // What is bad is found again by what is known of it: jobs end in any order.
            self.each(jobs, |sent| {
                new += u64::from(*sent == Sent::New);
                true
            })
            .await?;
            for object in objects {
                match self.is_held(object) {
                    true => order.push(object.clone()),
                    false => bad.push(object.clone()),
                }
            }
            copied.extend(order);
            for object in bad {
                copied.extend(self.replacements(&object, &mut new).await?);
            }
        }
        self.state().report.wal_objects += new;
        let end = |objects: &[WalObject]| objects.iter().map(|object| object.last).max();
        let Some(source) = end(listing.objects()) else { return Ok(None) };
        let copy = end(&copied).unwrap_or(from.min(source));
        Ok(Some(WalReached { system_id, timeline, source, copy }))
    }

    async fn replacements(&self, object: &WalObject, new: &mut u64) -> Result<Vec<WalObject>> {
        let others = self.from.wal_archive().replacements(object).await?;
        let jobs = others.iter().map(|other| self.wal_object(other));
        self.each(jobs, |sent| {
            *new += u64::from(*sent == Sent::New);
            true
        })
        .await?;
        Ok(others.into_iter().filter(|other| self.is_held(other)).collect())
    }

    fn is_held(&self, object: &WalObject) -> bool {
        let there = self.present.get(&object.key).is_some_and(|held| held.len == object.len);
        there && !self.bad_in_copy(&object.key)
    }

    fn wal_object(&self, object: &WalObject) -> BoxFuture<'_, Result<Sent>> {
        let (archive, trusted, named) = (self.from.wal_archive(), self.trusted.to_vec(), object.clone());
        let keep = match object.kind {
            WalObjectKind::Segment => Keep::Segment,
            WalObjectKind::Slice => Keep::Slice,
        };
        let (key, version, len) = (object.key.clone(), object.version.clone(), object.len);
        let (repo, identity) = (self.from.clone(), Identity::Source(object.modified));
        let check: Check = Arc::new(move |file: &Bytes| {
            let opened = envelope::decode::<WalHeader>(&named.key, file, &repo.trust(&trusted, named.modified))?;
            archive.fitting(opened.header, &named).map(drop)
        });
        self.kept(Item { key, version, len, retention: None, identity }, LONGEST_WAL, keep, check)
    }

    /// Indexes serve who goes on writing with the copy. Those of earlier releases are not signed, and stay behind.
    pub(super) async fn indexes(&self) -> Result<()> {
        let listed: Vec<ObjectInfo> = self.from.store().list(&self.from.layout().prefix("index")).try_collect().await?;
        let jobs = listed.into_iter().map(|info| self.index(info));
        self.each(jobs, |_| true).await
    }

    fn index(&self, info: ObjectInfo) -> BoxFuture<'_, Result<Sent>> {
        async move {
            let ObjectInfo { key, len, version, modified } = info.clone();
            let identity = Identity::Source(modified);
            let item = Item { key, version, len, retention: None, identity };
            if self.present.holds(&item.key, &item.identity()) {
                return Ok(Sent::There);
            }
            match self.from.index_header(&info, self.trusted).await {
                Ok(None) => {
                    self.state().report.unsigned_indexes += 1;
                    return Ok(Sent::Bad);
                }
                // What is wrong with it is noted when it is read whole.
                Ok(Some(_)) => {}
                Err(error) if super::transfer::blame(&error).is_some() => {}
                Err(error) => return Err(error),
            }
            let (repo, trusted, named) = (self.from.clone(), self.trusted.to_vec(), info.clone());
            let check: Check = Arc::new(move |file| repo.verify_index_file(&named, file, &trusted));
            self.kept(item, LONGEST_INDEX, Keep::Point, check).await
        }
        .boxed()
    }

    /// Sends what vouches for itself, if it is no longer than such an object can be: nothing but its name has been looked
    /// at, and a stranger may have put it there. What is there keeps its lock: the renewal of locks sees to that.
    fn kept(&self, item: Item, longest: u64, keep: Keep, check: Check) -> BoxFuture<'_, Result<Sent>> {
        async move {
            if item.len > longest {
                let what = format!("it has {} bytes; no object of its kind has so many", item.len);
                self.problem(Side::Source, &item.key, &what, None);
                return Ok(Sent::Bad);
            }
            let there = self.present.get(&item.key).is_some();
            let retention = self.to.locks().filter(|_| !there).map(|locks| locks.until(keep));
            self.send(Item { retention, ..item }, check).await
        }
        .boxed()
    }
}
