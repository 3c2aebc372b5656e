//! What may run beside what, and how much of it.
//!
//! | a run of | is not begun beside, of the same instance |
//! |---|---|
//! | `backup`, `dump`, `prune`, `copy` | `backup`, `dump`, `prune`, `copy`: one of them changes the repository at a time |
//! | `drill`, `control` | `drill`, `control`: their measures would be of each other |
//! | `scrub`, `locks`, `signs` | the same verb |
//! | `stream` | `stream`: the server has one slot for it |
//! | `audit`, `report`: of the tenant, or a report of the instance | the same verb for the same whole |
//!
//! Everything else goes on side by side, streams beside everything. Other instances and tenants are never in the way, but for
//! the budget: all runs together, drills and controls, and backups, dumps and copies. Streams are not counted. What other
//! tenants do is nobody else's business: why a run waits names and counts runs of its own tenant alone.

use lifeboat_model::id::RunId;

use crate::{
    job::{Job, Verb},
    settings::Budget,
};

/// Why a run waits that runs of other tenants hold up as well.
const NOT_YET: &str = "waits for its turn: this host does no more at a time";

/// Of these, one at a time for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Writes,
    Rehearses,
    Other(&'static str),
}

fn class(verb: &Verb) -> Class {
    match verb {
        Verb::Backup | Verb::Dump | Verb::Prune | Verb::Copy { .. } => Class::Writes,
        Verb::Drill { .. } | Verb::Control { .. } => Class::Rehearses,
        Verb::Scrub { .. } | Verb::Locks | Verb::Signs | Verb::Audit | Verb::Report { .. } | Verb::Stream => {
            Class::Other(verb.word())
        }
    }
}

/// Whether two runs must not go on at the same time.
pub(super) fn exclude(one: &Job, other: &Job) -> bool {
    one.tenant == other.tenant && one.instance == other.instance && class(&one.verb) == class(&other.verb)
}

fn is_stream(job: &Job) -> bool {
    job.verb == Verb::Stream
}

fn is_drill(job: &Job) -> bool {
    class(&job.verb) == Class::Rehearses
}

fn is_backup(job: &Job) -> bool {
    matches!(job.verb, Verb::Backup | Verb::Dump | Verb::Copy { .. })
}

/// Which of the runs that wait are begun now, and why the others go on waiting. `waiting` is in the order in which they are
/// served; one that is in nobody's way is begun even where others before it cannot be.
pub(super) fn pick(waiting: &[(RunId, &Job)], running: &[&Job], budget: &Budget) -> (Vec<RunId>, Vec<(RunId, String)>) {
    let mut going: Vec<&Job> = running.to_vec();
    let (mut begun, mut waits) = (Vec::new(), Vec::new());
    for (run, job) in waiting {
        match obstacle(job, &going, budget) {
            Some(why) => waits.push((*run, why)),
            None => {
                begun.push(*run);
                going.push(job);
            }
        }
    }
    (begun, waits)
}

