//! Chooses what a recovery is made of: the point to begin from, the timelines to follow, the log to replay and the
//! filestores that hold every file of the moment.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{
    lsn::{Lsn, segment_file_name},
    signature::PublicKey,
};
use lifeboat_postgres::wal::{WalDecoder, WalEvent};
use lifeboat_repo::{
    document::{DocumentKind, Position},
    point::{Point, PointRef, PointSelector},
    progress::Silent,
    reader::{Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
    tree::TreeKind,
    wal::WalObject,
};

use super::{
    held::{Base, Held, Reach},
    staging::{Order, Segment, Span},
    target::{Settings, Stop, Target},
    windows::{self, Moment},
};
use crate::{
    details::{PostgresDetails, Witness},
    error::{Error, Result},
    restore::is_damage,
    stream::RestorePointDetails,
};

/// Clocks of a server and of its backup host do not differ by more.
const MOST_SKEW: Duration = Duration::from_secs(3600);

/// What somebody wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The point to begin from; none: the one that is nearest to the target.
    pub point: Option<PointSelector>,
    /// Where to end.
    pub target: Target,
    /// The timeline to follow; none: the newest one that leads to the target.
    pub timeline: Option<u32>,
}

impl Wish {
    /// A point as it is.
    pub fn point(selector: PointSelector) -> Wish {
        Wish { point: Some(selector), target: Target::PointEnd, timeline: None }
    }
}

/// What a recovery is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The point to begin from.
    pub base: Point,
    /// Its PostgreSQL.
    pub postgres: PostgresDetails,
    /// What was asked for.
    pub target: Target,
    /// What PostgreSQL is told.
    pub stop: Stop,
    /// The timeline on which the target lies.
    pub timeline: u32,
    /// Up to here the log is brought back; the target lies at or before it.
    pub end: Lsn,
    /// Up to here recovery gets before it stops, whatever lies at the target.
    pub certain: Lsn,
    /// The newest commit that is known to be in what is replayed to the end of everything held.
    pub newest_commit: Option<Timestamp>,
    /// When the target was, where that is known: a time that was asked for, or when a restore point was made.
    pub moment: Option<Timestamp>,
    /// Later points whose filestores may hold files of the moment that the base does not.
    pub later: Vec<Point>,
    /// What people should know.
    pub remarks: Vec<String>,
    pub(crate) log: Log,
}

/// The log of a plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// What is replayed.
    pub spans: Vec<Span>,
    /// Of the base's own log: what goes into `pg_wal`.
    pub own: Option<Span>,
    /// The archive's objects that hold any of it.
    pub objects: Vec<WalObject>,
    /// What the server will ask for.
    pub order: Order,
    /// Whether the server is to ask at all.
    pub staged: bool,
}

impl Plan {
    /// A point as it is: replay to the end of its own log.
    pub fn of_point(base: Point, identities: &[Identity]) -> Result<Plan> {
        crate::dump::refuse(&base)?;
        let postgres: PostgresDetails = crate::details::decode(&base.open_details(identities)?.postgres)?;
        let (end, timeline) = (postgres.wal_end, postgres.timeline);
        let first = postgres.start.segment_start(postgres.segment_size);
        let own = base.header.wal.as_ref().map(|_| Span { timeline, first, last: end });
        Ok(Plan {
            base,
            postgres,
            target: Target::PointEnd,
            stop: Stop::End,
            timeline,
            end,
            certain: end,
            newest_commit: None,
            moment: None,
            later: Vec::new(),
            remarks: Vec::new(),
            log: Log { spans: own.into_iter().collect(), own, ..Log::default() },
        })
    }

    /// What PostgreSQL is configured with.
    pub fn settings(&self) -> Settings {
        if !self.log.staged {
            return Settings { stop: self.stop, ..Settings::POINT_END };
        }
        let timeline = Some(self.timeline).filter(|timeline| *timeline != self.postgres.timeline);
        Settings { stop: self.stop, timeline, staged: true }
    }

    /// Whether recovery certainly passes this position.
    pub fn passes(&self, timeline: u32, lsn: Lsn) -> bool {
        let is_on = |span: &Span| span.timeline == timeline && span.first <= lsn && lsn <= span.last;
        (self.postgres.backup_end..=self.certain).contains(&lsn) && self.log.spans.iter().any(is_on)
    }
}

