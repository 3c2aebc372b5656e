//! `lifeboat runbook run`, `resume`, `abort`: what is asked before anything happens, and who carries the run on.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use clap::{Args, ValueEnum};
use lifeboat_model::id::RunId;
use lifeboat_runbook::{
    document::Document,
    event::Event,
    execute::Journal as _,
    journal::{FileJournal, Unusable},
    plan::Mode,
};

use super::{
    Book,
    carry::{self, Carried},
    consent,
    history::History,
    selection::{Selected, SelectionArgs},
    store::{self, AbortRequest, Store},
    terminal::Ready,
};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    incidents,
    kept::{self, Keeping, KeptJournal, Opened},
};

/// How often somebody who asked to call a run off looks whether it is over.
const LOOK: Duration = Duration::from_millis(300);

/// Run a runbook: its steps in order, each written into a journal before the next
///
/// Asks once, showing what it will touch. A step that destroys asks for the system's name as well while production answers.
/// Killed, rebooted or cut off, it goes on where it stands: lifeboat runbook resume.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    selection: SelectionArgs,
    /// What the run is for
    #[arg(long, value_enum, value_name = "MODE", default_value_t = RunMode::Real)]
    mode: RunMode,
    #[command(flatten)]
    talk: Talk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RunMode {
    /// The same steps, with a sandbox in place of production
    Practice,
    /// For real
    Real,
}

/// Go on with a run where it stands
///
/// A step in the middle of which it was cut off is looked at first, and done again only if that is harmless.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The run, or the beginning of its id; latest
    #[arg(value_name = "RUN")]
    run: String,
    /// Go on although another host may be at it; it finds out within seconds and stops, if it reaches the repository
    #[arg(long)]
    take_over: bool,
    #[command(flatten)]
    talk: Talk,
}

/// Call a run off: what was done is taken back, the last first
#[derive(Debug, Args)]
pub(super) struct Abort {
    /// The run, or the beginning of its id; latest
    #[arg(value_name = "RUN")]
    run: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Although another host may be at it; it finds out within seconds and stops, if it reaches the repository
    #[arg(long)]
    take_over: bool,
    #[command(flatten)]
    talk: Talk,
}

/// What is answered without a terminal.
#[derive(Debug, Args)]
pub(super) struct Talk {
    /// Begin without being asked
    #[arg(long)]
    pub yes: bool,
    /// The name of the system, where something of it is destroyed while it lives
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    /// Answer a step's question beforehand (repeatable)
    #[arg(long = "answer", value_name = "STEP=ANSWER[@WHO]")]
    answers: Vec<Ready>,
}

impl Run {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let mode = match self.mode {
            RunMode::Practice => Mode::Practice,
            RunMode::Real => Mode::Real,
        };
        let selected = self.selection.open(session)?;
        let document = selected.document()?;
        let Some(head) = document.head.as_ref().filter(|_| document.steps().next().is_some()) else {
            return Err(Failure::new(Exit::Usage, format!("{} has no step: it is only for reading", document.title)));
        };
        let history = History::look(session, &selected.around).await;
        let past = history.lasted(&selected.around, &head.id.value).await;
        let plan = selected.plan(mode, &|step| past.get(step).copied())?;
        let instance = selected.instance(&plan);
        let look = |id: &str| selected.other(id).and_then(Book::document);
        let rehearsed = history.rehearsed(&head.id.value, document, look, instance.as_ref());
        consent::ask(session, &selected, &plan, &rehearsed, &self.talk).await?;

        let store = Store::of(&selected.around);
        let run = store::new_id()?;
        store.work(&run)?;
        let incident = match mode {
            Mode::Real => incidents::current(session, instance.as_ref()).await,
            _ => None,
        };
        if let Some(incident) = &incident {
            session.voice.say(&format!("belongs to incident {}: {}", incident.id, incident.text()));
        }
        let path = store.journal(&run);
        let cancel = session.cancel.child_token();
        let keeping = Keeping::of(session, "lifeboat runbook run", cancel.clone());
        let mut journal = KeptJournal::create(folder(&path), id(&run)?, keeping).map_err(store::unusable)?;
        let begun = Event::Begun {
            runbook: head.id.value.clone(),
            sha256: document.digest.clone(),
            mode,
            parameters: plan
                .parameters
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
            texts: texts(&selected, document)?,
            tenant: selected.around.config.as_ref().map(|config| config.tenant.to_string()),
            instance: instance.map(|instance| instance.to_string()),
            reference: incident.as_ref().map(|incident| incident.since()),
            incident: incident.map(|incident| incident.id.to_string()),
        };
        let line = journal.append(None, begun).await.map_err(|why| Failure::new(Exit::Failed, why))?;
        session.voice.say(&format!("run {run}, journal {}", path.display()));
        let carried = Carried { run, store, journal, cancel, lines: vec![line], answers: self.talk.answers };
        carry::carry(carried, selected.around, session).await
    }
}

