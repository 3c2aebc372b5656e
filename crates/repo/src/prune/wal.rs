//! WAL: of points, and of the archive.

use lifeboat_store::ObjectInfo;

use super::{Found, PruneKind, Run, Versions, removal::Candidate};
use crate::{
    error::Result,
    reach::{Cover, Proof, WalRule, objection},
    wal::{WalObject, WalObjectKind},
};

impl Run<'_> {
    /// Of each stream come the points' own slices first, then its segments, then its slices: as their keys sort.
    pub(super) async fn wal(&mut self, rule: &WalRule) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), &self.prefix("wal"));
        let mut cover = Cover::new(self.repo.wal_archive(), self.trusted);
        while let Some(found) = versions.next().await? {
            if self.options.cancel.is_cancelled() {
                break;
            }
            match found {
                Found::Foreign(version) => self.foreign(version.info, version.delete_marker).await?,
                Found::Object { info, over } => match WalObject::listed(self.repo.layout(), info.clone()) {
                    Ok(object) => self.archived(object, info, over, rule, &mut cover).await?,
                    Err(_) => self.of_a_point(info, over).await?,
                },
            }
        }
        self.flush().await
    }

    async fn archived(
        &mut self,
        object: WalObject,
        info: ObjectInfo,
        over: u64,
        rule: &WalRule,
        cover: &mut Cover,
    ) -> Result<()> {
        let system = Some(object.system_id);
        let kind = match object.kind {
            WalObjectKind::Segment => PruneKind::Segment,
            WalObjectKind::Slice => PruneKind::Slice,
        };
        let why = if !rule.needs_object(object.system_id, object.timeline, object.last, object.modified) {
            "no kept point and no window of recovery needs it"
        } else if object.kind == WalObjectKind::Slice && self.superseded(&object, &info, rule, cover).await? {
            "a segment that verifies holds its range"
        } else if let Some(why) = self.forged(&object, &info, rule).await? {
            return self.not_ours(Candidate::new(info, PruneKind::Foreign, why)).await;
        } else {
            self.report.objects += 1;
            self.systems.extend(system);
            self.keep(&info, kind);
            return Ok(());
        };
        self.report.objects += 1;
        self.unneeded(Candidate { system, ..Candidate::new(info, kind, why) }, over).await
    }

    /// Whether a slice is not needed for a segment. The segment is read whole before the slice can go: bytes can rot under
    /// a header that verifies, and then the slices are the only good copy. A slice that is locked still is not worth that.
    async fn superseded(
        &mut self,
        slice: &WalObject,
        info: &ObjectInfo,
        rule: &WalRule,
        cover: &mut Cover,
    ) -> Result<bool> {
        if !cover.supersedes(slice, rule, Proof::Head).await? {
            return Ok(false);
        }
        let locked = match self.repo.store().lock_state(&info.key, info.version.as_ref()).await {
            Ok(state) => state.legal_hold || state.retention.is_some_and(|retention| retention.until > self.now()),
            Err(lifeboat_store::Error::NotFound { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(locked || cover.supersedes(slice, rule, Proof::Whole).await?)
    }

    /// Why an object of a stream that nobody trusted has begun is no WAL of ours: its name alone would keep it for ever.
    async fn forged(&mut self, object: &WalObject, info: &ObjectInfo, rule: &WalRule) -> Result<Option<String>> {
        let stream = (object.system_id, object.timeline);
        match self.streams.is_vouched(&self.repo, rule, self.trusted, stream).await? {
            true => Ok(None),
            false => objection(&self.repo, info, self.trusted).await,
        }
    }

    async fn of_a_point(&mut self, info: ObjectInfo, over: u64) -> Result<()> {
        let Some(system) = self.repo.layout().point_wal_system(&info.key) else { return self.stranger(info).await };
        self.report.objects += 1;
        if self.reach.contains(&info.key) {
            self.systems.insert(system);
            self.keep(&info, PruneKind::PointWal);
            return Ok(());
        }
        let leased = !self.is_released(&info);
        let (kind, why) = (PruneKind::PointWal, "no point names it".to_owned());
        self.unneeded(Candidate { leased, system: Some(system), ..Candidate::new(info, kind, why) }, over).await
    }
}
