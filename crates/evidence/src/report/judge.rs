//! What the sums of a period mean: protected or not, what deviates, and what somebody has to decide.

use jiff::{Timestamp, tz::TimeZone};
use lifeboat_model::check::Outcome;

use super::{
    period::{ControlRun, Exception, Gap, InstancePeriod, Ledger, Period, Question, Rehearsal, Signed, State, Status},
    words::{count, date, day, days, span},
};
use crate::act::Decision;

/// How well recovery is proven, and why not better. Says only what the evidence of the period says.
pub(super) fn state(of: &InstancePeriod) -> (State, Vec<String>) {
    let mut found: Vec<(State, String)> = Vec::new();
    if of.backups.made == 0 {
        found.push((State::AtRisk, "no recovery point was made in this period".to_owned()));
    }
    if let Some(exposed) = unshown_gap(of) {
        let (exposed, target) = (span(exposed as f64), span(of.rpo_target_seconds as f64));
        let why = format!(
            "its recovery points were up to {exposed} apart or old; the RPO target is {target}, and that the write-ahead log \
             fills the time between is not shown by its last rehearsal"
        );
        found.push((State::AtRisk, why));
    }
    match of.rehearsals.last() {
        None if of.backups.made == 0 => {
            found.push((State::Unprotected, "neither a recovery point nor a rehearsal in this period".to_owned()));
        }
        None => found.push((State::AtRisk, "it was not rehearsed in this period".to_owned())),
        Some(last) => found.extend(last_rehearsal(last)),
    }
    if let Some(gap) = of.due.iter().flat_map(|due| &due.gaps).find(|gap| gap.done.is_none()) {
        found.push((State::AtRisk, format!("the rehearsal that was due on {} is overdue", date(gap.due))));
    }
    let state = found.iter().map(|(state, _)| *state).max().unwrap_or(State::Protected);
    (state, found.into_iter().map(|(_, why)| why).collect())
}

/// How long nothing newer than a backup was there, where that is more than the RPO and no rehearsal to the latest moment shows more.
pub(super) fn unshown_gap(of: &InstancePeriod) -> Option<u64> {
    let is_shown = of.rehearsals.last().is_some_and(|last| last.to_latest && last.rpo_seconds.is_some());
    of.backups.exposed_seconds().filter(|exposed| *exposed > of.rpo_target_seconds && !is_shown)
}

fn last_rehearsal(last: &Rehearsal) -> Vec<(State, String)> {
    let when = date(last.started);
    let mut found = Vec::new();
    let bad = last.first_bad.as_deref().unwrap_or("see its record");
    match last.outcome {
        Outcome::Passed => {}
        Outcome::Failed => found.push((State::Unprotected, format!("the last rehearsal, on {when}, failed: {bad}"))),
        Outcome::Incomplete => {
            found.push((State::AtRisk, format!("the last rehearsal, on {when}, is incomplete: {bad}")));
        }
    }
    let measures =
        [("RPO", last.rpo_seconds, last.rpo_target_seconds), ("RTO", last.rto_seconds, last.rto_target_seconds)];
    for (name, seconds, target) in measures {
        match seconds {
            Some(seconds) if seconds > target as f64 => {
                let (seconds, target) = (span(seconds), span(target as f64));
                found.push((State::AtRisk, format!("its last {name} was {seconds}; the target is {target}")));
            }
            None if last.outcome == Outcome::Passed => {
                found.push((State::AtRisk, format!("its last rehearsal did not measure the {name}")));
            }
            _ => {}
        }
    }
    if let Some(seconds) = last.predicted_seconds.filter(|seconds| *seconds > last.rto_target_seconds as f64) {
        let (seconds, target) = (span(seconds), span(last.rto_target_seconds as f64));
        found.push((
            State::AtRisk,
            format!("a restore of production is predicted to take {seconds}; the target is {target}"),
        ));
    }
    found
}

/// The newest decision counts.
fn decided(sign_offs: &[Signed]) -> Option<Decision> {
    sign_offs.iter().rev().find_map(|signed| signed.decision.filter(|decision| *decision != Decision::Noted))
}

/// Whether the newest decision about a run accepts it.
pub(super) fn is_accepted(sign_offs: &[Signed]) -> bool {
    decided(sign_offs) == Some(Decision::Accepted)
}

