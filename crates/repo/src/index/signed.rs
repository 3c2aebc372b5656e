//! Index objects are signed: an age file says nothing of who sealed it, and whoever knows the public recipients could
//! send the next backup to places that do not hold what they should.
//!
//! Those of earlier releases are not signed. They are read for packs that a signed point vouches for alone, and only if
//! the store received them before the first signed one: nobody writes unsigned ones after that but a forger.

use bytes::Bytes;
use lifeboat_model::{
    id::{Instance, ObjectId, RepositoryId, Tenant},
    signature::{PublicKey, SigningKey},
};
use lifeboat_store::ObjectInfo;
use serde::{Deserialize, Serialize};

use super::object::{self, IndexContent, IndexedPack};
use crate::{
    chunk::ChunkKey,
    envelope::{self, Envelope, FORMAT, Head, Header, SealedPart},
    error::{Error, Result},
    repository::InstanceRepo,
    seal::{self, Identity, OpenError, Recipient},
    trust::Trust,
};

/// What every age file starts with, and so the index objects of earlier releases.
const AGE: &[u8] = b"age-encryption.org/v1";
/// Bytes of an object that hold its header as a rule.
const HEAD: u64 = 16 << 10;
/// An index object of this writer has a few MiB.
const LONGEST: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Index,
}

/// What everybody may read of an index object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexHeader {
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    kind: Kind,
    pub id: ObjectId,
    repository: RepositoryId,
    tenant: Tenant,
    instance: Instance,
    /// The object with the key of its chunk ids.
    pub chunk_key: ObjectId,
    /// The packs that it tells of.
    pub packs: Vec<ObjectId>,
    /// The recovery recipients that the packs are sealed to.
    pub recipients: Vec<String>,
    sealed: SealedPart,
}

impl Header for IndexHeader {
    const ENVELOPE: Envelope = Envelope { magic: b"LBINDOB1", domain: b"lifeboat index v1\n", longest: 1 << 20 };

    fn sealed(&self) -> &SealedPart {
        &self.sealed
    }
}

/// An index object that may be used.
pub(crate) enum IndexObject {
    Signed(IndexContent),
    /// Of an earlier release.
    Unsigned(IndexContent),
}

/// Who can read an index object, and who vouches for it.
pub(crate) struct IndexKeys<'a> {
    /// The recovery recipients that the packs are sealed to.
    pub recipients: &'a [Recipient],
    /// They, and the host.
    pub sealed_to: &'a [Recipient],
    pub signing: &'a SigningKey,
}

/// A whole index object, under the key of `id`.
pub(crate) fn seal(
    repo: &InstanceRepo,
    id: ObjectId,
    chunk_key: &ChunkKey,
    packs: &[IndexedPack],
    keys: &IndexKeys<'_>,
) -> Result<Bytes> {
    let recipients: Vec<String> = keys.recipients.iter().map(ToString::to_string).collect();
    let plain = object::encode(chunk_key.id, &recipients, packs);
    let plain = plain.map_err(|source| Error::Io { what: "encoding an index".into(), source })?;
    let sealed = seal::seal(keys.sealed_to, &plain)?;
    let header = IndexHeader {
        format: FORMAT,
        features: Vec::new(),
        kind: Kind::Index,
        id,
        repository: repo.repository(),
        tenant: repo.tenant().clone(),
        instance: repo.instance().clone(),
        chunk_key: chunk_key.id,
        packs: packs.iter().map(|pack| pack.id).collect(),
        recipients,
        sealed: SealedPart { len: sealed.bytes.len() as u64, sha256: sealed.sha256 },
    };
    let bytes = envelope::encode(&header, &sealed.bytes, keys.signing);
    Ok(bytes.ok_or_else(|| Error::usage("an index names more packs than its header can hold"))?.into())
}

impl InstanceRepo {
    /// Reads an index object whole, of bounded length.
    pub(crate) async fn fetch_index(&self, info: &ObjectInfo) -> Result<Bytes> {
        if info.len > LONGEST {
            return Err(Error::damaged(&info.key, format!("it has {} bytes; no index has so many", info.len)));
        }
        Ok(self.store().get(&info.key, info.version.as_ref(), None).await?)
    }

    /// Reads the public header of an index object alone, and verifies its signature and that it belongs where it lies;
    /// none where it is one of an earlier release, which has none.
    pub(crate) async fn index_header(&self, info: &ObjectInfo, trusted: &[PublicKey]) -> Result<Option<IndexHeader>> {
        let mut wanted = HEAD.min(info.len);
        loop {
            let start = self.store().get(&info.key, info.version.as_ref(), Some(0..wanted)).await?;
            if start.starts_with(AGE) {
                return Ok(None);
            }
            let trust = self.trust(trusted, info.modified);
            match envelope::decode_head::<IndexHeader>(&info.key, &start, info.len, &trust)? {
                Head::Header(header) => return self.index_fits(info, header).map(Some),
                Head::Needs(more) => wanted = more,
            }
        }
    }

