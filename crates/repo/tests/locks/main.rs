//! What a recovery point names is locked to its end; the first version of a key is the object; who can write to the
//! bucket cannot change what was there.

#![allow(missing_docs, clippy::unwrap_used)] // a test may panic, in its helpers too

mod ceph;
mod crash;
mod extend;
mod forge;
mod lease;
mod revoked;
mod thief;
mod world;
