//! The full record of one drill: what an auditor asks for, from who started it to what was left.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_model::{
    check::{Check, Verdict},
    id::{RunId, Sha256Digest},
    size::ByteSize,
};
use maud::{Markup, html};

use super::{
    chart,
    parts::{self, Table, Tone, badge, code, facts, text},
};
use crate::{
    drill::{Comparison, DrillPredicate, LocksReadBack, Prediction, VersionsReadBack, Worker},
    report::{
        period::{ControlRun, Rehearsal, Signed},
        words::{count, days, moment, span, thousands},
    },
};

/// The line of the period that a record belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Line<'p> {
    /// A rehearsal.
    Rehearsal(&'p Rehearsal),
    /// A negative control.
    Control(&'p ControlRun),
}

impl<'p> Line<'p> {
    /// The run that it tells of.
    pub fn run(self) -> RunId {
        match self {
            Line::Rehearsal(one) => one.run,
            Line::Control(one) => one.run,
        }
    }

    /// The key of its statement.
    pub fn statement(self) -> &'p str {
        self.parts().0
    }

    /// The digest of its statement.
    pub fn sha256(self) -> Sha256Digest {
        self.parts().1
    }

    fn parts(self) -> (&'p str, Sha256Digest, &'p [Signed]) {
        match self {
            Line::Rehearsal(one) => (&one.statement, one.sha256, &one.sign_offs),
            Line::Control(one) => (&one.statement, one.sha256, &one.sign_offs),
        }
    }
}

