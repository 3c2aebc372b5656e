//! The journal of a run, kept on this host and in a repository.
//!
//! This host's file comes first: a line is durable there before the next thing is done. From there it goes to the repository, which
//! never holds a step up for longer than some seconds. Another host that has nothing but the repository reads it there and goes on
//! ([`open()`]); whoever wrote before finds that line, and stops.

mod open;
mod place;
pub mod record;
mod sending;
#[cfg(test)]
pub mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use lifeboat_engine::journal::{Kind, Name};
use lifeboat_evidence::act::Stage;
use lifeboat_model::id::RunId;
use lifeboat_runbook::{
    event::{Event, Line},
    execute::Journal,
    journal::{Clock, FileJournal, Unusable},
};
use tokio_util::sync::CancellationToken;

pub use open::{Opened, elsewhere, open};
pub use place::Keeper;
pub use sending::{Notice, Pace, State};

use place::Opener;
use sending::Sender;

use crate::{
    cli::Session,
    wire::{self, Reading},
};

/// How long whoever takes a run over waits until that is in the repository.
const TAKING_OVER: Duration = Duration::from_secs(30);
/// How long the end of a run waits for its last lines to be there.
const LAST_LINES: Duration = Duration::from_secs(15);

/// What every journal needs.
#[derive(Clone)]
pub struct Keeping {
    /// User and host, for lines that no person said.
    pub who: String,
    /// The time.
    pub clock: Clock,
    /// Opens repositories; none: the journal is on this host alone.
    opener: Option<Opener>,
    /// The same, for evidence.
    keeper: Option<Keeper>,
    /// Told what people should know.
    pub notice: Notice,
    /// Cancelled when the run was taken over: the executor's own.
    pub cancel: CancellationToken,
    /// How fast.
    pub pace: Pace,
}

impl Keeping {
    /// As the configuration says: in its repositories; where there is none that can be used, on this host alone.
    pub fn of(session: &Session, command: &str, cancel: CancellationToken) -> Keeping {
        let keeper = match wire::read_config(session) {
            Ok(Reading::Usable(loaded)) => Some(Keeper::new(session, &loaded, command)),
            _ => None,
        };
        let voice = session.voice.clone();
        let notice: Notice = Arc::new(move |words: &str| voice.warn(words));
        let opener = keeper.as_ref().map(Keeper::opener);
        let (who, clock) = (session.initiator(command).who, session.clock.clone());
        Keeping { who, clock, opener, keeper, notice, cancel, pace: Pace::default() }
    }
}

/// The file of a run's journal in a folder of such.
pub fn file(folder: &Path, run: RunId) -> std::path::PathBuf {
    folder.join(format!("{run}.jsonl"))
}

/// A journal on this host and in a repository.
pub struct KeptJournal {
    file: FileJournal,
    sender: Option<Sender>,
    pace: Pace,
    cancel: CancellationToken,
    run: RunId,
    keeper: Option<Keeper>,
    /// Another host may be in the middle of it: the first line waits until that one has seen it.
    takes_over: bool,
}

impl KeptJournal {
    /// A new one, in a folder of such; that is made where it is not there.
    pub fn create(folder: &Path, run: RunId, keeping: Keeping) -> Result<KeptJournal, Unusable> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| Unusable::Io(folder.to_owned(), error))?;
        let file = FileJournal::create(&file(folder, run), &keeping.who, keeping.clock.clone())?;
        Ok(KeptJournal::of(file, run, keeping, false))
    }

    fn of(file: FileJournal, run: RunId, keeping: Keeping, takes_over: bool) -> KeptJournal {
        let Keeping { opener, keeper, notice, cancel, pace, .. } = keeping;
        let (name, path, lines) = (Name { kind: Kind::Run, id: run }, file.path().to_owned(), file.lines());
        let sender = opener.map(|opener| Sender::start(name, path, lines, opener, notice, cancel.clone(), pace));
        KeptJournal { file, sender, pace, cancel, run, keeper, takes_over }
    }

    /// How far the repository has it; none: it is on this host alone.
    pub fn state(&self) -> Option<State> {
        self.sender.as_ref().map(Sender::state)
    }

    /// Who went on with the run elsewhere; then nothing is to be done any more here.
    pub fn taken_over(&self) -> Option<String> {
        self.state()?.taken_over
    }

    /// How many lines there are.
    #[cfg(test)]
    pub fn lines(&self) -> u64 {
        self.file.lines()
    }

    /// SHA-256 over all lines, in hexadecimal.
    #[cfg(test)]
    pub fn head(&self) -> &str {
        self.file.head()
    }

    /// Keeps a signed statement of where the run stands, as far as the journal is written by then; it can be awaited meanwhile or
    /// later. Gives where it is, or why it is not recorded, which stops no run.
    pub fn recorded(
        &self,
        stage: Stage,
        why: Option<String>,
    ) -> impl Future<Output = std::result::Result<String, String>> + Send + 'static {
        let (keeper, path, run) = (self.keeper.clone(), self.file.path().to_owned(), self.run);
        async move {
            match keeper {
                Some(keeper) => record::tell(keeper, path, run, stage, why).await,
                None => Err("no repository is configured".to_owned()),
            }
        }
    }

    /// Waits for the last lines to be in the repository, and lets the file go. What is missing there is told in the state.
    pub async fn close(self) -> Option<State> {
        let mut sender = self.sender?;
        sender.reached(self.file.lines(), LAST_LINES).await;
        Some(sender.stop().await)
    }

    fn check(&self) -> Result<(), String> {
        match self.taken_over() {
            Some(by) => Err(format!("the run was taken over: {by}; this host has stopped")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Journal for KeptJournal {
    async fn append(&mut self, who: Option<&str>, event: Event) -> Result<Line, String> {
        self.check()?;
        let line = self.file.append(who, event).await?;
        let Some(sender) = &mut self.sender else { return Ok(line) };
        sender.tell(line.number);
        match std::mem::take(&mut self.takes_over) {
            true => {
                let state = sender.reached(line.number, TAKING_OVER).await;
                if state.kept >= line.number {
                    // Whoever was at it looks every so often, and finds this line.
                    let seen = self.pace.look * 2 + Duration::from_secs(1);
                    let _ = self.cancel.run_until_cancelled(tokio::time::sleep(seen)).await;
                }
            }
            // Who is behind already is not waited for again.
            false if sender.state().kept + 1 >= line.number => {
                sender.reached(line.number, self.pace.step).await;
            }
            false => {}
        }
        self.check()?;
        Ok(line)
    }
}
