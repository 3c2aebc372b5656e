//! Statements that lie in the repository and not in its ledger: from before the ledger, or left out by a crash.
//!
//! The very first append enters all that are to be believed, before there is any checkpoint: *adopted*. Later ones look at
//! what the store has received since the last look; a host that remembers none looks back thirty days, or as far as the
//! newest entries reach. What came in the last two minutes is left alone: whoever put it is about to enter it.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lifeboat_evidence::EvidenceKey;
use lifeboat_model::{id::Sha256Digest, time::compact};
use lifeboat_repo::repository::EvidenceRef;
use sha2::{Digest as _, Sha256};

use super::{AT_ONCE, Head, Log, Writer};
use crate::{
    context::Context,
    error::{Error, Result},
    record,
};

const GRACE: Duration = Duration::from_secs(120);
/// How far back a host looks that remembers nothing.
const LOOK: Duration = Duration::from_secs(30 * 86_400);
/// Entries that it reads for that.
const RECALLED: u64 = 512;
/// A statement's name has the time when its run began: this long before it was put, at most.
const LONGEST_RUN: Duration = Duration::from_secs(2 * 86_400);
/// Statements that one append enters besides its own, once there is a checkpoint.
const MOST: usize = 256;
/// Statements that are read at the same time: who plants some makes them long.
const READ: usize = 4;

/// Statements that the store may have received after a time.
pub(super) type Listed = (Timestamp, Vec<(String, EvidenceRef)>);

impl Writer {
    /// What a host that remembers its last look can list while the end of the log is looked for.
    pub(super) async fn prefetch(&self, context: &Context) -> Result<Option<Listed>> {
        match self.memory.looked() {
            Some(looked) => Ok(Some((looked, self.statements(context, looked).await?))),
            None => Ok(None),
        }
    }

    /// The names and digests of believable statements that are to be entered before `own`.
    pub(super) async fn missing(
        &mut self,
        context: &Context,
        head: &mut Head,
        own: &str,
        prefetched: Option<Listed>,
    ) -> Result<Vec<(String, Sha256Digest)>> {
        let now = (self.clock)();
        let adopting = head.previous.is_none();
        // Where entries were passed over, or nothing is remembered after all, it is looked up again.
        let prefetched =
            prefetched.filter(|(since, _)| !adopting && !head.skipped && self.memory.looked() == Some(*since));
        let until = if adopting { Timestamp::MAX } else { before(now, GRACE) };
        let since = match prefetched {
            Some((since, _)) => since,
            None if adopting => Timestamp::MIN,
            None => {
                let floor = self.memory.looked().unwrap_or(before(now, LOOK));
                if head.skipped { self.log.recall(head, floor).await? } else { floor }
            }
        };
        let mut found = match prefetched {
            Some((_, found)) => found,
            None => self.statements(context, since).await?,
        };
        found.retain(|(name, found)| {
            name != own && found.modified > since && found.modified <= until && !head.entered.contains(name)
        });
        found.sort_by(|(a_name, a), (b_name, b)| (a.modified, a_name).cmp(&(b.modified, b_name)));
        // Stores tell whole seconds: all of the last one, or the next look would pass over the rest of it.
        let last = found.get(MOST - 1).filter(|_| !adopting).map(|(_, last)| last.modified);
        found.retain(|(_, found)| last.is_none_or(|last| found.modified <= last));
        let weighing: Vec<_> = found.into_iter().map(|(name, found)| digest(context, name, found).boxed()).collect();
        let weighed: Vec<_> = stream::iter(weighing).buffered(READ).try_collect().await?;
        self.memory.set_looked(last.unwrap_or_else(|| until.min(before(now, GRACE))));
        Ok(weighed.into_iter().flatten().collect())
    }

    /// Names of statements that the store may have received after a time.
    async fn statements(&self, context: &Context, since: Timestamp) -> Result<Vec<(String, EvidenceRef)>> {
        let after = match since == Timestamp::MIN {
            true => String::new(),
            false => compact(before(since, LONGEST_RUN)),
        };
        let tenant = &context.config.tenant;
        let listed = context.repository.list_evidence_from(tenant, "", &after).await?;
        let named = listed.into_iter().filter(|found| found.key.as_str().parse::<EvidenceKey>().is_ok());
        Ok(named.map(|found| (self.log.store.name(&found).to_owned(), found)).collect())
    }
}

impl Log {
    /// Reads the newest entries, so that it is known what they entered. Gives the time from which on that is complete.
    async fn recall(&self, head: &mut Head, floor: Timestamp) -> Result<Timestamp> {
        let size = head.tree.size();
        let first = size.saturating_sub(RECALLED);
        let run = self.run(first).await?;
        let mut reached = None;
        for (part, some) in run.chunks(2 * AT_ONCE).enumerate().rev() {
            let leaves = self.leaves(some).await?;
            for (index, leaf) in (first + (part * 2 * AT_ONCE) as u64..).zip(&leaves) {
                let Some(entry) = self.entry(leaf, index) else { continue };
                reached = Some(reached.map_or(entry.entered, |time: Timestamp| time.min(entry.entered)));
                head.knows(entry.statement);
            }
            if reached.is_some_and(|reached| reached < floor) {
                return Ok(floor);
            }
        }
        Ok(if first == 0 { floor } else { reached.map_or(floor, |reached| reached.max(floor)) })
    }
}

/// The digest of a statement, if it is to be believed.
async fn digest(context: &Context, name: String, found: EvidenceRef) -> Result<Option<(String, Sha256Digest)>> {
    let envelope = match context.repository.get_evidence(&found).await {
        Err(lifeboat_repo::Error::Damaged { .. }) => return Ok(None),
        Err(lifeboat_repo::Error::Store(lifeboat_store::Error::NotFound { .. })) => return Ok(None),
        envelope => envelope?,
    };
    if record::weigh(context, &found, &envelope).is_err() {
        return Ok(None);
    }
    Ok::<_, Error>(Some((name, Sha256Digest(Sha256::digest(&envelope).into()))))
}

fn before(time: Timestamp, length: Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    time.saturating_sub(length).unwrap_or(Timestamp::MIN)
}
