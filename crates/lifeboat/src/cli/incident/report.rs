//! `lifeboat incident report`: what happened, who did what, how long it took and what it cost; and what people are to write down
//! themselves.

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{
    journal::{Journals, Kind},
    with_causes,
};
use lifeboat_evidence::report::paper::{Block, Paper, Section};
use lifeboat_model::time::Span;
use lifeboat_runbook::{
    event::{Asked, Event, Line, Outcome},
    incident::Happened,
    journal::FileJournal,
    plan::Mode,
};
use serde::Serialize;

use super::digits;
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    incidents::{Desk, Incident},
    kept::{self, record::word},
    output::{Answer, Page, count, moment, write_stdout},
    wire::Loaded,
};

/// Runs that are looked at, the newest.
const MOST: usize = 500;
/// What `verify` gives, which tells how new the newest commit is that came back.
const NEWEST: &str = "newest-commit";
/// What `command` gives: the end of what the program printed.
const PRINTED: &str = "output";
/// What only `verify` gives.
const MEASURED: &str = "rpo-seconds";

/// Write the after-action report: one HTML document, or Markdown to go on with
///
/// It tells what was noted, which runbooks were run and how each step went, the time to recovery (until the last verification that
/// passed) and what was lost. Headings and questions at its end are for people.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// By the first digits of its id [default: the one that is open, else the newest]
    #[arg(value_name = "ID", value_parser = digits)]
    incident: Option<String>,
    /// Write it here: .html, else Markdown [default: Markdown on standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Report {
    pub(super) async fn run(self, session: &Session, loaded: &Loaded, desk: &Desk) -> Result<Exit> {
        let incident = match &self.incident {
            Some(wanted) => desk.find(Some(wanted)).await?,
            None => {
                let (all, _) = desk.all().await?;
                let open = all.iter().find(|incident| incident.closed().is_none());
                let newest = open.or(all.first()).cloned();
                newest.ok_or_else(|| {
                    Failure::new(Exit::NotFound, "no incident is known").next("lifeboat incident open TEXT")
                })?
            }
        };
        let folder = loaded.config.engine.state_dir.join("runs");
        let (runs, remarks) = runs(desk, &folder, &incident).await;
        remarks.iter().for_each(|remark| session.voice.warn(remark));
        let told = Told::new(&incident, runs, remarks, session.now());
        let paper = told.paper();
        let Some(out) = self.out else {
            match session.output.is_json() {
                true => session.output.show(&told.answer(None))?,
                false => write_stdout(&paper.markdown())?,
            }
            return Ok(Exit::Ok);
        };
        let is_html =
            out.extension().is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"));
        let text = if is_html { paper.html() } else { paper.markdown() };
        fs::write(&out, text).context(format!("cannot write {}", out.display()))?;
        session.output.show(&told.answer(Some(out)))?;
        Ok(Exit::Ok)
    }
}

/// A run of a runbook.
struct Run {
    id: String,
    lines: Vec<Line>,
}

/// The runs that belong to it, the first first: of this host, and of the repository, which knows those of others.
async fn runs(desk: &Desk, folder: &std::path::Path, incident: &Incident) -> (Vec<Run>, Vec<String>) {
    let wanted = incident.id.to_string();
    let belongs = |lines: &[Line]| matches!(lines.first(), Some(Line { event: Event::Begun { incident: Some(of), .. }, .. }) if *of == wanted);
    let (mut found, mut remarks) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(id), Some("jsonl")) =
            (path.file_stem().and_then(|id| id.to_str()), path.extension().and_then(|end| end.to_str()))
        else {
            continue;
        };
        match FileJournal::look(&path) {
            Ok(lines) if belongs(&lines) => drop(found.insert(id.to_owned(), lines)),
            Ok(_) => {}
            Err(error) => remarks.push(error.to_string()),
        }
    }
    match desk.context() {
        Ok(context) => {
            let journals = Journals::of_reader(context);
            match others(&journals, folder, &belongs, &mut found).await {
                Ok(odd) => remarks.extend(odd),
                Err(why) => remarks.push(format!("runs of other hosts are not known: {why}")),
            }
        }
        Err(why) => remarks.push(format!("runs of other hosts are not known: {why}")),
    }
    let mut runs: Vec<Run> = found.into_iter().map(|(id, lines)| Run { id, lines }).collect();
    runs.sort_by_key(|run| run.lines.first().map(|line| line.at));
    (runs, remarks)
}

