//! Key rehearsals: whether a named recovery identity alone opens the newest recovery point, kept as signed evidence.
//!
//! A recovery identity in a safe is only a hope until somebody took it out and tried. The trial reads a part of each kind
//! of object and restores nothing; the identity is in memory for its length and is written nowhere. A trial that fails
//! is evidence as well.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lifeboat_evidence::{
    Act, ActPredicate, EvidenceKey, Predicate,
    act::{KeyRehearsal, TENANT_WIDE},
};
use lifeboat_model::{
    check::Outcome,
    config::KeysConfig,
    id::{Instance, PointId, Tenant},
};
use lifeboat_repo::{
    point::{Point, PointSelector},
    rehearsal::{self, Tried},
    repository::{EvidenceRef, Repository},
    seal::Identity,
};
use lifeboat_store::Key;

use crate::{
    context::Context,
    error::Result,
    keys::KeyError,
    record::{self, point_reference},
};

/// An identity whose last good rehearsal is older than this counts as not rehearsed.
pub const MAX_AGE_DAYS: i64 = 92;
/// Statements read at the same time.
const READS: usize = 4;
/// The newest rehearsals that are read: years of them for a few identities.
const LOOK_BACK: usize = 500;
/// A statement of a rehearsal is far shorter.
const MAX_LEN: u64 = 1 << 20;

/// What a rehearsal showed.
#[derive(Debug)]
pub struct Rehearsal {
    /// The point that was tried; none where there is none.
    pub point: Option<Point>,
    /// The identity's public half, as far as it is known.
    pub recipient: Option<String>,
    /// Every object that was tried.
    pub tried: Vec<Tried>,
    /// What speaks against it, in words.
    pub failures: Vec<String>,
    /// Where the evidence is kept.
    pub evidence: Key,
}

