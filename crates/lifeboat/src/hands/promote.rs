//! `promote`: `pg_promote()`, and only of a server that is in recovery. The fence before it is the course's business: without that
//! step's success there is no promotion.

use std::{fs, path::PathBuf, time::Duration};

use lifeboat_runbook::{
    action::promote::Promote,
    execute::{Acting, Outputs},
    template::Name,
};

use super::{Tools, of_slot, restore::begun, sql};

/// The database that every server has.
const DATABASE: &str = "postgres";
/// What this step says of a server that it has not promoted.
const NO_STANDBY: &str = "is no standby: it takes writes already, and nobody knows since when";
/// How long PostgreSQL itself is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn act(promote: &Promote, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    fenced(promote, acting)?;
    let options = sql::server(&promote.standby, acting, tools)?;
    let server = options.server();
    let mut client = sql::connect(&options, DATABASE).await?;
    let note = note(acting, tools);
    if !is_in_recovery(&mut client, &options).await? {
        begun::write(&note, b"")?;
        return Err(format!("{server} {NO_STANDBY}"));
    }
    if note.exists() {
        fs::remove_file(&note).map_err(|error| format!("cannot remove {}: {error}", note.display()))?;
    }
    let statement = format!("SELECT pg_promote(wait => true, wait_seconds => {})", PATIENCE.as_secs());
    // In recovery every transaction is read-only: one that is asked to write is refused.
    let rows = sql::ask(&mut client, &options, &statement, &[], true).await?;
    if rows.first().and_then(|row| row.first()) != Some(&Some("t".to_owned())) {
        return Err(format!(
            "{server} was told to promote, and is a standby after {} s: its log says why",
            PATIENCE.as_secs()
        ));
    }
    stands(&mut client, &options).await
}

pub(super) async fn was_done(promote: &Promote, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    let was_none = acting.failed.as_ref().is_some_and(|why| why.contains(NO_STANDBY));
    if was_none || note(acting, tools).exists() {
        // It wrote before anything was done here: trying again does not make it this step's doing.
        return Ok(None);
    }
    fenced(promote, acting)?;
    let options = sql::server(&promote.standby, acting, tools)?;
    let mut client = sql::connect(&options, DATABASE).await?;
    match is_in_recovery(&mut client, &options).await? {
        true => Ok(None),
        false => stands(&mut client, &options).await.map(Some),
    }
}

/// Where it is noted that the server was no standby when this step first saw it: later tries may fail for other reasons.
fn note(acting: &Acting<'_>, tools: &Tools) -> PathBuf {
    of_slot(&tools.slot(&acting.id), "no-standby")
}

/// Two primaries write two histories. What the step that fences gave must say that it did.
fn fenced(promote: &Promote, acting: &Acting<'_>) -> Result<(), String> {
    let step = promote.fenced_by.value.as_str();
    let outcome = Name::Output { step: step.to_owned(), name: "outcome".to_owned() };
    match acting.course.value(&outcome).as_deref() {
        Some("passed") => Ok(()),
        found => Err(format!(
            "the old primary is not known to be off: {step} is {}; nothing was promoted",
            found.unwrap_or("not done")
        )),
    }
}

async fn is_in_recovery(
    client: &mut tokio_postgres::Client,
    options: &lifeboat_postgres::ConnectOptions,
) -> Result<bool, String> {
    let rows = sql::ask(client, options, "SELECT pg_is_in_recovery()", &[], true).await?;
    Ok(rows.first().and_then(|row| row.first()) == Some(&Some("t".to_owned())))
}

/// Timeline and position of a primary.
async fn stands(
    client: &mut tokio_postgres::Client,
    options: &lifeboat_postgres::ConnectOptions,
) -> Result<Outputs, String> {
    // The name of the segment that is written says the timeline; the control file may still name the old one.
    let statement = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::text, \
                     pg_current_wal_lsn()::text";
    let rows = sql::ask(client, options, statement, &[], true).await?;
    let mut values = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    match (values.next(), values.next()) {
        (Some(timeline), Some(lsn)) => Ok(Outputs::from([("timeline".to_owned(), timeline), ("lsn".to_owned(), lsn)])),
        _ => Err("the server does not say where it stands".to_owned()),
    }
}
