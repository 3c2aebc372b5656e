//! Why what nothing needs is still there, summed up: a run has few reasons and may have millions of objects.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_repo::prune::{Fate, PruneItem};
use serde::Serialize;

use crate::output::{bytes, count};

/// Reasons that are named; a run has a handful, and no store may fill memory with more.
const REASONS: usize = 16;
const OTHERS: &str = "other reasons: --objects names them";

/// What waits for the same reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub why: String,
    pub objects: u64,
    pub bytes: u64,
}

impl Waiting {
    /// The sum and its reason, in a line.
    pub fn text(&self) -> String {
        format!("{} in {}: {}", bytes(self.bytes), count(self.objects, "object", "objects"), self.why)
    }
}

/// What stays although nothing needs it.
#[derive(Debug, Default)]
pub struct Staying {
    reasons: BTreeMap<String, (u64, u64)>,
    /// When the first lock ends.
    pub first_unlocked: Option<Timestamp>,
}

impl Staying {
    /// Counts one more object.
    pub fn add(&mut self, item: &PruneItem) {
        match &item.fate {
            Fate::Waits(why) => {
                let is_named = self.reasons.contains_key(why) || self.reasons.len() < REASONS;
                let (objects, bytes) =
                    self.reasons.entry(if is_named { why.clone() } else { OTHERS.to_owned() }).or_default();
                *objects += 1;
                *bytes += item.bytes;
            }
            Fate::LockedUntil(until) => {
                self.first_unlocked = Some(self.first_unlocked.map_or(*until, |first| first.min(*until)));
            }
            _ => {}
        }
    }

    /// The reasons to wait, the commonest first.
    pub fn waiting(self) -> Vec<Waiting> {
        let sum = |(why, (objects, bytes))| Waiting { why, objects, bytes };
        let mut waiting: Vec<Waiting> = self.reasons.into_iter().map(sum).collect();
        waiting.sort_by_key(|sum| std::cmp::Reverse(sum.objects));
        waiting
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_repo::prune::PruneKind;
    use lifeboat_store::Key;

    use super::*;

    fn staying(fates: impl IntoIterator<Item = Fate>) -> Staying {
        let mut staying = Staying::default();
        for fate in fates {
            let (key, why) = (Key::new("group/clinic/packs/00").unwrap(), "no point names it".to_owned());
            staying.add(&PruneItem { key, version: None, bytes: 10, kind: PruneKind::Pack, why, fate });
        }
        staying
    }

    #[test]
    fn reasons_are_summed_up_and_the_first_lock_is_known() {
        let waits = |why: &str| Fate::Waits(why.to_owned());
        let locked = |time: &str| Fate::LockedUntil(time.parse().unwrap());
        let fates = [
            waits("young"),
            locked("2026-11-23T00:00:00Z"),
            waits("a backup runs"),
            Fate::Removed,
            locked("2026-11-22T00:00:00Z"),
            waits("a backup runs"),
        ];
        let staying = staying(fates);
        assert_eq!(staying.first_unlocked, Some("2026-11-22T00:00:00Z".parse().unwrap()));
        let texts: Vec<_> = staying.waiting().iter().map(Waiting::text).collect();
        assert_eq!(texts, ["20 B in 2 objects: a backup runs", "10 B in 1 object: young"]);
    }

    #[test]
    fn however_many_reasons_there_are_few_are_kept() {
        let waiting = staying((0..1000).map(|n| Fate::Waits(n.to_string()))).waiting();
        assert_eq!(waiting.len(), REASONS + 1);
        assert_eq!((waiting[0].why.as_str(), waiting[0].objects), (OTHERS, 1000 - REASONS as u64));
    }
}
