//! Carrying a run on: journal, hands and people are put together, and whatever ends it is told.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_daemon::policies;
use lifeboat_evidence::act::Stage;
use lifeboat_runbook::{
    course::Course,
    document::Document,
    event::{Ending, Event, Line, Outcome},
    execute::{Broken, Executor, Hands, Journal, Stand},
    plan::{Mode, Plan, Request},
    printed,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Around,
    reading::{Texts, in_lines},
    standing,
    store::{self, Store},
    terminal::{Ready, Terminal},
};
use crate::{
    cli::{Session, settings::SettingsArgs},
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    hands::{Left, Masks, Real, Sandbox, Tools},
    kept::{KeptJournal, State},
    output::{Answer, Page, Rows, Tone, seconds},
};

/// How often it is looked whether somebody at another terminal calls the run off.
const LOOK: Duration = Duration::from_millis(500);

/// A run in the hands of this process.
pub(super) struct Carried {
    pub run: String,
    pub store: Store,
    pub journal: KeptJournal,
    /// Cancelled when the run was taken over elsewhere.
    pub cancel: CancellationToken,
    pub lines: Vec<Line>,
    /// Answers that were given beforehand.
    pub answers: Vec<Ready>,
}

/// What a run was begun with.
struct Begun {
    runbook: String,
    mode: Mode,
    parameters: BTreeMap<String, String>,
    documents: BTreeMap<String, Document>,
    texts: BTreeMap<String, String>,
    at: Timestamp,
    reference: Timestamp,
}

impl Begun {
    fn of(lines: &[Line]) -> Result<Begun> {
        let at = lines.first().map(|line| line.at).unwrap_or_default();
        let Event::Begun { runbook, sha256, mode, parameters, texts, reference, .. } = store::begun(lines)? else {
            return Err(Failure::new(Exit::Failed, "the journal does not begin with a beginning"));
        };
        let mut documents = BTreeMap::new();
        for (id, text) in texts {
            let document = Document::parse(text).map_err(|findings| {
                let failure =
                    Failure::new(Exit::CheckFailed, format!("this program does not understand {id} any more"));
                Failure { details: findings.iter().map(ToString::to_string).collect(), ..failure }
                    .hint("go on with the program that began the run")
            })?;
            documents.insert(id.clone(), document);
        }
        if documents.get(runbook).is_none_or(|document| document.digest != *sha256) {
            return Err(Failure::new(
                Exit::CheckFailed,
                "the journal does not hold the text that the run was begun with",
            ));
        }
        let (runbook, parameters, texts) = (runbook.clone(), parameters.clone(), texts.clone());
        Ok(Begun { runbook, mode: *mode, parameters, documents, texts, at, reference: reference.unwrap_or(at) })
    }

    fn document(&self) -> Result<&Document> {
        let missing = || Failure::new(Exit::Failed, "the journal does not hold the runbook");
        self.documents.get(&self.runbook).ok_or_else(missing)
    }

    fn plan(&self) -> Result<Plan> {
        let lookup = |id: &str| self.documents.get(id);
        let (parameters, mode) = (self.parameters.clone(), self.mode);
        let request = Request { parameters, mode, past: &|_| None, runbooks: Some(&lookup) };
        let wrong = |_| Failure::new(Exit::CheckFailed, "the parameters of the journal do not fit its runbook");
        Plan::of(self.document()?, &request).map_err(wrong)
    }
}

/// Takes a run up: `first` says so, or calls it off.
pub(super) async fn resume(mut carried: Carried, around: Around, session: &Session, first: Event) -> Result<Exit> {
    let is_over = |line: &Line| matches!(line.event, Event::Finished { .. });
    if carried.lines.last().is_some_and(is_over) {
        carried.journal.close().await; // what the repository lacks of it is sent
        show(&carried.run, &carried.store, &carried.lines, session)?;
        return Err(Failure::new(Exit::NotFound, format!("run {} is over", carried.run)).safe("nothing was done"));
    }
    if Begun::of(&carried.lines)?.mode == Mode::Practice {
        return Err(Failure::new(Exit::Usage, "a practice run cannot be taken up: its sandbox went with its executor")
            .safe("nothing was done, and nothing is left of it")
            .hint("begin a new one"));
    }
    let line = carried.journal.append(None, first).await.map_err(|why| Failure::new(Exit::Failed, why))?;
    carried.lines.push(line);
    carry(carried, around, session).await
}

