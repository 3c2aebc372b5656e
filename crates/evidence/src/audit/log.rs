//! The ledger itself: its tree recomputed entry by entry, every checkpoint held against it, and the order of times.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{id::Sha256Digest, signature::PublicKey};

use super::{
    Fact, TOLERANCE_SECONDS,
    finding::{Findings, Weight, Word},
    tiles::Tiles,
    trust::{Revocations, Trust},
};
use crate::ledger::{Checkpoint, Entry, Hash, NoteError, Tree, entry::SignedEntry};

/// Entries and checkpoints as far as they have been seen.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub origin: Option<String>,
    pub seen_checkpoints: u64,
    /// Anchors that this ledger continues.
    pub anchored: u64,
    tree: Tree,
    pub tiles: Tiles,
    /// The root at each size from 0 on, until a gap.
    roots: Vec<Hash>,
    seen: u64,
    /// Where entries are missing, nothing after them can be recomputed.
    broken: bool,
    signed: BTreeMap<u64, Vec<Signed>>,
    /// Not to be believed, and why.
    refused: Vec<(u64, NoteError)>,
    anchors: Vec<(String, Checkpoint)>,
    /// What whoever audits remembers.
    memories: Vec<(String, Checkpoint)>,
    places: BTreeMap<String, Vec<Place>>,
    /// What the auditor's clock says, where it means something.
    pub now: Option<Timestamp>,
    /// The latest time that any entry so far says which can be true.
    latest: Option<Timestamp>,
    /// The latest time that any of them says.
    reached: Option<Timestamp>,
    /// When the first entry was made: what had finished before was taken over.
    pub first: Option<Timestamp>,
    /// An entry has named a checkpoint before it.
    begun: bool,
}

/// A checkpoint that a trusted key has signed.
#[derive(Debug)]
struct Signed {
    root: Hash,
    key: PublicKey,
    /// The latest time that its entries say.
    at: Option<Timestamp>,
}

/// An entry of a statement.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub index: u64,
    sha256: Sha256Digest,
    entered: Timestamp,
    /// The latest time of the entries before it.
    before: Option<Timestamp>,
    /// It cannot have come before this, whatever it says.
    pub at: Timestamp,
    key: PublicKey,
}

impl Log {
    pub fn is_empty(&self) -> bool {
        self.seen == 0 && self.seen_checkpoints == 0 && self.anchors.is_empty()
    }

    pub fn entries(&self) -> u64 {
        self.seen
    }

    pub fn anchors_given(&self) -> usize {
        self.anchors.len()
    }

