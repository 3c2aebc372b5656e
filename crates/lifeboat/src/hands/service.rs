//! `start` and `stop`: containers by the engine, units by `systemctl`, Compose projects by `docker compose`.
//!
//! Both look first: what runs already is not started, and what is stopped not stopped. Neither removes anything.

use std::time::Duration;

use lifeboat_drill::service::{Condition, Containers};
use lifeboat_runbook::{
    action::service::{Service, Stop},
    execute::{Acting, Outputs},
};
use tokio::process::Command;

use super::{Tools, fill_all, program};

/// How often a container that comes up is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long something may take to end by itself, unless the block says so.
const GRACE: Duration = Duration::from_secs(60);

pub(super) async fn start(service: &Service, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    match service {
        Service::Containers(names) => {
            let engine = engine().await?;
            for name in fill_all(acting, names) {
                if !is_up(&engine, &name).await? {
                    engine.start(&name).await.map_err(causes)?;
                }
                comes_up(&engine, &name).await?;
            }
        }
        Service::Unit(unit) => {
            systemctl(&["start", &acting.course.fill(unit)], acting, tools).await.and_then(passed)?
        }
        Service::Compose { .. } => {
            let services = services(service, acting);
            let up = ["up".to_owned(), "--detach".to_owned()];
            compose(service, &[&up, &services[..]].concat(), acting, tools).await.and_then(passed)?;
            let engine = engine().await?;
            for id in compose_containers(service, acting, tools).await? {
                comes_up(&engine, &id).await?;
            }
        }
    }
    Ok(Outputs::new())
}

pub(super) async fn stop(stop: &Stop, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let grace = stop.grace.map_or(GRACE, |grace| grace.0);
    match &stop.service {
        Service::Containers(names) => {
            let engine = engine().await?;
            for name in fill_all(acting, names) {
                engine.stop(&name, grace).await.map_err(causes)?;
            }
        }
        Service::Unit(unit) => systemctl(&["stop", &acting.course.fill(unit)], acting, tools).await.and_then(passed)?,
        service @ Service::Compose { .. } => {
            let (timeout, services) = (format!("--timeout={}", grace.as_secs()), services(service, acting));
            compose(service, &[&["stop".to_owned(), timeout], &services[..]].concat(), acting, tools)
                .await
                .and_then(passed)?;
        }
    }
    match is_stopped(stop, acting, tools).await? {
        Some(outputs) => Ok(outputs),
        None => Err("it was stopped, and runs again: something else starts it".to_owned()),
    }
}

/// Whether all of it runs, and is healthy where it can say so.
pub(super) async fn is_started(
    service: &Service,
    acting: &Acting<'_>,
    tools: &Tools,
) -> Result<Option<Outputs>, String> {
    let is_started = match service {
        Service::Containers(names) => all_are(fill_all(acting, names), Condition::Up).await?,
        Service::Unit(unit) => {
            systemctl(&["is-active", &acting.course.fill(unit)], acting, tools).await?.code() == Some(0)
        }
        // Twice is as once: the project is told again.
        Service::Compose { .. } => false,
    };
    Ok(is_started.then(Outputs::new))
}

/// Whether none of it runs.
pub(super) async fn is_stopped(stop: &Stop, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    let is_stopped = match &stop.service {
        Service::Containers(names) => all_are(fill_all(acting, names), Condition::Down).await?,
        Service::Unit(unit) => unit_is_stopped(&acting.course.fill(unit), acting, tools).await?,
        service @ Service::Compose { .. } => compose_containers(service, acting, tools).await?.is_empty(),
    };
    Ok(is_stopped.then(Outputs::new))
}

