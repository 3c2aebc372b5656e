//! `--daemon URL`: the same words, asked of a daemon elsewhere. It looks, starts runs and follows them; what needs keys or the
//! repository itself is not done through it.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_daemon::view::{Overview, RunLine, RunView};
use lifeboat_model::id::Tenant;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Session, Verb};
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Rows, Tone, ago, moment, seconds},
};

mod client;
mod follow;

use client::Client;

/// Where a daemon is, and who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct DaemonArgs {
    /// Ask this daemon: status, backup, drill and runs
    #[arg(long, value_name = "URL", global = true, help_heading = "Global options")]
    pub daemon: Option<url::Url>,
    /// The token to ask it with (0600)
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_TOKEN_FILE", hide_env_values = true, global = true)]
    #[arg(help_heading = "Global options", hide_short_help = true)]
    pub token_file: Option<std::path::PathBuf>,
    /// Certificates (PEM) of the authority that vouches for it [default: the system's]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Global options", hide_short_help = true)]
    pub daemon_ca: Option<std::path::PathBuf>,
    /// Whose instance is meant, where several tenants have one of that name
    #[arg(long, value_name = "TENANT", global = true, help_heading = "Global options", hide_short_help = true)]
    pub of_tenant: Option<Tenant>,
}

/// Runs of a daemon: what goes on, what was, and why
///
/// Always asks a daemon: name it with --daemon, and give a token with --token-file or LIFEBOAT_TOKEN_FILE.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat --daemon https://backup.example.org runs list
  lifeboat --daemon http://127.0.0.1:7420 runs follow 018f3a2b9c4d5e6f

Exit codes of `follow` are those of the run: 0 passed, 4 failed, 5 incomplete, 130 interrupted.")]
pub struct RunsCommand {
    #[command(subcommand)]
    verb: RunsVerb,
}

#[derive(Debug, Subcommand)]
enum RunsVerb {
    /// The last runs, newest first
    List {
        /// Only of this instance
        instance: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// One run: its checks, its lines, its reason
    Show {
        /// Its id
        run: String,
    },
    /// Follow a run to its end
    Follow {
        /// Its id
        run: String,
    },
    /// Stop a run; it tears down first
    Cancel {
        /// Its id
        run: String,
    },
}

impl RunsCommand {
    /// Without a daemon there is nobody to ask.
    pub fn without_daemon() -> Failure {
        Failure::new(Exit::Usage, "runs are kept by a daemon, and none is named")
            .hint("name it with --daemon URL, for example --daemon http://127.0.0.1:7420")
    }
}

/// Asks the daemon.
pub async fn run(verb: Verb, args: &DaemonArgs, session: &Session) -> Result<Exit> {
    let client = Client::new(args)?;
    match verb {
        Verb::Status(status) => show_status(&client, status.instance.as_ref().map(|name| name.as_str()), session).await,
        Verb::Backup(backup) => {
            let instance = backup.instance.as_str();
            start(&client, args, session, instance, json!({ "verb": "backup" })).await
        }
        Verb::Drill(drill) => match drill.for_daemon() {
            Some(asked) => start(&client, args, session, drill.instance.as_str(), asked).await,
            None => {
                Err(Failure::new(Exit::Usage, "a daemon drills the latest moment, --random or --sabotage, no other")
                    .safe("nothing was started")
                    .hint("leave out the other options, or drill here without --daemon"))
            }
        },
        Verb::Runs(runs) => match runs.verb {
            RunsVerb::List { instance, limit } => list(&client, args, session, instance, limit).await,
            RunsVerb::Show { run } => {
                let view: RunView = client.get(&format!("runs/{run}"), &[]).await?;
                session.output.show(&Shown { view })?;
                Ok(Exit::Ok)
            }
            RunsVerb::Follow { run } => follow(&client, session, &run).await,
            RunsVerb::Cancel { run } => {
                client.post(&format!("runs/{run}/cancel"), &json!({})).await?;
                session.output.show(&Cancelled { run })?;
                Ok(Exit::Ok)
            }
        },
        _ => Err(Failure::new(Exit::Usage, "this command does not go through a daemon")
            .safe("nothing was done")
            .hint("leave out --daemon; with it there are status, backup, drill and runs")),
    }
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    overview: Overview,
}

impl Answer for Status {
    const SCHEMA: &'static str = "lifeboat.daemon-status/1";