/// The text of the runbook and of every one that it runs: the run goes on with these.
fn texts(selected: &Selected, document: &Document) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let own = document.head.as_ref().map(|head| head.id.value.clone()).unwrap_or_default();
    texts.insert(own, selected.book()?.text.clone());
    let mut open: Vec<String> = document.calls();
    while let Some(id) = open.pop() {
        if texts.contains_key(&id) {
            continue;
        }
        let book =
            selected.other(&id).ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no runbook {id}")))?;
        texts.insert(id, book.text.clone());
        open.extend(book.document().iter().flat_map(|document| document.calls()));
    }
    Ok(texts)
}

impl Resume {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let around = super::Around::look(session)?;
        let store = Store::of(&around);
        let carried = taken_up(store, &self.run, self.take_over, self.talk.answers, session).await?;
        carry::resume(carried, around, session, Event::Resumed).await
    }
}

/// A run of this host, or of another one that has put its journal into the repository.
async fn taken_up(
    store: Store,
    wanted: &str,
    take_over: bool,
    answers: Vec<Ready>,
    session: &Session,
) -> Result<Carried> {
    let cancel = session.cancel.child_token();
    let keeping = Keeping::of(session, "lifeboat runbook resume", cancel.clone());
    let run = match store.find(wanted) {
        Err(failure) if failure.exit == Exit::NotFound && wanted != "latest" => {
            elsewhere(wanted, &keeping, failure).await?
        }
        found => found?,
    };
    session.voice.say("reading the run's journal, also in the repositories");
    let opened = kept::open(folder(&store.journal(&run)), id(&run)?, take_over, keeping).await?;
    opened.remarks.iter().for_each(|remark| session.voice.warn(remark));
    let Opened { journal, lines, .. } = opened;
    Ok(Carried { run, store, journal, cancel, lines, answers })
}

async fn elsewhere(wanted: &str, keeping: &Keeping, failure: Failure) -> Result<String> {
    match kept::elsewhere(wanted, keeping).await.as_deref() {
        Ok([one]) => Ok(one.to_string()),
        Ok([]) => Err(failure),
        Ok(several) => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new(Exit::Usage, format!("\"{wanted}\" is the beginning of {}", ids.join(", "))))
        }
        Err(why) => Err(failure.hint(format!("runs of other hosts are not known: {why}"))),
    }
}

fn folder(journal: &Path) -> &Path {
    journal.parent().unwrap_or(Path::new(""))
}

fn id(run: &str) -> Result<RunId> {
    run.parse().map_err(|_| Failure::new(Exit::Usage, format!("\"{run}\" is no run's id")))
}

impl Abort {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let around = super::Around::look(session)?;
        let store = Store::of(&around);
        let who = session.initiator("").who;
        let Ok(run) = store.find(&self.run) else {
            let carried = taken_up(store, &self.run, self.take_over, self.talk.answers, session).await?;
            return carry::resume(carried, around, session, Event::Aborted { why: self.why }).await;
        };
        match FileJournal::open(&store.journal(&run), &who, session.clock.clone()) {
            Ok((held, _)) => {
                drop(held);
                let carried = taken_up(store, &run, self.take_over, self.talk.answers, session).await?;
                carry::resume(carried, around, session, Event::Aborted { why: self.why }).await
            }
            // Whoever executes it takes back what was done: it has the locks, and the people.
            Err(Unusable::Busy(_)) => {
                let request = serde_json::to_vec(&AbortRequest { who, why: self.why }).context("cannot ask")?;
                let (path, draft) = (store.request(&run), store.work(&run)?.join("abort.draft"));
                fs::write(&draft, request)
                    .and_then(|()| fs::rename(&draft, &path))
                    .context("cannot ask to call it off")?;
                session.voice.say("asked whoever executes it to take back what was done; waiting for its end");
                while let Err(Unusable::Busy(_)) = FileJournal::open(&store.journal(&run), "", session.clock.clone()) {
                    if session.cancel.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                        return Ok(Exit::Interrupted);
                    }
                }
                let lines = FileJournal::look(&store.journal(&run)).map_err(store::unusable)?;
                carry::show(&run, &store, &lines, session)
            }
            Err(error) => Err(store::unusable(error)),
        }
    }
}
