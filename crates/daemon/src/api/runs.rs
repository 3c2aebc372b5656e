//! Runs: those that were, one as it goes on, and asking for one.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lifeboat_engine::scrub::Share;
use lifeboat_model::id::{Instance, RunId, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    answers::{Acting, Listing, One, broken},
    ask::{Asked, Body, Limit, Moment, Named, Nothing},
};
use crate::{
    auth::{Caller, Need, Refused},
    job::{RunOutcome, Verb},
    view::{self, RunLine, RunView},
    work::{self, Asked as Order},
};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(runs, start)).routes(routes!(run)).routes(routes!(cancel))
}

/// Runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Runs {
    /// The runs. Older ones: ask again with `before` set to the last one's time.
    runs: Vec<RunLine>,
}

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// Of this tenant.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,62}$", nullable = false)]
    tenant: Option<Tenant>,
    /// Of this instance.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,62}$", nullable = false)]
    instance: Option<Instance>,
    /// Of this verb: `backup`, `drill`, …
    #[param(nullable = false)]
    verb: Option<String>,
    /// Of this schedule.
    #[param(nullable = false)]
    schedule: Option<String>,
    /// That ended so.
    #[param(inline, value_type = Option<Outcome>, nullable = false)]
    outcome: Option<RunOutcome>,
    /// Begun, or due, before this.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    before: Option<Moment>,
    /// Begun, or due, then or later.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<Moment>,
    /// At most so many.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 100, nullable = false)]
    limit: Limit,
}

/// How a run ended.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes `RunOutcome`")]
enum Outcome {
    Passed,
    Failed,
    Incomplete,
    Interrupted,
    Missed,
}

/// Runs, newest first
#[utoipa::path(get, path = "/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = Runs), Listing))]
async fn runs(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<RunsQuery>,
) -> Result<Json<Runs>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let RunsQuery { tenant, instance, verb, schedule, outcome, before, since, limit } = asked;
    let filter = view::RunsFilter {
        tenant,
        instance,
        verb,
        schedule,
        outcome,
        before: before.map(|Moment(before)| before),
        since: since.map(|Moment(since)| since),
    };
    let runs = view::runs(&api.daemon, &scope, filter, limit.0).await.map_err(broken)?;
    Ok(Json(Runs { runs }))
}

/// What can be asked for. What deletes, writes files on the host or never ends is left to schedules and to people there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Backup,
    Drill,
    Control,
    Dump,
    Scrub,
    Locks,
    Signs,
    Copy,
    Audit,
}

/// A run that is asked for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartRun {
    /// The owner.
    #[schema(min_length = 1, max_length = 63)]
    tenant: String,
    /// The instance; none for `audit`, which is about the whole tenant.
    #[schema(min_length = 1, max_length = 63)]
    #[serde(default)]
    instance: Option<String>,
    /// What is to be done.
    verb: Work,
    /// Of `drill`: a point drawn at random instead of the newest.
    #[serde(default)]
    random: Option<bool>,
    /// Of `control`: `random`, `all` or a kind of docs/controls.md.
    #[schema(max_length = 40)]
    #[serde(default)]
    kind: Option<String>,
    /// Of `scrub`: how much is read again, as `1%/day`.
    #[schema(max_length = 20)]
    #[serde(default)]
    sample: Option<String>,
    /// Of `copy`: the repository's name; none: all copies.
    #[schema(max_length = 63)]
    #[serde(default)]
    to: Option<String>,
}

/// A run that waits to be begun, or to be stopped.
#[derive(Debug, Serialize, ToSchema)]
struct Accepted {
    /// Its id: `GET /api/v1/runs/{run}`.
    run: String,
}

/// Ask for a run: operators
///
/// It is begun as soon as the budget allows.
#[utoipa::path(
    post, path = "/runs", tag = "runs", request_body = StartRun,
    responses((status = 202, body = Accepted, description = "It waits to be begun."), Acting)
)]
async fn start(caller: Caller, State(api): State<Arc<Api>>, Body(asked): Body<StartRun>) -> Result<Response, Refused> {
    let tenant: Tenant = asked.tenant.parse().map_err(|_| Refused::not_found())?;
    caller.may(Need::Act, &tenant)?;
    let verb = asked.verb()?;
    let instance = match &asked.instance {
        Some(name) => Some(name.parse::<Instance>().map_err(|_| Refused::not_found())?),
        None => None,
    };
    if verb.is_tenant_wide() == instance.is_some() {
        return Err(Refused::invalid(match instance {
            Some(_) => format!("`{}` is about the whole tenant: leave `instance` out", verb.word()),
            None => format!("`{}` needs `instance`", verb.word()),
        }));
    }
    let order = Order { tenant: tenant.clone(), instance, verb, who: caller.who };
    let run = api.daemon.start(order).await.map_err(|refused| said(refused).in_tenant(&tenant))?;
    Ok(accepted(run))
}

