//! What the last `lifeboat repo check` found: a tier that demands locks does not run on an endpoint that failed it.
//!
//! The answer is a signed statement. Only the newest one about this repository counts, so that a mended endpoint is
//! checked again and runs; without any, the tier runs, and `lifeboat doctor` tells that nobody has checked.

use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{RepositoryCheck, TENANT_WIDE},
};
use lifeboat_model::check::Verdict;

use crate::{
    context::Context,
    error::{Error, Result},
    record,
};

/// What a lock rests on. Other properties are worth knowing, and hurt nothing that is locked.
const VITAL: [&str; 2] = ["lock.", "clock."];

/// Refuses an endpoint whose last check found that locks do not hold.
pub async fn check(context: &Context) -> Result<()> {
    let Some(found) = last_check(context).await? else { return Ok(()) };
    let failed = found.findings.iter().filter(|property| {
        let vital = VITAL.iter().any(|prefix| property.id.starts_with(prefix));
        vital && matches!(property.verdict, Verdict::Failed(_))
    });
    let failed: Vec<String> = failed.map(|property| property.id.clone()).collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::EndpointFailed { place: context.repository.store().describe(), failed: failed.join(", ") }),
    }
}

/// The newest check of this repository that a trusted key signed.
async fn last_check(context: &Context) -> Result<Option<RepositoryCheck>> {
    let listed = context.repository.list_evidence(&context.config.tenant, "").await?;
    for reference in listed.iter().rev() {
        let Ok(parts) = reference.key.as_str().parse::<EvidenceKey>() else { continue };
        if parts.kind != "check" || parts.instance.as_str() != TENANT_WIDE {
            continue;
        }
        let Some(verified) = record::believed(context, reference).await? else { continue };
        if let Predicate::Act(act) = verified.statement.predicate
            && let Act::RepositoryCheck(found) = act.act
            && found.name == context.config.repository_name
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
