#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use super::*;
use crate::status::{
    Certificate, Copy, LockProof, Locks, NewestPoint, Points, RecoveryKey, Slot, Standby, Standbys, Storage, Targets,
    Wal,
};

const DAY: f64 = 86_400.0;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// So many seconds before [`now`].
fn ago(seconds: f64) -> Timestamp {
    now().checked_sub(Duration::from_secs_f64(seconds)).unwrap()
}

fn ahead(seconds: f64) -> Timestamp {
    if seconds < 0.0 { ago(-seconds) } else { later(now(), seconds).unwrap() }
}

fn sound() -> Facts {
    Facts {
        instance: "clinic".into(),
        tier: "gold".into(),
        owner: None,
        looked: now(),
        looked_slowly: Some(now()),
        targets: Targets { rpo_seconds: 3600.0, rto_seconds: 600.0, drill_every_seconds: None },
        points: points(60.0, 0),
        wal: None,
        windows: vec![],
        drill: Some(drill(Outcome::Passed)),
        drills_passed_over: 0,
        rto_trend: vec![],
        control: None,
        locks: Locks { mode: None, newest_until: None, not_locked: Some("its tier has no lock".into()), proof: None },
        copies: vec![],
        standbys: Standbys { found: vec![], hidden: 0, not_asked: None },
        certificates: vec![],
        keys: vec![],
        storage: Storage::default(),
        unknown: vec![],
    }
}

fn points(age: f64, passed_over: u64) -> Points {
    let newest = NewestPoint { id: "00ab".into(), started: ago(age), finished: ago(age - 1.0) };
    Points { stored: 2, newest: Some(newest), passed_over }
}

fn drill(outcome: Outcome) -> Drill {
    Drill {
        run: "00000000000000ab".into(),
        started: ago(DAY),
        finished: ago(DAY - 60.0),
        outcome,
        point: None,
        kind: None,
        rpo_seconds: Some(10.0),
        rto_seconds: Some(50.0),
        first_bad: None,
        other_images: vec![],
        evidence: "acme/evidence/x".into(),
    }
}

fn aged(age: f64) -> Drill {
    Drill { started: ago(age), ..drill(Outcome::Passed) }
}

fn wal(waiting: Option<f64>, active: bool) -> Wal {
    Wal {
        newest_commit: Some(ago(waiting.unwrap_or(2.0))),
        waiting_since: waiting.map(ago),
        waiting_bytes: Some(waiting.map_or(0, |_| 4096)),
        cut_since: None,
        slot: Some(Slot {
            name: "lifeboat_clinic".into(),
            wal_status: "reserved".into(),
            active,
            held_back_bytes: Some(4096),
            limit_bytes: Some(1 << 30),
            lost_at: None,
        }),
        not_asked: None,
    }
}

fn slot(change: impl FnOnce(&mut Slot)) -> Option<Wal> {
    let mut wal = wal(None, true);
    change(wal.slot.as_mut().unwrap());
    Some(wal)
}

fn certificate(left: f64, not_trusted: Option<&str>) -> Vec<Certificate> {
    vec![Certificate {
        of: "repository primary".into(),
        endpoint: "s3.example.org:443".into(),
        not_after: Some(ahead(left)),
        not_trusted: not_trusted.map(str::to_owned),
        not_asked: None,
    }]
}

fn locked(proof: Option<(f64, u64)>) -> Locks {
    let proof = proof.map(|(age, short)| LockProof { at: ago(age), objects: 9, short });
    Locks { mode: Some("compliance".into()), newest_until: Some(ahead(DAY)), not_locked: None, proof }
}

fn key(last: Option<f64>, worries: &[&str]) -> Vec<RecoveryKey> {
    let worries = worries.iter().map(|worry| (*worry).to_owned()).collect();
    vec![RecoveryKey { recipient: "age1xyz".into(), name: Some("bank".into()), last_rehearsed: last.map(ago), worries }]
}

fn copy(behind: Option<f64>, not_asked: Option<&str>) -> Vec<Copy> {
    vec![Copy {
        name: "offsite".into(),
        newest_started: behind.map(ago),
        missing_points: Some(1),
        missing_wal_bytes: None,
        lacks_wal: false,
        reaches: behind.map(ago),
        not_asked: not_asked.map(str::to_owned),
    }]
}

