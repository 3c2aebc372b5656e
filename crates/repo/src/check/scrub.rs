//! Reading ciphertext again, a share each day, so that within a known time everything was read.
//!
//! Each object belongs to one day of a calendar of `days` days, by the digest of its key: nothing needs to be remembered to
//! know what is due, and what is new takes its place by itself. What is remembered is a [`ScrubCursor`]: the last day
//! that was finished, and how far the next one has come. Days that were missed are made up for, so an object is never
//! read later than `days` days after it was read before, or after it came, if runs succeed daily.
//!
//! Memory: a header, and name and digest of each object that is due, one part in `days` of all.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{id::PointId, signature::PublicKey};
use lifeboat_store::Key;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Check, Problem, problem};
use crate::{
    document::DocumentKind,
    error::{Error, Result},
    point::{ObjectRef, PointRef},
    progress::Progress,
    reach::{self, Digest, Standing, standing},
    reader::restore::damage_of,
    repository::InstanceRepo,
    wal::{WalArchive, WalObject},
};

const DAY: i64 = 86_400;
/// No calendar is longer.
const LONGEST: u32 = 3660;

/// How far a scrubber has come. Kept by the caller; lost, the calendar begins anew, and nothing else happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubCursor {
    /// The length of the calendar that the rest is about.
    pub days: u32,
    /// The last day (since 1970) that was finished.
    pub done: Option<i64>,
    /// Of the days that are due: the digest of the last key that was read, in hexadecimal.
    pub after: Option<String>,
    /// The day that `after` is about.
    pub until: Option<i64>,
}

/// How to scrub.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// Within so many days everything is read: 100 for a share of 1 % each day.
    pub days: u32,
    /// Where the last run ended.
    pub cursor: ScrubCursor,
    /// The time, by the store's clock.
    pub now: Timestamp,
    /// Ends the run; the cursor in the report goes on from there.
    pub cancel: CancellationToken,
}

/// What a scrub read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Objects that were due.
    pub due: u64,
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong with objects, and the points that need them.
    pub problems: Vec<Problem>,
    /// Where the next run goes on.
    pub cursor: ScrubCursor,
    /// Everything that was due was read.
    pub complete: bool,
}

/// The length of the calendar for a share of everything each day, as a fraction.
pub fn days_of_share(share: f64) -> Option<u32> {
    let days = (1.0 / share).ceil();
    (share > 0.0 && share <= 1.0 && days <= f64::from(LONGEST)).then_some(days as u32)
}

/// Reads what is due and compares SHA-256 digests with those that were signed. What is wrong with an object is reported,
/// not an error; an unreachable store is an error, and so is a point that cannot be read.
pub async fn scrub(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    options: ScrubOptions,
    progress: Arc<dyn Progress>,
) -> Result<ScrubReport> {
    if options.days == 0 || options.days > LONGEST {
        return Err(Error::usage(format!("a scrub within {} days: 1 to {LONGEST} are possible", options.days)));
    }
    let plan = Plan::new(&options);
    if plan.is_empty() {
        return Ok(ScrubReport { cursor: plan.finished(), complete: true, ..ScrubReport::default() });
    }
    let mut report = ScrubReport::default();
    let due = due(repo, trusted, &plan, &mut report).await?;
    report.due = due.len() as u64;
    let check = Check::new(repo, &[], progress);
    let archive = repo.wal_archive();
    report.cursor = plan.begun();
    for (digest, object) in due {
        if options.cancel.is_cancelled() {
            return Ok(report);
        }
        let (key, points) = (object.what.key().clone(), object.points);
        match read(&check, &archive, object.what, trusted).await {
            Ok(bytes) => report.bytes += bytes,
            Err(error) => match wrong(&error) {
                Some(what) => report.problems.push(Problem { points, ..problem(&key, what) }),
                None => return Err(error),
            },
        }
        report.objects += 1;
        report.cursor.after = Some(hex::encode(digest));
    }
    (report.cursor, report.complete) = (plan.finished(), true);
    Ok(report)
}

