//! A person has seen a statement and says something of it: that becomes a statement of its own, in the same ledger.

use bytes::Bytes;
use jiff::{Timestamp, civil::Date};
use lifeboat_evidence::{
    Act, EvidenceKey, Predicate, Statement,
    act::{Decision, SignOff},
};
use lifeboat_model::id::{Instance, RunId, Sha256Digest};
use lifeboat_store::Key;
use sha2::{Digest as _, Sha256};

use crate::{context::Context, error::Result, record};

/// What was looked for by the first digits of a run.
#[derive(Debug)]
pub enum Found {
    /// Exactly one statement, and it is to be believed.
    One(Box<Seen>),
    /// No statement is of such a run.
    None,
    /// Several are.
    Many(usize),
    /// One is, and is not to be believed.
    NotBelieved {
        /// Where it is stored.
        key: Key,
        /// Why not.
        why: String,
    },
}

/// A statement as it was seen.
#[derive(Debug)]
pub struct Seen {
    /// The run.
    pub run: RunId,
    /// The instance; none when it is about the whole repository.
    pub instance: Option<Instance>,
    /// Where it is stored.
    pub key: Key,
    /// SHA-256 of its envelope as stored.
    pub sha256: Sha256Digest,
    /// What it says.
    pub statement: Statement,
}

/// What a person says.
#[derive(Debug, Clone)]
pub struct Words {
    /// As what they say it.
    pub role: String,
    /// What they decide.
    pub decision: Decision,
    /// Why.
    pub comment: String,
    /// A deviation that they allow.
    pub exception: Option<String>,
    /// What will be done.
    pub corrective_action: Option<String>,
    /// By when.
    pub due: Option<Date>,
}

/// Looks for the statement of a run. Whoever signs for another's words must have seen words that are theirs: the same
/// rules decide as for everything that rests on evidence ([`record::weigh`]).
pub async fn find(context: &Context, run: &str) -> Result<Found> {
    let mut stored = context.repository.list_evidence(&context.config.tenant, "").await?;
    let is_meant = |key: &Key| {
        let parts = key.as_str().parse::<EvidenceKey>();
        parts.is_ok_and(|parts| !run.is_empty() && parts.run.to_string().starts_with(run))
    };
    stored.retain(|evidence| is_meant(&evidence.key));
    let [reference] = stored.as_slice() else {
        return Ok(if stored.is_empty() { Found::None } else { Found::Many(stored.len()) });
    };
    let key = reference.key.clone();
    let envelope = match context.repository.get_evidence(reference).await {
        Err(lifeboat_repo::Error::Damaged { reason, .. }) => return Ok(Found::NotBelieved { key, why: reason }),
        envelope => envelope?,
    };
    let verified = match record::weigh(context, reference, &envelope) {
        Ok(verified) => verified,
        Err(why) => return Ok(Found::NotBelieved { key, why }),
    };
    let told = verified.statement.run().map(|(run, _, instance)| (run, instance.cloned()));
    let Some((run, instance)) = told else {
        return Ok(Found::NotBelieved { key, why: "its kind is not known to this version".to_owned() });
    };
    let sha256 = Sha256Digest(Sha256::digest(&envelope).into());
    Ok(Found::One(Box::new(Seen { run, instance, key, sha256, statement: verified.statement })))
}

/// What people have said of a run, oldest first; none of it where nobody is to be believed.
pub async fn of(context: &Context, run: RunId) -> Result<Vec<(Timestamp, SignOff)>> {
    let mut found = Vec::new();
    for reference in context.repository.list_evidence(&context.config.tenant, "").await? {
        let parts = reference.key.as_str().parse::<EvidenceKey>();
        if !parts.is_ok_and(|parts| parts.kind == "signoff") {
            continue;
        }
        let Some(verified) = record::believed(context, &reference).await? else { continue };
        if let Predicate::Act(act) = verified.statement.predicate
            && let Act::SignOff(sign_off) = act.act
            && sign_off.run == run
        {
            found.push((act.finished, sign_off));
        }
    }
    Ok(found)
}

/// Keeps what a person says of a statement that they have seen.
pub async fn keep(context: &Context, seen: &Seen, words: Words, started: Timestamp) -> Result<(Key, Bytes)> {
    let outcome = words.decision.outcome();
    let sign_off = SignOff {
        run: seen.run,
        statement: seen.key.to_string(),
        statement_sha256: seen.sha256,
        who: context.initiator.who.clone(),
        role: words.role,
        decision: words.decision,
        comment: words.comment,
        exception: words.exception,
        corrective_action: words.corrective_action,
        due: words.due,
    };
    record::keep_act(context, seen.instance.as_ref(), started, outcome, Act::SignOff(sign_off)).await
}
