//! What a repository holds of an instance's log, as far as a recovery can use it: points to begin from, timelines and how
//! one left the other, the archive's contiguous runs, and the times of the commits in them.
//!
//! Everything here reads names, public headers and small documents. WAL itself is not opened.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_postgres::timeline::parse_history;
use lifeboat_repo::{
    document::{DocumentKind, DocumentRef},
    point::{Point, PointRef},
    repository::InstanceRepo,
    seal::Identity,
    wal::{Commits, WalArchive, WalObject, WalRun},
};

use super::staging::Span;
use crate::{
    details::{PostgresDetails, decode},
    error::Result,
    stream::TimelineDetails,
};

/// A timeline of a path, and where the path leaves it; none for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leg {
    pub timeline: u32,
    pub end: Option<Lsn>,
}

/// A point to begin from.
pub(super) struct Base {
    pub point: Point,
    pub postgres: PostgresDetails,
    pub system_id: u64,
}

impl Base {
    pub fn open(point: Point, identities: &[Identity]) -> Result<Option<Base>> {
        let Some(system_id) = point.header.wal.as_ref().map(|wal| wal.system_id) else { return Ok(None) };
        let postgres = decode(&point.open_details(identities)?.postgres)?;
        Ok(Some(Base { point, postgres, system_id }))
    }

    /// The first position of the log that it holds itself.
    pub fn log_start(&self) -> Lsn {
        self.postgres.start.segment_start(self.postgres.segment_size)
    }
}

/// How far a recovery gets from a base along a path.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// What it replays, without a gap, oldest first.
    pub spans: Vec<Span>,
    /// The archive's objects that hold it, in order.
    pub objects: Vec<WalObject>,
    /// More is held behind the end, and nothing leads there.
    pub is_cut: bool,
}

impl Reach {
    pub fn end(&self) -> Lsn {
        self.spans.last().map_or(Lsn(0), |span| span.last)
    }

    pub fn timeline(&self) -> u32 {
        self.spans.last().map_or(0, |span| span.timeline)
    }
}

/// The history file of a timeline.
#[derive(Debug, Clone)]
struct History {
    content: String,
    legs: Vec<Leg>,
}

/// Looks at one instance's part of a repository, and remembers what it has seen.
pub(super) struct Held<'a> {
    pub repo: &'a InstanceRepo,
    pub trusted: &'a [PublicKey],
    pub identities: &'a [Identity],
    pub archive: WalArchive,
    /// Streams of the archive.
    streams: Vec<(u64, u32)>,
    histories: BTreeMap<(u64, u32), History>,
    runs: BTreeMap<(u64, u32), (Lsn, Vec<WalRun>)>,
    heads: BTreeMap<String, Option<Commits>>,
    /// What could not be read, and was passed over.
    pub skipped: Vec<String>,
}

