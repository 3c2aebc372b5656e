//! The ledger: a Merkle log (RFC 6962) of statements, so that one that is removed, changed or slipped in later is seen.
//!
//! Statements verify by themselves; the log says which there were, and in which order. Its leaves are [`Entry`]s, its head
//! is a signed [`Checkpoint`] (C2SP `tlog-checkpoint`), and the hashes between lie in tiles (C2SP `tlog-tiles`), so that
//! tools that know these public formats can check it. `FORMAT.md` beside this crate has every byte.
//!
//! Everything here is a function of bytes: who stores them, and in which order, is in `engine::ledger`.
//!
//! Read on: [`tree`] for hashes in bounded memory, [`proof`] for what convinces somebody who has a checkpoint alone.

pub mod checkpoint;
pub mod entry;
mod hash;
pub mod note;
pub mod place;
pub mod proof;
pub mod tile;
pub mod tree;

pub use checkpoint::Checkpoint;
pub use entry::{Entry, Previous};
pub use hash::{Hash, leaf_hash, node_hash};
pub use note::NoteError;
pub use proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use tree::Tree;

use lifeboat_model::id::{RepositoryId, Tenant};

/// The name of a tenant's log in a repository, which stands in its checkpoints and entries.
pub fn origin(repository: RepositoryId, tenant: &Tenant) -> String {
    format!("lifeboat.dev/ledger/{repository}/{tenant}")
}
