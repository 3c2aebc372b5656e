//! Runbooks and their runs.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_engine::practice::{self, Rehearsal, Texts};
use lifeboat_model::id::{Instance, RunId, Tenant};
use lifeboat_runbook::{error::Finding, event::Event, plan::Plan};

use super::{
    RunbookRunLine, RunbookRunView, RunbookRuns, RunbookText, RunbookView, Runbooks, StepPlan, StepView, TextNote,
};
use crate::{
    daemon::{Daemon, Scope},
    policies::Site,
    runbooks::{
        journals::{Found, Journals},
        kept::{self, Known},
        shelf::{Book, Shelf},
        told::{self, Standing},
    },
};

/// Lines that are shown of a run.
const LINES: usize = 200;
/// Steps to come that are named.
const NEXT: usize = 3;

/// Every runbook that may be seen, by tenant and file.
pub async fn runbooks(daemon: &Daemon, scope: &Scope) -> Runbooks {
    let mut all = Runbooks { runbooks: Vec::new(), doubts: Vec::new() };
    for (tenant, site) in daemon.policies().sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        let shelf = Shelf::read(site).await;
        if shelf.books.is_empty() && shelf.doubts.is_empty() {
            continue;
        }
        let known = kept::look(daemon, tenant).await;
        all.runbooks.extend(shelf.books.iter().map(|book| line(tenant, site, &shelf, book, &known)));
        all.doubts.extend(shelf.doubts);
    }
    all
}

/// A runbook's text, and what a run of it would do; none where there is none that may be seen.
pub async fn runbook(daemon: &Daemon, scope: &Scope, tenant: &Tenant, file: &str) -> Option<RunbookText> {
    let policies = daemon.policies();
    let site = policies.sites.get(tenant).filter(|_| scope.has(tenant))?;
    let shelf = Shelf::read(site).await;
    let book = shelf.books.iter().find(|book| book.file == file)?;
    let known = kept::look(daemon, tenant).await;
    let findings = shelf.findings(book, site);
    let plan = book.document().and_then(|document| shelf.plan(document));
    let mut steps = Vec::new();
    if let (Some(document), Some(plan)) = (book.document(), &plan) {
        let mut planned = Vec::new();
        plan.items.iter().for_each(|item| gather(item, &mut planned));
        for section in document.all().into_iter().filter(|section| section.step.is_some()) {
            let Some(step) = planned.iter().find(|(id, _)| *id == section.id).map(|(_, step)| *step) else { continue };
            steps.push(StepPlan {
                id: section.id.clone(),
                at: section.text.start as u64,
                words: step.words.clone(),
                effect: step.effect.word().to_owned(),
                touches: step.touches.clone(),
                expected_seconds: step.lasts.map(|(span, _)| span.0.as_secs_f64()),
                role: step.role.clone(),
                answers: step.answers.iter().map(|(answer, leads)| format!("{answer} → {leads}")).collect(),
            });
        }
    }
    let note = |finding: &Finding| TextNote {
        line: finding.at.line as u64,
        severity: finding.severity.word().to_owned(),
        text: finding.message.clone(),
    };
    Some(RunbookText {
        line: line(tenant, site, &shelf, book, &known),
        text: book.text.clone(),
        findings: findings.iter().map(note).collect(),
        steps,
        needs: plan.as_ref().map(|plan| plan.needs.clone()).unwrap_or_default(),
        touches: plan.map(|plan| plan.touches).unwrap_or_default(),
    })
}

fn gather<'p>(item: &'p lifeboat_runbook::plan::Item, into: &mut Vec<(&'p str, &'p lifeboat_runbook::plan::Planned)>) {
    into.extend(item.step.as_ref().map(|step| (item.id.as_str(), step)));
    item.items.iter().for_each(|item| gather(item, into));
}

