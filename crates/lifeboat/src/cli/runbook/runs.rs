//! `lifeboat runbook runs`: what was run from this host, and how each run stands.

use clap::Args;
use jiff::Timestamp;
use lifeboat_runbook::event::{Event, Line};
use serde::Serialize;

use super::{Around, carry, store::Store};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Rows, moment},
};

/// List the runs of this host, or show how one stands
#[derive(Debug, Args)]
pub(super) struct Runs {
    /// Only this one, with its steps: the beginning of its id, or latest
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

impl Runs {
    pub(super) fn run(self, session: &Session) -> Result<Exit> {
        let store = Store::of(&Around::look(session)?);
        let all = store.all()?;
        if let Some(wanted) = &self.run {
            let id = store.find(wanted)?;
            let run = all.into_iter().find(|run| run.id == id);
            let run = run.ok_or_else(|| Failure::new(Exit::NotFound, format!("run {id} is gone")))?;
            if let Some(problem) = run.problem {
                return Err(Failure::new(Exit::CheckFailed, problem));
            }
            carry::show(&run.id, &store, &run.lines, session)?;
            return Ok(Exit::Ok);
        }
        let runs = all.into_iter().map(|run| Listed::new(run.id, &run.lines, run.problem)).collect();
        session.output.show(&List { runs })?;
        Ok(Exit::Ok)
    }
}

#[derive(Serialize)]
struct List {
    runs: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    run: String,
    runbook: Option<String>,
    mode: Option<&'static str>,
    instance: Option<String>,
    began: Option<Timestamp>,
    /// The word of its last line: `finished`, or at which step it stands.
    stand: String,
    problem: Option<String>,
}

impl Listed {
    fn new(run: String, lines: &[Line], problem: Option<String>) -> Listed {
        let (runbook, mode, instance) = match lines.first().map(|line| &line.event) {
            Some(Event::Begun { runbook, mode, instance, .. }) => {
                (Some(runbook.clone()), Some(mode.word()), instance.clone())
            }
            _ => (None, None, None),
        };
        let stand = match lines.last().map(|line| &line.event) {
            _ if problem.is_some() => "cannot be read".to_owned(),
            Some(Event::Finished { ending, .. }) => ending.word().to_owned(),
            Some(event) => match event.step() {
                Some(step) => format!("open, at {step}"),
                None => "open".to_owned(),
            },
            None => "not begun".to_owned(),
        };
        Listed { run, runbook, mode, instance, began: lines.first().map(|line| line.at), stand, problem }
    }
}

impl Answer for List {
    const SCHEMA: &'static str = "lifeboat.runbook-runs/1";

    fn text(&self, page: &mut Page) {
        if self.runs.is_empty() {
            page.line("no runbook was run from here");
            return;
        }
        let mut rows = Rows::new(&["run", "runbook", "for", "mode", "began", "stands"]);
        for run in &self.runs {
            rows.plain([
                &run.run,
                run.runbook.as_deref().unwrap_or("-"),
                run.instance.as_deref().unwrap_or("-"),
                run.mode.unwrap_or("-"),
                &run.began.map(moment).unwrap_or_default(),
                &run.stand,
            ]);
        }
        page.table(rows);
    }
}
