//! The moment at which a check began to fail, by bisection over what the repository can bring back.
//!
//! [`search`] says where to look next and knows nothing of restores. [`field`] lays out what can be looked at: recovery points first,
//! then times between two of them. [`probe`] brings one moment back into a sandbox that is torn down again, by the restore that a drill
//! and an emergency use, and asks the check there. [`lost`] tells what going back to the good moment would undo.
//!
//! Each probe is a restore of its own: a server that was promoted cannot be replayed further, and one that is paused would have to be
//! started again and again in the same folder, which a drill does not do with what it judges.

mod field;
mod lost;
mod probe;
pub mod search;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_engine::recovery::{Target, Wish};
use lifeboat_model::{
    config::DrillConfig,
    id::{Instance, PointId, Tenant},
    lsn::Lsn,
    signature::PublicKey,
};
use lifeboat_postgres::digest::DatabaseDigest;
use lifeboat_repo::{point::PointSelector, progress::Progress, repository::InstanceRepo, seal::Identity};
use tokio_util::sync::CancellationToken;

pub use lost::{Lost, LostTable};
pub use search::{End, Narrowed};

use crate::error::{Error, Result, with_causes};
use field::Stations;
use probe::{Answered, Asker};
use search::{Heard, Next, Place, Search};

/// The check: a statement that gives one value, and the value that it gives where all is well.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where it is asked.
    pub database: String,
    /// One statement, one row, one column.
    pub sql: String,
    /// The value as text.
    pub expect: String,
    /// What takes longer was not executed.
    pub timeout: Duration,
}

/// What is searched, and how.
pub struct FindRequest {
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// What is asked.
    pub question: Question,
    /// Nothing older is looked at.
    pub after: Option<Timestamp>,
    /// Nothing newer is looked at.
    pub before: Option<Timestamp>,
    /// Good and bad need not be nearer to each other.
    pub resolution: Duration,
    /// The instance's part of the repository.
    pub repo: InstanceRepo,
    /// Keys that are believed.
    pub trusted: Vec<PublicKey>,
    /// What opens the data.
    pub identities: Vec<Identity>,
    /// A role of the source that can log in.
    pub login_hint: String,
    /// The image and the limits of the instance's drills.
    pub config: DrillConfig,
    /// Below this folder each sandbox gets its own.
    pub work_root: PathBuf,
    /// The Docker engine's address; none for the usual socket.
    pub docker: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Hears of bytes.
    pub progress: Arc<dyn Progress>,
    /// Stops it; what is under way is torn down.
    pub cancel: CancellationToken,
}

/// A moment, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// A recovery point as it is, and when it was finished.
    Point(PointId, Timestamp),
    /// Every commit until then.
    Time(Timestamp),
    /// The latest that is held; its time nearly.
    Latest(Timestamp),
}

impl Moment {
    /// When it was, nearly.
    pub fn time(&self) -> Timestamp {
        match self {
            Moment::Point(_, time) | Moment::Time(time) | Moment::Latest(time) => *time,
        }
    }

    fn wish(&self) -> Wish {
        match self {
            Moment::Point(id, _) => Wish::point(PointSelector::Id(id.to_string())),
            Moment::Time(time) => Wish { point: None, target: Target::Time(*time), timeline: None },
            Moment::Latest(_) => Wish { point: None, target: Target::Latest, timeline: None },
        }
    }
}

/// What a probe gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The check holds.
    Good,
    /// It does not.
    Bad,
    /// It could not be asked: neither.
    NotExecuted(String),
}

/// One moment that was looked at.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Which.
    pub moment: Moment,
    /// What was restored, in words.
    pub restored: Option<String>,
    /// The point that it began from.
    pub base: Option<PointId>,
    /// What the statement gave.
    pub answer: Option<String>,
    /// What that means.
    pub verdict: Verdict,
    /// The newest commit of that state.
    pub newest_commit: Option<Timestamp>,
    /// When the next one ended, where the log told.
    pub next_commit: Option<Timestamp>,
    /// Where in the log replay ended.
    pub lsn: Option<Lsn>,
    /// From the first look to the end of the teardown.
    pub took: Duration,
}

