//! Where people ask for runs and call them off. The dispatcher answers, so that it alone decides what is begun.

use std::{collections::BTreeSet, time::Duration};

use lifeboat_model::id::{Instance, RunId, Tenant};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::{Daemon, job::Verb};

/// Requests that may wait for the dispatcher.
const WAITING: usize = 64;
/// The longest that somebody waits for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The owner.
    pub tenant: Tenant,
    /// The instance; none for what is about the whole tenant.
    pub instance: Option<Instance>,
    /// What is to be done.
    pub verb: Verb,
    /// Who asks.
    pub who: String,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such run, tenant or instance.
    #[error("{0}")]
    Unknown(String),
    /// It goes on or waits already, or is over.
    #[error("{0}")]
    Already(String),
    /// It cannot be asked for in this way.
    #[error("{0}")]
    Impossible(String),
    /// Not now: another daemon leads, too much waits, or this one is about to end.
    #[error("{0}")]
    NotNow(String),
}

/// What the dispatcher is asked. It notes what it did before it answers.
pub(super) enum Command {
    Start(Asked, oneshot::Sender<Result<RunId, Refused>>),
    Cancel {
        run: RunId,
        who: String,
        answer: oneshot::Sender<Result<(), Refused>>,
    },
    /// What these need, and had not, answers again.
    Again(BTreeSet<(Tenant, Instance)>),
}

/// The way to the dispatcher. It outlives each of its turns.
pub struct Desk {
    sender: mpsc::Sender<Command>,
    pub(super) receiver: Mutex<mpsc::Receiver<Command>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Desk { sender, receiver: Mutex::new(receiver) }
    }
}

impl Desk {
    /// What these instances need, and had not, answers again: what rests only because it failed need not wait. If the dispatcher
    /// has too much to hear, it is not told: then that rests as long as it would have.
    pub(crate) fn answers_again(&self, whose: &BTreeSet<(Tenant, Instance)>) {
        let _ = self.sender.try_send(Command::Again(whose.clone()));
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command) -> Result<T, Refused> {
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.sender.send(command(sender)).await.ok()?;
            receiver.await.ok()
        };
        match timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            _ => Err(Refused::NotNow("the dispatcher does not answer; look at the daemon's log and ask again".into())),
        }
    }
}

impl Daemon {
    /// Asks for a run. It is begun as soon as the budget allows, before those of schedules.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub async fn start(&self, asked: Asked) -> Result<RunId, Refused> {
        self.desk.ask(|answer| Command::Start(asked, answer)).await
    }

    /// Calls a run off: one that waits is over at once, one that goes on tears down first. It is not tried again.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub async fn cancel_run(&self, run: RunId, who: &str) -> Result<(), Refused> {
        let who = who.to_owned();
        self.desk.ask(|answer| Command::Cancel { run, who, answer }).await
    }

    /// Has the policies read again at once.
    pub fn reload(&self) {
        self.surroundings.reload.notify_one();
    }
}
