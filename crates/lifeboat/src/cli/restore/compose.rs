//! `--to-compose`: which volumes the services of a Compose file have. Compose itself is asked: it alone knows what its file means.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::docker::Volumes;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
};

/// The programs that may be there, and the words that make them Compose.
const PROGRAMS: [(&str, &[&str]); 2] = [("docker", &["compose"]), ("docker-compose", &[])];
/// It reads files and asks nobody.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the official image of PostgreSQL has its data.
const PGDATA: &str = "/var/lib/postgresql/data";
/// Where the official image of Odoo has its data folder.
const DATA_DIR: &str = "/var/lib/odoo";

/// Asks.
pub async fn volumes(file: &Path, postgres: &str, odoo: &str) -> Result<Volumes> {
    let config = config(file).await?;
    named(&config, postgres, odoo).map_err(|why| {
        let failure = Failure::new(Exit::Config, format!("{}: {why}", file.display())).safe("nothing was done");
        failure.hint("name the volumes with --to-docker, or restore with --to and mount the folders")
    })
}

/// The whole configuration, as the first program that is Compose understands it.
async fn config(file: &Path) -> Result<Value> {
    let mut refused = Vec::new();
    for (program, words) in PROGRAMS {
        let mut command = Command::new(program);
        command.args(words).arg("--file").arg(file).args(["config", "--format", "json"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let name = [&[program], words].concat().join(" ");
        let output = match timeout(LIMIT, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
            Err(_) => {
                refused.push(format!("{name}: no answer within {} s", LIMIT.as_secs()));
                continue;
            }
        };
        if let Ok(config) = serde_json::from_slice(&output.stdout)
            && output.status.success()
        {
            return Ok(config);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no answer");
        refused.push(format!("{name}: {last}"));
    }
    let mut failure = Failure::new(Exit::Unavailable, format!("Compose cannot tell the volumes of {}", file.display()));
    failure.details = refused;
    Err(failure
        .safe("nothing was done")
        .hint("install Compose 2 (the package docker-compose-plugin or docker-compose-v2), or name the volumes with --to-docker"))
}

/// The volumes of both services.
fn named(config: &Value, postgres: &str, odoo: &str) -> std::result::Result<Volumes, String> {
    let pgdata = config["services"][postgres]["environment"]["PGDATA"].as_str().unwrap_or(PGDATA);
    let postgres = volume(config, postgres, pgdata)?;
    let filestore = volume(config, odoo, DATA_DIR)?;
    Ok(Volumes { postgres, filestore: Some(filestore) })
}

/// The volume that a service has at this very place.
fn volume(config: &Value, service: &str, place: &str) -> std::result::Result<String, String> {
    let found = &config["services"][service];
    if found.is_null() {
        let services = config["services"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        return Err(format!("there is no service {service}: there are {}", services.collect::<Vec<_>>().join(", ")));
    }
    let mounts: Vec<&Value> = found["volumes"].as_array().into_iter().flatten().collect();
    let at = |mount: &Value| mount["target"].as_str().unwrap_or_default().trim_end_matches('/').to_owned();
    let place = place.trim_end_matches('/');
    let Some(mount) = mounts.iter().find(|mount| at(mount) == place) else {
        let others: Vec<String> = mounts.iter().map(|mount| at(mount)).collect();
        return Err(format!("service {service} has no volume at {place} (it has {})", others.join(", ")));
    };
    let source = mount["source"].as_str().unwrap_or_default();
    if mount["type"] != "volume" || source.is_empty() {
        let what = mount["type"].as_str().unwrap_or("mount");
        return Err(format!("what service {service} has at {place} is no named volume: a {what} of {source}"));
    }
    let name = config["volumes"][source]["name"].as_str();
    name.map(str::to_owned).ok_or_else(|| format!("Compose does not tell what volume {source} is called"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As `docker compose config --format json` writes it.
    fn config() -> Value {
        json!({
            "name": "clinic",
            "services": {
                "db": {
                    "environment": { "POSTGRES_PASSWORD": "x" },
                    "volumes": [{ "type": "volume", "source": "pg", "target": "/var/lib/postgresql/data", "volume": {} }]
                },
                "web": {
                    "volumes": [
                        { "type": "bind", "source": "/srv/etc", "target": "/etc/odoo", "bind": {} },
                        { "type": "volume", "source": "data", "target": "/var/lib/odoo/", "volume": {} }
                    ]
                }
            },
            "volumes": { "pg": { "name": "clinic_pg" }, "data": { "name": "odoo", "external": true } }
        })
    }

    #[test]
    fn names_are_those_that_docker_knows() {
        let found = named(&config(), "db", "web").unwrap();
        assert_eq!(found, Volumes { postgres: "clinic_pg".into(), filestore: Some("odoo".into()) });
    }

    #[test]
    fn what_a_volume_would_not_fit_is_refused() {
        let refused = |config: &Value, postgres: &str| named(config, postgres, "web").unwrap_err();
        assert!(refused(&config(), "postgres").contains("db, web"));
        let mut deeper = config();
        deeper["services"]["db"]["environment"]["PGDATA"] = json!("/var/lib/postgresql/data/pgdata");
        assert!(refused(&deeper, "db").contains("no volume at /var/lib/postgresql/data/pgdata"));
        let mut bound = config();
        bound["services"]["db"]["volumes"][0]["type"] = json!("bind");
        assert!(refused(&bound, "db").contains("no named volume"));
    }
}