/// What is to come, as far as can be said.
#[derive(Debug, Clone, Copy)]
pub struct Outlook {
    /// Probes, if all of them answer.
    pub left: usize,
    /// What they will take, by what the others took.
    pub expected: Option<Duration>,
}

/// Follows a search.
pub trait Follow: Send + Sync {
    /// A moment is about to be looked at.
    fn asks(&self, number: usize, moment: &Moment, outlook: Outlook);
    /// It was.
    fn heard(&self, number: usize, probe: &Probe);
    /// What going back would lose is looked at, in another restore of the good moment.
    fn compares(&self, _moment: &Moment) {}
}

/// What the search gave.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it ended.
    pub end: End,
    /// Every moment that was looked at, in that order.
    pub probes: Vec<Probe>,
    /// The last good moment, by its place in the list.
    pub last_good: Option<usize>,
    /// The first bad moment.
    pub first_bad: Option<usize>,
    /// The good state lasted at least until then.
    pub good_until: Option<Timestamp>,
    /// The check did not hold any more with the commit of then.
    pub bad_from: Option<Timestamp>,
    /// What going back to the last good moment would undo, where both were found; or why it is not known.
    pub lost: Option<Result<Lost, String>>,
    /// What people should know.
    pub remarks: Vec<String>,
}

/// Searches. An error is what makes all of it impossible; a moment that cannot be asked is not.
pub async fn run(request: &FindRequest, follow: &dyn Follow) -> Result<Found> {
    let stations = Stations::lay_out(request).await?;
    let mut hunt = Hunt { request, follow, stations, probes: Vec::new(), newest: None, good: None };
    let mut search = Search::new(hunt.stations.field.clone());
    let (mut last_good, mut first_bad) = (None, None);
    let end = loop {
        match search.next() {
            Next::End(end) => break end,
            Next::Ask(place) => {
                let heard = hunt.probe(place, search.left()).await?;
                let number = hunt.probes.len() - 1;
                match heard {
                    Heard::Good { .. } => last_good = Some(number),
                    Heard::Bad { .. } => first_bad = Some(number),
                    Heard::NotExecuted => {}
                }
                search.told(place, heard);
            }
        }
    };
    let lost = match (end, last_good) {
        (End::Found(_), Some(good)) => Some(hunt.lost(good).await?),
        _ => None,
    };
    Ok(Found {
        end,
        last_good,
        first_bad,
        good_until: search.good().map(|good| good.time),
        bad_from: search.bad().map(|bad| bad.time),
        lost,
        probes: hunt.probes,
        remarks: hunt.stations.remarks,
    })
}

/// The newest moment has no such database: the name is wrong. Asked of the first moment alone.
fn is_unknown_database(error: &Error) -> bool {
    use lifeboat_engine::{Error as Engine, dump::DumpError};
    let Error::Source { source, .. } = error else { return false };
    matches!(source.downcast_ref::<Engine>(), Some(Engine::Dump(DumpError::UnknownDatabase { .. })))
}

/// A search under way.
struct Hunt<'a> {
    request: &'a FindRequest,
    follow: &'a dyn Follow,
    stations: Stations,
    probes: Vec<Probe>,
    /// What the newest moment with an answer holds, and how long it took to find out.
    newest: Option<(Result<DatabaseDigest, String>, Duration)>,
    /// The same of the last good moment that was asked for it, by its place in the list of probes.
    good: Option<(usize, Result<DatabaseDigest, String>)>,
}