/// What becomes of the picture that a drill has taken. The statement has its digest in any case.
#[derive(Debug, Clone, Copy)]
pub enum Picture<'p> {
    /// It stays where it is kept, sealed.
    Kept,
    /// The PNG, which goes into the document.
    Shown(&'p [u8]),
    /// It was to be shown and could not be had, for this reason.
    NotHad(&'p str),
}

pub(super) fn record(drill: &DrillPredicate, line: Line<'_>, picture: Picture<'_>) -> Markup {
    let (_, _, sign_offs) = line.parts();
    html! {
        section.record id=(format!("r-{}", drill.run)) {
            div.title {
                h3 { (drill.instance) ", " (moment(drill.started)) }
                (answer(drill, line))
            }
            (identity(drill, line))
            (control(line))
            (checks(drill))
            (not_executed(drill))
            (times(drill))
            (prediction(drill.prediction.as_ref()))
            (point(drill))
            (surroundings(drill, picture))
            (people(drill, sign_offs))
            p.small { a href=(format!("#i-{}", drill.instance)) { "Back to " (drill.instance) } }
        }
    }
}

fn answer(drill: &DrillPredicate, line: Line<'_>) -> Markup {
    match line {
        Line::Rehearsal(_) => parts::outcome(drill.outcome),
        Line::Control(control) => html! {
            (badge(Tone::Plain, "negative control"))
            @match control.outcome {
                Some(outcome) => (parts::outcome(outcome)),
                None => (badge(Tone::Doubt, "not judged")),
            }
        },
    }
}

fn identity(drill: &DrillPredicate, line: Line<'_>) -> Markup {
    let (key, sha256, _) = line.parts();
    let by = &drill.started_by;
    let versions = &drill.software_versions;
    let measure = |value: Option<f64>, target: u64, met: Option<bool>| {
        let target = span(target as f64);
        match (value, met) {
            (Some(value), Some(true)) => html! { (span(value)) ", within the target of " (target) },
            (Some(value), _) => html! { strong.bad { (span(value)) } ", target " (target) " missed" },
            (None, _) => html! { "not measured (target " (target) ")" },
        }
    };
    let targets = &drill.targets;
    let rpo_times = drill.newest_commit.zip(drill.rpo_reference);
    facts(vec![
        ("Run", code(drill.run.to_string())),
        ("Started by", text(html! { (by.user) "@" (by.host) ": " code { (by.command) } })),
        ("Time", text(html! { (moment(drill.started)) " to " (moment(drill.finished)) })),
        ("Software", text(&drill.software)),
        ("Tier", text(drill.tier.as_str())),
        (
            "RPO",
            text(html! {
                (measure(drill.rpo_seconds, targets.rpo_seconds, targets.rpo_met))
                @if let Some((commit, reference)) = rpo_times {
                    "; from the newest restored commit " (moment(commit)) " to " (moment(reference))
                }
            }),
        ),
        (
            "RTO",
            text(html! {
                (measure(drill.rto_seconds, targets.rto_seconds, targets.rto_met))
                "; from the first second to a served login"
            }),
        ),
        ("Data", text(comparison(&drill.comparison))),
        ("PostgreSQL", versions.postgres.as_ref().map(|version| html! { (version) })),
        (
            "Odoo",
            versions.odoo.as_ref().map(|version| {
                html! { (version) @if let Some(modules) = versions.modules { ", " (count(modules, "module", "modules")) } }
            }),
        ),
        ("Statement", code(key)),
        ("SHA-256 of it", code(sha256.to_string())),
    ])
}

fn comparison(comparison: &Comparison) -> Markup {
    match comparison {
        Comparison::QuietSource { tables, rows } => html! {
            (thousands(*tables)) " tables, " (thousands(*rows)) " rows equal to a source known to be quiet; not exact under load"
        },
        Comparison::ExactWitness(exact) => html! {
            (thousands(exact.tables)) " tables, " (thousands(exact.rows)) " rows compared with the source at exactly " (exact.lsn)
            @if !exact.from.is_empty() { " (" (exact.from) ")" }
            @if exact.sampled > 0 { "; " (exact.sampled) " by a sample of blocks" }
            @if exact.not_compared > 0 { "; " (exact.not_compared) " not compared" }
        },
        Comparison::None { why } => html! { "not compared with the source: " (why) },
    }
}

fn control(line: Line<'_>) -> Markup {
    let Line::Control(control) = line else { return html! {} };
    let list = |ids: &[String]| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    facts(vec![
        ("Damage on purpose", text(&control.kind)),
        ("Had to fail", text(list(&control.expected))),
        ("Failed", text(list(&control.failed))),
        ("Why", text(&control.why)),
    ])
}

fn checks(drill: &DrillPredicate) -> Markup {
    let mut table = Table::new("checks", &["Rung, check", "Expected", "Observed", "Verdict", "Took"]);
    for check in &drill.checks {
        let is_required = drill.required.contains(&check.id);
        table.row(vec![
            html! { (check.rung) " " code { (check.id) } @if is_required { br; span.soft { "required" } } },
            html! { (check.purpose) @if !check.expected.is_empty() { ": " (check.expected) } },
            html! { (check.observed) (why(check)) },
            parts::verdict(&check.verdict),
            html! { span.once { (span(check.duration_ms as f64 / 1000.0)) } },
        ]);
    }
    html! { h4 { "Checks" } (table) }
}

fn why(check: &Check) -> Markup {
    match &check.verdict {
        Verdict::Passed => html! {},
        Verdict::Failed(why) | Verdict::NotExecuted(why) => html! {
            @if !check.observed.is_empty() && !why.is_empty() { ": " }
            strong { (why) }
        },
    }
}

fn not_executed(drill: &DrillPredicate) -> Markup {
    html! {
        @if !drill.not_executed.is_empty() {
            h4 { "Checks that were not executed" }
            ul { @for one in &drill.not_executed { li { code { (one.id) } ": " (one.why) } } }
        }
    }
}

fn worker(worker: Worker) -> &'static str {
    match worker {
        Worker::Postgres => "PostgreSQL",
        Worker::Odoo => "Odoo",
        Worker::Own => "Lifeboat",
    }
}