#[track_caller]
fn check(change: impl FnOnce(&mut Facts), state: State, kind: &str, says: &str, next: &str) {
    let mut facts = sound();
    change(&mut facts);
    let judgement = judge(&facts, now());
    assert_eq!(judgement.state, state, "{judgement:?}");
    let found = judgement.reasons.iter().find(|reason| reason.text.contains(says));
    let found = found.unwrap_or_else(|| panic!("\"{says}\" is not in {judgement:?}"));
    assert_eq!((found.kind.as_str(), found.next.as_str()), (kind, next));
}

#[track_caller]
fn is_protected(change: impl FnOnce(&mut Facts)) -> Judgement {
    let mut facts = sound();
    change(&mut facts);
    let judgement = judge(&facts, now());
    assert_eq!(judgement.reasons, []);
    assert_eq!((judgement.state, &judgement.next), (State::Protected, &None));
    judgement
}

#[test]
fn protected_needs_everything() {
    is_protected(|_| ());
    is_protected(|f| {
        f.wal = Some(wal(Some(3.0), true));
        f.control = Some(drill(Outcome::Passed));
        f.locks = locked(Some((DAY, 0)));
        f.copies = copy(Some(1800.0), None);
        f.certificates = certificate(22.0 * DAY, None);
        f.keys = key(Some(80.0 * DAY), &[]);
        f.targets.drill_every_seconds = Some(2.0 * DAY);
    });
}

#[test]
fn points_and_drills() {
    use State::{AtRisk, Unprotected};
    let (backup, again, list) = ("lifeboat backup clinic", "lifeboat drill clinic", "lifeboat points list clinic");
    let none = |stored| Points { stored, newest: None, passed_over: 0 };
    check(|f| f.points = none(0), Unprotected, "points", "no recovery point", backup);
    check(|f| f.points = none(2), Unprotected, "points", "none of 2", list);
    check(|f| f.points = points(3601.0, 0), AtRisk, "rpo", "1h 0m ago; the RPO target is 1h 0m", backup);
    check(|f| f.points = points(60.0, 1), AtRisk, "points", "1 newer recovery point does not verify", list);
    check(|f| f.drill = None, AtRisk, "drill", "no drill", again);
    check(|f| f.drill = Some(drill(Outcome::Incomplete)), AtRisk, "drill", "left out", again);
    let failed = Drill { first_bad: Some("boot.log".into()), ..drill(Outcome::Failed) };
    let show = "lifeboat evidence list clinic --kind drill";
    check(|f| f.drill = Some(failed), Unprotected, "drill", "boot.log", show);
    let slow = Drill { rto_seconds: Some(601.0), ..drill(Outcome::Passed) };
    check(|f| f.drill = Some(slow), AtRisk, "rto", "RTO was 10m 1s", again);
    let unmeasured = Drill { rpo_seconds: None, ..drill(Outcome::Passed) };
    check(|f| f.drill = Some(unmeasured), AtRisk, "rpo", "did not measure its RPO", again);
    let elsewhere = Drill { other_images: vec!["odoo:18".into()], ..drill(Outcome::Passed) };
    check(|f| f.drill = Some(elsewhere), AtRisk, "drill", "odoo:18", again);
}

#[test]
fn an_old_or_doubtful_proof_does_not_protect() {
    let again = "lifeboat drill clinic";
    check(|f| f.drill = Some(aged(36.0 * DAY)), State::AtRisk, "drill-age", "no longer counts", again);
    let verify = "lifeboat evidence verify";
    check(|f| f.drills_passed_over = 1, State::AtRisk, "evidence", "1 newer drill statement", verify);
    is_protected(|f| f.drill = Some(aged(34.0 * DAY)));
    let due = |f: &mut Facts| (f.drill, f.targets.drill_every_seconds) = (Some(aged(8.0 * DAY)), Some(7.0 * DAY));
    check(due, State::AtRisk, "drill-age", "a drill is due: the last was 8d 0h ago", again);
    let control = |outcome| Some(Drill { kind: Some("deleted-row".into()), ..drill(outcome) });
    let repeat = "lifeboat drill clinic --sabotage deleted-row";
    check(|f| f.control = control(Outcome::Failed), State::AtRisk, "control", "deleted-row failed", repeat);
    is_protected(|f| f.control = control(Outcome::Incomplete));
}

