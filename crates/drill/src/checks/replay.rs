//! Rung 5: replay to the end of the point's write-ahead log.

use std::path::Path;

use lifeboat_model::lsn::Lsn;

use crate::{ladder::Answer, postgres::Replay, source::Fetched};

/// The end of the log may cut a record in two: what is behind the last whole record is at most this long. Only where a marked
/// commit, which must be reached, tells that nothing before it is lost.
const CUT_RECORD: u64 = 1 << 20;
/// Without a mark, replay must reach the very page of the log's end: page headers and padding are not records.
const PAGE: u64 = 8192;

/// Whether replay came to the point's end and the server is promoted.
pub(crate) fn judge(replay: &Replay, fetched: &Fetched, pgdata: &Path) -> Answer {
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
    let tolerated = if fetched.mark.is_some() { CUT_RECORD } else { PAGE };
    if let Some(mark) = fetched.mark.filter(|mark| end < *mark) {
        return Answer::failed(format!("{seen}; the point's last commit lies before {mark}"));
    }
    match (fetched.consistent_at, fetched.wal_end) {
        (Some(needed), _) if end < needed => {
            Answer::failed(format!("{seen}; the base backup is consistent only at {needed}"))
        }
        (_, Some(wal_end)) if end.0 + tolerated < wal_end.0 => {
            Answer::failed(format!("{seen}; the point's write-ahead log reaches {wal_end}"))
        }
        (_, Some(wal_end)) => Answer::passed(format!("{seen} (the point's log ends at {wal_end})")),
        (_, None) => Answer::passed(seen),
    }
}

/// Where the old timeline ended: the last line of `0000000N.history` names it.
fn switch_point(pgdata: &Path, timeline: u32) -> Option<Lsn> {
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
        judge(&replay, &fetched, folder.path()).verdict
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
        let answer = judge(&replay, &Fetched::default(), Path::new("/nonexistent"));
        assert!(matches!(answer.verdict, Verdict::Failed(_)));
    }
}
