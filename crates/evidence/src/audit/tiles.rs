//! Tiles and bundles: what they must be, recomputed from the entries.

use std::collections::BTreeMap;

use lifeboat_model::id::Sha256Digest;
use sha2::{Digest as _, Sha256};

use super::finding::{Findings, Weight, Word};
use crate::ledger::{Hash, leaf_hash, place, place::Place, tile};

/// Those that are there, and the rows that are being filled. Memory: a tile for each level.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    given: BTreeMap<String, Sha256Digest>,
    checked: u64,
    rows: Vec<(u64, Vec<Hash>)>,
    bundle: Sha256,
}

impl Tiles {
    /// One that is there. All of them come before the entries.
    pub fn give(&mut self, place: Place, bytes: &[u8]) {
        let name = match place {
            Place::Tile(level, number) => place::tile(level, number),
            Place::Bundle(number) => place::bundle(number),
            Place::Entry(_) | Place::Checkpoint(_) => return,
        };
        self.given.insert(name, Sha256Digest(Sha256::digest(bytes).into()));
    }

    /// The next leaf.
    pub fn push(&mut self, index: u64, leaf: &[u8], findings: &mut Findings) {
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX);
        self.bundle.update(length.to_be_bytes());
        self.bundle.update(leaf);
        if (index + 1).is_multiple_of(tile::WIDTH) {
            let digest = Sha256Digest(std::mem::take(&mut self.bundle).finalize().into());
            self.check(place::bundle(index / tile::WIDTH), digest, findings);
        }
        let mut hash = leaf_hash(leaf);
        for level in 0.. {
            if self.rows.len() == level {
                self.rows.push((0, Vec::new()));
            }
            let (number, row) = &mut self.rows[level];
            row.push(hash);
            let Some(root) = tile::root(row) else { return };
            let digest = Sha256Digest(Sha256::digest(tile::encode(row)).into());
            let name = place::tile(level as u32, *number);
            (*number, hash) = (*number + 1, root);
            row.clear();
            self.check(name, digest, findings);
        }
    }

    fn check(&mut self, name: String, expected: Sha256Digest, findings: &mut Findings) {
        match self.given.remove(&name) {
            Some(given) if given == expected => self.checked += 1,
            // Nothing rests on a tile, and nobody signs one: who may put can be first in its place.
            Some(_) => {
                let why = "it does not hold what the entries give, which are looked at themselves";
                findings.add(Word::ForeignEntry, Weight::Notice, &name, why);
            }
            None => findings.add(
                Word::Missing,
                Weight::Notice,
                &name,
                "a full tile is not there; the entries hold the same, and the next act puts it",
            ),
        }
    }

    /// Those for which there were not enough entries. That entries were cut off is told by what is signed.
    pub fn left(&self, findings: &mut Findings) {
        for name in self.given.keys() {
            let why = "it is of entries that are not there, and nobody has signed it";
            findings.add(Word::ForeignEntry, Weight::Notice, name, why);
        }
    }
}
