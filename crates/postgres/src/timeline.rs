//! Timeline history files: where each timeline left the one before it.

use lifeboat_model::lsn::Lsn;

use crate::error::{Error, Result};

/// One line: a timeline that was left at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that was left.
    pub timeline: u32,
    /// Where.
    pub end: Lsn,
    /// Why, as the server noted it.
    pub reason: String,
}

/// Parses a history file (`0000000A.history`): the ancestors of a timeline, oldest first.
pub fn parse_history(content: &[u8]) -> Result<Vec<TimelineSwitch>> {
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let switches: Vec<TimelineSwitch> = lines.map(parse_line).collect::<Result<_>>()?;
    let is_ordered = switches.windows(2).all(|pair| pair[0].timeline < pair[1].timeline);
    if !is_ordered {
        return Err(Error::Invalid { what: "a timeline history", reason: "timelines do not ascend".into() });
    }
    Ok(switches)
}

fn parse_line(line: &str) -> Result<TimelineSwitch> {
    let mut fields = line.splitn(3, char::is_whitespace);
    let parsed =
        || Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next().unwrap_or_default()));
    match { parsed }() {
        Some((timeline, end, reason)) => Ok(TimelineSwitch { timeline, end, reason: reason.trim().to_owned() }),
        None => Err(Error::Invalid { what: "a timeline history", reason: format!("line \"{line}\"") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history() {
        let switches =
            parse_history(b"1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-01\n");
        let switches = switches.unwrap();
        assert_eq!(switches[0].timeline, 1);
        assert_eq!(switches[1].end, Lsn(0x500_0000));
        assert_eq!(switches[0].reason, "no recovery target specified");
        assert!(parse_history(b"2\t0/1\tx\n1\t0/2\ty\n").is_err());
        assert!(parse_history(b"one\t0/1\n").is_err());
    }
}
