//! What must hold whatever the policy, the points and the time are.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*};

use super::*;

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago"];
/// 2026-09-01, so that the clocks of some zones change in what follows.
const BEGIN: i64 = 1_788_220_800;

/// A point as it is drawn: minute, dump, passed, held, how late it came.
type Drawn = (i64, u8, Option<i64>, u8, Option<i64>);

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    let counts = (0u32..4, 0u32..50, 0u32..10, 0u32..6, 0u32..4, 0u32..2);
    (0usize..ZONES.len(), counts, option::of(1u64..20), 0u32..3).prop_map(
        |(zone, (last, hourly, daily, weekly, monthly, yearly), pitr, drilled)| RetentionPolicy {
            time_zone: ZONES[zone].parse().unwrap(),
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            pitr: pitr.map(|days| Span(Duration::from_secs(days * 86_400))),
            drilled,
        },
    )
}

/// Points within 200 days, some dumps, some drilled, some held, some late.
fn points() -> impl Strategy<Value = Vec<PointFacts>> {
    let one =
        (0i64..200 * 24 * 60, 0u8..8, option::weighted(0.2, 0i64..200 * 24), 0u8..20, option::weighted(0.2, 2i64..90));
    vec(one, 1..40).prop_map(|all| {
        let time = |seconds| Timestamp::from_second(BEGIN + seconds).unwrap();
        let fact = |(index, (minute, dump, passed, held, late)): (usize, Drawn)| PointFacts {
            id: PointId([index as u8; 8]),
            time: time(minute * 60),
            received: Some(time(minute * 60 + late.map_or(20, |days| days * 86_400))),
            dump: dump == 0,
            passed: passed.map(|hour| time(hour * 3600)),
            held: held == 0,
        };
        all.into_iter().enumerate().map(fact).collect()
    })
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0i64..300 * 24 * 60).prop_map(|minute| Timestamp::from_second(BEGIN + minute * 60).unwrap())
}