async fn others(
    journals: &Journals,
    folder: &std::path::Path,
    belongs: &dyn Fn(&[Line]) -> bool,
    found: &mut BTreeMap<String, Vec<Line>>,
) -> std::result::Result<Vec<String>, String> {
    let mut remarks = Vec::new();
    for listed in journals.list(Kind::Run, MOST).await.map_err(|error| with_causes(&error))? {
        let path = kept::file(folder, listed.name.id);
        let first = FileJournal::check(&[&listed.first], &path);
        let id = listed.name.id.to_string();
        let known = found.get(&id).map_or(0, |lines| lines.len() as u64);
        if known >= listed.lines || !first.is_ok_and(|first| belongs(&first.lines)) {
            continue;
        }
        let lines = journals.read(listed.name, 1).await.map_err(|error| with_causes(&error))?;
        match FileJournal::check(&lines, &path) {
            Ok(read) => drop(found.insert(id, read.lines)),
            Err(error) => remarks.push(format!("run {id}: {error}")),
        }
    }
    Ok(remarks)
}

/// All that the report says.
struct Told<'i> {
    incident: &'i Incident,
    runs: Vec<Run>,
    remarks: Vec<String>,
    now: Timestamp,
    /// The last verification of a real run that passed: when, and the newest commit that it found.
    verified: Option<(Timestamp, Option<Timestamp>)>,
}

