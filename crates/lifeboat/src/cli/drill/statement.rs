//! From a drill's report to the statement that is signed. Nothing is judged here: what the drill saw is written down.

use lifeboat_drill::report::DrillReport;
use lifeboat_engine::{
    context::{Context, SOFTWARE},
    record,
};
use lifeboat_evidence::{
    Statement,
    backup::NotCovered,
    drill::{DrillPredicate, NotExecuted},
};
use lifeboat_model::check::Verdict;

use crate::failure::Result;

/// The statement about this drill.
pub fn statement(context: &Context, report: &DrillReport) -> Result<Statement> {
    let (_, instance) = context.instance(report.instance.as_str())?;
    let selected = report.selected.as_ref();
    let not_executed = report.checks.iter().filter_map(|check| match &check.verdict {
        Verdict::NotExecuted(why) => Some(NotExecuted { id: check.id.clone(), why: why.clone() }),
        _ => None,
    });
    let not_covered = report.not_covered.iter().map(|(what, count)| NotCovered {
        what: what.clone(),
        count: Some(*count),
        why: "neither the database nor the filestore holds them".to_owned(),
    });
    Ok(Statement::drill(DrillPredicate {
        run: report.run,
        started_by: record::started_by(&context.initiator),
        software: SOFTWARE.to_owned(),
        config_sha256: record::config_digest(context)?,
        tenant: report.tenant.clone(),
        instance: report.instance.clone(),
        tier: instance.tier.clone(),
        repository: selected.and_then(|selected| selected.repository),
        storage: record::storage(&context.config.repository, &context.repository.store().describe()),
        started: report.started,
        finished: report.finished,
        point: selected.and_then(|selected| selected.point.clone()),
        versions_read_back: selected.map(|selected| selected.versions.clone()).unwrap_or_default(),
        outcome: report.outcome,
        required: report.required.clone(),
        checks: report.checks.clone(),
        not_executed: not_executed.collect(),
        comparison: report.comparison.clone(),
        rpo_seconds: report.rpo.map(|rpo| rpo.as_secs_f64()),
        newest_commit: report.newest_commit,
        rpo_reference: selected.map(|selected| selected.finished),
        rto_seconds: report.rto.map(|rto| rto.as_secs_f64()),
        targets: report.targets.clone(),
        phases: report.phases.clone(),
        images: report.evidence_images(),
        software_versions: report.versions.clone(),
        isolation: report.isolation_facts(),
        teardown: report.evidence_teardown(),
        not_covered: not_covered.collect(),
        sabotage: report.sabotage.clone(),
        notes: report.notes.clone(),
        exceptions: Vec::new(),
        corrective_action: None,
        sign_offs: Vec::new(),
    }))
}