/// The newest witness by itself that the recovery of a plan passes, and that can be compared: with it, more of what was
/// committed is proven than with the base's own.
pub async fn witness(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    identities: &[Identity],
    plan: &Plan,
) -> Result<Option<Witness>> {
    let system_id = plan.base.header.wal.as_ref().map(|wal| wal.system_id);
    let mut found = repo.list_documents(DocumentKind::Witness).await?;
    found.retain(|found| {
        Some(found.position.system_id) == system_id && plan.passes(found.position.timeline, found.position.lsn)
    });
    found.sort_by_key(|found| found.position.lsn);
    for reference in found.iter().rev() {
        match repo.read_document::<Witness>(reference, trusted, identities).await {
            Ok(document) if document.details.comparison.is_exact() => return Ok(Some(document.details)),
            Ok(_) => {}
            // One that does not verify is no witness.
            Err(error) if is_damage(&error) || matches!(error, lifeboat_repo::Error::Untrusted { .. }) => {
                tracing::warn!(%error, "a witness was passed over");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Plans a recovery. A target that cannot be reached is [`Error::TargetOutOfReach`].
pub async fn plan(repo: &InstanceRepo, trusted: &[PublicKey], identities: &[Identity], wish: &Wish) -> Result<Plan> {
    if wish.target == Target::PointEnd {
        let selector = wish.point.as_ref().unwrap_or(&PointSelector::Latest);
        return Plan::of_point(repo.find_point(selector, trusted).await?, identities);
    }
    let mut held = Held::look(repo, trusted, identities).await?;
    let goal = Planner { held: &mut held, wish }.goal().await?;
    let planned = Planner { held: &mut held, wish }.run(&goal).await?;
    match planned {
        Ok(mut plan) => {
            plan.remarks.extend(held.skipped.iter().map(|why| format!("passed over: {why}")));
            Ok(plan)
        }
        Err(why) => Err(out_of_reach(&mut held, wish, &goal, why).await?),
    }
}

/// The target, as far as it is known before a base is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Latest,
    Time(Timestamp),
    /// Of one cluster, and for a restore point of one timeline.
    Position {
        system_id: u64,
        timeline: Option<u32>,
        lsn: Lsn,
        made: Option<Timestamp>,
    },
}

struct Planner<'a, 'h> {
    held: &'a mut Held<'h>,
    wish: &'a Wish,
}

/// Where recovery ends on the way that was found.
struct Ending {
    stop: Stop,
    end: Lsn,
    certain: Lsn,
    newest_commit: Option<Timestamp>,
}

impl Ending {
    /// At the end of all that is held.
    fn of_all(end: Lsn, newest_commit: Option<Timestamp>) -> Ending {
        Ending { stop: Stop::End, end, certain: end, newest_commit }
    }
}

impl Planner<'_, '_> {
    async fn goal(&mut self) -> Result<Goal> {
        Ok(match &self.wish.target {
            Target::PointEnd | Target::Latest => Goal::Latest,
            Target::Time(time) => Goal::Time(*time),
            Target::Lsn(lsn) => {
                let system_id = self.newest_system().await?;
                Goal::Position { system_id, timeline: None, lsn: *lsn, made: None }
            }
            Target::RestorePoint(name) => self.restore_point(name).await?,
        })
    }

    /// A position means something within one cluster only: the newest one that was backed up.
    async fn newest_system(&mut self) -> Result<u64> {
        for reference in self.points().await?.iter().rev() {
            if let Some(base) = self.held.base(reference).await? {
                return Ok(base.system_id);
            }
        }
        Err(self.no_point())
    }

    fn no_point(&self) -> Error {
        let instance = self.held.repo.instance().clone();
        lifeboat_repo::Error::NoPoint { instance, wanted: "to begin a recovery from".to_owned() }.into()
    }

    /// The newest restore point of this name.
    async fn restore_point(&mut self, name: &str) -> Result<Goal> {
        let mut found: Vec<(Timestamp, Position)> = Vec::new();
        for reference in self.held.repo.list_documents(DocumentKind::RestorePoint).await? {
            if self.wish.timeline.is_some_and(|timeline| timeline < reference.position.timeline) {
                continue;
            }
            let (trusted, identities) = (self.held.trusted, self.held.identities);
            match self.held.repo.read_document::<RestorePointDetails>(&reference, trusted, identities).await {
                Ok(mark) if mark.details.name == name => found.push((mark.details.time, reference.position)),
                Ok(_) => {}
                Err(error) => self.held.pass_over(error)?,
            }
        }
        let newest = found.iter().max().copied();
        let Some((made, Position { system_id, timeline, lsn })) = newest else {
            return Err(Error::NoRestorePoint { name: name.to_owned() });
        };
        if found.len() > 1 {
            let count = found.len();
            self.held.skipped.push(format!("{} older restore points of the name \"{name}\"", count - 1));
        }
        Ok(Goal::Position { system_id, timeline: Some(timeline), lsn, made: Some(made) })
    }

    /// Points that may be the base, oldest first.
    async fn points(&mut self) -> Result<Vec<PointRef>> {
        match &self.wish.point {
            None => Ok(self.held.repo.list_points().await?),
            Some(selector) => {
                let point = self.held.repo.find_point(selector, self.held.trusted).await?;
                crate::dump::refuse(&point)?;
                Ok(vec![point.reference()])
            }
        }
    }

    /// The plan, or in words why there is none.
    async fn run(&mut self, goal: &Goal) -> Result<std::result::Result<Plan, String>> {
        let points = self.points().await?;
        if points.is_empty() {
            return Err(self.no_point());
        }
        // A backup that was finished later may have begun before the target: at most the next one, as they run one by one.
        let newest = match goal {
            Goal::Time(time) => points.partition_point(|point| point.time <= *time).saturating_add(1).min(points.len()),
            _ => points.len(),
        };
        let mut why = None;
        for place in (0..newest).rev() {
            let Some(base) = self.held.base(&points[place]).await? else { continue };
            if let Some(reason) = self.too_late(&base, goal).await? {
                why.get_or_insert(reason);
                continue;
            }
            let timeline = self.timeline(&base, goal);
            let Some(reach) = self.held.follow(&base, timeline, true).await? else {
                why.get_or_insert(format!("no recovery point before it lies on the way to timeline {timeline}"));
                continue;
            };
            return Ok(match self.ending(&base, &reach, goal).await? {
                Ok(ending) => Ok(self.assemble(base, reach, ending, goal, &points[place + 1..]).await?),
                Err(reason) => Err(reason),
            });
        }
        Ok(Err(why.unwrap_or_else(|| "no recovery point that verifies lies before it".to_owned())))
    }

    /// Why this base cannot be used for the goal, if so.
    async fn too_late(&self, base: &Base, goal: &Goal) -> Result<Option<String>> {
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

    fn timeline(&self, base: &Base, goal: &Goal) -> u32 {
        let of_goal = match goal {
            Goal::Position { timeline, .. } => *timeline,
            _ => None,
        };
        let newest = || {
            let known = self.held.timelines(base.system_id).into_iter().max();
            known.map_or(base.postgres.timeline, |timeline| timeline.max(base.postgres.timeline))
        };
        self.wish.timeline.or(of_goal).unwrap_or_else(newest)
    }

    async fn ending(&mut self, base: &Base, reach: &Reach, goal: &Goal) -> Result<std::result::Result<Ending, String>> {
        let from = base.postgres.backup_end;
        let end = reach.end();
        match *goal {
            Goal::Latest => {
                let newest_commit = self.held.newest_commit(reach, from).await?;
                Ok(Ok(Ending::of_all(end, newest_commit)))
            }
            Goal::Position { lsn, .. } if lsn > end => {
                Ok(Err(format!("what is held from point {} on ends at {end}", base.point.header.point)))
            }
            // PostgreSQL stops only at a record behind the target, and none is held.
            Goal::Position { lsn, .. } if lsn == end => Ok(Ok(Ending::of_all(end, None))),
            Goal::Position { lsn, .. } => {
                // The record at the target has to be read to its end; it may lie in the next segment.
                let enough = lsn.segment_start(base.postgres.segment_size).0 + 2 * base.postgres.segment_size;
                let end = end.min(Lsn(enough));
                Ok(Ok(Ending { stop: Stop::Lsn(lsn), end, certain: lsn, newest_commit: None }))
            }
            Goal::Time(time) => {
                if let Some((certain, end)) = self.held.first_after(reach, from, time).await? {
                    return Ok(Ok(Ending { stop: Stop::Time(time), end, certain, newest_commit: None }));
                }
                let newest = self.held.newest_commit(reach, from).await?;
                Ok(match newest.or(Some(base.postgres.finished)) {
                    Some(newest) if time <= newest => Ok(Ending::of_all(end, Some(newest))),
                    newest => Err(format!(
                        "the newest commit held from point {} on is of {}",
                        base.point.header.point,
                        newest.unwrap_or(base.postgres.finished)
                    )),
                })
            }
        }
    }

    async fn assemble(
        &mut self,
        base: Base,
        reach: Reach,
        ending: Ending,
        goal: &Goal,
        later: &[PointRef],
    ) -> Result<Plan> {
        let mut remarks = Vec::new();
        if *goal == Goal::Latest && reach.is_cut {
            remarks.push(format!(
                "more log is held than this, but a part of it after {} is missing: see lifeboat points windows",
                reach.end()
            ));
        }
        let spans = cut(&reach.spans, ending.end);
        let timeline = spans.last().map_or(reach.timeline(), |span| span.timeline);
        let own_end = spans
            .iter()
            .find(|span| span.timeline == base.postgres.timeline)
            .map_or(base.postgres.wal_end, |span| span.last.min(base.postgres.wal_end));
        let size = base.postgres.segment_size;
        let order = Order {
            segments: segments(&spans, own_end, size),
            histories: self.held.history_files(base.system_id),
            segment_size: size,
        };
        let own = Span { timeline: base.postgres.timeline, first: base.log_start(), last: own_end };
        let is_used = |object: &WalObject| {
            spans
                .iter()
                .any(|span| span.timeline == object.timeline && object.first < span.last && object.last > span.first)
        };
        let objects = reach.objects.into_iter().filter(is_used).collect();
        let moment = match goal {
            Goal::Time(time) => Some(*time),
            Goal::Position { made, .. } => *made,
            Goal::Latest => None,
        };
        let later = self.filestores(&base, &ending, goal, timeline, later, &mut remarks).await?;
        Ok(Plan {
            base: base.point,
            postgres: base.postgres,
            target: self.wish.target.clone(),
            stop: ending.stop,
            timeline,
            end: ending.end,
            certain: ending.certain,
            newest_commit: ending.newest_commit,
            moment,
            later,
            remarks,
            log: Log { spans, own: Some(own), objects, order, staged: true },
        })
    }

    /// The points after the base up to the first whose walk of the filestore began after the target. A file is written
    /// before the row that names it is committed, so these have every file that a row of the moment names, unless it was
    /// removed again before a walk came by.
    async fn filestores(
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

/// The spans up to a position on their path.
fn cut(spans: &[Span], end: Lsn) -> Vec<Span> {
    let before = spans.iter().filter(|span| span.first < end);
    before.map(|span| Span { last: span.last.min(end), ..*span }).collect()
}

/// The segment files from the one that holds `from` on, each named after the newest timeline in it, as the server looks
/// for it.
fn segments(spans: &[Span], from: Lsn, size: u64) -> Vec<Segment> {
    let Some(end) = spans.last().map(|span| span.last) else { return Vec::new() };
    if end <= from {
        return Vec::new();
    }
    let numbers = from.segment(size)..=Lsn(end.0 - 1).segment(size);
    numbers
        .filter_map(|number| {
            let (start, behind) = (Lsn(number * size), Lsn((number + 1) * size));
            let parts: Vec<Span> = spans
                .iter()
                .filter(|span| span.first < behind && span.last > start)
                .map(|span| Span { first: span.first.max(start), last: span.last.min(behind), ..*span })
                .collect();
            let timeline = parts.last()?.timeline;
            Some(Segment { name: segment_file_name(timeline, number, size), start, parts })
        })
        .collect()
}

/// The error, with the nearest moments that can be reached.
async fn out_of_reach(held: &mut Held<'_>, wish: &Wish, goal: &Goal, why: String) -> Result<Error> {
    let windows = windows::find(held).await?;
    let windows: Vec<_> =
        windows.into_iter().filter(|window| wish.timeline.is_none_or(|timeline| window.timeline == timeline)).collect();
    let is_before = |moment: &Moment, system: u64| match *goal {
        Goal::Latest => true,
        Goal::Time(time) => moment.time <= time,
        Goal::Position { system_id, lsn, .. } => system == system_id && moment.lsn <= lsn,
    };
    let before = windows.iter().filter(|window| is_before(&window.to, window.system_id)).map(|window| window.to);
    let after = windows.iter().filter(|window| !is_before(&window.from, window.system_id)).map(|window| window.from);
    let order = |moment: &Moment| match goal {
        Goal::Position { .. } => (moment.lsn.0, moment.time),
        _ => (0, moment.time),
    };
    let (before, after) = (before.max_by_key(order), after.min_by_key(order));
    let inside = windows
        .iter()
        .find(|window| is_before(&window.from, window.system_id) && !is_before(&window.to, window.system_id));
    let why = match inside {
        Some(window) => format!("{why} (timeline {} has it: --timeline {0})", window.timeline),
        None => why,
    };
    Ok(Error::TargetOutOfReach {
        target: wish.target.to_string(),
        why,
        before: before.map(Box::new),
        after: after.map(Box::new),
    })
}

#[cfg(test)]
mod tests;
