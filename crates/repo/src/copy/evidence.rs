//! Evidence: what was done and measured must survive the primary too.

use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_model::id::Tenant;
use lifeboat_store::Key;

use super::{
    present::Present,
    transfer::{other_length, place},
};
use crate::{
    error::{Error, Result},
    repository::{EvidenceRef, Repository},
};

/// Statements on their way at the same time.
const AT_ONCE: usize = 8;

/// Whether a statement is to be believed; why not.
pub type Judge<'a> = dyn Fn(&EvidenceRef, &Bytes) -> std::result::Result<(), String> + Send + Sync + 'a;

/// What became of the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceCopied {
    /// Statements that were copied.
    pub copied: u64,
    /// Statements that were there.
    pub there: u64,
    /// Those that are not what they should be, and why; they were not copied.
    pub refused: Vec<(Key, String)>,
}

/// Copies a tenant's statements that the copy lacks, in the order in which the source received them. `judge` verifies one:
/// what it refuses is not copied, and reported. What the copy has under a name is compared byte by byte, and that it was
/// is remembered in `seen`.
pub async fn copy_evidence(
    from: &Repository,
    to: &Repository,
    tenant: &Tenant,
    judge: &Judge<'_>,
    seen: Option<PathBuf>,
) -> Result<EvidenceCopied> {
    let present = Present::new(seen);
    present.list(to.store(), &format!("{tenant}/evidence/")).await?;
    let copying = Copying { from, to, tenant, judge, present };
    let done = copying.all().await;
    copying.present.save();
    done
}

struct Copying<'a> {
    from: &'a Repository,
    to: &'a Repository,
    tenant: &'a Tenant,
    judge: &'a Judge<'a>,
    present: Present,
}

/// What is to be done with a statement.
enum Found {
    There,
    New(EvidenceRef, Bytes),
    Refused(Key, String),
}

impl Copying<'_> {
    async fn all(&self) -> Result<EvidenceCopied> {
        let mut listed = self.from.list_evidence(self.tenant, "").await?;
        // A revocation counts by the time of its receipt in the copy: nothing that was believed before it may follow it.
        listed.sort_by(|a, b| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
        let looking = listed.into_iter().map(|found| self.look(found));
        let mut looking = futures::stream::iter(looking).buffered(AT_ONCE);
        let mut done = EvidenceCopied::default();
        while let Some(found) = looking.try_next().await? {
            match found {
                Found::There => done.there += 1,
                Found::New(reference, bytes) => match self.put(&reference, bytes).await? {
                    None => done.copied += 1,
                    Some(refused) => done.refused.push(refused),
                },
                Found::Refused(key, why) => done.refused.push((key, why)),
            }
        }
        done.refused.sort();
        Ok(done)
    }

    async fn look(&self, found: EvidenceRef) -> Result<Found> {
        let (key, identity) = (found.key.clone(), identity(&found));
        if self.present.holds(&key, &identity) {
            return Ok(Found::There);
        }
        let bytes = match self.from.get_evidence(&found).await {
            Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => {
                return Ok(Found::Refused(key, "it is missing".to_owned()));
            }
            Err(Error::Damaged { reason, .. }) => return Ok(Found::Refused(key, reason)),
            read => read?,
        };
        let Some(held) = self.present.get(&key) else {
            return Ok(match (self.judge)(&found, &bytes) {
                Ok(()) => Found::New(found, bytes),
                Err(why) => Found::Refused(key, why),
            });
        };
        if held.len != found.len {
            return Ok(Found::Refused(key, format!("in the copy {}", other_length(held.len, found.len))));
        }
        match self.is_there(&key, &bytes).await? {
            true => {
                self.present.found(&key, &identity);
                Ok(Found::There)
            }
            false => Ok(Found::Refused(key, ANOTHER.to_owned())),
        }
    }

    async fn is_there(&self, key: &Key, bytes: &Bytes) -> Result<bool> {
        Ok(self.to.store().get(key, None, None).await? == *bytes)
    }

    async fn put(&self, found: &EvidenceRef, bytes: Bytes) -> Result<Option<(Key, String)>> {
        let name = found.key.as_str().rsplit('/').next().unwrap_or_default();
        match self.to.put_evidence(self.tenant, name, bytes.clone()).await {
            Ok(_) => Ok(None),
            Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {
                let same = self.is_there(&found.key, &bytes).await?;
                Ok((!same).then(|| (found.key.clone(), ANOTHER.to_owned())))
            }
            Err(error) => Err(error),
        }
    }
}

const ANOTHER: &str = "the copy has another under this name";

fn identity(found: &EvidenceRef) -> Vec<u8> {
    place(found.version.as_ref(), found.len, found.modified)
}
