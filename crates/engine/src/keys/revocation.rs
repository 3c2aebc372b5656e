//! Which signing keys are not believed any more.
//!
//! Two places say it. The configuration does (`[[keys.revoked]]`), as far back as its owner likes. And the repository
//! does, by a signed statement, for all who read it: but whoever stole a trusted key can sign such a statement as well.
//! So a statement never reaches back behind the moment in which the store received it: no thief can take away belief in
//! what was there before. And once a key is revoked, its own statements count no more.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lifeboat_evidence::{Act, EvidenceKey, Predicate};
use lifeboat_model::{config::KeysConfig, id::Tenant, signature::PublicKey};
use lifeboat_repo::{repository::Repository, trust::Revocation};

use crate::error::Result;

/// Statements read at the same time.
const READS: usize = 4;
/// A statement of a revocation is far shorter.
const MAX_LEN: u64 = 64 << 10;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Revocations {
    /// Those that count.
    pub keys: Vec<Revocation>,
    /// In a copy, those of the configuration: points that it received later are taken only by their id.
    pub doubted: Vec<Revocation>,
    /// Statements that do not count, and why: for people.
    pub passed_over: Vec<String>,
}

/// Finds all revocations, of the configuration and of the repository.
pub async fn load(repository: &Repository, tenant: &Tenant, keys: &KeysConfig) -> Result<Revocations> {
    let mut listed = repository.list_evidence(tenant, "").await?;
    listed.retain(|found| found.key.as_str().parse::<EvidenceKey>().is_ok_and(|key| key.kind == "revocation"));
    // In the order in which the store received them: a revoked key's own words count no more.
    listed.sort_by(|a, b| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
    // In a copy the time of receipt is that of copying, behind which a moment of the configuration would reach too far:
    // it makes points doubtful there, and statements count, which are copied after the points that they do not touch.
    let configured = keys.revoked.iter().map(|revoked| Revocation { key: revoked.key, at: revoked.at }).collect();
    let mut found = match repository.is_replica() {
        true => Revocations { doubted: configured, ..Revocations::default() },
        false => Revocations { keys: configured, ..Revocations::default() },
    };
    let reading = listed.into_iter().map(|reference| async move {
        if reference.len > MAX_LEN {
            return Ok((reference, None));
        }
        let bytes = repository.get_evidence(&reference).await?;
        Ok::<_, crate::Error>((reference, Some(bytes)))
    });
    let mut reading = futures::stream::iter(reading).buffered(READS);
    while let Some((reference, bytes)) = reading.try_next().await? {
        let stated = match bytes {
            Some(bytes) => stated(repository, tenant, keys, &bytes),
            None => Err("it is too long to be one".to_owned()),
        };
        if let Err(why) = stated.and_then(|stated| found.take(stated, reference.modified)) {
            found.passed_over.push(format!("{} does not count as a revocation: {why}", reference.key));
        }
    }
    Ok(found)
}

/// A signed statement's words.
struct Stated {
    key: PublicKey,
    at: Timestamp,
    signer: PublicKey,
}

fn stated(
    repository: &Repository,
    tenant: &Tenant,
    keys: &KeysConfig,
    bytes: &[u8],
) -> std::result::Result<Stated, String> {
    let verified = lifeboat_evidence::verify(bytes, &keys.trusted_keys).map_err(|error| error.to_string())?;
    let Predicate::Act(act) = &verified.statement.predicate else {
        return Err("it tells of something else".to_owned());
    };
    let Act::KeyRevocation(revocation) = &act.act else { return Err("it tells of something else".to_owned()) };
    if (&act.tenant, act.repository) != (tenant, repository.id()) {
        return Err("it belongs to another repository".to_owned());
    }
    Ok(Stated { key: revocation.key, at: revocation.at, signer: verified.key })
}

impl Revocations {
    fn take(&mut self, stated: Stated, received: Timestamp) -> std::result::Result<(), String> {
        if let Some(before) = self.keys.iter().find(|before| before.key == stated.signer && received > before.at) {
            return Err(format!("the key that signed it was itself revoked as of {:.0}", before.at));
        }
        if !self.keys.iter().any(|before| before.key == stated.key) {
            self.keys.push(Revocation { key: stated.key, at: stated.at.max(received) });
        }
        Ok(())
    }
}
