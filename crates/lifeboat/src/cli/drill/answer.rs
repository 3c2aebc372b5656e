//! What a drill found, for people and for scripts.

use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_drill::{ladder::SIGNED, report::DrillReport};
use lifeboat_evidence::{
    Predicate, Statement,
    drill::{Breakdown, Comparison, Part, Prediction, Worker},
};
use lifeboat_model::check::{Check, Outcome, Verdict};
use serde::Serialize;

use super::{
    row::{CheckRow, verdict},
    trend::{Past, Trend},
};
use crate::output::{Answer, Page, Rows, Tone, ago, bytes, count, seconds};

#[derive(Serialize)]
pub struct Done {
    run: String,
    instance: String,
    point: Option<String>,
    point_finished: Option<Timestamp>,
    pub outcome: Outcome,
    started: Timestamp,
    finished: Timestamp,
    seconds: f64,
    checks: Vec<CheckRow>,
    comparison: Comparison,
    rpo_seconds: Option<f64>,
    rpo_target_seconds: u64,
    rpo_met: Option<bool>,
    rto_seconds: Option<f64>,
    rto_target_seconds: u64,
    rto_met: Option<bool>,
    phases: Vec<Phase>,
    /// Whose work the time was.
    breakdown: Breakdown,
    /// How long a restore of production would take.
    prediction: Option<Prediction>,
    /// The passed drills of the instance.
    trend: Trend,
    images: Vec<Image>,
    not_covered: Vec<NotCovered>,
    notes: Vec<String>,
    torn_down: bool,
    /// Key of the signed statement; none when it could not be kept.
    pub evidence: Option<String>,
    /// The same as a file, where the repository is a folder.
    pub evidence_file: Option<PathBuf>,
    /// What came back or did not, for people.
    #[serde(skip)]
    pub subject: String,
}

#[derive(Serialize)]
struct Phase {
    name: String,
    seconds: f64,
    bytes: Option<u64>,
    bytes_per_second: Option<f64>,
    files: Option<u64>,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Image {
    role: String,
    name: String,
    id: String,
}

#[derive(Serialize)]
struct NotCovered {
    what: String,
    count: u64,
}

impl Done {
    pub fn new(report: DrillReport) -> Self {
        let selected = report.selected.as_ref();
        Done {
            run: report.run.to_string(),
            instance: report.instance.to_string(),
            subject: report.instance.to_string(),
            point: selected.and_then(|selected| selected.point.as_ref()).map(|point| point.id.to_string()),
            point_finished: selected.map(|selected| selected.finished),
            outcome: report.outcome,
            started: report.started,
            finished: report.finished,
            seconds: report.finished.duration_since(report.started).as_secs_f64(),
            comparison: report.comparison,
            rpo_seconds: report.rpo.map(|rpo| rpo.as_secs_f64()),
            rpo_target_seconds: report.targets.rpo_seconds,
            rpo_met: report.targets.rpo_met,
            rto_seconds: report.rto.map(|rto| rto.as_secs_f64()),
            rto_target_seconds: report.targets.rto_seconds,
            rto_met: report.targets.rto_met,
            phases: report.phases.iter().map(Phase::from).collect(),
            breakdown: report.breakdown,
            prediction: report.prediction,
            trend: Trend::default(),
            images: report.images.iter().map(Image::from).collect(),
            not_covered: report.not_covered.into_iter().map(|(what, count)| NotCovered { what, count }).collect(),
            notes: report.notes,
            torn_down: report.teardown.left.is_empty(),
            checks: report.checks.into_iter().map(CheckRow::from).collect(),
            evidence: None,
            evidence_file: None,
        }
    }

    /// Writes down whether the statement was kept: the one check that cannot stand in the statement itself.
    pub fn signed(&mut self, kept: std::result::Result<String, String>) {
        let (verdict, evidence) = match kept {
            Ok(key) => (Verdict::Passed, Some(key)),
            Err(why) => (Verdict::Failed(why), None),
        };
        if let Some(row) = self.checks.iter_mut().find(|row| row.id == SIGNED.id) {
            row.verdict = verdict;
            row.observed = evidence.clone().unwrap_or_default();
        }
        self.evidence = evidence;
    }

    /// The last check, once [`Done::signed`] has answered it.
    pub fn signature(&self) -> Option<Check> {
        let row = self.checks.iter().find(|row| row.id == SIGNED.id)?;
        Some(Check {
            id: row.id.clone(),
            rung: row.rung,
            purpose: row.purpose.clone(),
            expected: row.expected.clone(),
            observed: row.observed.clone(),
            verdict: row.verdict.clone(),
            duration_ms: row.duration_ms,
        })
    }

