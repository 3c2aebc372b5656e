//! One moment, restored into a sandbox of its own and asked.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use lifeboat_engine::{
    recovery::{self, Plan, Wish},
    restore::Parts,
};
use lifeboat_model::{id::PointId, lsn::Lsn};
use lifeboat_postgres::digest::{self, DatabaseDigest};
use lifeboat_repo::point::PointSelector;
use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState, types::Type};

use super::{FindRequest, Moment, Question, field::Stations};
use crate::{
    checks::replay::{next_end, switch_point},
    error::{Error, Result, with_causes},
    extract::{self, ExtractRequest, Restored},
    ladder::Silent,
    point::RepositoryPoint,
};

/// Sessions that look at rows at the same time.
const SESSIONS: usize = 4;

/// What a restored moment told.
pub(super) struct Answered {
    /// What was restored, in words.
    pub restored: String,
    /// The point that it began from.
    pub base: Option<PointId>,
    /// The value; or why it could not be asked there.
    pub answer: Result<String, String>,
    /// The newest commit that was replayed.
    pub newest: Option<Timestamp>,
    /// When what came next ended, where recovery stopped before it.
    pub next: Option<Timestamp>,
    /// Where replay ended.
    pub lsn: Option<Lsn>,
    /// When the base backup began.
    pub began: Option<Timestamp>,
    /// What every table holds, and how long that took.
    pub digest: Option<(Result<DatabaseDigest, String>, std::time::Duration)>,
}

/// Asks moments.
pub(super) struct Asker<'a> {
    pub request: &'a FindRequest,
    /// Nothing was asked before: a name that is wrong is told at once.
    pub is_first: bool,
    /// The points, among which another is looked for where one cannot be restored.
    pub stations: &'a Stations,
    /// A point that was restored before: then it is this one.
    pub spare: Option<PointId>,
}

impl Asker<'_> {
    /// Restores, asks, and tears down.
    pub async fn ask(&self, moment: &Moment, with_digest: bool) -> Result<Answered> {
        let wish = moment.wish();
        let plan = self.plan(&wish).await?;
        let base = plan.base.header.point;
        let asked = self.of_plan(wish.clone(), plan, with_digest).await;
        let spare = self.spare.or_else(|| self.stations.older(base));
        let spare = spare.filter(|spare| *spare != base && wish.point.is_none());
        match (asked, spare) {
            (Err(error), Some(spare)) if error.is_damage() => {
                let wish = Wish { point: Some(PointSelector::Id(spare.to_string())), ..wish };
                let plan = match self.plan(&wish).await {
                    Ok(plan) => plan,
                    Err(other) => {
                        tracing::info!(%error, "not from another point either: {}", with_causes(&other));
                        return Err(error);
                    }
                };
                self.of_plan(wish, plan, with_digest).await
            }
            (asked, _) => asked,
        }
    }

    async fn plan(&self, wish: &Wish) -> Result<Plan> {
        let FindRequest { repo, trusted, identities, .. } = self.request;
        let planned = recovery::plan(repo, trusted, identities, wish).await;
        planned.map_err(|error| Error::source("cannot bring this moment back")(Box::new(error)))
    }

    async fn of_plan(&self, wish: Wish, plan: Plan, with_digest: bool) -> Result<Answered> {
        let request = self.request;
        let base = plan.base.header.point;
        let keys = (request.trusted.clone(), request.identities.clone());
        let (clock, progress, cancel) = (request.clock.clone(), request.progress.clone(), request.cancel.clone());
        let source = RepositoryPoint::new(request.repo.clone(), wish, keys, clock, progress, cancel);
        let run = lifeboat_engine::record::new_run();
        let extract = ExtractRequest {
            run: run.map_err(|_| Error::NoRandomness)?,
            tenant: request.tenant.clone(),
            instance: request.instance.clone(),
            login_hint: request.login_hint.clone(),
            config: request.config.clone(),
            source: Arc::new(source.planned(plan).only(Parts { database: true, filestore: false, config: false })),
            work_root: request.work_root.clone(),
            docker: request.docker.clone(),
            clock: request.clock.clone(),
        };
        let question = &request.question;
        let work = async |restored: &Restored| {
            if self.is_first {
                restored.database(&question.database)?;
            }
            let answer = answer(restored, question).await?;
            let begun = Instant::now();
            let digest = match with_digest && answer.is_ok() {
                true => Some(rows(restored, &question.database).await.map_err(|error| with_causes(&error))),
                false => None,
            };
            let pgdata = restored.folder.join("pgdata");
            Ok(Answered {
                restored: restored.selected.name.clone(),
                base: Some(base),
                answer,
                newest: restored.replay.newest_commit,
                next: next_end(&restored.replay),
                lsn: restored.replay.timeline.and_then(|timeline| switch_point(&pgdata, timeline)),
                began: restored.began,
                digest: digest.map(|digest| (digest, begun.elapsed())),
            })
        };
        Ok(extract::run(extract, &Silent, &request.cancel, work).await?.value)
    }
}

