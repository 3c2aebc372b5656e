//! `lifeboat backup`: one recovery point of one instance.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    backup::{self, BackupReport},
    context::connect_options,
    details::Comparison,
    keys::writer_keys,
};
use serde::Serialize;

use super::Session;
use crate::{
    checks,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, bytes, count, moment, seconds},
    progress::Meter,
    wire::{self, Loaded},
};

/// Make a recovery point of an instance
///
/// Base backup with its WAL, filestore and configuration, encrypted, signed, and visible only when every byte is durable.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backup {
    /// The instance, as named in the configuration
    pub(super) instance: String,
}

/// How many files are named to people.
const NAMED: usize = 10;

const EXAMPLES: &str = "\
Examples:
  lifeboat backup clinic
  lifeboat backup clinic --json --quiet | jq -r .point

Exit codes: 0 durable, 5 durable but incomplete (a configured command failed, a source gave
nothing, or no evidence could be kept), 3 a path of the configuration is not usable.";

#[derive(Serialize)]
struct Done {
    instance: String,
    run: String,
    point: String,
    key: String,
    started: Timestamp,
    finished: Timestamp,
    seconds: f64,
    trees: Vec<Tree>,
    /// Whether the source was quiet, so that tables can be compared exactly after a restore.
    witness_exact: bool,
    witness_reason: Option<String>,
    changed_files: u64,
    skipped_files: u64,
    /// The first of them, with the reason.
    changed: Vec<String>,
    skipped: Vec<String>,
    failed_commands: Vec<String>,
    /// Sources that gave less than they should.
    incomplete: Vec<String>,
    remarks: Vec<String>,
    /// Where the signed statement of this backup is kept; none when it could not be.
    evidence: Option<String>,
}

#[derive(Serialize)]
struct Tree {
    name: &'static str,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    reused_bytes: u64,
}

impl Done {
    fn new(report: BackupReport) -> Self {
        let header = &report.point.header;
        let (witness_exact, witness_reason) = match report.comparison {
            Comparison::Exact { .. } | Comparison::QuietSource { .. } => (true, None),
            Comparison::NotExact { why } => (false, Some(why)),
        };
        Done {
            instance: header.instance.to_string(),
            run: report.run.to_string(),
            point: header.point.to_string(),
            key: report.point.key.to_string(),
            started: report.started,
            finished: report.finished,
            seconds: report.finished.duration_since(report.started).as_secs_f64(),
            trees: report
                .trees
                .iter()
                .map(|(name, stats)| Tree {
                    name,
                    files: stats.files,
                    bytes: stats.bytes,
                    new_bytes: stats.new_bytes,
                    reused_bytes: stats.reused_bytes,
                })
                .collect(),
            witness_exact,
            witness_reason,
            changed_files: report.notes.changed_count,
            skipped_files: report.notes.skipped_count,
            changed: report.notes.changed,
            skipped: report.notes.skipped,
            failed_commands: report.notes.failed_commands,
            incomplete: report.notes.incomplete,
            remarks: report.notes.remarks,
            evidence: report.evidence.map(|key| key.to_string()),
        }
    }
}