/// Goes on until the run is over or stands still.
pub(super) async fn carry(carried: Carried, around: Around, session: &Session) -> Result<Exit> {
    let Carried { run, store, mut journal, cancel: taken, mut lines, answers } = carried;
    let begun = Begun::of(&lines)?;
    let (document, plan) = (begun.document()?, begun.plan()?);
    let rto = document.head.as_ref().and_then(|head| head.rto.as_ref()).map(|rto| rto.value);
    let who = session.initiator("").who;
    let clock = (session.clock.clone(), begun.at, rto);
    let texts = Texts { runbook: begun.runbook.clone(), texts: begun.texts.clone() };
    let terminal = Terminal::new(&session.voice, (&run, who), texts, &answers, &plan, clock);
    let hands = Real { tools: tools(&run, &store, &begun, around, session)? };
    let stage = if lines.len() == 1 { Stage::Begun } else { Stage::TakenUp };
    let told_of = tokio::spawn(journal.recorded(stage, None));
    let stand = loop {
        let cancel = taken.child_token();
        let called_off = called_off(&store, &run);
        let course = Course::new(document, begun.mode, begun.parameters.clone(), &run, &begun.at.to_string());
        let find = |id: &str| begun.documents.get(id);
        let mut executor = Executor {
            hands: &hands as &dyn Hands,
            people: &terminal,
            journal: &mut journal as &mut dyn Journal,
            runbooks: &find,
            lines: std::mem::take(&mut lines),
            cancel: cancel.clone(),
        };
        let running = executor.run(course);
        let (stand, request) = {
            let mut running = std::pin::pin!(running);
            tokio::select! {
                stand = &mut running => (stand, None),
                request = called_off => {
                    cancel.cancel();
                    (running.await, Some(request))
                }
            }
        };
        lines = executor.lines;
        if let Some(by) = journal.taken_over() {
            return Err(taken_over(&run, &by));
        }
        let stand = stand.map_err(broken)?;
        match request {
            Some(request) if stand == Stand::Interrupted => {
                let _ = fs::remove_file(store.request(&run)); // asked once, answered once
                let why = Event::Aborted { why: request.why };
                let line =
                    journal.append(Some(&request.who), why).await.map_err(|why| Failure::new(Exit::Failed, why))?;
                terminal.say(&format!("called off by {}: taking back what was done", request.who));
                lines.push(line);
            }
            _ => break stand,
        }
    };
    drop(terminal);
    // One after the other: what was begun is told before what became of it.
    let first = told_of.await.unwrap_or_else(|error| Err(error.to_string()));
    let recorded = journal.recorded(Stage::StandsStill, why(&stand));
    let state = journal.close().await;
    told_of_keeping(session, first.and(recorded.await), state);
    session.output.show(&Told::new(&run, &store, &begun, &plan, &lines, &stand))?;
    Ok(exit(&stand))
}

/// What the statement says of a run that is not over.
fn why(stand: &Stand) -> Option<String> {
    match stand {
        Stand::Over(_) => None,
        Stand::Stopped { step, why } => Some(format!("{step}: {why}")),
        Stand::Waits { step } => Some(format!("{step}: somebody has to answer")),
        Stand::Interrupted => Some("interrupted".to_owned()),
    }
}

/// Says what is not where it should be: the run is as it is all the same.
fn told_of_keeping(session: &Session, recorded: std::result::Result<String, String>, state: Option<State>) {
    if let Err(why) = recorded {
        session.voice.warn(&format!("the run is not recorded in the ledger: {why}"));
    }
    if let Some(why) = state.and_then(|state| state.away) {
        session
            .voice
            .warn(&format!("the end of the journal is on this host alone ({why}); lifeboat runbook resume sends it"));
    }
}

fn taken_over(run: &str, by: &str) -> Failure {
    Failure::new(Exit::Busy, format!("run {run} was taken over: {by}"))
        .safe("this host has stopped, in the middle of a step perhaps")
        .hint("ask them; what this host wrote and nobody saw is kept beside the journal when the run is taken up here")
}

/// Somebody at another terminal wants it to be taken back.
async fn called_off(store: &Store, run: &str) -> store::AbortRequest {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(request) = store::read_request(&store.request(run)) {
            return request;
        }
    }
}

fn tools(run: &str, store: &Store, begun: &Begun, around: Around, session: &Session) -> Result<Tools> {
    let voice = session.voice.clone();
    let settings = SettingsArgs::default().sources(session).ok().and_then(|sources| policies::read(&sources).ok());
    let settings = settings.map(|read| read.settings);
    let absolute = |path| std::path::absolute(path).context("cannot tell where lifeboat.toml is");
    Ok(Tools {
        config_file: around.config_file.map(absolute).transpose()?,
        run: run.to_owned(),
        folder: std::path::absolute(store.work(run)?).context("cannot tell where the run's folder is")?,
        started_by: format!("runbook {}, run {run}", begun.runbook),
        channels: settings.as_ref().map(|settings| settings.notify.channels.clone()).unwrap_or_default(),
        public_url: settings.and_then(|settings| settings.public_url),
        reference: begun.reference,
        clock: session.clock.clone(),
        talk: Arc::new(move |text: &str| voice.say(&format!("  {text}"))),
        masks: Masks::default(),
        left: Left::default(),
        practice: (begun.mode == Mode::Practice).then(|| Sandbox::new(begun.documents.values())),
    })
}

