//! Believing a ledger: statements, entries and checkpoints against each other, from bytes and public keys alone.
//!
//! A signature tells who said a thing. The ledger tells that nothing which was said has gone, come later or changed: every
//! statement must be an entry, every entry a statement, and every signed checkpoint the root of the entries up to it. So
//! an [`Auditor`] is given all statements and checkpoints, then the entries in their order, and recomputes the tree.
//!
//! What it cannot know by itself it is told, or it says that it does not know: a checkpoint that somebody kept elsewhere
//! ([`Auditor::anchor`]) is the only proof that the end of the ledger was not cut off; whether a drill's subjects are still
//! the same is known where the instance is ([`Audit::compare`]).
//!
//! Memory: some 100 bytes for each statement, entry and checkpoint; of contents nothing is kept.
//!
//! Read on: [`finding`] for the words, `log` for the tree and the times, `subject` for what goes stale.

pub mod finding;
mod log;
mod subject;
mod tiles;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Sha256Digest},
    signature::PublicKey,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use finding::{Finding, Findings, Weight, Word};
pub use subject::{JournalFound, Now, Rehearsal, Subjects};
pub use trust::Trust;

use crate::{
    act::Act,
    error::Error,
    ledger::{Hash, NoteError, checkpoint, place::Place},
    statement::{Predicate, Statement},
    verify::{self, SetEntry, SetVerifier, Verified},
};
use log::Log;
use trust::{Revocations, Stated};

/// How far clocks may differ, and how long something may lie between being finished and being entered.
const TOLERANCE_SECONDS: i64 = 3600;
/// Passed drills remembered for each instance: the newest may turn out not to be believed.
const REMEMBERED: usize = 16;

/// What is said of a ledger that is not there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// There must be one: an exported directory has it.
    Ledger,
    /// There should be one: a repository from before has none until its next act.
    LedgerExpected,
    /// A copy, which carries its primary's: what was recorded in the copy itself stands in none.
    LedgerOfPrimary,
    /// Single files, without one.
    SignaturesOnly,
}

/// Looks at everything, one thing after the other.
#[derive(Debug)]
pub struct Auditor {
    trust: Trust,
    demand: Demand,
    set: SetVerifier,
    statements: BTreeMap<String, Fact>,
    passed: BTreeMap<Instance, Vec<Rehearsal>>,
    stated: Vec<(String, Stated)>,
    log: Log,
    stamps: Vec<(u64, Stamp)>,
    stamps_expected: bool,
    findings: Findings,
    not_executed: Vec<NotExecuted>,
}

/// What is kept of a statement.
#[derive(Debug)]
struct Fact {
    sha256: Sha256Digest,
    /// Who signed it; none if that is not to be believed.
    signer: Option<PublicKey>,
    finished: Option<Timestamp>,
    received: Option<Timestamp>,
}

/// What a time stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stamp {
    /// An authority that the auditor trusts saw the checkpoint at this time.
    Verified(Timestamp),
    /// It is not to be believed, for this reason.
    Refused(String),
}

/// What was not looked at, and why: never a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotExecuted {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// Whose ledger it is; none without a checkpoint that is believed.
    pub origin: Option<String>,
    /// Statements looked at.
    pub statements: u64,
    /// Of them: signed by a trusted key, in time, unchanged, and entered under a signed checkpoint.
    pub proven: u64,
    /// Their names.
    #[serde(skip)]
    pub proven_names: BTreeSet<String>,
    /// Entries looked at.
    pub entries: u64,
    /// Checkpoints looked at.
    pub checkpoints: u64,
    /// The size of the newest checkpoint that is signed by a trusted key and fits the entries.
    pub size: u64,
    /// Its root.
    pub root: Option<Hash>,
    /// Checkpoints kept elsewhere that this ledger continues.
    pub anchors: u64,
    /// Checkpoints of which a trusted authority says when it saw them.
    pub time_stamps: u64,
    /// What was found.
    pub findings: Findings,
    /// What was not looked at.
    pub not_executed: Vec<NotExecuted>,
    /// The newest believed drill of each instance that has passed.
    pub rehearsals: Vec<Rehearsal>,
}

