//! Evidence: signed statements of what a backup, a drill or another act did and measured, and their verification.
//!
//! A statement is an in-toto Statement v1 with a predicate of ours, in a DSSE v1 envelope signed with Ed25519. Its bytes
//! are kept as they were signed, so any tool that knows these two public formats can check them; `FORMAT.md` beside this
//! crate has every field. Verification needs the envelope and a public key, nothing else: no repository, no network.
//!
//! **Never here:** network, files, async, a clock, and secrets. Evidence is stored unencrypted and is given to auditors:
//! no file names from inside a backup, no settings, no contents go into it. Callers bring times, ids and keys.
//!
//! Each statement is checked by itself; that one was *removed* only the [`ledger`] shows, and [`verify::SetVerifier`], which
//! does not see it, says so in its summary.
//!
//! Read on: [`statement`] for what is said, [`envelope`] for how it is signed, [`verify()`] for how it is believed.

pub mod act;
pub mod audit;
pub mod backup;
pub mod drill;
pub mod dump;
pub mod envelope;
mod error;
pub mod key;
pub mod ledger;
pub mod render;
pub mod report;
pub mod statement;
pub mod verify;

pub use act::{Act, ActPredicate};
pub use backup::BackupPredicate;
pub use drill::DrillPredicate;
pub use dump::DumpPredicate;
pub use envelope::seal;
pub use error::Error;
pub use key::EvidenceKey;
pub use statement::{Predicate, Statement};
pub use verify::{SetVerifier, Verified, verify};
