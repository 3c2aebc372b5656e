//! `lifeboat status`: one word for each instance, why, and what to do about it.

mod details;
mod plugin;
mod text;

use std::time::Duration;

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_engine::status::{Asking, Facts, Judgement, State, Statements, judge, look, open_copies};
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::Session;
use crate::{
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Tone},
    wire,
};

/// Who looks at a status is in a hurry.
const PATIENCE: Duration = Duration::from_secs(5);
/// Instances that are looked at the same time.
const LOOKS: usize = 8;

/// Say of each instance whether it is protected, at risk or unprotected
///
/// Protected: a loss now costs no more than the tier's RPO, and the last drill passed within the targets on the configured
/// images, at most 35 days ago, and nothing around it speaks against it: locks, copies, the slot, standbys, certificates, keys.
/// Without evidence of a passed drill an instance is at risk at best; so it is where something could not be looked up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat status
  lifeboat status clinic                 all that is known of it
  lifeboat status clinic --json
  lifeboat status --plugin               one line for Nagios, Icinga and their kin

Exit codes: 0 all protected, 5 at least one at risk, 4 at least one unprotected.
With --plugin: 0 OK, 1 WARNING (at risk), 2 CRITICAL (unprotected), 3 UNKNOWN (it could not be found out).")]
pub struct Status {
    /// Only this instance, with all that is known of it
    pub(super) instance: Option<Instance>,
    /// One line and the exit codes that monitoring plugins have
    #[arg(long, conflicts_with = "json")]
    plugin: bool,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    immutable: bool,
    instances: Vec<Row>,
    #[serde(skip)]
    now: Timestamp,
    /// One instance was named: all is told of it.
    #[serde(skip)]
    in_full: bool,
}

/// One instance: what is known, and what it means.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    facts: Facts,
    #[serde(flatten)]
    judged: Judgement,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.status/2";

    fn text(&self, page: &mut Page) {
        text::write(self, page);
    }
}

impl Status {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        if self.plugin {
            return plugin::run(self.shown(session).await, session);
        }
        let shown = self.shown(session).await?;
        session.output.show(&shown)?;
        Ok(exit(shown.worst()))
    }

    async fn shown(&self, session: &Session) -> Result<Shown> {
        let loaded = wire::load_config(session)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat status");
        let wanted: Vec<&Instance> = match &self.instance {
            Some(name) => vec![context.config.instance(name.as_str())?.0],
            None => context.config.instances.keys().collect(),
        };
        let (copies, statements) =
            tokio::join!(open_copies(&context, &wire::environment, PATIENCE), Statements::list(&context));
        let statements = statements?;
        let asking = Asking {
            patience: PATIENCE,
            copies: &copies,
            statements: Some(&statements),
            ..Asking::new(&wire::environment)
        };
        let now = session.now();
        let looking = wanted.into_iter().map(|name| look(&context, name, &asking));
        let facts: Vec<Facts> = stream::iter(looking).buffered(LOOKS).try_collect().await?;
        let row = |facts: Facts| Row { judged: judge(&facts, facts.looked.max(now)), facts };
        let instances: Vec<Row> = facts.into_iter().map(row).collect();
        let store = context.repository.store();
        Ok(Shown {
            repository: store.describe(),
            immutable: store.is_immutable() && instances.iter().all(|row| row.facts.locks.mode.is_some()),
            instances,
            now,
            in_full: self.instance.is_some(),
        })
    }
}

impl Shown {
    fn worst(&self) -> State {
        self.instances.iter().map(|row| row.judged.state).max().unwrap_or(State::Unprotected)
    }
}

/// As people read it.
fn word(state: State) -> &'static str {
    match state {
        State::Protected => "protected",
        State::AtRisk => "AT RISK",
        State::Unprotected => "UNPROTECTED",
    }
}

fn tone(state: State) -> Tone {
    match state {
        State::Protected => Tone::Good,
        State::AtRisk => Tone::Doubtful,
        State::Unprotected => Tone::Bad,
    }
}

/// What scripts see.
fn exit(state: State) -> Exit {
    match state {
        State::Protected => Exit::Ok,
        State::AtRisk => Exit::Incomplete,
        State::Unprotected => Exit::CheckFailed,
    }
}
