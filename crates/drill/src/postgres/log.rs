//! What the server tells of its replay, line by line.

use bollard::container::LogOutput;
use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;

/// What the log of a replay tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replay {
    /// "consistent recovery state reached at".
    pub consistent: Option<Lsn>,
    /// "redo done at".
    pub redo_done: Option<Lsn>,
    /// "last completed transaction was at log time": the newest commit in the restored data.
    pub newest_commit: Option<Timestamp>,
    /// "selected new timeline ID".
    pub timeline: Option<u32>,
    /// "recovery stopping before": where and at what the server stopped, in its words.
    pub stopped: Option<String>,
    /// "pausing at the end of recovery".
    pub paused: bool,
    /// The server accepts writing connections.
    pub ready: bool,
    /// Lines of level FATAL and PANIC, and unexpected ends; at most [`Replay::KEPT`].
    pub fatal: Vec<String>,
    /// The last lines, for a message.
    pub tail: Vec<String>,
    /// The server's program has ended.
    pub ended: bool,
}

impl Replay {
    const KEPT: usize = 20;

    pub(super) fn push(&mut self, line: &str) {
        let lsn_after = |words: &str| {
            line.split_once(words).and_then(|(_, rest)| {
                let text: String =
                    rest.trim_start().chars().take_while(|c| c.is_ascii_hexdigit() || *c == '/').collect();
                text.parse().ok()
            })
        };
        self.consistent = self.consistent.or_else(|| lsn_after("consistent recovery state reached at"));
        self.redo_done = self.redo_done.or_else(|| lsn_after("redo done at"));
        if let Some((_, time)) = line.split_once("last completed transaction was at log time ") {
            self.newest_commit = parse_time(time);
        }
        if let Some((_, id)) = line.split_once("selected new timeline ID: ") {
            self.timeline = id.trim().parse().ok();
        }
        if let Some((_, at)) = line.split_once("recovery stopping ") {
            self.stopped.get_or_insert(at.trim().to_owned());
        }
        self.paused |= line.contains("pausing at the end of recovery");
        self.ready |= line.contains("database system is ready to accept connections");
        let grave = [" FATAL: ", " PANIC: "].iter().any(|level| line.contains(level))
            || line.contains("was terminated by signal");
        if grave && self.fatal.len() < Self::KEPT {
            self.fatal.push(line.chars().take(300).collect());
        }
        if self.tail.len() == Self::KEPT {
            self.tail.remove(0);
        }
        self.tail.push(line.chars().take(300).collect());
    }

    /// The last lines on one line.
    pub fn last_words(&self) -> String {
        let from = if self.fatal.is_empty() { &self.tail } else { &self.fatal };
        from[from.len().saturating_sub(4)..].join(" | ")
    }
}

/// `2026-11-21 20:37:59.123456+00`, with whatever distance from UTC it names; the sandbox's log is in UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_end_matches('.');
    let (date, rest) = text.split_once(' ')?;
    let (time, zone) = match rest.find(['+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest.split(' ').next()?, ""),
    };
    let zone = zone.split(' ').next().unwrap_or_default();
    let zone = match zone.len() {
        0 => "Z".to_owned(),
        3 => format!("{zone}:00"),
        _ => zone.to_owned(),
    };
    format!("{date}T{}{zone}", time.trim()).parse().ok()
}

/// Cuts a program's output into lines; a line longer than the limit is cut.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    const LONGEST: usize = 64 << 10;

    pub(crate) fn feed(&mut self, piece: &LogOutput, mut each: impl FnMut(&str)) {
        for byte in piece.as_ref() {
            if *byte == b'\n' {
                each(&String::from_utf8_lossy(&self.rest));
                self.rest.clear();
            } else if self.rest.len() < Self::LONGEST {
                self.rest.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_read_from_its_log() {
        let mut replay = Replay::default();
        for line in [
            "2026-11-21 20:45:00.100 UTC [7] LOG:  starting archive recovery",
            "2026-11-21 20:45:00.200 UTC [7] LOG:  consistent recovery state reached at 0/2000120",
            "2026-11-21 20:45:00.200 UTC [1] LOG:  database system is ready to accept read-only connections",
            "2026-11-21 20:45:00.300 UTC [7] LOG:  redo done at 0/3000028 system usage: CPU: user: 0.00 s",
            "2026-11-21 20:45:00.300 UTC [7] LOG:  last completed transaction was at log time 2026-11-21 20:37:59.123456+00",
            "2026-11-21 20:45:00.400 UTC [7] LOG:  selected new timeline ID: 2",
        ] {
            replay.push(line);
            assert!(!replay.ready, "{line}");
        }
        replay.push("2026-11-21 20:45:00.500 UTC [1] LOG:  database system is ready to accept connections");
        assert!(replay.ready && replay.fatal.is_empty());
        assert_eq!(replay.consistent, Some(Lsn(0x200_0120)));
        assert_eq!(replay.redo_done, Some(Lsn(0x300_0028)));
        assert_eq!(replay.newest_commit, Some("2026-11-21T20:37:59.123456Z".parse().unwrap()));
        assert_eq!(replay.timeline, Some(2));
        replay.push("2026-11-21 20:45:00.500 UTC [7] FATAL:  could not find redo location");
        assert_eq!(replay.fatal.len(), 1);
    }

    #[test]
    fn lines_are_cut_across_pieces() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["a\nb", "c\n", "d"] {
            let piece = LogOutput::StdErr { message: piece.into() };
            lines.feed(&piece, |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["a", "bc"]);
    }
}