    /// Verifies an index object's bytes without opening it.
    pub(crate) fn verify_index_file(&self, info: &ObjectInfo, file: &Bytes, trusted: &[PublicKey]) -> Result<()> {
        let trust = self.trust(trusted, info.modified);
        let opened = envelope::decode::<IndexHeader>(&info.key, file, &trust)?;
        self.index_fits(info, opened.header).map(drop)
    }

    fn index_fits(&self, info: &ObjectInfo, header: IndexHeader) -> Result<IndexHeader> {
        let IndexHeader { id, repository, tenant, instance, .. } = &header;
        let here = *repository == self.repository() && (tenant, instance) == (self.tenant(), self.instance());
        if here && info.key == self.layout().index(*id) {
            return Ok(header);
        }
        let reason = format!("it is a copy of index {id} of {tenant}/{instance} in repository {repository}");
        Err(Error::Untrusted { object: info.key.to_string(), reason })
    }

    /// Verifies and opens an index object.
    pub(crate) fn open_index(
        &self,
        info: &ObjectInfo,
        file: &Bytes,
        host: &[Identity],
        trust: &Trust<'_>,
    ) -> Result<IndexObject> {
        let open = |sealed: &[u8]| {
            let needed = "the metadata identity of the host that wrote it";
            object::decode(host, sealed).map_err(|error: OpenError| error.of(&info.key, needed))
        };
        if file.starts_with(AGE) {
            return open(file).map(IndexObject::Unsigned);
        }
        let opened = envelope::decode::<IndexHeader>(&info.key, file, trust)?;
        let header = self.index_fits(info, opened.header)?;
        let content = open(&opened.sealed)?;
        let same = header.chunk_key == content.chunk_key
            && header.recipients == content.recipients
            && header.packs.iter().eq(content.packs.iter().map(|pack| &pack.id));
        match same {
            true => Ok(IndexObject::Signed(content)),
            false => Err(Error::damaged(&info.key, "its header tells of other packs than its content")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use lifeboat_model::id::Sha256Digest;
    use lifeboat_store::{Store as _, vault::VaultStore};

    use super::*;
    use crate::{index::PackMeta, pack::PackTable, repository::Repository};

    async fn repo(store: &VaultStore, instance: &str) -> InstanceRepo {
        let repository = Repository::init(Arc::new(store.clone()), RepositoryId([1; 16]), Timestamp::UNIX_EPOCH);
        repository.await.unwrap().instance(&"hospital".parse().unwrap(), &instance.parse().unwrap())
    }

    #[tokio::test]
    async fn a_header_can_be_read_alone_and_belongs_to_one_place() {
        let store = VaultStore::new(Arc::new(|| Timestamp::UNIX_EPOCH));
        let (clinic, other) = (repo(&store, "clinic").await, repo(&store, "other").await);
        let (host, signing) = (Identity::generate(), SigningKey::from_seed(&[3; 32]));
        let trusted = [signing.public()];
        let recipients = [host.recipient()];
        let chunk_key = ChunkKey::generate(&recipients, Timestamp::UNIX_EPOCH).unwrap();
        let pack = |n: u16| {
            let meta = PackMeta { len: 1, sha256: Sha256Digest([1; 32]), version: None, retain_until: None };
            let id = [n.to_be_bytes(); 8].concat().try_into().unwrap();
            IndexedPack { id: ObjectId(id), meta, table: PackTable { frames: vec![] } }
        };
        let packs: Vec<IndexedPack> = (0..1000).map(pack).collect();
        let keys = IndexKeys { recipients: &recipients, sealed_to: &recipients, signing: &signing };
        let id = ObjectId([7; 16]);
        let bytes = seal(&clinic, id, &chunk_key, &packs, &keys).unwrap();
        store.put(&clinic.layout().index(id), bytes.clone()).await.unwrap();
        store.put(&clinic.layout().index(ObjectId([8; 16])), bytes.clone()).await.unwrap();
        store.put(&other.layout().index(id), bytes.clone()).await.unwrap();

        let info = clinic.first(&clinic.layout().index(id)).await.unwrap();
        let header = clinic.index_header(&info, &trusted).await.unwrap().unwrap();
        assert_eq!((header.packs.len(), header.chunk_key), (1000, chunk_key.id));
        let strange = SigningKey::from_seed(&[4; 32]).public();
        assert!(matches!(clinic.index_header(&info, &[strange]).await, Err(Error::Untrusted { .. })));
        let trust = clinic.trust(&trusted, info.modified);
        assert!(matches!(clinic.open_index(&info, &bytes, &[host], &trust), Ok(IndexObject::Signed(_))));

        for (repo, id) in [(&clinic, ObjectId([8; 16])), (&other, id)] {
            let copied = repo.first(&repo.layout().index(id)).await.unwrap();
            assert!(matches!(repo.index_header(&copied, &trusted).await, Err(Error::Untrusted { .. })), "{copied:?}");
        }
    }
}