/// What deviates from the plan, the oldest first.
pub(super) fn exceptions(of: &InstancePeriod, now: Timestamp) -> Vec<Exception> {
    let gaps = of.due.iter().flat_map(|due| due.gaps.iter().map(|gap| overdue(gap, due.every_seconds)));
    let rehearsals = of.rehearsals.iter().flat_map(|one| of_rehearsal(of, one, now));
    let controls = of.controls.iter().flat_map(|control| of_control(of, control, now));
    let mut found: Vec<Exception> = gaps.chain(rehearsals).chain(controls).collect();
    found.sort_by_key(|exception| exception.time);
    found
}

fn overdue(gap: &Gap, every: u64) -> Exception {
    let (late, every) = (days(gap.late_seconds), days(every));
    let what = match gap.done {
        Some(done) => format!("the rehearsal due by {} came {late} late, on {}", date(gap.due), date(done)),
        None => format!("the rehearsal due by {} has not taken place; one is due every {every}", date(gap.due)),
    };
    let status = if gap.done.is_some() { Status::Closed } else { Status::Open };
    Exception { time: gap.due, run: None, what, status, corrective_action: None, due: None }
}

fn of_rehearsal(of: &InstancePeriod, one: &Rehearsal, now: Timestamp) -> Vec<Exception> {
    let mut found = Vec::new();
    let is_mended = of.rehearsals.iter().any(|later| later.started > one.started && later.outcome == Outcome::Passed);
    let mut say = |what: String, status: Status| {
        let action = action(&one.sign_offs).map(|(text, due)| (text.to_owned(), due));
        let action = action.or(one.corrective_action.clone().map(|text| (text, None)));
        let (corrective_action, due) = action.map_or((None, None), |(text, due)| (Some(text), due));
        found.push(Exception { time: one.started, run: Some(one.run), what, status, corrective_action, due });
    };
    let bad = one.first_bad.as_deref().map(|bad| format!(": {bad}")).unwrap_or_default();
    let answered = status(&one.sign_offs, one.corrective_action.is_some(), is_mended, now);
    match one.outcome {
        Outcome::Passed => {}
        Outcome::Failed => say(format!("the rehearsal failed{bad}"), answered),
        Outcome::Incomplete => say(format!("the rehearsal is incomplete{bad}"), answered),
    }
    if one.outcome == Outcome::Passed && decided(&one.sign_offs) == Some(Decision::Rejected) {
        let why = one.sign_offs.iter().rev().find(|signed| signed.decision == Some(Decision::Rejected));
        let why = why.map(|signed| format!(" by {}: {}", signed.role, signed.comment)).unwrap_or_default();
        say(format!("the rehearsal passed and was rejected{why}"), answered);
    }
    let allowed = one.sign_offs.iter().filter_map(|signed| Some((signed, signed.exception.as_ref()?)));
    for (signed, exception) in allowed {
        say(format!("{exception} (allowed by {} as {})", signed.who, signed.role), Status::Closed);
    }
    for exception in &one.exceptions {
        say(exception.clone(), Status::Closed);
    }
    found
}

/// A control that did not do what it must is a hole in the drills themselves.
fn of_control(of: &InstancePeriod, control: &ControlRun, now: Timestamp) -> Option<Exception> {
    let outcome = control.outcome.filter(|outcome| *outcome != Outcome::Passed)?;
    let again = |later: &ControlRun| {
        later.started > control.started && later.kind == control.kind && later.outcome == Some(Outcome::Passed)
    };
    let what = format!("the negative control {} is {}: {}", control.kind, outcome.word(), control.why);
    let (corrective_action, due) =
        action(&control.sign_offs).map_or((None, None), |(text, due)| (Some(text.to_owned()), due));
    let status = status(&control.sign_offs, false, of.controls.iter().any(again), now);
    Some(Exception { time: control.started, run: Some(control.run), what, status, corrective_action, due })
}

fn action(sign_offs: &[Signed]) -> Option<(&str, Option<jiff::civil::Date>)> {
    sign_offs.iter().rev().find_map(|signed| Some((signed.corrective_action.as_deref()?, signed.due)))
}

