//! Lines on their way from this host's file to a repository.
//!
//! The file is the queue: what is to be sent is read from it again, so a repository that is away for hours costs no memory, and a
//! process that is killed has lost nothing. Between lines it is looked whether somebody else has written the next one: then the
//! run was taken over.
//!
//! The primary is always tried. A copy is used as soon as the primary fails for long, and from then on besides it: whoever takes the
//! run up may look into either, and what one of them lacks is made good when it answers.

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

use super::{
    place::{Opener, Place},
    state::{At, State},
};

/// How fast things go; shorter in tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often it is looked whether somebody else goes on with the run, and tried again to reach a repository.
    pub look: Duration,
    /// How long a step waits for its line to be in the repository as well.
    pub step: Duration,
    /// How long a repository may fail before another one is asked.
    pub other: Duration,
    /// How long whoever takes a run over waits until that is in the repository.
    pub take: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            look: Duration::from_secs(2),
            step: Duration::from_secs(3),
            other: Duration::from_secs(60),
            take: Duration::from_secs(30),
        }
    }
}

/// What people are told in between.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Sends a journal to repositories: each has a task of its own, so that none that hangs holds up another.
pub struct Sender {
    newest: watch::Sender<u64>,
    state: watch::Receiver<State>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// What is sent, and where to.
pub struct Route {
    /// The journal.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// The repositories, the primary first.
    pub places: Vec<Place>,
    /// Those that are used from the beginning, besides the primary: somebody looks for the run there.
    pub used: Vec<usize>,
    /// The run is being taken over with this line, in these repositories.
    pub taking: Option<(u64, Vec<usize>)>,
}

impl Sender {
    /// Begins. `cancel` is cancelled when the run was taken over.
    pub fn start(route: Route, lines: u64, notice: Notice, cancel: CancellationToken, pace: Pace) -> Sender {
        let Route { name, path, places, used, taking } = route;
        let (newest, told) = watch::channel(lines);
        let at = |(index, place): (usize, &Place)| At {
            name: place.name.clone(),
            used: index == 0 || used.contains(&index),
            ..At::default()
        };
        let places_at = places.iter().enumerate().map(at).collect();
        let (state, seen) = watch::channel(State { places: places_at, taking, ..State::default() });
        let (state, stop) = (Arc::new(state), CancellationToken::new());
        let work = |(index, place): (usize, Place)| {
            let (path, notice, cancel, stop) = (path.clone(), notice.clone(), cancel.clone(), stop.clone());
            let (told, seen, state) = (told.clone(), seen.clone(), Arc::clone(&state));
            let open = place.open;
            let work = Work { index, name, path, open, notice, cancel, stop, pace, told, seen, state, journals: None };
            tokio::spawn(work.run())
        };
        let tasks = places.into_iter().enumerate().map(work).collect();
        Sender { newest, state: seen, stop, tasks }
    }

