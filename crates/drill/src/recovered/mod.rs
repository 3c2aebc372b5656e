//! Rungs of the ladder on a system that was recovered and runs: what a drill asks in its sandbox, asked of production.
//!
//! **In:** the folder of a restore with its [`Record`], the rungs, and where PostgreSQL and Odoo are. **Out:** a [`Report`]. The
//! checks are the drill's own wherever they only look. What would write is left out and said so: nobody is made a user, nothing
//! is printed, no picture is taken. Two things cannot be had without a write: a login leaves a row in Odoo's own record of logins,
//! and `pg_amcheck` needs its extension, which is taken away again where it was not there before.
//!
//! The first check is whether the server that answers runs on that very folder: the old production may still answer at the same
//! address. Nothing is asked of any other.

mod data;
mod database;
mod record;
mod server;
mod serving;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    secret::Secret,
};
use lifeboat_postgres::ConnectOptions;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use record::{RESTORED, Record, StopAt, VolumeOf};

use crate::{
    error::{Error, Result, with_causes},
    ladder::{self, Answer, Answered, Observer, Spec},
    measure,
    sandbox::Docker,
};

/// Whether anything else may be asked.
pub const SERVER: Spec = Spec {
    id: "recovered.server",
    rung: 5,
    purpose: "the server that is asked runs on the folder that was restored",
    expected: "the start that its postmaster.pid tells, and out of recovery",
    required: true,
};

/// A part of the ladder that makes sense here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Restored files against the server's manifest, before it is started.
    Files,
    /// Recovery came to its target.
    Replay,
    /// Heaps and indexes.
    Structure,
    /// Digests of tables that nobody has written since.
    Data,
    /// Every attachment's file.
    Attachments,
    /// Odoo serves, with all modules.
    Boot,
    /// A person can work.
    Use,
    /// Odoo's inalterability check.
    Books,
}

impl Rung {
    /// All of them, by name, in the order of the ladder.
    pub const ALL: [(&'static str, Rung); 8] = [
        ("files", Rung::Files),
        ("replay", Rung::Replay),
        ("structure", Rung::Structure),
        ("data", Rung::Data),
        ("attachments", Rung::Attachments),
        ("boot", Rung::Boot),
        ("use", Rung::Use),
        ("books", Rung::Books),
    ];

    /// The checks that must have passed.
    fn demanded(self) -> &'static [Spec] {
        match self {
            Rung::Files => &[ladder::MANIFEST],
            Rung::Replay => &[ladder::REPLAY],
            Rung::Structure => &[ladder::AMCHECK],
            Rung::Data => &[ladder::DIGESTS],
            Rung::Attachments => &[ladder::ATTACHMENTS],
            Rung::Boot => &[ladder::IMAGE, ladder::MODULES, ladder::EXTENSIONS, ladder::REGISTRY, ladder::LOG],
            Rung::Use => &[ladder::LOGIN, ladder::RECORDS, ladder::CONTENT],
            Rung::Books => &[ladder::BOOKS],
        }
    }

    /// Whether PostgreSQL is asked.
    fn asks_server(self) -> bool {
        self != Rung::Files
    }

    /// Whether Odoo is asked.
    fn asks_odoo(self) -> bool {
        matches!(self, Rung::Boot | Rung::Use | Rung::Books)
    }
}

/// Somebody who can log in to Odoo.
#[derive(Debug, Clone)]
pub struct Person {
    /// The login.
    pub login: String,
    /// The password.
    pub password: Secret,
}

/// What is to be verified.
pub struct Request {
    /// The folder of the restore.
    pub folder: PathBuf,
    /// What was restored into it.
    pub record: Record,
    /// What is asked.
    pub rungs: Vec<Rung>,
    /// The server, where somebody has said where it is.
    pub server: Option<ConnectOptions>,
    /// The server of the configuration: its role and password are used at a container's address as well.
    pub configured: Option<ConnectOptions>,
    /// PostgreSQL's container; none: the running one that has the restored PGDATA.
    pub postgres_container: Option<String>,
    /// Odoo's container; none: the running one that has the restored filestore.
    pub odoo_container: Option<String>,
    /// The filestore, where it does not lie where it was restored.
    pub filestore: Option<PathBuf>,
    /// Where Odoo answers; none: at its container's address.
    pub url: Option<Url>,
    /// Who logs in; none: nobody.
    pub person: Option<Person>,
    /// What the loss is counted back from.
    pub reference: Timestamp,
    /// How long one check may take.
    pub limit: Duration,
    /// The engine's address.
    pub docker: Option<String>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every check of the rungs that were asked, in the order of the ladder.
    pub checks: Vec<Check>,
    /// The sum.
    pub outcome: Outcome,
    /// The newest commit that was recovered.
    pub newest_commit: Option<Timestamp>,
    /// Its age at the reference.
    pub rpo: Option<Duration>,
    /// The server that was asked.
    pub server: Option<String>,
    /// The Odoo that was asked.
    pub odoo: Option<String>,
}

/// What has been found until now.
struct Found<'a> {
    checks: Vec<Answered>,
    observer: &'a dyn Observer,
}

impl Found<'_> {
    fn record(&mut self, answered: Answered) {
        self.observer.answered(&answered);
        self.checks.push(answered);
    }

    fn passed(&self, spec: &Spec) -> bool {
        self.checks.iter().any(|known| known.check.id == spec.id && known.check.verdict.is_passed())
    }
}

/// Verifies. An error is only what keeps it from being begun.
pub async fn verify(request: &Request, observer: &dyn Observer, cancel: &CancellationToken) -> Result<Report> {
    let stopped = || Error::NotRecovered { why: "stopped before it was done".to_owned() };
    cancel.run_until_cancelled(climb(request, observer)).await.unwrap_or_else(|| Err(stopped()))
}

