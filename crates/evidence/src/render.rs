//! A statement as plain lines, for people and for files; tables and colours are the terminal's business.

mod acts;

use std::fmt::{self, Display, Write as _};

use lifeboat_model::{
    check::{Check, Verdict},
    size::ByteSize,
    time::Span,
};

use crate::{
    backup::{BackupPredicate, NotCovered},
    drill::{Comparison, DrillPredicate, ExactComparison, Teardown},
    dump::DumpPredicate,
    statement::Predicate,
    verify::Verified,
};

/// All that a person needs to judge a statement, one fact a line. What signed texts hold cannot steer a terminal.
pub fn render(verified: &Verified) -> String {
    let mut page = Page(String::new());
    page.line("statement", verified.statement.kind());
    page.line("signed by", format_args!("key {}", verified.key.id()));
    for subject in &verified.statement.subject {
        page.line("subject", format_args!("{} (sha256 {})", subject.name, subject.digest.sha256));
    }
    for contradiction in &verified.contradictions {
        page.line("CONTRADICTION", contradiction);
    }
    match &verified.statement.predicate {
        Predicate::Backup(backup) => render_backup(&mut page, backup),
        Predicate::Drill(drill) => render_drill(&mut page, drill),
        Predicate::Dump(dump) => render_dump(&mut page, dump),
        Predicate::Act(act) => acts::render(&mut page, act),
        Predicate::Opaque { predicate, .. } => {
            page.line("meaning", "not known to this version; the signature is right");
            page.line("content", predicate);
        }
    }
    page.0
}

fn render_backup(page: &mut Page, backup: &BackupPredicate) {
    page.line("run", format_args!("{} of {}/{}, tier {}", backup.run, backup.tenant, backup.instance, backup.tier));
    page.line(
        "started by",
        format_args!("{}@{}: {}", backup.started_by.user, backup.started_by.host, backup.started_by.command),
    );
    page.line("software", &backup.software);
    page.line("time", format_args!("{} to {}", backup.started, backup.finished));
    page.line("repository", format_args!("{} ({})", backup.storage, backup.repository));
    page.line("point", format_args!("{} version {}", backup.point.id, or_none(backup.point.version.as_ref())));
    let source = &backup.source;
    page.line(
        "source",
        format_args!(
            "PostgreSQL {}, system {}, timeline {}",
            source.postgres_version, source.system_id, source.timeline
        ),
    );
    page.line("wal", format_args!("{} to {}", source.start_lsn, source.end_lsn));
    page.line("databases", source.databases.join(", "));
    page.line("page checksums", word(&source.data_checksums));
    let sizes = &backup.sizes;
    page.line(
        "sizes",
        format_args!(
            "{} files, {} read, {} new, {} stored, {} reused",
            sizes.files,
            ByteSize(sizes.read_bytes),
            ByteSize(sizes.new_bytes),
            ByteSize(sizes.stored_bytes),
            ByteSize(sizes.reused_bytes)
        ),
    );
    for tree in &backup.trees {
        let bytes = ByteSize(tree.bytes);
        page.line(
            "tree",
            format_args!(
                "{}: {} entries, {bytes}, {} changed, {} vanished",
                tree.kind, tree.entries, tree.changed, tree.vanished
            ),
        );
    }
    render_rest(page, &backup.notes, &backup.not_covered);
}

fn render_drill(page: &mut Page, drill: &DrillPredicate) {
    page.line("outcome", drill.outcome.word());
    page.line("run", format_args!("{} of {}/{}, tier {}", drill.run, drill.tenant, drill.instance, drill.tier));
    page.line(
        "started by",
        format_args!("{}@{}: {}", drill.started_by.user, drill.started_by.host, drill.started_by.command),
    );
    page.line("software", &drill.software);
    page.line("time", format_args!("{} to {}", drill.started, drill.finished));
    page.line("repository", &drill.storage);
    match &drill.point {
        Some(point) => {
            let age = Span(std::time::Duration::from_secs(point.age_seconds));
            page.line(
                "point",
                format_args!(
                    "{} ({}), {age} old, version {}",
                    point.id,
                    point.selected_by,
                    or_none(point.version.as_ref())
                ),
            );
        }
        None => page.line("point", "none"),
    }
    let targets = &drill.targets;
    page.line("rpo", objective(drill.rpo_seconds, targets.rpo_seconds, targets.rpo_met));
    page.line("rto", objective(drill.rto_seconds, targets.rto_seconds, targets.rto_met));
    if let (Some(commit), Some(reference)) = (drill.newest_commit, drill.rpo_reference) {
        page.line("rpo is from", format_args!("newest commit {commit} to {reference}"));
    }
    if let Some(sabotage) = &drill.sabotage {
        page.line("NEGATIVE CONTROL", format_args!("damaged on purpose: {sabotage}"));
    }
    if let Some(control) = &drill.control {
        page.line("control", format_args!("{}: {}", control.outcome.word(), control.why));
        page.line("must fail", control.expected.join(", "));
        page.line("failed", control.failed.join(", "));
    }
    page.line("comparison", comparison(&drill.comparison));
    for check in &drill.checks {
        let why = match &check.verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed(why) | Verdict::NotExecuted(why) => format!("; {why}"),
        };
        let Check { id, expected, observed, .. } = check;
        page.line(check.verdict.word(), format_args!("{id}: expected {expected}, observed {observed}{why}"));
    }
    for phase in &drill.phases {
        let time = Span(std::time::Duration::from_millis(phase.duration_ms));
        let bytes = phase.bytes.map(|bytes| format!(", {}", ByteSize(bytes))).unwrap_or_default();
        page.line("phase", format_args!("{}: {time}{bytes}", phase.name));
    }
    if let Some(breakdown) = &drill.breakdown {
        let time = |ms| Span(std::time::Duration::from_millis(ms));
        let [postgres, odoo, own] = [breakdown.postgres_ms, breakdown.odoo_ms, breakdown.own_ms].map(time);
        let total = time(breakdown.total_ms);
        page.line("time", format_args!("{total}: PostgreSQL {postgres}, Odoo {odoo}, everything else {own}"));
    }
    if let Some(prediction) = &drill.prediction {
        let time = |seconds: f64| Span(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let met = if prediction.met { "within" } else { "BEYOND" };
        let target = Span(std::time::Duration::from_secs(prediction.target_seconds));
        page.line(
            "prediction",
            format_args!("a restore of production takes {}, {met} the target of {target}", time(prediction.seconds)),
        );
        for assumption in &prediction.assumptions {
            page.line("assumed", assumption);
        }
    }
    for image in &drill.images {
        page.line(
            "image",
            format_args!("{}: {} {}", image.role, image.name, image.digest.as_ref().unwrap_or(&image.id)),
        );
    }
    for fact in &drill.isolation {
        page.line("isolation", format_args!("{}: {}", fact.name, fact.observed));
    }
    page.line("teardown", teardown(&drill.teardown));
    render_rest(page, &drill.notes, &drill.not_covered);
}

