//! What an object in the folder of points is: a point, a forgery, or something that nobody can tell.
//!
//! The difference decides what may be removed. Of an object whose own digest fits, the header is just what somebody
//! wrote: signed by nobody we trust, it still tells which objects it names, so these are left alone until a person has
//! said that it is no point of ours (a key that was forgotten in the configuration must not cost a point). An object
//! whose digest does *not* fit may be a genuine point that was damaged, and could name anything: nothing is removed
//! before a person has looked.

use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;

use crate::{
    envelope,
    error::{Error, Result},
    point::{PointHeader, PointRef},
    repository::InstanceRepo,
};

/// What an object in the folder of points is.
#[derive(Debug)]
pub(crate) enum Standing {
    /// A point of this instance, signed by a trusted key, in its place.
    Good(Box<PointHeader>),
    /// It was listed and is gone.
    Gone,
    /// No point that counts: forged, copied, renamed, or signed by a key that is not trusted any more.
    Foreign {
        why: String,
        /// What it says; an object of its time, so that what it names may be left alone.
        header: Box<PointHeader>,
    },
}

/// Reads a point's object. An unreachable store, and an object that does not tell what it needs, are errors.
pub(crate) async fn standing(repo: &InstanceRepo, reference: &PointRef, trusted: &[PublicKey]) -> Result<Standing> {
    let unreliable = |reason: String| Error::Unreliable { object: reference.key.to_string(), reason };
    match repo.read_point(reference, trusted).await {
        Ok(point) => Ok(Standing::Good(Box::new(point.header))),
        Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => Ok(Standing::Gone),
        Err(Error::Untrusted { reason, .. }) => match claimed(repo, reference).await {
            Ok(header) => Ok(Standing::Foreign { why: reason, header: Box::new(header) }),
            Err(Error::Store(error)) => Err(error.into()),
            Err(_) => Err(unreliable(reason)),
        },
        Err(Error::Damaged { reason, .. }) => Err(unreliable(reason)),
        Err(Error::Unknown { what, .. }) => {
            Err(unreliable(format!("it uses {what}, which this release does not know")))
        }
        Err(error) => Err(error),
    }
}

/// The header of an object whose own digest fits, whoever signed it.
async fn claimed(repo: &InstanceRepo, reference: &PointRef) -> Result<PointHeader> {
    let bytes = repo.store().get(&reference.key, reference.version.as_ref(), None).await?;
    envelope::unverified(&reference.key, &bytes)
}

/// The end of time that is given to what must stay without anybody having promised until when.
pub(crate) const NO_PROMISE: Timestamp = Timestamp::MIN;
