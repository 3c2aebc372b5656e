//! Whose signature counts, and until when.

use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;

/// What the auditor believes before having seen anything.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Public keys, received by another way than the evidence.
    pub keys: Vec<PublicKey>,
    /// Of them: those not believed for what was received later, as their owner says.
    pub revoked: Vec<(PublicKey, Timestamp)>,
    /// The ledger's origin, where it is known.
    pub origin: Option<String>,
}

/// A revocation that somebody has signed.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    pub key: PublicKey,
    pub at: Timestamp,
    pub signer: PublicKey,
    pub received: Timestamp,
}

/// Until when each revoked key counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Revocations(Vec<(PublicKey, Timestamp)>);

impl Revocations {
    /// The owner's own word, then the signed ones in the order in which they were received. A signed one never reaches
    /// back behind its own reception, or a thief could take away belief in what was there before; and a revoked key's own
    /// words count no more.
    pub fn new(configured: &[(PublicKey, Timestamp)], mut stated: Vec<Stated>) -> Self {
        let mut found = Revocations(configured.to_vec());
        stated.sort_by_key(|one| one.received);
        for one in stated {
            let own_word_counts = found.end_of(&one.signer).is_none_or(|end| one.received <= end);
            if own_word_counts && found.end_of(&one.key).is_none() {
                found.0.push((one.key, one.at.max(one.received)));
            }
        }
        found
    }

    /// From when on the key is not believed.
    pub fn end_of(&self, key: &PublicKey) -> Option<Timestamp> {
        self.0.iter().filter(|(revoked, _)| revoked == key).map(|(_, at)| *at).min()
    }
}
