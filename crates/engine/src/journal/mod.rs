//! Journals in the repository: what happened in a run or an incident, an object a line, put as it happens.
//!
//! `<tenant>/_journals/<kind>/<id>/<number>.json` is a slot that the first who puts owns (decision 0010), like those of the
//! ledger: two hosts that both write line 12 learn at once that there are two of them, also where the store ignores
//! `If-None-Match`. What a line says is not known here; it is bytes with a number. Lines begin with 1 and have no gaps: what stands behind
//! a gap is not read.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_model::id::RunId;
use lifeboat_repo::{
    ledger::{Claimed, LedgerStore},
    repository::EvidenceRef,
};

use crate::{
    context::Context,
    error::{Error, Result},
};

mod carry;

pub use carry::Carried;
pub(crate) use carry::carry;

/// The longest line: what a step gives is cut long before.
pub const LONGEST_LINE: usize = 4 << 20;
/// More lines than any run has.
pub const MOST_LINES: u64 = 100_000;
/// Bytes of one journal that are read at most.
const LONGEST: u64 = 256 << 20;
/// Objects that are listed at most to tell what journals there are.
const MOST_LISTED: usize = 2_000_000;
/// Requests on their way at the same time.
const AT_ONCE: usize = 16;
/// How long a store may take over one line.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a whole journal, or all.
const LONG_PATIENCE: Duration = Duration::from_secs(300);

/// What a journal is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A runbook's run.
    Run,
    /// An incident.
    Incident,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 2] = [Kind::Run, Kind::Incident];

    /// The folder.
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Run => "runs",
            Kind::Incident => "incidents",
        }
    }
}

/// A journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it is of.
    pub kind: Kind,
    /// The run, or the incident.
    pub id: RunId,
}

impl Name {
    fn prefix(self) -> String {
        format!("{self}/")
    }

    fn line(self, number: u64) -> String {
        format!("{self}/{number:08}.json")
    }

    /// Name and number of what lies at a place; none where no line lies there.
    fn parse(place: &str) -> Option<(Name, u64)> {
        let mut parts = place.split('/');
        let (folder, id, file) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = Kind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
        let name = Name { kind, id: id.parse().ok()? };
        let number = file.strip_suffix(".json")?.parse().ok()?;
        (name.line(number) == place && number > 0).then_some((name, number))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.folder(), self.id)
    }
}

/// Whose a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The line stands there, now or since an earlier try.
    Ours,
    /// Another line does: somebody else writes this journal. Its bytes.
    Taken(Bytes),
}

/// A journal, by its first and its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The journal.
    pub name: Name,
    /// How many lines it has.
    pub lines: u64,
    /// The first.
    pub first: Bytes,
    /// The last.
    pub last: Bytes,
    /// When the store received the first, by its clock.
    pub begun: Timestamp,
    /// When it received the last.
    pub written: Timestamp,
}

/// The journals of a tenant in one repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journals {
    store: LedgerStore,
    place: String,
}

impl Journals {
    /// To be written: what is put is locked as evidence is.
    pub async fn of(context: &Context) -> Result<Self> {
        let repository = in_time(PATIENCE, context.evidence_repository()).await?;
        Ok(Self::within(context, repository.journals(&context.config.tenant)))
    }

    /// To be read alone: no lock is ever put, and no clock is asked for.
    pub fn of_reader(context: &Context) -> Self {
        let repository = context.repository.clone().with_evidence_lock(None);
        Self::within(context, repository.journals(&context.config.tenant))
    }

    fn within(context: &Context, store: LedgerStore) -> Self {
        let place = format!("\"{}\" ({})", context.config.repository_name, store.describe());
        Self { store, place }
    }

    /// The repository, as people call it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Puts a line, once; the same bytes can be put again.
    pub async fn append(&self, name: Name, number: u64, line: Bytes) -> Result<Appended> {
        if line.len() > LONGEST_LINE || number == 0 || number > MOST_LINES {
            return Err(Error::Task(format!("line {number} of {name} has {} bytes: no line of a journal", line.len())));
        }
        in_time(PATIENCE, self.put(&name.line(number), line)).await
    }

    async fn put(&self, place: &str, line: Bytes) -> Result<Appended> {
        // Asked first: a second version would look like an attack, and stay for years.
        if self.store.seems_taken(place).await?
            && let Some(found) = self.store.find(place).await?
        {
            return self.is_this(&found, &line).await;
        }
        match self.store.claim(place, line.clone()).await? {
            Claimed::Ours(_) => Ok(Appended::Ours),
            Claimed::Taken(found) => self.is_this(&found, &line).await,
        }
    }

    async fn is_this(&self, found: &EvidenceRef, line: &Bytes) -> Result<Appended> {
        let there = self.store.get(found, LONGEST_LINE as u64).await?;
        Ok(if there == *line { Appended::Ours } else { Appended::Taken(there) })
    }

    /// Whether a line of this number seems to be there: one cheap request.
    pub async fn has(&self, name: Name, number: u64) -> Result<bool> {
        let place = name.line(number);
        in_time(PATIENCE, async { Ok(self.store.seems_taken(&place).await?) }).await
    }