fn lock() -> LockPolicy {
    LockPolicy { mode: LockMode::Governance, minimum: Span(Duration::from_secs(3 * 86_400)) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The newest of each kind, what is held, and what passed last are always kept.
    #[test]
    fn never_drops_the_newest(policy in policies(), points in points(), now in moment()) {
        let decisions = decide(Some(&policy), Some(&lock()), &points, now);
        let kept = |point: &PointFacts| decisions.iter().any(|decision| decision.id == point.id && decision.keep);
        for dump in [false, true] {
            let genuine = points.iter().filter(|point| !point.is_late());
            if let Some(newest) = genuine.filter(|p| p.dump == dump).max_by_key(|p| (p.time, p.id)) {
                prop_assert!(kept(newest));
            }
        }
        prop_assert!(points.iter().filter(|point| point.held).all(kept));
        let passed = points.iter().filter(|point| !point.dump && !point.is_late() && point.passed.is_some());
        prop_assert!(passed.clone().max_by_key(|p| (p.passed, p.time, p.id)).is_none_or(kept));
        let drilled = passed.clone().filter(|point| kept(point)).count();
        prop_assert!(drilled >= passed.count().min(policy.drilled as usize));
    }

    /// Removing what is not kept changes nothing of what is kept, now and later.
    #[test]
    fn pruning_is_idempotent(policy in policies(), points in points(), now in moment(), later in 0u64..90) {
        let decisions = decide(Some(&policy), Some(&lock()), &points, now);
        let left: Vec<PointFacts> =
            points.iter().zip(&decisions).filter(|(_, decision)| decision.keep).map(|(point, _)| *point).collect();
        let of_kept: Vec<Decision> = decisions.into_iter().filter(|decision| decision.keep).collect();
        prop_assert_eq!(&decide(Some(&policy), Some(&lock()), &left, now), &of_kept);
        // And what is kept later is the same whether or not somebody pruned in between, but for drills, which can only
        // be looked for among what is there.
        let then = super::later(now, Duration::from_secs(later * 86_400));
        let ids = |points: &[PointFacts]| -> Vec<PointId> {
            let decisions = decide(Some(&policy), Some(&lock()), points, then);
            decisions.into_iter().filter(|decision| decision.keep).map(|decision| decision.id).collect()
        };
        prop_assert_eq!(ids(&left), ids(&points));
        prop_assert_eq!(pitr_base(&policy, &left, then), pitr_base(&policy, &points, then));
    }

    /// A closed reason has one end for as long as it holds, and then it is gone.
    #[test]
    fn ends_of_closed_reasons_never_move(policy in policies(), points in points(), now in moment(), later in 0u64..90) {
        let then = super::later(now, Duration::from_secs(later * 3600));
        let before = decide(Some(&policy), Some(&lock()), &points, now);
        let after = decide(Some(&policy), Some(&lock()), &points, then);
        for (before, after) in before.iter().zip(&after) {
            for (reason, end) in before.reasons.iter().filter_map(|(reason, end)| Some((*reason, (*end)?))) {
                let found = after.reasons.iter().find(|(known, end)| *known == reason && end.is_some());
                let expected = (end > then).then_some((reason, Some(end)));
                prop_assert_eq!(found.copied(), expected);
            }
        }
    }

    /// What was promised when a point was made is enough, for as long as only closed reasons keep it.
    #[test]
    fn the_promise_at_the_making_covers_every_closed_end(policy in policies(), points in points()) {
        let mut sorted: Vec<PointFacts> = points.iter().filter(|p| !p.dump && !p.is_late()).copied().collect();
        sorted.sort_by_key(|point| (point.time, point.id));
        for (index, point) in sorted.iter().enumerate() {
            let promised = end_of_new(Some(&policy), Some(&lock()), &sorted[..index], point.time).unwrap();
            // The newest point before decides like all of them: that is what a backup looks at.
            let alone: Vec<PointFacts> =
                sorted[..index].iter().rev().find(|earlier| earlier.time < point.time).into_iter().copied().collect();
            prop_assert_eq!(end_of_new(Some(&policy), Some(&lock()), &alone, point.time).unwrap(), promised);
            let decision = decide(Some(&policy), Some(&lock()), &sorted[..=index], point.time).pop().unwrap();
            let closed = decision.reasons.iter().filter_map(|(_, end)| *end).max();
            prop_assert!(closed.is_none_or(|closed| closed <= promised));
            prop_assert!(decision.end <= promised, "no renewal is due at once: {} {promised}", decision.end);
            prop_assert!(decision.demanded <= decision.end);
        }
    }

    /// Whoever adds points that the store receives long after the time they tell displaces nothing.
    #[test]
    fn late_points_take_no_place(policy in policies(), points in points(), now in moment()) {
        let genuine: Vec<PointFacts> = points.iter().filter(|point| !point.is_late()).copied().collect();
        let with = decide(Some(&policy), Some(&lock()), &points, now);
        for alone in decide(Some(&policy), Some(&lock()), &genuine, now) {
            prop_assert!(with.contains(&alone), "{alone:?}");
        }
    }

    /// Nor do those that come within the margin take the first place of a period from what was received before.
    #[test]
    fn the_first_received_is_the_first(policy in policies(), points in points(), back in 1i64..1440) {
        let genuine: Vec<PointFacts> = points.iter().filter(|point| !point.is_late() && !point.dump).copied().collect();
        let Some(newest) = genuine.iter().max_by_key(|point| point.time).copied() else { return Ok(()) };
        let received = later(newest.time, Duration::from_secs(1800));
        let time = earlier(received, Duration::from_secs(back as u64 * 60));
        let forged = PointFacts { id: PointId([255; 8]), time, received: Some(received), passed: None, held: false, ..newest };
        let closed = |points: &[PointFacts]| -> BTreeMap<PointId, Vec<(Reason, Option<Timestamp>)>> {
            let decided = decide(Some(&policy), Some(&lock()), points, received).into_iter();
            let closed = |reasons: Vec<(Reason, Option<Timestamp>)>| {
                reasons.into_iter().filter(|(_, until)| until.is_some()).collect()
            };
            decided.filter(|one| one.id != forged.id).map(|one| (one.id, closed(one.reasons))).collect()
        };
        prop_assert_eq!(closed(&[&genuine[..], &[forged]].concat()), closed(&genuine));
    }

    /// The order in which points are told of decides nothing.
    #[test]
    fn order_of_telling_is_nothing(policy in policies(), points in points(), now in moment()) {
        let mut turned = points.clone();
        turned.reverse();
        let mut decisions = decide(Some(&policy), Some(&lock()), &turned, now);
        decisions.reverse();
        prop_assert_eq!(decisions, decide(Some(&policy), Some(&lock()), &points, now));
    }
}
