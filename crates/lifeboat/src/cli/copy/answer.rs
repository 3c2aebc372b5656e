//! What a copy did, for people and for programs.

use jiff::Timestamp;
use lifeboat_engine::{
    context::Context,
    copy::{Copied, reencrypt::Reencrypted},
};
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::lag::Behind;
use crate::output::{Answer, Page, Rows, Tone, bytes, count, moment, seconds};

/// Points that are named to people.
const NAMED: usize = 20;

/// All copies of one run.
#[derive(Serialize)]
pub struct Done {
    /// All that was wanted is in every copy.
    pub complete: bool,
    reencrypted: bool,
    copies: Vec<Row>,
}

/// One instance in one copy.
#[derive(Serialize)]
pub struct Row {
    instance: String,
    from: String,
    to: String,
    storage: String,
    complete: bool,
    /// Points that were copied by this run, newest first; re-encrypted, oldest first.
    points: Vec<Point>,
    /// Points that were there.
    points_present: u64,
    /// Points that were not wanted.
    points_left: u64,
    objects: u64,
    bytes: u64,
    wal_objects: u64,
    documents: u64,
    /// Objects that were there, and whose lock was made longer.
    locks_extended: u64,
    evidence_copied: u64,
    problems: Vec<Problem>,
    /// How far the copy is behind now; none where it is a repository of its own.
    lag: Option<Behind>,
    /// Where the statement about this is kept; none where nothing was copied.
    evidence: Option<String>,
    remarks: Vec<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Point {
    point: String,
    finished: Timestamp,
    locked_until: Option<Timestamp>,
    /// The point that it was made from, where it was sealed anew.
    made_from: Option<String>,
}

#[derive(Serialize)]
struct Problem {
    /// `source` or `copy`.
    side: &'static str,
    key: String,
    what: String,
    /// Points that are not in the copy for it.
    points: Vec<String>,
}

impl Done {
    pub fn new(reencrypted: bool, copies: Vec<Row>) -> Self {
        Done { complete: copies.iter().all(|row| row.complete), reencrypted, copies }
    }
}

impl Row {
    pub fn copied((instance, from, to): (&Instance, &str, &Context), done: &Copied) -> Self {
        let report = &done.report;
        let points = report.copied.iter().map(|point| Point {
            point: point.id.to_string(),
            finished: point.finished,
            locked_until: point.locked_until,
            made_from: None,
        });
        let problems = report.problems.iter().map(|problem| Problem {
            side: problem.side.word(),
            key: problem.key.to_string(),
            what: problem.what.clone(),
            points: problem.points.iter().map(ToString::to_string).collect(),
        });
        let refused = done.evidence.refused.iter().map(|(key, what)| Problem {
            side: "source",
            key: key.to_string(),
            what: what.clone(),
            points: Vec::new(),
        });
        let renewed = done.renewed.as_ref().map_or(0, |renewed| renewed.extended);
        Row {
            points: points.collect(),
            points_present: report.there,
            points_left: report.left,
            objects: report.objects,
            bytes: report.bytes,
            wal_objects: report.wal_objects,
            documents: report.documents,
            locks_extended: report.extended + renewed,
            evidence_copied: done.evidence.copied,
            problems: problems.chain(refused).collect(),
            lag: Some(Behind::new(&done.lag)),
            evidence: done.statement.as_ref().map(ToString::to_string),
            remarks: done.remarks.clone(),
            seconds: done.finished.duration_since(done.started).as_secs_f64(),
            ..Row::empty(instance, from, to, done.is_complete())
        }
    }