impl Done {
    /// The point is durable whatever this says. Files that vanish or change while they are read are the way of a live system;
    /// a command that failed or a source that gave nothing is a hole in what comes back.
    fn exit(&self) -> Exit {
        let whole = self.failed_commands.is_empty() && self.incomplete.is_empty();
        if whole && self.evidence.is_some() { Exit::Ok } else { Exit::Incomplete }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.backup/1";

    fn text(&self, page: &mut Page) {
        let took = seconds(self.seconds);
        page.line(format_args!(
            "{} recovery point {} of {} in {took}",
            Tone::Good.paint("durable:"),
            self.point,
            self.instance
        ));
        page.field("finished", moment(self.finished));
        page.field("key", &self.key);
        match &self.evidence {
            Some(key) => page.field("evidence", key),
            None => page.field("evidence", Tone::Doubtful.paint("none: see the notes below")),
        }
        page.gap();
        let mut rows = Rows::new(&["part", "files", "size", "new", "known already"]).numbers(&[1, 2, 3, 4]);
        for tree in &self.trees {
            let (size, new, reused) = (bytes(tree.bytes), bytes(tree.new_bytes), bytes(tree.reused_bytes));
            rows.plain([tree.name, &tree.files.to_string(), &size, &new, &reused]);
        }
        page.table(rows);
        self.remarks(page);
        page.gap();
        page.line(format_args!("Next: lifeboat drill {} proves that it comes back.", self.instance));
    }
}

impl Done {
    fn remarks(&self, page: &mut Page) {
        if let Some(why) = &self.witness_reason {
            page.line(format_args!("Tables cannot be compared exactly after a restore of this point: {why}"));
        }
        let lists = [
            ("changed while being read", self.changed_files, &self.changed),
            ("not in this point", self.skipped_files, &self.skipped),
        ];
        for (what, total, examples) in lists.into_iter().filter(|(_, total, _)| *total > 0) {
            page.heading(Tone::Doubtful.paint(&format!("{} {what}", count(total, "file", "files"))));
            examples.iter().take(NAMED).for_each(|example| page.line(format_args!("  {example}")));
            if total > NAMED as u64 {
                page.line("  … --json names more");
            }
        }
        for command in &self.failed_commands {
            page.line(format_args!("{} {command}", Tone::Doubtful.paint("command failed, its output is not kept:")));
        }
        for lack in &self.incomplete {
            page.line(format_args!("{} {lack}", Tone::Bad.paint("INCOMPLETE:")));
        }
        for remark in &self.remarks {
            page.line(format_args!("{} {remark}", Tone::Doubtful.paint("note:")));
        }
    }
}

impl Backup {
    /// Stops at what this instance's sections name and the disk does not have. What only drills use may lie on another host.
    fn look_at_files(&self, session: &Session, loaded: &Loaded) -> Result<()> {
        let on_disk = checks::files::look(&loaded.config, &loaded.file);
        for warning in &on_disk.warnings {
            session.voice.warn(&warning.to_string());
        }
        let own = format!("instances.{}.", self.instance);
        let is_needed = |key: &str| key.strip_prefix(&own).is_some_and(|rest| !rest.starts_with("drill."));
        let problems: Vec<String> =
            on_disk.problems.iter().filter(|problem| is_needed(&problem.key)).map(ToString::to_string).collect();
        if problems.is_empty() {
            return Ok(());
        }
        let found = count(problems.len() as u64, "path", "paths");
        let message = format!("{} has {found} that a backup of {} cannot use", loaded.file.display(), self.instance);
        let failure = Failure { details: problems, ..Failure::new(Exit::Config, message) };
        Err(failure.safe("nothing was done").next("lifeboat config check"))
    }

    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (_, instance) = loaded.config.instance(&self.instance)?;
        self.look_at_files(session, &loaded)?; // a path that is not there is told before anything is connected to
        let connect = connect_options(&instance.postgres, &wire::environment)?;
        writer_keys(&loaded.config.keys)?; // before anything is connected to: a wrong key is told at once
        let failed = format!("backup of {} failed", self.instance);
        let repository = wire::open_or_make(session, &loaded)
            .await
            .safe("nothing was done; recovery points that were there are as they were")
            .context(failed.clone())?;
        let context = wire::context(session, loaded, repository, &format!("lifeboat backup {}", self.instance));
        let meter = Meter::start(&session.voice, format!("backup {}", self.instance));
        let report = backup::run(&context, &self.instance, &connect, meter.clone(), &session.cancel).await;
        drop(meter);
        let report = report
            .safe(
                "no recovery point was made, those that were there are as they were; what was stored so far is reused",
            )
            .context(failed)?;
        let mut done = Done::new(report);
        if session.is_for_others() {
            (done.changed, done.skipped) = (Vec::new(), Vec::new()); // names of files; the counts stay
        }
        session.output.show(&done)?;
        Ok(done.exit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Done {
        Done {
            instance: "clinic".into(),
            run: String::new(),
            point: String::new(),
            key: String::new(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            trees: Vec::new(),
            witness_exact: false,
            witness_reason: None,
            changed_files: 3,
            skipped_files: 2,
            changed: Vec::new(),
            skipped: Vec::new(),
            failed_commands: Vec::new(),
            incomplete: Vec::new(),
            remarks: Vec::new(),
            evidence: Some("key".into()),
        }
    }

    #[test]
    fn a_live_system_is_no_reason_for_an_alarm_and_a_hole_is() {
        assert_eq!(done().exit(), Exit::Ok);
        assert_eq!(Done { failed_commands: vec!["images: code 1".into()], ..done() }.exit(), Exit::Incomplete);
        assert_eq!(Done { incomplete: vec!["the filestore has no files".into()], ..done() }.exit(), Exit::Incomplete);
        assert_eq!(Done { evidence: None, ..done() }.exit(), Exit::Incomplete);
    }
}
