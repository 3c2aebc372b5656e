//! `lifeboat key status`: who can open what, and when that was last tried.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::rehearsal::{self, KeyStatus, RecipientStatus};
use lifeboat_model::id::Instance;
use serde::Serialize;

use crate::{
    cli::Session,
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, moment},
    wire,
};

/// Show every recipient: what it opens, and when its identity was last rehearsed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lifeboat key status\n  lifeboat key status clinic --json")]
pub struct Status {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
}

#[derive(Serialize)]
struct Shown {
    as_of: Timestamp,
    /// Whether there is nothing to worry about.
    sound: bool,
    instances: Vec<OfInstance>,
    /// Signing keys that are not believed any more.
    revoked: Vec<Revoked>,
}

#[derive(Serialize)]
struct Revoked {
    key: String,
    at: Timestamp,
}

#[derive(Serialize)]
struct OfInstance {
    instance: Instance,
    /// The newest recovery point.
    point: Option<String>,
    recipients: Vec<Row>,
    /// Rehearsals of identities that could not be read.
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Row {
    recipient: String,
    name: Option<String>,
    configured: bool,
    in_newest_point: Option<bool>,
    last_passed: Option<Timestamp>,
    age_days: Option<i64>,
    worries: Vec<String>,
}

#[derive(Serialize)]
struct Unreadable {
    name: String,
    at: Timestamp,
    why: String,
}

impl Row {
    fn new(status: RecipientStatus, now: Timestamp) -> Self {
        Row {
            age_days: status.age_days(now),
            worries: status.worries(now),
            recipient: status.recipient,
            name: status.name,
            configured: status.configured,
            in_newest_point: status.in_newest_point,
            last_passed: status.last_passed,
        }
    }
}

impl OfInstance {
    fn new(instance: Instance, status: KeyStatus, now: Timestamp) -> Self {
        let unreadable = status.unreadable.into_iter().map(|(name, at, why)| Unreadable { name, at, why });
        OfInstance {
            instance,
            point: status.point.map(|point| point.to_string()),
            recipients: status.recipients.into_iter().map(|one| Row::new(one, now)).collect(),
            unreadable: unreadable.collect(),
        }
    }

    fn is_sound(&self) -> bool {
        self.unreadable.is_empty() && self.recipients.iter().all(|row| row.worries.is_empty())
    }
}

/// SSH keys are long; their end tells them apart.
fn short(recipient: &str) -> String {
    let count = recipient.chars().count();
    if count <= 66 {
        return recipient.to_owned();
    }
    let tail: String = recipient.chars().skip(count - 16).collect();
    format!("{}…{tail}", recipient.chars().take(30).collect::<String>())
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.key-status/1";

    fn text(&self, page: &mut Page) {
        for of in &self.instances {
            page.heading(format_args!("{}  {}", of.instance, of.point.as_deref().unwrap_or("(no recovery point)")));
            let mut rows = Rows::new(&["recipient", "name", "last rehearsed", ""]);
            for row in &of.recipients {
                let rehearsed = match (row.last_passed, row.age_days) {
                    (Some(at), Some(age)) => format!("{} ({age} d ago)", moment(at)),
                    _ => "never".to_owned(),
                };
                let (tone, worry) = match row.worries.as_slice() {
                    [] => (Tone::Good, "ok".to_owned()),
                    worries => (Tone::Doubtful, worries.join("; ")),
                };
                let recipient = short(&row.recipient);
                let cells = [recipient.as_str(), row.name.as_deref().unwrap_or("–"), &rehearsed];
                rows.row(cells.into_iter().map(|cell| (Tone::Plain, cell)).chain([(tone, worry.as_str())]));
            }
            page.table(rows);
            for one in &of.unreadable {
                page.line(format_args!("\"{}\" could not be read at {}: {}", one.name, moment(one.at), one.why));
            }
        }
        for revoked in &self.revoked {
            page.gap();
            page.line(format_args!("Revoked as of {}: {}", moment(revoked.at), revoked.key));
        }
    }
}

impl Status {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        if let Some(name) = &self.instance {
            loaded.config.instance(name.as_str())?;
        }
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let (now, mut instances) = (session.now(), Vec::new());
        for instance in wire::instances(self.instance.as_ref(), config) {
            let status = rehearsal::status(&repository, &config.tenant, &config.keys, &instance).await?;
            instances.push(OfInstance::new(instance, status, now));
        }
        let revoked = repository.revocations().iter().map(|one| Revoked { key: one.key.to_string(), at: one.at });
        let sound = instances.iter().all(OfInstance::is_sound);
        session.output.show(&Shown { as_of: now, sound, revoked: revoked.collect(), instances })?;
        Ok(Exit::Ok)
    }
}