/// A later pass alone closes nothing: somebody has to say what was wrong, or that it may be so.
fn status(sign_offs: &[Signed], says_itself: bool, is_mended: bool, now: Timestamp) -> Status {
    let is_answered = says_itself || action(sign_offs).is_some();
    let is_late = action(sign_offs).and_then(|(_, due)| due).is_some_and(|due| due < today(now));
    match (is_answered, is_mended) {
        _ if is_accepted(sign_offs) && sign_offs.iter().any(|signed| signed.exception.is_some()) => Status::Closed,
        (false, _) => Status::Open,
        (true, true) => Status::Closed,
        (true, false) if is_late => Status::Open,
        (true, false) => Status::InHand,
    }
}

fn today(now: Timestamp) -> jiff::civil::Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// The exceptions that wait for somebody.
pub(super) fn open(of: &InstancePeriod) -> impl Iterator<Item = &Exception> {
    of.exceptions.iter().filter(|exception| exception.status == Status::Open)
}

/// What somebody has to decide: first about the evidence, then about instances, the gravest first.
pub(super) fn decisions(period: &Period) -> Vec<Question> {
    let mut questions = about_evidence(period);
    let mut instances: Vec<&InstancePeriod> = period.instances.iter().collect();
    instances.sort_by_key(|of| std::cmp::Reverse(of.state));
    for of in &instances {
        questions.extend(about_instance(of));
    }
    let silent: Vec<&str> =
        period.instances.iter().filter(|of| of.due.is_none()).map(|of| of.instance.as_str()).collect();
    if !silent.is_empty() {
        questions.push(Question {
            instance: None,
            what: format!("Nobody has said how often {} to be rehearsed.", is_or_are(&silent)),
            how: Some("set every in [tiers.<tier>.drill] of lifeboat.toml".to_owned()),
        });
    }
    questions
}

fn is_or_are(names: &[&str]) -> String {
    const NAMED: usize = 5;
    let verb = if names.len() == 1 { "is" } else { "are" };
    match names.len().checked_sub(NAMED) {
        None | Some(0) => format!("{} {verb}", names.join(", ")),
        Some(more) => format!("{} and {more} more {verb}", names[..NAMED].join(", ")),
    }
}

fn about_evidence(period: &Period) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut ask = |what: String, how: &str| {
        questions.push(Question { instance: None, what, how: Some(how.to_owned()) });
    };
    match &period.ledger {
        Ledger::Executed { findings, .. } if !findings.is_empty() => {
            let found: Vec<String> = findings.iter().map(|(word, count)| format!("{count} × {word}")).collect();
            ask(
                format!("The ledger is not as it was written: {}. Find out who has changed it.", found.join(", ")),
                "lifeboat evidence verify",
            );
        }
        _ => {}
    }
    if period.statements.not_believed > 0 {
        let count = period.statements.not_believed;
        let what = match count {
            1 => "1 statement of this period is not believed and counts for nothing. Find out why.".to_owned(),
            _ => format!("{count} statements of this period are not believed and count for nothing. Find out why."),
        };
        ask(what, "lifeboat evidence verify");
    }
    questions
}

/// One question an instance: what is the same kind of thing is told once, with its newest.
fn about_instance(of: &InstancePeriod) -> Vec<Question> {
    let mut parts: Vec<String> = Vec::new();
    let mut how = None;
    let of_runs: Vec<&Exception> = open(of).filter(|exception| exception.run.is_some()).collect();
    if let Some(newest) = of_runs.last() {
        let rest = match of_runs.len() - 1 {
            0 => String::new(),
            more => format!(" And {} before it.", count(more as u64, "other", "others")),
        };
        parts.push(format!(
            "Decide what is done about this: on {} {}.{rest}",
            day(newest.time),
            newest.what.trim_end_matches('.')
        ));
        how = newest
            .run
            .map(|run| format!("lifeboat evidence sign-off {run} --role … --comment … --corrective-action …"));
    }
    if let Some(overdue) = open(of).find(|exception| exception.run.is_none()) {
        parts.push(format!("Overdue: {}.", overdue.what));
        how.get_or_insert(format!("lifeboat drill {}", of.instance));
    }
    if of.rehearsals.is_empty() && parts.is_empty() {
        parts.push("It was not rehearsed in this period.".to_owned());
        how = Some(format!("lifeboat drill {}", of.instance));
    }
    if parts.is_empty() {
        return Vec::new();
    }
    vec![Question { instance: Some(of.instance.clone()), what: parts.join(" "), how }]
}
