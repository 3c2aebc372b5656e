//! Who was told what: a state machine without a clock and without a network. What it knows is kept in the state as rows, before
//! anything is sent, so that a restart tells nobody twice and forgets nobody.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Condition, Seen,
    post::{Line, Outgoing},
    route,
};
use crate::settings::{Notify, Severity};

/// So long it must be gone until that is told.
const GONE: SignedDuration = SignedDuration::from_mins(2);
/// What comes and goes must stay away twice as long each time, up to this many doublings.
const MOST_FLAPS: u32 = 5;
/// So long what was resolved is remembered, to know whether it comes and goes.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(6);

/// What a notice says of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is so now.
    Begins,
    /// It is graver than it was told.
    Graver,
    /// It still is.
    Reminder,
    /// It is no more.
    Resolved,
}

/// A condition, and who was told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// As it was seen last.
    pub condition: Condition,
    /// When people were told last.
    told: Timestamp,
    /// How grave it was then.
    severity: Severity,
    /// Since when it is not seen.
    gone: Option<Timestamp>,
    /// When that was told.
    over: Option<Timestamp>,
    /// How often it came back shortly after.
    flaps: u32,
    /// By channel: the message that told of it first.
    pub threads: BTreeMap<String, String>,
}

impl Known {
    /// Whether it is so, as far as people were told.
    pub(super) fn is_active(&self) -> bool {
        self.over.is_none()
    }
}

/// Everything that must outlast a restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    pub(super) known: BTreeMap<String, Known>,
    pub(super) lines: BTreeMap<String, Line>,
    pub(super) out: BTreeMap<String, Outgoing>,
}

impl Memory {
    /// From what was kept. A row of another release that cannot be read is as if it had never been.
    pub fn from_rows(rows: impl IntoIterator<Item = (String, String)>) -> Memory {
        let mut memory = Memory::default();
        for (key, text) in rows {
            let read = match key.split_once('/') {
                Some(("known", key)) => put(&mut memory.known, key, &text),
                Some(("line", key)) => put(&mut memory.lines, key, &text),
                Some(("out", key)) => put(&mut memory.out, key, &text),
                _ => false,
            };
            if !read {
                tracing::debug!(key, "what was kept of a notification cannot be read");
            }
        }
        memory
    }