    fn text(&self, page: &mut Page) {
        let Overview { now, instances, troubles, .. } = &self.overview;
        let mut rows = Rows::new(&["instance", "tier", "newest point", "drill", "next run", ""]);
        for line in instances {
            let name = format!("{}/{}", line.tenant, line.instance);
            let point = line.newest_point.map_or("–".to_owned(), |time| ago(*now, time));
            let drill = match (&line.drill_outcome, line.drill_started) {
                (Some(outcome), Some(time)) => format!("{outcome}, {}", ago(*now, time)),
                _ => "–".to_owned(),
            };
            let next =
                line.next_run.as_ref().map_or("–".to_owned(), |due| format!("{} {}", due.verb, moment(due.at)));
            let cells = [name.as_str(), &line.tier, &point, &drill, &next].map(|text| (Tone::Plain, text));
            rows.row(cells.into_iter().chain([state(&line.state)]));
        }
        page.table(rows);
        for line in instances {
            if let Some(reason) = &line.reason {
                page.line(format_args!("{}/{}: {reason}", line.tenant, line.instance));
            }
            if let Some(next) = &line.next {
                page.line(format_args!("  next: {next}"));
            }
        }
        for trouble in troubles {
            let whose = trouble.tenant.as_ref().map(|tenant| format!("{tenant}: ")).unwrap_or_default();
            let word = Tone::Bad.paint("trouble:");
            page.line(format_args!("{word} {whose}{}: {} ({})", trouble.of, trouble.text, ago(*now, trouble.since)));
            if let Some(next) = &trouble.next {
                page.line(format_args!("  next: {next}"));
            }
        }
        if instances.is_empty() {
            page.line("No instance that this token may see.");
        }
    }
}

fn state(word: &str) -> (Tone, &str) {
    match word {
        "protected" => (Tone::Good, "protected"),
        "at-risk" => (Tone::Doubtful, "AT RISK"),
        "unprotected" => (Tone::Bad, "UNPROTECTED"),
        other => (Tone::Doubtful, other),
    }
}

async fn show_status(client: &Client, instance: Option<&str>, session: &Session) -> Result<Exit> {
    let mut overview: Overview = client.get("status", &[]).await?;
    if let Some(name) = instance {
        overview.instances.retain(|line| line.instance == name);
        if overview.instances.is_empty() {
            return Err(unknown(name));
        }
    }
    let has = |state: &str| overview.instances.iter().any(|line| line.state == state);
    let exit = match () {
        () if has("unprotected") => Exit::CheckFailed,
        () if has("at-risk") || has("unknown") => Exit::Incomplete,
        () => Exit::Ok,
    };
    session.output.show(&Status { overview })?;
    Ok(exit)
}

fn unknown(instance: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("the daemon shows no instance \"{instance}\" to this token"))
        .next("lifeboat --daemon URL status")
}

/// The owner of an instance, of all that the token may see.
async fn tenant_of(client: &Client, args: &DaemonArgs, instance: &str) -> Result<String> {
    if let Some(tenant) = &args.of_tenant {
        return Ok(tenant.to_string());
    }
    let overview: Overview = client.get("status", &[]).await?;
    let mut tenants = overview.instances.into_iter().filter(|line| line.instance == instance).map(|line| line.tenant);
    let tenant = tenants.next().ok_or_else(|| unknown(instance))?;
    match tenants.next() {
        None => Ok(tenant),
        Some(_) => Err(Failure::new(Exit::Usage, format!("several tenants have an instance \"{instance}\""))
            .hint("say whose with --of-tenant")),
    }
}

async fn start(client: &Client, args: &DaemonArgs, session: &Session, instance: &str, asked: Value) -> Result<Exit> {
    #[derive(Deserialize)]
    struct Started {
        run: String,
    }
    let tenant = tenant_of(client, args, instance).await?;
    let mut body = json!({ "tenant": tenant, "instance": instance });
    if let (Some(body), Value::Object(asked)) = (body.as_object_mut(), asked) {
        body.extend(asked);
    }
    let answer = client.post("runs", &body).await?;
    let Started { run } = serde_json::from_value(answer)?;
    session.voice.say(&format!("run {run}: Ctrl-C stops following it, not the run"));
    follow(client, session, &run).await
}

/// To the end of the run; then what became of it.
async fn follow(client: &Client, session: &Session, run: &str) -> Result<Exit> {
    tokio::select! {
        ended = follow::to_the_end(client, &session.voice, run) => ended?,
        () = session.cancel.cancelled() => {
            return Err(Failure::new(Exit::Interrupted, format!("no longer following run {run}"))
                .safe("the run goes on")
                .hint("lifeboat --daemon URL runs cancel stops it"));
        }
    }
    let view: RunView = client.get(&format!("runs/{run}"), &[]).await?;
    let exit = exit_of(&view.line);
    session.output.show(&Shown { view })?;
    Ok(exit)
}

