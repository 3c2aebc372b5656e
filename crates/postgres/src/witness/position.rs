//! The position of a snapshot among the commits of the WAL around it.

use lifeboat_model::lsn::Lsn;

use super::snapshot::Snapshot;
use crate::wal::Commit;

/// Where a snapshot lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Everything that committed before is visible, and nothing else.
    At(Lsn),
    /// A commit is hidden and a later one is visible.
    None {
        /// The hidden one.
        hidden: Lsn,
        /// The visible one behind it.
        shown: Lsn,
    },
}

/// The start of the first hidden commit, or `end` where none is hidden; none if a commit behind it is visible. `commits`
/// are in the order of the WAL; those that do not start before `end` are too late to matter.
pub(super) fn of_snapshot(snapshot: &Snapshot, commits: &[Commit], end: Lsn) -> Position {
    let mut hidden = None;
    for commit in commits.iter().filter(|commit| commit.start < end) {
        let shown = snapshot.shows(snapshot.whole(commit.xid));
        match hidden {
            None if !shown => hidden = Some(commit.start),
            Some(hidden) if shown => return Position::None { hidden, shown: commit.start },
            _ => {}
        }
    }
    Position::At(hidden.unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn position(snapshot: &str, xids: &[u32]) -> Position {
        let commit = |(index, xid): (usize, &u32)| {
            let start = Lsn(100 * (index as u64 + 1));
            Commit { start, end: Lsn(start.0 + 50), xid: *xid, time: Timestamp::UNIX_EPOCH, prepared: false }
        };
        let commits: Vec<Commit> = xids.iter().enumerate().map(commit).collect();
        of_snapshot(&snapshot.parse().unwrap(), &commits, Lsn(1000))
    }

    #[test]
    fn the_first_hidden_commit_is_the_position() {
        assert_eq!(position("10:20:", &[]), Position::At(Lsn(1000)), "no commit at all");
        assert_eq!(position("10:20:", &[8, 12, 19]), Position::At(Lsn(1000)), "all are visible");
        assert_eq!(position("10:20:12", &[8, 12, 21]), Position::At(Lsn(200)));
        assert_eq!(position("10:20:12", &[12]), Position::At(Lsn(100)), "none is visible");
        assert_eq!(position("10:20:", &[11, 20, 21]), Position::At(Lsn(200)));
    }

    #[test]
    fn a_visible_commit_behind_a_hidden_one_leaves_no_position() {
        let none = Position::None { hidden: Lsn(100), shown: Lsn(300) };
        assert_eq!(position("10:20:12", &[12, 21, 13]), none);
    }

    #[test]
    fn what_starts_at_the_end_is_too_late() {
        let late: Vec<u32> = (0..9).map(|_| 8).chain([30, 8]).collect();
        assert_eq!(position("10:20:", &late), Position::At(Lsn(1000)), "the tenth starts at the end");
    }
}
