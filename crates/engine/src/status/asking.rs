//! What a look may ask, and for how long.

use std::{sync::Arc, time::Duration};

use super::{Facts, Statements};
use crate::{context::Context, keys::Environment};

/// Who looks at a status is in a hurry.
const PATIENCE: Duration = Duration::from_secs(5);
/// A listing of all that is stored takes seconds, and in large archives minutes.
const SLOW_PATIENCE: Duration = Duration::from_secs(30);
/// What changes slowly is looked up again after this time.
const SLOWLY: Duration = Duration::from_secs(600);

/// How a look goes about it.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// How long each question to something outside may take.
    pub patience: Duration,
    /// How long windows may take, and the listing of what is stored.
    pub slow_patience: Duration,
    /// For the secrets of servers and copies.
    pub environment: Environment<'a>,
    /// Copies, opened by [`super::open_copies`].
    pub copies: &'a [OpenedCopy],
    /// Whether PostgreSQL and the endpoints' certificates are asked; what is not asked counts as unknown.
    pub ask_servers: bool,
    /// The tenant's statements, listed once for many looks; none: this look lists them itself.
    pub statements: Option<&'a Statements>,
    /// An earlier look: what changes slowly is taken from there while it is younger than [`Asking::slowly`].
    pub before: Option<&'a Facts>,
    /// How old what changes slowly may be.
    pub slowly: Duration,
}

impl<'a> Asking<'a> {
    /// Everything, in a hurry, without copies.
    pub fn new(environment: Environment<'a>) -> Self {
        Asking {
            patience: PATIENCE,
            slow_patience: SLOW_PATIENCE,
            environment,
            copies: &[],
            ask_servers: true,
            statements: None,
            before: None,
            slowly: SLOWLY,
        }
    }
}

/// A copy of the configuration.
#[derive(Clone)]
pub struct OpenedCopy {
    /// The repository's name.
    pub name: String,
    /// Opened; none: nothing was ever copied there. The error says why it does not answer.
    pub opened: Result<Option<Arc<Context>>, String>,
}