/// The days that are due.
struct Plan {
    days: u32,
    from: i64,
    today: i64,
    after: Option<Digest>,
}

impl Plan {
    fn new(options: &ScrubOptions) -> Self {
        let (days, cursor) = (options.days, &options.cursor);
        let today = options.now.as_second().div_euclid(DAY);
        let same = cursor.days == days;
        // A calendar that begins, begins today. One that was left for long is made up for once.
        let done = cursor.done.filter(|_| same).unwrap_or(today - 1);
        let from = (done + 1).max(today - i64::from(days) + 1);
        let after = cursor.after.as_deref().filter(|_| same && cursor.until == Some(today));
        let after = after.and_then(|text| hex::decode(text).ok()?.try_into().ok());
        Self { days, from, today, after }
    }

    fn is_empty(&self) -> bool {
        self.from > self.today
    }

    /// The day of the calendar that a key belongs to.
    fn slot(&self, digest: &Digest) -> i64 {
        let (first, _) = digest.split_first_chunk::<8>().expect("a digest has 16 bytes");
        let place = (u128::from(u64::from_be_bytes(*first)) * u128::from(self.days)) >> 64;
        i64::try_from(place).expect("less than the calendar has days")
    }

    fn is_due(&self, digest: &Digest) -> bool {
        let (slot, days) = (self.slot(digest), i64::from(self.days));
        let next = self.from + (slot - self.from).rem_euclid(days);
        next <= self.today && self.after.is_none_or(|after| *digest > after)
    }

    fn begun(&self) -> ScrubCursor {
        let after = self.after.map(hex::encode);
        ScrubCursor { days: self.days, done: Some(self.from - 1), after, until: Some(self.today) }
    }

    fn finished(&self) -> ScrubCursor {
        ScrubCursor { days: self.days, done: Some(self.today.max(self.from - 1)), after: None, until: None }
    }
}

/// What is read.
enum What {
    /// An object that points name, by the digest in their headers.
    Named(ObjectRef),
    /// A point.
    Point(PointRef),
    /// WAL of the archive, by its own header.
    Wal(WalObject),
    /// A document, by its own header.
    Document(crate::document::DocumentRef),
}

impl What {
    fn key(&self) -> &Key {
        match self {
            What::Named(object) => &object.key,
            What::Point(reference) => &reference.key,
            What::Wal(object) => &object.key,
            What::Document(reference) => &reference.key,
        }
    }
}

struct Due {
    what: What,
    points: Vec<PointId>,
}

struct DueSet<'a> {
    plan: &'a Plan,
    objects: BTreeMap<Digest, Due>,
}

impl DueSet<'_> {
    fn add(&mut self, what: What, point: Option<PointId>) {
        let digest = reach::digest(what.key());
        if self.plan.is_due(&digest) {
            let due = self.objects.entry(digest).or_insert(Due { what, points: Vec::new() });
            due.points.extend(point);
        }
    }
}

/// What is due, in the order of the digests.
async fn due(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    plan: &Plan,
    report: &mut ScrubReport,
) -> Result<BTreeMap<Digest, Due>> {
    let mut due = DueSet { plan, objects: BTreeMap::new() };
    let mut wal = repo.store().list(&repo.layout().prefix("wal"));
    while let Some(info) = wal.try_next().await? {
        if let Ok(object) = WalObject::listed(repo.layout(), info) {
            due.add(What::Wal(object), None);
        }
    }
    for kind in DocumentKind::ALL {
        repo.list_documents(kind).await?.into_iter().for_each(|found| due.add(What::Document(found), None));
    }
    for reference in repo.list_points().await? {
        due.add(What::Point(reference.clone()), Some(reference.id));
        let header = match standing(repo, &reference, trusted).await {
            Ok(Standing::Good(header)) => header,
            Ok(_) => continue,
            Err(Error::Unreliable { reason, .. }) => {
                let what = format!("what it needs cannot be read: {reason}");
                report.problems.push(Problem { points: vec![reference.id], ..problem(&reference.key, what) });
                continue;
            }
            Err(error) => return Err(error),
        };
        for object in header.objects {
            due.add(What::Named(object), Some(reference.id));
        }
    }
    Ok(due.objects)
}

