//! What is known of earlier runs: whether the very text of a runbook was practised, and how long its steps took.
//!
//! Both stand in the repository. Where that does not answer, this host's journals still tell durations, and nobody claims to know
//! whether a runbook was rehearsed.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use jiff::Timestamp;
use lifeboat_engine::{
    context::Context,
    journal::{Journals, Kind},
    practice::{self, PastRun, Rehearsal, Texts},
    with_causes,
};
use lifeboat_model::{id::Instance, time::Span};
use lifeboat_runbook::{
    document::Document,
    event::{Event, Line, Outcome},
    journal::FileJournal,
};
use serde::Serialize;

use super::Around;
use crate::{
    cli::Session,
    kept::Keeper,
    output::{Tone, ago, count},
    wire,
};

/// How long people wait for an answer that is not what they asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Runs in the repository that are looked at, the newest.
const LISTED: usize = 100;
/// Runs of one runbook whose steps count, the newest.
const COUNTED: usize = 9;

/// What is known of earlier runs.
pub(super) struct History {
    /// Runs that are over, by the evidence; or why that is not known.
    runs: Result<Vec<PastRun>, String>,
    context: Option<Context>,
    now: Timestamp,
}

/// Whether a runbook was rehearsed, for JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rehearsed {
    /// `rehearsed`, `failed`, `changed`, `never`, `not-known`.
    state: &'static str,
    /// When the last practice run was over.
    last: Option<Timestamp>,
    /// That run.
    run: Option<String>,
    /// Who did it.
    by: Option<String>,
    /// How many steps it could not do.
    not_practised: Option<usize>,
    /// Why it is not known.
    why: Option<String>,
    #[serde(skip)]
    words: String,
}

impl Rehearsed {
    /// In words, and how they are to be taken.
    pub(super) fn words(&self) -> (Tone, &str) {
        let tone = match self.state {
            "rehearsed" => Tone::Good,
            "not-known" => Tone::Plain,
            _ => Tone::Doubtful,
        };
        (tone, &self.words)
    }

    /// Why it is not known.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

impl History {
    /// Where there is nothing that could have been run.
    pub(super) fn nothing_to_ask(session: &Session) -> History {
        History { runs: Ok(Vec::new()), context: None, now: session.now() }
    }

    /// Asks the repository, or a copy, and does not wait long.
    pub(super) async fn look(session: &Session, around: &Around) -> History {
        let now = session.now();
        let without = |why: String| History { runs: Err(why), context: None, now };
        if let Some(why) = &around.unknown {
            return without(why.clone());
        }
        let Ok(wire::Reading::Usable(loaded)) = wire::read_config(session) else {
            return without("the configuration cannot be read".to_owned());
        };
        let keeper = Keeper::new(session, &loaded, "lifeboat runbook");
        let asking = async {
            let context = keeper.reach().await?;
            let runs = practice::runs(&context).await.map_err(|error| with_causes(&error))?;
            Ok((context, runs))
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok((context, runs))) => History { runs: Ok(runs), context: Some(context), now },
            Ok(Err(why)) => without(why),
            Err(_) => without(format!("no repository answered within {} s", PATIENCE.as_secs())),
        }
    }

    /// Whether this text and those of all that it runs were rehearsed, for an instance or for any; `look` gives the other runbooks.
    pub(super) fn rehearsed<'d>(
        &self,
        runbook: &str,
        document: &'d Document,
        look: impl Fn(&str) -> Option<&'d Document>,
        instance: Option<&Instance>,
    ) -> Rehearsed {
        let none = Rehearsed {
            state: "never",
            last: None,
            run: None,
            by: None,
            not_practised: None,
            why: None,
            words: String::new(),
        };
        let runs = match &self.runs {
            Ok(runs) => runs,
            Err(why) => {
                return Rehearsed { state: "not-known", why: Some(why.clone()), words: "not known".to_owned(), ..none };
            }
        };
        let texts = Texts::gather(runbook, |wanted| {
            let document = if wanted == runbook { document } else { look(wanted)? };
            Some((document.digest.clone(), document.calls()))
        });
        match practice::rehearsal(runs, &texts, instance) {
            Rehearsal::Rehearsed { when, run, by, not_practised } => Rehearsed {
                state: "rehearsed",
                last: Some(when),
                run: Some(run.to_string()),
                by: Some(by),
                not_practised: Some(not_practised),
                words: format!("rehearsed {}{}", ago(self.now, when), except(not_practised)),
                ..none
            },
            Rehearsal::Nothing { when, run } => Rehearsed {
                state: "failed",
                last: Some(when),
                run: Some(run.to_string()),
                words: format!("UNREHEARSED: no step was practised {}", ago(self.now, when)),
                ..none
            },
            Rehearsal::Failed { when, run } => Rehearsed {
                state: "failed",
                last: Some(when),
                run: Some(run.to_string()),
                words: format!("UNREHEARSED: practice failed {}", ago(self.now, when)),
                ..none
            },
            Rehearsal::Changed { when } => Rehearsed {
                state: "changed",
                last: Some(when),
                words: format!("UNREHEARSED: edited since {}", when.strftime("%Y-%m-%d")),
                ..none
            },
            Rehearsal::Never => Rehearsed { words: "UNREHEARSED: never practised".to_owned(), ..none },
        }
    }

    /// How long the steps of a runbook took in the newest runs: the median of the tries that passed, by step.
    pub(super) async fn lasted(&self, around: &Around, runbook: &str) -> BTreeMap<String, Span> {
        let mut runs = BTreeMap::new();
        if let Some(config) = &around.config {
            of_this_host(&config.engine.state_dir.join("runs"), runbook, &mut runs);
        }
        if let Some(context) = &self.context {
            let journals = Journals::of_reader(context);
            let reading = of_others(&journals, runbook, &mut runs);
            if !matches!(tokio::time::timeout(PATIENCE, reading).await, Ok(Ok(()))) {
                tracing::debug!("durations of other hosts are not known");
            }
        }
        let mut runs: Vec<Vec<Line>> = runs.into_values().collect();
        runs.sort_by_key(|lines| std::cmp::Reverse(lines.first().map(|line| line.at)));
        runs.truncate(COUNTED);
        medians(&runs)
    }
}