    /// What is to be kept.
    pub fn rows(&self) -> BTreeMap<String, String> {
        fn rows<'a, T: Serialize>(
            of: &'static str,
            all: &'a BTreeMap<String, T>,
        ) -> impl Iterator<Item = (String, String)> + 'a {
            let text = |value| serde_json::to_string(value).expect("plain structs are JSON");
            all.iter().map(move |(key, value)| (format!("{of}/{key}"), text(value)))
        }
        rows("known", &self.known).chain(rows("line", &self.lines)).chain(rows("out", &self.out)).collect()
    }

    /// Takes in what is so now, and puts down whom to tell what. Answers with the conditions that reach nobody.
    pub fn see(&mut self, seen: &Seen, notify: &Notify, now: Timestamp) -> Vec<String> {
        self.forget_channels(notify);
        self.set_back(now);
        let mut present = BTreeSet::new();
        let mut unheard = Vec::new();
        for condition in &seen.conditions {
            present.insert(condition.key.as_str());
            if route::is_unheard(notify, condition) {
                unheard.push(condition.key.clone());
            }
            if let Some(what) = self.note(condition, now) {
                self.tell(condition, what, notify, now);
            }
        }
        let absent = |key: &&String| !present.contains(key.as_str());
        let keys: Vec<String> = self.known.keys().filter(absent).cloned().collect();
        for key in keys {
            self.miss(&key, seen, now);
        }
        unheard
    }

    /// What is kept of a time ahead of now is by a clock that ran ahead, and counts as of now: it must not silence anybody for
    /// as long as that was.
    fn set_back(&mut self, now: Timestamp) {
        let put_right = |at: &mut Timestamp| *at = now.min(*at);
        for known in self.known.values_mut() {
            put_right(&mut known.told);
            known.gone.iter_mut().chain(&mut known.over).for_each(put_right);
        }
        self.lines.values_mut().for_each(|line| line.set_back(now));
        self.out.values_mut().for_each(|outgoing| outgoing.set_back(now));
    }

    /// A condition is seen. Answers with what is to be told.
    fn note(&mut self, condition: &Condition, now: Timestamp) -> Option<What> {
        let Some(known) = self.known.get_mut(&condition.key) else {
            let known = Known {
                condition: condition.clone(),
                told: now,
                severity: condition.severity,
                gone: None,
                over: None,
                flaps: 0,
                threads: BTreeMap::new(),
            };
            self.known.insert(condition.key.clone(), known);
            return Some(What::Begins);
        };
        known.condition = condition.clone();
        known.gone = None;
        let what = if known.over.take().is_some() {
            known.flaps = (known.flaps + 1).min(MOST_FLAPS);
            known.threads.clear();
            What::Begins
        } else if condition.severity > known.severity {
            What::Graver
        } else if now.duration_since(known.told) >= reminder(condition.severity)? {
            What::Reminder
        } else {
            return None;
        };
        known.told = now;
        known.severity = condition.severity;
        Some(what)
    }

    /// A condition is not seen.
    fn miss(&mut self, key: &str, seen: &Seen, now: Timestamp) {
        let Some(known) = self.known.get_mut(key) else { return };
        if let Some(over) = known.over {
            if now.duration_since(over) >= REMEMBERED {
                self.known.remove(key);
            }
            return;
        }
        if seen.is_blind(&known.condition) {
            known.gone = None;
            return;
        }
        let gone = *known.gone.get_or_insert(now);
        if now.duration_since(gone) < GONE * 2_i32.pow(known.flaps) {
            return;
        }
        known.over = Some(now);
        let (condition, told) = (known.condition.clone(), known.threads.keys().cloned().collect::<BTreeSet<_>>());
        let waiting = self.lines.iter().filter(|(_, line)| line.waits(key)).map(|(channel, _)| channel.clone());
        let channels: BTreeSet<String> = waiting.chain(told).collect();
        for channel in channels {
            self.put_down(&channel, &condition, What::Resolved, now);
        }
    }

    fn tell(&mut self, condition: &Condition, what: What, notify: &Notify, now: Timestamp) {
        for channel in route::channels(notify, condition) {
            // Whoever hears of it only now, because it has become graver, hears of its beginning.
            let is_told = self.known.get(&condition.key).is_some_and(|known| known.threads.contains_key(&channel));
            let what = if is_told { what } else { What::Begins };
            self.put_down(&channel, condition, what, now);
        }
    }

    fn put_down(&mut self, channel: &str, condition: &Condition, what: What, now: Timestamp) {
        let known = self.known.get_mut(&condition.key);
        let thread = known.as_ref().and_then(|known| known.threads.get(channel)).cloned();
        let line = self.lines.entry(channel.to_owned()).or_default();
        if let (Some(goes_on), Some(known)) = (line.put_down(condition, what, thread, now), known) {
            known.threads.insert(channel.to_owned(), goes_on);
        }
    }

    /// Channels that are no more.
    fn forget_channels(&mut self, notify: &Notify) {
        let is_there = |name: &str| notify.channels.iter().any(|channel| channel.name == name);
        self.lines.retain(|name, _| is_there(name));
        self.out.retain(|_, outgoing| is_there(&outgoing.channel));
        for known in self.known.values_mut() {
            known.threads.retain(|name, _| is_there(name));
        }
    }
}

/// When people are told again of what is still so.
fn reminder(severity: Severity) -> Option<SignedDuration> {
    match severity {
        Severity::Critical => Some(SignedDuration::from_hours(4)),
        Severity::Warning => Some(SignedDuration::from_hours(24)),
        Severity::Info => None,
    }
}

fn put<T: for<'a> Deserialize<'a>>(all: &mut BTreeMap<String, T>, key: &str, text: &str) -> bool {
    let read = serde_json::from_str(text).ok();
    read.map(|value| all.insert(key.to_owned(), value)).is_some()
}
