//! The moments that can be reached, as intervals: each begins at the consistent end of a base backup and ends with the log
//! that is held from there on without a gap.

use std::{collections::BTreeMap, fmt};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_model::{id::PointId, lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{document::Position, point::Point, repository::InstanceRepo, seal::Identity};

use super::held::{Base, Held, Reach};
use crate::error::Result;

/// Points that are read at the same time.
const READ_AHEAD: usize = 16;

/// A place in the log and the time that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The position.
    pub lsn: Lsn,
    /// The time of the newest commit before it; where none is known, when the backup before it was consistent.
    pub time: Timestamp,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (LSN {})", self.time, self.lsn)
    }
}

/// An interval of moments that can all be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline on which it ends; earlier moments may lie on its ancestors.
    pub timeline: u32,
    /// The earliest moment.
    pub from: Moment,
    /// The latest moment.
    pub to: Moment,
    /// The points from which moments in it are reached, oldest first.
    pub points: Vec<PointId>,
    /// Whether log is held behind its end that nothing leads to.
    pub is_cut: bool,
}

/// What [`windows`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// By time of their beginning. Between one and the next of the same cluster is a gap, unless they overlap.
    pub windows: Vec<Window>,
    /// What does not verify and was passed over.
    pub skipped: Vec<String>,
}

/// All moments that can be reached. The host's own identity suffices: WAL is not opened.
pub async fn windows(repo: &InstanceRepo, trusted: &[PublicKey], identities: &[Identity]) -> Result<Windows> {
    newest_windows(repo, trusted, identities, usize::MAX).await
}

/// Those that begin at one of the newest `most` points: the log behind them alone is listed.
pub async fn newest_windows(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    identities: &[Identity],
    most: usize,
) -> Result<Windows> {
    let mut held = Held::look(repo, trusted, identities).await?;
    let windows = find_newest(&mut held, most).await?;
    Ok(Windows { windows, skipped: held.skipped })
}

pub(super) async fn find(held: &mut Held<'_>) -> Result<Vec<Window>> {
    find_newest(held, usize::MAX).await
}

async fn find_newest(held: &mut Held<'_>, most: usize) -> Result<Vec<Window>> {
    let mut found: BTreeMap<(u64, u32, Lsn), (Window, Reach)> = BTreeMap::new();
    let (repo, trusted) = (held.repo, held.trusted);
    let mut points = repo.list_points().await?;
    points.drain(..points.len().saturating_sub(most));
    // Each owns its reference: a closure over borrowed ones would keep the future from being `Send`.
    let reading = points.into_iter().map(|reference| async move { repo.read_point(&reference, trusted).await });
    let mut points = stream::iter(reading).buffered(READ_AHEAD);
    while let Some(read) = points.next().await {
        let Some(base) = held.opened(read)? else { continue };
        let mut timelines = held.timelines(base.system_id);
        if !timelines.contains(&base.postgres.timeline) {
            timelines.push(base.postgres.timeline);
        }
        for timeline in timelines {
            let Some(reach) = held.follow(&base, timeline, false).await? else { continue };
            // A path whose later timelines hold nothing is the path of an earlier one.
            let place = (base.system_id, reach.timeline(), reach.end());
            let id = base.point.header.point;
            match found.get_mut(&place) {
                Some((window, _)) if window.points.contains(&id) => {}
                Some((window, _)) => {
                    window.points.push(id);
                    window.is_cut &= reach.is_cut;
                }
                None => {
                    let window = window(held, &base, timeline, &reach).await?;
                    found.insert(place, (window, reach));
                }
            }
        }
    }
    let all: Vec<(Window, Reach)> = found.into_values().collect();
    let is_prefix = |window: &Window, reach: &Reach| {
        all.iter().any(|(other, longer)| {
            (other.system_id == window.system_id)
                && longer.end() > reach.end()
                && other.points.iter().any(|point| window.points.contains(point))
                && longer.spans.iter().any(|span| span.timeline == reach.timeline() && span.last >= reach.end())
        })
    };
    let mut windows: Vec<Window> =
        all.iter().filter(|(window, reach)| !is_prefix(window, reach)).map(|(window, _)| window.clone()).collect();
    windows.sort_by_key(|window| (window.from.time, window.timeline));
    Ok(windows)
}

/// Where the log that is held ends for whoever begins at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// The time of the newest commit before it, behind the point; none where none is known.
    pub newest_commit: Option<Timestamp>,
    /// Whether log is held that nothing leads to from there.
    pub is_cut: bool,
}

/// Where the log that is held ends for whoever begins at this point; none where it leads to `to` without a gap.
pub(crate) async fn log_end(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    identities: &[Identity],
    point: &Point,
    to: Option<Position>,
) -> Result<Option<LogEnd>> {
    let mut held = Held::look(repo, trusted, identities).await?;
    let Some(base) = Base::open(point.clone(), identities)? else {
        return Ok(Some(LogEnd { newest_commit: None, is_cut: true }));
    };
    let own = to.filter(|to| to.system_id == base.system_id);
    if let Some(to) = own
        && let Some(reach) = held.follow(&base, to.timeline, false).await?
        && reach.end() >= to.lsn
    {
        return Ok(None);
    }
    let asked = own.map(|to| to.timeline);
    let known = held.timelines(base.system_id);
    for timeline in asked.into_iter().chain(known.into_iter().rev()).chain([base.postgres.timeline]) {
        if let Some(reach) = held.follow(&base, timeline, true).await? {
            let newest_commit = held.newest_commit(&reach, base.postgres.backup_end).await?;
            let is_cut = reach.is_cut || to.is_some();
            return Ok(Some(LogEnd { newest_commit, is_cut }));
        }
    }
    Ok(Some(LogEnd { newest_commit: None, is_cut: true }))
}

async fn window(held: &mut Held<'_>, base: &Base, timeline: u32, reach: &Reach) -> Result<Window> {
    let from = Moment { lsn: base.postgres.backup_end, time: base.postgres.finished };
    let newest = match held.follow(base, timeline, true).await? {
        Some(listed) => held.newest_commit(&listed, from.lsn).await?,
        None => None,
    };
    let to = Moment { lsn: reach.end(), time: newest.map_or(from.time, |newest| newest.max(from.time)) };
    Ok(Window {
        system_id: base.system_id,
        timeline: reach.timeline(),
        from,
        to,
        points: vec![base.point.header.point],
        is_cut: reach.is_cut,
    })
}