/// Only a unit that is there and says so is stopped: one that nobody knows, or that is still on its way down, is not.
async fn unit_is_stopped(unit: &str, acting: &Acting<'_>, tools: &Tools) -> Result<bool, String> {
    let asked = systemctl(&["show", "--property=LoadState", "--property=ActiveState", unit], acting, tools).await?;
    if asked.code() != Some(0) {
        return Err(format!("systemctl {}", asked.tail()));
    }
    let says = |wanted: &str| asked.raw().lines().any(|line| line.trim() == wanted);
    if says("LoadState=not-found") {
        return Err(format!("there is no unit {unit}"));
    }
    Ok(says("ActiveState=inactive") || says("ActiveState=failed"))
}

async fn engine() -> Result<Containers, String> {
    Containers::connect(crate::wire::environment("DOCKER_HOST").as_deref()).await.map_err(causes)
}

fn causes(error: lifeboat_drill::Error) -> String {
    crate::failure::causes(&error)
}

async fn all_are(names: Vec<String>, wanted: Condition) -> Result<bool, String> {
    let engine = engine().await?;
    for name in names {
        if engine.look(&name).await.map_err(causes)? != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_up(engine: &Containers, name: &str) -> Result<bool, String> {
    Ok(matches!(engine.look(name).await.map_err(causes)?, Condition::Up | Condition::ComingUp))
}

/// Waits until it runs, and is healthy where it can say so. One that ends meanwhile does not come up.
async fn comes_up(engine: &Containers, name: &str) -> Result<(), String> {
    loop {
        match engine.look(name).await.map_err(causes)? {
            Condition::Up => return Ok(()),
            Condition::ComingUp => tokio::time::sleep(LOOK).await,
            Condition::Down => {
                let log = engine.last_words(name).await.unwrap_or_default();
                return Err(format!("container {name} has ended: {log}"));
            }
        }
    }
}

async fn systemctl(arguments: &[&str], acting: &Acting<'_>, tools: &Tools) -> Result<program::Ended, String> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    program::run(command, &tools.slot(&acting.id), tools).await
}

fn passed(ended: program::Ended) -> Result<(), String> {
    if ended.code() == Some(0) { Ok(()) } else { Err(ended.tail()) }
}

fn services(service: &Service, acting: &Acting<'_>) -> Vec<String> {
    match service {
        Service::Compose { services, .. } => fill_all(acting, services),
        Service::Containers(_) | Service::Unit(_) => Vec::new(),
    }
}

/// `docker compose`, or the program of its own that it was before.
async fn compose(
    service: &Service,
    arguments: &[impl AsRef<std::ffi::OsStr>],
    acting: &Acting<'_>,
    tools: &Tools,
) -> Result<program::Ended, String> {
    let Service::Compose { file, .. } = service else { return Err("a defect of ours: no Compose project".to_owned()) };
    let (file, slot) = (tools.path(&acting.course.fill(file)), tools.slot(&acting.id));
    let mut plugin = Command::new("docker");
    plugin.args(["compose", "version"]);
    let has_plugin = program::run(plugin, &slot, tools).await.is_ok_and(|ended| ended.code() == Some(0));
    let mut command = if has_plugin { Command::new("docker") } else { Command::new("docker-compose") };
    if has_plugin {
        command.arg("compose");
    }
    command.arg("--file").arg(file).args(arguments);
    let needs = |why| format!("{why} (Debian: package docker-compose)");
    program::run(command, &slot, tools).await.map_err(needs)
}

/// The ids of the project's containers that run.
async fn compose_containers(service: &Service, acting: &Acting<'_>, tools: &Tools) -> Result<Vec<String>, String> {
    let services = services(service, acting);
    let arguments = [&["ps".to_owned(), "--quiet".to_owned()], &services[..]].concat();
    let ended = compose(service, &arguments, acting, tools).await?;
    if ended.code() != Some(0) {
        return Err(ended.tail());
    }
    let engine = engine().await?;
    let mut running = Vec::new();
    for id in ended.raw().lines().map(str::trim).filter(|line| line.len() == 64) {
        if is_up(&engine, id).await? {
            running.push(id.to_owned());
        }
    }
    Ok(running)
}
