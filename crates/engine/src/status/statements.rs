//! A tenant's statements as a status needs them: listed once for all its instances, the newest few of each kind kept, and what
//! was read remembered. A tenant has hundreds of thousands of them; a status asks for the last of each kind.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{Proof, TENANT_WIDE},
    drill::DrillPredicate,
};
use lifeboat_model::{
    check::{Outcome, Verdict},
    id::Instance,
    time::compact,
};
use lifeboat_repo::repository::EvidenceRef;
use lifeboat_store::Key;

use super::{Drill, LockProof, Measured};
use crate::{context::Context, error::Result, record};

/// Months that are listed: what is older says nothing of how an instance is now.
const MONTHS: i32 = 14;
/// Months that are listed at the same time.
const LISTINGS: usize = 4;
/// A statement is named by the beginning of its run, and put at its end: this much later at most.
const LONGEST_RUN: Duration = Duration::from_secs(3 * 86_400);
/// Of each kind and instance.
const MOST: usize = 60;
/// Drills and controls that are read.
const MOST_DRILLS: usize = 30;
/// Statements that are read at the same time.
const READS: usize = 8;
/// Drills in a trend.
const TREND: usize = 20;

/// A tenant's statements.
#[derive(Debug)]
pub struct Statements {
    listed: Timestamp,
    /// By instance and kind, oldest first.
    found: HashMap<Instance, BTreeMap<Kind, Vec<EvidenceRef>>>,
    /// What was read of them.
    read: Mutex<HashMap<Key, Told>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Drill,
    Verify,
    Rehearsal,
}

impl Kind {
    fn of(word: &str) -> Option<Kind> {
        match word {
            "drill" => Some(Kind::Drill),
            "verify" => Some(Kind::Verify),
            "rehearsal" => Some(Kind::Rehearsal),
            _ => None,
        }
    }
}

/// What a statement says, as far as a status asks.
#[derive(Debug, Clone)]
enum Told {
    /// A drill, and the images it ran on.
    Drill(Box<Drill>, Vec<String>),
    /// A negative control.
    Control(Box<Drill>),
    Proof(LockProof),
    Other,
    /// Not to be believed.
    Nothing,
}

/// What the drills of an instance tell.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Drills {
    pub last: Option<Drill>,
    /// Newer ones that do not hold, so that a forged or damaged one is not silently an older one's glory.
    pub passed_over: u64,
    pub trend: Vec<Measured>,
    pub control: Option<Drill>,
}

impl Statements {
    /// Lists a tenant's statements of the last fourteen months.
    pub async fn list(context: &Context) -> Result<Statements> {
        let listed = (context.clock)();
        let mut statements = Statements { listed, found: HashMap::new(), read: Mutex::default() };
        statements.take(context, months(listed, MONTHS), "").await?;
        Ok(statements)
    }

    /// Lists what came since.
    pub async fn refresh(&mut self, context: &Context) -> Result<()> {
        let now = (context.clock)();
        let since = self.listed.checked_sub(LONGEST_RUN).unwrap_or(self.listed);
        let months = months_between(since, now).unwrap_or_else(|| months(now, MONTHS));
        self.take(context, months, &compact(since)).await?;
        self.listed = now;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |key: &Key| {
            let of = key.as_str().parse::<EvidenceKey>().ok().and_then(|parts| self.found.get(&parts.instance));
            of.is_some_and(|kinds| kinds.values().flatten().any(|found| found.key == *key))
        };
        read.retain(|key, _| known(key));
        Ok(())
    }

    async fn take(&mut self, context: &Context, months: Vec<String>, after: &str) -> Result<()> {
        let (repository, tenant) = (&context.repository, &context.config.tenant);
        let listing =
            months.into_iter().map(|month| async move { repository.list_evidence_from(tenant, &month, after).await });
        let mut listing = futures::stream::iter(listing).buffered(LISTINGS);
        while let Some(month) = listing.try_next().await? {
            month.into_iter().for_each(|found| self.keep(found));
        }
        Ok(())
    }

