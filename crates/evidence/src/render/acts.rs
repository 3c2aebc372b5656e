//! The lines of an act.

use lifeboat_model::{check::Verdict, size::ByteSize};

use super::{Page, or_none};
use crate::{
    act::{
        Access, AccessRefusal, Act, ActPredicate, Copy, Hold, Incident, KeyRehearsal, KeyRotation, Policy, Proof,
        Property, Prune, Refused, RepositoryCheck, Retain, RunbookRun, Scrub, SignOff,
    },
    backup::PointReference,
};

pub(super) fn render(page: &mut Page, act: &ActPredicate) {
    page.line("outcome", act.outcome.word());
    match &act.instance {
        Some(instance) => page.line("run", format_args!("{} of {}/{instance}", act.run, act.tenant)),
        None => page.line("run", format_args!("{} of {}, the whole repository", act.run, act.tenant)),
    }
    let by = &act.started_by;
    page.line("started by", format_args!("{}@{}: {}", by.user, by.host, by.command));
    page.line("software", &act.software);
    page.line("time", format_args!("{} to {}", act.started, act.finished));
    page.line("repository", format_args!("{} ({})", act.storage, act.repository));
    match &act.act {
        Act::Prune(prune) => render_prune(page, prune),
        Act::Hold(held) => render_hold(page, held, "held"),
        Act::Release(released) => render_hold(page, released, "released"),
        Act::Retain(retain) => render_retain(page, retain),
        Act::RepositoryCheck(check) => render_check(page, check),
        Act::KeyRehearsal(rehearsal) => render_rehearsal(page, rehearsal),
        Act::KeyRevocation(revocation) => {
            page.line("key", format_args!("{} (id {})", revocation.key, revocation.key.id()));
            page.line("not believed", format_args!("for what the store received after {}", revocation.at));
            page.line("reason", &revocation.reason);
        }
        Act::KeyRotation(rotation) => render_rotation(page, rotation),
        Act::Copy(copy) => render_copy(page, copy),
        Act::Scrub(scrub) => render_scrub(page, scrub),
        Act::Verify(proof) => render_proof(page, proof),
        Act::SignOff(sign_off) => render_sign_off(page, sign_off),
        Act::Access(access) => render_access(page, access),
        Act::Policy(policy) => render_policy(page, policy),
        Act::Runbook(run) => render_run(page, run),
        Act::Incident(incident) => render_incident(page, incident),
    }
}

fn render_access(page: &mut Page, access: &Access) {
    for act in &access.acts {
        let target = act.target.as_ref().map(|target| format!(" {target}")).unwrap_or_default();
        let detail = act.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        page.line("act", format_args!("{} by {}: {}{target}{detail}", act.at, act.who, act.act));
    }
    for refusal in &access.refusals {
        let AccessRefusal { who, act, why, count, first, last } = refusal;
        let who = who.as_deref().unwrap_or("somebody unknown");
        page.line("refused", format_args!("{count} times, {first} to {last}: {act} by {who}: {why}"));
    }
    if access.unlisted > 0 {
        page.line("refused", format_args!("{} more, not listed", access.unlisted));
    }
}

fn render_policy(page: &mut Page, policy: &Policy) {
    for file in &policy.files {
        page.line("policy", format_args!("{} (SHA-256 {})", file.name, file.sha256));
    }
    for change in &policy.changes {
        let word = match (&change.before, &change.after) {
            (None, _) => "new",
            (_, None) => "gone",
            _ => "changed",
        };
        page.line(word, &change.name);
    }
}

fn render_prune(page: &mut Page, prune: &Prune) {
    page.line("objects", format_args!("{} looked at, {} removed", prune.objects, prune.removed));
    page.line("freed", ByteSize(prune.freed_bytes));
    page.line("kept", format_args!("{} for {} points", ByteSize(prune.kept_bytes), prune.points_kept));
    if let Some(until) = prune.locked_until {
        page.line("locked still", format_args!("{} until {until}", ByteSize(prune.locked_bytes)));
    }
    if prune.waiting > 0 {
        page.line("waiting", format_args!("{} objects", prune.waiting));
    }
    for point in &prune.points_removed {
        page.line("removed point", point);
    }
}

fn render_hold(page: &mut Page, hold: &Hold, word: &str) {
    point(page, &hold.point);
    page.line("reason", &hold.reason);
    match hold.objects {
        0 => page.line(word, "by this record alone: the store keeps no holds"),
        objects => page.line(word, format_args!("{objects} objects, in the store")),
    }
    if hold.shared > 0 {
        page.line("still held", format_args!("{} objects that another held point needs", hold.shared));
    }
    refused(page, &hold.refused);
}

fn render_retain(page: &mut Page, retain: &Retain) {
    page.line(
        "locks",
        format_args!(
            "{} points, {} objects: {} extended, {} long enough before",
            retain.points, retain.objects, retain.extended, retain.enough
        ),
    );
    refused(page, &retain.refused);
}

fn render_check(page: &mut Page, check: &RepositoryCheck) {
    page.line("checked", &check.name);
    if let Some(seconds) = check.skew_seconds {
        page.line("clock", format_args!("the store's is {seconds:+.1} s from the host's"));
    }
    for Property { id, expected, observed, verdict, .. } in &check.findings {
        let why = match verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed(why) | Verdict::NotExecuted(why) => format!("; {why}"),
        };
        page.line(verdict.word(), format_args!("{id}: expected {expected}, observed {observed}{why}"));
    }
}

