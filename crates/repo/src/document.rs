//! Documents: small signed objects that say something about one position in the WAL: a timeline begins, a restore point
//! was named, a witness was taken. Who may list them sees where; only holders of an identity see what.

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, ObjectId, RepositoryId, Sha256Digest, Tenant},
    lsn::Lsn,
    signature::{PublicKey, SigningKey},
};
use lifeboat_store::{Key, ObjectInfo, VersionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    blocking::blocking,
    envelope::{self, Envelope, FORMAT, Head, Header, SealedPart, decimal_text},
    error::{Error, Result},
    locks::Keep,
    repository::InstanceRepo,
    seal::{self, Identity, Recipient},
};

/// The longest document: a witness of a very large system has a few MiB.
const LONGEST: u64 = 256 << 20;
/// Bytes of a document that hold its header as a rule.
const HEAD: u64 = 4 << 10;

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// A stream of WAL begins on this timeline.
    Timeline,
    /// Somebody gave a position a name.
    RestorePoint,
    /// What the source looked like at a position.
    Witness,
}

impl DocumentKind {
    /// All of them.
    pub const ALL: [DocumentKind; 3] = [DocumentKind::Timeline, DocumentKind::RestorePoint, DocumentKind::Witness];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            DocumentKind::Timeline => "timelines",
            DocumentKind::RestorePoint => "marks",
            DocumentKind::Witness => "witnesses",
        }
    }
}

/// A position in the WAL of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// PostgreSQL's system identifier; text in JSON, since it does not fit a double.
    #[serde(with = "decimal_text")]
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// The position.
    pub lsn: Lsn,
}

/// A document's place, as a listing tells it.
#[derive(Debug, Clone, Eq)]
pub struct DocumentRef {
    /// What it is about.
    pub kind: DocumentKind,
    /// The position.
    pub position: Position,
    /// Its id.
    pub id: ObjectId,
    /// Its key.
    pub key: Key,
    /// The first version of the key, where the store has versions: no other counts.
    pub version: Option<VersionId>,
    /// When the store received it, by its own clock; of one just written, by the writer's.
    pub modified: Timestamp,
}

/// The same document: of the time, a listing and the writer may say different things.
impl PartialEq for DocumentRef {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.version) == (&other.key, &other.version)
    }
}

/// A document whose digest and signature have been verified, opened.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// Its place.
    pub reference: DocumentRef,
    /// When it was written, by the writer's clock.
    pub created: Timestamp,
    /// What it says.
    pub details: T,
    /// The key that signed it.
    pub signer: PublicKey,
    /// SHA-256 of the whole object: what evidence refers to.
    pub sha256: Sha256Digest,
}

/// The keys a document is written with.
#[derive(Debug, Clone)]
pub struct DocumentKeys {
    /// Who can read it: the recovery recipients, and the host's own metadata identity.
    pub recipients: Vec<Recipient>,
    /// Signs it.
    pub signing: SigningKey,
}

/// What everybody may read of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DocumentHeader {
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    kind: DocumentKind,
    id: ObjectId,
    repository: RepositoryId,
    tenant: Tenant,
    instance: Instance,
    #[serde(flatten)]
    position: Position,
    created: Timestamp,
    recipients: Vec<String>,
    sealed: SealedPart,
}

impl Header for DocumentHeader {
    const ENVELOPE: Envelope = Envelope { magic: b"LBDOCUM1", domain: b"lifeboat document v1\n", longest: 64 << 10 };

    fn sealed(&self) -> &SealedPart {
        &self.sealed
    }
}

impl DocumentHeader {
    fn fits(&self, repo: &InstanceRepo, reference: &DocumentRef) -> bool {
        self.repository == repo.repository()
            && (&self.tenant, &self.instance) == (repo.tenant(), repo.instance())
            && (self.kind, self.position, self.id) == (reference.kind, reference.position, reference.id)
    }
}

impl InstanceRepo {
    /// Writes a document. It is durable when this returns.
    pub async fn put_document<T: Serialize>(
        &self,
        kind: DocumentKind,
        position: Position,
        details: &T,
        keys: &DocumentKeys,
        now: Timestamp,
    ) -> Result<DocumentRef> {
        self.check_not_replica()?;
        self.check_signer(&keys.signing.public())?;
        let plain = serde_json::to_vec(details).map_err(|e| Error::usage(format!("the details of a document: {e}")))?;
        if plain.len() as u64 > LONGEST / 2 {
            let most = LONGEST / 2;
            return Err(Error::usage(format!("a document of {} bytes; at most {most} are possible", plain.len())));
        }
        let id = ObjectId(crate::random::bytes()?);
        let (repository, tenant, instance) = (self.repository(), self.tenant().clone(), self.instance().clone());
        let recipients = keys.recipients.iter().map(ToString::to_string).collect();
        let (format, features, created) = (FORMAT, Vec::new(), now);
        let sealed = SealedPart { len: 0, sha256: Sha256Digest([0; 32]) };
        let header = DocumentHeader {
            format,
            features,
            kind,
            id,
            repository,
            tenant,
            instance,
            position,
            created,
            recipients,
            sealed,
        };
        let keys = keys.clone();
        let bytes = blocking("sealing a document", move || seal_document(header, &plain, &keys)).await?;
        let key = self.layout().document(kind, position, id);
        let stored = self.put_once(&key, bytes, Keep::Document).await?;
        Ok(DocumentRef { kind, position, id, key, version: stored.version, modified: now })
    }

