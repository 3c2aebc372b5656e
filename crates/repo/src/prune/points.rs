//! Points: which stay, which go, and what those that stay need.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lifeboat_model::id::PointId;
use lifeboat_store::ObjectInfo;

use super::{Fate, Found, PruneKind, Run, Versions, kind_at, removal::Candidate};
use crate::{
    error::Result,
    layout,
    point::{ObjectKind, PointHeader, PointRef},
    reach::{self, Digest, NO_PROMISE, Standing, standing},
};

/// A point that goes, if the store lets it.
struct Going {
    reference: PointRef,
    candidate: Candidate,
    /// What was written for it alone: its trees and its WAL.
    own: Vec<Digest>,
    /// A person said that it is none of ours, so that it keeps nothing.
    disregarded: bool,
}

impl Run<'_> {
    /// Looks at every point before the first is removed: one that does not tell what it needs ends the run.
    pub(super) async fn points(&mut self) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), &self.prefix("points"));
        let (mut going, mut kept) = (Vec::new(), BTreeSet::new());
        while let Some(found) = versions.next().await? {
            match found {
                Found::Foreign(version) => self.foreign(version.info, version.delete_marker).await?,
                Found::Object { info, over } => match self.point_ref(&info) {
                    Some(reference) => {
                        self.report.objects += 1;
                        self.point(reference, info, over, &mut going, &mut kept).await?;
                    }
                    None => self.stranger(info).await?,
                },
            }
        }
        if let Some(missing) = self.needs.points.keys().find(|id| !kept.contains(id)) {
            return Err(reach::not_listed(&self.repo, missing));
        }
        self.wal_rule()?; // a base that is not kept ends the run before anything is removed
        self.remove_points(going).await
    }

    fn point_ref(&self, info: &ObjectInfo) -> Option<PointRef> {
        kind_at(self.repo.layout(), &info.key)?;
        let (time, id) = layout::point_parts(&info.key)?;
        let ObjectInfo { key, len, version, modified } = info.clone();
        Some(PointRef { time, id, key, version, len, modified })
    }

    async fn point(
        &mut self,
        reference: PointRef,
        info: ObjectInfo,
        over: u64,
        going: &mut Vec<Going>,
        kept: &mut BTreeSet<PointId>,
    ) -> Result<()> {
        self.seen.insert(reach::digest(&info.key));
        let candidate = |why: &str| Candidate::new(info.clone(), PruneKind::Point, why);
        if self.options.disregard.contains(&info.key) {
            let candidate = candidate("it was said to be no recovery point of ours");
            going.push(Going { reference, candidate, own: Vec::new(), disregarded: true });
            return Ok(());
        }
        match standing(&self.repo, &reference, self.trusted).await? {
            Standing::Gone => {}
            Standing::Foreign { why, header } => {
                self.reach.add(&header, NO_PROMISE, false);
                self.report.strange_points.push((info.key.clone(), why.clone()));
                let strange = Candidate { kind: PruneKind::Foreign, ..candidate(&why) };
                self.tell(strange, Fate::Foreign);
            }
            Standing::Good(header) if self.needs.dropped.contains(&header.point) => {
                let candidate = candidate("policy does not keep it");
                if over > 0 && !self.options.foreign {
                    self.stays(&header);
                    self.tell(candidate, Fate::Waits(OVER.into()));
                } else {
                    let own = header.objects.iter();
                    let own = own.filter(|object| matches!(object.kind, ObjectKind::Tree | ObjectKind::Wal));
                    let own = own.map(|object| reach::digest(&object.key)).collect();
                    going.push(Going { reference, candidate, own, disregarded: false });
                }
            }
            Standing::Good(header) => {
                let end = self.needs.points.get(&header.point).copied();
                kept.insert(header.point);
                self.reach.add(&header, end.unwrap_or(NO_PROMISE), true);
                self.report.points_kept += 1;
                self.keep(&info, PruneKind::Point);
            }
        }
        Ok(())
    }

    /// A point that nobody wants and that stays all the same keeps what it names: nothing that is there is ever broken.
    fn stays(&mut self, header: &PointHeader) {
        self.reach.add(header, NO_PROMISE, false);
    }

    async fn remove_points(&mut self, going: Vec<Going>) -> Result<()> {
        for Going { reference, candidate, own, disregarded } in going {
            let before = self.report.removed;
            if !self.options.cancel.is_cancelled() {
                self.remove(vec![candidate], None).await?;
            }
            if self.report.removed > before {
                self.report.points_removed.push(reference.id);
                self.released.extend(own);
            } else if !disregarded
                && let Standing::Good(header) = standing(&self.repo, &reference, self.trusted).await?
            {
                self.stays(&header);
            }
        }
        Ok(())
    }

    /// Points that came since the last look: what they name is needed from now on.
    pub(super) async fn newer_points(&mut self) -> Result<()> {
        for reference in self.repo.list_points().await? {
            if !self.seen.insert(reach::digest(&reference.key)) {
                continue;
            }
            match standing(&self.repo, &reference, self.trusted).await? {
                Standing::Good(header) => {
                    self.reach.add(&header, NO_PROMISE, true);
                    self.report.points_kept += 1;
                }
                Standing::Foreign { why, header } => {
                    self.reach.add(&header, NO_PROMISE, false);
                    self.report.strange_points.push((reference.key.clone(), why));
                }
                Standing::Gone => {}
            }
        }
        Ok(())
    }

    /// A version or marker over an object.
    pub(super) async fn foreign(&mut self, info: ObjectInfo, marker: bool) -> Result<()> {
        let what = if marker { "a delete marker over the object" } else { "a version that was put over the object" };
        self.not_ours(Candidate { marker, ..Candidate::new(info, PruneKind::Foreign, what) }).await
    }

    /// An object at a key that no release writes.
    pub(super) async fn stranger(&mut self, info: ObjectInfo) -> Result<()> {
        self.not_ours(Candidate::new(info, PruneKind::Foreign, "no release writes such a key")).await
    }

    pub(super) async fn not_ours(&mut self, candidate: Candidate) -> Result<()> {
        self.report.objects += 1;
        match self.options.foreign {
            true => self.candidate(candidate).await,
            false => {
                self.tell(candidate, Fate::Foreign);
                Ok(())
            }
        }
    }
}

/// Why an object under newer versions stays: with it gone, the next of them would pass for the first.
pub(super) const OVER: &str = "newer versions were put over it: remove them with it";

/// Whether a time is so far back that nothing which is being written can be of it.
pub(super) fn is_old(modified: Timestamp, now: Timestamp) -> bool {
    crate::locks::later(modified, super::removal::YOUNG) <= now
}
