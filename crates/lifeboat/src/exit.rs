//! What the exit code of `lifeboat` says. Scripts and schedulers rely on it, so the numbers never change meaning;
//! `docs/exit-codes.md` shows the same table, and a test holds the two together.

use std::process::ExitCode;

/// How a run of the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed for a reason without a code of its own.
    Failed,
    /// Wrong arguments.
    Usage,
    /// Wrong configuration.
    Config,
    /// Something was checked and found wrong.
    CheckFailed,
    /// Nothing was found wrong, and something that had to be done or checked was not.
    Incomplete,
    /// What was asked for does not exist.
    NotFound,
    /// Somebody else is at work there.
    Busy,
    /// A key is missing, unreadable or the wrong one.
    Key,
    /// A server did not answer, or cannot now.
    Unavailable,
    /// No room is left.
    Full,
    /// Stopped by a signal.
    Interrupted,
    /// As monitoring plugins end: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. `status --plugin` alone ends so.
    Plugin(u8),
}

impl Exit {
    /// Every way to end, by number, but those of plugins.
    #[cfg(test)]
    pub const ALL: [Exit; 12] = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::Config,
        Exit::CheckFailed,
        Exit::Incomplete,
        Exit::NotFound,
        Exit::Busy,
        Exit::Key,
        Exit::Unavailable,
        Exit::Full,
        Exit::Interrupted,
    ];

    /// The number that the operating system sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 3,
            Exit::CheckFailed => 4,
            Exit::Incomplete => 5,
            Exit::NotFound => 6,
            Exit::Busy => 7,
            Exit::Key => 8,
            Exit::Unavailable => 10,
            Exit::Full => 11,
            Exit::Interrupted => 130,
            Exit::Plugin(code) => code,
        }
    }

    /// The name used in the documented table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Config => "config",
            Exit::CheckFailed => "check-failed",
            Exit::Incomplete => "incomplete",
            Exit::NotFound => "not-found",
            Exit::Busy => "busy",
            Exit::Key => "key",
            Exit::Unavailable => "unavailable",
            Exit::Full => "full",
            Exit::Interrupted => "interrupted",
            Exit::Plugin(_) => "plugin",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    const DOCUMENT: &str = include_str!("../../../docs/exit-codes.md");

    /// The documented table has exactly these rows, in this order.
    #[test]
    fn documented() {
        let rows: Vec<(u8, String)> = DOCUMENT
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| ")?.split(" | ");
                Some((cells.next()?.trim().parse().ok()?, cells.next()?.trim().trim_matches('`').to_owned()))
            })
            .collect();
        let wanted: Vec<(u8, String)> = Exit::ALL.iter().map(|exit| (exit.code(), exit.name().to_owned())).collect();
        assert_eq!(rows, wanted);
    }
}