impl StartRun {
    /// With what belongs to it, and nothing that belongs to another.
    fn verb(&self) -> Result<Verb, Refused> {
        let word = format!("{:?}", self.verb).to_lowercase();
        let extras = [
            ("random", self.random.is_some(), self.verb == Work::Drill),
            ("kind", self.kind.is_some(), self.verb == Work::Control),
            ("sample", self.sample.is_some(), self.verb == Work::Scrub),
            ("to", self.to.is_some(), self.verb == Work::Copy),
        ];
        if let Some((name, _, _)) = extras.into_iter().find(|(_, sent, wanted)| *sent && !wanted) {
            return Err(Refused::invalid(format!("`{name}` does not belong to `{word}`")));
        }
        Ok(match self.verb {
            Work::Backup => Verb::Backup,
            Work::Drill => Verb::Drill { random: self.random.unwrap_or_default() },
            Work::Control => {
                let kind = self.kind.clone().unwrap_or_else(|| "random".to_owned());
                let known = ["random", "all"].into_iter().chain(crate::schedule::CONTROLS);
                if !known.clone().any(|known| known == kind) {
                    let known: Vec<_> = known.collect();
                    return Err(Refused::invalid("`kind` is none that there is")
                        .hint(format!("use one of: {}", known.join(", "))));
                }
                Verb::Control { kind }
            }
            Work::Dump => Verb::Dump,
            Work::Scrub => {
                let sample = self.sample.as_deref().unwrap_or("1%/day");
                let share: Share = sample.parse().map_err(|_| {
                    Refused::invalid("`sample` is no share").hint("write a percentage a day, for example 1%/day")
                })?;
                Verb::Scrub { sample: share.to_string() }
            }
            Work::Locks => Verb::Locks,
            Work::Signs => Verb::Signs,
            Work::Copy => {
                let is_name = |name: &String| name.parse::<Instance>().is_ok(); // named by the same rule
                if self.to.as_ref().is_some_and(|name| !is_name(name)) {
                    return Err(
                        Refused::invalid("`to` is not the name of a copy").hint("copies are named in lifeboat.toml")
                    );
                }
                Verb::Copy { to: self.to.clone() }
            }
            Work::Audit => Verb::Audit,
        })
    }
}

fn accepted(run: RunId) -> Response {
    let mut answer = (StatusCode::ACCEPTED, Json(Accepted { run: run.to_string() })).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/api/v1/runs/{run}")) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    answer
}

/// What the dispatcher said.
fn said(refused: work::Refused) -> Refused {
    match refused {
        work::Refused::Unknown(_) => Refused::not_found(),
        work::Refused::Already(why) => Refused::conflict(why).hint("GET /api/v1/runs shows what waits and goes on"),
        work::Refused::Impossible(why) => Refused::invalid(why),
        work::Refused::NotNow(why) => Refused::unavailable(why),
    }
}

/// A run with what it told
#[utoipa::path(
    get, path = "/runs/{run}", tag = "runs",
    params(("run" = String, Path, description = "Its id.", pattern = "^[0-9a-f]{16}$")),
    responses((status = 200, body = RunView), One)
)]
async fn run(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named(run): Named<RunId>,
    _: Asked<Nothing>,
) -> Result<Json<RunView>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let found = view::run(&api.daemon, &scope, run).await.map_err(broken)?;
    found.map(Json).ok_or_else(Refused::not_found)
}

/// Call a run off: operators
///
/// One that waits is over at once, one that goes on is stopped and tears down what it began.
#[utoipa::path(
    post, path = "/runs/{run}/cancel", tag = "runs",
    params(("run" = String, Path, description = "Its id.", pattern = "^[0-9a-f]{16}$")),
    responses((status = 202, body = Accepted, description = "It is being stopped."), Acting)
)]
async fn cancel(caller: Caller, State(api): State<Arc<Api>>, Named(run): Named<RunId>) -> Result<Response, Refused> {
    let look = caller.scope(Need::Look)?;
    let row = api.daemon.state.run(run).await.map_err(broken)?;
    let row = row.filter(|row| look.has(&row.job.tenant)).ok_or_else(Refused::not_found)?;
    let tenant = row.job.tenant;
    caller.may(Need::Act, &tenant)?;
    api.daemon.cancel_run(run, &caller.who).await.map_err(|refused| said(refused).in_tenant(&tenant))?;
    Ok(accepted(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Verb, String> {
        let asked: StartRun = serde_json::from_str(text).map_err(|error| error.to_string())?;
        asked.verb().map_err(|refused| refused.message)
    }

    #[test]
    fn a_verb_takes_what_belongs_to_it() {
        let drill = asked(r#"{"tenant": "a", "instance": "b", "verb": "drill", "random": true}"#);
        assert_eq!(drill, Ok(Verb::Drill { random: true }));
        assert_eq!(asked(r#"{"tenant": "a", "verb": "scrub"}"#), Ok(Verb::Scrub { sample: "1%/day".into() }));
        for wrong in [
            r#"{"tenant": "a", "verb": "backup", "random": true}"#,
            r#"{"tenant": "a", "verb": "control", "kind": "--all"}"#,
            r#"{"tenant": "a", "verb": "scrub", "sample": "lots"}"#,
            r#"{"tenant": "a", "verb": "copy", "to": "--to"}"#,
            r#"{"tenant": "a", "verb": "prune"}"#,
            r#"{"tenant": "a", "verb": "report"}"#,
            r#"{"tenant": "a", "verb": "backup", "as": "root"}"#,
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
