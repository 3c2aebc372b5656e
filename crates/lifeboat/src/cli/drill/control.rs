//! `lifeboat drill INSTANCE --sabotage KIND|all|random`: negative controls, one after the other, each on a fresh copy and with
//! a statement of its own.

use std::{fmt, str::FromStr, sync::Arc, time::Instant};

use jiff::Timestamp;
use lifeboat_drill::{
    report::DrillReport,
    sabotage::{Control, Kind, Seed},
};
use lifeboat_evidence::drill as evidence;
use lifeboat_model::check::{Outcome, Verdict};
use serde::Serialize;

use super::{Rehearsal, keep, statement};
use crate::{
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, count, seconds},
};

/// Which controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// One.
    Kind(Kind),
    /// Every kind.
    All,
    /// One that the seed draws.
    Random,
}

impl FromStr for Choice {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "all" => Ok(Choice::All),
            "random" => Ok(Choice::Random),
            kind => kind.parse().map(Choice::Kind).map_err(|error| format!("{error}, all, random")),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Kind(kind) => kind.fmt(f),
            Choice::All => f.write_str("all"),
            Choice::Random => f.write_str("random"),
        }
    }
}

impl Choice {
    fn kinds(self, seed: Seed) -> Vec<Kind> {
        match self {
            Choice::Kind(kind) => vec![kind],
            Choice::All => Kind::ALL.to_vec(),
            Choice::Random => vec![seed.kind()],
        }
    }
}

/// What came of them.
#[derive(Serialize)]
struct Controls {
    instance: String,
    seed: String,
    outcome: Outcome,
    started: Timestamp,
    seconds: f64,
    passed: usize,
    failed: usize,
    not_executed: usize,
    controls: Vec<Row>,
    /// Kinds that were not begun since somebody stopped it.
    not_begun: Vec<&'static str>,
}

#[derive(Serialize)]
struct Row {
    kind: &'static str,
    /// What was damaged; none: nothing was.
    damage: Option<String>,
    /// Ids of the checks that must fail.
    expected: Vec<String>,
    failed: Vec<Failed>,
    outcome: Outcome,
    why: String,
    seconds: f64,
    run: String,
    torn_down: bool,
    /// Key of the signed statement; none when it could not be kept.
    evidence: Option<String>,
    no_evidence: Option<String>,
}

/// A check that failed.
#[derive(Serialize)]
struct Failed {
    id: String,
    rung: u8,
    observed: String,
}

impl Row {
    fn new(
        control: &Control,
        report: &DrillReport,
        answer: evidence::Control,
        kept: std::result::Result<String, String>,
        seconds: f64,
    ) -> Row {
        let failed = report.checks.iter().filter(|check| matches!(check.verdict, Verdict::Failed(_)));
        let failed =
            failed.map(|check| Failed { id: check.id.clone(), rung: check.rung, observed: check.observed.clone() });
        let (evidence, no_evidence) = match kept {
            Ok(key) => (Some(key), None),
            Err(why) => (None, Some(why)),
        };
        Row {
            kind: control.kind().word(),
            damage: control.damage(),
            expected: answer.expected,
            failed: failed.collect(),
            outcome: answer.outcome,
            why: answer.why,
            seconds,
            run: report.run.to_string(),
            torn_down: report.teardown.left.is_empty(),
            evidence,
            no_evidence,
        }
    }
}

