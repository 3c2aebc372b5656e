//! From notices to messages, a channel at a time: waits until what belongs together is together, keeps to the limit, sums up
//! what was held back, tries again until it is there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Condition, Memory, What};
use crate::settings::{Channel, ChannelKind, Notify, Severity};

/// The first notice waits so long for others that belong to it.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);
/// At most one message, or one handful of incidents, in so long.
const GROUP: SignedDuration = SignedDuration::from_secs(30);
/// So many notices are told in full; the others are counted.
const IN_FULL: usize = 50;
/// So many incidents are opened one by one; more are opened as one.
const INCIDENTS: usize = 10;
/// After so long without success a message is given up, and that is told.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(72);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// What is told of one condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// What became of it.
    pub what: What,
    /// The condition.
    pub condition: Condition,
    /// The message in which it was told first; none: it is this one.
    pub thread: Option<String>,
}

/// What is sent over a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The same each time it is tried: who got it twice knows.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// The message that it belongs to; its own id for the first.
    pub thread: String,
    /// Messages that told of the same first.
    pub references: Vec<String>,
    /// What is told, gravest first.
    pub notices: Vec<Notice>,
    /// So many more, not told in full, by kind.
    pub more: BTreeMap<String, u64>,
    /// So many were held back by the limit or while the channel was away; what still counts of them is in here.
    pub held_back: u64,
    /// So many messages were given up before.
    pub given_up: u64,
    /// Only to see whether it gets there.
    pub is_test: bool,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Over which channel.
    pub channel: String,
    /// What.
    pub message: Message,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next: Timestamp,
    /// Since when it fails, and why it failed last.
    pub failing: Option<(Timestamp, String)>,
}

/// What waits for a channel, and what it has carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    waiting: BTreeMap<String, Waiting>,
    sent: Vec<Timestamp>,
    last: Option<Timestamp>,
    held_back: u64,
    given_up: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Waiting {
    since: Timestamp,
    notice: Notice,
}

impl Outgoing {
    /// What is ahead of now is by a clock that ran ahead.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.next = self.next.min(now + LONGEST_PAUSE);
        if let Some((since, _)) = &mut self.failing {
            *since = now.min(*since);
        }
    }
}

impl Line {
    /// The same of what waits and what was sent.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        let waiting = self.waiting.values_mut().map(|waiting| &mut waiting.since);
        for at in waiting.chain(&mut self.sent).chain(&mut self.last) {
            *at = now.min(*at);
        }
    }

    /// Whether something of this condition waits.
    pub(super) fn waits(&self, key: &str) -> bool {
        self.waiting.contains_key(key)
    }

    /// A notice is to be told. What waits of the same condition is not told on its own any more. Answers with the message that
    /// it goes on from, when that was about to be taken back.
    pub(super) fn put_down(
        &mut self,
        condition: &Condition,
        what: What,
        thread: Option<String>,
        now: Timestamp,
    ) -> Option<String> {
        let mut notice = Notice { what, condition: condition.clone(), thread };
        let Some(waiting) = self.waiting.get_mut(&condition.key) else {
            self.waiting.insert(condition.key.clone(), Waiting { since: now, notice });
            return None;
        };
        self.held_back += 1;
        let goes_on = waiting.notice.thread.clone().filter(|_| what == What::Begins);
        notice.thread = notice.thread.or_else(|| goes_on.clone());
        match (waiting.notice.what, what) {
            (What::Begins, What::Resolved) if waiting.notice.thread.is_none() => {
                // It came and went while nobody could be told.
                self.waiting.remove(&condition.key);
            }
            (What::Begins, What::Graver | What::Reminder) | (What::Graver, What::Reminder) => {
                waiting.notice.condition = condition.clone();
            }
            _ => waiting.notice = notice,
        }
        goes_on
    }
}

