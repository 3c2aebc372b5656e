//! `lifeboat evidence sign-off`: somebody has seen a statement and says something of it.

use clap::{Args, ValueEnum};
use jiff::civil::Date;
use lifeboat_engine::sign_off::{self, Found, Seen, Words};
use lifeboat_evidence::{Predicate, act};
use serde::Serialize;

use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Tone},
    wire,
};

/// What the ledger is to hold for years has to be readable at a glance.
const LONGEST: usize = 2000;

/// Say what you think of a run whose evidence you have seen; what you say is evidence itself
///
/// The words are signed with this host's key and kept beside the statement that they are about, by its digest. They stand in
/// reports; a failed drill stays an open exception until somebody says what is done about it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence sign-off 06060606 --role owner --comment \"seen; the times are good\"
  lifeboat evidence sign-off 06060606 --role dr-coordinator --decision rejected --comment \"an addon is missing\" \\
      --corrective-action \"add web_responsive to the image\" --due 2026-12-01")]
pub struct SignOff {
    /// The run, by the first digits of its id
    #[arg(value_name = "RUN", value_parser = run_digits)]
    run: String,
    /// As what you say it, for example owner, auditor, dr-coordinator, executive
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: String,
    /// What you say
    #[arg(long, value_enum, default_value_t = Decision::Accepted)]
    decision: Decision,
    /// Why, in a sentence or two
    #[arg(long, value_name = "TEXT", value_parser = sentence)]
    comment: String,
    /// A deviation from the plan that you allow
    #[arg(long, value_name = "TEXT", value_parser = sentence)]
    exception: Option<String>,
    /// What will be done about it
    #[arg(long, value_name = "TEXT", value_parser = sentence)]
    corrective_action: Option<String>,
    /// By when
    #[arg(long, value_name = "DATE", requires = "corrective_action")]
    due: Option<Date>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Decision {
    /// It is good enough
    Accepted,
    /// It is not
    Rejected,
    /// It was seen
    Noted,
}

impl From<Decision> for act::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Accepted => act::Decision::Accepted,
            Decision::Rejected => act::Decision::Rejected,
            Decision::Noted => act::Decision::Noted,
        }
    }
}

fn run_digits(text: &str) -> std::result::Result<String, String> {
    let is_hex = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    match is_hex && (4..=16).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("write 4 to 16 digits of the run's id, as `lifeboat evidence list` shows it".to_owned()),
    }
}

fn role(text: &str) -> std::result::Result<String, String> {
    match text.trim() {
        long if long.chars().count() > 60 => Err("a role has 60 characters at most".to_owned()),
        text => sentence(text),
    }
}

fn sentence(text: &str) -> std::result::Result<String, String> {
    match text.trim() {
        "" => Err("a word is needed: this will be read for years".to_owned()),
        long if long.chars().count() > LONGEST => Err(format!("no more than {LONGEST} characters")),
        odd if odd.chars().any(char::is_control) => Err("no control characters, and all in one line".to_owned()),
        secret if secret.to_ascii_uppercase().contains("SECRET-KEY") => {
            Err("this looks like a key, and evidence is stored in clear".to_owned())
        }
        text => Ok(text.to_owned()),
    }
}

#[derive(Serialize)]
struct Signed {
    run: String,
    kind: String,
    instance: Option<String>,
    who: String,
    role: String,
    decision: &'static str,
    statement: String,
    statement_sha256: String,
    evidence: String,
}

impl Answer for Signed {
    const SCHEMA: &'static str = "lifeboat.evidence-sign-off/1";

    fn text(&self, page: &mut Page) {
        let of = self.instance.as_deref().unwrap_or("the repository");
        page.line(format_args!(
            "{} {} {} of {of}, by {} as {}.",
            Tone::Good.paint("Signed:"),
            self.decision,
            self.kind,
            self.who,
            self.role
        ));
        page.field("run", &self.run);
        page.field("statement", &self.statement);
        page.field("sha256", &self.statement_sha256);
        page.field("evidence", &self.evidence);
    }
}

impl SignOff {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let started = session.now();
        let loaded = wire::load_config(session)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat evidence sign-off");
        let seen = seen(sign_off::find(&context, &self.run).await?, &self.run)?;
        let words = Words {
            role: self.role.clone(),
            decision: self.decision.into(),
            comment: self.comment,
            exception: self.exception,
            corrective_action: self.corrective_action,
            due: self.due,
        };
        let decision = words.decision.word();
        let (key, _) = sign_off::keep(&context, &seen, words, started).await?;
        session.output.show(&Signed {
            run: seen.run.to_string(),
            kind: seen.statement.kind().to_owned(),
            instance: seen.instance.as_ref().map(ToString::to_string),
            who: context.initiator.who.clone(),
            role: self.role,
            decision,
            statement: seen.key.to_string(),
            statement_sha256: seen.sha256.to_string(),
            evidence: key.to_string(),
        })?;
        Ok(Exit::Ok)
    }
}

fn seen(found: Found, run: &str) -> Result<Seen> {
    match found {
        Found::One(seen) => match &seen.statement.predicate {
            Predicate::Act(act) if matches!(act.act, act::Act::SignOff(_)) => {
                Err(Failure::new(Exit::Usage, format!("run {run} is a sign-off itself"))
                    .hint("sign the run that it is about, once more: the newest word counts"))
            }
            _ => Ok(*seen),
        },
        Found::None => Err(Failure::new(Exit::NotFound, format!("no evidence of a run \"{run}\""))
            .safe("nothing was signed")
            .next("lifeboat evidence list")),
        Found::Many(many) => Err(Failure::new(Exit::Usage, format!("\"{run}\" fits {many} statements"))
            .hint("give more digits of the run's id")
            .next("lifeboat evidence list")),
        Found::NotBelieved { key, why } => {
            Err(Failure::new(Exit::CheckFailed, format!("{key} is not to be believed: {why}"))
                .safe("nothing was signed")
                .next("lifeboat evidence verify"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_years_are_words() {
        assert_eq!(sentence(" seen "), Ok("seen".to_owned()));
        for bad in ["", "  ", "two\nlines", "AGE-SECRET-KEY-1QQ", &"x".repeat(LONGEST + 1)] {
            assert!(sentence(bad).is_err(), "{bad}");
        }
        assert!(role(&"x".repeat(61)).is_err() && role("").is_err());
        assert_eq!(role("Leitung IT, Süd"), Ok("Leitung IT, Süd".to_owned()));
        for bad in ["", "060", "06060606060606060", "0606060G", "ABCD"] {
            assert!(run_digits(bad).is_err(), "{bad}");
        }
    }
}
