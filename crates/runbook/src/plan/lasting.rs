//! How long a plan lasts: the longest way through it.

use std::collections::BTreeMap;

use lifeboat_model::time::Span;

use super::{Item, Runs};

/// Who says how long a step lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Past runs.
    Past,
    /// Its author.
    Expected,
}

/// How long something lasts, and what is not known of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lasts {
    /// What is known, together.
    pub known: Span,
    /// Steps of which nothing is known.
    pub unknown: usize,
}

impl Default for Lasts {
    fn default() -> Self {
        Lasts { known: Span(std::time::Duration::ZERO), unknown: 0 }
    }
}

impl Lasts {
    fn and(self, other: Lasts) -> Lasts {
        let known = Span(self.known.0.saturating_add(other.known.0));
        Lasts { known, unknown: self.unknown + other.unknown }
    }
}

/// The longest way through items that stand in one document. A branch that several forks lead to counts for each: a plan
/// promises too much time rather than too little.
pub(super) fn sum(items: &[Item]) -> Lasts {
    let mut ways = Ways { items: BTreeMap::new(), found: BTreeMap::new() };
    items.iter().for_each(|item| ways.list(item));
    ways.all(items)
}

struct Ways<'i> {
    items: BTreeMap<&'i str, &'i Item>,
    /// Branches that were looked at; nothing while one is.
    found: BTreeMap<&'i str, Lasts>,
}

impl<'i> Ways<'i> {
    fn list(&mut self, item: &'i Item) {
        self.items.insert(&item.id, item);
        item.items.iter().for_each(|item| self.list(item));
    }

    fn all(&mut self, items: &'i [Item]) -> Lasts {
        let runs = |item: &&Item| matches!(item.runs, Runs::Always | Runs::When(_));
        items.iter().filter(runs).fold(Lasts::default(), |sum, item| sum.and(self.whole(item)))
    }

    /// A step or group with what stands below it, and the longest of what it leads to.
    fn whole(&mut self, item: &'i Item) -> Lasts {
        let below = self.all(&item.items);
        let Some(step) = &item.step else { return below };
        let own = match (&step.lasts, item.called.is_empty()) {
            (Some((known, _)), _) => Lasts { known: *known, unknown: 0 },
            (None, true) => Lasts { unknown: 1, ..Lasts::default() },
            (None, false) => sum(&item.called),
        };
        let ways = step.answers.iter().map(|(_, target)| self.branch(target)).collect::<Vec<_>>();
        own.and(ways.into_iter().max().unwrap_or_default()).and(below)
    }

    fn branch(&mut self, id: &str) -> Lasts {
        let Some((id, item)) = self.items.get_key_value(id).map(|(id, item)| (*id, *item)) else {
            return Lasts::default();
        };
        if let Some(found) = self.found.get(id) {
            return *found;
        }
        self.found.insert(id, Lasts::default());
        let lasts = if matches!(item.runs, Runs::Never(_)) { Lasts::default() } else { self.whole(item) };
        self.found.insert(id, lasts);
        lasts
    }
}
