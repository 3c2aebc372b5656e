//! Sums up what passes by, for reports and evidence, while somebody else draws it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use lifeboat_repo::progress::{Counter, Progress};

/// Counts and passes on.
pub struct Tally {
    next: Arc<dyn Progress>,
    sums: Mutex<BTreeMap<Counter, u64>>,
}

impl Tally {
    /// Counts what `next` is told.
    pub fn new(next: Arc<dyn Progress>) -> Arc<Self> {
        Arc::new(Self { next, sums: Mutex::default() })
    }

    /// The sum so far.
    pub fn get(&self, counter: Counter) -> u64 {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.get(&counter).copied().unwrap_or_default()
    }
}

impl Progress for Tally {
    fn add(&self, counter: Counter, n: u64) {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner).entry(counter).or_default() += n;
        self.next.add(counter, n);
    }

    fn note(&self, text: &str) {
        self.next.note(text);
    }
}