fn except(not_practised: usize) -> String {
    match not_practised {
        0 => String::new(),
        steps => format!(", {} not practised", count(steps as u64, "step", "steps")),
    }
}

fn is_of(lines: &[Line], runbook: &str) -> bool {
    matches!(lines.first(), Some(Line { event: Event::Begun { runbook: of, .. }, .. }) if of == runbook)
}

fn of_this_host(folder: &Path, runbook: &str, runs: &mut BTreeMap<String, Vec<Line>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jsonl")) else { continue };
        if let Ok(lines) = FileJournal::look(&path)
            && is_of(&lines, runbook)
        {
            runs.insert(id.to_owned(), lines);
        }
    }
}

async fn of_others(
    journals: &Journals,
    runbook: &str,
    runs: &mut BTreeMap<String, Vec<Line>>,
) -> lifeboat_engine::Result<()> {
    let place = Path::new("the repository");
    let mut counted = 0;
    for listed in journals.list(Kind::Run, LISTED).await? {
        let id = listed.name.id.to_string();
        let first = FileJournal::check(&[&listed.first], place);
        if runs.contains_key(&id) || !first.is_ok_and(|first| is_of(&first.lines, runbook)) {
            continue;
        }
        if let Ok(read) = FileJournal::check(&journals.read(listed.name, 1).await?, place) {
            runs.insert(id, read.lines);
        }
        counted += 1;
        if counted == COUNTED {
            break;
        }
    }
    Ok(())
}

fn medians(runs: &[Vec<Line>]) -> BTreeMap<String, Span> {
    let mut lasted: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for lines in runs {
        let mut began = BTreeMap::new();
        for line in lines {
            match &line.event {
                Event::Started { step, attempt } => drop(began.insert((step, *attempt), line.at)),
                Event::Ended { step, attempt, outcome: Outcome::Passed, .. } => {
                    let begin = began.remove(&(step, *attempt));
                    let took = begin.and_then(|begin| Duration::try_from(line.at.duration_since(begin)).ok());
                    lasted.entry(step).or_default().extend(took);
                }
                _ => {}
            }
        }
    }
    let median = |(step, mut all): (&str, Vec<Duration>)| {
        all.sort_unstable();
        Some((step.to_owned(), Span(*all.get(all.len() / 2)?)))
    };
    lasted.into_iter().filter_map(median).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_that_passed_count_and_the_middle_one_is_told() {
        let mut number = 0;
        let mut line = |second, event| {
            number += 1;
            Line { number, at: Timestamp::from_second(second).unwrap(), who: "ann@a".to_owned(), event }
        };
        let started = |attempt| Event::Started { step: "restore".to_owned(), attempt };
        let ended = |attempt, outcome| Event::Ended {
            step: "restore".to_owned(),
            attempt,
            outcome,
            outputs: BTreeMap::new(),
            why: None,
        };
        let (passed, failed) = (Outcome::Passed, Outcome::Failed);
        let runs = [
            vec![line(0, started(1)), line(900, ended(1, failed)), line(900, started(2)), line(910, ended(2, passed))],
            vec![line(0, started(1)), line(30, ended(1, passed))],
            vec![line(0, started(1)), line(20, ended(1, passed))],
            vec![line(0, started(1))],
        ];
        let told = medians(&runs);
        assert_eq!(told.get("restore").map(|span| span.0), Some(Duration::from_secs(20)));
        assert_eq!(told.len(), 1);
        assert!(!medians(&runs[3..]).contains_key("restore"));
    }
}