impl Auditor {
    /// Begins.
    pub fn new(trust: Trust, demand: Demand) -> Self {
        Self {
            set: SetVerifier::new(&trust.keys),
            trust,
            demand,
            statements: BTreeMap::new(),
            passed: BTreeMap::new(),
            stated: Vec::new(),
            log: Log::default(),
            stamps: Vec::new(),
            stamps_expected: false,
            findings: Findings::default(),
            not_executed: Vec::new(),
        }
    }

    /// What time it is: no entry can have been made later. Said before the entries.
    pub fn now(&mut self, now: Timestamp) {
        self.log.now = Some(now);
    }

    /// The next statement, by its name below the evidence folder. `received` is the store's own time, where it is one that
    /// means something: not that of a copy.
    pub fn statement(&mut self, name: &str, envelope: &[u8], received: Option<Timestamp>) -> SetEntry {
        let (seen, verified) = self.set.look(name, envelope);
        match &seen.result {
            Ok(_) => {}
            Err(refused) => self.findings.add(refusal(refused), Weight::Wrong, name, refused.to_string()),
        }
        for finding in seen.findings.iter().filter(|finding| verify::is_grave(finding)) {
            self.findings.add(Word::Contradiction, Weight::Wrong, name, finding.to_string());
        }
        let fact = Fact {
            sha256: Sha256Digest(Sha256::digest(envelope).into()),
            signer: verified.as_ref().map(|verified| verified.key),
            finished: verified.as_ref().and_then(|verified| finished(&verified.statement)),
            received,
        };
        if let Some(verified) = &verified {
            self.remember(name, verified, &seen);
        }
        self.statements.insert(name.to_owned(), fact);
        seen
    }

    /// Revocations and passed drills, which are needed at the end.
    fn remember(&mut self, name: &str, verified: &Verified, seen: &SetEntry) {
        match &verified.statement.predicate {
            Predicate::Act(act) => {
                if let Act::KeyRevocation(revocation) = &act.act {
                    let stated =
                        Stated { key: revocation.key, at: revocation.at, signer: verified.key, received: act.finished };
                    self.stated.push((name.to_owned(), stated));
                }
            }
            Predicate::Drill(drill) if drill.outcome == Outcome::Passed && drill.sabotage.is_none() => {
                if seen.findings.iter().any(verify::is_grave) {
                    return;
                }
                let Some(rehearsal) = Rehearsal::of(name, drill) else { return };
                let passed = self.passed.entry(drill.instance.clone()).or_default();
                let at = passed.partition_point(|before| before.finished <= rehearsal.finished);
                passed.insert(at, rehearsal);
                if passed.len() > REMEMBERED {
                    passed.remove(0);
                }
            }
            _ => {}
        }
    }

    /// Something else that lies among the statements.
    pub fn stranger(&mut self, name: &str) {
        self.findings.add(Word::ForeignEntry, Weight::Notice, name, "it is nothing that a release has written");
    }

    /// A checkpoint that somebody kept elsewhere. It must be of this ledger, and this ledger must continue it.
    pub fn anchor(&mut self, label: &str, text: &[u8]) {
        match checkpoint::open(text, &self.trust.keys) {
            Ok(signed) => self.log.anchor(label, signed.checkpoint),
            Err(refused) => {
                let why = format!("the checkpoint to compare with is not to be believed: {refused}");
                self.findings.add(note_refusal(&refused), Weight::Wrong, label, why);
            }
        }
    }

    /// What whoever audits remembers of this ledger: it must continue that. It is no proof for anybody else.
    pub fn remembered(&mut self, label: &str, checkpoint: checkpoint::Checkpoint) {
        self.log.remembered(label, checkpoint);
    }