/// Whether the very text was practised, and when.
fn rehearsed(shelf: &Shelf, book: &Book, known: &Known) -> (&'static str, Option<Timestamp>) {
    let (Some(past), Some(document), Some(id)) = (known.past(), book.document(), book.id()) else {
        return ("not-known", None);
    };
    let all = shelf.by_id();
    let texts = Texts::gather(id, |wanted| {
        let document = if wanted == id { document } else { *all.get(wanted)? };
        Some((document.digest.clone(), document.calls()))
    });
    match practice::rehearsal(past, &texts, None) {
        Rehearsal::Rehearsed { when, .. } => ("rehearsed", Some(when)),
        Rehearsal::Failed { when, .. } | Rehearsal::Nothing { when, .. } => ("failed", Some(when)),
        Rehearsal::Changed { when } => ("changed", Some(when)),
        Rehearsal::Never => ("never", None),
    }
}

fn line(tenant: &Tenant, site: &Site, shelf: &Shelf, book: &Book, known: &Known) -> RunbookView {
    let document = book.document();
    let head = document.and_then(|document| document.head.as_ref());
    let plan: Option<Plan> = document.and_then(|document| shelf.plan(document));
    let findings = shelf.findings(book, site);
    let (rehearsed, rehearsed_at) = rehearsed(shelf, book, known);
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    RunbookView {
        tenant: tenant.to_string(),
        file: book.file.clone(),
        runbook: book.id().map(str::to_owned),
        title: document.map(|document| document.title.clone()),
        summary: head.map(|head| head.summary.clone()),
        version: head.and_then(|head| head.version.clone()),
        sha256: document.map(|document| document.digest.clone()),
        steps: document.map_or(0, |document| document.steps().count()) as u64,
        expected_seconds: plan.as_ref().map(|plan| plan.lasts.known.0.as_secs_f64()),
        expected_unknown: plan.as_ref().map_or(0, |plan| plan.lasts.unknown) as u64,
        rto_target_seconds: head.and_then(|head| head.rto.as_ref()).map(|rto| rto.value.0.as_secs_f64()),
        errors: errors as u64,
        warnings: (findings.len() - errors) as u64,
        rehearsed: rehearsed.to_owned(),
        rehearsed_at,
    }
}

/// Runs that may be seen, the newest first.
pub async fn runbook_runs(daemon: &Daemon, scope: &Scope) -> RunbookRuns {
    let (policies, now) = (daemon.policies(), daemon.now());
    let mut all = RunbookRuns { runs: Vec::new(), doubts: Vec::new() };
    for (tenant, site) in policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        let journals = Journals::here(&policies, tenant, site, None).await.with(&kept::look(daemon, tenant).await);
        all.doubts.extend(journals.doubts);
        if journals.found.is_empty() {
            continue;
        }
        let shelf = Shelf::read(site).await;
        all.runs.extend(journals.found.iter().map(|found| run_line(tenant, site, &shelf, found, now).0));
    }
    all.runs.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.run.cmp(&b.run)));
    all
}

/// A run, step by step; none where there is none that may be seen.
pub async fn runbook_run(daemon: &Daemon, scope: &Scope, run: RunId) -> Option<RunbookRunView> {
    let (policies, now) = (daemon.policies(), daemon.now());
    for (tenant, site) in policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        let journals = Journals::here(&policies, tenant, site, Some(run)).await.with(&kept::look(daemon, tenant).await);
        if let Some(found) = journals.found.into_iter().find(|found| found.run == run) {
            let shelf = Shelf::read(site).await;
            return Some(run_view(tenant, site, &shelf, &found, now));
        }
    }
    None
}