#[test]
fn the_gravest_comes_first() {
    let mut facts = sound();
    facts.points = points(9000.0, 0);
    facts.drill = Some(drill(Outcome::Failed));
    let judgement = judge(&facts, now());
    assert_eq!((judgement.state, judgement.reasons.len()), (State::Unprotected, 2), "{judgement:?}");
    assert_eq!(judgement.reasons[0].kind, "drill");
    assert_eq!(judgement.next.as_deref(), Some("lifeboat evidence list clinic --kind drill"));
}

#[test]
fn the_streamed_log_counts() {
    let exposed = |change: &dyn Fn(&mut Facts), later: f64| {
        let mut facts = sound();
        facts.points = points(7200.0, 0);
        change(&mut facts);
        let judged = judge(&facts, ahead(later));
        (judged.exposure_seconds, judged.rpo_broken_at)
    };
    let with = |waiting, active| move |f: &mut Facts| f.wal = Some(wal(waiting, active));
    assert_eq!(exposed(&|_| (), 0.0), (Some(7200.0), None), "it is broken already");
    assert_eq!(exposed(&with(None, true), 0.0), (Some(0.0), None));
    assert_eq!(exposed(&with(Some(4.0), true), 0.0), (Some(4.0), None));
    assert_eq!(exposed(&with(Some(4.0), true), 100.0), (Some(4.0), None), "a stream at work goes on as it was");
    assert_eq!(exposed(&with(Some(4.0), false), 100.0), (Some(104.0), Some(ahead(3596.0))));
    assert_eq!(exposed(&with(None, true), 1000.0), (Some(1000.0), Some(ahead(3600.0))), "nobody has looked since");
    let silent =
        |f: &mut Facts| f.wal = Some(Wal { not_asked: Some("gone".into()), slot: None, ..wal(Some(40.0), false) });
    assert_eq!(exposed(&silent, 0.0), (Some(40.0), Some(ahead(3560.0))));
    let newer_point = |f: &mut Facts| (f.points, f.wal) = (points(60.0, 0), Some(wal(Some(5000.0), false)));
    assert_eq!(exposed(&newer_point, 0.0), (Some(60.0), Some(ahead(3540.0))));
    let none = |f: &mut Facts| f.points.newest = None;
    assert_eq!(exposed(&none, 0.0), (None, None));
    let anew = |f: &mut Facts| f.wal = Some(Wal { waiting_since: Some(ahead(60.0)), ..wal(None, true) });
    assert_eq!(exposed(&anew, 63.0), (Some(3.0), None), "it waits for a moment");
    assert_eq!(exposed(&anew, 720.0), (Some(660.0), Some(ahead(3660.0))), "nobody has seen it held since");
    let busy = |f: &mut Facts| {
        f.wal = Some(
            Wal { waiting_since: Some(f.looked + jiff::SignedDuration::from_secs(1)), ..wal(None, true) }
                .seen_at(f.looked),
        );
    };
    assert_eq!(exposed(&busy, 290.0), (Some(0.0), None), "a server that writes all the time");
    let cut = |f: &mut Facts| f.wal = Some(Wal { cut_since: Some(ago(40.0)), ..wal(Some(40.0), true) });
    assert_eq!(exposed(&cut, 100.0), (Some(140.0), Some(ahead(3560.0))), "a stream behind a hole does not help");
    check(cut, State::AtRisk, "wal-hole", "a hole since 2026-11-22T11:59:20Z", "lifeboat backup clinic");
    let late = |f: &mut Facts| (f.points, f.wal) = (points(7200.0, 0), Some(wal(Some(3700.0), true)));
    check(late, State::AtRisk, "rpo", "last 1h 1m are not held", "lifeboat wal status clinic");
}