    /// A checkpoint that lies under this size. All of them come before the entries.
    pub fn checkpoint(&mut self, size: u64, text: &[u8]) {
        let of = format!("checkpoint {size}");
        self.log.seen_checkpoints += 1;
        match checkpoint::open(text, &self.trust.keys) {
            Ok(signed) if signed.checkpoint.size != size => {
                let why = format!("it is a copy of the checkpoint of size {}", signed.checkpoint.size);
                self.findings.add(Word::ForeignEntry, Weight::Notice, &of, why);
            }
            // The same key signs the ledgers of other tenants and repositories; whoever may put can bring theirs.
            Ok(signed) if self.trust.origin.as_ref().is_some_and(|own| *own != signed.checkpoint.origin) => {
                let why = format!("it is a checkpoint of {}, and not of this ledger", signed.checkpoint.origin);
                self.findings.add(Word::ForeignEntry, Weight::Notice, &of, why);
            }
            Ok(signed) => self.log.checkpoint(signed.checkpoint, signed.key, &mut self.findings),
            Err(refused) => self.log.refused(size, refused),
        }
    }

    /// A tile or a bundle, as it lies there. All of them come before the entries.
    pub fn tile(&mut self, place: Place, bytes: &[u8]) {
        self.log.tiles.give(place, bytes);
    }

    /// What somebody who can verify time stamps says of the one about the checkpoint of this size.
    pub fn timestamp(&mut self, size: u64, stamp: Stamp) {
        self.stamps.push((size, stamp));
    }

    /// Somebody can verify time stamps, and has told of all that are there: what none covers is to be named.
    pub fn expect_time_stamps(&mut self) {
        self.stamps_expected = true;
    }

    /// The next entry, in ascending order of the index.
    pub fn entry(&mut self, index: u64, bytes: &[u8]) {
        self.log.entry(index, bytes, &self.trust, &mut self.findings);
    }

    /// What the entries so far name and no statement has been given for: to be looked for once more, as somebody may have
    /// been writing.
    pub fn awaited(&self) -> Vec<String> {
        self.log.named().filter(|name| !self.statements.contains_key(*name)).map(str::to_owned).collect()
    }

    /// Whether a statement that is believed stands in none of the entries so far: somebody may be about to enter it.
    pub fn lacks_entries(&self) -> bool {
        self.statements.iter().any(|(name, fact)| fact.signer.is_some() && !self.log.has(name))
    }

    /// The size of the newest checkpoint that a trusted key has signed: so many entries were there when it was put.
    pub fn signed_size(&self) -> u64 {
        self.log.signed_size()
    }

    /// Says that something could not be looked at.
    pub fn not_executed(&mut self, what: &str, why: &str) {
        self.not_executed.push(NotExecuted { what: what.to_owned(), why: why.to_owned() });
    }

    /// The answer.
    pub fn finish(mut self) -> Audit {
        self.log.settle(&mut self.findings);
        let revocations = self.revocations();
        let covered = self.log.covered(&revocations, &mut self.findings);
        let size = covered.map_or(0, |(size, _)| size);
        let proven = match self.demand {
            Demand::SignaturesOnly => self.signatures_only(&revocations),
            _ if self.log.is_empty() => self.without_ledger(&revocations),
            _ => self.against_the_log(&revocations, size),
        };
        self.boundaries();
        let time_stamps = self.time_stamps(size);
        let rehearsals = self
            .passed
            .values()
            .filter_map(|passed| passed.iter().rev().find(|rehearsal| proven.contains(&rehearsal.name)).cloned());
        Audit {
            rehearsals: rehearsals.collect(),
            origin: self.log.origin.clone(),
            statements: self.statements.len() as u64,
            proven: proven.len() as u64,
            proven_names: proven.into_iter().collect(),
            entries: self.log.entries(),
            checkpoints: self.log.seen_checkpoints,
            size,
            root: covered.map(|(_, root)| root),
            anchors: self.log.anchored,
            time_stamps,
            findings: self.findings,
            not_executed: self.not_executed,
        }
    }

