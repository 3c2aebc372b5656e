//! `lifeboat key rehearse`: prove that an identity from its safe place opens the newest recovery points.

use clap::Args;
use lifeboat_engine::{
    keys::read_identities,
    rehearsal::{self, Rehearsal},
};
use lifeboat_model::id::Instance;
use serde::Serialize;

use crate::{
    cli::{Session, identity::IdentityArgs},
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Tone, count},
    wire,
};

/// Prove that a recovery identity opens the newest recovery point, and keep that as evidence
///
/// Tries the identity alone on a part of each kind of object: details, trees, whole packs spread over the point, WAL and
/// documents. Nothing is restored, and the identity is written nowhere. A failed rehearsal is evidence as well.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat key rehearse --name \"safe at the bank\" --identity /media/key/recovery.identity
  lifeboat key rehearse clinic --name \"head of IT\" --identity ~/.ssh/id_ed25519")]
pub struct Rehearse {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
    /// What people call the identity, for the evidence: where it is kept, or who holds it
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    #[command(flatten)]
    identity: IdentityArgs,
}

fn name(text: &str) -> std::result::Result<String, String> {
    match text.trim() {
        "" => Err("a name is needed, for example \"safe at the bank\"".to_owned()),
        long if long.chars().count() > 100 => Err("a name has 100 characters at most".to_owned()),
        odd if odd.chars().any(char::is_control) => Err("a name has no control characters".to_owned()),
        secret if secret.to_ascii_uppercase().contains("SECRET-KEY") => {
            Err("this looks like a key, not like a name".to_owned())
        }
        name => Ok(name.to_owned()),
    }
}

#[derive(Serialize)]
struct Rehearsed {
    name: String,
    passed: bool,
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    instance: Instance,
    passed: bool,
    /// The recovery point that was tried.
    point: Option<String>,
    recipient: Option<String>,
    tried: Vec<Part>,
    failures: Vec<String>,
    /// The key of the evidence.
    evidence: String,
}

#[derive(Serialize)]
struct Part {
    what: String,
    object: String,
    failure: Option<String>,
}

impl Row {
    fn new(instance: Instance, rehearsal: Rehearsal) -> Self {
        let passed = rehearsal.passed();
        let part = |one: lifeboat_repo::rehearsal::Tried| Part {
            what: one.what,
            object: one.object.to_string(),
            failure: one.failure,
        };
        Row {
            instance,
            passed,
            point: rehearsal.point.map(|point| point.header.point.to_string()),
            recipient: rehearsal.recipient,
            tried: rehearsal.tried.into_iter().map(part).collect(),
            failures: rehearsal.failures,
            evidence: rehearsal.evidence.to_string(),
        }
    }
}

impl Answer for Rehearsed {
    const SCHEMA: &'static str = "lifeboat.key-rehearsal/1";

    fn text(&self, page: &mut Page) {
        for row in &self.instances {
            page.gap();
            let verdict = if row.passed { Tone::Good.paint("opens") } else { Tone::Bad.paint("DOES NOT OPEN") };
            let point = row.point.as_deref().unwrap_or("(no recovery point)");
            page.line(format_args!("\"{}\" {verdict} {} {point}", self.name, row.instance));
            if let Some(recipient) = &row.recipient {
                page.field("recipient", recipient);
            }
            for part in row.tried.iter().filter(|part| part.failure.is_none()) {
                page.field("opened", &part.what);
            }
            row.failures.iter().for_each(|why| page.field("failed", why));
            page.field("evidence", &row.evidence);
        }
        page.gap();
        let good = self.instances.iter().filter(|row| row.passed).count() as u64;
        page.line(format_args!(
            "Rehearsed: {} of {} opened.",
            good,
            count(self.instances.len() as u64, "instance", "instances")
        ));
    }
}

impl Rehearse {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        no_core_dump();
        let loaded = wire::load_config(session)?;
        let [file] = self.identity.identity.as_slice() else {
            return Err(Failure::new(Exit::Usage, "a rehearsal tries exactly one identity: --identity FILE")
                .hint("the identity of the configuration would prove nothing of the one in the safe"));
        };
        if let Some(name) = &self.instance {
            loaded.config.instance(name.as_str())?;
        }
        let names = wire::instances(self.instance.as_ref(), &loaded.config);
        let given = read_identities(file, &self.identity.passphrases());
        let exit_of_wrong_one = given.as_ref().err().map(|_| Exit::Key);
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "key rehearse");
        let mut rows = Vec::new();
        for instance in names {
            session.voice.say(&format!("trying the identity on the newest recovery point of {instance}"));
            let rehearsal = rehearsal::rehearse(&context, &instance, &self.name, &given).await?;
            rows.push(Row::new(instance, rehearsal));
        }
        let passed = rows.iter().all(|row| row.passed);
        session.output.show(&Rehearsed { name: self.name, passed, instances: rows })?;
        Ok(if passed { Exit::Ok } else { exit_of_wrong_one.unwrap_or(Exit::CheckFailed) })
    }
}

/// The identity is in memory: a crash must not write that to a disk.
fn no_core_dump() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Refused where somebody has set a limit already; then that one stands.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name() {
        assert_eq!(name(" safe at the bank "), Ok("safe at the bank".to_owned()));
        for bad in ["", "  ", "two\nlines", "AGE-SECRET-KEY-1QQ", &"x".repeat(101)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