async fn climb(request: &Request, observer: &dyn Observer) -> Result<Report> {
    let mut rungs = request.rungs.clone();
    rungs.sort_unstable();
    rungs.dedup();
    let mut found = Found { checks: Vec::new(), observer };
    let (mut newest_commit, mut server_name, mut odoo_name) = (None, None, None);
    let mut is_known = false;
    if rungs.contains(&Rung::Files) {
        database::files(request, &mut found).await;
    }
    let docker = Docker::connect(request.docker.as_deref()).await;
    if rungs.iter().any(|rung| rung.asks_server()) {
        let begun = Instant::now();
        match server::Server::find(request, docker.as_ref().ok()).await {
            Ok(server) => {
                let name = server.name();
                observer.phase(&format!("ask {name}"));
                server_name = Some(name);
                let answer = server.is_the_restored(request, observer).await;
                found.record(SERVER.answered(answer, begun.elapsed()));
                if found.passed(&SERVER) {
                    (newest_commit, is_known) = newest(request, &server).await?;
                    database::climb(request, &rungs, &server, newest_commit, &mut found).await;
                    if rungs.iter().any(|rung| rung.asks_odoo()) {
                        let asked = serving::climb(request, &rungs, &server, docker.as_ref().ok(), &mut found).await;
                        match asked {
                            Ok(name) => odoo_name = name,
                            Err(error) => observer.phase(&format!("Odoo cannot be asked: {}", with_causes(&error))),
                        }
                    }
                }
            }
            Err(error) => found.record(SERVER.answered(Answer::impossible(&error), begun.elapsed())),
        }
    }
    if found.passed(&ladder::REPLAY) {
        newest_commit = newest_commit.or(request.record.newest_held);
    }
    // Where no commit came behind the backup, it goes back to its beginning; where nobody knows whether one did, it is not told.
    let back_to = newest_commit.or(request.record.began.filter(|_| is_known));
    let rpo = back_to.and_then(|back_to| measure::rpo(request.reference, Some(back_to)));
    let checks = finish(&rungs, found);
    let outcome = outcome(&rungs, &checks);
    Ok(Report { checks, outcome, newest_commit, rpo, server: server_name, odoo: odoo_name })
}

/// The newest commit that was replayed, and whether that is known at all. A server forgets it when it is started again, so the first
/// look is kept beside the data.
async fn newest(request: &Request, server: &server::Server) -> Result<(Option<Timestamp>, bool)> {
    let record = &request.record;
    if !record.database {
        return Ok((None, true)); // the server that was there has recovered from nothing
    }
    if record.newest_replayed.is_some() {
        return Ok((record.newest_replayed, true));
    }
    let newest = database::newest_commit(server).await?;
    if newest.is_none() {
        return Ok((None, !database::was_restarted(request, server).await?));
    }
    let mut kept = record.clone();
    kept.newest_replayed = newest;
    if let Err(error) = kept.write(&request.folder) {
        tracing::warn!(error = %with_causes(&error), "the newest commit is not kept: it is known until the server is started again");
    }
    Ok((newest, true))
}

/// What was not reached is told, and why.
fn finish(rungs: &[Rung], found: Found<'_>) -> Vec<Check> {
    let mut checks: Vec<Check> = found.checks.into_iter().map(|answered| answered.check).collect();
    let server = checks.iter().find(|check| check.id == SERVER.id).map(|check| check.verdict.clone());
    let why = match server {
        Some(Verdict::Failed(why) | Verdict::NotExecuted(why)) => why,
        _ => "not reached".to_owned(),
    };
    for spec in rungs.iter().flat_map(|rung| rung.demanded()) {
        if checks.iter().all(|check| check.id != spec.id) {
            checks.push(spec.not_executed(&why).check);
        }
    }
    let place = |check: &Check| ladder::LADDER.iter().position(|spec| spec.id == check.id);
    checks.sort_by_key(|check| (check.rung, place(check)));
    checks
}

/// Wrong is wrong; every demanded check must have passed.
fn outcome(rungs: &[Rung], checks: &[Check]) -> Outcome {
    let mut demanded: Vec<String> =
        rungs.iter().flat_map(|rung| rung.demanded()).map(|spec| spec.id.to_owned()).collect();
    if rungs.iter().any(|rung| rung.asks_server()) {
        demanded.push(SERVER.id.to_owned());
    }
    ladder::outcome(checks, &demanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_not_reached_is_no_pass() {
        let rungs = [Rung::Structure, Rung::Attachments];
        let mut found = Found { checks: Vec::new(), observer: &ladder::Silent };
        found.record(SERVER.answered(Answer::passed("it is"), Duration::ZERO));
        found.record(ladder::AMCHECK.answered(Answer::passed("sound"), Duration::ZERO));
        let checks = finish(&rungs, found);
        assert_eq!(checks.len(), 3);
        assert!(matches!(checks[2].verdict, Verdict::NotExecuted(_)), "{checks:?}");
        assert_eq!(outcome(&rungs, &checks), Outcome::Incomplete);
        assert_eq!(outcome(&[Rung::Structure], &checks), Outcome::Passed);
    }

    #[test]
    fn another_server_fails_and_says_so_for_every_rung() {
        let rungs = [Rung::Data];
        let mut found = Found { checks: Vec::new(), observer: &ladder::Silent };
        found.record(SERVER.answered(Answer::failed("another server"), Duration::ZERO));
        let checks = finish(&rungs, found);
        assert_eq!(checks[1].verdict, Verdict::NotExecuted("another server".to_owned()));
        assert_eq!(outcome(&rungs, &checks), Outcome::Failed);
    }
}
