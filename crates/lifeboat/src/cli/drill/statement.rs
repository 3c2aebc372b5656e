//! From a drill's report to the statement that is signed. Nothing is judged here: what the drill saw is written down, in the
//! words that the report has for evidence. A statement is stored in clear and signed for ever, so the report's own words, which
//! name files and quote logs, never get into it.

use lifeboat_drill::report::DrillReport;
use lifeboat_engine::{
    context::{Context, SOFTWARE},
    picture, policy, record,
};
use lifeboat_evidence::{
    Predicate, Statement,
    backup::{NotCovered, StartedBy},
    drill::{Control, DrillPredicate, Screenshot, not_executed},
};
use lifeboat_model::id::{Sha256Digest, TierName};

use crate::failure::{Failure, Result};

/// What the statement says of where the drill ran, which its report does not know.
struct Surroundings {
    started_by: StartedBy,
    config_sha256: Sha256Digest,
    tier: TierName,
    storage: String,
    policy_sha256: Option<Sha256Digest>,
}

/// The statement about this drill, or about this negative control.
pub fn statement(context: &Context, report: &DrillReport, control: Option<Control>) -> Result<Statement> {
    let (_, instance) = context.instance(report.instance.as_str())?;
    let surroundings = Surroundings {
        started_by: record::started_by(&context.initiator),
        config_sha256: record::config_digest(context)?,
        tier: instance.tier.clone(),
        storage: record::storage_of(context, &report.instance)?,
        policy_sha256: policy::digest(&context.config, instance),
    };
    Ok(Statement::drill(DrillPredicate { control, ..predicate(report, surroundings) }))
}

/// Keeps the drill's picture, sealed, and says so in its statement. A picture that could not be kept is told by its digest alone.
pub async fn with_picture(
    context: &Context,
    mut statement: Statement,
    report: &DrillReport,
) -> (Statement, Option<String>) {
    let Some(shot) = &report.picture else { return (statement, None) };
    let (screenshot, why) = match picture::keep(context, &statement, &shot.png, shot.sha256).await {
        Ok(screenshot) => (screenshot, None),
        Err(error) => {
            let screenshot = Screenshot { sha256: shot.sha256, bytes: shot.png.len() as u64, key: None };
            (screenshot, Some(Failure::from(error).messages().join(": ")))
        }
    };
    if let Predicate::Drill(predicate) = &mut statement.predicate {
        predicate.screenshot = Some(screenshot);
    }
    (statement, why)
}

fn predicate(report: &DrillReport, surroundings: Surroundings) -> DrillPredicate {
    let selected = report.selected.as_ref();
    let not_covered = report.not_covered.iter().map(|(what, count)| NotCovered {
        what: what.clone(),
        count: Some(*count),
        why: "neither the database nor the filestore holds them".to_owned(),
    });
    DrillPredicate {
        run: report.run,
        started_by: surroundings.started_by,
        software: SOFTWARE.to_owned(),
        config_sha256: surroundings.config_sha256,
        tenant: report.tenant.clone(),
        instance: report.instance.clone(),
        tier: surroundings.tier,
        repository: selected.and_then(|selected| selected.repository),
        storage: surroundings.storage,
        started: report.started,
        finished: report.finished,
        point: selected.and_then(|selected| selected.point.clone()),
        versions_read_back: selected.map(|selected| selected.versions.clone()).unwrap_or_default(),
        outcome: report.outcome,
        required: report.required.clone(),
        checks: report.evidence_checks.clone(),
        not_executed: not_executed(&report.evidence_checks),
        comparison: report.comparison.clone(),
        rpo_seconds: report.rpo.map(|rpo| rpo.as_secs_f64()),
        newest_commit: report.newest_commit,
        rpo_reference: selected.and_then(|selected| selected.reference),
        rto_seconds: report.rto.map(|rto| rto.as_secs_f64()),
        targets: report.targets.clone(),
        phases: report.phases.clone(),
        images: report.evidence_images(),
        software_versions: report.versions.clone(),
        isolation: report.isolation_facts(),
        teardown: report.evidence_teardown(),
        not_covered: not_covered.collect(),
        sabotage: report.sabotage.clone(),
        notes: report.public_notes.clone(),
        exceptions: Vec::new(),
        corrective_action: None,
        sign_offs: Vec::new(),
        control: None,
        policy_sha256: surroundings.policy_sha256,
        breakdown: Some(report.breakdown.clone()),
        prediction: report.prediction.clone(),
        screenshot: None,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use lifeboat_drill::{
        ladder::{self, Answer, Answered, Ladder, Silent},
        sandbox::teardown::Teardown,
    };
    use lifeboat_evidence::drill::{Breakdown, Comparison, Targets};
    use lifeboat_model::{id::RunId, time::Span};

    use super::*;

    const HOUR: Span = Span(Duration::from_secs(3600));

    /// A report whose own words name a patient in a failed check, in one that could not be asked and in a note.
    fn leaking() -> DrillReport {
        let mut climb = Ladder::new(Arc::new(Silent));
        let failed = Answer::failed("filestore/patient-17.pdf is missing").in_public("1 file is missing");
        let unasked = Answer::not_executed("log: ERROR patient-17 is no partner").in_public("Odoo did not answer");
        climb.record(ladder::ATTACHMENTS.answered(failed, Duration::ZERO));
        climb.record(ladder::LOGIN.answered(unasked, Duration::ZERO));
        let answered = climb.finish();
        DrillReport {
            run: RunId([7; 8]),
            tenant: "clinics".parse().unwrap(),
            instance: "clinic".parse().unwrap(),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            selected: None,
            evidence_checks: answered.iter().map(Answered::for_evidence).collect(),
            checks: answered.into_iter().map(|answered| answered.check).collect(),
            outcome: lifeboat_model::check::Outcome::Failed,
            required: ladder::required(&[]),
            comparison: Comparison::None { why: "not reached".into() },
            phases: Vec::new(),
            breakdown: Breakdown { total_ms: 0, postgres_ms: 0, odoo_ms: 0, own_ms: 0 },
            prediction: None,
            rpo: None,
            rto: None,
            picture: None,
            newest_commit: None,
            targets: Targets::compare(HOUR, HOUR, None, None),
            images: Vec::new(),
            versions: Default::default(),
            isolation: None,
            teardown: Teardown::default(),
            sabotage: None,
            not_covered: Vec::new(),
            notes: vec!["patient-17.pdf had vanished".into(), "Odoo ended with code 1".into()],
            public_notes: vec!["Odoo ended with code 1".into()],
        }
    }

    #[test]
    fn what_names_the_inside_of_a_backup_is_never_signed() {
        let report = leaking();
        assert!(
            format!("{report:?}").matches("patient-17").count() >= 3,
            "the report has to leak for this to say anything"
        );
        let surroundings = Surroundings {
            started_by: StartedBy { user: "root".into(), host: "h".into(), command: "lifeboat drill clinic".into() },
            config_sha256: Sha256Digest([0; 32]),
            tier: "gold".parse().unwrap(),
            storage: "/backups".into(),
            policy_sha256: Some(Sha256Digest([3; 32])),
        };
        let signed = predicate(&report, surroundings);
        let text = serde_json::to_string(&signed).unwrap();
        assert!(!text.contains("patient"), "{text}");
        assert!(text.contains("1 file is missing") && text.contains("Odoo ended with code 1"), "{text}");
        let why = signed.not_executed.iter().find(|check| check.id == ladder::LOGIN.id).map(|check| check.why.as_str());
        assert_eq!(why, Some("Odoo did not answer"));
        assert_eq!(signed.checks.len(), ladder::LADDER.len());
    }
}
