//! From a request to a page: who asks, what they may see, which view, which page. Nothing else.

use std::{error::Error as _, sync::Arc};

use axum::{
    Form,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Tenant};
use maud::Markup;
use serde::Deserialize;

use super::{
    activity,
    context::{PageContext, Place},
    errors,
    evidence::{self, Wanted},
    filter::Filter,
    instance, login, overview, parts, run, runbook_run, runbooks, schedules, storage,
};
use crate::{
    auth::{Caller, Need, Refused},
    daemon::{Daemon, Scope},
    job::Verb,
    view::{self, EvidenceFilter},
    work::{self, Asked},
};

type Page = Result<Html<String>, Refused>;
type Of = State<Arc<Daemon>>;
/// A query that is not understood asks for nothing.
type Asking<T> = Result<Query<T>, QueryRejection>;

fn html(page: Markup) -> Html<String> {
    Html(page.into_string())
}

/// What the pages of somebody have in common.
fn context(daemon: &Daemon, caller: &Caller, scope: &Scope) -> PageContext {
    PageContext {
        now: daemon.now(),
        reader: Some(caller.clone()),
        place: Place::None,
        troubles: view::troubles(daemon, scope),
        looked: None,
    }
}

/// The log has why; whoever asks gets to know that it is not their fault.
fn broken(error: crate::Error) -> Refused {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    tracing::warn!("cannot make a page: {why}");
    Refused::unavailable("this cannot be looked up at the moment")
}

/// `GET /`.
pub(super) async fn overview(caller: Caller, State(daemon): Of, filter: Asking<Filter>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let Query(filter) = filter.unwrap_or_default();
    let found = view::overview(&daemon, &scope).await.map_err(broken)?;
    let context = context(&daemon, &caller, &scope);
    let made = tokio::task::spawn_blocking(move || html(overview::page(&found, &filter, &context))).await;
    made.map_err(|_| Refused::unavailable("the page could not be made"))
}

/// `GET /tenants/{tenant}/instances/{instance}`.
pub(super) async fn instance(caller: Caller, State(daemon): Of, Path((tenant, name)): Path<(String, String)>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let (tenant, name) = names(&tenant, &name)?;
    let found = view::instance(&daemon, &scope, &tenant, &name).await.map_err(broken)?;
    let found = found.ok_or_else(not_here)?;
    Ok(html(instance::page(&found, &context(&daemon, &caller, &scope))))
}

fn names(tenant: &str, instance: &str) -> Result<(Tenant, Instance), Refused> {
    let tenant: Tenant = tenant.parse().map_err(|_| not_here())?;
    Ok((tenant, instance.parse().map_err(|_| not_here())?))
}

/// What does not exist, in words for people.
fn not_here() -> Refused {
    Refused { hint: Some("follow a link of the overview, or check the address".to_owned()), ..Refused::not_found() }
}

/// What the forms of an instance send.
#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    csrf: String,
    verb: String,
}

/// `POST /tenants/{tenant}/instances/{instance}/runs`.
pub(super) async fn start(
    caller: Caller,
    State(daemon): Of,
    Path((tenant, name)): Path<(String, String)>,
    Form(form): Form<Start>,
) -> Result<Redirect, Refused> {
    caller.check_csrf(&form.csrf)?;
    let (tenant, name) = names(&tenant, &name)?;
    caller.may(Need::Act, &tenant)?;
    let verb = match form.verb.as_str() {
        "backup" => Verb::Backup,
        "drill" => Verb::Drill { random: false },
        _ => return Err(Refused::invalid("only a backup or a drill is begun here").in_tenant(&tenant)),
    };
    let asked = Asked { tenant: tenant.clone(), instance: Some(name), verb, who: caller.who };
    let run = daemon.start(asked).await.map_err(|refused| said(refused).in_tenant(&tenant))?;
    Ok(Redirect::to(&parts::run_path(&run.to_string())))
}

/// What the dispatcher said.
fn said(refused: work::Refused) -> Refused {
    match refused {
        work::Refused::Unknown(_) => not_here(),
        work::Refused::Already(why) => {
            Refused::conflict(why).hint("the page of the instance shows what waits and goes on")
        }
        work::Refused::Impossible(why) => Refused::invalid(why),
        work::Refused::NotNow(why) => Refused::unavailable(why),
    }
}

/// `GET /runs/{run}`.
pub(super) async fn run(caller: Caller, State(daemon): Of, Path(id): Path<String>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let id: RunId = id.parse().map_err(|_| not_here())?;
    let found = view::run(&daemon, &scope, id).await.map_err(broken)?.ok_or_else(not_here)?;
    Ok(html(run::page(&found, &context(&daemon, &caller, &scope))))
}

/// What a form without other fields sends.
#[derive(Deserialize)]
pub(super) struct Bare {
    #[serde(default)]
    csrf: String,
}

/// `POST /runs/{run}/cancel`.
pub(super) async fn cancel(
    caller: Caller,
    State(daemon): Of,
    Path(id): Path<String>,
    Form(form): Form<Bare>,
) -> Result<Redirect, Refused> {
    caller.check_csrf(&form.csrf)?;
    let scope = caller.scope(Need::Look)?;
    let id: RunId = id.parse().map_err(|_| not_here())?;
    let found = view::run(&daemon, &scope, id).await.map_err(broken)?.ok_or_else(not_here)?;
    let tenant: Tenant = found.line.tenant.parse().map_err(|_| not_here())?;
    caller.may(Need::Act, &tenant)?;
    daemon.cancel_run(id, &caller.who).await.map_err(|refused| said(refused).in_tenant(&tenant))?;
    Ok(Redirect::to(&parts::run_path(&id.to_string())))
}

