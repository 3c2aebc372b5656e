//! Rung 5: replay to the target, and not a record less. The target is the end of the log that was brought back, or a time or
//! position in it, at which PostgreSQL must say that it stopped there.

use std::path::Path;

use jiff::Timestamp;
use lifeboat_engine::recovery::Stop;
use lifeboat_model::lsn::Lsn;

use crate::{
    ladder::Answer,
    postgres::{Replay, parse_time},
    source::Fetched,
};

/// The end of the log may cut a record in two: what is behind the last whole record is at most this long. Only where a marked
/// commit, which must be reached, tells that nothing before it is lost.
const CUT_RECORD: u64 = 1 << 20;
/// Without a mark, replay must reach the very page of the log's end: page headers and padding are not records.
const PAGE: u64 = 8192;

/// When what comes behind the target ended, where PostgreSQL stopped before it and said so: no commit lies between.
pub(crate) fn next_end(replay: &Replay) -> Option<Timestamp> {
    let stopped = replay.stopped.as_deref().unwrap_or_default();
    // A rollback that comes later is an end as good as a commit.
    let is_end = ["before commit", "before abort"].iter().any(|words| stopped.starts_with(words));
    let next = is_end.then(|| stopped.split_once(", time ")).flatten();
    next.and_then(|(_, time)| parse_time(time))
}

/// Whether replay came to its target and the server is promoted; `newest` is the newest commit that was replayed.
pub(crate) fn judge(replay: &Replay, newest: Option<Timestamp>, fetched: &Fetched, pgdata: &Path) -> Answer {
    if !replay.ready && !replay.ended && replay.fatal.is_empty() {
        // It was still at work: a slow host is no bad backup.
        return Answer::not_executed(format!("PostgreSQL was not ready in time: {}", replay.last_words()))
            .in_public("PostgreSQL was not ready in time");
    }
    if !replay.ready {
        return Answer::failed(format!("PostgreSQL did not become ready: {}", replay.last_words()))
            .in_public("PostgreSQL did not become ready");
    }
    if !replay.fatal.is_empty() {
        return Answer::failed(format!("PostgreSQL's log: {}", replay.last_words()))
            .in_public("its log has FATAL or PANIC lines");
    }
    let Some(timeline) = replay.timeline else {
        return Answer::failed("PostgreSQL started without archive recovery: there is no new timeline");
    };
    let Some(consistent) = replay.consistent else {
        return Answer::failed("the log names no consistent recovery state");
    };
    let Some(end) = switch_point(pgdata, timeline) else {
        return Answer::failed(format!("no history file of timeline {timeline} tells where replay ended"));
    };
    let seen = format!("consistent at {consistent}, replayed to {end}, promoted to timeline {timeline}");
    if let Some(needed) = fetched.consistent_at.filter(|needed| end < *needed) {
        return Answer::failed(format!("{seen}; the base backup is consistent only at {needed}"));
    }
    match fetched.stop {
        Stop::End => at_the_end(&seen, end, newest, fetched),
        Stop::Lsn(target) => at_a_position(&seen, end, target, replay),
        Stop::Time(target) => at_a_time(&seen, newest, target, replay),
    }
}

fn at_the_end(seen: &str, end: Lsn, newest: Option<Timestamp>, fetched: &Fetched) -> Answer {
    if let Some(mark) = fetched.mark.filter(|mark| end < *mark) {
        return Answer::failed(format!("{seen}; the point's last commit lies before {mark}"));
    }
    if let Some(held) = fetched.newest_held.filter(|held| newest.is_none_or(|newest| newest < *held)) {
        return Answer::failed(format!("{seen}; a commit of {held} is held and was not replayed"));
    }
    let tolerated = if fetched.mark.or(fetched.newest_held.map(|_| end)).is_some() { CUT_RECORD } else { PAGE };
    match fetched.wal_end {
        Some(wal_end) if end.0 + tolerated < wal_end.0 => {
            Answer::failed(format!("{seen}; the write-ahead log reaches {wal_end}"))
        }
        Some(wal_end) => Answer::passed(format!("{seen} (the log ends at {wal_end})")),
        None => Answer::passed(seen),
    }
}

/// Replay may end well before the target, where its next record begins behind it: so PostgreSQL's own word is asked for.
fn at_a_position(seen: &str, end: Lsn, target: Lsn, replay: &Replay) -> Answer {
    let stopped = replay.stopped.as_deref().unwrap_or_default();
    let named = stopped.contains("WAL location").then(|| stopped.split('"').nth(1)?.parse::<Lsn>().ok()).flatten();
    match named {
        Some(at) if at >= target && end <= target => Answer::passed(format!("{seen}, stopped before {target}")),
        Some(at) => Answer::failed(format!("{seen}; it stopped before {at}, and was to stop at {target}")),
        None => Answer::failed(format!("{seen}; PostgreSQL does not say that it stopped at {target}")),
    }
}

fn at_a_time(seen: &str, newest: Option<Timestamp>, target: Timestamp, replay: &Replay) -> Answer {
    let Some(next) = next_end(replay) else {
        return Answer::failed(format!("{seen}; PostgreSQL does not say that it stopped at {target}"));
    };
    match newest {
        Some(newest) if newest > target => {
            Answer::failed(format!("{seen}; a commit of {newest} was replayed, behind the target {target}"))
        }
        _ if next <= target => Answer::failed(format!("{seen}; it left out what ended at {next}, before {target}")),
        _ => Answer::passed(format!("{seen}, stopped at {target} before what ended at {next}")),
    }
}

