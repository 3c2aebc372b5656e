//! A drill that is held: when everything has been asked, the sandbox stays up for whoever wants to look into it, and is torn down
//! then as ever.
//!
//! Nothing that the drill found changes: every check has answered before, and the time that it is held counts nowhere but between
//! its beginning and its end. A drill in which Odoo did not come to serve has nothing to be held.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_model::id::RunId;
use lifeboat_odoo::login::SandboxLogin;
use url::Url;

/// Whoever wants to look into a sandbox.
#[async_trait]
pub trait Hold: Send + Sync {
    /// How long it is held at most.
    fn limit(&self) -> Duration;
    /// The data are there: replay is over, and was right.
    async fn restored(&self, restored: &Restored);
    /// Everything has been asked, and it is held from now on.
    async fn serving(&self, serving: &Serving);
    /// Comes back when nobody needs it any more.
    async fn released(&self);
}

/// What was brought back.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The drill.
    pub run: RunId,
    /// Where it lies, as every restore lays it out.
    pub folder: PathBuf,
    /// The recovery point, where it is one of a repository.
    pub point: Option<String>,
    /// The newest commit in it; where none was replayed, when the base backup began.
    pub newest_commit: Option<Timestamp>,
}

/// How to get in, from this host alone.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Odoo.
    pub url: Url,
    /// The folder of PostgreSQL's socket.
    pub socket: PathBuf,
    /// The number in the socket's name.
    pub port: u16,
    /// The superuser of the sandbox, whom the socket asks no password.
    pub role: String,
    /// Odoo's databases.
    pub databases: Vec<String>,
    /// What would have been lost, as the drill measured it.
    pub rpo: Option<Duration>,
    /// By database: a user of Odoo who exists in the sandbox only.
    pub logins: Vec<(String, SandboxLogin)>,
}
