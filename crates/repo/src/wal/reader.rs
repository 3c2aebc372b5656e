//! Reading the archive back: verified, opened, exactly the bytes that the name says.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lifeboat_model::{lsn::Lsn, signature::PublicKey};

use super::{
    WalArchive, WalHeader, WalObject,
    content::{self, Range},
};
use crate::{
    blocking::blocking,
    envelope::{self, Opened},
    error::{Error, Result},
    seal::Identity,
};

/// Reads objects of the archive. Cheap to clone; each read holds one object, sealed and open.
#[derive(Debug, Clone)]
pub struct WalReader {
    archive: WalArchive,
    trusted: Arc<[PublicKey]>,
    identities: Arc<[Identity]>,
}

/// The bytes of a range, and whether they came from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalBytes {
    /// Exactly the range's bytes.
    pub bytes: Bytes,
    /// Why the object itself was not used, where others that hold the same range were read instead.
    pub replaced: Option<String>,
}

impl WalReader {
    pub(super) fn new(archive: WalArchive, trusted: Vec<PublicKey>, identities: Vec<Identity>) -> Self {
        Self { archive, trusted: trusted.into(), identities: identities.into() }
    }

    /// The bytes of an object, exactly `last - first` of them, after its digest and signature have been verified and
    /// that it belongs where it lies.
    pub async fn read(&self, object: &WalObject) -> Result<Bytes> {
        let file = self.archive.fetch(object).await?;
        let (reader, object) = (self.clone(), object.clone());
        blocking("opening WAL", move || reader.open(&object, &file)).await
    }

    fn open(&self, object: &WalObject, file: &Bytes) -> Result<Bytes> {
        let trust = self.archive.repo.trust(&self.trusted, object.modified);
        let Opened { header, sealed, .. } = envelope::decode::<WalHeader>(&object.key, file, &trust)?;
        let header = self.archive.fitting(header, object)?;
        let needed = format!("a recovery identity of {}", header.recipients.join(" or "));
        let WalHeader { system_id, timeline, first, last, .. } = header;
        let range = Range { system_id, timeline, first, last };
        content::open(&object.key, range, &sealed, &self.identities, &needed)
    }

    /// [`read`](Self::read); where the object is damaged, missing or not to be trusted, its range is put together from
    /// others that hold it: the slices under a segment, a second copy of a slice. Where they do not cover it, the error
    /// is that of the object itself.
    pub async fn read_or_replace(&self, object: &WalObject) -> Result<WalBytes> {
        let error = match self.read(object).await {
            Ok(bytes) => return Ok(WalBytes { bytes, replaced: None }),
            Err(error) if is_about_the_object(&error) => error,
            Err(error) => return Err(error),
        };
        match self.replace(object).await? {
            Some(bytes) => Ok(WalBytes { bytes, replaced: Some(error.to_string()) }),
            None => Err(error),
        }
    }

    async fn replace(&self, object: &WalObject) -> Result<Option<Bytes>> {
        let mut others = self.archive.replacements(object).await?;
        let mut whole = BytesMut::with_capacity((object.last.0 - object.first.0) as usize);
        let mut reached = object.first;
        while reached < object.last {
            let fitting = others.iter().enumerate().filter(|(_, other)| other.first <= reached && other.last > reached);
            let Some(best) = fitting.max_by_key(|(_, other)| other.last).map(|(index, _)| index) else {
                return Ok(None);
            };
            let other = others.swap_remove(best);
            match self.read(&other).await {
                Ok(bytes) => reached = append(&mut whole, &bytes, other.first, reached, other.last.min(object.last)),
                Err(error) if is_about_the_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(whole.freeze()))
    }
}

/// Appends what `bytes` (from `first` on) has from `reached` to `end`; gives `end`.
fn append(whole: &mut BytesMut, bytes: &[u8], first: Lsn, reached: Lsn, end: Lsn) -> Lsn {
    whole.extend_from_slice(&bytes[(reached.0 - first.0) as usize..(end.0 - first.0) as usize]);
    end
}

/// Whether another object with the same range may do better. A wrong identity or an unreachable store would stay so.
fn is_about_the_object(error: &Error) -> bool {
    use lifeboat_store::Error as Store;
    matches!(
        error,
        Error::Damaged { .. } | Error::Untrusted { .. } | Error::Store(Store::NotFound { .. } | Store::Damaged { .. })
    )
}
