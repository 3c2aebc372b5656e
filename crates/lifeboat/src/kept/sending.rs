//! Lines on their way from this host's file to a repository.
//!
//! The file is the queue: what is to be sent is read from it again, so a repository that is away for hours costs no memory, and a
//! process that is killed has lost nothing. Between lines it is looked whether somebody else has written the next one: then the
//! run was taken over.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use lifeboat_engine::{
    journal::{Appended, Journals, Name},
    with_causes,
};
use lifeboat_runbook::journal::FileJournal;
use serde::Deserialize;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::place::Opener;

/// How fast things go; shorter in tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often it is looked whether somebody else goes on with the run, and tried again to reach a repository.
    pub look: Duration,
    /// How long a step waits for its line to be in the repository as well.
    pub step: Duration,
    /// How long a repository may fail before another one is asked.
    pub other: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { look: Duration::from_secs(2), step: Duration::from_secs(3), other: Duration::from_secs(60) }
    }
}

/// What people are told in between.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The repository; none: none has answered yet.
    pub place: Option<String>,
    /// Lines that are there.
    pub kept: u64,
    /// Why no more are; none: it answers, as far as is known.
    pub away: Option<String>,
    /// Somebody else went on with the run: who, and when.
    pub taken_over: Option<String>,
}

/// Sends a journal.
pub struct Sender {
    newest: watch::Sender<u64>,
    state: watch::Receiver<State>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Sender {
    /// Begins. `cancel` is cancelled when the run was taken over.
    pub fn start(
        name: Name,
        path: PathBuf,
        lines: u64,
        opener: Opener,
        notice: Notice,
        cancel: CancellationToken,
        pace: Pace,
    ) -> Sender {
        let (newest, told) = watch::channel(lines);
        let (state, seen) = watch::channel(State::default());
        let stop = CancellationToken::new();
        let work = Work { name, path, opener, notice, cancel, pace, told, state, journals: None, failing: None };
        let task = Some(tokio::spawn(work.run(stop.clone())));
        Sender { newest, state: seen, stop, task }
    }

    /// Tells how many lines the file has.
    pub fn tell(&self, lines: u64) {
        self.newest.send_replace(lines);
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until so many lines are there, it is known to be away or taken over, or time has run out.
    pub async fn reached(&mut self, lines: u64, limit: Duration) -> State {
        let there = |state: &State| state.kept >= lines || state.away.is_some() || state.taken_over.is_some();
        let _ = tokio::time::timeout(limit, self.state.wait_for(there)).await;
        self.state()
    }

    /// Ends. What was not sent stays in the file, and is sent by whoever takes the run up.
    pub async fn stop(mut self) -> State {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        self.state.borrow().clone()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Work {
    name: Name,
    path: PathBuf,
    opener: Opener,
    notice: Notice,
    cancel: CancellationToken,
    pace: Pace,
    told: watch::Receiver<u64>,
    state: watch::Sender<State>,
    journals: Option<Journals>,
    /// Since when nothing was sent.
    failing: Option<Instant>,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(self.pace.look);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // While it is away, only time makes another try: each takes long enough.
            let away = self.failing.is_some();
            tokio::select! {
                changed = self.told.changed(), if !away => if changed.is_err() { return },
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            let sent = tokio::select! {
                sent = self.send() => sent,
                () = stop.cancelled() => return,
            };
            match sent {
                Ok(None) => self.answers(),
                Ok(Some(by)) => return self.taken(by),
                Err(why) => self.away(why),
            }
        }
    }

    fn answers(&mut self) {
        if self.failing.take().is_some() {
            let (place, kept) = (self.place(), self.state.borrow().kept);
            (self.notice)(&format!("{place} answers again, and has the journal up to line {kept}"));
        }
        self.state.send_modify(|state| state.away = None);
    }

    fn taken(&self, by: String) {
        self.state.send_modify(|state| state.taken_over = Some(by));
        self.cancel.cancel();
    }

    fn away(&mut self, why: String) {
        let since = *self.failing.get_or_insert_with(|| {
            let line = self.state.borrow().kept + 1;
            (self.notice)(&format!(
                "the journal is not in a repository from line {line} on: {why}. The run goes on, with the journal on this host; \
                 it is sent when the repository answers, and until then another host cannot take the run over safely"
            ));
            Instant::now()
        });
        if since.elapsed() > self.pace.other {
            self.journals = None; // another may answer
        }
        self.state.send_modify(|state| state.away = Some(why));
    }

    fn place(&self) -> String {
        self.state.borrow().place.clone().unwrap_or_else(|| "the repository".to_owned())
    }

    /// Sends what is in the file; who has taken the run over.
    async fn send(&mut self) -> Result<Option<String>, String> {
        let journals = match &self.journals {
            Some(journals) => journals.clone(),
            None => {
                let (journals, remark) = (self.opener)().await?;
                if let Some(by) = self.attach(&journals).await? {
                    return Ok(Some(by));
                }
                if let Some(remark) = remark {
                    (self.notice)(&remark);
                }
                self.journals.insert(journals).clone()
            }
        };
        let mut kept = self.state.borrow().kept;
        if *self.told.borrow_and_update() > kept {
            for line in self.lines().await?.into_iter().skip(kept as usize) {
                match journals.append(self.name, kept + 1, line).await.map_err(|error| with_causes(&error))? {
                    Appended::Ours => kept += 1,
                    Appended::Taken(other) => return Ok(Some(whose(&other))),
                }
                self.state.send_modify(|state| state.kept = kept);
            }
        }
        match journals.has(self.name, kept + 1).await.map_err(|error| with_causes(&error))? {
            true => self.of_somebody_else(&journals, kept + 1).await,
            false => Ok(None),
        }
    }

    /// Finds out what a repository has of the journal: as each line names the digest of the one before it, the last one tells of all.
    async fn attach(&self, journals: &Journals) -> Result<Option<String>, String> {
        let there = journals.count(self.name).await.map_err(|error| with_causes(&error))?;
        let lines = self.lines().await?;
        let common = there.min(lines.len() as u64);
        if common > 0 {
            let line = journals.line(self.name, common).await.map_err(|error| with_causes(&error))?;
            let line = line.ok_or("a line of the journal has gone")?;
            if lines.get(common as usize - 1).is_none_or(|own| *own != line) {
                return Ok(Some(whose(&line)));
            }
        }
        let place = journals.place().to_owned();
        self.state.send_modify(|state| (state.place, state.kept) = (Some(place), common));
        match there > common {
            true => self.of_somebody_else(journals, common + 1).await,
            false => Ok(None),
        }
    }

    async fn of_somebody_else(&self, journals: &Journals, number: u64) -> Result<Option<String>, String> {
        let line = journals.line(self.name, number).await.map_err(|error| with_causes(&error))?;
        Ok(line.map(|line| whose(&line)))
    }

    async fn lines(&self) -> Result<Vec<Bytes>, String> {
        let path = self.path.clone();
        let texts = tokio::task::spawn_blocking(move || FileJournal::texts(&path)).await;
        let texts = texts.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(texts.into_iter().map(Bytes::from).collect())
    }
}

/// Who wrote a line, and when.
pub fn whose(line: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        number: u64,
        at: jiff::Timestamp,
        who: String,
    }
    match serde_json::from_slice::<Named>(line) {
        Ok(Named { number, at, who }) => format!("{who} wrote line {number} at {at:.0}"),
        Err(_) => "somebody wrote what is no line of a journal".to_owned(),
    }
}