/// `GET /evidence`.
pub(super) async fn evidence(caller: Caller, State(daemon): Of, wanted: Asking<Wanted>) -> Page {
    let scope = caller.scope(Need::Evidence)?;
    let Query(wanted) = wanted.unwrap_or_default();
    let filter = EvidenceFilter {
        tenant: named(&wanted.tenant)?,
        instance: named(&wanted.instance)?,
        kind: wanted.kind.clone().filter(|kind| !kind.is_empty()),
        before: wanted.before.as_deref().and_then(|before| before.parse::<Timestamp>().ok()),
    };
    let found = view::evidence(&daemon, &scope, filter, evidence::PER_PAGE).await.map_err(broken)?;
    let policies = daemon.policies();
    let tenants: Vec<String> = policies.sites.keys().filter(|name| scope.has(name)).map(Tenant::to_string).collect();
    Ok(html(evidence::list(&found, &wanted, &tenants, &context(&daemon, &caller, &scope))))
}

/// A name in a query; one that cannot be a name is refused, because a filter that does nothing must not look as if it did.
fn named<N: std::str::FromStr>(text: &Option<String>) -> Result<Option<N>, Refused> {
    match text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(name) => Ok(Some(name)),
            Err(_) => Err(Refused::new(StatusCode::BAD_REQUEST, format!("\"{text}\" cannot be a name"))
                .hint("names are made of a-z, 0-9 and '-'")),
        },
    }
}

/// `GET /evidence/{tenant}/{key}`.
pub(super) async fn statement(caller: Caller, State(daemon): Of, Path((tenant, key)): Path<(String, String)>) -> Page {
    let tenant: Tenant = tenant.parse().map_err(|_| not_here())?;
    caller.may(Need::Evidence, &tenant)?;
    let scope = caller.scope(Need::Evidence)?;
    let found = view::statement(&daemon, &scope, &tenant, &key).await.map_err(broken)?.ok_or_else(not_here)?;
    Ok(html(evidence::statement(&found, &context(&daemon, &caller, &scope))))
}

/// Which month.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Month {
    month: Option<String>,
}

/// `GET /schedules`.
pub(super) async fn schedules(caller: Caller, State(daemon): Of, month: Asking<Month>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let Query(Month { month }) = month.unwrap_or_default();
    let found = view::schedules(&daemon, &scope).await.map_err(broken)?;
    Ok(html(schedules::page(&found, month.as_deref(), &context(&daemon, &caller, &scope))))
}

/// `GET /runbooks`.
pub(super) async fn runbooks(caller: Caller, State(daemon): Of) -> Page {
    let scope = caller.scope(Need::Look)?;
    let (found, runs) = (view::runbooks(&daemon, &scope).await, view::runbook_runs(&daemon, &scope).await);
    Ok(html(runbooks::list(&found, &runs, &context(&daemon, &caller, &scope))))
}

/// `GET /runbooks/{tenant}/{file}`.
pub(super) async fn runbook(caller: Caller, State(daemon): Of, Path((tenant, file)): Path<(String, String)>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let tenant: Tenant = tenant.parse().map_err(|_| not_here())?;
    let found = view::runbook(&daemon, &scope, &tenant, &file).await.ok_or_else(not_here)?;
    let context = context(&daemon, &caller, &scope);
    // A text may have a megabyte.
    let made = tokio::task::spawn_blocking(move || html(runbooks::text(&found, &context))).await;
    made.map_err(|_| Refused::unavailable("the page could not be made"))
}

/// `GET /runbook-runs/{run}`.
pub(super) async fn runbook_run(caller: Caller, State(daemon): Of, Path(id): Path<String>) -> Page {
    let scope = caller.scope(Need::Look)?;
    let id: RunId = id.parse().map_err(|_| not_here())?;
    let found = view::runbook_run(&daemon, &scope, id).await.ok_or_else(not_here)?;
    Ok(html(runbook_run::page(&found, &context(&daemon, &caller, &scope))))
}

/// `GET /storage`.
pub(super) async fn storage(caller: Caller, State(daemon): Of) -> Page {
    let scope = caller.scope(Need::Look)?;
    let found = view::storage(&daemon, &scope).await.map_err(broken)?;
    Ok(html(storage::page(&found, &context(&daemon, &caller, &scope))))
}

/// `GET /activity`.
pub(super) async fn activity(caller: Caller, State(daemon): Of) -> Page {
    let scope = caller.scope(Need::Activity)?;
    let found = view::activity(&daemon, &scope, None, activity::PER_PAGE).await.map_err(broken)?;
    Ok(html(activity::page(&found, &context(&daemon, &caller, &scope))))
}

/// Why the last sign-in failed, and where to go after the next.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SignIn {
    problem: Option<String>,
    to: Option<String>,
}

/// `GET /login`. Whoever is signed in may sign in as somebody else.
pub(super) async fn login(State(daemon): Of, asked: Asking<SignIn>) -> Html<String> {
    let Query(SignIn { problem, to }) = asked.unwrap_or_default();
    let has_provider = daemon.policies().settings.oidc.is_some();
    let context =
        PageContext { now: daemon.now(), reader: None, place: Place::None, troubles: Vec::new(), looked: None };
    html(login::page(problem.as_deref().and_then(login::problem), to.as_deref(), has_provider, &context))
}

/// The page of a refusal, for whoever reads pages.
pub(super) fn refused(refused: &Refused, now: Timestamp) -> Response {
    let context = PageContext { now, reader: None, place: Place::None, troubles: Vec::new(), looked: None };
    let mut answer = (refused.status, html(errors::page(refused, &context))).into_response();
    if let Some(after) = refused.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    answer
}