    /// Puts this drill beside those before it.
    pub fn compared(&mut self, mut past: Vec<Past>, statement: &Statement) {
        let this = match &statement.predicate {
            Predicate::Drill(drill) => Past::of(drill),
            _ => None,
        };
        // What did not pass took as long as it took to fail: that has no place in a trend.
        self.trend = match this {
            Some(this) => {
                past.push(this);
                Trend::of(past)
            }
            None => Trend { drills: past, ..Trend::default() },
        };
    }

    /// One more line for people.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

impl From<&lifeboat_evidence::drill::Phase> for Phase {
    fn from(phase: &lifeboat_evidence::drill::Phase) -> Self {
        let seconds = phase.duration_ms as f64 / 1000.0;
        let bytes_per_second = phase.bytes.filter(|_| seconds > 0.0).map(|bytes| bytes as f64 / seconds);
        Phase {
            name: phase.name.clone(),
            seconds,
            bytes: phase.bytes,
            bytes_per_second,
            files: phase.files,
            parts: phase.parts.clone(),
        }
    }
}

impl From<&lifeboat_drill::sandbox::Image> for Image {
    fn from(image: &lifeboat_drill::sandbox::Image) -> Self {
        Image { role: image.role.clone(), name: image.reference.clone(), id: image.id.clone() }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.drill/1";

    fn text(&self, page: &mut Page) {
        self.ladder(page);
        self.phases(page);
        for what in &self.not_covered {
            let covered = Tone::Doubtful.paint("not covered:");
            page.line(format_args!("{covered} {} ({})", what.what, what.count));
        }
        for note in &self.notes {
            page.line(format_args!("note: {note}"));
        }
        self.prediction(page);
        self.verdict(page);
    }
}

impl Done {
    fn ladder(&self, page: &mut Page) {
        let mut rows = Rows::new(&["rung", "check", "", "seen", "took"]).numbers(&[0, 4]);
        let mut above = None;
        for row in &self.checks {
            let (rung, took) = (row.rung.to_string(), seconds(row.duration_ms as f64 / 1000.0));
            let is_repeated = matches!(row.verdict, Verdict::NotExecuted(_)) && above == Some(row.seen());
            let seen = if is_repeated { "as above" } else { row.seen() };
            above = Some(row.seen());
            let plain = |text| (Tone::Plain, text);
            rows.row([plain(rung.as_str()), plain(&row.id), verdict(&row.verdict), plain(seen), plain(&took)]);
        }
        page.table(rows);
    }

    /// Each phase, and below it whose work it was; then the sum.
    fn phases(&self, page: &mut Page) {
        page.gap();
        let mut rows = Rows::new(&["phase", "worked", "took", "files", "size", "rate"]).numbers(&[2, 3, 4, 5]);
        for phase in &self.phases {
            let files = phase.files.map(|files| files.to_string()).unwrap_or_default();
            let (size, rate) = size_and_rate(phase.bytes, phase.bytes_per_second);
            rows.plain([&phase.name, "", &seconds(phase.seconds), &files, &size, &rate]);
            for part in phase.parts.iter().filter(|part| part.duration_ms >= SHOWN_MS) {
                let took = part.duration_ms as f64 / 1000.0;
                let (size, rate) = size_and_rate(part.bytes, part.bytes.map(|bytes| bytes as f64 / took));
                rows.plain([&format!("  {}", part.name), worker(part.worker), &seconds(took), "", &size, &rate]);
            }
        }
        page.table(rows);
        page.gap();
        let share = |ms: u64| format!("{} ({} %)", seconds(ms as f64 / 1000.0), percent(ms, self.breakdown.total_ms));
        page.field("PostgreSQL", share(self.breakdown.postgres_ms));
        page.field("Odoo", share(self.breakdown.odoo_ms));
        page.line(self.own_overhead());
    }

    /// What is neither PostgreSQL's nor Odoo's work.
    fn own_overhead(&self) -> String {
        let Breakdown { total_ms, own_ms, .. } = self.breakdown;
        let (own, total) = (own_ms as f64 / 1000.0, total_ms as f64 / 1000.0);
        format!("own overhead {own:.1} s of {total:.1} s ({} %)", percent(own_ms, total_ms))
    }

    fn prediction(&self, page: &mut Page) {
        let Some(prediction) = &self.prediction else { return };
        page.gap();
        page.heading("A restore of production would take");
        let mut rows = Rows::new(&["step", "takes", "size", "rate"]).numbers(&[1, 2, 3]);
        for step in &prediction.steps {
            let (size, rate) = size_and_rate(step.bytes, step.bytes_per_second);
            rows.plain([&step.name, &seconds(step.seconds), &size, &rate]);
        }
        page.table(rows);
        for assumption in &prediction.assumptions {
            page.line(format_args!("taken for granted: {assumption}"));
        }
    }

