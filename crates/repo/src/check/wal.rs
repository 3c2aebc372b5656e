//! The archive of WAL, checked without any decryption key: what is held, and whether it is what was signed.
//!
//! Looked at are the segments, and the slices where no good segment is: those that a restore would read. Names come as
//! a stream and are forgotten once they were looked at; a year of WAL costs its runs and a page of the listing.

use std::{collections::BTreeSet, sync::Arc};

use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{BoxStream, FuturesOrdered},
};
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_store::Key;
use tokio_util::task::AbortOnDropHandle;

use super::{HEADS, Problem, problem};
use crate::{
    document::DocumentKind,
    error::{Error, Result},
    progress::{Counter, Progress},
    repository::InstanceRepo,
    wal::{Named, WalArchive, WalObject, WalObjectKind},
};

/// Objects read at the same time; each is in memory whole, 16 MiB as a rule.
const READS: usize = 2;
/// Problems told one by one.
const TOLD: usize = 1000;

/// How closely to look at the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalCheckMode {
    /// Names alone: which positions are held. Reads nothing.
    Names,
    /// Also each header: its signature, and that the object belongs where it lies and has its length; and every document.
    Heads,
    /// Also the SHA-256 of each object's ciphertext.
    ReadCiphertext,
}

/// What a check of the archive saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalCheckReport {
    /// Every stream that was begun or has WAL, in order.
    pub streams: Vec<StreamReport>,
    /// Documents looked at.
    pub documents: u64,
    /// What is wrong with objects; the first thousand things.
    pub problems: Vec<Problem>,
    /// How many problems are not among them.
    pub more_problems: u64,
}

/// What one stream holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// What is held without a gap by objects that passed, in order: from, and up to (exclusive). Between two of them
    /// something is missing.
    pub runs: Vec<(Lsn, Lsn)>,
    /// Segments that passed.
    pub segments: u64,
    /// Slices that passed; those under a segment are not looked at.
    pub slices: u64,
    /// Length of all objects that passed.
    pub bytes: u64,
}

/// Checks all that is held of an instance's WAL beyond its recovery points'. What is wrong with an object is reported,
/// not an error; an unreachable store is an error.
pub async fn wal(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    mode: WalCheckMode,
    progress: Arc<dyn Progress>,
) -> Result<WalCheckReport> {
    let archive = repo.wal_archive();
    let look = Look { archive: archive.clone(), trusted: trusted.into(), mode, progress };
    let mut check = Check { look, report: WalCheckReport::default() };
    check.documents(repo).await?;
    let begun: BTreeSet<_> = archive.streams().await?.into_iter().collect();
    let stored = stored_streams(repo).await?;
    for stream in begun.union(&stored).copied() {
        let seen = StreamCheck::new(&mut check, stream).run().await?;
        let StreamCheck { report, first_key, .. } = seen;
        match first_key {
            Some(key) if !begun.contains(&stream) => {
                check.note(problem(&key, "no timeline document names its stream: its beginning is not known".into()));
                check.report.streams.push(report);
            }
            _ if begun.contains(&stream) => check.report.streams.push(report),
            _ => {} // a recovery point's own slices
        }
    }
    Ok(check.report)
}

/// Streams with any WAL, by one request each.
async fn stored_streams(repo: &InstanceRepo) -> Result<BTreeSet<(u64, u32)>> {
    let prefix = repo.layout().prefix("wal");
    let (mut found, mut after) = (BTreeSet::new(), String::new());
    while let Some(info) = repo.store().list_from(&prefix, &after).try_next().await? {
        let name = info.key.as_str().strip_prefix(&prefix).unwrap_or_default();
        let mut parts = name.split('/');
        let (system, timeline) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        after = match parts.next() {
            Some(_) => format!("{prefix}{system}/{timeline}/~"), // sorts after every key of the folder
            None => info.key.to_string(),
        };
        if let (Ok(system), Ok(timeline)) = (system.parse(), u32::from_str_radix(timeline, 16)) {
            found.insert((system, timeline));
        }
    }
    Ok(found)
}

struct Check {
    look: Look,
    report: WalCheckReport,
}

/// How one object is looked at; in a task of its own.
#[derive(Clone)]
struct Look {
    archive: WalArchive,
    trusted: Arc<[PublicKey]>,
    mode: WalCheckMode,
    progress: Arc<dyn Progress>,
}

/// An object, and what is wrong with it.
type Looked = (WalObject, Option<String>);

impl Look {
    async fn at(self, object: WalObject) -> Result<Looked> {
        let result = match self.mode {
            WalCheckMode::Names => Ok(()),
            WalCheckMode::Heads => self.archive.head(&object, &self.trusted).await.map(drop),
            WalCheckMode::ReadCiphertext => {
                self.progress.add(Counter::FetchedBytes, object.len);
                self.archive.verify(&object, &self.trusted).await
            }
        };
        self.progress.add(Counter::Objects, 1);
        let wrong = sort(result)?.err();
        Ok((object, wrong))
    }
}