fn render_rehearsal(page: &mut Page, rehearsal: &KeyRehearsal) {
    page.line("identity", format_args!("{} ({})", rehearsal.name, or_none(rehearsal.recipient.as_ref())));
    match &rehearsal.point {
        Some(reference) => point(page, reference),
        None => page.line("point", "none"),
    }
    for opened in &rehearsal.opened {
        page.line("opened", opened);
    }
    for failure in &rehearsal.failures {
        page.line("NOT OPENED", failure);
    }
}

fn render_rotation(page: &mut Page, rotation: &KeyRotation) {
    page.line("role", &rotation.role);
    for key in &rotation.before {
        page.line("before", key);
    }
    for key in &rotation.after {
        page.line("since", key);
    }
    if let Some(reason) = &rotation.reason {
        page.line("reason", reason);
    }
}

fn render_copy(page: &mut Page, copy: &Copy) {
    page.line("copied", format_args!("from {} to {} ({})", copy.from, copy.to, copy.to_storage));
    let how = if copy.reencrypted { ", sealed anew" } else { "" };
    page.line(
        "objects",
        format_args!("{} new ({}), {} there before{how}", copy.objects, ByteSize(copy.bytes), copy.present),
    );
    page.line("points", copy.points);
    if let Some(newest) = &copy.newest {
        page.line("newest", newest.id);
    }
    refused(page, &copy.refused);
}

fn render_scrub(page: &mut Page, scrub: &Scrub) {
    let Scrub { due, objects, days, share, .. } = scrub;
    page.line("read", format_args!("{objects} of {due} objects that were due, {}", ByteSize(scrub.bytes)));
    page.line("calendar", format_args!("{share}: everything within {days} days"));
    for problem in &scrub.problems {
        page.line("PROBLEM", format_args!("{}: {}", problem.key, problem.why));
    }
}

fn render_proof(page: &mut Page, proof: &Proof) {
    if let Some(locks) = &proof.locks {
        page.line(
            "locks",
            format_args!("{} points, {} objects, {} too short", locks.points, locks.objects, locks.short),
        );
        if let Some(earliest) = locks.earliest {
            page.line("first ends", earliest);
        }
        for problem in &locks.problems {
            page.line("NOT LOCKED", format_args!("{}: {}", problem.key, problem.why));
        }
    }
    if let Some(signs) = &proof.signs {
        page.line(
            "signs",
            format_args!(
                "{} newer versions, {} delete markers, {} foreign objects, {} shortened locks",
                signs.newer_versions, signs.delete_markers, signs.foreign, signs.shortened
            ),
        );
        for sign in &signs.samples {
            let version = or_none(sign.version.as_ref());
            page.line("SIGN", format_args!("{} version {version}: {}, {}", sign.key, sign.what, sign.at));
        }
    }
}

fn render_sign_off(page: &mut Page, sign_off: &SignOff) {
    let SignOff { run, statement, statement_sha256, who, role, decision, .. } = sign_off;
    page.line("of", format_args!("run {run}, {statement} (sha256 {statement_sha256})"));
    page.line("decision", format_args!("{} by {who} as {role}", decision.word()));
    page.line("comment", &sign_off.comment);
    if let Some(exception) = &sign_off.exception {
        page.line("exception", exception);
    }
    if let Some(action) = &sign_off.corrective_action {
        let due = sign_off.due.map(|due| format!(", until {due}")).unwrap_or_default();
        page.line("will be done", format_args!("{action}{due}"));
    }
}

fn render_run(page: &mut Page, run: &RunbookRun) {
    page.line("runbook", format_args!("{} (SHA-256 {})", run.runbook, run.runbook_sha256));
    if let Some(texts) = run.texts_sha256 {
        page.line("texts", format_args!("SHA-256 {texts}, with those of the runbooks that it runs"));
    }
    page.line("of run", format_args!("{}, {}, begun {}", run.run, run.mode, run.begun));
    if let Some(incident) = run.incident {
        page.line("incident", incident);
    }
    for (name, value) in &run.parameters {
        page.line("parameter", format_args!("{name} = {value}"));
    }
    let ending = run.ending.as_ref().map(|ending| format!(": {ending}")).unwrap_or_default();
    page.line("it", format_args!("{}{ending}", run.stage.word()));
    for step in &run.failed {
        page.line("FAILED", step);
    }
    for step in &run.not_practised {
        page.line("NOT PRACTISED", step);
    }
    page.line("journal", format_args!("{} lines, the last with SHA-256 {}", run.lines, run.head));
}

fn render_incident(page: &mut Page, incident: &Incident) {
    page.line("incident", format_args!("{}, since {}", incident.incident, incident.since));
    page.line("what", &incident.text);
    page.line("it", if incident.closed { "is closed" } else { "is open" });
    page.line("journal", format_args!("{} lines, the last with SHA-256 {}", incident.lines, incident.head));
}

fn point(page: &mut Page, reference: &PointReference) {
    page.line("point", format_args!("{} version {}", reference.id, or_none(reference.version.as_ref())));
}

fn refused(page: &mut Page, refused: &[Refused]) {
    for Refused { key, why } in refused {
        page.line("REFUSED", format_args!("{key}: {why}"));
    }
}