    pub fn reencrypted((instance, from, to): (&Instance, &str, &Context), done: &Reencrypted) -> Self {
        let made = done.points.iter().filter(|moved| !moved.there).map(|moved| Point {
            point: moved.to.to_string(),
            finished: moved.finished,
            locked_until: None,
            made_from: Some(moved.from.to_string()),
        });
        let points: Vec<Point> = made.collect();
        let refused = done.refused.iter().map(|(key, id, what)| Problem {
            side: "source",
            key: key.to_string(),
            what: what.clone(),
            points: vec![id.to_string()],
        });
        let archive = done.archive.problems.iter().map(|problem| Problem {
            side: problem.side.word(),
            key: problem.key.to_string(),
            what: problem.what.clone(),
            points: Vec::new(),
        });
        Row {
            points_present: done.points.len() as u64 - points.len() as u64,
            objects: points.len() as u64 + done.archive.wal_objects + done.archive.documents,
            points,
            bytes: done.bytes,
            wal_objects: done.archive.wal_objects,
            documents: done.archive.documents,
            problems: refused.chain(archive).collect(),
            evidence: done.statement.as_ref().map(ToString::to_string),
            remarks: done.remarks.clone(),
            seconds: done.finished.duration_since(done.started).as_secs_f64(),
            ..Row::empty(instance, from, to, done.is_complete())
        }
    }

    fn empty(instance: &Instance, from: &str, to: &Context, complete: bool) -> Self {
        Row {
            instance: instance.to_string(),
            from: from.to_owned(),
            to: to.config.repository_name.clone(),
            storage: to.repository.store().describe(),
            complete,
            points: Vec::new(),
            points_present: 0,
            points_left: 0,
            objects: 0,
            bytes: 0,
            wal_objects: 0,
            documents: 0,
            locks_extended: 0,
            evidence_copied: 0,
            problems: Vec::new(),
            lag: None,
            evidence: None,
            remarks: Vec::new(),
            seconds: 0.0,
        }
    }

    fn details(&self, page: &mut Page) {
        for point in self.points.iter().filter(|point| point.made_from.is_some()).take(NAMED) {
            let from = point.made_from.as_deref().unwrap_or_default();
            page.line(format_args!("  {} came from {from}, finished {}", point.point, moment(point.finished)));
        }
        for problem in &self.problems {
            page.heading(format_args!("{} ({})", problem.key, problem.side));
            page.line(format_args!("  {}", problem.what));
            if !problem.points.is_empty() {
                page.line(format_args!("  not copied for it: {}", problem.points.join(", ")));
            }
        }
        for remark in &self.remarks {
            page.line(format_args!("{} {remark}", Tone::Doubtful.paint("note:")));
        }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.copy/1";

    fn text(&self, page: &mut Page) {
        let header = ["instance", "to", "new points", "there", "objects", "size", "took", "behind", ""];
        let mut rows = Rows::new(&header).numbers(&[2, 3, 4, 5]);
        for row in &self.copies {
            let behind = row.lag.as_ref().map_or_else(|| "–".to_owned(), Behind::text);
            let wrong = count(row.problems.len() as u64, "PROBLEM", "PROBLEMS");
            let state = match (row.complete, self.reencrypted) {
                (false, _) => (Tone::Bad, wrong.as_str()),
                (true, true) => (Tone::Good, "sealed anew"),
                (true, false) => (Tone::Good, "complete"),
            };
            let cells = [
                row.instance.clone(),
                row.to.clone(),
                row.points.len().to_string(),
                row.points_present.to_string(),
                row.objects.to_string(),
                bytes(row.bytes),
                seconds(row.seconds),
                behind,
            ];
            rows.row(cells.iter().map(|text| (Tone::Plain, text.as_str())).chain([state]));
        }
        page.table(rows);
        self.copies.iter().for_each(|row| row.details(page));
        page.gap();
        page.line(match self.reencrypted {
            true => {
                "A repository of its own, sealed to keys.recovery_recipients of now. Drill it before the old one goes."
            }
            false => "Every object was compared with its signed digest on the way; nothing was decrypted.",
        });
        if let Some(row) = self.copies.first() {
            page.line(format_args!("Next: lifeboat drill {} --repository {}", row.instance, row.to));
        }
    }
}