    /// The statements that entries name.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub fn has(&self, statement: &str) -> bool {
        self.places.contains_key(statement)
    }

    pub fn signed_size(&self) -> u64 {
        self.signed.keys().next_back().copied().unwrap_or_default()
    }

    pub fn remembered(&mut self, label: &str, checkpoint: Checkpoint) {
        self.memories.push((label.to_owned(), checkpoint));
    }

    /// How many entries are remembered, if they are there.
    pub fn remembered_size(&self) -> Option<u64> {
        let fits = |one: &&(String, Checkpoint)| self.fits(one.1.size, &one.1.root) == Some(true);
        self.memories.iter().filter(fits).map(|(_, checkpoint)| checkpoint.size).max()
    }

    pub fn anchor(&mut self, label: &str, checkpoint: Checkpoint) {
        self.anchors.push((label.to_owned(), checkpoint));
    }

    pub fn checkpoint(&mut self, checkpoint: Checkpoint, key: PublicKey, findings: &mut Findings) {
        let of = format!("checkpoint {}", checkpoint.size);
        let origin = self.origin.get_or_insert_with(|| checkpoint.origin.clone());
        if *origin != checkpoint.origin {
            let why = format!("it is of {}, and not of {origin} like others here", checkpoint.origin);
            return findings.add(Word::Fork, Weight::Wrong, &of, why);
        }
        let Checkpoint { size, root, .. } = checkpoint;
        let signed = self.signed.entry(size).or_default();
        if !signed.iter().any(|before| before.root == root && before.key == key) {
            signed.push(Signed { root, key, at: None });
        }
    }

    /// Something in the place of a checkpoint that nobody trusted has signed. Anybody with the right to put can be first
    /// there; then the true one lies beside it.
    pub fn refused(&mut self, size: u64, why: NoteError) {
        self.refused.push((size, why));
    }

    pub fn entry(&mut self, index: u64, bytes: &[u8], trust: &Trust, findings: &mut Findings) {
        self.seen += 1;
        let expected = self.tree.size();
        if index != expected && !self.broken {
            let why = match index.checked_sub(1).filter(|_| index > expected) {
                Some(last) => format!("entries {expected} to {last} are not there, and later ones are"),
                None => format!("entry {index} comes where {expected} belongs"),
            };
            findings.add(Word::Gap, Weight::Wrong, "ledger", why);
            self.broken = true;
        }
        if self.roots.is_empty() {
            self.roots.push(Hash::empty());
        }
        if !self.broken {
            self.tree.push(bytes);
            self.tiles.push(index, bytes, findings);
            self.roots.push(self.tree.root());
        }
        let of = format!("entry {index}");
        let own = trust.origin.as_ref().or(self.origin.as_ref());
        match Entry::open(bytes, &trust.keys) {
            Err(refused) => findings.add(Word::ForeignEntry, Weight::Notice, &of, refused.to_string()),
            Ok(SignedEntry { entry, .. }) if entry.index != index => {
                let why = format!("it was signed for place {}: somebody put a copy here", entry.index);
                findings.add(Word::ForeignEntry, Weight::Notice, &of, why);
            }
            Ok(SignedEntry { entry, .. }) if own.is_some_and(|own| *own != entry.log) => {
                let why = format!("it was signed for the log {}: somebody put a copy here", entry.log);
                findings.add(Word::ForeignEntry, Weight::Notice, &of, why);
            }
            Ok(SignedEntry { entry, key }) => self.place(entry, key, &trust.revoked, findings),
        }
        let signed = index.checked_add(1).and_then(|size| self.signed.get_mut(&size)); // an index may be any file's name
        for signed in signed.into_iter().flatten() {
            // A thief's own entries count against what the thief has signed.
            let is_revoked = trust.revoked.iter().any(|(of, _)| *of == signed.key);
            signed.at = if is_revoked { self.reached } else { self.latest };
        }
    }

    fn place(&mut self, entry: Entry, key: PublicKey, revoked: &[(PublicKey, Timestamp)], findings: &mut Findings) {
        let index = entry.index;
        let of = format!("entry {index}");
        match &entry.previous {
            None if self.begun => {
                let why = "it says that there was no checkpoint before it, and there was";
                findings.add(Word::Fork, Weight::Wrong, &of, why);
            }
            None => {}
            Some(previous) => {
                self.begun = true;
                let size = previous.size;
                if !self.broken && (size > index || self.fits(size, &previous.root) != Some(true)) {
                    let why = format!("who signed it had seen another ledger of {size} entries than this one");
                    findings.add(Word::Fork, Weight::Wrong, &of, why);
                } else if size > 0 && !self.signed.contains_key(&size) {
                    let why =
                        format!("who signed entry {index} had seen it, and it is not there, or not to be believed");
                    findings.add(Word::Missing, Weight::Wrong, &format!("checkpoint {size}"), why);
                }
            }
        }
        let at = self.latest.map_or(entry.entered, |latest| latest.max(entry.entered));
        let place = Place { index, sha256: entry.sha256, entered: entry.entered, before: self.latest, at, key };
        self.reached = self.reached.max(Some(entry.entered));
        let forward = self.now.filter(|now| entry.entered > later(*now));
        if let Some(now) = forward {
            let why = format!("it says that it was entered at {:.0}, and now it is {now:.0}", entry.entered);
            findings.add(Word::ForwardDated, Weight::Wrong, &of, why);
        }
        // What cannot be true, or was signed by a thief, says nothing about those that come after it.
        if forward.is_none() && !revoked.iter().any(|(of, end)| *of == key && at > *end) {
            self.first.get_or_insert(entry.entered);
            self.latest = Some(at);
        }
        self.places.entry(entry.statement).or_default().push(place);
    }

    /// Every checkpoint against the entries.
    pub fn settle(&mut self, findings: &mut Findings) {
        let newest = self.each_signed().filter(|(size, signed)| self.fits(*size, &signed.root) == Some(true)).last();
        let newest = newest.map_or(0, |(size, _)| size);
        for (size, signed) in self.each_signed() {
            self.settle_one(size, signed, newest, findings);
        }
        for (size, why) in &self.refused {
            // Was it a true one that somebody has changed, the entry that rests on it misses it, or entries are not covered.
            findings.add(Word::ForeignEntry, Weight::Notice, &format!("checkpoint {size}"), why.to_string());
        }
        if !self.broken {
            self.tiles.left(findings);
        }
        self.settle_anchors(findings);
    }

    fn each_signed(&self) -> impl Iterator<Item = (u64, &Signed)> {
        self.signed.iter().flat_map(|(size, signed)| signed.iter().map(|one| (*size, one)))
    }

    fn settle_one(&self, size: u64, signed: &Signed, newest: u64, findings: &mut Findings) {
        let of = format!("checkpoint {size}");
        match self.fits(size, &signed.root) {
            Some(true) => {}
            None if self.broken => {}
            None => {
                let why = format!("{size} entries were signed, and only {} are there", self.tree.size());
                findings.add(Word::Cut, Weight::Wrong, &of, why);
            }
            Some(false) if size <= newest => {
                let why = "it was signed, and the ledger that other checkpoints sign is another one";
                findings.add(Word::Fork, Weight::Wrong, &of, why);
            }
            Some(false) => {
                let last = size - 1;
                let why = format!("the entries do not give its root: one from {newest} to {last} was changed or moved");
                findings.add(Word::Edited, Weight::Wrong, &of, why);
            }
        }
    }

    fn settle_anchors(&mut self, findings: &mut Findings) {
        for (label, anchor) in &self.anchors {
            match self.settle_anchor(anchor) {
                None => self.anchored += 1,
                Some((word, why)) => findings.add(word, Weight::Wrong, label, why),
            }
        }
        for (label, memory) in &self.memories {
            if let Some((word, why)) = self.settle_anchor(memory) {
                findings.add(word, Weight::Wrong, label, why);
            }
        }
    }

    /// Why the ledger does not continue what was kept.
    fn settle_anchor(&self, anchor: &Checkpoint) -> Option<(Word, String)> {
        let size = anchor.size;
        if self.origin.as_ref().is_some_and(|own| *own != anchor.origin) {
            return Some((
                Word::Fork,
                format!("it is a checkpoint of {}, another ledger than this one", anchor.origin),
            ));
        }
        match self.fits(size, &anchor.root) {
            Some(true) => None,
            Some(false) => Some((
                Word::Fork,
                format!("this ledger is not the one that it was kept from: its first {size} entries are others"),
            )),
            None if self.broken => Some((Word::Gap, "entries are missing before its size".to_owned())),
            None => Some((
                Word::Cut,
                format!("the ledger had {size} entries when it was kept, and now {}", self.tree.size()),
            )),
        }
    }

    /// Whether the entries give this root at this size; none where there are not so many.
    fn fits(&self, size: u64, root: &Hash) -> Option<bool> {
        if size == 0 {
            return Some(*root == Hash::empty());
        }
        self.roots.get(usize::try_from(size).ok()?).map(|own| own == root)
    }

    /// The newest checkpoint that fits and is to be believed; and the entries that are under none.
    pub fn covered(&self, revocations: &Revocations, findings: &mut Findings) -> Option<(u64, Hash)> {
        let mut covered = None;
        let mut refused_later = false;
        for (size, signed) in self.each_signed() {
            if self.fits(size, &signed.root) != Some(true) {
                refused_later = true;
                continue;
            }
            let end = revocations.end_of(&signed.key).filter(|end| signed.at.is_none_or(|at| at > *end));
            if let Some(end) = end {
                let why = format!("key {} was revoked as of {end:.0}, before its last entry", signed.key.id());
                findings.add(Word::Revoked, Weight::Wrong, &format!("checkpoint {size}"), why);
                refused_later = true;
                continue;
            }
            (covered, refused_later) = (Some((size, signed.root)), false);
        }
        let size = covered.map_or(0, |(size, _)| size);
        if size < self.tree.size() && !refused_later && !self.broken {
            let last = self.tree.size() - 1;
            let why = "no signed checkpoint covers them: after a crash the next act signs one, else somebody added them or took it away";
            findings.add(Word::Unsigned, Weight::Wrong, &format!("entries {size} to {last}"), why);
        }
        covered
    }

    /// The latest time that the entries of a checkpoint say, if it fits them.
    pub fn latest_at(&self, size: u64) -> Option<Timestamp> {
        let signed = self.signed.get(&size)?;
        signed.iter().find(|signed| self.fits(size, &signed.root) == Some(true))?.at
    }

    /// When the ledger got this statement.
    pub fn entered(&self, name: &str, sha256: &Sha256Digest) -> Option<Timestamp> {
        self.places.get(name)?.iter().find(|place| place.sha256 == *sha256).map(|place| place.at)
    }

    /// The entry of this statement; `beside` is how much it weighs to have none.
    pub fn place_of(&self, name: &str, fact: &Fact, beside: Weight, findings: &mut Findings) -> Option<&Place> {
        let Some(places) = self.places.get(name) else {
            let why = "the ledger does not know it: it was put there past the ledger, or a crash came between, and the next act enters it";
            findings.add(Word::NotInLedger, beside, name, why);
            return None;
        };
        let own = places.iter().find(|place| place.sha256 == fact.sha256);
        match own {
            None => {
                let why = format!("it is not what was entered as entry {}: its digest is another", places[0].index);
                findings.add(Word::Edited, Weight::Wrong, name, why);
            }
            Some(own) => {
                // Twice with the same digest is what two hosts do that make good the same crash.
                for other in places.iter().filter(|place| place.sha256 != own.sha256) {
                    let why = format!("it names {name}, which entry {} is about", own.index);
                    findings.add(Word::ForeignEntry, Weight::Notice, &format!("entry {}", other.index), why);
                }
            }
        }
        own
    }

    /// Whether what the statement and its entry say of time can be. `adopted`: it was there when the ledger began.
    pub fn in_time(&self, name: &str, place: &Place, finished: Option<Timestamp>, adopted: bool) -> Option<String> {
        let Place { index, entered, before, .. } = place;
        if let Some(before) = before.filter(|before| later(*entered) < *before) {
            return Some(format!(
                "entry {index} says that it was entered at {entered:.0}, after entries of {before:.0}"
            ));
        }
        let finished = finished?;
        if finished > later(*entered) {
            return Some(format!("{name} was entered at {entered:.0}, before it had finished at {finished:.0}"));
        }
        let before = before.filter(|before| !adopted && later(finished) < *before)?;
        Some(format!("it says that it finished at {finished:.0}, and it comes after entries of {before:.0}"))
    }

    /// Entries that a key signed when it was not believed any more.
    pub fn revoked(&self, revocations: &Revocations, findings: &mut Findings) {
        for place in self.places.values().flatten() {
            if let Some(end) = revocations.end_of(&place.key).filter(|end| place.at > *end) {
                let why = format!("key {} was revoked as of {end:.0}, before it was entered", place.key.id());
                findings.add(Word::Revoked, Weight::Wrong, &format!("entry {}", place.index), why);
            }
        }
    }

    /// Entries of which the statement is gone.
    pub fn without_statement(&self, known: impl Fn(&str) -> bool, findings: &mut Findings) {
        for (name, places) in self.places.iter().filter(|(name, _)| !known(name)) {
            let why = format!("entry {} has it, and it is not there", places[0].index);
            findings.add(Word::Missing, Weight::Wrong, name, why);
        }
    }
}

/// As late as something of that time may be entered.
pub(super) fn later(time: Timestamp) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(TOLERANCE_SECONDS)).unwrap_or(Timestamp::MAX)
}