fn render_dump(page: &mut Page, dump: &DumpPredicate) {
    page.line("run", format_args!("{} of {}/{}, tier {}", dump.run, dump.tenant, dump.instance, dump.tier));
    page.line(
        "started by",
        format_args!("{}@{}: {}", dump.started_by.user, dump.started_by.host, dump.started_by.command),
    );
    page.line("software", &dump.software);
    page.line("time", format_args!("{} to {}", dump.started, dump.finished));
    page.line("repository", format_args!("{} ({})", dump.storage, dump.repository));
    page.line("point", format_args!("{} version {}", dump.point.id, or_none(dump.point.version.as_ref())));
    let system = or_none(dump.system_id.as_ref());
    page.line("source", format_args!("PostgreSQL {}, system {system}", dump.postgres_version));
    page.line("program", &dump.program);
    for database in &dump.databases {
        page.line("database", format_args!("{}: {}", database.name, ByteSize(database.bytes)));
    }
    let sizes = &dump.sizes;
    let [read, stored] = [sizes.read_bytes, sizes.stored_bytes].map(ByteSize);
    page.line("sizes", format_args!("{} files, {read} read, {stored} stored", sizes.files));
    render_rest(page, &dump.notes, &dump.not_covered);
}

fn render_rest(page: &mut Page, notes: &[String], not_covered: &[NotCovered]) {
    for gap in not_covered {
        let count = gap.count.map(|count| format!(" ({count})")).unwrap_or_default();
        page.line("not covered", format_args!("{}{count}: {}", gap.what, gap.why));
    }
    for note in notes {
        page.line("note", note);
    }
}

fn objective(measured: Option<f64>, target: u64, met: Option<bool>) -> String {
    let target = Span(std::time::Duration::from_secs(target));
    match (measured, met) {
        (Some(seconds), Some(true)) => format!("{seconds:.1} s, met (target {target})"),
        (Some(seconds), _) => format!("{seconds:.1} s, MISSED (target {target})"),
        (None, _) => format!("not measured (target {target})"),
    }
}

fn comparison(comparison: &Comparison) -> String {
    match comparison {
        Comparison::QuietSource { tables, rows } => {
            format!("{tables} tables, {rows} rows, with a source known to be quiet; not exact under load")
        }
        Comparison::ExactWitness(exact) => exact_comparison(exact),
        Comparison::None { why } => format!("none: {why}"),
    }
}

fn exact_comparison(exact: &ExactComparison) -> String {
    let mut text = format!("{} tables, {} rows, exact at {}", exact.tables, exact.rows, exact.lsn);
    if !exact.from.is_empty() {
        text += &format!(", taken at the {}", exact.from);
    }
    for (count, what) in [(exact.sampled, "compared by a sample of blocks"), (exact.not_compared, "not compared")] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text
}

fn teardown(teardown: &Teardown) -> String {
    let Teardown { complete, containers, volumes, networks, plaintext, left } = teardown;
    if *complete {
        return "complete: no container, volume, network or plaintext left".to_owned();
    }
    let left = left.join(", ");
    format!(
        "INCOMPLETE: {containers} containers, {volumes} volumes, {networks} networks, {plaintext} plaintext folders left: {left}"
    )
}

fn or_none(text: Option<&String>) -> &str {
    text.map_or("none", String::as_str)
}

/// The word that stands in the JSON text.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

struct Page(String);

impl Page {
    fn line(&mut self, label: &str, value: impl Display) {
        let _ = write!(self.0, "{label:<17}"); // writing to a String cannot fail
        let _ = write!(Printable(&mut self.0), "{value}");
        self.0.push('\n');
    }
}

/// Passes text on with control characters escaped.
struct Printable<'p>(&'p mut String);

impl fmt::Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() { self.0.extend(c.escape_default()) } else { self.0.push(c) }
        }
        Ok(())
    }
}
