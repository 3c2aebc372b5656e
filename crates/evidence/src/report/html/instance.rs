//! One instance over the period: how it went, what deviated, every run in a line.

use maud::{Markup, html};

use super::{
    chart::{self, Measure, Stretch},
    parts::{self, Table, Tone, badge, facts, text},
    tone,
};
use crate::report::{
    period::{InstancePeriod, Measured, Period, Rehearsal, Signed},
    words::{count, day, days, minute, span},
};
use lifeboat_model::{check::Outcome, size::ByteSize};

pub(super) fn instance(period: &Period, of: &InstancePeriod) -> Markup {
    let id = format!("i-{}", of.instance);
    html! {
        section.instance id=(id) {
            div.title { h2 { (of.instance) } (badge(tone(of.state), of.state.word())) }
            @if !of.reasons.is_empty() {
                ul { @for reason in &of.reasons { li { (reason) } } }
            }
            (about(of))
            (charts(&id, period, of))
            (exceptions(of))
            (rehearsals(of))
            (controls(of))
        }
    }
}

fn about(of: &InstancePeriod) -> Markup {
    let backups = &of.backups;
    let due = of.due.as_ref().map(|due| {
        html! {
            (due.due) " were due (one every " (days(due.every_seconds)) "), " (due.missed) " not done in time"
        }
    });
    let points = html! {
        (count(backups.made, "recovery point", "recovery points"))
        @if backups.dumps > 0 { ", " (count(backups.dumps, "logical dump", "logical dumps")) }
        @if let Some(newest) = backups.newest { "; the newest " (minute(newest)) }
        @if let Some(gap) = backups.longest_gap_seconds { "; at most " (span(gap as f64)) " without a new one" }
        @if let Some(age) = backups.newest_age_seconds { "; the newest was " (span(age as f64)) " old at the end of the period" }
        @if backups.made > 0 { "; " (ByteSize(backups.read_bytes)) " read, " (ByteSize(backups.stored_bytes)) " stored" }
    };
    let acts: Vec<String> = of.acts.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
    let not_covered = of.not_covered.iter().map(|gap| match gap.count {
        Some(number) => format!("{} ({number}): {}", gap.what, gap.why),
        None => format!("{}: {}", gap.what, gap.why),
    });
    let not_covered: Vec<String> = not_covered.collect();
    facts(vec![
        ("Tier", text(html! { (of.tier) @if !of.configured { " (not in the configuration any more)" } })),
        ("Owner", text(of.owner.as_deref().unwrap_or("nobody is named"))),
        ("Rehearsals", Some(due.unwrap_or_else(|| html! { "nobody has said how often" }))),
        ("Backups", text(points)),
        ("RPO", text(measured(&of.rpo, of.rpo_target_seconds))),
        ("RTO", text(measured(&of.rto, of.rto_target_seconds))),
        ("Other acts", (!acts.is_empty()).then(|| html! { (acts.join(", ")) })),
        ("Not covered", (!not_covered.is_empty()).then(|| html! { (not_covered.join("; ")) })),
    ])
}

fn measured(measured: &Measured, target: u64) -> Markup {
    html! {
        "target " (span(target as f64))
        @match measured.newest_seconds {
            None => ", never measured",
            Some(newest) => {
                ", newest " (span(newest))
                @if let Some(worst) = measured.worst_seconds { ", worst " (span(worst)) }
                "; met " (measured.met) ", missed " (measured.missed)
            }
        }
        @if measured.not_measured > 0 { ", not measured " (measured.not_measured) }
        @if let Some(trend) = &measured.trend {
            "; " (trend.direction.word()) " (usually " (span(trend.usual_seconds)) ")"
        }
    }
}

fn charts(id: &str, period: &Period, of: &InstancePeriod) -> Markup {
    let end = period.to.min(period.made.max(period.from));
    let stretch = Stretch { from: period.from, to: end };
    let rpo = Measure {
        name: "RPO",
        what: "how much of the newest work was lost",
        rehearsals: &of.rehearsals,
        of: |one: &Rehearsal| (one.rpo_seconds, one.rpo_target_seconds),
        target: of.rpo_target_seconds,
    };
    let rto = Measure {
        name: "RTO",
        what: "from the first second to a served login",
        rehearsals: &of.rehearsals,
        of: |one: &Rehearsal| (one.rto_seconds, one.rto_target_seconds),
        target: of.rto_target_seconds,
    };
    let gaps = of.due.as_ref().map(|due| due.gaps.as_slice()).unwrap_or_default();
    html! {
        @if !of.rehearsals.is_empty() || !gaps.is_empty() {
            div.charts {
                (chart::measure(&format!("{id}-rpo"), stretch, &rpo))
                (chart::measure(&format!("{id}-rto"), stretch, &rto))
            }
            p.legend { "● within the target, ○ above it, × not measured; - - target. Scales are logarithmic." }
            (chart::strip(&format!("{id}-strip"), stretch, &of.rehearsals, gaps))
        }
    }
}

