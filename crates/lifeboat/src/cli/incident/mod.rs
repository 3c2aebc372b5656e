//! `lifeboat incident`: what is known of an incident, from the first word to the after-action report.

mod answer;
mod report;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_model::id::Instance;
use lifeboat_runbook::incident::Happened;

use super::{Session, moment::parse_time};
use crate::{
    exit::Exit,
    failure::Result,
    incidents::{Desk, Incident},
    wire,
};

/// What a line of a journal holds is read for years.
const LONGEST: usize = 8000;

/// Note what happens in an incident, and report on it afterwards
///
/// What is noted is durable on this host first and goes to the repository, where other hosts note in the same incident. Runs of
/// runbooks that begin while it is open belong to it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IncidentCommand {
    #[command(subcommand)]
    verb: IncidentVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat incident open \"the clinic's host does not answer\" --instance clinic --at 2026-11-21T14:03:10+01:00
  lifeboat incident note \"called the platform team; ann is on her way\"
  lifeboat incident close \"all are back at work\"
  lifeboat incident report --out incident.html";

#[derive(Debug, Subcommand)]
enum IncidentVerb {
    Open(Open),
    Note(Note),
    Close(Close),
    /// List incidents, the newest first
    List,
    Show(Show),
    Report(report::Report),
}

/// Declare an incident
#[derive(Debug, Args)]
struct Open {
    /// What is wrong, in a sentence
    #[arg(value_name = "TEXT", value_parser = words)]
    text: String,
    /// The instance that it is about [default: all]
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
    /// Since when: commits before it that do not come back are lost (the reference of the RPO) [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
}

/// Note something, with the time and your name
#[derive(Debug, Args)]
struct Note {
    /// What happened, was seen or was decided
    #[arg(value_name = "TEXT", value_parser = words)]
    text: String,
    #[command(flatten)]
    which: Which,
}

/// Close an incident
#[derive(Debug, Args)]
struct Close {
    /// How it ended
    #[arg(value_name = "TEXT", value_parser = words)]
    text: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// Show an incident and all that was noted
#[derive(Debug, Args)]
struct Show {
    /// By the first digits of its id [default: the one that is open]
    #[arg(value_name = "ID", value_parser = digits)]
    incident: Option<String>,
}

#[derive(Debug, Args)]
struct Which {
    /// The incident, by the first digits of its id [default: the one that is open]
    #[arg(long, value_name = "ID", value_parser = digits)]
    incident: Option<String>,
}

fn digits(text: &str) -> std::result::Result<String, String> {
    let is_hex = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    match is_hex && (1..=16).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("write the first digits of its id, as `lifeboat incident list` shows it".to_owned()),
    }
}

fn words(text: &str) -> std::result::Result<String, String> {
    match text.trim() {
        "" => Err("a word is needed".to_owned()),
        long if long.chars().count() > LONGEST => Err(format!("no more than {LONGEST} characters")),
        odd if odd.chars().any(|c| c.is_control() && c != '\n') => Err("no control characters".to_owned()),
        secret if secret.to_ascii_uppercase().contains("SECRET-KEY") => {
            Err("this looks like a key, and what is noted is stored in clear".to_owned())
        }
        text => Ok(text.to_owned()),
    }
}

impl IncidentCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        if let IncidentVerb::Open(Open { instance: Some(name), .. }) = &self.verb {
            loaded.config.instance(name.as_str())?;
        }
        let desk = Desk::open(session, &loaded).await;
        if let Some(why) = desk.alone() {
            session.voice.warn(&format!("what is on this host counts for now, and others do not see it: {why}"));
        }
        match self.verb {
            IncidentVerb::Open(open) => {
                let since = open.at.unwrap_or_else(|| session.now());
                let instance = open.instance.map(|instance| instance.to_string());
                let opened = desk.declare(open.text, instance, since).await?;
                done(session, &desk, &opened, true).await
            }
            IncidentVerb::Note(note) => {
                let incident = desk.find(note.which.incident.as_deref()).await?;
                let noted = desk.note(&incident, Happened::Noted { text: note.text }).await?;
                done(session, &desk, &noted, false).await
            }
            IncidentVerb::Close(close) => {
                let incident = desk.find(close.which.incident.as_deref()).await?;
                let closed = desk.note(&incident, Happened::Closed { text: close.text }).await?;
                done(session, &desk, &closed, true).await
            }
            IncidentVerb::List => {
                let (all, remarks) = desk.all().await?;
                remarks.iter().for_each(|remark| session.voice.warn(remark));
                session.output.show(&answer::List::new(&all))?;
                Ok(Exit::Ok)
            }
            IncidentVerb::Show(show) => {
                let incident = desk.find(show.incident.as_deref()).await?;
                session.output.show(&answer::Shown::new(&incident, None))?;
                Ok(Exit::Ok)
            }
            IncidentVerb::Report(report) => report.run(session, &loaded, &desk).await,
        }
    }
}

/// Shows it; a beginning and an end are signed as well.
async fn done(session: &Session, desk: &Desk, incident: &Incident, sign: bool) -> Result<Exit> {
    let mut evidence = None;
    if sign {
        match desk.record(incident).await {
            Ok(key) => evidence = Some(key),
            Err(why) => session.voice.warn(&format!("no evidence of it was kept: {why}")),
        }
    }
    session.output.show(&answer::Shown::new(incident, evidence))?;
    Ok(Exit::Ok)
}
