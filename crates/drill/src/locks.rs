//! Rung 2, the locks: what the store itself says, for every object of the point and for the point.

use jiff::Timestamp;
use lifeboat_evidence::drill::LocksReadBack;
use lifeboat_model::retention::LockMode;
use lifeboat_repo::{point::Point, repository::InstanceRepo};
use lifeboat_store::{Key, LockState, VersionId};
use tokio::task::JoinSet;

use crate::{
    error::{Error, Result},
    ladder::Answer,
};

/// Locks asked for at the same time.
const AT_ONCE: usize = 16;

/// What was read back, and the first reason why a lock could not be.
#[derive(Default)]
pub(crate) struct Locks {
    pub read_back: LocksReadBack,
    refusal: Option<String>,
}

/// Asks for every lock; none where the store has no object lock.
pub(crate) async fn read_back(repo: &InstanceRepo, point: &Point) -> Result<Option<Locks>> {
    if !repo.store().capabilities().locks {
        return Ok(None);
    }
    let mut locks = Locks::default();
    // In a copy they are the copy's own, which its policy tells and no header.
    locks.read_back.promised_until = point.header.retain_until.filter(|_| !repo.is_replica());
    let own = (point.key.clone(), point.version.clone());
    let mut rest = point.header.objects.iter().map(|object| (object.key.clone(), object.version.clone())).chain([own]);
    let mut asked: JoinSet<(Key, lifeboat_store::Result<LockState>)> = JoinSet::new();
    loop {
        while asked.len() < AT_ONCE
            && let Some((key, version)) = rest.next()
        {
            asked.spawn(ask(repo.clone(), key, version));
        }
        let Some(answer) = asked.join_next().await else { return Ok(Some(locks)) };
        let (key, state) = answer.map_err(|error| Error::Task(error.to_string()))?;
        locks.count(&key, state);
    }
}

async fn ask(repo: InstanceRepo, key: Key, version: Option<VersionId>) -> (Key, lifeboat_store::Result<LockState>) {
    let state = repo.store_of(version.as_ref()).lock_state(&key, version.as_ref()).await;
    (key, state)
}

impl Locks {
    fn count(&mut self, key: &Key, state: lifeboat_store::Result<LockState>) {
        let seen = &mut self.read_back;
        seen.objects += 1;
        let state = match state {
            Ok(state) => state,
            // That it is not there is another check's to say; here it is one that is not locked.
            Err(lifeboat_store::Error::NotFound { .. }) => LockState::default(),
            Err(error) => {
                seen.unread += 1;
                self.refusal.get_or_insert(error.to_string());
                return;
            }
        };
        seen.held += u64::from(state.legal_hold);
        let until = state.retention.map(|retention| retention.until);
        seen.compliance += u64::from(state.retention.is_some_and(|retention| retention.mode == LockMode::Compliance));
        seen.earliest_until = match (seen.earliest_until, until) {
            (Some(earliest), Some(until)) => Some(earliest.min(until)),
            (earliest, until) => earliest.or(until),
        };
        if until.is_some() && until >= seen.promised_until {
            seen.locked += 1;
        } else if seen.short.len() < LocksReadBack::LISTED {
            seen.short.push(key.to_string());
        }
    }
}

/// The check's answer.
pub(crate) fn answer(locks: Option<&Locks>, now: Timestamp) -> Answer {
    let Some(Locks { read_back: seen, refusal }) = locks else {
        return Answer::not_executed("this storage has no object lock: whoever holds its credential can delete");
    };
    if let Some(refusal) = refusal {
        return Answer::not_executed(format!("{} of {} locks could not be read: {refusal}", seen.unread, seen.objects))
            .in_public(format!("{} of {} locks could not be read", seen.unread, seen.objects));
    }
    let Some(promised) = seen.promised_until else {
        return Answer::not_executed(
            "nothing was promised: the point was written without locks, or this is a copy (lifeboat verify --locks)",
        );
    };
    if promised <= now {
        return Answer::not_executed(format!(
            "the point's objects were promised to be locked until {promised}: that is past"
        ));
    }
    let short = seen.objects - seen.locked;
    if short > 0 {
        let keys = seen.short.join(", ");
        return Answer::failed(format!("{short} of {} objects are not locked until {promised}: {keys}", seen.objects));
    }
    let held = if seen.held > 0 { format!(", {} under a legal hold", seen.held) } else { String::new() };
    Answer::passed(format!(
        "{} objects locked until {promised} or later, {} of them in compliance mode{held}",
        seen.objects, seen.compliance
    ))
}

#[cfg(test)]
mod tests {
    use lifeboat_model::check::Verdict;
    use lifeboat_store::Retention;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seen(states: Vec<lifeboat_store::Result<LockState>>) -> Locks {
        let mut locks = Locks::default();
        locks.read_back.promised_until = Some(time("2026-12-01T00:00:00Z"));
        for (n, state) in states.into_iter().enumerate() {
            locks.count(&Key::new(format!("t/i/packs/{n}")).unwrap(), state);
        }
        locks
    }

    fn locked(until: &str) -> lifeboat_store::Result<LockState> {
        let retention = Some(Retention { mode: LockMode::Compliance, until: time(until) });
        Ok(LockState { retention, legal_hold: false })
    }

    #[test]
    fn only_what_is_locked_long_enough_passes() {
        let now = time("2026-11-22T00:00:00Z");
        let verdict = |locks: &Locks| answer(Some(locks), now).verdict;
        let enough = || locked("2026-12-01T00:00:00Z");
        assert_eq!(verdict(&seen(vec![enough(), locked("2027-01-01T00:00:00Z")])), Verdict::Passed);
        let failed = |locks: Locks| matches!(verdict(&locks), Verdict::Failed(why) if why.contains("t/i/packs/1"));
        assert!(failed(seen(vec![enough(), locked("2026-11-30T23:59:59Z")])), "shorter");
        assert!(failed(seen(vec![enough(), Ok(LockState::default())])), "not locked");
        assert!(failed(seen(vec![enough(), Err(lifeboat_store::Error::NotFound { key: "k".into() })])), "gone");
        let held = Ok(LockState { retention: None, legal_hold: true });
        assert!(failed(seen(vec![enough(), held])), "a hold can be released before");
    }

    #[test]
    fn what_could_not_be_read_or_was_never_promised_is_no_pass() {
        let now = time("2026-11-22T00:00:00Z");
        let denied = lifeboat_store::Error::Denied { operation: "lock", key: "k".into(), reason: "403".into() };
        let mut locks = seen(vec![locked("2026-12-01T00:00:00Z"), Err(denied)]);
        assert!(matches!(answer(Some(&locks), now).verdict, Verdict::NotExecuted(why) if why.contains("403")));
        locks = seen(vec![locked("2026-12-01T00:00:00Z")]);
        assert!(matches!(answer(Some(&locks), time("2026-12-01T00:00:00Z")).verdict, Verdict::NotExecuted(_)));
        locks.read_back.promised_until = None;
        assert!(matches!(answer(Some(&locks), now).verdict, Verdict::NotExecuted(_)));
        assert!(matches!(answer(None, now).verdict, Verdict::NotExecuted(_)));
    }
}