    fn revocations(&mut self) -> Revocations {
        let stated = std::mem::take(&mut self.stated);
        let stated = stated.into_iter().map(|(name, stated)| {
            let fact = self.statements.get(&name);
            let received = fact.and_then(|fact| self.received(&name, fact)).unwrap_or(stated.received);
            Stated { received, ..stated }
        });
        Revocations::new(&self.trust.revoked, stated.collect())
    }

    /// When it came, by the store's clock, else by its place in the ledger: a thief may date an entry back, but not behind
    /// those before it.
    fn received(&self, name: &str, fact: &Fact) -> Option<Timestamp> {
        fact.received.or_else(|| self.log.entered(name, &fact.sha256))
    }

    fn signatures_only(&mut self, revocations: &Revocations) -> Vec<String> {
        let mut sound = Vec::new();
        for (name, fact) in &self.statements {
            let Some(signer) = fact.signer else { continue };
            match revocations.end_of(&signer) {
                None => sound.push(name.clone()),
                Some(end) if fact.finished.is_some_and(|finished| finished <= end) => {
                    let why = format!(
                        "key {} was revoked as of {end:.0}; that this is older is its own word alone, which a ledger would prove",
                        signer.id()
                    );
                    self.findings.add(Word::Revoked, Weight::Doubt, name, why);
                }
                Some(end) => self.findings.add(Word::Revoked, Weight::Wrong, name, revoked(&signer, end)),
            }
        }
        sound
    }

    fn without_ledger(&mut self, revocations: &Revocations) -> Vec<String> {
        let why = "there is no ledger: neither entries nor checkpoints";
        match self.demand {
            Demand::Ledger => self.findings.add(Word::Missing, Weight::Wrong, "ledger", why),
            _ => {
                let why = format!("{why}; the next act that is recorded here begins it");
                self.findings.add(Word::NotInLedger, Weight::Doubt, "ledger", why);
            }
        }
        self.signatures_only(revocations)
    }

    /// Each statement against its entry, each entry against its statement, in the order of the ledger.
    fn against_the_log(&mut self, revocations: &Revocations, covered: u64) -> Vec<String> {
        let mut entered = Vec::new();
        let beside = if self.demand == Demand::LedgerOfPrimary { Weight::Notice } else { Weight::Wrong };
        for (name, fact) in &self.statements {
            entered.extend(self.log.place_of(name, fact, beside, &mut self.findings).map(|place| (place, name, fact)));
        }
        entered.sort_by_key(|(place, ..)| place.index);
        let mut proven = Vec::new();
        // What was there when the ledger began was entered late, and before anything newer.
        let mut adopting = true;
        for (place, name, Fact { signer, finished, received, .. }) in entered {
            let Some(signer) = signer else { continue };
            adopting &= finished.is_some_and(|finished| Some(finished) <= self.log.first);
            let untimely = self.log.in_time(name, place, *finished, adopting);
            let received = received.unwrap_or(place.at);
            if let Some(end) = revocations.end_of(signer).filter(|end| received > *end) {
                self.findings.add(Word::Revoked, Weight::Wrong, name, revoked(signer, end));
            } else if let Some(why) = untimely {
                self.findings.add(Word::BackDated, Weight::Wrong, name, why);
            } else if place.index < covered {
                proven.push(name.clone());
            }
        }
        self.log.revoked(revocations, &mut self.findings);
        self.log.without_statement(|name| self.statements.contains_key(name), &mut self.findings);
        proven
    }