#[test]
fn slots() {
    let (status, stream) = ("lifeboat wal status clinic", "lifeboat wal stream clinic");
    let state = |word: &'static str| move |f: &mut Facts| f.wal = slot(|slot| slot.wal_status = word.into());
    check(state("lost"), State::AtRisk, "wal-slot", "is lost", "lifeboat wal drop-slot clinic");
    check(state("missing"), State::AtRisk, "wal-slot", "does not exist", stream);
    check(state("extended"), State::AtRisk, "wal-slot", "(extended); 4.0 KiB are kept", status);
    check(state("unreserved"), State::AtRisk, "wal-slot", "about to be lost", status);
    check(
        |f| f.wal = slot(|slot| slot.limit_bytes = None),
        State::AtRisk,
        "wal-slot",
        "has no limit",
        "lifeboat doctor",
    );
    let soon = |f: &mut Facts| f.wal = slot(|slot| slot.lost_at = Some(ahead(7200.0)));
    check(soon, State::AtRisk, "wal-slot", "of 1.0 GiB in 2h 0m", status);
    is_protected(|f| f.wal = slot(|slot| slot.lost_at = Some(ahead(30.0 * 3600.0))));
    is_protected(|f| f.wal = Some(wal(Some(30.0), false)));
    check(|f| f.wal = Some(wal(Some(61.0), false)), State::AtRisk, "wal-slot", "log has waited for 1m 1s", stream);
}

#[test]
fn locks() {
    let prove = "lifeboat verify clinic --locks";
    let is = |locks: Locks| move |f: &mut Facts| f.locks = locks;
    is_protected(is(locked(Some((34.0 * DAY, 0)))));
    check(is(locked(None)), State::AtRisk, "locks", "never proven", prove);
    check(is(locked(Some((60.0, 2)))), State::AtRisk, "locks", "2 objects were not locked long enough", prove);
    check(is(locked(Some((36.0 * DAY, 0)))), State::AtRisk, "locks", "35d 0h no longer counts", prove);
    let ended = Locks { newest_until: Some(ago(60.0)), ..locked(Some((DAY, 0))) };
    check(is(ended), State::AtRisk, "locks", "ended at 2026-11-22T11:59:00Z", prove);
    let missing = Locks { not_locked: Some("the store has no object lock".into()), ..locked(None) };
    check(is(missing), State::AtRisk, "locks", "tier gold demands locks: the store has no", prove);
}

#[test]
fn what_is_around_it() {
    use State::AtRisk;
    let to = "lifeboat copy clinic --to offsite";
    check(|f| f.copies = copy(Some(94_000.0), None), AtRisk, "copy", "behind by 1d 2h, more than 1d 2h", to);
    check(|f| f.copies = copy(None, None), AtRisk, "copy", "holds no recovery point", to);
    let ask = "lifeboat repo check --repository offsite";
    check(|f| f.copies = copy(None, Some("refused")), AtRisk, "copy", "cannot be asked: refused", ask);

    let doctor = "lifeboat doctor";
    check(|f| f.certificates = certificate(20.0 * DAY, None), AtRisk, "certificate", "ends in 20d 0h", doctor);
    check(|f| f.certificates = certificate(-60.0, Some("old")), AtRisk, "certificate", "expired 1m 0s ago", doctor);
    let foreign = |f: &mut Facts| f.certificates = certificate(90.0 * DAY, Some("UnknownIssuer"));
    check(foreign, AtRisk, "certificate", "is not trusted: UnknownIssuer", doctor);

    let rehearse = "lifeboat key rehearse clinic --name NAME --identity FILE";
    check(|f| f.keys = key(None, &["never rehearsed"]), AtRisk, "key", "\"bank\": never rehearsed", rehearse);
    check(|f| f.keys = key(Some(94.0 * DAY), &[]), AtRisk, "key", "last rehearsed 94d 0h ago", rehearse);

    let standby = Standby {
        name: "spare".into(),
        address: None,
        state: "streaming".into(),
        sync_state: "async".into(),
        replay_lag_bytes: Some(1 << 20),
        replay_lag_seconds: Some(4000.0),
        not_ready: Some("it replays 1h 6m behind".into()),
    };
    let status = "lifeboat status clinic";
    let lagging = |f: &mut Facts| f.standbys.found = vec![standby.clone()];
    check(lagging, AtRisk, "standby", "standby spare would break the promise: it replays", status);
    is_protected(|f| f.standbys.found = vec![Standby { not_ready: None, ..standby.clone() }]);
    is_protected(|f| f.standbys.not_asked = Some("may not see who".into()));
}

#[test]
fn what_was_not_looked_up_does_not_protect() {
    let status = "lifeboat status clinic";
    check(
        |f| f.unknown = vec!["PostgreSQL: no answer".into()],
        State::AtRisk,
        "unknown",
        "not known: PostgreSQL",
        status,
    );
    check(|f| f.looked = ago(901.0), State::AtRisk, "unknown", "nobody has looked for 15m 1s", status);
}