fn exit_of(line: &RunLine) -> Exit {
    match line.outcome.as_deref() {
        Some("passed") => Exit::Ok,
        Some("incomplete") => Exit::Incomplete,
        Some("interrupted") => Exit::Interrupted,
        Some("missed") => Exit::Unavailable,
        Some("failed") if ["drill", "control", "audit", "locks", "signs", "scrub"].contains(&line.verb.as_str()) => {
            Exit::CheckFailed
        }
        _ => Exit::Failed,
    }
}

#[derive(Serialize)]
struct Listed {
    runs: Vec<RunLine>,
    #[serde(skip)]
    now: Timestamp,
}

impl Answer for Listed {
    const SCHEMA: &'static str = "lifeboat.runs-list/1";

    fn text(&self, page: &mut Page) {
        if self.runs.is_empty() {
            page.line("No runs.");
            return;
        }
        let mut rows = Rows::new(&["run", "instance", "verb", "why", "begun", "took", ""]);
        for line in &self.runs {
            let instance = line.instance.as_deref().unwrap_or("–");
            let why = line.schedule.as_ref().or(line.who.as_ref()).map_or("–", String::as_str);
            let begun = line.started.map_or("–".to_owned(), |time| ago(self.now, time));
            let cells = [line.run.as_str(), instance, &line.verb, why, &begun, &took(line)];
            rows.row(cells.map(|text| (Tone::Plain, text)).into_iter().chain([outcome(line)]));
        }
        page.table(rows);
        for line in &self.runs {
            if let Some(reason) = &line.reason {
                page.line(format_args!("{}: {reason}", line.run));
            }
        }
    }
}

fn took(line: &RunLine) -> String {
    let took = line.started.zip(line.ended).map(|(from, to)| to.duration_since(from).as_secs_f64());
    took.map_or("–".to_owned(), seconds)
}

fn outcome(line: &RunLine) -> (Tone, &str) {
    match line.outcome.as_deref() {
        Some("passed") => (Tone::Good, "passed"),
        Some("failed") => (Tone::Bad, "FAILED"),
        Some(other) => (Tone::Doubtful, other),
        None => (Tone::Plain, &line.phase),
    }
}

async fn list(
    client: &Client,
    args: &DaemonArgs,
    session: &Session,
    instance: Option<String>,
    limit: u32,
) -> Result<Exit> {
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    let tenant = args.of_tenant.as_ref().map(ToString::to_string);
    query.extend(tenant.as_deref().map(|tenant| ("tenant", tenant)));
    query.extend(instance.as_deref().map(|instance| ("instance", instance)));
    let runs: Vec<RunLine> = client.list("runs", &query).await?;
    session.output.show(&Listed { runs, now: session.now() })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: RunView,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.runs-show/1";

    fn text(&self, page: &mut Page) {
        let RunView { line, checks, evidence, notes, .. } = &self.view;
        let whose = line.instance.as_ref().unwrap_or(&line.tenant);
        let (tone, word) = outcome(line);
        let took = took(line);
        page.line(format_args!("{} of {whose}: {}, {took} (run {})", line.verb, tone.paint(word), line.run));
        if let Some(reason) = &line.reason {
            page.field("why", reason);
        }
        if let Some(schedule) = &line.schedule {
            page.field("schedule", format_args!("{schedule}, due {}", line.due.map(moment).unwrap_or_default()));
        }
        if let Some(who) = &line.who {
            page.field("asked by", who);
        }
        if line.attempt > 1 {
            page.field("attempt", line.attempt);
        }
        let passed = checks.iter().filter(|check| check.verdict == "passed").count();
        if !checks.is_empty() {
            page.field("checks", format_args!("{passed} of {} passed", checks.len()));
        }
        for check in checks.iter().filter(|check| check.verdict != "passed") {
            page.line(format_args!("  {} {}: {}", Tone::Bad.paint(&check.verdict), check.id, check.detail));
        }
        if let Some(evidence) = evidence {
            page.field("evidence", evidence);
        }
        if line.outcome.is_none() {
            for note in notes.iter().rev().take(5).rev() {
                page.line(format_args!("  {} {}", moment(note.at), note.text));
            }
        }
    }
}

#[derive(Serialize)]
struct Cancelled {
    run: String,
}

impl Answer for Cancelled {
    const SCHEMA: &'static str = "lifeboat.runs-cancel/1";

    fn text(&self, page: &mut Page) {
        page.line(format_args!("Run {} is told to stop; it tears down first.", self.run));
    }
}
