//! `promote`: makes a standby the primary (`pg_promote`), after the old primary was fenced.
//!
//! Two primaries write two histories, and one of them is lost: so `fenced_by` names the earlier step that made sure that the
//! old one is off, and without that step's success nothing is promoted. It destroys: the old primary cannot follow any more.
//! After a crash `pg_is_in_recovery()` tells whether it was done. Practice does not do it: a drill restores a primary.

use lifeboat_model::config::reading::{Result, Table};

use super::{Act, Again, Effect, Practice, Show, server::Server};
use crate::{error::Placed, step::placed, values::name};

/// Makes a standby the primary.
#[derive(Debug, Clone, PartialEq)]
pub struct Promote {
    /// The standby.
    pub standby: Server,
    /// The step that fenced the old primary.
    pub fenced_by: Placed<String>,
}

impl Promote {
    pub(crate) fn read(table: &Table<'_>) -> Result<Promote> {
        let standby = Server::read(table);
        let hint = "name the earlier step that makes sure that the old primary is off";
        let fenced_by = table.required("fenced_by", hint, |value| placed(value, name));
        Ok(Promote { standby: standby?, fenced_by: fenced_by? })
    }
}

impl Act for Promote {
    fn outputs(&self) -> &'static [&'static str] {
        &["timeline", "lsn"]
    }

    fn words(&self, show: Show<'_>) -> String {
        format!("promote {}, the old primary being fenced by {}", self.standby.words(show), self.fenced_by.value)
    }

    fn effect(&self) -> Effect {
        Effect::Destroys
    }

    fn again(&self) -> Again {
        Again::Look("whether the server is in recovery is asked first")
    }

    fn practice(&self) -> Practice {
        Practice::Not("a sandbox has no standby")
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        vec![self.standby.words(show)]
    }
}
