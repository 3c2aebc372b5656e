//! One line for each run, for spreadsheets (RFC 4180). A cell is never a formula, whatever a signed text begins with.

use super::period::{ControlRun, InstancePeriod, Period, Rehearsal, Signed};

/// The columns, in order.
const COLUMNS: [&str; 27] = [
    "instance",
    "tier",
    "kind",
    "started",
    "run",
    "outcome",
    "first_problem",
    "sabotage",
    "point",
    "rpo_seconds",
    "rpo_target_seconds",
    "rpo_met",
    "rto_seconds",
    "rto_target_seconds",
    "rto_met",
    "predicted_restore_seconds",
    "checks_passed",
    "checks_failed",
    "checks_not_executed",
    "decision",
    "signed_by",
    "role",
    "comment",
    "exception",
    "corrective_action",
    "statement",
    "statement_sha256",
];

/// Every rehearsal and control of the period, by instance and time; and every rehearsal that did not take place.
pub fn csv(period: &Period) -> String {
    let mut text = String::new();
    row(&mut text, COLUMNS.map(str::to_owned));
    for of in &period.instances {
        for one in &of.rehearsals {
            row(&mut text, rehearsal(of, one));
        }
        for control in &of.controls {
            row(&mut text, self::control(of, control));
        }
        for gap in of.due.iter().flat_map(|due| &due.gaps) {
            let mut cells = start(of, "missed", gap.due.to_string());
            cells[5] = if gap.done.is_some() { "late" } else { "overdue" }.to_owned();
            cells[6] = format!("{} s late, {} missed", gap.late_seconds, gap.missed);
            row(&mut text, cells);
        }
    }
    text
}

fn start(of: &InstancePeriod, kind: &str, time: String) -> [String; COLUMNS.len()] {
    let mut cells = [const { String::new() }; COLUMNS.len()];
    (cells[0], cells[1]) = (of.instance.to_string(), of.tier.to_string());
    (cells[2], cells[3]) = (kind.to_owned(), time);
    cells
}

fn rehearsal(of: &InstancePeriod, one: &Rehearsal) -> [String; COLUMNS.len()] {
    let mut cells = start(of, "rehearsal", one.started.to_string());
    cells[4] = one.run.to_string();
    cells[5] = one.outcome.word().to_owned();
    cells[6] = one.first_bad.clone().unwrap_or_default();
    cells[8] = one.point.map(|point| point.to_string()).unwrap_or_default();
    let measures = [(9, one.rpo_seconds, one.rpo_target_seconds), (12, one.rto_seconds, one.rto_target_seconds)];
    for (at, seconds, target) in measures {
        cells[at] = number(seconds);
        cells[at + 1] = target.to_string();
        cells[at + 2] = seconds.map(|seconds| (seconds <= target as f64).to_string()).unwrap_or_default();
    }
    cells[15] = number(one.predicted_seconds);
    cells[16] = one.checks_passed.to_string();
    cells[17] = one.checks_failed.to_string();
    cells[18] = one.checks_not_executed.to_string();
    sign_off(&mut cells, &one.sign_offs);
    if cells[24].is_empty() {
        cells[24] = one.corrective_action.clone().unwrap_or_default();
    }
    (cells[25], cells[26]) = (one.statement.clone(), one.sha256.to_string());
    cells
}

fn control(of: &InstancePeriod, one: &ControlRun) -> [String; COLUMNS.len()] {
    let mut cells = start(of, "negative control", one.started.to_string());
    cells[4] = one.run.to_string();
    cells[5] = one.outcome.map_or("not judged", |outcome| outcome.word()).to_owned();
    (cells[6], cells[7]) = (one.why.clone(), one.kind.clone());
    cells[17] = one.failed.len().to_string();
    sign_off(&mut cells, &one.sign_offs);
    (cells[25], cells[26]) = (one.statement.clone(), one.sha256.to_string());
    cells
}

/// The newest word; of exception and action the newest that there is.
fn sign_off(cells: &mut [String; COLUMNS.len()], sign_offs: &[Signed]) {
    if let Some(newest) = sign_offs.last() {
        cells[19] = newest.decision.map_or("", |decision| decision.word()).to_owned();
        cells[20] = newest.who.clone();
        cells[21] = newest.role.clone();
        cells[22] = newest.comment.clone();
    }
    cells[23] = sign_offs.iter().rev().find_map(|signed| signed.exception.clone()).unwrap_or_default();
    cells[24] = sign_offs.iter().rev().find_map(|signed| signed.corrective_action.clone()).unwrap_or_default();
}

fn number(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{seconds:.3}")).unwrap_or_default()
}

fn row(text: &mut String, cells: [String; COLUMNS.len()]) {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    text.push_str(&cells.join(","));
    text.push_str("\r\n");
}

/// A spreadsheet runs what begins with one of these; an apostrophe makes it a text.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    match cell.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"so\""), "\"say \"\"so\"\"\"");
        assert_eq!(quoted("=HYPERLINK(\"x\",\"y\")"), "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"");
        for dangerous in ["+1", "-1", "@x", "\tx"] {
            assert!(quoted(dangerous).trim_start_matches('"').starts_with('\''), "{dangerous:?}");
        }
    }
}