    fn keep(&mut self, found: EvidenceRef) {
        let Ok(parts) = found.key.as_str().parse::<EvidenceKey>() else { return };
        let Some(kind) = Kind::of(&parts.kind) else { return };
        let list = self.found.entry(parts.instance).or_default().entry(kind).or_default();
        if let Err(place) = list.binary_search_by(|known| known.key.cmp(&found.key)) {
            list.insert(place, found);
        }
        if list.len() > MOST {
            list.remove(0);
        }
    }

    /// Newest first.
    fn of(&self, instance: &Instance, kind: Kind) -> impl Iterator<Item = &EvidenceRef> {
        self.found.get(instance).and_then(|kinds| kinds.get(&kind)).into_iter().flatten().rev()
    }

    /// Key rehearsals of an instance, and those that name none.
    pub(super) fn rehearsals(&self, instance: &Instance) -> Vec<EvidenceRef> {
        let wide = TENANT_WIDE.parse::<Instance>().ok();
        let wide = wide.iter().flat_map(|wide| self.of(wide, Kind::Rehearsal));
        self.of(instance, Kind::Rehearsal).chain(wide).cloned().collect()
    }

    /// The newest proof of locks that is to be believed.
    pub(super) async fn proof(&self, context: &Context, instance: &Instance) -> Result<Option<LockProof>> {
        for found in self.of(instance, Kind::Verify) {
            if let Told::Proof(proof) = self.tell(context, found).await? {
                return Ok(Some(proof));
            }
        }
        Ok(None)
    }

    /// What the drills tell, read from the newest on; `configured` are the images of the configuration.
    pub(super) async fn drills(
        &self,
        context: &Context,
        instance: &Instance,
        configured: &[&String],
    ) -> Result<Drills> {
        let mut drills = Drills::default();
        let mut kinds = BTreeSet::new();
        // Each owns its reference: a closure over borrowed ones would keep the future from being `Send`.
        let newest: Vec<EvidenceRef> = self.of(instance, Kind::Drill).take(MOST_DRILLS).cloned().collect();
        let telling = newest.into_iter().map(|found| async move { self.tell(context, &found).await });
        let mut telling = futures::stream::iter(telling).buffered(READS);
        while let Some(told) = telling.try_next().await? {
            match told {
                Told::Drill(mut drill, images) => {
                    if let (Outcome::Passed, Some(seconds)) = (drill.outcome, drill.rto_seconds) {
                        drills.trend.push(Measured { at: drill.started, seconds });
                    }
                    if drills.last.is_none() {
                        drill.other_images = images;
                        drill.other_images.retain(|image| !configured.contains(&image));
                        drills.last = Some(*drill);
                    }
                }
                Told::Control(control) => {
                    let is_newest = kinds.insert(control.kind.clone());
                    let failed = |control: &Drill| control.outcome == Outcome::Failed;
                    let is_worse = drills.control.as_ref().is_none_or(|known| failed(&control) && !failed(known));
                    if is_newest && is_worse {
                        drills.control = Some(*control);
                    }
                }
                Told::Proof(_) | Told::Other | Told::Nothing if drills.last.is_none() => drills.passed_over += 1,
                _ => {}
            }
        }
        drills.trend.truncate(TREND);
        drills.trend.reverse();
        Ok(drills)
    }

    async fn tell(&self, context: &Context, found: &EvidenceRef) -> Result<Told> {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&found.key).cloned();
        if let Some(told) = known {
            return Ok(told);
        }
        let told = match record::believed(context, found).await?.map(|verified| verified.statement.predicate) {
            None => Told::Nothing,
            Some(Predicate::Drill(drill)) => told(*drill, found),
            Some(Predicate::Act(act)) => match act.act {
                Act::Verify(Proof { locks: Some(locks), .. }) => {
                    Told::Proof(LockProof { at: act.started, objects: locks.objects, short: locks.short })
                }
                _ => Told::Other,
            },
            Some(_) => Told::Other,
        };
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(found.key.clone(), told.clone());
        Ok(told)
    }
}