    /// Tells how many lines the file has.
    pub fn tell(&self, lines: u64) {
        self.newest.send_replace(lines);
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until so many lines are in a repository, it is known that none answers or who took over, or time has run out.
    pub async fn reached(&mut self, lines: u64, limit: Duration) -> State {
        self.wait(limit, |state| state.kept >= lines || state.away.is_some()).await
    }

    /// The same for a repository and each of these, which are tried again until time has run out.
    pub async fn reached_each(&mut self, lines: u64, places: &[usize], limit: Duration) -> State {
        self.wait(limit, |state| state.has(lines, places)).await
    }

    /// The same for every repository that is used and answers.
    pub async fn reached_all(&mut self, lines: u64, limit: Duration) -> State {
        self.wait(limit, |state| state.away.is_some() || state.kept >= lines && state.everywhere(lines)).await
    }

    async fn wait(&mut self, limit: Duration, enough: impl Fn(&State) -> bool) -> State {
        let there = |state: &State| enough(state) || state.taken_over.is_some();
        let _ = tokio::time::timeout(limit, self.state.wait_for(there)).await;
        self.state()
    }

    /// Ends. What was not sent stays in the file, and is sent by whoever takes the run up.
    pub async fn stop(mut self) -> State {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
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

/// The way to one repository.
struct Work {
    index: usize,
    name: Name,
    path: PathBuf,
    open: Opener,
    notice: Notice,
    cancel: CancellationToken,
    /// Of all: who was taken over sends nothing any more.
    stop: CancellationToken,
    pace: Pace,
    told: watch::Receiver<u64>,
    seen: watch::Receiver<State>,
    state: Arc<watch::Sender<State>>,
    journals: Option<Journals>,
}

impl Work {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut look = tokio::time::interval(self.pace.look);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut allowed = 0;
        loop {
            let (index, pace) = (self.index, self.pace);
            let At { used, away, .. } = self.at();
            let calls = |state: &State| if used { state.allowed(index) > allowed } else { state.wants(index, pace) };
            tokio::select! {
                // While it is away, only time makes another try: each takes long enough.
                changed = self.told.changed(), if used && away.is_none() => if changed.is_err() { return },
                // Those before it have the line, or do not answer.
                changed = self.seen.wait_for(calls), if away.is_none() => if changed.is_err() { return },
                _ = look.tick() => {}
                () = stop.cancelled() => return,
            }
            if !used && !self.state.borrow().wants(index, pace) {
                continue;
            }
            allowed = self.state.borrow().allowed(index);
            let sent = tokio::select! {
                sent = self.send(allowed) => sent,
                () = stop.cancelled() => return,
            };
            match sent {
                Ok(None) => self.answers(),
                Ok(Some(by)) => return self.taken(by),
                Err(why) => self.away(why),
            }
        }
    }

    fn at(&self) -> At {
        self.state.borrow().places.get(self.index).cloned().unwrap_or_default()
    }

    /// Notes what is known of this repository; gives what is known of all, before and after.
    fn note(&self, note: impl FnOnce(&mut At)) -> (State, State) {
        let before = self.state.borrow().clone();
        self.state.send_if_modified(|state| {
            let was = state.clone();
            if let Some(at) = state.places.get_mut(self.index) {
                note(at);
            }
            state.sum();
            *state != was
        });
        (before, self.state.borrow().clone())
    }

    fn answers(&mut self) {
        let at = self.at();
        if at.used && at.away.is_none() {
            return;
        }
        let (before, _) = self.note(|at| (at.used, at.away) = (true, None));
        let place = at.place.unwrap_or(at.name);
        match before.why_away(self.index).filter(|_| !at.used) {
            Some(why) => (self.notice)(&format!("{why}; the journal is kept in {place}")),
            None if at.away.is_some() => {
                (self.notice)(&format!("{place} answers again, and has the journal up to line {}", at.kept));
            }
            None => {}
        }
    }

    fn taken(&self, by: String) {
        self.stop.cancel();
        self.state.send_modify(|state| state.taken_over = Some(by));
        self.cancel.cancel();
    }

    fn away(&mut self, why: String) {
        let since = self.at().away.map_or_else(Instant::now, |(since, _)| since);
        if since.elapsed() > self.pace.other {
            self.journals = None; // another connection may answer
        }
        let (before, now) = self.note(|at| (at.used, at.away) = (true, Some((since, why))));
        if before.away.is_none()
            && let Some(why) = now.away
        {
            let line = now.kept + 1;
            (self.notice)(&format!(
                "the journal is not in a repository from line {line} on: {why}. The run goes on, with the journal on this host; \
                 it is sent when a repository answers, and until then another host cannot take the run over safely"
            ));
        }
    }

    /// Sends what is in the file, up to a line; who has taken the run over.
    async fn send(&mut self, allowed: u64) -> Result<Option<String>, String> {
        let journals = match &self.journals {
            Some(journals) => journals.clone(),
            None => {
                let journals = (self.open)().await?;
                if let Some(by) = self.attach(&journals).await? {
                    return Ok(Some(by));
                }
                self.journals.insert(journals).clone()
            }
        };
        let mut kept = self.at().kept;
        if *self.told.borrow_and_update() > kept && allowed > kept {
            let sendable = self.lines().await?.into_iter().take(usize::try_from(allowed).unwrap_or(usize::MAX));
            for line in sendable.skip(kept as usize) {
                match journals.append(self.name, kept + 1, line).await.map_err(|error| with_causes(&error))? {
                    Appended::Ours => kept += 1,
                    Appended::Taken(other) => return Ok(Some(whose(&other))),
                }
                self.note(|at| at.kept = kept);
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
        self.note(|at| (at.place, at.kept) = (Some(place), common));
        match there > common {
            true => self.of_somebody_else(journals, common + 1).await,
            false => Ok(None),
        }
    }

    /// Whose a line is that was not sent; none: ours, which somebody has copied from another repository.
    async fn of_somebody_else(&self, journals: &Journals, number: u64) -> Result<Option<String>, String> {
        let line = journals.line(self.name, number).await.map_err(|error| with_causes(&error))?;
        let own = self.lines().await?;
        Ok(line.filter(|line| own.get(number as usize - 1) != Some(line)).map(|line| whose(&line)))
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
