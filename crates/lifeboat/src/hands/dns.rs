//! `dns`: points a name elsewhere by `nsupdate`, or waits until somebody has; asks by this host's resolver, or named servers by `dig`.

use std::{net::IpAddr, time::Duration};

use lifeboat_runbook::{
    action::dns::{Dns, Update},
    execute::{Acting, Outputs},
    values::Secret,
};
use tokio::process::Command;

use super::{Tools, of_slot, program};

/// How often the name is asked.
const EVERY: Duration = Duration::from_secs(5);

pub(super) async fn act(dns: &Dns, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let before = answers(dns, acting, tools).await.map(|all| all.join(" ")).unwrap_or_default();
    if let Some(to) = &dns.update {
        update(dns, to, acting, tools).await?;
    }
    let mut told = String::new();
    loop {
        match is_so(dns, acting, tools).await {
            Ok(true) => return Ok(Outputs::from([("before".to_owned(), before)])),
            Ok(false) => {}
            Err(why) if why == told => {}
            Err(why) => {
                (tools.talk)(&format!("not yet: {why}"));
                told = why;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub(super) async fn was_done(dns: &Dns, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    // A name that is not there yet answers with an error. It is changed by a deletion and an addition: twice is as once.
    Ok(is_so(dns, acting, tools).await.unwrap_or(false).then(Outputs::new))
}

/// What the name answers now, and nothing is changed.
pub(super) async fn look(dns: &Dns, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let before = answers(dns, acting, tools).await?.join(" ");
    Ok(Outputs::from([("before".to_owned(), before)]))
}

/// Whether everybody who is asked answers this and nothing else.
async fn is_so(dns: &Dns, acting: &Acting<'_>, tools: &Tools) -> Result<bool, String> {
    let wanted = normal(&acting.course.fill(&dns.value));
    let found = answers(dns, acting, tools).await?;
    Ok(!found.is_empty() && found.iter().all(|one| *one == wanted))
}

/// What the name answers.
async fn answers(dns: &Dns, acting: &Acting<'_>, tools: &Tools) -> Result<Vec<String>, String> {
    let name = acting.course.fill(&dns.name);
    if dns.servers.is_empty() && dns.kind != "CNAME" {
        return resolve(&name, dns.kind).await;
    }
    let mut found = Vec::new();
    let servers: Vec<String> = dns.servers.iter().map(|server| format!("@{}", acting.course.fill(server))).collect();
    let each = if servers.is_empty() { vec![None] } else { servers.into_iter().map(Some).collect() };
    for server in each {
        let mut command = Command::new("dig");
        command.args(["+short", "+time=3", "+tries=2"]).args(&server).args([&name, dns.kind]);
        let ended = program::run(command, &tools.slot(&acting.id), tools).await.map_err(needs_tools)?;
        if ended.code() != Some(0) {
            return Err(format!("dig {}", ended.tail()));
        }
        let lines = ended.raw().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';'));
        let before = found.len();
        found.extend(lines.map(normal));
        if found.len() == before {
            return Ok(Vec::new()); // one that has no answer does not agree
        }
    }
    Ok(found)
}

async fn resolve(name: &str, kind: &str) -> Result<Vec<String>, String> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| format!("{name}: {error}"))?;
    let addresses = found.map(|address| address.ip()).filter(|ip| matches!(ip, IpAddr::V4(_)) == (kind == "A"));
    let mut texts: Vec<String> = addresses.map(|ip| ip.to_string()).collect();
    texts.sort();
    texts.dedup();
    Ok(texts)
}

/// Without the dot at the end, and an address in its own form.
fn normal(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    text.parse::<IpAddr>().map_or_else(|_| text.to_ascii_lowercase(), |ip| ip.to_string())
}

async fn update(dns: &Dns, update: &Update, acting: &Acting<'_>, tools: &Tools) -> Result<(), String> {
    let [name, server, value] = [&dns.name, &update.server, &dns.value].map(|text| acting.course.fill(text));
    for text in [&name, &server, &value] {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("\"{text}\" cannot stand in a DNS update"));
        }
    }
    let key = match &update.key {
        Secret::File(path) => tools.path(&acting.course.fill(path)),
        Secret::Env(name) => std::env::var_os(name).ok_or_else(|| format!("the variable {name} is not set"))?.into(),
    };
    let (kind, ttl) = (dns.kind, update.ttl.0.as_secs());
    let script =
        format!("server {server}\nupdate delete {name} {kind}\nupdate add {name} {ttl} {kind} {value}\nsend\n");
    let file = of_slot(&tools.slot(&acting.id), "nsupdate");
    tokio::fs::write(&file, script).await.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let mut command = Command::new("nsupdate");
    command.args(["-t", "30", "-k"]).arg(key).arg(&file);
    let ended = program::run(command, &tools.slot(&acting.id), tools).await.map_err(needs_tools)?;
    match ended.code() {
        Some(0) => Ok(()),
        _ => Err(format!("nsupdate {}", ended.tail())),
    }
}

fn needs_tools(why: String) -> String {
    format!("{why} (Debian and Ubuntu: package bind9-dnsutils)")
}
