//! Who did what, and who was refused what. Every act is kept at once; refusals can be a flood, so the first is kept at once and
//! those like it are counted for a while and kept as one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_model::id::Tenant;

use crate::{daemon::Daemon, view::ActivityView};

/// So long refusals that are alike are counted together.
const WINDOW: Duration = Duration::from_secs(600);
/// So many kinds of them at a time; what is beyond is counted as one kind.
const KINDS: usize = 500;
/// So many of people who are not known: they leave those of others alone.
const STRANGE: usize = 50;
/// So much of what somebody wrote is kept.
const LONGEST: usize = 200;

/// Something that somebody did or was not allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deed {
    /// Whose; none: the daemon's own, or unknown.
    pub tenant: Option<Tenant>,
    /// Who.
    pub who: String,
    /// `start`, `cancel`, `sign-in`, `sign-out`; of a refusal: what was asked for, as `GET /api/v1/evidence`.
    pub act: String,
    /// To what.
    pub target: Option<String>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// What became of it, or why it was refused.
    pub detail: Option<String>,
}

impl Deed {
    /// As it is kept: strangers write some of it.
    fn kept(&self) -> Deed {
        Deed {
            tenant: self.tenant.clone(),
            who: shown(&self.who),
            act: shown(&self.act),
            target: self.target.as_deref().map(shown),
            allowed: self.allowed,
            detail: self.detail.as_deref().map(shown),
        }
    }

    fn view(self, at: Timestamp) -> ActivityView {
        let Deed { tenant, who, act, target, allowed, detail } = self;
        ActivityView { at, tenant: tenant.map(String::from), who, act, target, allowed, detail }
    }
}

/// Keeps what was done. That it cannot be kept is told and does not undo the act.
pub async fn record(daemon: &Daemon, deed: &Deed) {
    keep(daemon, deed, false).await;
}

async fn keep(daemon: &Daemon, deed: &Deed, is_stranger: bool) {
    let view = deed.kept().view(daemon.now());
    tracing::info!(
        who = view.who,
        act = view.act,
        target = view.target,
        tenant = view.tenant,
        allowed = view.allowed,
        "asked"
    );
    let kept = match is_stranger {
        true => daemon.state.stranger(&view).await,
        false => daemon.state.activity(&view).await,
    };
    if let Err(error) = kept {
        tracing::warn!("cannot keep what {} did ({}): {error}", view.who, view.act);
        daemon.book.keep_later(view);
    }
}

/// Refusals that are counted.
pub(super) struct Refusals {
    known: Kinds,
    strangers: Kinds,
}

/// Of each kind, how many more there were.
struct Kinds {
    most: usize,
    counted: Mutex<HashMap<Deed, Counted>>,
}

struct Counted {
    since: Timestamp,
    more: u64,
}

impl Default for Refusals {
    fn default() -> Refusals {
        let kinds = |most| Kinds { most, counted: Mutex::default() };
        Refusals { known: kinds(KINDS), strangers: kinds(STRANGE) }
    }
}

impl Refusals {
    /// Keeps a refusal of somebody known, or counts it.
    pub(super) async fn record(&self, daemon: &Daemon, deed: Deed) {
        let (deed, now) = (deed.kept(), daemon.now());
        daemon.book.note(&deed, now);
        if self.known.is_first(now, &deed) {
            record(daemon, &deed).await;
        }
    }

    /// Keeps a refusal of somebody unknown, or counts it as one of this kind, which has nothing that they choose.
    pub(super) async fn record_stranger(&self, daemon: &Daemon, deed: Deed, kind: Deed) {
        if self.strangers.is_first(daemon.now(), &kind) {
            keep(daemon, &deed, true).await;
        }
    }

    /// Keeps the counts whose time is over; with `all`, every one.
    pub(super) async fn sum_up(&self, daemon: &Daemon, all: bool) {
        for (kinds, is_stranger) in [(&self.known, false), (&self.strangers, true)] {
            // One by one: what is not kept when this is dropped is still counted.
            while let Some((deed, more)) = kinds.next_over(daemon.now(), all) {
                let again =
                    format!("{more} more like this in ten minutes: {}", deed.detail.as_deref().unwrap_or("refused"));
                keep(daemon, &Deed { detail: Some(again), ..deed }, is_stranger).await;
            }
        }
    }
}

impl Kinds {
    fn counted(&self) -> MutexGuard<'_, HashMap<Deed, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_first(&self, now: Timestamp, deed: &Deed) -> bool {
        let mut kinds = self.counted();
        if let Some(counted) = kinds.get_mut(deed) {
            counted.more += 1;
            return false;
        }
        if kinds.len() >= self.most {
            let others = kinds.entry(others()).or_insert(Counted { since: now, more: 0 });
            others.more += 1;
            return false;
        }
        kinds.insert(deed.clone(), Counted { since: now, more: 0 });
        true
    }

    /// Forgets kinds whose time is over, up to one that has a count.
    fn next_over(&self, now: Timestamp, all: bool) -> Option<(Deed, u64)> {
        let mut kinds = self.counted();
        let is_over = |counted: &Counted| all || now.duration_since(counted.since).unsigned_abs() >= WINDOW;
        let mut over = kinds.extract_if(|_, counted| is_over(counted));
        over.find(|(_, counted)| counted.more > 0).map(|(deed, counted)| (deed, counted.more))
    }
}

fn others() -> Deed {
    Deed {
        tenant: None,
        who: "various".to_owned(),
        act: "various".to_owned(),
        target: None,
        allowed: false,
        detail: Some("refusals of more kinds than are told apart".to_owned()),
    }
}

/// What somebody wrote, so that it does no harm where it is read.
fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(number: usize) -> Deed {
        Deed { act: format!("GET /{number}"), ..others() }
    }

    #[test]
    fn a_flood_is_counted_and_memory_stays_bounded() {
        let refusals = Refusals::default().known;
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert!(refusals.is_first(start, &deed(0)));
        for _ in 0..1000 {
            assert!(!refusals.is_first(start, &deed(0)));
        }
        for number in 1..5000 {
            assert_eq!(refusals.is_first(start, &deed(number)), number < KINDS);
        }
        assert!(refusals.counted().len() <= KINDS + 1);
        assert_eq!(refusals.next_over(start + Duration::from_secs(599), false), None);
        let mut over: Vec<_> = std::iter::from_fn(|| refusals.next_over(start + WINDOW, false)).collect();
        over.sort_by_key(|(_, more)| *more);
        assert_eq!(over, [(deed(0), 1000), (others(), 4500)]);
        assert!(refusals.is_first(start + WINDOW, &deed(0)), "counted anew");
    }

    #[test]
    fn a_flood_of_strangers_is_theirs_alone() {
        let refusals = Refusals::default();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let told = (0..5000).filter(|number| refusals.strangers.is_first(now, &deed(*number))).count();
        assert_eq!(told, STRANGE);
        assert!(refusals.known.is_first(now, &deed(5000)), "of somebody known it is told all the same");
    }

    #[test]
    fn what_strangers_write_is_cut_and_cleaned() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(shown(&"ä".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