impl<'a> Held<'a> {
    pub async fn look(
        repo: &'a InstanceRepo,
        trusted: &'a [PublicKey],
        identities: &'a [Identity],
    ) -> Result<Held<'a>> {
        let archive = repo.wal_archive();
        let streams = archive.streams().await?;
        let mut held = Held {
            repo,
            trusted,
            identities,
            archive,
            streams,
            histories: BTreeMap::new(),
            runs: BTreeMap::new(),
            heads: BTreeMap::new(),
            skipped: Vec::new(),
        };
        held.read_histories().await?;
        Ok(held)
    }

    async fn read_histories(&mut self) -> Result<()> {
        for reference in self.repo.list_documents(DocumentKind::Timeline).await? {
            let place = (reference.position.system_id, reference.position.timeline);
            if self.histories.contains_key(&place) || reference.position.timeline == 1 {
                continue;
            }
            let Some(history) = self.history(&reference).await? else { continue };
            self.histories.insert(place, history);
        }
        Ok(())
    }

    async fn history(&mut self, reference: &DocumentRef) -> Result<Option<History>> {
        let read = self.repo.read_document::<TimelineDetails>(reference, self.trusted, self.identities).await;
        let content = match read {
            Ok(document) => document.details.history,
            Err(error) => return self.pass_over(error).map(|()| None),
        };
        let Some(content) = content else { return Ok(None) };
        let mut legs: Vec<Leg> = match parse_history(content.as_bytes()) {
            Ok(left) => left.into_iter().map(|left| Leg { timeline: left.timeline, end: Some(left.end) }).collect(),
            Err(error) => {
                self.skipped.push(format!("{}: {error}", reference.key));
                return Ok(None);
            }
        };
        legs.push(Leg { timeline: reference.position.timeline, end: None });
        Ok(Some(History { content, legs }))
    }

    /// Something stored that does not verify says nothing of the rest. A store or a key that fails is an error.
    pub fn pass_over(&mut self, error: lifeboat_repo::Error) -> Result<()> {
        use lifeboat_repo::Error;
        match error {
            Error::Store(lifeboat_store::Error::NotFound { .. } | lifeboat_store::Error::Damaged { .. })
            | Error::Damaged { .. }
            | Error::Untrusted { .. }
            | Error::Unknown { .. } => {
                self.skipped.push(error.to_string());
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Reads a point; none where it does not verify, or is no base.
    pub async fn base(&mut self, reference: &PointRef) -> Result<Option<Base>> {
        let read = self.repo.read_point(reference, self.trusted).await;
        self.opened(read)
    }

    /// Makes a base of a point that was read.
    pub fn opened(&mut self, read: lifeboat_repo::Result<Point>) -> Result<Option<Base>> {
        match read {
            Ok(point) => Base::open(point, self.identities),
            Err(error) => self.pass_over(error).map(|()| None),
        }
    }

    /// Every timeline of a cluster that is known, in order.
    pub fn timelines(&self, system_id: u64) -> Vec<u32> {
        let streams = self.streams.iter().filter(|(system, _)| *system == system_id).map(|(_, timeline)| *timeline);
        let of_histories = self.histories.keys().filter(|(system, _)| *system == system_id).map(|place| place.1);
        let mut timelines: Vec<u32> = streams.chain(of_histories).collect();
        timelines.sort_unstable();
        timelines.dedup();
        timelines
    }

    /// From the first timeline to this one.
    pub fn path(&self, system_id: u64, timeline: u32) -> Vec<Leg> {
        match self.histories.get(&(system_id, timeline)) {
            Some(history) => history.legs.clone(),
            None => vec![Leg { timeline, end: None }],
        }
    }

    /// Names and contents of all history files of a cluster: a server that promotes itself takes a number that none has.
    pub fn history_files(&self, system_id: u64) -> Vec<(String, String)> {
        let known = self.histories.iter().filter(|((system, _), _)| *system == system_id);
        known.map(|((_, timeline), history)| (format!("{timeline:08X}.history"), history.content.clone())).collect()
    }

    /// What is held of a timeline without a gap, from a position on (or from an earlier one).
    async fn runs(&mut self, system_id: u64, timeline: u32, from: Lsn) -> Result<&[WalRun]> {
        let place = (system_id, timeline);
        if self.runs.get(&place).is_none_or(|(begin, _)| *begin > from) {
            let listing = self.archive.list(system_id, timeline, from).await?;
            self.runs.insert(place, (from, listing.runs()));
        }
        Ok(&self.runs[&place].1)
    }

    /// How far a recovery gets from this base along the path to `timeline`; none where the path does not lead through the
    /// base's consistent end. Objects are listed where they are asked for: they may be many.
    pub async fn follow(&mut self, base: &Base, timeline: u32, with_objects: bool) -> Result<Option<Reach>> {
        let path = self.path(base.system_id, timeline);
        let Some(begin) = path.iter().position(|leg| leg.timeline == base.postgres.timeline) else { return Ok(None) };
        let own_end = path[begin].end.map_or(base.postgres.wal_end, |end| end.min(base.postgres.wal_end));
        if own_end < base.postgres.backup_end {
            return Ok(None);
        }
        let mut reach = Reach { spans: Vec::new(), objects: Vec::new(), is_cut: false };
        let mut position = base.log_start();
        let mut held = own_end;
        for leg in &path[begin..] {
            let runs = self.runs(base.system_id, leg.timeline, position).await?;
            if let Some(run) = runs.iter().find(|run| run.first <= held && held < run.last) {
                held = run.last;
            }
            let last = leg.end.map_or(held, |end| end.min(held));
            reach.is_cut = runs.iter().any(|run| run.first > last && leg.end.is_none_or(|end| run.first < end));
            if with_objects {
                let objects = runs.iter().flat_map(|run| &run.objects);
                let used = objects.filter(|object| object.first < last && object.last > position);
                reach.objects.extend(used.cloned());
            }
            if position < last {
                reach.spans.push(Span { timeline: leg.timeline, first: position, last });
            }
            match leg.end {
                Some(end) if held >= end => (position, held) = (end, end),
                _ => break,
            }
        }
        Ok(Some(reach))
    }

    /// The times of the commits that end in an object.
    pub async fn commits(&mut self, object: &WalObject) -> Result<Option<Commits>> {
        if let Some(known) = self.heads.get(object.key.as_str()) {
            return Ok(*known);
        }
        let commits = match self.archive.head(object, self.trusted).await {
            Ok(head) => head.commits,
            Err(error) => self.pass_over(error).map(|()| None)?,
        };
        self.heads.insert(object.key.to_string(), commits);
        Ok(commits)
    }

    /// The time of the newest commit of a reach that comes behind `from`.
    pub async fn newest_commit(&mut self, reach: &Reach, from: Lsn) -> Result<Option<Timestamp>> {
        for object in reach.objects.iter().rev().filter(|object| object.last > from) {
            // A part of an abandoned branch may end in the object that holds the switch.
            let whole = reach.spans.iter().any(|span| span.timeline == object.timeline && object.last <= span.last);
            if whole && let Some(commits) = self.commits(object).await? {
                return Ok(Some(commits.last));
            }
        }
        Ok(None)
    }

    /// The first object behind `from` in which a commit later than `time` ends, as its first and last position: PostgreSQL,
    /// told to stop before the first such commit, stops in it. Commits carry nearly ascending times; where clocks were set back, a
    /// later object may be found than the first, never one without such a commit.
    pub async fn first_after(&mut self, reach: &Reach, from: Lsn, time: Timestamp) -> Result<Option<(Lsn, Lsn)>> {
        let ends = |object: &WalObject| {
            object.last > from
                && reach.spans.iter().any(|span| span.timeline == object.timeline && object.last <= span.last)
        };
        let objects: Vec<WalObject> = reach.objects.iter().filter(|object| ends(object)).cloned().collect();
        let (mut low, mut high) = (0, objects.len());
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let mut probe = middle;
            let later = loop {
                if probe == high {
                    break None;
                }
                match self.commits(&objects[probe]).await? {
                    Some(commits) => break Some(commits.last > time),
                    None => probe += 1,
                }
            };
            match later {
                Some(true) => {
                    found = Some((objects[probe].first, objects[probe].last));
                    high = middle;
                }
                Some(false) => low = probe + 1,
                None => high = middle,
            }
        }
        Ok(found)
    }
}