fn told(predicate: DrillPredicate, found: &EvidenceRef) -> Told {
    let bad = predicate.checks.iter().find(|check| matches!(check.verdict, Verdict::Failed(_)));
    let mut drill = Box::new(Drill {
        run: predicate.run.to_string(),
        started: predicate.started,
        finished: predicate.finished,
        outcome: predicate.outcome,
        kind: None,
        point: predicate.point.map(|point| point.id.to_string()),
        rpo_seconds: predicate.rpo_seconds,
        rto_seconds: predicate.rto_seconds,
        first_bad: bad.map(|check| check.id.clone()),
        other_images: Vec::new(),
        evidence: found.key.to_string(),
    });
    if predicate.sabotage.is_none() && predicate.control.is_none() {
        return Told::Drill(drill, predicate.images.into_iter().map(|image| image.name).collect());
    }
    // A control's drill must fail; what counts is what was said of that.
    drill.outcome = predicate.control.as_ref().map_or(Outcome::Incomplete, |control| control.outcome);
    drill.kind = predicate.control.map(|control| control.kind).or(predicate.sabotage);
    Told::Control(drill)
}

/// The last so many months as prefixes of statements' names, oldest first.
fn months(now: Timestamp, count: i32) -> Vec<String> {
    let newest = first_of_month(now);
    let month = |back: i32| newest.checked_sub(back.months()).ok().map(name);
    // The clock of who signed may be ahead.
    (-1..count).rev().filter_map(month).collect()
}

/// All months from one time to another; none where these are too many.
fn months_between(from: Timestamp, to: Timestamp) -> Option<Vec<String>> {
    let (mut month, last) = (first_of_month(from), first_of_month(to).checked_add(1.month()).ok()?);
    let mut names = Vec::new();
    while month <= last {
        names.push(name(month));
        month = month.checked_add(1.month()).ok()?;
        if names.len() > MONTHS.unsigned_abs() as usize {
            return None;
        }
    }
    Some(names)
}

fn first_of_month(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date().first_of_month()
}

fn name(month: Date) -> String {
    month.strftime("%Y%m").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn months_are_listed_oldest_first() {
        let listed = months(at("2026-01-31T23:59:59Z"), 3);
        assert_eq!(listed, ["202511", "202512", "202601", "202602"]);
        let since = months_between(at("2025-12-31T10:00:00Z"), at("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(since, ["202512", "202601", "202602"]);
        assert_eq!(months_between(at("2020-12-31T10:00:00Z"), at("2026-01-02T00:00:00Z")), None);
    }

    #[test]
    fn the_newest_of_each_kind_are_kept_once() {
        let mut statements =
            Statements { listed: Timestamp::UNIX_EPOCH, found: HashMap::new(), read: Mutex::default() };
        let reference = |kind: &str, n: u64| {
            let time = compact(Timestamp::from_second(1_795_000_000 + n as i64 * 3600).unwrap());
            let key = Key::new(format!("acme/evidence/{time}-clinic-{kind}-{n:016x}.dsse.json")).unwrap();
            EvidenceRef { key, version: None, len: 1, modified: Timestamp::UNIX_EPOCH }
        };
        for n in (0..100).chain(90..100) {
            ["drill", "verify", "backup"].into_iter().for_each(|kind| statements.keep(reference(kind, n)));
        }
        let clinic: Instance = "clinic".parse().unwrap();
        let newest: Vec<_> = statements.of(&clinic, Kind::Drill).map(|found| found.key.clone()).collect();
        assert_eq!((newest.len(), &newest[0]), (MOST, &reference("drill", 99).key));
        assert_eq!(statements.found[&clinic].len(), 2, "backups are not kept");
        assert_eq!(statements.of(&"ward".parse().unwrap(), Kind::Drill).count(), 0);
    }
}