impl Hunt<'_> {
    async fn probe(&mut self, place: Place, left: usize) -> Result<Heard> {
        let moment = self.stations.moment(place);
        let (number, begun) = (self.probes.len() + 1, Instant::now());
        self.follow.asks(number, &moment, self.outlook(left));
        let digest = self.wants_digest(left);
        let mut probe = Probe {
            moment: moment.clone(),
            restored: None,
            base: None,
            answer: None,
            verdict: Verdict::NotExecuted(String::new()),
            newest_commit: None,
            next_commit: None,
            lsn: None,
            took: Duration::ZERO,
        };
        let heard = match self.asker().ask(&moment, digest).await {
            Ok(answered) => self.judge(&mut probe, answered),
            Err(error) if self.ends_all(&error) => return Err(error),
            Err(error) => {
                probe.verdict = Verdict::NotExecuted(with_causes(&error));
                Heard::NotExecuted
            }
        };
        probe.took = begun.elapsed();
        self.follow.heard(number, &probe);
        self.probes.push(probe);
        Ok(heard)
    }

    fn asker(&self) -> Asker<'_> {
        // What can be replayed from the last good point, or from an older one, does not need one that cannot be read.
        let good = self.probes.iter().rev().find(|probe| probe.verdict == Verdict::Good);
        let is_first = self.probes.is_empty();
        let (request, stations) = (self.request, &self.stations);
        Asker { request, is_first, stations, spare: good.and_then(|probe| probe.base) }
    }

    fn judge(&mut self, probe: &mut Probe, answered: Answered) -> Heard {
        let Answered { restored, base, answer, newest, next, lsn, began, digest } = answered;
        (probe.restored, probe.base, probe.lsn) = (Some(restored), base, lsn);
        (probe.newest_commit, probe.next_commit) = (newest, next);
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                probe.verdict = Verdict::NotExecuted(why);
                return Heard::NotExecuted;
            }
        };
        let is_good = answer == self.request.question.expect;
        probe.answer = Some(answer);
        if let Some((digest, took)) = digest {
            match is_good {
                true => self.good = Some((self.probes.len(), digest)),
                false if self.newest.is_none() => self.newest = Some((digest, took)),
                false => {}
            }
        }
        let at = probe.moment.time();
        match (is_good, &probe.moment) {
            (true, moment) => {
                probe.verdict = Verdict::Good;
                let until = match moment {
                    Moment::Time(time) => *time,
                    // What was committed before the backup began is in it, whatever replay met.
                    _ => newest.or(began).unwrap_or(at),
                };
                Heard::Good { until, next }
            }
            (false, _) => {
                probe.verdict = Verdict::Bad;
                Heard::Bad { newest: newest.unwrap_or(at) }
            }
        }
    }

    /// Whether this probe also looks at every row. The newest moment's does; a good one's where it costs less than another restore
    /// of the last of them in the end.
    fn wants_digest(&self, left: usize) -> bool {
        let Some((_, took)) = &self.newest else { return true };
        self.mean().is_some_and(|mean| took.saturating_mul(u32::try_from(left.max(1)).unwrap_or(u32::MAX)) < mean)
    }

    fn mean(&self) -> Option<Duration> {
        let restored: Vec<Duration> =
            self.probes.iter().filter(|probe| probe.restored.is_some()).map(|probe| probe.took).collect();
        let number = u32::try_from(restored.len()).ok().filter(|number| *number > 0)?;
        Some(restored.iter().sum::<Duration>() / number)
    }

    fn outlook(&self, left: usize) -> Outlook {
        let times = u32::try_from(left).unwrap_or(u32::MAX);
        Outlook { left, expected: self.mean().map(|mean| mean.saturating_mul(times)) }
    }

    /// Whether nothing else can be asked either.
    fn ends_all(&self, error: &Error) -> bool {
        self.request.cancel.is_cancelled()
            || is_unknown_database(error)
            || matches!(
                error,
                Error::NoDocker { .. }
                    | Error::NoImage { .. }
                    | Error::NoRoom { .. }
                    | Error::NoRandomness
                    | Error::Question { .. }
            )
    }

    /// What going back would undo.
    async fn lost(&mut self, last_good: usize) -> Result<Result<Lost, String>> {
        let Some((newest, _)) = self.newest.take() else {
            return Ok(Err("the newest moment was not looked at row by row".to_owned()));
        };
        let good = match self.good.take() {
            Some((number, digest)) if number == last_good => digest,
            _ => {
                let moment = self.probes[last_good].moment.clone();
                self.follow.compares(&moment);
                match self.asker().ask(&moment, true).await {
                    Ok(answered) => match answered.digest {
                        Some((digest, _)) => digest,
                        None => Err("the good moment was not looked at row by row".to_owned()),
                    },
                    Err(error) if self.ends_all(&error) => return Err(error),
                    Err(error) => Err(format!("the good moment could not be restored again: {}", with_causes(&error))),
                }
            }
        };
        Ok(good.and_then(|good| newest.map(|newest| Lost::between(&good, &newest))))
    }
}