fn times(drill: &DrillPredicate) -> Markup {
    let mut table = Table::new("number", &["Phase", "Took", "Moved", "Parts"]);
    let seconds = |milliseconds: u64| span(milliseconds as f64 / 1000.0);
    for phase in &drill.phases {
        let moved = match (phase.bytes, phase.files) {
            (Some(bytes), Some(files)) => format!("{} in {}", ByteSize(bytes), count(files, "file", "files")),
            (Some(bytes), None) => ByteSize(bytes).to_string(),
            (None, Some(files)) => count(files, "file", "files"),
            (None, None) => "–".to_owned(),
        };
        let part = |part: &crate::drill::Part| {
            let took = seconds(part.duration_ms);
            format!("{} {took} ({})", part.name, worker(part.worker))
        };
        let parts: Vec<String> = phase.parts.iter().map(part).collect();
        let parts = if parts.is_empty() { "–".to_owned() } else { parts.join(", ") };
        table.row(vec![
            html! { (phase.name) },
            html! { (seconds(phase.duration_ms)) },
            html! { (moved) },
            html! { (parts) },
        ]);
    }
    html! {
        h4 { "Times" }
        @if let Some(whole) = &drill.breakdown {
            @let title = format!("Whose work the {} were", seconds(whole.total_ms));
            (chart::bar(&format!("b-{}", drill.run), &title, [
                ("PostgreSQL", whole.postgres_ms), ("Odoo", whole.odoo_ms), ("Lifeboat, store and Docker", whole.own_ms),
            ]))
        }
        (table)
    }
}

fn prediction(prediction: Option<&Prediction>) -> Markup {
    let Some(prediction) = prediction else { return html! {} };
    let mut table = Table::new("number", &["Step", "Amount", "Measured rate", "Would take"]);
    for step in &prediction.steps {
        let rate = step.bytes_per_second.map(|rate| format!("{}/s", ByteSize(rate.max(0.0) as u64)));
        table.row(vec![
            html! { (step.name) },
            html! { (step.bytes.map_or("–".to_owned(), |bytes| ByteSize(bytes).to_string())) },
            html! { (rate.unwrap_or_else(|| "–".to_owned())) },
            html! { (span(step.seconds)) },
        ]);
    }
    let (tone, word) = if prediction.met { (Tone::Good, "within target") } else { (Tone::Bad, "target missed") };
    html! {
        h4 { "What a restore of production would take" }
        p { (span(prediction.seconds)) " (target " (span(prediction.target_seconds as f64)) ") " (badge(tone, word)) }
        (table)
        @if !prediction.assumptions.is_empty() {
            p.small { "Taken for granted: " (prediction.assumptions.join("; ")) "." }
        }
    }
}

fn point(drill: &DrillPredicate) -> Markup {
    let Some(point) = &drill.point else { return html! { h4 { "Recovery point" } p { "None was found." } } };
    let read = &drill.versions_read_back;
    html! {
        h4 { "Recovery point" }
        (facts(vec![
            ("Id", code(point.id.to_string())),
            ("Chosen by", text(html! { (point.selected_by) "; " (days(point.age_seconds)) " old" })),
            ("Its backup ended", text(moment(point.finished))),
            ("Object", code(&point.key)),
            ("SHA-256", code(point.sha256.to_string())),
            ("VersionId", code(point.version.as_deref().unwrap_or("none: the store has no versions"))),
            ("Repository", text(html! { (drill.storage) @if let Some(id) = drill.repository { ", " code { (id) } } })),
            ("VersionIds read back", text(versions(read))),
            ("Retention read back", Some(read.locks.as_ref().map_or_else(|| html! { "none: the store has no object lock" }, locks))),
        ]))
        @let odd: Vec<_> = read.listed.iter().filter(|one| one.recorded != one.read_back).collect();
        @if !odd.is_empty() {
            ul.small {
                @for one in odd {
                    li { code { (one.key) } ": recorded " (one.recorded.as_deref().unwrap_or("none")) ", read back "
                        (one.read_back.as_deref().unwrap_or("none")) }
                }
            }
        }
    }
}

fn versions(read: &VersionsReadBack) -> Markup {
    html! {
        (thousands(read.equal)) " of " (count(read.objects, "object", "objects")) " as recorded"
        @for (number, word) in [(read.different, "another version"), (read.missing, "missing"), (read.without_version, "without a version")] {
            @if number > 0 { ", " (thousands(number)) " " (word) }
        }
    }
}