impl Rehearsal {
    /// Whether the identity opens the newest point.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Tries an identity on the newest point and keeps the answer. `given` is what its file gave: one that is damaged or
/// behind a forgotten passphrase is a failed rehearsal.
pub async fn rehearse(
    context: &Context,
    instance: &Instance,
    name: &str,
    given: &std::result::Result<Vec<Identity>, KeyError>,
) -> Result<Rehearsal> {
    let started = (context.clock)();
    let (repo, trusted) = (context.instance_repo(instance), &context.config.keys.trusted_keys);
    let (mut tried, mut failures) = (Vec::new(), Vec::new());
    let point = match repo.find_point(&PointSelector::Latest, trusted).await {
        Ok(point) => Some(point),
        Err(error @ lifeboat_repo::Error::NoPoint { .. }) => {
            failures.push(error.to_string());
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut recipient = None;
    match given {
        Err(error) => failures.push(crate::with_causes(error)),
        Ok(identities) => {
            let recipients: Vec<String> = identities.iter().map(|one| one.recipient().to_string()).collect();
            recipient = recipients.first().cloned();
            if let Some(point) = &point {
                recipient = recipients.iter().find(|one| point.header.recipients.contains(one)).cloned().or(recipient);
                tried = rehearsal::rehearse(&repo, point, trusted, identities).await?;
                failures.extend(failed(point, &recipients, &tried));
            }
        }
    }
    let told = |one: &&Tried| one.failure.is_none();
    let act = KeyRehearsal {
        name: name.to_owned(),
        recipient: recipient.clone(),
        point: point.as_ref().map(point_reference),
        opened: tried.iter().filter(told).map(|one| format!("{}: {}", one.what, one.object)).collect(),
        failures: failures.clone(),
    };
    let outcome = if failures.is_empty() { Outcome::Passed } else { Outcome::Failed };
    let (evidence, _) = record::keep_act(context, Some(instance), started, outcome, Act::KeyRehearsal(act)).await?;
    Ok(Rehearsal { point, recipient, tried, failures, evidence })
}

fn failed(point: &Point, recipients: &[String], tried: &[Tried]) -> Vec<String> {
    let header = &point.header;
    let mut failures = Vec::new();
    if !recipients.iter().any(|one| header.recipients.contains(one)) {
        failures.push(format!(
            "{} is none of the recipients of recovery point {}",
            recipients.join(", "),
            header.point
        ));
    }
    failures.extend(tried.iter().filter_map(|one| Some(format!("{}: {}", one.what, one.failure.as_ref()?))));
    failures
}

/// One recipient and what is known of whoever holds its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientStatus {
    /// The public half.
    pub recipient: String,
    /// Whether new backups are sealed to it.
    pub configured: bool,
    /// Whether the newest point is sealed to it; none where there is no point.
    pub in_newest_point: Option<bool>,
    /// What the last rehearsal called its identity.
    pub name: Option<String>,
    /// When it last opened the point that was newest then.
    pub last_passed: Option<Timestamp>,
    /// When it last failed, and why, if that was after it last passed.
    pub failed_since: Option<(Timestamp, String)>,
}

impl RecipientStatus {
    /// Whole days since the last good rehearsal.
    pub fn age_days(&self, now: Timestamp) -> Option<i64> {
        Some(now.duration_since(self.last_passed?).as_secs().max(0) / 86_400)
    }

    /// Why it should not be relied upon, most important first.
    pub fn worries(&self, now: Timestamp) -> Vec<String> {
        let mut worries = Vec::new();
        match (self.configured, self.in_newest_point) {
            (true, Some(false)) => worries.push("the newest recovery point is not sealed to it".to_owned()),
            (false, Some(false)) => worries.push("it opens neither the newest recovery point nor new ones".to_owned()),
            (false, _) => worries.push("new backups are not sealed to it".to_owned()),
            _ => {}
        }
        if let Some((_, why)) = &self.failed_since {
            worries.push(format!("its last rehearsal failed: {why}"));
        }
        match self.age_days(now) {
            None => worries.push("never rehearsed: nobody knows whether its identity can be found".to_owned()),
            Some(age) if age > MAX_AGE_DAYS => worries.push(format!("last rehearsed {age} days ago")),
            Some(_) => {}
        }
        worries
    }
}

/// All recipients of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// The newest point.
    pub point: Option<PointId>,
    /// Those of the configuration first, in its order.
    pub recipients: Vec<RecipientStatus>,
    /// Rehearsals of identities that could not even be read, since any that passed under the same name.
    pub unreadable: Vec<(String, Timestamp, String)>,
}

/// Looks up every recipient of the configuration and of the newest point.
pub async fn status(
    repository: &Repository,
    tenant: &Tenant,
    keys: &KeysConfig,
    instance: &Instance,
) -> Result<KeyStatus> {
    let repo = repository.instance(tenant, instance);
    let point = match repo.find_point(&PointSelector::Latest, &keys.trusted_keys).await {
        Ok(point) => Some(point),
        Err(lifeboat_repo::Error::NoPoint { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let listed = repository.list_evidence(tenant, "").await?;
    status_of(repository, keys, instance, point.as_ref(), listed).await
}

/// [`status`], where the newest point and the statements are known already.
pub(crate) async fn status_of(
    repository: &Repository,
    keys: &KeysConfig,
    instance: &Instance,
    point: Option<&Point>,
    listed: Vec<EvidenceRef>,
) -> Result<KeyStatus> {
    let rehearsals = rehearsals(repository, keys, instance, listed).await?;
    let in_point = point.map(|point| &point.header.recipients);
    let mut names: Vec<&String> = keys.recovery_recipients.iter().collect();
    let tried = rehearsals.iter().filter_map(|(_, act)| act.recipient.as_ref());
    for other in in_point.into_iter().flatten().chain(tried) {
        if !names.contains(&other) {
            names.push(other);
        }
    }
    let recipients = names.into_iter().map(|recipient| RecipientStatus {
        configured: keys.recovery_recipients.contains(recipient),
        in_newest_point: in_point.map(|all| all.contains(recipient)),
        ..of(recipient, &rehearsals)
    });
    Ok(KeyStatus {
        recipients: recipients.collect(),
        point: point.map(|point| point.header.point),
        unreadable: unreadable(&rehearsals),
    })
}

type Dated = (Timestamp, KeyRehearsal);

/// `rehearsals` are newest first.
fn of(recipient: &str, rehearsals: &[Dated]) -> RecipientStatus {
    let own = || rehearsals.iter().filter(|(_, act)| act.recipient.as_deref() == Some(recipient));
    let passed = own().find(|(_, act)| act.failures.is_empty()).map(|(at, _)| *at);
    let failed = own().next().filter(|(_, act)| !act.failures.is_empty());
    RecipientStatus {
        recipient: recipient.to_owned(),
        configured: false,
        in_newest_point: None,
        name: own().next().map(|(_, act)| act.name.clone()),
        last_passed: passed,
        failed_since: failed.map(|(at, act)| (*at, act.failures.first().cloned().unwrap_or_default())),
    }
}

fn unreadable(rehearsals: &[Dated]) -> Vec<(String, Timestamp, String)> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for (at, act) in rehearsals {
        if seen.contains(&&act.name) {
            continue;
        }
        seen.push(&act.name);
        if act.recipient.is_none() {
            found.push((act.name.clone(), *at, act.failures.first().cloned().unwrap_or_default()));
        }
    }
    found
}

/// Rehearsals of an instance that trusted keys signed, newest first.
async fn rehearsals(
    repository: &Repository,
    keys: &KeysConfig,
    instance: &Instance,
    mut listed: Vec<EvidenceRef>,
) -> Result<Vec<Dated>> {
    listed.retain(|found| {
        let parsed = found.key.as_str().parse::<EvidenceKey>();
        let own = |key: &EvidenceKey| {
            key.kind == "rehearsal" && (&key.instance == instance || key.instance.as_str() == TENANT_WIDE)
        };
        found.len <= MAX_LEN && parsed.is_ok_and(|key| own(&key))
    });
    listed.sort_by(|a, b| b.key.cmp(&a.key));
    listed.truncate(LOOK_BACK);
    let revoked = repository.revocations();
    let reading = listed.into_iter().map(|reference| async move {
        let bytes = repository.get_evidence(&reference).await?;
        Ok::<_, crate::Error>((reference.modified, bytes))
    });
    let mut reading = futures::stream::iter(reading).buffered(READS);
    let mut found = Vec::new();
    while let Some((received, bytes)) = reading.try_next().await? {
        let Ok(verified) = lifeboat_evidence::verify(&bytes, &keys.trusted_keys) else { continue };
        let is_revoked = revoked.iter().any(|one| one.key == verified.key && received > one.at);
        let Predicate::Act(act) = verified.statement.predicate else { continue };
        let ActPredicate { act: Act::KeyRehearsal(rehearsal), finished, instance: of, repository: at, .. } = *act
        else {
            continue;
        };
        if !is_revoked && of.as_ref() == Some(instance) && at == repository.id() {
            found.push((finished, rehearsal));
        }
    }
    found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearsal(at: i64, name: &str, recipient: Option<&str>, failure: Option<&str>) -> Dated {
        let act = KeyRehearsal {
            name: name.to_owned(),
            recipient: recipient.map(str::to_owned),
            point: None,
            opened: Vec::new(),
            failures: failure.into_iter().map(str::to_owned).collect(),
        };
        (Timestamp::from_second(at * 86_400).unwrap(), act)
    }

    #[test]
    fn the_last_word_on_a_recipient_counts() {
        let now = Timestamp::from_second(200 * 86_400).unwrap();
        let told = [
            rehearsal(190, "office", Some("b"), Some("it is rusty")),
            rehearsal(180, "bank", Some("a"), None),
            rehearsal(170, "bank", Some("a"), Some("no")),
            rehearsal(50, "office", Some("b"), None),
        ];
        let status =
            |recipient| RecipientStatus { configured: true, in_newest_point: Some(true), ..of(recipient, &told) };
        assert_eq!((status("a").age_days(now), status("a").worries(now)), (Some(20), vec![]));
        let worries = status("b").worries(now);
        assert!(worries[0].contains("rusty") && worries[1].contains("150 days"), "{worries:?}");
        let never = status("c");
        assert_eq!((never.name.as_deref(), never.age_days(now)), (None, None));
        assert!(never.worries(now)[0].contains("never rehearsed"));
        let lacking = RecipientStatus { in_newest_point: Some(false), ..status("a") };
        assert!(lacking.worries(now)[0].contains("not sealed to it"));
        let left = RecipientStatus { configured: false, ..status("a") };
        assert!(left.worries(now)[0].contains("new backups are not sealed"));
    }

    #[test]
    fn a_file_that_could_not_be_read_is_told_until_it_could() {
        let broken = [rehearsal(9, "bank", None, Some("no identity")), rehearsal(8, "bank", Some("a"), None)];
        assert_eq!(unreadable(&broken).len(), 1);
        let mended = [rehearsal(10, "bank", Some("a"), None), broken[0].clone()];
        assert_eq!(unreadable(&mended), []);
    }
}