impl Memory {
    /// Writes messages of what waits, as far as it may be sent now. Answers whether there was something.
    pub fn compose(&mut self, notify: &Notify, now: Timestamp, mut id: impl FnMut() -> String) -> bool {
        let mut has_composed = false;
        for channel in &notify.channels {
            if self.out.values().any(|outgoing| outgoing.channel == channel.name) {
                continue; // one at a time: what comes after waits, and may be over by then
            }
            let Some(line) = self.lines.get_mut(&channel.name) else { continue };
            line.sent.retain(|sent| now.duration_since(*sent) < HOUR);
            let Some(budget) = line.budget(channel.hourly, now) else { continue };
            has_composed = true;
            let mut notices: Vec<Notice> =
                std::mem::take(&mut line.waiting).into_values().map(|waiting| waiting.notice).collect();
            // What has waited is told as it is now.
            for notice in notices.iter_mut().filter(|notice| notice.what != What::Resolved) {
                if let Some(known) = self.known.get(&notice.condition.key) {
                    notice.condition = known.condition.clone();
                }
            }
            notices.sort_by_key(|notice| {
                let condition = &notice.condition;
                let deadline = condition.deadline.unwrap_or(Timestamp::MAX);
                (notice.what == What::Resolved, std::cmp::Reverse(condition.severity), deadline, condition.key.clone())
            });
            line.last = Some(now);
            let held_back = std::mem::take(&mut line.held_back);
            let given_up = std::mem::take(&mut line.given_up);
            let mut messages = match channel.kind {
                ChannelKind::PagerDuty { .. } => self.incidents(channel, notices, budget, now, &mut id),
                _ => vec![self.letter(channel, notices, now, id())],
            };
            if let Some(first) = messages.first_mut() {
                first.held_back = held_back;
                first.given_up = given_up;
            }
            let opened = messages.iter().filter(|message| !message.is_resolved()).count().max(1);
            if let Some(line) = self.lines.get_mut(&channel.name) {
                line.sent.extend(std::iter::repeat_n(now, opened));
            }
            for message in messages {
                let channel = channel.name.clone();
                let outgoing = Outgoing { channel, attempts: 0, next: now, failing: None, message };
                self.out.insert(outgoing.message.id.clone(), outgoing);
            }
        }
        has_composed
    }

    /// One message of everything.
    fn letter(&mut self, channel: &Channel, notices: Vec<Notice>, now: Timestamp, id: String) -> Message {
        let references: BTreeSet<_> = notices.iter().filter_map(|notice| notice.thread.clone()).collect();
        for notice in &notices {
            if let Some(known) = self.known.get_mut(&notice.condition.key).filter(|_| notice.what != What::Resolved) {
                known.threads.entry(channel.name.clone()).or_insert_with(|| id.clone());
            }
        }
        let thread = match references.first() {
            Some(first) if references.len() == 1 && notices.iter().all(|notice| notice.thread.is_some()) => {
                first.clone()
            }
            _ => id.clone(),
        };
        write(id, thread, references.into_iter().take(20).collect(), notices, now)
    }

    /// An incident a condition, unless there are too many; one message for each incident that something became of.
    fn incidents(
        &mut self,
        channel: &Channel,
        notices: Vec<Notice>,
        budget: usize,
        now: Timestamp,
        id: &mut impl FnMut() -> String,
    ) -> Vec<Message> {
        let (old, new): (Vec<_>, Vec<_>) = notices.into_iter().partition(|notice| notice.thread.is_some());
        let mut messages = Vec::new();
        let apart = new.len() <= INCIDENTS.min(budget);
        let new = if apart { new.into_iter().map(|notice| vec![notice]).collect() } else { vec![new] };
        for notices in new.into_iter().filter(|notices| !notices.is_empty()) {
            messages.push(self.letter(channel, notices, now, id()));
        }
        let mut threads: BTreeMap<String, Vec<Notice>> = BTreeMap::new();
        for notice in old {
            threads.entry(notice.thread.clone().unwrap_or_default()).or_default().push(notice);
        }
        for (thread, notices) in threads {
            let (resolved, active): (Vec<_>, Vec<_>) =
                notices.into_iter().partition(|notice| notice.what == What::Resolved);
            let lives =
                |known: &super::memory::Known| known.is_active() && known.threads.get(&channel.name) == Some(&thread);
            // An incident of many conditions ends with the last of them.
            let notices = match (active.is_empty(), self.known.values().any(lives)) {
                (true, true) => continue,
                (true, false) => resolved,
                (false, _) => active,
            };
            messages.push(write(id(), thread.clone(), vec![thread], notices, now));
        }
        messages
    }

    /// What is to be tried now: of each channel that is not `busy` the oldest.
    pub fn due(&self, busy: &BTreeSet<String>, now: Timestamp) -> Vec<Outgoing> {
        let mut first: BTreeMap<&str, &Outgoing> = BTreeMap::new();
        for outgoing in self.out.values().filter(|outgoing| !busy.contains(&outgoing.channel)) {
            let known = first.entry(&outgoing.channel).or_insert(outgoing);
            if (outgoing.message.at, outgoing.attempts) < (known.message.at, known.attempts) {
                *known = outgoing;
            }
        }
        first.into_values().filter(|outgoing| outgoing.next <= now).cloned().collect()
    }