fn broken(broken: Broken) -> Failure {
    match broken {
        Broken::Journal(why) => Failure::new(Exit::Failed, why)
            .safe("nothing more was begun: what is not in the journal is not done")
            .next("lifeboat runbook resume latest"),
        Broken::Misfit(misfit) => Failure::new(Exit::CheckFailed, misfit.to_string()),
        Broken::NoRunbook(id) => Failure::new(Exit::NotFound, format!("there is no runbook {id}")),
    }
}

fn exit(stand: &Stand) -> Exit {
    match stand {
        Stand::Over(Ending::Passed | Ending::Answered) => Exit::Ok,
        Stand::Over(Ending::Failed) => Exit::CheckFailed,
        Stand::Over(Ending::RolledBack | Ending::HalfRolledBack) | Stand::Stopped { .. } => Exit::Failed,
        Stand::Waits { .. } => Exit::Incomplete,
        Stand::Interrupted => Exit::Interrupted,
    }
}

/// Shows a run that somebody else executes or has ended, or that stands still.
pub(super) fn show(run: &str, store: &Store, lines: &[Line], session: &Session) -> Result<Exit> {
    let begun = Begun::of(lines)?;
    let course = Course::new(begun.document()?, begun.mode, begun.parameters.clone(), run, &begun.at.to_string());
    let stand = standing::of(course, &begun.documents, lines);
    let told = Told { with_printed: true, ..Told::new(run, store, &begun, &begun.plan()?, lines, &stand) };
    let is_open = !matches!(stand, Stand::Over(_));
    session.output.show(&match is_open && standing::is_executed(&store.journal(run)) {
        true => Told { stand: "executed", next: None, ..told },
        false => told,
    })?;
    Ok(exit(&stand))
}

/// How a run stands, for people and programs.
#[derive(Serialize)]
struct Told {
    run: String,
    runbook: String,
    mode: &'static str,
    /// `passed`, `failed`, `ended by an answer`, `rolled back`, `HALF rolled back`, `stopped`, `waits`, `interrupted`; `executed`: a process of
    /// this host is at it, or asks somebody.
    stand: &'static str,
    /// The step at which it stands still.
    at: Option<String>,
    why: Option<String>,
    began: Timestamp,
    seconds: f64,
    rto_seconds: Option<u64>,
    /// None: it is not over, or the runbook has no RTO.
    within_rto: Option<bool>,
    /// The newest commit that a verification has found.
    newest_commit: Option<String>,
    rpo_seconds: Option<String>,
    steps: Vec<ToldStep>,
    not_practised: Vec<String>,
    /// What proves it, of a practice run: the drill and its evidence.
    outputs: BTreeMap<String, String>,
    journal: std::path::PathBuf,
    next: Option<String>,
    /// What steps printed is shown; whoever has executed it has seen it.
    #[serde(skip)]
    with_printed: bool,
}

#[derive(Serialize)]
struct ToldStep {
    id: String,
    outcome: &'static str,
    attempts: u32,
    seconds: f64,
    outputs: BTreeMap<String, String>,
    why: Option<String>,
}

