//! How long things stay, and how firmly: words shared by policy, repository and store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a store refuses to delete an object before its time (S3 Object Lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Who holds a special right can still delete; for trying out, and for tiers that must be able to.
    Governance,
    /// Nobody can, the account's owner included.
    Compliance,
}

impl LockMode {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