fn obstacle(job: &Job, going: &[&Job], budget: &Budget) -> Option<String> {
    if let Some(other) = going.iter().find(|other| exclude(job, other)) {
        let whose = other.instance.as_ref().map_or("the tenant".to_owned(), ToString::to_string);
        return Some(format!("waits for the {} of {whose} to end", other.verb.word()));
    }
    if is_stream(job) {
        return None;
    }
    let full = |counts: fn(&Job) -> bool, most: usize, what: &str| {
        let counted = || going.iter().filter(|other| !is_stream(other) && counts(other));
        let own = counted().filter(|other| other.tenant == job.tenant).count();
        match own >= most {
            true => Some(format!("waits: {own} of at most {most} {what} go on")),
            false => (counted().count() >= most).then(|| NOT_YET.to_owned()),
        }
    };
    full(|_| true, budget.runs, "runs")
        .or_else(|| if is_drill(job) { full(is_drill, budget.drills, "drills and controls") } else { None })
        .or_else(|| if is_backup(job) { full(is_backup, budget.backups, "backups, dumps and copies") } else { None })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::job::Because;

    fn job(number: u8, instance: Option<&str>, verb: Verb) -> Job {
        Job {
            run: RunId([number; 8]),
            tenant: "acme".parse().unwrap(),
            instance: instance.map(|name| name.parse().unwrap()),
            verb,
            because: Because::Asked { who: "Ann".into(), at: Timestamp::UNIX_EPOCH },
        }
    }

    fn verbs() -> Vec<Verb> {
        vec![
            Verb::Backup,
            Verb::Dump,
            Verb::Prune,
            Verb::Copy { to: None },
            Verb::Drill { random: false },
            Verb::Control { kind: "all".into() },
            Verb::Scrub { sample: "1%/day".into() },
            Verb::Locks,
            Verb::Signs,
            Verb::Stream,
        ]
    }

    #[test]
    fn the_table_holds() {
        let groups: [&[&str]; 6] = [
            &["backup", "dump", "prune", "copy"],
            &["drill", "control"],
            &["scrub"],
            &["locks"],
            &["signs"],
            &["stream"],
        ];
        for one in verbs() {
            for other in verbs() {
                let same = groups.iter().any(|group| group.contains(&one.word()) && group.contains(&other.word()));
                let (a, b) = (job(1, Some("clinic"), one.clone()), job(2, Some("clinic"), other.clone()));
                assert_eq!(exclude(&a, &b), same, "{} beside {}", one.word(), other.word());
                assert!(!exclude(&a, &job(2, Some("shop"), other)), "another instance");
            }
        }
        let audits = [job(1, None, Verb::Audit), job(2, None, Verb::Audit)];
        assert!(exclude(&audits[0], &audits[1]));
        assert!(!exclude(&audits[0], &Job { tenant: "other".parse().unwrap(), ..audits[1].clone() }));
    }

    #[test]
    fn budgets_are_kept_and_streams_are_not_counted() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut all: Vec<Job> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let number = u8::try_from(number).unwrap() * 4;
            all.push(job(number, Some(name), Verb::Stream));
            all.push(job(number + 1, Some(name), Verb::Backup));
            all.push(job(number + 2, Some(name), Verb::Drill { random: true }));
            all.push(job(number + 3, Some(name), Verb::Locks));
        }
        let waiting: Vec<(RunId, &Job)> = all.iter().map(|job| (job.run, job)).collect();
        let budget = Budget { runs: 5, drills: 1, backups: 2, ..Budget::default() };
        let (begun, waits) = pick(&waiting, &[], &budget);
        let count = |word: &str| all.iter().filter(|job| begun.contains(&job.run) && job.verb.word() == word).count();
        assert_eq!((count("stream"), count("backup"), count("drill"), count("locks")), (6, 2, 1, 2));
        assert_eq!(begun.len() + waits.len(), all.len());
        assert!(waits.iter().any(|(_, why)| why == "waits: 1 of at most 1 drills and controls go on"), "{waits:?}");
        assert!(waits.iter().any(|(_, why)| why == "waits: 5 of at most 5 runs go on"), "{waits:?}");
    }

    #[test]
    fn what_other_tenants_do_is_not_told() {
        let of = |tenant: &str, job: Job| Job { tenant: tenant.parse().unwrap(), ..job };
        let others: Vec<Job> =
            (1..=4).map(|number| of("other", job(number, Some("shop"), Verb::Drill { random: true }))).collect();
        let own = job(5, Some("clinic"), Verb::Drill { random: true });
        let budgets = [
            Budget { runs: 4, drills: 9, ..Budget::default() },
            Budget { runs: 9, drills: 4, ..Budget::default() },
            // Own runs are among those that fill it, and not all of them.
            Budget { runs: 5, drills: 9, ..Budget::default() },
        ];
        for (budget, runs) in budgets.iter().zip([&[][..], &[], &[job(6, Some("bakery"), Verb::Backup)]]) {
            let going: Vec<&Job> = others.iter().chain(runs).collect();
            let (begun, waits) = pick(&[(own.run, &own)], &going, budget);
            assert_eq!((begun, waits), (vec![], vec![(own.run, NOT_YET.to_owned())]), "{budget:?}");
        }
    }

    #[test]
    fn who_is_in_nobodys_way_goes_first() {
        let running = job(1, Some("clinic"), Verb::Prune);
        let (first, second) = (job(2, Some("clinic"), Verb::Backup), job(3, Some("shop"), Verb::Backup));
        let waiting = [(first.run, &first), (second.run, &second)];
        let (begun, waits) = pick(&waiting, &[&running], &Budget::default());
        assert_eq!(begun, [second.run]);
        assert_eq!(waits, [(first.run, "waits for the prune of clinic to end".to_owned())]);
    }
}