async fn read(check: &Check<'_>, archive: &WalArchive, what: What, trusted: &[PublicKey]) -> Result<u64> {
    match what {
        What::Named(object) => check.ciphertext(&object).await,
        What::Point(reference) => {
            // That it is not signed is for `signs` to tell; here it is enough that its bytes are what somebody wrote.
            standing(check.repo, &reference, trusted).await?;
            Ok(check.repo.store().head(&reference.key, reference.version.as_ref()).await?.len)
        }
        What::Wal(object) => {
            archive.verify(&object, trusted).await?;
            Ok(object.len)
        }
        What::Document(reference) => {
            check.repo.verify_document(&reference, trusted).await?;
            Ok(check.repo.store().head(&reference.key, reference.version.as_ref()).await?.len)
        }
    }
}

/// What is wrong with an object; none where the error says nothing of it.
fn wrong(error: &Error) -> Option<String> {
    match error {
        Error::Untrusted { reason, .. } => Some(format!("it is not to be trusted: {reason}")),
        Error::Unreliable { reason, .. } => Some(format!("what it needs cannot be read: {reason}")),
        Error::Unknown { what, .. } => Some(format!("it uses {what}, which this release does not know")),
        error => damage_of(error).map(|(_, what)| what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(days: u32, cursor: ScrubCursor, day: i64) -> ScrubOptions {
        let now = Timestamp::from_second(day * DAY + 100).unwrap();
        ScrubOptions { days, cursor, now, cancel: CancellationToken::new() }
    }

    fn digests() -> Vec<Digest> {
        (0..1000u32).map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap()).collect()
    }

    #[test]
    fn every_object_is_due_once_in_a_calendar_whatever_days_are_missed() {
        let digests = digests();
        for missed in [0, 1, 3, 7, 40] {
            let (mut cursor, mut last) = (ScrubCursor::default(), vec![None::<i64>; digests.len()]);
            let mut day = 20_000;
            while day < 20_200 {
                let plan = Plan::new(&options(10, cursor, day));
                for (digest, last) in digests.iter().zip(&mut last) {
                    if plan.is_due(digest) {
                        let most = 10 + missed;
                        assert!(last.is_none_or(|last| day - last <= most.max(10)), "{missed} missed, day {day}");
                        *last = Some(day);
                    }
                }
                cursor = plan.finished();
                day += 1 + missed;
            }
            assert!(last.iter().all(Option::is_some), "{missed} missed");
        }
        let plan = Plan::new(&options(10, ScrubCursor::default(), 20_000));
        let due = digests.iter().filter(|digest| plan.is_due(digest)).count();
        assert!((70..130).contains(&due), "{due} of 1000 on the first day");
    }

    #[test]
    fn a_day_goes_on_where_it_ended_and_is_not_begun_twice() {
        let mut digests = digests();
        digests.sort();
        let plan = Plan::new(&options(1, ScrubCursor::default(), 20_000));
        assert!(digests.iter().all(|digest| plan.is_due(digest)));
        let cursor = ScrubCursor { after: Some(hex::encode(digests[499])), ..plan.begun() };
        let plan = Plan::new(&options(1, cursor.clone(), 20_000));
        assert_eq!(digests.iter().filter(|digest| plan.is_due(digest)).count(), 500);
        assert_eq!(Plan::new(&options(1, cursor, 20_001)).from, 20_001, "a day's calendar is made up for by the next");
        assert!(Plan::new(&options(1, plan.finished(), 20_000)).is_empty());
    }

    #[test]
    fn shares() {
        assert_eq!(days_of_share(0.01), Some(100));
        assert_eq!(days_of_share(1.0), Some(1));
        assert_eq!(days_of_share(0.03), Some(34));
        assert!([0.0, -1.0, 1.5, 0.0001, f64::NAN].map(days_of_share).iter().all(Option::is_none));
    }
}
