//! Whose signatures count, and since when some do not any more.
//!
//! A key that was stolen is revoked as of a moment. What it signed before stays valid; what the *store* received later
//! is not, whatever time the thief wrote into it. This is the one place that decides.

use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;

/// A signing key that must not be believed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// The key.
    pub key: PublicKey,
    /// What the store received later than this, by its own clock, does not count.
    pub at: Timestamp,
}

/// What one object's signatures are held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// What the configuration pins.
    pub trusted: &'a [PublicKey],
    pub revoked: &'a [Revocation],
    /// The store's time of writing; none where the object has not been written yet.
    pub received: Option<Timestamp>,
}

impl<'a> Trust<'a> {
    /// Of an object that this process is about to write.
    pub fn own(trusted: &'a [PublicKey]) -> Self {
        Self { trusted, revoked: &[], received: None }
    }

    /// Why a trusted key's signature does not count on this object.
    pub fn revoked(&self, key: &PublicKey) -> Option<String> {
        let received = self.received?;
        let revocation = self.revoked.iter().find(|revocation| revocation.key == *key && received > revocation.at)?;
        let at = revocation.at;
        Some(format!(
            "the key that signed it was revoked as of {at:.0}, and the store received it later, at {received:.0}"
        ))
    }
}
