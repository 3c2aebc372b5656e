//! Who did what, and who was refused what. Every act is kept at once; refusals can be a flood, so the first is kept at once and
//! those like it are counted for a while and kept as one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_model::id::Tenant;

use crate::{daemon::Daemon, view::ActivityView};

/// So long refusals that are alike are counted together.
const WINDOW: Duration = Duration::from_secs(600);
/// So many kinds of them at a time; what is beyond is counted as one kind.
const KINDS: usize = 500;
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
    let (deed, now) = (deed.kept(), daemon.now());
    if deed.allowed {
        daemon.book.note(&deed, now);
    }
    let view = deed.view(now);
    tracing::info!(
        who = view.who,
        act = view.act,
        target = view.target,
        tenant = view.tenant,
        allowed = view.allowed,
        "asked"
    );
    if let Err(error) = daemon.state.activity(&view).await {
        tracing::warn!("cannot keep what {} did ({}): {error}", view.who, view.act);
    }
}

/// Refusals that are counted.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Deed, Counted>>);

struct Counted {
    since: Timestamp,
    more: u64,
}

impl Refusals {
    /// Keeps a refusal, or counts it.
    pub(super) async fn record(&self, daemon: &Daemon, deed: Deed) {
        let (deed, now) = (deed.kept(), daemon.now());
        daemon.book.note(&deed, now);
        if self.is_first(now, &deed) {
            record(daemon, &deed).await;
        }
    }

    fn is_first(&self, now: Timestamp, deed: &Deed) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = kinds.get_mut(deed) {
            counted.more += 1;
            return false;
        }
        if kinds.len() >= KINDS {
            let others = kinds.entry(others()).or_insert(Counted { since: now, more: 0 });
            others.more += 1;
            return false;
        }
        kinds.insert(deed.clone(), Counted { since: now, more: 0 });
        true
    }

    /// Keeps the counts whose time is over; with `all`, every one.
    pub(super) async fn sum_up(&self, daemon: &Daemon, all: bool) {
        for (deed, more) in self.over(daemon.now(), all) {
            let again =
                format!("{more} more like this in ten minutes: {}", deed.detail.as_deref().unwrap_or("refused"));
            record(daemon, &Deed { detail: Some(again), ..deed }).await;
        }
    }

    fn over(&self, now: Timestamp, all: bool) -> Vec<(Deed, u64)> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |counted: &Counted| all || now.duration_since(counted.since).unsigned_abs() >= WINDOW;
        let over = kinds.extract_if(|_, counted| is_over(counted));
        over.filter(|(_, counted)| counted.more > 0).map(|(deed, counted)| (deed, counted.more)).collect()
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
        let refusals = Refusals::default();
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert!(refusals.is_first(start, &deed(0)));
        for _ in 0..1000 {
            assert!(!refusals.is_first(start, &deed(0)));
        }
        for number in 1..5000 {
            assert_eq!(refusals.is_first(start, &deed(number)), number < KINDS);
        }
        assert!(refusals.0.lock().unwrap().len() <= KINDS + 1);
        assert_eq!(refusals.over(start + Duration::from_secs(599), false), []);
        let mut over = refusals.over(start + WINDOW, false);
        over.sort_by_key(|(_, more)| *more);
        assert_eq!(over, [(deed(0), 1000), (others(), 4500)]);
        assert!(refusals.is_first(start + WINDOW, &deed(0)), "counted anew");
    }

    #[test]
    fn what_strangers_write_is_cut_and_cleaned() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(shown(&"ä".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