    /// How many lines there are, without gaps.
    pub async fn count(&self, name: Name) -> Result<u64> {
        Ok(in_time(LONG_PATIENCE, self.listed(name, 1)).await?.len() as u64)
    }

    /// A line; none: it is not there.
    pub async fn line(&self, name: Name, number: u64) -> Result<Option<Bytes>> {
        let place = name.line(number);
        let read = async {
            match self.store.find(&place).await? {
                Some(found) => Ok(Some(self.store.get(&found, LONGEST_LINE as u64).await?)),
                None => Ok(None),
            }
        };
        in_time(PATIENCE, read).await
    }

    /// The lines from `first` on, as far as there is no gap.
    pub async fn read(&self, name: Name, first: u64) -> Result<Vec<Bytes>> {
        let reading = async {
            let found = self.listed(name, first).await?;
            let long = found.iter().map(|found| found.len).sum::<u64>();
            if long > LONGEST {
                return Err(Error::Task(format!("the journal {name} has {long} bytes: no journal")));
            }
            let lines = found
                .into_iter()
                .map(|found| async move { Ok::<_, Error>(self.store.get(&found, LONGEST_LINE as u64).await?) });
            stream::iter(lines).buffered(AT_ONCE).try_collect().await
        };
        in_time(LONG_PATIENCE, reading).await
    }

    async fn listed(&self, name: Name, first: u64) -> Result<Vec<EvidenceRef>> {
        let after = if first > 1 { name.line(first - 1) } else { String::new() };
        let mut listed = self.store.list(&name.prefix(), &after);
        let mut found = Vec::new();
        while let Some(next) = listed.try_next().await? {
            let number = Name::parse(self.store.name(&next)).map(|(_, number)| number);
            match number {
                Some(number) if number == first + found.len() as u64 && number <= MOST_LINES => found.push(next),
                Some(_) => break,
                None => {} // not ours
            }
        }
        Ok(found)
    }

    /// The newest journals of a kind, the newest first: at most so many.
    pub async fn list(&self, kind: Kind, most: usize) -> Result<Vec<Summary>> {
        let listing = async {
            let mut heads = self.heads(kind).await?;
            heads.sort_by_key(|head| std::cmp::Reverse((head.first.modified, head.name)));
            heads.truncate(most);
            let reading = heads.into_iter().map(|head| self.summary(head));
            let found: Vec<Option<Summary>> = stream::iter(reading).buffered(AT_ONCE).try_collect().await?;
            Ok(found.into_iter().flatten().collect())
        };
        in_time(LONG_PATIENCE, listing).await
    }

    async fn heads(&self, kind: Kind) -> Result<Vec<Head>> {
        let mut listed = self.store.list(&format!("{}/", kind.folder()), "");
        let mut heads: Vec<Head> = Vec::new();
        let mut seen = 0;
        while let Some(next) = listed.try_next().await? {
            seen += 1;
            if seen > MOST_LISTED {
                return Err(Error::Task(format!("there are more than {MOST_LISTED} lines of journals")));
            }
            let Some((name, number)) = Name::parse(self.store.name(&next)) else { continue };
            match heads.last_mut() {
                Some(head) if head.name == name && number == head.lines + 1 => {
                    (head.lines, head.last) = (number, next);
                }
                _ if number == 1 => heads.push(Head { name, lines: 1, first: next.clone(), last: next }),
                _ => {} // behind a gap
            }
        }
        Ok(heads)
    }

    /// None: somebody put there what is no line.
    async fn summary(&self, head: Head) -> Result<Option<Summary>> {
        let Head { name, lines, first, last } = head;
        let get = async |found: &EvidenceRef| match self.store.get(found, LONGEST_LINE as u64).await {
            Err(lifeboat_repo::Error::Damaged { .. }) => Ok(None),
            read => Ok::<_, Error>(Some(read?)),
        };
        let (Some(top), Some(end)) = (get(&first).await?, get(&last).await?) else { return Ok(None) };
        let (begun, written) = (first.modified, last.modified);
        Ok(Some(Summary { name, lines, first: top, last: end, begun, written }))
    }
}

/// Where a journal begins and ends.
struct Head {
    name: Name,
    lines: u64,
    first: EvidenceRef,
    last: EvidenceRef,
}

/// No store may keep a run waiting for ever.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Task(format!("the repository did not answer within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_exactly_or_not_at_all() {
        let name = Name { kind: Kind::Run, id: RunId([0xab; 8]) };
        assert_eq!(name.line(12), "runs/abababababababab/00000012.json");
        assert_eq!(Name::parse(&name.line(12)), Some((name, 12)));
        for place in [
            "runs/abababababababab/12.json",
            "runs/abababababababab/00000000.json",
            "runs/abababababababab/00000012.json/x",
            "runs/ABABABABABABABAB/00000012.json",
            "other/abababababababab/00000012.json",
        ] {
            assert_eq!(Name::parse(place), None, "{place}");
        }
    }
}
