//! A run: what is to be done, to what, and why.

use std::fmt;

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Tenant};
use serde::{Deserialize, Serialize};

/// What a run does. Each is a command of `lifeboat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Verb {
    /// `lifeboat backup`.
    Backup,
    /// `lifeboat drill`: latest point, or one drawn at random.
    Drill {
        /// Whether the point is drawn at random.
        #[serde(default)]
        random: bool,
    },
    /// `lifeboat drill --sabotage`: a negative control.
    Control {
        /// `random`, `all` or a kind of docs/controls.md.
        kind: String,
    },
    /// `lifeboat dump`.
    Dump,
    /// `lifeboat verify --sample`: ciphertext is read again.
    Scrub {
        /// As `1%/day`.
        sample: String,
    },
    /// `lifeboat verify --locks`.
    Locks,
    /// `lifeboat verify --signs`.
    Signs,
    /// `lifeboat prune`.
    Prune,
    /// `lifeboat copy`.
    Copy {
        /// The repository's name; none: all copies.
        #[serde(default)]
        to: Option<String>,
    },
    /// `lifeboat evidence verify`, of the whole tenant.
    Audit,
    /// `lifeboat evidence report`, of the whole tenant or one instance.
    Report {
        /// `week`, `month`, `quarter` or `year`: the last whole one.
        period: String,
        /// Where the file is put; its name tells instance and period.
        folder: std::path::PathBuf,
    },
    /// `lifeboat wal stream`: goes on until it is stopped.
    Stream,
}

impl Verb {
    /// The word in configuration, API, pages and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Verb::Backup => "backup",
            Verb::Drill { .. } => "drill",
            Verb::Control { .. } => "control",
            Verb::Dump => "dump",
            Verb::Scrub { .. } => "scrub",
            Verb::Locks => "locks",
            Verb::Signs => "signs",
            Verb::Prune => "prune",
            Verb::Copy { .. } => "copy",
            Verb::Audit => "audit",
            Verb::Report { .. } => "report",
            Verb::Stream => "stream",
        }
    }

    /// Whether it is about the whole tenant and takes no instance.
    pub fn is_tenant_wide(&self) -> bool {
        matches!(self, Verb::Audit | Verb::Report { .. })
    }
}

/// Why a run is begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// A schedule said so.
    Schedule {
        /// Its name.
        schedule: String,
        /// When it was due, without jitter. With schedule and instance it names the run that must happen once.
        due: Timestamp,
    },
    /// A person asked for it.
    Asked {
        /// Who: the token's or the identity provider's name for them.
        who: String,
        /// When.
        at: Timestamp,
    },
}

impl fmt::Display for Because {
    /// In the words that evidence keeps: [`Because::read`] understands them again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::Schedule { schedule, due } => write!(f, "schedule {schedule}, due {due}"),
            Because::Asked { who, at } => write!(f, "asked by {who} at {at}"),
        }
    }
}

impl Because {
    /// From the words of [`Because`]'s display form.
    pub fn read(text: &str) -> Option<Because> {
        if let Some(rest) = text.strip_prefix("schedule ") {
            let (schedule, due) = rest.rsplit_once(", due ")?;
            return Some(Because::Schedule { schedule: schedule.to_owned(), due: due.parse().ok()? });
        }
        let (who, at) = text.strip_prefix("asked by ")?.rsplit_once(" at ")?;
        Some(Because::Asked { who: who.to_owned(), at: at.parse().ok()? })
    }
}

/// A run that is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id here. The statement of its process has an id of its own, and names this run by [`Because`].
    pub run: RunId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance; none for what is about the whole tenant.
    pub instance: Option<Instance>,
    /// What is done.
    pub verb: Verb,
    /// Why.
    pub because: Because,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Done, and good.
    Passed,
    /// Something was found wrong, or it could not be done.
    Failed,
    /// Done, and something that had to be there was not.
    Incomplete,
    /// Stopped by a person, by the end of the daemon or of the machine.
    Interrupted,
    /// Never begun: why stands beside it.
    Missed,
}

impl RunOutcome {
    /// The word in API, pages and logs.
    pub fn word(self) -> &'static str {
        match self {
            RunOutcome::Passed => "passed",
            RunOutcome::Failed => "failed",
            RunOutcome::Incomplete => "incomplete",
            RunOutcome::Interrupted => "interrupted",
            RunOutcome::Missed => "missed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_as_they_are_written() {
        let at = Timestamp::from_second(1_795_400_000).unwrap_or_default();
        for because in [
            Because::Schedule { schedule: "gold, due backup".into(), due: at },
            Because::Asked { who: "Ann at night".into(), at },
        ] {
            assert_eq!(Because::read(&because.to_string()), Some(because));
        }
        assert_eq!(Because::read("by hand"), None);
    }
}
