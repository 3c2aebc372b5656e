//! What an audit finds, each kind with a word that stays the same.

use std::collections::BTreeMap;

use serde::Serialize;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Word {
    /// Nobody has signed it, or no signed checkpoint covers it.
    Unsigned,
    /// It is not what was signed or entered.
    Edited,
    /// It is signed, by a key that is not trusted.
    ReSigned,
    /// A statement that the ledger does not know.
    NotInLedger,
    /// The ledger knows it, and it is not there.
    Missing,
    /// An entry of the ledger is not there, and later ones are.
    Gap,
    /// The end of the ledger is not there.
    Cut,
    /// Two signed histories that cannot both be true.
    Fork,
    /// Something in the ledger that is no entry of its owner.
    ForeignEntry,
    /// It says that it is older than its place in the ledger can be.
    BackDated,
    /// It says that it was made later than now.
    ForwardDated,
    /// Signed by a key that was not to be believed any more.
    Revoked,
    /// It contradicts itself or others, or lies in another place than its own.
    Contradiction,
    /// What it is about has changed since: it proves nothing of today.
    Stale,
    /// A time stamp that does not fit.
    TimeStamp,
}

impl Word {
    /// As people and scripts read it.
    pub fn word(self) -> &'static str {
        match self {
            Word::Unsigned => "unsigned",
            Word::Edited => "edited",
            Word::ReSigned => "re-signed",
            Word::NotInLedger => "not in the ledger",
            Word::Missing => "missing",
            Word::Gap => "gap",
            Word::Cut => "cut",
            Word::Fork => "fork",
            Word::ForeignEntry => "foreign entry",
            Word::BackDated => "back-dated",
            Word::ForwardDated => "forward-dated",
            Word::Revoked => "revoked",
            Word::Contradiction => "contradiction",
            Word::Stale => "stale",
            Word::TimeStamp => "time stamp",
        }
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Worth knowing; takes nothing away from the evidence.
    Notice,
    /// Nothing is wrong with the evidence, and it does not prove what it is wanted for.
    Doubt,
    /// The evidence is not as it was left.
    Wrong,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub word: Word,
    /// How much it weighs.
    pub weight: Weight,
    /// The file, entry or checkpoint.
    pub of: String,
    /// In a sentence.
    pub detail: String,
}

/// All findings: each is counted, and the first of each kind are kept, so that a hostile folder fills no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    listed: Vec<Finding>,
    counts: BTreeMap<Word, u64>,
    #[serde(skip)]
    worst: Option<Weight>,
}

impl Findings {
    /// How many of a kind are kept.
    pub const LISTED: u64 = 100;

    pub(crate) fn add(&mut self, word: Word, weight: Weight, of: &str, detail: impl Into<String>) {
        let count = self.counts.entry(word).or_default();
        *count += 1;
        self.worst = self.worst.max(Some(weight));
        // What weighs most is kept in any case, as long as it is the first of its weight.
        let known = |finding: &Finding| (finding.word, finding.weight) == (word, weight);
        if *count <= Self::LISTED || !self.listed.iter().any(known) {
            self.listed.push(Finding { word, weight, of: shown(of), detail: shown(&detail.into()) });
        }
    }

    /// The first of each kind, in the order in which they were found.
    pub fn listed(&self) -> &[Finding] {
        &self.listed
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<Word, u64> {
        &self.counts
    }

    /// How much the worst one weighs; none where there is none.
    pub fn worst(&self) -> Option<Weight> {
        self.worst
    }

    /// Whether there is one of this kind.
    pub fn has(&self, word: Word) -> bool {
        self.counts.contains_key(&word)
    }
}

/// Names and texts of others: nothing that moves a cursor, and not endless.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().collect::<String>() } else { c.to_string() };
    text.chars().take(600).map(plain).collect()
}
