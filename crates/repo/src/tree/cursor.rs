//! Reads a stored tree entry by entry: one object in memory at a time.

use std::{collections::VecDeque, io::Read as _};

use bytes::Bytes;

use super::{Decoder, Entry, TreeKind};
use crate::{
    error::{Error, Result},
    point::{ObjectRef, Point},
    repository::InstanceRepo,
    seal::{self, Identity},
};

/// What a tree object's plaintext starts with; a zstd frame of the records follows.
pub(crate) const MAGIC: &[u8; 8] = b"LBTREE01";
/// A tree object of the writer has about 8 MiB of records; an entry of a huge file may lengthen it.
const MAX_RECORDS: u64 = 2 << 30;

/// A stream of a tree's entries, in stored order.
pub struct TreeCursor {
    repo: InstanceRepo,
    identities: Vec<Identity>,
    needed: String,
    objects: VecDeque<ObjectRef>,
    open: Option<(ObjectRef, Decoder)>,
    keep: Option<Keep>,
}

/// Which entries a cursor gives.
type Keep = Box<dyn Fn(&Entry) -> bool + Send + Sync>;

impl std::fmt::Debug for TreeCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeCursor").field("objects", &self.objects.len()).finish_non_exhaustive()
    }
}

impl TreeCursor {
    /// A cursor over the point's tree of this kind; none where the point has no such tree.
    pub(crate) fn new(
        repo: InstanceRepo,
        point: &Point,
        kind: TreeKind,
        identities: &[Identity],
    ) -> Result<Option<Self>> {
        let Some(tree) = point.header.tree(kind) else { return Ok(None) };
        let objects = tree.objects.iter().map(|key| point.object(key).cloned()).collect::<Result<_>>()?;
        let needed = format!("a recovery identity of {}", point.header.recipients.join(" or "));
        Ok(Some(Self { repo, identities: identities.to_vec(), needed, objects, open: None, keep: None }))
    }

    /// The same cursor, passing over entries that `keep` refuses.
    pub(crate) fn keeping(self, keep: impl Fn(&Entry) -> bool + Send + Sync + 'static) -> Self {
        Self { keep: Some(Box::new(keep)), ..self }
    }

    /// The next entry; none at the end. After an error the next call goes on with the next object of the tree, so
    /// that the entries of a damaged object are lost and no others.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some((object, decoder)) = &mut self.open {
                match decoder.next() {
                    Ok(Some(entry)) if self.keep.as_ref().is_none_or(|keep| keep(&entry)) => return Ok(Some(entry)),
                    Ok(Some(_)) => continue,
                    Ok(None) => self.open = None,
                    Err(reason) => {
                        let error = Error::damaged(&object.key, reason);
                        self.open = None;
                        return Err(error);
                    }
                }
            }
            let Some(object) = self.objects.pop_front() else { return Ok(None) };
            let records = self.fetch(&object).await?;
            self.open = Some((object, Decoder::new(records)));
        }
    }

    async fn fetch(&self, object: &ObjectRef) -> Result<Vec<u8>> {
        let file = self.repo.store().get(&object.key, object.version.as_ref(), None).await?;
        let (object, needed, identities) = (object.clone(), self.needed.clone(), self.identities.clone());
        let opened = tokio::task::spawn_blocking(move || {
            object.check(&file)?;
            open(&file, &identities).map_err(|e| e.of(&object.key, &needed))
        });
        opened.await.map_err(|e| Error::Io { what: "opening a tree".into(), source: std::io::Error::other(e) })?
    }
}

/// Opens a tree object and gives its records.
pub(crate) fn open(file: &Bytes, identities: &[Identity]) -> std::result::Result<Vec<u8>, seal::OpenError> {
    let bad = |e: std::io::Error| seal::OpenError::Damaged(e.to_string());
    let mut plain = seal::open(identities, &file[..])?;
    let mut magic = [0; 8];
    plain.read_exact(&mut magic).map_err(bad)?;
    if magic != *MAGIC {
        return Err(seal::OpenError::Damaged("it is no tree of version 1".into()));
    }
    let mut records = Vec::new();
    let limited = zstd::Decoder::new(plain).map_err(bad)?;
    limited.take(MAX_RECORDS).read_to_end(&mut records).map_err(bad)?;
    Ok(records)
}