fn run_view(tenant: &Tenant, site: &Arc<Site>, shelf: &Shelf, found: &Found, now: Timestamp) -> RunbookRunView {
    let (line, steps, standing) = run_line(tenant, site, shelf, found, now);
    let next = next(&steps, &standing);
    let from = found.lines.len().saturating_sub(LINES);
    let notes = found.lines.iter().skip(from).map(|line| super::JournalNote {
        number: line.number,
        at: line.at,
        who: line.who.clone(),
        text: told::words(&line.event),
        is_bad: matches!(
            &line.event,
            Event::Ended { outcome: lifeboat_runbook::event::Outcome::Failed, .. }
                | Event::UndoEnded { outcome: lifeboat_runbook::event::Outcome::Failed, .. }
        ),
    });
    RunbookRunView {
        parameters: found.beginning.parameters.clone(),
        is_text_known: found.beginning.documents.contains_key(&found.beginning.runbook)
            || shelf.by_digest(&found.beginning.sha256).is_some(),
        sha256: found.beginning.sha256.clone(),
        notes: notes.collect(),
        line,
        steps,
        next,
    }
}

/// Titles of steps that are not begun yet, behind the one that it is at. Branches that are not chosen yet are among them.
fn next(steps: &[StepView], standing: &Standing) -> Vec<String> {
    if standing.phase == "over" {
        return Vec::new();
    }
    let is_to_come = |step: &&StepView| step.state == "untouched" && !step.is_group && step.undoes.is_none();
    let last = steps.iter().rposition(|step| !matches!(step.state.as_str(), "untouched"));
    let behind = steps.iter().skip(last.map_or(0, |last| last + 1)).filter(is_to_come);
    let behind = behind.filter(|step| Some(&step.id) != standing.at.as_ref());
    behind.take(NEXT).map(|step| step.title.clone()).collect()
}

fn run_line(
    tenant: &Tenant,
    site: &Site,
    shelf: &Shelf,
    found: &Found,
    now: Timestamp,
) -> (RunbookRunLine, Vec<StepView>, Standing) {
    let Found { run, beginning, lines } = found;
    let own = beginning.documents.get(&beginning.runbook);
    let document = own.or_else(|| shelf.by_digest(&beginning.sha256));
    let named = || shelf.by_id().get(beginning.runbook.as_str()).copied();
    let standing = told::standing(document, &run.to_string(), beginning, lines);
    let steps = told::steps(document, &beginning.documents, lines);
    let is_over = standing.phase == "over";
    let last = lines.last().map_or(beginning.at, |line| line.at);
    let elapsed = if is_over { last } else { now }.duration_since(beginning.at).as_secs_f64().max(0.0);
    let rto = document.and_then(|document| document.head.as_ref()).and_then(|head| head.rto.as_ref());
    let tier = beginning.instance.as_deref().and_then(|name| name.parse::<Instance>().ok()).and_then(|name| {
        let tier = &site.config.instances.get(&name)?.tier;
        Some(site.config.tiers.get(tier)?.rto)
    });
    let title =
        |id: &String| steps.iter().find(|step| step.id == *id).map_or_else(|| id.clone(), |step| step.title.clone());
    let counted = steps.iter().filter(|step| !step.is_group && step.undoes.is_none());
    let line = RunbookRunLine {
        run: run.to_string(),
        tenant: tenant.to_string(),
        runbook: beginning.runbook.clone(),
        title: document.or_else(named).map(|document| document.title.clone()),
        mode: beginning.mode.word().to_owned(),
        instance: beginning.instance.clone(),
        incident: beginning.incident.clone(),
        who: beginning.who.clone(),
        phase: standing.phase.to_owned(),
        ending: standing.ending.map(str::to_owned),
        at: standing.at.as_ref().map(title),
        reason: standing.why.clone(),
        started: beginning.at,
        last,
        elapsed_seconds: elapsed,
        rto_target_seconds: rto.map(|rto| rto.value).or(tier).map(|span| span.0.as_secs_f64()),
        steps: counted.clone().count() as u64,
        steps_over: counted
            .filter(|step| !matches!(step.state.as_str(), "untouched" | "running" | "taking-back"))
            .count() as u64,
    };
    (line, steps, standing)
}
