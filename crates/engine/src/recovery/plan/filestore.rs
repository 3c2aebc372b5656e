//! Which filestores have every file of a moment.

use lifeboat_repo::{
    point::{Point, PointRef},
    tree::TreeKind,
};

use super::{Base, Ending, Goal, Planner};
use crate::error::Result;

impl Planner<'_, '_> {
    /// The points after the base up to the first whose walk of the filestore began after the target. A file is written
    /// before the row that names it is committed, so these have every file that a row of the moment names, unless it was
    /// removed again before a walk came by.
    pub(super) async fn filestores(
        &mut self,
        base: &Base,
        ending: &Ending,
        goal: &Goal,
        timeline: u32,
        later: &[PointRef],
        remarks: &mut Vec<String>,
    ) -> Result<Vec<Point>> {
        if base.point.header.tree(TreeKind::Filestore).is_none() {
            return Ok(Vec::new());
        }
        // The base's own walk began behind the end of its log.
        if timeline == base.postgres.timeline && ending.end <= base.postgres.wal_end {
            return Ok(Vec::new());
        }
        let later = if self.wish.point.is_some() {
            let all = self.held.repo.list_points().await?;
            all.into_iter().filter(|point| point.time > base.point.header.finished).collect()
        } else {
            later.to_vec()
        };
        let mut chosen = Vec::new();
        let mut last_walk = base.postgres.finished;
        for reference in later {
            let Some(point) = self.held.base(&reference).await? else { continue };
            if point.point.header.tree(TreeKind::Filestore).is_none() {
                continue;
            }
            let is_behind = walked_after(&point, goal, timeline);
            last_walk = point.postgres.finished;
            chosen.push(point.point);
            if is_behind {
                return Ok(chosen);
            }
        }
        remarks.push(format!(
            "no recovery point was made after this moment: files that came into the filestore after {last_walk} may be missing"
        ));
        Ok(chosen)
    }
}

/// Whether the walk of this point's filestore certainly began after the goal. It begins when the database is done.
fn walked_after(point: &Base, goal: &Goal, timeline: u32) -> bool {
    match *goal {
        Goal::Latest => false,
        Goal::Time(time) => point.postgres.finished > time,
        Goal::Position { system_id, lsn, .. } => {
            point.system_id == system_id && point.postgres.timeline == timeline && point.postgres.wal_end >= lsn
        }
    }
}
