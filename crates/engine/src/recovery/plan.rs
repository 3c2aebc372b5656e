//! Chooses what a recovery is made of: the point to begin from, the timelines to follow, the log to replay and the
//! filestores that hold every file of the moment.

use jiff::Timestamp;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{
    document::{DocumentKind, Position},
    point::{Point, PointRef, PointSelector},
    repository::InstanceRepo,
    seal::Identity,
    wal::WalObject,
};

mod base;
mod filestore;
mod nearest;
mod order;
mod witness;

pub use witness::witness;

use nearest::out_of_reach;
use order::{cut, segments};

use super::{
    held::{Base, Held, Reach},
    staging::{Order, Span},
    target::{Settings, Stop, Target},
};
use crate::{
    details::PostgresDetails,
    error::{Error, Result},
    stream::RestorePointDetails,
};

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

/// Plans a recovery. A target that cannot be reached is [`Error::TargetOutOfReach`].
pub async fn plan(repo: &InstanceRepo, trusted: &[PublicKey], identities: &[Identity], wish: &Wish) -> Result<Plan> {
    if wish.target == Target::PointEnd {
        let selector = wish.point.as_ref().unwrap_or(&PointSelector::Latest);
        let mut plan = Plan::of_point(repo.find_point(selector, trusted).await?, identities)?;
        // Promoted, the server takes a number that no timeline of the cluster has.
        let held = Held::look(repo, trusted, identities).await?;
        if let Some(wal) = &plan.base.header.wal {
            plan.log.order.histories = held.history_files(wal.system_id);
        }
        return Ok(plan);
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
            if self.wish.timeline.is_some_and(|timeline| !self.leads_through(timeline, &reference.position)) {
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

    /// Whether the path to a timeline has this position on it.
    fn leads_through(&self, timeline: u32, position: &Position) -> bool {
        let path = self.held.path(position.system_id, timeline);
        path.iter().any(|leg| leg.timeline == position.timeline && leg.end.is_none_or(|end| position.lsn <= end))
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
            let (timeline, others) = self.timeline(&base, goal).await?;
            let Some(reach) = self.held.follow(&base, timeline, true).await? else {
                why.get_or_insert(format!("no recovery point before it lies on the way to timeline {timeline}"));
                continue;
            };
            return Ok(match self.ending(&base, &reach, goal).await? {
                Ok(ending) => {
                    let mut plan = self.assemble(base, reach, ending, goal, &points[place + 1..]).await?;
                    plan.remarks.extend(others);
                    Ok(plan)
                }
                Err(reason) => Err(reason),
            });
        }
        Ok(Err(why.unwrap_or_else(|| "no recovery point that verifies lies before it".to_owned())))
    }

    /// The timeline to follow, and what to say of others. Unless one is asked for, it is the one with the newest commit that
    /// is held: the highest number may belong to a copy that was promoted, tried and thrown away.
    async fn timeline(&mut self, base: &Base, goal: &Goal) -> Result<(u32, Vec<String>)> {
        let of_goal = match goal {
            Goal::Position { timeline, .. } => *timeline,
            _ => None,
        };
        if let Some(timeline) = self.wish.timeline.or(of_goal) {
            return Ok((timeline, Vec::new()));
        }
        let mut branches = Vec::new();
        let mut timelines = self.held.timelines(base.system_id);
        timelines.push(base.postgres.timeline);
        timelines.dedup();
        for timeline in timelines {
            let Some(reach) = self.held.follow(base, timeline, true).await? else { continue };
            let newest = self.held.newest_commit(&reach, base.postgres.backup_end).await?;
            branches.push((newest, reach.end(), timeline, reach));
        }
        branches.sort_by_key(|(newest, end, timeline, _)| (*newest, *end, *timeline));
        let Some((_, _, timeline, best)) = branches.pop() else { return Ok((base.postgres.timeline, Vec::new())) };
        let is_left_out = |reach: &Reach| {
            reach.spans.last().is_some_and(|last| {
                !best.spans.iter().any(|span| span.timeline == last.timeline && span.last >= last.last)
            })
        };
        let left_out = branches.iter().filter(|(_, _, other, reach)| *other != timeline && is_left_out(reach));
        let others = left_out.map(|(newest, end, other, _)| {
            let newest = newest.map_or_else(String::new, |time| format!(", its newest commit of {time}"));
            format!("timeline {timeline} is followed; timeline {other} is held to {end}{newest}: --timeline {other}")
        });
        Ok((timeline, others.collect()))
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
}

#[cfg(test)]
mod tests;