impl<'i> Told<'i> {
    fn new(incident: &'i Incident, runs: Vec<Run>, remarks: Vec<String>, now: Timestamp) -> Told<'i> {
        let real = runs.iter().filter(|run| run.mode() == Some(Mode::Real));
        let verified = real.flat_map(|run| &run.lines).filter_map(|line| match &line.event {
            Event::Ended { outcome: Outcome::Passed, outputs, .. } if outputs.contains_key(MEASURED) => {
                Some((line.at, outputs.get(NEWEST).and_then(|newest| newest.parse().ok())))
            }
            _ => None,
        });
        let verified = verified.max_by_key(|(at, _)| *at);
        Told { incident, runs, remarks, now, verified }
    }

    fn recovery(&self) -> Option<SignedDuration> {
        self.verified.map(|(at, _)| at.duration_since(self.incident.since()))
    }

    fn lost(&self) -> Option<SignedDuration> {
        let newest = self.verified?.1?;
        Some(self.incident.since().duration_since(newest).max(SignedDuration::ZERO))
    }

    fn answer(&self, file: Option<PathBuf>) -> Reported {
        Reported {
            incident: self.incident.id.to_string(),
            file,
            runs: self.runs.len(),
            recovery_seconds: self.recovery().map(|span| span.as_secs_f64()),
            rpo_seconds: self.lost().map(|span| span.as_secs_f64()),
            not_known: self.remarks.clone(),
        }
    }

    fn paper(&self) -> Paper {
        let incident = self.incident;
        let stood = match incident.closed() {
            Some(closed) => format!("closed {}", moment(closed)),
            None => format!("open as of {}", moment(self.now)),
        };
        let recovery = match (self.verified, self.recovery()) {
            (Some((at, _)), Some(span)) => {
                format!("{}, until the verification that passed at {}", long(span), moment(at))
            }
            _ => "not known: no verification of a real run passed".to_owned(),
        };
        let lost = match (self.verified.and_then(|(_, newest)| newest), self.lost()) {
            (Some(newest), Some(span)) => format!("{}: the newest commit that came back is of {newest:.3}", long(span)),
            _ => "not known: no verification of a real run told the newest commit".to_owned(),
        };
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let mut sections = vec![self.timeline(), self.steps(), self.decisions(), self.failures(), self.not_practised()];
        sections.push(self.printed());
        sections.extend(questions());
        Paper {
            title: format!("Incident {}: {}", incident.id, incident.text()),
            facts: vec![
                fact("Instance", incident.instance().unwrap_or("all").to_owned()),
                fact("Since", format!("{}, the reference of the RPO", moment(incident.since()))),
                fact("Declared", moment(incident.opened())),
                fact("It is", stood),
                fact("Time to recovery", recovery),
                fact("Lost work (RPO)", lost),
                fact("Runs of runbooks", self.runs.len().to_string()),
                fact(
                    "Journal",
                    format!(
                        "{}, the last with SHA-256 {}",
                        count(incident.lines.len() as u64, "line", "lines"),
                        incident.head
                    ),
                ),
            ],
            sections,
        }
    }

    fn timeline(&self) -> Section {
        let mut rows: Vec<(Timestamp, String, String)> = Vec::new();
        for line in &self.incident.lines {
            let what = match &line.event {
                Happened::Opened { text, .. } => format!("declared: {text}"),
                Happened::Noted { text } => text.clone(),
                Happened::Closed { text } => {
                    format!("closed{}", text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())
                }
            };
            rows.push((line.at, line.who.clone(), what));
        }
        for run in &self.runs {
            for line in &run.lines {
                let what = match &line.event {
                    Event::Begun { runbook, mode, .. } => format!("begins {runbook} ({}), run {}", mode.word(), run.id),
                    Event::Resumed => format!("takes up run {}", run.id),
                    Event::Aborted { why } => format!("calls off run {}: {why}", run.id),
                    Event::Finished { ending, why, .. } => {
                        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                        format!("run {} is over: {}{why}", run.id, word(*ending))
                    }
                    _ => continue,
                };
                rows.push((line.at, line.who.clone(), what));
            }
        }
        rows.sort_by_key(|(at, ..)| *at);
        let rows = rows.into_iter().map(|(at, who, what)| vec![moment(at), who, what]).collect();
        Section { heading: "What happened".to_owned(), blocks: vec![table(&["when", "who", "what"], rows)] }
    }

    fn steps(&self) -> Section {
        let mut section = Section::new("Runbooks");
        if self.runs.is_empty() {
            section.blocks.push(Block::Text("No runbook was run during the incident.".to_owned()));
        }
        for run in &self.runs {
            let Some(Line { event: Event::Begun { runbook, sha256, mode, parameters, .. }, .. }) = run.lines.first()
            else {
                continue;
            };
            section.blocks.push(Block::Heading(format!("{runbook}, {}, run {}", mode.word(), run.id)));
            let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            section.blocks.push(Block::Text(format!("SHA-256 of the runbook {sha256}. {}", parameters.join(", "))));
            section.blocks.push(table(&["step", "began", "took", "outcome", "why"], run.steps()));
        }
        section
    }

    fn decisions(&self) -> Section {
        let mut rows = Vec::new();
        for (run, line) in self.lines() {
            let Event::Answered { step, asked, answer, comment } = &line.event else { continue };
            let asked = match asked {
                Asked::Question => "decided",
                Asked::Failure => "after it failed",
                Asked::Doubt => "whether it was done",
            };
            let comment = comment.clone().unwrap_or_default();
            rows.push(vec![
                moment(line.at),
                line.who.clone(),
                format!("{step} ({})", run.id),
                asked.to_owned(),
                answer.clone(),
                comment,
            ]);
        }
        of(
            "Decisions and approvals",
            &["when", "who", "step", "asked", "answer", "comment"],
            rows,
            "Nobody was asked anything.",
        )
    }

    fn failures(&self) -> Section {
        let mut rows = Vec::new();
        for (run, line) in self.lines() {
            let (step, why) = match &line.event {
                Event::Ended { step, outcome: Outcome::Failed, why, .. } => (step, why),
                Event::UndoEnded { step, outcome: Outcome::Failed, why } => (step, why),
                _ => continue,
            };
            rows.push(vec![moment(line.at), format!("{step} ({})", run.id), why.clone().unwrap_or_default()]);
        }
        let mut section = of("What failed", &["when", "step", "why"], rows, "No step failed.");
        if !self.remarks.is_empty() {
            section.blocks.push(Block::Text("What could not be read for this report:".to_owned()));
            section.blocks.push(Block::List(self.remarks.clone()));
        }
        section
    }

    fn not_practised(&self) -> Section {
        let mut rows = Vec::new();
        for (run, line) in self.lines() {
            if let Event::NotPractised { step, why } = &line.event {
                rows.push(vec![format!("{step} ({})", run.id), why.clone()]);
            }
        }
        of("What practice could not do", &["step", "why"], rows, "Nothing was left out of a practice run.")
    }

    /// What programs printed that were run to find something out: which moment is good, and what going back to it loses.
    fn printed(&self) -> Section {
        let mut section = Section::new("What steps printed");
        for (run, line) in self.lines() {
            let Event::Ended { step, outcome: Outcome::Passed, outputs, .. } = &line.event else { continue };
            let Some(output) = outputs.get(PRINTED).filter(|output| !output.is_empty()) else { continue };
            section.blocks.push(Block::Heading(format!("{step} ({})", run.id)));
            section.blocks.push(Block::Printed(output.clone()));
        }
        if section.blocks.is_empty() {
            section.blocks.push(Block::Text("No step ran a program that printed anything.".to_owned()));
        }
        section
    }

    fn lines(&self) -> impl Iterator<Item = (&Run, &Line)> {
        self.runs.iter().flat_map(|run| run.lines.iter().map(move |line| (run, line)))
    }
}

impl Run {
    fn mode(&self) -> Option<Mode> {
        match &self.lines.first()?.event {
            Event::Begun { mode, .. } => Some(*mode),
            _ => None,
        }
    }

