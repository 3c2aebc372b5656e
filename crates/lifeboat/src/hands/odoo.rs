//! `odoo`: whether it is healthy, whether somebody can log in, whether it has the modules.

use std::time::Duration;

use lifeboat_odoo::{login::SandboxLogin, rpc::Session};
use lifeboat_runbook::{
    action::odoo::{Check, Odoo},
    execute::{Acting, Outputs},
    template::Template,
};
use serde_json::{Value, json};
use url::Url;

use super::Tools;

/// For one answer of Odoo.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn act(odoo: &Odoo, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let url = acting.course.fill(&odoo.url);
    let base: Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let login = match &odoo.check {
        Check::Health => None,
        Check::Login { user, password, .. } | Check::Modules { user, password, .. } => {
            let password = tools.secret(password, acting)?;
            Some(SandboxLogin { id: 0, login: acting.course.fill(user), password })
        }
    };
    ask(odoo, base, login, acting).await
}

/// Asks the Odoo at this address, as this user.
pub(super) async fn ask(
    odoo: &Odoo,
    base: Url,
    login: Option<SandboxLogin>,
    acting: &Acting<'_>,
) -> Result<Outputs, String> {
    let failed = |error: lifeboat_odoo::Error| crate::failure::causes(&error);
    match &odoo.check {
        Check::Health => health(&Session::new(base, PATIENCE).map_err(failed)?).await,
        Check::Login { database, .. } => log_in(base, database, login, acting).await.map(|(_, version)| version),
        Check::Modules { database, modules, .. } => {
            let (session, outputs) = log_in(base, database, login, acting).await?;
            let domain = json!([["name", "in", modules], ["state", "=", "installed"]]);
            let most = u32::try_from(modules.len()).unwrap_or(u32::MAX);
            let found = session.search_read("ir.module.module", domain, &["name"], most).await.map_err(failed)?;
            let found: Vec<&str> = found.iter().filter_map(|row| row["name"].as_str()).collect();
            let missing: Vec<&str> = modules.iter().map(String::as_str).filter(|name| !found.contains(name)).collect();
            match missing.is_empty() {
                true => Ok(outputs),
                false => Err(format!("not installed: {}", missing.join(", "))),
            }
        }
    }
}

/// Old versions have no page that tells of health; their login page is one that Odoo itself has to make.
async fn health(session: &Session) -> Result<Outputs, String> {
    for page in ["web/health", "web/login"] {
        match session.answer(page).await {
            Ok((200, _)) => return Ok(Outputs::new()),
            Ok((404, _)) if page == "web/health" => {}
            Ok((status, body)) => {
                let body: String = body.chars().take(200).collect();
                return Err(format!("/{page} answered {status}: {body}"));
            }
            Err(error) => return Err(crate::failure::causes(&error)),
        }
    }
    Err("it answers, and has neither /web/health nor /web/login".to_owned())
}

async fn log_in(
    base: Url,
    database: &Template,
    login: Option<SandboxLogin>,
    acting: &Acting<'_>,
) -> Result<(Session, Outputs), String> {
    let failed = |error: lifeboat_odoo::Error| crate::failure::causes(&error);
    let login = login.ok_or_else(|| "nobody was named who logs in".to_owned())?;
    let database = acting.course.fill(database);
    let session = Session::login(base, &database, &login, PATIENCE).await.map_err(failed)?;
    let domain = json!([["name", "=", "base"]]);
    let base = session.search_read("ir.module.module", domain, &["latest_version"], 1).await;
    // Not everybody may read the list of modules; whoever can log in can log in.
    let version =
        base.ok().and_then(|rows| rows.first()?.get("latest_version").and_then(Value::as_str).map(str::to_owned));
    Ok((session, version.map(|version| ("version".to_owned(), version)).into_iter().collect()))
}
