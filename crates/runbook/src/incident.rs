//! What people note of an incident, line by line: the same chain of lines as a run's journal ([`crate::journal::Chain`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What happened in an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happened {
    /// It was declared.
    Opened {
        /// What is wrong, in their own words.
        text: String,
        /// The instance; none: it is about more than one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        /// Since when; what was committed before and did not come back is lost.
        since: Timestamp,
    },
    /// Somebody noted something.
    Noted {
        /// In their own words.
        text: String,
    },
    /// It is over.
    Closed {
        /// In their own words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}
