//! Where a recovery is to end, and how PostgreSQL is told.

use std::fmt;

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;

/// Where a recovery is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Where the recovery point's own log ends.
    PointEnd,
    /// The end of all that is held.
    Latest,
    /// Every commit until then and none after it.
    Time(Timestamp),
    /// Everything that the log has before this position.
    Lsn(Lsn),
    /// A named restore point.
    RestorePoint(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::PointEnd => f.write_str("the end of the recovery point"),
            Target::Latest => f.write_str("the latest moment held"),
            Target::Time(time) => write!(f, "{time}"),
            Target::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Target::RestorePoint(name) => write!(f, "restore point \"{name}\""),
        }
    }
}

/// What PostgreSQL stops at. With anything but [`Stop::End`] it refuses by itself to end recovery earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stop {
    /// The end of the log that is there.
    #[default]
    End,
    /// Before the first commit with a later time.
    Time(Timestamp),
    /// Before the first record at or behind this position.
    Lsn(Lsn),
}

/// What a server does when it has come to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Becomes a server of its own, on a new timeline.
    Promote,
    /// Waits, open for reading.
    Pause,
}

/// The settings of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to stop.
    pub stop: Stop,
    /// The timeline to follow; none: the base backup's own.
    pub timeline: Option<u32>,
    /// Whether WAL comes through [`super::staging`]; without it all of it lies in `pg_wal`.
    pub staged: bool,
}

/// Relative to PGDATA, so that it works wherever the folder is moved or mounted. Where the program is gone, some shells would
/// end with a code that PostgreSQL takes for the end of the log.
pub(super) const RESTORE_COMMAND: &str =
    "test -f lifeboat_wal/fetch || exit 255; exec sh lifeboat_wal/fetch \"%f\" \"%p\"";

/// Every way to name a target. PostgreSQL refuses a second one, also where an empty setting *follows* the one that is meant:
/// so all are emptied first.
const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_target_lsn"];

impl Settings {
    /// Recovery to the end of what lies in `pg_wal`.
    pub const POINT_END: Settings = Settings { stop: Stop::End, timeline: None, staged: false };

    /// The settings that say where to stop, in the order in which they have to be given.
    pub fn target(stop: Stop, action: Action) -> Vec<(&'static str, String)> {
        let named = match stop {
            Stop::End => None,
            Stop::Time(time) => Some(("recovery_target_time", postgres_time(time))),
            Stop::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
        };
        let is_named = |name: &str| named.as_ref().is_some_and(|(known, _)| *known == name);
        let mut settings: Vec<_> =
            TARGETS.into_iter().filter(|name| !is_named(name)).map(|name| (name, String::new())).collect();
        settings.extend(named);
        // Every commit of the target time itself belongs to it; a position is the end of what is wanted.
        let inclusive = if matches!(stop, Stop::Lsn(_)) { "off" } else { "on" };
        settings.push(("recovery_target_inclusive", inclusive.to_owned()));
        let action = if action == Action::Pause { "pause" } else { "promote" };
        settings.push(("recovery_target_action", action.to_owned()));
        settings
    }

    /// All settings for `postgresql.auto.conf`.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let (restore, end) = match self.staged {
            true => (RESTORE_COMMAND, "rm -r lifeboat_wal"),
            false => ("false", ""),
        };
        let timeline = self.timeline.map_or("current".to_owned(), |timeline| timeline.to_string());
        let mut lines = vec![("restore_command", restore.to_owned())];
        lines.extend(Settings::target(self.stop, Action::Promote));
        lines.push(("recovery_target_timeline", timeline));
        lines.push(("recovery_end_command", end.to_owned()));
        lines
    }
}

/// As PostgreSQL writes times, to its microsecond, in UTC.
fn postgres_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_that_is_meant_comes_after_the_empty_ones() {
        let time = "2026-11-21T14:03:10.5Z".parse().unwrap();
        for (stop, name, value) in [
            (Stop::Time(time), "recovery_target_time", "2026-11-21 14:03:10.500000+00"),
            (Stop::Lsn(Lsn(0x1_0000_0028)), "recovery_target_lsn", "1/28"),
        ] {
            let settings = Settings::target(stop, Action::Promote);
            let place = settings.iter().position(|(known, _)| *known == name).unwrap();
            assert_eq!(settings[place].1, value);
            let empty = settings.iter().rposition(|(_, value)| value.is_empty()).unwrap();
            assert!(empty < place && settings.iter().filter(|(known, _)| *known == name).count() == 1);
        }
        assert!(Settings::target(Stop::End, Action::Pause)[..5].iter().all(|(_, value)| value.is_empty()));
    }
}