/// What the check gives; why it could not be asked of this moment; or an error where it can be asked of none.
async fn answer(restored: &Restored, question: &Question) -> Result<Result<String, String>> {
    if !restored.databases.contains(&question.database) {
        let known = restored.databases.join(", ");
        return Ok(Err(format!("there is no database \"{}\" in it; there are: {known}", question.database)));
    }
    let client = restored.connect(&question.database).await?;
    match tokio::time::timeout(question.timeout, ask(&client, question)).await {
        Ok(answered) => answered,
        Err(_) => Ok(Err(format!("no answer within {} s", question.timeout.as_secs_f64()))),
    }
}

async fn ask(client: &Client, question: &Question) -> Result<Result<String, String>> {
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", question.timeout.as_millis());
    client.batch_execute(&begin).await.map_err(Error::sql("begin the check"))?;
    // Also tells one statement from several.
    let prepared = match client.prepare(&question.sql).await {
        Ok(prepared) => prepared,
        Err(error) => return refused(error),
    };
    let [column] = prepared.columns() else {
        let why = format!("it gives {} columns, and one value is compared", prepared.columns().len());
        return Err(Error::Question { why });
    };
    let is_bool = *column.type_() == Type::BOOL;
    let messages = match client.simple_query(&question.sql).await {
        Ok(messages) => messages,
        Err(error) => return refused(error),
    };
    let rows: Vec<Option<&str>> = messages
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row.get(0)) } else { None })
        .collect();
    Ok(match rows.as_slice() {
        [value] => Ok(shown(*value, is_bool)),
        rows => Err(format!("it gives {} rows, and one value is compared", rows.len())),
    })
}

fn shown(value: Option<&str>, is_bool: bool) -> String {
    match value {
        None => "NULL",
        Some("t") if is_bool => "true",
        Some("f") if is_bool => "false",
        Some(value) => value,
    }
    .to_owned()
}

/// What PostgreSQL refuses. A statement that is no SQL is none at any moment; a table may be missing at one and there at another.
fn refused(error: tokio_postgres::Error) -> Result<Result<String, String>> {
    let Some(said) = error.as_db_error() else { return Err(Error::sql("ask the check")(error)) };
    let why = format!("PostgreSQL says: {}", said.message());
    match *said.code() == SqlState::SYNTAX_ERROR {
        true => Err(Error::Question { why }),
        false => Ok(Err(why)),
    }
}

/// What every table of the database holds.
async fn rows(restored: &Restored, database: &str) -> Result<DatabaseDigest> {
    let sessions = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(SESSIONS));
    let mut clients = Vec::new();
    for _ in 0..sessions {
        clients.push(restored.connect(database).await?);
    }
    Ok(digest::run_like(&clients, None, &digest::Options::default()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_written_out_and_nothing_is_no_text() {
        assert_eq!(shown(Some("t"), true), "true");
        assert_eq!(shown(Some("f"), true), "false");
        assert_eq!(shown(Some("t"), false), "t");
        assert_eq!(shown(None, false), "NULL");
    }
}