impl Told {
    fn new(run: &str, store: &Store, begun: &Begun, plan: &Plan, lines: &[Line], stand: &Stand) -> Told {
        let finish = lines.last().and_then(|line| match &line.event {
            Event::Finished { outputs, why, .. } => Some((outputs, why)),
            _ => None,
        });
        let (word, at, why) = match stand {
            Stand::Over(ending) => (ending.word(), None, finish.and_then(|(_, why)| why.clone())),
            Stand::Stopped { step, why } => ("stopped", Some(step.clone()), Some(why.clone())),
            Stand::Waits { step } => ("waits", Some(step.clone()), Some("somebody has to answer".to_owned())),
            Stand::Interrupted => ("interrupted", None, None),
        };
        let next = match stand {
            Stand::Over(_) => None,
            Stand::Waits { step } => Some(format!("lifeboat runbook resume {run} --answer {step}=…")),
            Stand::Stopped { .. } | Stand::Interrupted => Some(format!("lifeboat runbook resume {run}")),
        };
        let next = next.filter(|_| begun.mode == Mode::Real);
        let end = lines.last().map_or(begun.at, |line| line.at);
        let took = end.duration_since(begun.at).as_secs_f64();
        let head = begun.documents.get(&begun.runbook).and_then(|document| document.head.as_ref());
        let rto = head.and_then(|head| head.rto.as_ref()).map(|rto| rto.value.0);
        let is_over = matches!(stand, Stand::Over(_));
        let steps = steps(lines);
        let found = |name: &str| steps.iter().rev().find_map(|step| step.outputs.get(name).cloned());
        Told {
            run: run.to_owned(),
            runbook: begun.runbook.clone(),
            mode: plan.mode.word(),
            stand: word,
            at,
            why,
            began: begun.at,
            seconds: took,
            rto_seconds: rto.map(|rto| rto.as_secs()),
            within_rto: rto.filter(|_| is_over).map(|rto| took <= rto.as_secs_f64()),
            newest_commit: found("newest-commit"),
            rpo_seconds: found("rpo-seconds"),
            not_practised: lines
                .iter()
                .filter_map(|line| match &line.event {
                    Event::NotPractised { step, .. } => Some(step.clone()),
                    _ => None,
                })
                .collect(),
            steps,
            outputs: finish.map(|(outputs, _)| outputs.clone()).unwrap_or_default(),
            journal: store.journal(run),
            next,
            with_printed: false,
        }
    }
}

/// What became of each step, in the order in which they were begun.
fn steps(lines: &[Line]) -> Vec<ToldStep> {
    let mut steps: Vec<ToldStep> = Vec::new();
    let mut began = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::Started { step, attempt } => {
                began.insert(step.clone(), line.at);
                match steps.iter_mut().find(|known| known.id == *step) {
                    Some(known) => (known.attempts, known.outcome) = (*attempt, "begun"),
                    None => steps.push(ToldStep {
                        id: step.clone(),
                        outcome: "begun",
                        attempts: *attempt,
                        seconds: 0.0,
                        outputs: BTreeMap::new(),
                        why: None,
                    }),
                }
            }
            Event::Ended { step, outcome, outputs, why, .. } => {
                let took = began.get(step).map_or(0.0, |began| line.at.duration_since(*began).as_secs_f64());
                if let Some(known) = steps.iter_mut().find(|known| known.id == *step) {
                    known.outcome = if *outcome == Outcome::Passed { "passed" } else { "failed" };
                    known.seconds += took;
                    known.outputs.clone_from(outputs);
                    known.why.clone_from(why);
                }
            }
            _ => {}
        }
    }
    steps
}

impl Answer for Told {
    const SCHEMA: &'static str = "lifeboat.runbook-run/1";

    fn text(&self, page: &mut Page) {
        let tone = match self.stand {
            "passed" | "ended by an answer" => Tone::Good,
            "waits" | "interrupted" | "executed" | "rolled back" => Tone::Doubtful,
            _ => Tone::Bad,
        };
        let at = self.at.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        page.line(format_args!(
            "{} {}, run {} ({}){at}{why}",
            tone.paint(self.stand),
            self.runbook,
            self.run,
            self.mode
        ));
        page.gap();
        let mut rows = Rows::new(&["step", "outcome", "tries", "took"]).numbers(&[2, 3]);
        for step in &self.steps {
            rows.plain([&step.id, step.outcome, &step.attempts.to_string(), &seconds(step.seconds)]);
        }
        page.table(rows);
        for step in self.steps.iter().filter(|_| self.with_printed) {
            if let Some(printed) = printed::of(&step.outputs) {
                page.line(format_args!("{}:", step.id));
                page.line(format_args!("{}", in_lines(&printed, &self.run)));
                page.gap();
            }
        }
        let rto = match (self.rto_seconds, self.within_rto) {
            (Some(rto), Some(true)) => format!(", within the RTO of {}", seconds(rto as f64)),
            (Some(rto), Some(false)) => format!(", {} the RTO of {}", Tone::Bad.paint("PAST"), seconds(rto as f64)),
            _ => String::new(),
        };
        page.line(format_args!("{} since it began{rto}", seconds(self.seconds)));
        if let Some(newest) = &self.newest_commit {
            let rpo = self.rpo_seconds.as_ref().map(|rpo| format!(", {rpo} s before the incident")).unwrap_or_default();
            page.line(format_args!("newest commit that is back: {newest}{rpo}"));
        }
        for step in &self.not_practised {
            page.line(format_args!("{} {step}", Tone::Doubtful.paint("not practised:")));
        }
        for (name, value) in &self.outputs {
            page.line(format_args!("{name}: {value}"));
        }
        page.line(format_args!("journal: {}", self.journal.display()));
        if let Some(next) = &self.next {
            page.line(format_args!("next: {next}"));
        }
    }
}