fn locks(locks: &LocksReadBack) -> Markup {
    html! {
        (thousands(locks.locked)) " of " (count(locks.objects, "object", "objects")) " locked as promised"
        @if let Some(until) = locks.promised_until { " until " (moment(until)) }
        ", " (thousands(locks.compliance)) " in compliance mode"
        @if let Some(earliest) = locks.earliest_until { "; the first ends " (moment(earliest)) }
        @if locks.held > 0 { "; " (thousands(locks.held)) " under legal hold" }
        @if locks.unread > 0 { "; " (thousands(locks.unread)) " could not be asked for" }
        @if !locks.short.is_empty() { "; too short: " (locks.short.join(", ")) }
    }
}

fn surroundings(drill: &DrillPredicate, picture: Picture<'_>) -> Markup {
    let teardown = &drill.teardown;
    let mut images = Table::new("images", &["Image", "Name", "Id or digest"]);
    for image in &drill.images {
        images.row(vec![
            html! { (image.role) },
            html! { (image.name) },
            html! { code { (image.digest.as_ref().unwrap_or(&image.id)) } },
        ]);
    }
    let mut isolation = Table::new("isolation", &["Isolation", "Observed"]);
    for fact in &drill.isolation {
        isolation.row(vec![html! { (fact.name) }, html! { (fact.observed) }]);
    }
    let left = match teardown.complete {
        true => "complete: no container, volume, network or plaintext was left".to_owned(),
        false => format!(
            "NOT COMPLETE: {} containers, {} volumes, {} networks, {} plaintext folders left. {}",
            teardown.containers,
            teardown.volumes,
            teardown.networks,
            teardown.plaintext,
            teardown.left.join(", ")
        ),
    };
    let screenshot = drill.screenshot.as_ref().map(|taken| {
        html! {
            code { (taken.sha256) } ", " (ByteSize(taken.bytes))
            @if let Some(key) = &taken.key { ", sealed at " code { (key) } }
            @if let Picture::NotHad(why) = picture { "; not shown here: " (why) }
        }
    });
    html! {
        h4 { "Sandbox" }
        (images)
        (isolation)
        (facts(vec![
            ("Teardown", text(left)),
            ("Screenshot", screenshot),
            ("Settings", code(format!("lifeboat.toml sha256 {}", drill.config_sha256))),
            ("Policy", drill.policy_sha256.map(|digest| html! { code { "sha256 " (digest) } })),
        ]))
        (shown(picture))
        @if !drill.not_covered.is_empty() {
            h4 { "Not covered" }
            ul { @for gap in &drill.not_covered {
                li { (gap.what) @if let Some(number) = gap.count { " (" (thousands(number)) ")" } ": " (gap.why) }
            } }
        }
        @if !drill.notes.is_empty() {
            h4 { "Notes" }
            ul { @for note in &drill.notes { li { (note) } } }
        }
    }
}

/// The picture itself, in the document.
fn shown(picture: Picture<'_>) -> Markup {
    let Picture::Shown(png) = picture else { return html! {} };
    html! {
        figure.shot {
            img src=(format!("data:image/png;base64,{}", STANDARD.encode(png))) alt="The restored Odoo in a browser, logged in";
            figcaption.small.soft { "The restored Odoo, as a browser showed it to a user who was logged in. It may show personal data." }
        }
    }
}

fn people(drill: &DrillPredicate, sign_offs: &[Signed]) -> Markup {
    let mut table = Table::new("signed", &["Signed", "Who, as what", "Decision", "Words"]);
    for signed in sign_offs {
        table.row(vec![
            html! { span.once { (moment(signed.time)) } },
            html! { (signed.who) ", " (signed.role) },
            html! { (signed.decision.map_or("seen", |decision| decision.word())) },
            html! {
                (signed.comment)
                @if let Some(exception) = &signed.exception { br; "Exception: " (exception) }
                @if let Some(action) = &signed.corrective_action {
                    br; "Corrective action: " (action)
                    @if let Some(due) = signed.due { " (by " (due) ")" }
                }
            },
        ]);
    }
    html! {
        h4 { "Sign-offs, exceptions, corrective action" }
        @for exception in &drill.exceptions { p { "Exception: " (exception) } }
        @if let Some(action) = &drill.corrective_action { p { "Corrective action: " (action) } }
        @if sign_offs.is_empty() { p.soft { "Nobody has signed this run." } }
        (table)
    }
}