/// Where the old timeline ended: the last line of `0000000N.history` names it.
pub(crate) fn switch_point(pgdata: &Path, timeline: u32) -> Option<Lsn> {
    let path = pgdata.join("pg_wal").join(format!("{timeline:08X}.history"));
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit()))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::check::Verdict;

    fn replayed(wal_end: &str, consistent_at: &str) -> Verdict {
        replayed_to_mark(wal_end, consistent_at, None)
    }

    fn replayed_to_mark(wal_end: &str, consistent_at: &str, mark: Option<&str>) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
        std::fs::write(folder.path().join("pg_wal/00000002.history"), "1\t0/5000060\tno recovery target specified\n")
            .unwrap();
        let replay = Replay { consistent: Some(Lsn(0x200_0120)), timeline: Some(2), ready: true, ..Replay::default() };
        let fetched = Fetched {
            wal_end: Some(wal_end.parse().unwrap()),
            consistent_at: Some(consistent_at.parse().unwrap()),
            mark: mark.map(|mark| mark.parse().unwrap()),
            ..Fetched::default()
        };
        judge(&replay, None, &fetched, folder.path()).verdict
    }

    #[test]
    fn replay_must_reach_the_end_of_the_points_log() {
        assert_eq!(replayed("0/5000060", "0/3000000"), Verdict::Passed);
        assert_eq!(replayed("0/5002000", "0/3000000"), Verdict::Passed, "the same page");
        assert!(matches!(replayed("0/5003000", "0/3000000"), Verdict::Failed(_)), "lost, for all that is known");
        let marked = |wal_end, mark| replayed_to_mark(wal_end, "0/3000000", Some(mark));
        assert_eq!(marked("0/5003000", "0/5000060"), Verdict::Passed, "a cut record behind the marked commit");
        assert!(matches!(marked("0/5003000", "0/5000061"), Verdict::Failed(_)), "the marked commit is lost");
        assert!(matches!(marked("0/7000000", "0/5000060"), Verdict::Failed(_)));
        assert!(matches!(replayed("0/7000000", "0/3000000"), Verdict::Failed(_)));
        assert!(matches!(replayed("0/5000060", "0/6000000"), Verdict::Failed(_)));
    }

    #[test]
    fn a_server_that_did_not_recover_is_no_restore() {
        let replay = Replay { ready: true, ..Replay::default() };
        let answer = judge(&replay, None, &Fetched::default(), Path::new("/nonexistent"));
        assert!(matches!(answer.verdict, Verdict::Failed(_)));
    }

    #[test]
    fn a_server_that_is_still_at_work_is_no_bad_backup() {
        let judged = |replay: &Replay| judge(replay, None, &Fetched::default(), Path::new("/nonexistent")).verdict;
        let working = Replay::default();
        assert!(matches!(judged(&working), Verdict::NotExecuted(_)));
        assert!(matches!(judged(&Replay { ended: true, ..working.clone() }), Verdict::Failed(_)));
        let fatal = vec!["FATAL:  could not locate a valid checkpoint record".to_owned()];
        assert!(matches!(judged(&Replay { fatal, ..working }), Verdict::Failed(_)));
    }

    fn stopped(words: Option<&str>, stop: Stop, newest: Option<&str>) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
        std::fs::write(folder.path().join("pg_wal/00000002.history"), "1\t0/5000060\tbefore\n").unwrap();
        let replay = Replay {
            consistent: Some(Lsn(0x200_0120)),
            timeline: Some(2),
            ready: true,
            stopped: words.map(str::to_owned),
            ..Replay::default()
        };
        let fetched = Fetched { stop, consistent_at: Some(Lsn(0x300_0000)), ..Fetched::default() };
        judge(&replay, newest.map(|time| time.parse().unwrap()), &fetched, folder.path()).verdict
    }

    #[test]
    fn replay_must_stop_at_its_target_and_not_before() {
        let time = Stop::Time("2026-11-21T14:03:10Z".parse().unwrap());
        let at = |words, newest| stopped(words, time, newest);
        let next = Some("before commit of transaction 744, time 2026-11-21 14:03:10.000001+00");
        assert_eq!(at(next, Some("2026-11-21T14:03:10Z")), Verdict::Passed);
        assert_eq!(at(next, None), Verdict::Passed, "the base backup alone is of before");
        assert!(matches!(at(next, Some("2026-11-21T14:03:11Z")), Verdict::Failed(_)), "a later commit is in it");
        assert!(matches!(at(None, Some("2026-11-21T14:03:09Z")), Verdict::Failed(_)), "it ended for another reason");
        let early = Some("before commit of transaction 744, time 2026-11-21 14:03:10+00");
        assert!(matches!(at(early, None), Verdict::Failed(_)), "a commit of the target itself is missing");

        let lsn = |target: u64, words| stopped(words, Stop::Lsn(Lsn(target)), None);
        let words = Some("before WAL location (LSN) \"0/5000060\"");
        assert_eq!(lsn(0x500_0060, words), Verdict::Passed);
        assert!(matches!(lsn(0x500_0061, words), Verdict::Failed(_)), "before the target");
        assert!(matches!(lsn(0x500_0050, Some("before WAL location (LSN) \"0/5000050\"")), Verdict::Failed(_)));
        assert!(matches!(lsn(0x500_0060, None), Verdict::Failed(_)));
    }

    #[test]
    fn the_newest_commit_that_is_held_must_be_there() {
        let fetched = |held: &str| Fetched { newest_held: Some(held.parse().unwrap()), ..Fetched::default() };
        let newest = Some("2026-11-21T14:03:10Z".parse().unwrap());
        let end = Lsn(0x500_0060);
        assert_eq!(at_the_end("", end, newest, &fetched("2026-11-21T14:03:10Z")).verdict, Verdict::Passed);
        let lost = at_the_end("", end, newest, &fetched("2026-11-21T14:03:11Z")).verdict;
        assert!(matches!(lost, Verdict::Failed(_)));
    }
}