    /// A message is there.
    pub fn delivered(&mut self, id: &str) {
        self.out.remove(id);
    }

    /// A message is not there. True: it was given up.
    pub fn failed(&mut self, id: &str, why: &str, now: Timestamp) -> bool {
        let Some(outgoing) = self.out.get_mut(id) else { return false };
        let since = outgoing.failing.as_ref().map_or(now, |(since, _)| *since);
        outgoing.failing = Some((since, why.to_owned()));
        outgoing.attempts += 1;
        outgoing.next = now + pause(outgoing.attempts);
        if now.duration_since(since) < GIVEN_UP {
            return false;
        }
        if let Some(outgoing) = self.out.remove(id) {
            self.lines.entry(outgoing.channel).or_default().given_up += 1;
        }
        true
    }

    /// Channels whose messages do not get there: since when, and why.
    pub fn failing(&self) -> BTreeMap<String, (Timestamp, String)> {
        let mut failing: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
        for outgoing in self.out.values() {
            if let Some((since, why)) = &outgoing.failing {
                let known = failing.entry(outgoing.channel.clone()).or_insert_with(|| (*since, why.clone()));
                known.0 = known.0.min(*since);
            }
        }
        failing
    }
}

impl Line {
    /// How many messages may be sent now; none: what waits is to wait on.
    fn budget(&self, hourly: u32, now: Timestamp) -> Option<usize> {
        let oldest = self.waiting.values().map(|waiting| waiting.since).min()?;
        let has_settled = now.duration_since(oldest) >= SETTLE;
        let is_apart = self.last.is_none_or(|last| now.duration_since(last) >= GROUP);
        let is_grave = self.waiting.values().any(|waiting| {
            waiting.notice.what != What::Resolved && waiting.notice.condition.severity == Severity::Critical
        });
        // A quarter is kept for what is critical, so that a flood of warnings does not silence it.
        let hourly = hourly.max(1) as usize;
        let allowed = if is_grave { hourly } else { hourly - hourly / 4 };
        let budget = allowed.saturating_sub(self.sent.len());
        (has_settled && is_apart && budget > 0).then_some(budget)
    }
}

impl Message {
    /// A message that only tells that messages get there.
    pub fn test(id: String, at: Timestamp, who: &str) -> Message {
        let condition = Condition {
            key: "//test".to_owned(),
            kind: "test".to_owned(),
            tenant: None,
            instance: None,
            tier: None,
            owner: None,
            severity: Severity::Info,
            title: "this is a test: nothing is wrong".to_owned(),
            text: format!("{who} asked whether messages get here. They do."),
            next: None,
            since: None,
            deadline: None,
        };
        let notices = vec![Notice { what: What::Begins, condition, thread: None }];
        Message { is_test: true, ..write(id.clone(), id, Vec::new(), notices, at) }
    }

    /// What a person, or a runbook that one of them runs, has to say.
    pub fn said(id: String, at: Timestamp, subject: &str, text: &str) -> Message {
        let condition = Condition {
            key: format!("//said/{id}"),
            kind: "message".to_owned(),
            tenant: None,
            instance: None,
            tier: None,
            owner: None,
            severity: Severity::Info,
            title: subject.to_owned(),
            text: text.to_owned(),
            next: None,
            since: None,
            deadline: None,
        };
        let notices = vec![Notice { what: What::Begins, condition, thread: None }];
        write(id.clone(), id, Vec::new(), notices, at)
    }

    /// Whether it only takes back what was told.
    pub fn is_resolved(&self) -> bool {
        self.notices.iter().all(|notice| notice.what == What::Resolved)
    }

    /// How grave the gravest of it is.
    pub fn severity(&self) -> Severity {
        self.notices.iter().map(|notice| notice.condition.severity).max().unwrap_or_default()
    }
}

fn write(id: String, thread: String, references: Vec<String>, mut notices: Vec<Notice>, at: Timestamp) -> Message {
    let mut more = BTreeMap::new();
    for notice in notices.drain(IN_FULL.min(notices.len())..) {
        *more.entry(notice.condition.kind).or_default() += 1;
    }
    Message { id, at, thread, references, notices, more, held_back: 0, given_up: 0, is_test: false }
}

/// 10 s, 20 s, 40 s, … 10 min.
fn pause(attempts: u32) -> SignedDuration {
    SignedDuration::from_secs(10 << attempts.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}
