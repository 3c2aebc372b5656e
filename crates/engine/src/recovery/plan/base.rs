//! Whether a point can be the base of a recovery.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_postgres::wal::{WalDecoder, WalEvent};
use lifeboat_repo::{
    progress::Silent,
    reader::{Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
};

use super::{Base, Goal, Planner};
use crate::{error::Result, restore::is_damage};

/// Clocks of a server and of its backup host do not differ by more.
const MOST_SKEW: Duration = Duration::from_secs(3600);

impl Planner<'_, '_> {
    /// Why this base cannot be used for the goal, if so.
    pub(super) async fn too_late(&self, base: &Base, goal: &Goal) -> Result<Option<String>> {
        let id = base.point.header.point;
        Ok(match *goal {
            Goal::Latest => None,
            Goal::Time(time) => {
                let earliest = self.earliest(base, time).await?;
                (earliest > time).then(|| format!("point {id} became consistent only at {earliest}"))
            }
            Goal::Position { system_id, .. } if base.system_id != system_id => {
                Some(format!("point {id} is of another cluster"))
            }
            Goal::Position { lsn, .. } => (base.postgres.backup_end > lsn)
                .then(|| format!("point {id} is consistent only at {}", base.postgres.backup_end)),
        })
    }

    /// The earliest time that can be reached from a base, by the clock of its commits: the host's clock, by which the backup
    /// ended, may differ. Far from the backup's end it is good enough.
    async fn earliest(&self, base: &Base, time: Timestamp) -> Result<Timestamp> {
        let finished = base.postgres.finished;
        if finished.duration_since(time).unsigned_abs() > MOST_SKEW {
            return Ok(finished);
        }
        Ok(consistent(self.held.repo, base, self.held.identities).await?.unwrap_or(finished))
    }
}

/// From when on a base can show a time, as its own log tells: every commit before its consistent end has an earlier time than
/// the last of them, and than the first behind it. None where the log cannot be read, or has neither.
async fn consistent(repo: &InstanceRepo, base: &Base, identities: &[Identity]) -> Result<Option<Timestamp>> {
    let reader = Reader::open(repo.clone(), &base.point, identities, ReaderOptions::default(), Arc::new(Silent)).await;
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) if is_damage(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = base.postgres.backup_end;
    let mut decoder = WalDecoder::new(base.log_start(), base.postgres.segment_size);
    let (mut last, mut next) = (None, None);
    for slice in reader.wal_slices() {
        let bytes = match reader.read_wal(&slice).await {
            Ok(bytes) => bytes,
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let fed = decoder.feed(slice.first, &bytes, &mut |event| match event {
            // Neighbours may be out of order by a little.
            WalEvent::Commit(commit) if commit.start < end => last = last.max(Some(commit.time)),
            WalEvent::Commit(commit) => drop(next.get_or_insert(commit.time)),
            WalEvent::RestorePoint(_) => {}
        });
        if fed.is_err() {
            return Ok(None);
        }
        // Behind the end, the first commit answers where there was none before.
        if next.is_some() || (last.is_some() && slice.last >= end) {
            break;
        }
    }
    Ok(last.or(next))
}