    fn verdict(&self, page: &mut Page) {
        page.gap();
        let mut measure = |name: &str, value: Option<f64>, target: u64, met: Option<bool>| {
            let target = seconds(target as f64);
            let text = match (value, met) {
                (Some(value), Some(true)) => format!("{} (target {target}, met)", seconds(value)),
                (Some(value), _) => format!("{} (target {target}, {})", seconds(value), Tone::Bad.paint("MISSED")),
                (None, _) => format!("not measured (target {target})"),
            };
            page.field(name, text);
        };
        measure("RPO", self.rpo_seconds, self.rpo_target_seconds, self.rpo_met);
        measure("RTO", self.rto_seconds, self.rto_target_seconds, self.rto_met);
        if let Some(prediction) = &self.prediction {
            let (value, target) = (Some(prediction.seconds), prediction.target_seconds);
            measure("predicted", value, target, Some(prediction.met));
        }
        for (name, line) in self.trend.lines() {
            page.field(&format!("{name} trend"), line);
        }
        page.field("data", comparison(&self.comparison));
        if let (Some(point), Some(finished)) = (&self.point, self.point_finished) {
            page.field("recovery point", format_args!("{point}, {}", ago(self.started, finished)));
        }
        let left = if self.torn_down { "nothing is left" } else { "NOT COMPLETE: see teardown.proof" };
        page.field("sandbox", left);
        match (&self.evidence_file, &self.evidence) {
            (Some(file), _) => page.field("evidence", file.display()),
            (None, Some(key)) => page.field("evidence", key),
            (None, None) if self.is_never_signed() => page.field("evidence", "none: it is no drill of the instance"),
            (None, None) => page.field("evidence", Tone::Bad.paint("NONE: the statement could not be kept")),
        }
        page.gap();
        page.line(self.sentence());
    }

    /// Whether nobody has tried to keep a statement.
    fn is_never_signed(&self) -> bool {
        let of = self.checks.iter().find(|row| row.id == SIGNED.id);
        of.is_some_and(|row| matches!(row.verdict, Verdict::NotExecuted(_)))
    }

    fn sentence(&self) -> String {
        let of = |word: &str| self.checks.iter().filter(|row| row.verdict.word() == word).count() as u64;
        let (passed, failed, missing) = (of("passed"), of("failed"), of("not executed"));
        let sums =
            format!("{}, {failed} failed, {missing} not executed", count(passed, "check passed", "checks passed"));
        let took = seconds(self.seconds);
        match self.outcome {
            Outcome::Passed => {
                format!("{}: {} comes back. {sums}, in {took}.", Tone::Good.paint("PASSED"), self.subject)
            }
            Outcome::Failed => {
                let first =
                    self.checks.iter().find(|row| matches!(row.verdict, Verdict::Failed(_))).map(|row| row.id.as_str());
                let first = first.unwrap_or("an unnamed check");
                format!(
                    "{} at {first}: {} does not come back like this. {sums}, in {took}.",
                    Tone::Bad.paint("FAILED"),
                    self.subject
                )
            }
            Outcome::Incomplete => {
                format!(
                    "{}: nothing failed, but a required check did not run. {sums}, in {took}.",
                    Tone::Doubtful.paint("INCOMPLETE")
                )
            }
        }
    }
}

fn comparison(comparison: &Comparison) -> String {
    match comparison {
        Comparison::QuietSource { tables, rows } => {
            format!("{tables} tables, {rows} rows equal to a source known to be quiet")
        }
        Comparison::ExactWitness(exact) => {
            let mut text =
                format!("{} tables, {} rows compared with the source at {}", exact.tables, exact.rows, exact.lsn);
            for (count, what) in [(exact.sampled, "by a sample of blocks only"), (exact.not_compared, "not compared")] {
                if count > 0 {
                    text += &format!(", {count} {what}");
                }
            }
            text
        }
        Comparison::None { why } => format!("not compared with the source: {why}"),
    }
}

/// Shorter parts are in the JSON.
const SHOWN_MS: u64 = 50;

fn size_and_rate(size: Option<u64>, rate: Option<f64>) -> (String, String) {
    let rate = rate.map(|rate| format!("{}/s", bytes(rate as u64)));
    (size.map(bytes).unwrap_or_default(), rate.unwrap_or_default())
}

fn worker(worker: Worker) -> &'static str {
    match worker {
        Worker::Postgres => "PostgreSQL",
        Worker::Odoo => "Odoo",
        Worker::Own => "own",
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2) / whole.max(1)
}