    /// All documents of a kind by their keys, in the order of their positions. Nothing is opened, so nothing is said of
    /// their validity.
    pub async fn list_documents(&self, kind: DocumentKind) -> Result<Vec<DocumentRef>> {
        let mut objects = self.store().list(&self.layout().prefix(kind.folder()));
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await? {
            if let Some((position, id)) = self.layout().document_parts(kind, &object.key) {
                let ObjectInfo { key, version, modified, .. } = object;
                found.push(DocumentRef { kind, position, id, key, version, modified });
            }
        }
        found.sort_by_key(|reference| (reference.position, reference.id));
        Ok(found)
    }

    /// Reads a document, verifies digest, signature and that it belongs here, and opens it.
    pub async fn read_document<T: DeserializeOwned>(
        &self,
        reference: &DocumentRef,
        trusted: &[PublicKey],
        identities: &[Identity],
    ) -> Result<Document<T>> {
        let opened = self.fetch_document(reference, trusted).await?;
        let needed = format!("an identity of {}", opened.header.recipients.join(" or "));
        let plain = seal::open_all(identities, &opened.sealed).map_err(|e| e.of(&reference.key, &needed))?;
        let details = serde_json::from_slice(&plain);
        let details = details.map_err(|e| Error::damaged(&reference.key, format!("its content: {e}")))?;
        let (created, signer, sha256) = (opened.header.created, opened.signer, opened.sha256);
        Ok(Document { reference: reference.clone(), created, details, signer, sha256 })
    }

    /// Verifies a document without opening it.
    pub(crate) async fn verify_document(&self, reference: &DocumentRef, trusted: &[PublicKey]) -> Result<()> {
        self.fetch_document(reference, trusted).await.map(drop)
    }

    /// Reads a document's header alone, and verifies its signature and that it belongs where it lies.
    pub(crate) async fn document_head(&self, info: &ObjectInfo, trusted: &[PublicKey]) -> Result<()> {
        let parts = |kind| Some((kind, self.layout().document_parts(kind, &info.key)?));
        let Some((kind, (position, id))) = DocumentKind::ALL.into_iter().find_map(parts) else {
            return Err(Error::damaged(&info.key, "no document has such a name"));
        };
        let ObjectInfo { key, version, modified, .. } = info.clone();
        let reference = DocumentRef { kind, position, id, key, version, modified };
        let mut wanted = HEAD.min(info.len);
        loop {
            let start = self.store().get(&info.key, info.version.as_ref(), Some(0..wanted)).await?;
            let trust = self.trust(trusted, info.modified);
            match envelope::decode_head::<DocumentHeader>(&info.key, &start, info.len, &trust)? {
                Head::Header(header) => return self.document_fits(&header, &reference),
                Head::Needs(more) => wanted = more,
            }
        }
    }

    /// The same, where its bytes have been read.
    pub(crate) fn verify_document_file(
        &self,
        reference: &DocumentRef,
        file: &Bytes,
        trusted: &[PublicKey],
    ) -> Result<()> {
        self.verified_document(reference, file, trusted).map(drop)
    }

    async fn fetch_document(
        &self,
        reference: &DocumentRef,
        trusted: &[PublicKey],
    ) -> Result<envelope::Opened<DocumentHeader>> {
        let info = self.store().head(&reference.key, reference.version.as_ref()).await?;
        if info.len > LONGEST {
            return Err(Error::damaged(&reference.key, format!("it has {} bytes; no document has so many", info.len)));
        }
        let bytes = self.store().get(&reference.key, reference.version.as_ref(), None).await?;
        self.verified_document(reference, &bytes, trusted)
    }

    /// Verifies a document's bytes: digest, signature, and that it belongs here.
    fn verified_document(
        &self,
        reference: &DocumentRef,
        bytes: &Bytes,
        trusted: &[PublicKey],
    ) -> Result<envelope::Opened<DocumentHeader>> {
        let trust = self.trust(trusted, reference.modified);
        let opened: envelope::Opened<DocumentHeader> = envelope::decode(&reference.key, bytes, &trust)?;
        self.document_fits(&opened.header, reference)?;
        Ok(opened)
    }

    fn document_fits(&self, header: &DocumentHeader, reference: &DocumentRef) -> Result<()> {
        match header.fits(self, reference) {
            true => Ok(()),
            false => Err(Error::Untrusted {
                object: reference.key.to_string(),
                reason: "its header is that of another document: it was copied here".into(),
            }),
        }
    }
}

fn seal_document(mut header: DocumentHeader, plain: &[u8], keys: &DocumentKeys) -> Result<Bytes> {
    let sealed = seal::seal(&keys.recipients, plain)?;
    header.sealed = SealedPart { len: sealed.bytes.len() as u64, sha256: sealed.sha256 };
    let bytes = envelope::encode(&header, &sealed.bytes, &keys.signing);
    Ok(bytes.ok_or_else(|| Error::usage("a document has more recipients than its header can hold"))?.into())
}