/// Sorts an error into what is wrong with the object, and what must end the check.
fn sort<T>(result: Result<T>) -> Result<std::result::Result<T, String>> {
    use lifeboat_store::Error as Store;
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Damaged { reason, .. } | Error::Store(Store::Damaged { reason, .. })) => Ok(Err(reason)),
        Err(Error::Untrusted { reason, .. }) => Ok(Err(format!("it is not to be trusted: {reason}"))),
        Err(Error::Unknown { what, .. }) => Ok(Err(format!("it uses {what}, which this release does not know"))),
        Err(Error::Store(Store::NotFound { .. })) => Ok(Err("it is missing".into())),
        Err(error) => Err(error),
    }
}

impl Check {
    fn note(&mut self, problem: Problem) {
        match self.report.problems.len() < TOLD {
            true => self.report.problems.push(problem),
            false => self.report.more_problems += 1,
        }
    }

    async fn documents(&mut self, repo: &InstanceRepo) -> Result<()> {
        for kind in DocumentKind::ALL {
            for reference in repo.list_documents(kind).await? {
                self.report.documents += 1;
                if self.look.mode == WalCheckMode::Names {
                    continue;
                }
                let seen = repo.verify_document(&reference, &self.look.trusted).await;
                self.look.progress.add(Counter::Objects, 1);
                if let Err(what) = sort(seen)? {
                    self.note(problem(&reference.key, what));
                }
            }
        }
        Ok(())
    }
}

/// The check of one stream that is going on.
struct StreamCheck<'a> {
    check: &'a mut Check,
    stream: (u64, u32),
    report: StreamReport,
    /// The end of the last segment that passed.
    reached: Lsn,
    first_key: Option<Key>,
}

impl<'a> StreamCheck<'a> {
    fn new(check: &'a mut Check, stream: (u64, u32)) -> Self {
        let report = StreamReport { system_id: stream.0, timeline: stream.1, ..StreamReport::default() };
        Self { check, stream, report, reached: Lsn(0), first_key: None }
    }

    async fn run(mut self) -> Result<Self> {
        let mut looks = self.looks(WalObjectKind::Segment, Lsn(0), None);
        while let Some(object) = self.next_good(&mut looks).await? {
            if object.first > self.reached {
                self.hole(Some(object.first)).await?;
            }
            self.reached = self.reached.max(object.last);
            self.report.segments += 1;
            self.hold(&object);
        }
        self.hole(None).await?;
        Ok(self)
    }

    /// Slices from the last good segment on.
    async fn hole(&mut self, end: Option<Lsn>) -> Result<()> {
        let mut looks = self.looks(WalObjectKind::Slice, self.reached, end);
        while let Some(object) = self.next_good(&mut looks).await? {
            self.report.slices += 1;
            self.hold(&object);
        }
        Ok(())
    }

    /// Objects come in the order of their first positions.
    fn hold(&mut self, object: &WalObject) {
        self.report.bytes += object.len;
        match self.report.runs.last_mut() {
            Some((_, end)) if object.first <= *end => *end = (*end).max(object.last),
            _ => self.report.runs.push((object.first, object.last)),
        }
    }

    fn looks(&self, kind: WalObjectKind, from: Lsn, end: Option<Lsn>) -> Looks {
        let names = self.check.look.archive.names(kind, self.stream, from);
        Looks { look: self.check.look.clone(), names: Some(names), end, going: FuturesOrdered::new() }
    }

    /// The next object that passed; problems of others are noted.
    async fn next_good(&mut self, looks: &mut Looks) -> Result<Option<WalObject>> {
        while let Some(seen) = looks.next().await? {
            let (key, what) = match seen {
                Ok((object, wrong)) => {
                    self.first_key.get_or_insert_with(|| object.key.clone());
                    match wrong {
                        None => return Ok(Some(object)),
                        Some(what) => (object.key, what),
                    }
                }
                Err(strange) => (strange, "no WAL object can have this name".to_owned()),
            };
            self.check.note(problem(&key, what));
        }
        Ok(None)
    }
}

/// Objects of a listing, looked at some at the same time, in the order of their names.
struct Looks {
    look: Look,
    names: Option<BoxStream<'static, Result<Named>>>,
    /// Objects that begin here or later are not wanted.
    end: Option<Lsn>,
    going: FuturesOrdered<AbortOnDropHandle<Result<std::result::Result<Looked, Key>>>>,
}

impl Looks {
    async fn next(&mut self) -> Result<Option<std::result::Result<Looked, Key>>> {
        let at_once = if self.look.mode == WalCheckMode::ReadCiphertext { READS } else { HEADS };
        while self.going.len() < at_once
            && let Some(names) = &mut self.names
        {
            match names.try_next().await? {
                Some(Ok(object)) if self.end.is_some_and(|end| object.first >= end) => self.names = None,
                Some(named) => self.start(named),
                None => self.names = None,
            }
        }
        match self.going.next().await {
            Some(Ok(looked)) => looked.map(Some),
            Some(Err(e)) => Err(Error::Io { what: "checking WAL".into(), source: std::io::Error::other(e) }),
            None => Ok(None),
        }
    }

    fn start(&mut self, named: Named) {
        let look = self.look.clone();
        let task = async move {
            match named {
                Ok(object) => look.at(object).await.map(Ok),
                Err(strange) => Ok(Err(strange)),
            }
        };
        self.going.push_back(AbortOnDropHandle::new(tokio::spawn(task)));
    }
}
