//! The journal of a run, kept on this host and in a repository.
//!
//! This host's file comes first: a line is durable there before the next thing is done. From there it goes to the repository, which
//! never holds a step up for longer than some seconds. Another host that has nothing but the repository reads it there and goes on
//! ([`open()`]); whoever wrote before finds that line, and stops.

mod open;
mod place;
pub mod record;
mod sending;
mod state;
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
pub use place::{Keeper, Place};
pub use sending::{Notice, Pace};
pub use state::State;

use open::Taking;
use sending::{Route, Sender};

use crate::{
    cli::Session,
    wire::{self, Reading},
};

/// How long the end of a run waits for its last lines to be there.
const LAST_LINES: Duration = Duration::from_secs(15);

/// What every journal needs.
#[derive(Clone)]
pub struct Keeping {
    /// User and host, for lines that no person said.
    pub who: String,
    /// The time.
    pub clock: Clock,
    /// The repositories, the primary first; none: the journal is on this host alone.
    places: Vec<Place>,
    /// They, for evidence.
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
        let places = keeper.as_ref().map(Keeper::places).unwrap_or_default();
        let (who, clock) = (session.initiator(command).who, session.clock.clone());
        Keeping { who, clock, places, keeper, notice, cancel, pace: Pace::default() }
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
    taking: Option<Taking>,
}

impl KeptJournal {
    /// A new one, in a folder of such; that is made where it is not there.
    pub fn create(folder: &Path, run: RunId, keeping: Keeping) -> Result<KeptJournal, Unusable> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| Unusable::Io(folder.to_owned(), error))?;
        let file = FileJournal::create(&file(folder, run), &keeping.who, keeping.clock.clone())?;
        Ok(KeptJournal::of(file, run, keeping, Vec::new(), None))
    }

    fn of(file: FileJournal, run: RunId, keeping: Keeping, used: Vec<usize>, taking: Option<Taking>) -> KeptJournal {
        let Keeping { places, keeper, notice, cancel, pace, .. } = keeping;
        let (name, path, lines) = (Name { kind: Kind::Run, id: run }, file.path().to_owned(), file.lines());
        let is_kept = !places.is_empty();
        let taking_with = taking.as_ref().map(|taking| (taking.line, taking.places.clone()));
        let route = Route { name, path, places, used, taking: taking_with };
        let sender = is_kept.then(|| Sender::start(route, lines, notice, cancel.clone(), pace));
        KeptJournal { file, sender, pace, cancel, run, keeper, taking }
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
        sender.reached_all(self.file.lines(), LAST_LINES).await;
        Some(sender.stop().await)
    }

    /// Whoever was at it has to find this line before anything is begun.
    async fn take_over(&mut self, line: u64, taking: Taking) -> Result<(), String> {
        let not_taken = |why: &str| {
            format!(
                "nothing was begun: whoever may be at this run cannot be told that it is taken over, since line {line} is not in the \
                 repository: {why}"
            )
        };
        let Some(sender) = &mut self.sender else { return Err(not_taken("no repository is configured")) };
        let waiting = sender.reached_each(line, &taking.places, self.pace.take);
        let Some(state) = self.cancel.run_until_cancelled(waiting).await else {
            self.check()?;
            return Err(not_taken("it was not waited for"));
        };
        if state.taken_over.is_none() && !state.has(line, &taking.places) {
            return Err(not_taken(&state.why_not(line, &taking.places)));
        }
        // Whoever was at it looks every so often, and finds this line.
        let seen = self.pace.look * 2 + Duration::from_secs(1);
        if self.cancel.run_until_cancelled(tokio::time::sleep(seen)).await.is_some() {
            taking.done();
        }
        Ok(())
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
        if let Some(sender) = &self.sender {
            sender.tell(line.number);
        }
        if let Some(taking) = self.taking.take() {
            self.take_over(line.number, taking).await?;
        } else if let Some(sender) = &mut self.sender
            // Who is behind already is not waited for again.
            && sender.state().kept + 1 >= line.number
        {
            sender.reached(line.number, self.pace.step).await;
        }
        self.check()?;
        Ok(line)
    }
}
