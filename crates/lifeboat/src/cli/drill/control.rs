//! `lifeboat drill INSTANCE --sabotage KIND|all|random`: negative controls, two at a time, each on a fresh copy, with its turn
//! among the drills of the host and a statement of its own. What is told of them keeps the order of the kinds.

use std::{fmt, str::FromStr, sync::Arc, time::Instant};

use jiff::Timestamp;
use lifeboat_daemon::runner::RunEvent;
use lifeboat_drill::{
    report::DrillReport,
    sabotage::{Control, Kind, Seed},
};
use lifeboat_evidence::drill as evidence;
use lifeboat_model::check::{Check, Outcome, Verdict};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{
    Rehearsal, keep,
    order::{self, Lines},
    statement,
};
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
        checks: &[Check],
        report: &DrillReport,
        answer: evidence::Control,
        kept: std::result::Result<String, String>,
        seconds: f64,
    ) -> Row {
        let failed = checks.iter().filter(|check| matches!(check.verdict, Verdict::Failed(_)));
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

/// So many at the same time, where the host's budget allows it: one waits for disks and containers half of its time.
const SIDE_BY_SIDE: usize = 2;

/// Below this they are not halved: Odoo boots in half of what one has.
const LEAST_MEMORY: u64 = 1 << 30;

/// The chosen controls, and what they have in common.
struct Set<'a> {
    rehearsal: &'a Rehearsal<'a>,
    seed: Seed,
    count: usize,
    side_by_side: usize,
    /// Who works. It is closed when one cannot begin, so that none follows.
    turns: Semaphore,
    /// Statements are kept one after the other.
    keeping: tokio::sync::Mutex<()>,
}

impl<'a> Set<'a> {
    fn new(rehearsal: &'a Rehearsal<'a>, seed: Seed, count: usize) -> Set<'a> {
        let halves = rehearsal.config.memory.0 / SIDE_BY_SIDE as u64 >= LEAST_MEMORY;
        let allowed = if halves { rehearsal.context.config.drills.concurrent as usize } else { 1 };
        let side_by_side = allowed.min(SIDE_BY_SIDE).min(count).max(1);
        Set {
            rehearsal,
            seed,
            count,
            side_by_side,
            turns: Semaphore::new(side_by_side),
            keeping: tokio::sync::Mutex::default(),
        }
    }

    /// One of them, in its turn; none if it was not begun.
    async fn control(&self, kind: Kind, place: usize, lines: Arc<Lines>) -> Result<Option<Row>> {
        let Ok(_turn) = self.turns.acquire().await else { return Ok(None) };
        if self.rehearsal.session.cancel.is_cancelled() {
            return Ok(None);
        }
        let row = self.climb(kind, place, lines).await;
        if row.is_err() {
            self.turns.close();
        }
        row.map(Some)
    }

    async fn climb(&self, kind: Kind, place: usize, lines: Arc<Lines>) -> Result<Row> {
        let context = &self.rehearsal.context;
        let line = format!("control {} of {}: {kind} (seed {})", place + 1, self.count, self.seed);
        lines.event(RunEvent::Phase { name: format!("control {kind}") }, &line);
        let (control, begun) = (Arc::new(Control::new(kind, self.seed)), Instant::now());
        let climbing = self.rehearsal.climb(Some(Arc::clone(&control)), Arc::clone(&lines), self.side_by_side);
        let report = climbing.await?;
        let answer = control.judge(&report);
        let (tone, word) = told(answer.outcome);
        lines.say(&format!("control {kind}: {}: {}", tone.paint(word), answer.why));
        let statement = statement::statement(context, &report, Some(answer.clone()))?;
        let kept = {
            let _alone = self.keeping.lock().await;
            keep(context, &statement).await
        };
        // What is answered to the daemon is shown to people who may not see what is inside the backup.
        let for_others = self.rehearsal.session.is_for_others();
        let checks = if for_others { &report.evidence_checks } else { &report.checks };
        Ok(Row::new(&control, checks, &report, answer, kept, begun.elapsed().as_secs_f64()))
    }
}

/// Runs the chosen controls. The first error that keeps one from beginning ends it, once those that run have been torn down.
pub(super) async fn run(rehearsal: &Rehearsal<'_>, choice: Choice, seed: Option<Seed>) -> Result<Exit> {
    let Rehearsal { session, name, .. } = rehearsal;
    let seed = seed.map_or_else(Seed::random, Ok)?;
    let (started, begun) = (session.now(), Instant::now());
    let kinds = choice.kinds(seed);
    let set = Set::new(rehearsal, seed, kinds.len());
    let lines = order::in_order(&session.voice, kinds.len());
    let running = kinds.iter().zip(lines).enumerate().map(|(place, (kind, lines))| set.control(*kind, place, lines));
    let rows = futures::future::join_all(running).await.into_iter().collect::<Result<Vec<_>>>()?;
    let not_begun = kinds.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(kind, _)| kind.word()).collect();
    let controls: Vec<Row> = rows.into_iter().flatten().collect();
    let of = |outcome: Outcome| controls.iter().filter(|row| row.outcome == outcome).count();
    let (passed, failed) = (of(Outcome::Passed), of(Outcome::Failed));
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
