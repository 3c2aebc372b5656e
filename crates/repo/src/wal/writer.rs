//! Storing parts of a stream, each sealed, signed and durable by itself.

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::{ObjectId, Sha256Digest},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_store::ObjectInfo;

use super::{
    Commits, MAX_SEGMENT, MIN_SEGMENT, WalHeader, WalName, WalObject, WalObjectKind,
    content::{self, Range},
    segment_object_size,
};
use crate::{
    blocking::blocking,
    envelope::{self, FORMAT, SealedPart},
    error::{Error, Result},
    locks::Keep,
    repository::InstanceRepo,
    seal::Recipient,
};

/// Writes objects of the archive. Cheap to clone; holds no state between calls.
#[derive(Debug, Clone)]
pub struct WalWriter {
    repo: InstanceRepo,
    recipients: Vec<Recipient>,
    signing: SigningKey,
    level: i32,
}

impl WalWriter {
    /// Seals to `recipients`, who can restore, at zstd `level`.
    pub fn new(repo: InstanceRepo, recipients: Vec<Recipient>, signing: SigningKey, level: i32) -> Self {
        Self { repo, recipients, signing, level }
    }

    /// Stores the bytes that start at `first`; durable when it returns. Compresses and seals off the async threads. May be
    /// called many times at once: while it runs, it holds the bytes and what they were sealed to. A slice must not reach
    /// from one segment into the next, and a segment must be whole (see [`segment_object_size`]).
    #[allow(
        clippy::too_many_arguments,
        reason = "they are what an object is named by; a struct would only rename them"
    )]
    pub async fn put(
        &self,
        kind: WalObjectKind,
        system_id: u64,
        timeline: u32,
        segment_size: u64,
        first: Lsn,
        bytes: Bytes,
        commits: Option<Commits>,
    ) -> Result<WalObject> {
        self.repo.check_not_replica()?;
        self.repo.check_signer(&self.signing.public())?;
        let range = Range::new(system_id, timeline, first, bytes.len())?;
        check_cut(kind, segment_size, &range)?;
        let Range { last, .. } = range;
        let name = WalName { kind, system_id, timeline, first, last, id: ObjectId(crate::random::bytes()?) };
        let header = self.header(&name, segment_size, commits);
        let writer = self.clone();
        let sealed = blocking("sealing WAL", move || writer.seal(header, range, &bytes)).await?;
        let (key, len) = (self.repo.layout().wal_object(&name), sealed.len() as u64);
        let keep = match kind {
            WalObjectKind::Slice => Keep::Slice,
            WalObjectKind::Segment => Keep::Segment,
        };
        let version = self.repo.put_once(&key, sealed, keep).await?.version;
        let modified = self.repo.locks().map_or(Timestamp::UNIX_EPOCH, |locks| (locks.clock)());
        Ok(WalObject::new(&name, ObjectInfo { key, len, version, modified }))
    }

    fn header(&self, name: &WalName, segment_size: u64, commits: Option<Commits>) -> WalHeader {
        let WalName { kind, system_id, timeline, first, last, id } = *name;
        WalHeader {
            format: FORMAT,
            features: Vec::new(),
            kind,
            id,
            repository: self.repo.repository(),
            tenant: self.repo.tenant().clone(),
            instance: self.repo.instance().clone(),
            system_id,
            timeline,
            first,
            last,
            commits,
            segment_size,
            recipients: self.recipients.iter().map(ToString::to_string).collect(),
            sealed: SealedPart { len: 0, sha256: Sha256Digest([0; 32]) },
        }
    }

    fn seal(&self, mut header: WalHeader, range: Range, bytes: &[u8]) -> Result<Bytes> {
        let sealed = content::seal(&self.recipients, self.level, range, bytes)?;
        header.sealed = SealedPart { len: sealed.bytes.len() as u64, sha256: sealed.sha256 };
        let object = envelope::encode(&header, &sealed.bytes, &self.signing);
        let object = object.ok_or_else(|| Error::usage("WAL has more recipients than its header can hold"))?;
        Ok(object.into())
    }
}

/// Whether the range may be an object of this kind, where segments are so long.
pub(super) fn check_cut(kind: WalObjectKind, segment_size: u64, range: &Range) -> Result<()> {
    let Range { first, last, .. } = *range;
    if !segment_size.is_power_of_two() || !(MIN_SEGMENT..=MAX_SEGMENT).contains(&segment_size) {
        return Err(Error::usage(format!("{segment_size} is no WAL segment size: a power of two from 1 MiB to 1 GiB")));
    }
    let piece = segment_object_size(segment_size);
    let refuse = |reason: &str| Err(Error::WalOrder { first, last, reason: reason.to_owned() });
    match kind {
        WalObjectKind::Segment if first.0 % piece != 0 || last.0 - first.0 != piece => {
            refuse("it is not one whole segment")
        }
        WalObjectKind::Slice if first.0 / piece != (last.0 - 1) / piece => {
            refuse("a slice must not reach from one segment into the next")
        }
        _ => Ok(()),
    }
}
