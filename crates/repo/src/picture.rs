//! Pictures beside evidence: `<tenant>/evidence/<stem of a statement>.png.age`, an age file sealed to the recovery recipients.
//!
//! A picture of a restored Odoo may show anything that the backup holds, so it is sealed like the backup; the statement that
//! it belongs to is in clear and has its digest, which is what it is held against. It is put once and locked as evidence.

use bytes::Bytes;
use lifeboat_model::id::{Sha256Digest, Tenant};
use lifeboat_store::Key;

use crate::{
    error::{Error, Result},
    repository::Repository,
    seal::{self, Identity, Recipients},
};

/// How the names of pictures end. Listings of evidence pass over them.
pub const PICTURE: &str = ".png.age";
/// A longer picture is none.
const LONGEST: u64 = 40 << 20;

impl Repository {
    /// Seals a picture and puts it as `<name>.png.age` beside the tenant's evidence.
    pub async fn put_picture(&self, tenant: &Tenant, name: &str, png: &[u8], recipients: &Recipients) -> Result<Key> {
        let sealed = seal::seal(recipients, png)?;
        self.put_evidence(tenant, &format!("{name}{PICTURE}"), Bytes::from(sealed.bytes)).await
    }

    /// Reads and opens the picture of that name, which must have the digest that its statement gives.
    pub async fn get_picture(
        &self,
        tenant: &Tenant,
        name: &str,
        sha256: &Sha256Digest,
        identities: &[Identity],
    ) -> Result<Vec<u8>> {
        let ledger = self.ledger(tenant);
        let name = format!("{name}{PICTURE}");
        let key = ledger.key(&name)?;
        let gone = || Error::Store(lifeboat_store::Error::NotFound { key: key.to_string() });
        let found = ledger.find(&name).await?.ok_or_else(gone)?;
        let sealed = ledger.get(&found, LONGEST).await?;
        let png = seal::open_all(identities, &sealed).map_err(|error| error.of(&key, "a recovery identity"))?;
        match seal::digest(&png) == *sha256 {
            true => Ok(png),
            false => Err(Error::damaged(&key, "it is another picture than its statement says")),
        }
    }
}
