//! What people did.

use jiff::Timestamp;

use super::ActivityView;
use crate::{
    Result,
    daemon::{Daemon, Scope},
};

/// What people did and were refused, newest first. The daemon's own entries are seen by who sees all tenants.
pub async fn activity(
    daemon: &Daemon,
    scope: &Scope,
    before: Option<Timestamp>,
    limit: usize,
) -> Result<Vec<ActivityView>> {
    daemon.state.activities(&scope.0, before, limit).await
}