fn exceptions(of: &InstancePeriod) -> Markup {
    let mut table = Table::new("exceptions", &["Seen", "Status", "What deviates", "What is done about it"]);
    for one in &of.exceptions {
        let done = match (&one.corrective_action, one.due) {
            (Some(action), Some(due)) => html! { (action) " (by " (due) ")" },
            (Some(action), None) => html! { (action) },
            (None, _) => html! { span.soft { "–" } },
        };
        table.row(vec![
            match one.run {
                Some(run) => html! { a.once href=(format!("#r-{run}")) { (day(one.time)) } },
                None => html! { span.once { (day(one.time)) } },
            },
            parts::status(one.status),
            html! { (one.what) },
            done,
        ]);
    }
    html! {
        h4 { "Exceptions and corrective actions" }
        @if of.exceptions.is_empty() { p { "None." } }
        (table)
    }
}

fn rehearsals(of: &InstancePeriod) -> Markup {
    let mut table = Table::new("number", &["Rehearsal", "Outcome", "RPO", "RTO", "Checks", "Signed"]);
    for one in &of.rehearsals {
        let seconds = |value: Option<f64>, target: u64| match value {
            None => html! { span.soft { "none" } },
            Some(value) if value <= target as f64 => html! { span.once { (span(value)) } },
            Some(value) => html! { span.once { strong.bad { (span(value)) } " > " (span(target as f64)) } },
        };
        table.row(vec![
            html! { a.once href=(format!("#r-{}", one.run)) { (minute(one.started)) } },
            parts::outcome(one.outcome),
            seconds(one.rpo_seconds, one.rpo_target_seconds),
            seconds(one.rto_seconds, one.rto_target_seconds),
            html! {
                (one.checks_passed) " passed"
                @if one.checks_failed > 0 { ", " strong.bad { (one.checks_failed) " failed" } }
                @if one.checks_not_executed > 0 { ", " (one.checks_not_executed) " not executed" }
            },
            signed(&one.sign_offs),
        ]);
    }
    html! {
        h4 { "Rehearsals" }
        @if of.rehearsals.is_empty() { p { "None in this period." } }
        (table)
    }
}

/// The newest word of everybody.
fn signed(sign_offs: &[Signed]) -> Markup {
    html! {
        @if sign_offs.is_empty() { span.soft { "–" } }
        @for (at, signed) in sign_offs.iter().enumerate() {
            @if at > 0 { "; " }
            (signed.decision.map_or("seen", |decision| decision.word())) " by " (signed.role)
        }
    }
}

fn controls(of: &InstancePeriod) -> Markup {
    let names = ["Control", "Damage made on purpose", "Outcome", "Had to fail", "Failed"];
    let mut table = Table::new("controls", &names);
    let list = |ids: &[String]| if ids.is_empty() { "–".to_owned() } else { ids.join(", ") };
    for one in &of.controls {
        table.row(vec![
            html! { a.once href=(format!("#r-{}", one.run)) { (minute(one.started)) } },
            html! { (one.kind) },
            one.outcome.map_or_else(|| badge(Tone::Doubt, "not judged"), parts::outcome),
            html! { (list(&one.expected)) },
            html! { (list(&one.failed)) },
        ]);
    }
    let passed = of.controls.iter().filter(|one| one.outcome == Some(Outcome::Passed)).count();
    html! {
        h4 { "Negative controls" }
        @match of.controls.len() {
            0 => p { "None in this period: that a drill of this instance sees damage was not shown." },
            all => p.small.soft {
                "Drills on a copy that was damaged on purpose; no rehearsals. " (passed) " of " (all)
                " ended as they must: exactly the right checks failed."
            },
        }
        (table)
    }
}