    /// How many say that their checkpoint is as old as its entries say.
    fn time_stamps(&mut self, covered: u64) -> u64 {
        let stamps = std::mem::take(&mut self.stamps);
        let are_there = !stamps.is_empty();
        let (mut sound, mut newest) = (0, 0);
        for (size, stamp) in stamps {
            let of = format!("time stamp {size}");
            let seen = match stamp {
                Stamp::Verified(seen) => seen,
                Stamp::Refused(why) => {
                    self.findings.add(Word::TimeStamp, Weight::Wrong, &of, why);
                    continue;
                }
            };
            match self.log.latest_at(size) {
                // An authority is asked as soon as there is a checkpoint: one that saw it much later saw another making.
                Some(latest) if seen > log::later(latest) => {
                    let why = format!(
                        "the authority saw it at {seen:.0}, and its entries say that it was made by {latest:.0}"
                    );
                    self.findings.add(Word::BackDated, Weight::Wrong, &of, why);
                }
                Some(latest) if latest > log::later(seen) => {
                    let why = format!("the authority saw it at {seen:.0}, and its entries say {latest:.0}");
                    self.findings.add(Word::TimeStamp, Weight::Wrong, &of, why);
                }
                Some(_) => (sound, newest) = (sound + 1, newest.max(size)),
                None => {
                    let why = "there is no checkpoint of this size that fits the entries";
                    self.findings.add(Word::TimeStamp, Weight::Wrong, &of, why);
                }
            }
        }
        if self.stamps_expected && newest < covered {
            self.unstamped(newest, covered - 1, are_there);
        }
        sound
    }

    /// Entries that may have been made up later, for all that an authority says. Those of the newest checkpoint may be about to be
    /// stamped; a ledger without any time stamp does not prove what is asked for.
    fn unstamped(&mut self, first: u64, last: u64, are_there: bool) {
        // Into a copy none is carried.
        if are_there || self.demand == Demand::LedgerOfPrimary {
            self.not_executed(&format!("the time of entries {first} to {last}"), "no time stamp covers them");
        } else {
            let why = "there is no time stamp at all: what its entries say of time is the word of who signed them";
            self.findings.add(Word::TimeStamp, Weight::Doubt, "ledger", why);
        }
    }

    /// What nobody can tell from here.
    fn boundaries(&mut self) {
        if self.demand == Demand::SignaturesOnly {
            self.not_executed(
                "inclusion, gaps and order",
                "single files: give the exported directory, or the repository",
            );
        } else if self.log.anchors_given() == 0 && !self.log.is_empty() {
            let why = match self.log.remembered_size() {
                Some(size) => format!(
                    "no checkpoint that was kept elsewhere was given (--against): the {size} entries that this host \
                     remembers are there, and what others entered after them may be missing"
                ),
                None => {
                    "no checkpoint that was kept elsewhere was given (--against): entries may be missing after the \
                         last one"
                        .to_owned()
                }
            };
            self.not_executed("whether the end was cut off", &why);
        }
    }
}

impl Audit {
    /// Whether the evidence is as it was left.
    pub fn believed(&self) -> bool {
        self.findings.worst() != Some(Weight::Wrong)
    }

    /// Whether it proves what it is wanted for as well.
    pub fn convincing(&self) -> bool {
        self.findings.worst() < Some(Weight::Doubt)
    }
}

fn revoked(signer: &PublicKey, end: Timestamp) -> String {
    format!("key {} was revoked as of {end:.0}, and nothing shows that this had been there before", signer.id())
}

fn finished(statement: &Statement) -> Option<Timestamp> {
    match &statement.predicate {
        Predicate::Backup(backup) => Some(backup.finished),
        Predicate::Drill(drill) => Some(drill.finished),
        Predicate::Dump(dump) => Some(dump.finished),
        Predicate::Act(act) => Some(act.finished),
        Predicate::Opaque { .. } => None,
    }
}

fn note_refusal(error: &NoteError) -> Word {
    match error {
        NoteError::NoTrustedSignature => Word::ReSigned,
        _ => Word::Edited,
    }
}

fn refusal(error: &Error) -> Word {
    match error {
        Error::NoTrustedSignature(signers) if signers.is_empty() => Word::Unsigned,
        Error::NoTrustedSignature(_) => Word::ReSigned,
        _ => Word::Edited,
    }
}