/// Runs the chosen controls. The first error that keeps one from beginning ends it.
pub(super) async fn run(rehearsal: &Rehearsal<'_>, choice: Choice, seed: Option<Seed>) -> Result<Exit> {
    let Rehearsal { session, context, name, .. } = rehearsal;
    let seed = seed.map_or_else(Seed::random, Ok)?;
    let (started, begun) = (session.now(), Instant::now());
    let kinds = choice.kinds(seed);
    let mut controls = Vec::new();
    for (place, kind) in kinds.iter().enumerate() {
        if session.cancel.is_cancelled() {
            break;
        }
        session.voice.say(&format!("control {} of {}: {kind} (seed {seed})", place + 1, kinds.len()));
        let (control, begun) = (Arc::new(Control::new(*kind, seed)), Instant::now());
        let report = rehearsal.climb(Some(Arc::clone(&control))).await?;
        let answer = control.judge(&report);
        let (tone, word) = told(answer.outcome);
        session.voice.say(&format!("control {kind}: {}: {}", tone.paint(word), answer.why));
        let kept = keep(context, &statement::statement(context, &report, Some(answer.clone()))?).await;
        controls.push(Row::new(&control, &report, answer, kept, begun.elapsed().as_secs_f64()));
    }
    let of = |outcome: Outcome| controls.iter().filter(|row| row.outcome == outcome).count();
    let (passed, failed) = (of(Outcome::Passed), of(Outcome::Failed));
    let not_begun: Vec<&str> = kinds.iter().skip(controls.len()).map(|kind| kind.word()).collect();
    let outcome = match (failed, passed == kinds.len()) {
        (1.., _) => Outcome::Failed,
        (0, true) => Outcome::Passed,
        (0, false) => Outcome::Incomplete,
    };
    let done = Controls {
        instance: name.to_string(),
        seed: seed.to_string(),
        outcome,
        started,
        seconds: begun.elapsed().as_secs_f64(),
        passed,
        failed,
        not_executed: of(Outcome::Incomplete),
        controls,
        not_begun,
    };
    session.output.show(&done)?;
    Ok(match outcome {
        _ if session.cancel.is_cancelled() => Exit::Interrupted,
        Outcome::Failed => Exit::CheckFailed,
        Outcome::Incomplete => Exit::Incomplete,
        // A control that cannot be shown to anybody has not done what it is for.
        Outcome::Passed if done.controls.iter().any(|row| row.evidence.is_none()) => Exit::Incomplete,
        Outcome::Passed => Exit::Ok,
    })
}

/// A control's outcome as people read it.
fn told(outcome: Outcome) -> (Tone, &'static str) {
    match outcome {
        Outcome::Passed => (Tone::Good, "passed"),
        Outcome::Failed => (Tone::Bad, "FAILED"),
        Outcome::Incomplete => (Tone::Doubtful, "not executed"),
    }
}

impl Answer for Controls {
    const SCHEMA: &'static str = "lifeboat.drill-controls/1";

    fn text(&self, page: &mut Page) {
        let mut rows = Rows::new(&["control", "damaged", "must fail", "failed", "took", ""]).numbers(&[4]);
        for row in &self.controls {
            let failed: Vec<&str> = row.failed.iter().map(|check| check.id.as_str()).collect();
            let (expected, failed, took) = (row.expected.join(", "), failed.join(", "), seconds(row.seconds));
            let damage = row.damage.as_deref().unwrap_or("nothing");
            let plain = |text| (Tone::Plain, text);
            let cells = [plain(row.kind), plain(damage), plain(&expected), plain(&failed), plain(&took)];
            rows.row(cells.into_iter().chain([told(row.outcome)]));
        }
        page.table(rows);
        page.gap();
        for row in self.controls.iter().filter(|row| row.outcome != Outcome::Passed) {
            let (tone, word) = told(row.outcome);
            page.line(format_args!("{}: {}: {}", row.kind, tone.paint(word), row.why));
            for check in &row.failed {
                page.line(format_args!("  {} {}: {}", Tone::Bad.paint("failed"), check.id, check.observed));
            }
        }
        for (row, why) in self.controls.iter().filter_map(|row| Some((row, row.no_evidence.as_ref()?))) {
            page.line(format_args!("{}: {}: {why}", row.kind, Tone::Bad.paint("its statement could not be kept")));
        }
        if !self.not_begun.is_empty() {
            page.line(format_args!("{}: {}", Tone::Doubtful.paint("not begun"), self.not_begun.join(", ")));
        }
        page.field("seed", &self.seed);
        page.gap();
        let (tone, word) = match self.outcome {
            Outcome::Passed => (Tone::Good, "PASSED"),
            Outcome::Failed => (Tone::Bad, "FAILED"),
            Outcome::Incomplete => (Tone::Doubtful, "INCOMPLETE"),
        };
        let passed = count(self.passed as u64, "control passed", "controls passed");
        let sums = format!("{passed}, {} failed, {} not executed", self.failed, self.not_executed);
        page.line(format_args!("{}: {sums}, in {}.", tone.paint(word), seconds(self.seconds)));
    }
}