    /// Each try of each step.
    fn steps(&self) -> Vec<Vec<String>> {
        let mut began = BTreeMap::new();
        let mut rows = Vec::new();
        for line in &self.lines {
            match &line.event {
                Event::Started { step, attempt } => drop(began.insert((step, *attempt), line.at)),
                Event::Ended { step, attempt, outcome, why, .. } => {
                    let begin = began.remove(&(step, *attempt));
                    let took = begin.map(|begin| long(line.at.duration_since(begin))).unwrap_or_default();
                    let outcome = if *outcome == Outcome::Passed { "passed" } else { "FAILED" };
                    let begin = begin.map(moment).unwrap_or_default();
                    rows.push(vec![step.clone(), begin, took, outcome.to_owned(), why.clone().unwrap_or_default()]);
                }
                Event::Skipped { step, why } => {
                    rows.push(vec![step.clone(), moment(line.at), String::new(), "skipped".to_owned(), why.clone()]);
                }
                Event::NotPractised { step, why } => {
                    rows.push(vec![
                        step.clone(),
                        moment(line.at),
                        String::new(),
                        "not practised".to_owned(),
                        why.clone(),
                    ]);
                }
                Event::UndoEnded { step, outcome, why } => {
                    let outcome = if *outcome == Outcome::Passed { "taken back" } else { "NOT TAKEN BACK" };
                    rows.push(vec![
                        step.clone(),
                        moment(line.at),
                        String::new(),
                        outcome.to_owned(),
                        why.clone().unwrap_or_default(),
                    ]);
                }
                _ => {}
            }
        }
        for ((step, _), begin) in began {
            rows.push(vec![step.clone(), moment(begin), String::new(), "not ended".to_owned(), String::new()]);
        }
        rows
    }
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> Block {
    Block::Table { header: header.iter().map(|name| (*name).to_owned()).collect(), rows }
}

fn of(heading: &str, header: &[&str], rows: Vec<Vec<String>>, none: &str) -> Section {
    let block = if rows.is_empty() { Block::Text(none.to_owned()) } else { table(header, rows) };
    Section { heading: heading.to_owned(), blocks: vec![block] }
}

/// What only people can say.
fn questions() -> Vec<Section> {
    let part = |heading: &str, questions: &[&str]| Section {
        heading: heading.to_owned(),
        blocks: questions.iter().map(|question| Block::Question((*question).to_owned())).collect(),
    };
    vec![
        part(
            "Effect",
            &[
                "Who could not work, from when to when, and what did they do meanwhile?",
                "Which work was lost, and who entered it again?",
                "Did data leave the house? Who has to be told, and by when?",
            ],
        ),
        part("Cause", &["What was it, and how is that known?", "Why was it not noticed earlier?"]),
        part(
            "Lessons",
            &["What went well?", "What was missing in the runbook, or wrong in it?", "Where did luck help?"],
        ),
        part("What will be done", &["What, by whom, until when?"]),
    ]
}

fn long(span: SignedDuration) -> String {
    match std::time::Duration::try_from(span) {
        Ok(span) => Span(span).to_string(),
        Err(_) => "none".to_owned(),
    }
}

#[derive(Serialize)]
struct Reported {
    incident: String,
    file: Option<PathBuf>,
    runs: usize,
    recovery_seconds: Option<f64>,
    rpo_seconds: Option<f64>,
    /// What could not be read.
    not_known: Vec<String>,
}

impl Answer for Reported {
    const SCHEMA: &'static str = "lifeboat.incident-report/1";

    fn text(&self, page: &mut Page) {
        if let Some(file) = &self.file {
            page.line(format_args!("incident {}: the report is in {}", self.incident, file.display()));
        }
    }
}
