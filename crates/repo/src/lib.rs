//! The stored format: chunk → compress → seal → pack → index → point; the archive of WAL; documents; leases.
//!
//! **In:** entries, WAL and bytes, recipients, a signing key, a store. **Out:** objects in the store, and the same entries
//! and bytes back. **Never here:** PostgreSQL, Odoo or Docker. Nothing above this crate deletes an object, and in this
//! crate only [`prune`] and the leases do.
//!
//! `FORMAT.md` beside this crate has every byte; a byte going up meets the modules in the order in which they stand
//! below. Read on: [`writer`] for how a backup runs in bounded memory, [`reader`] for how it comes back, [`wal`] for what
//! a stream stores in between, [`check`] for what can be known without any decryption key, [`reach`] for what is needed,
//! [`retain`] and [`prune`] for how long what is needed stays and how the rest goes.

mod blocking;
pub mod check;
mod chunk;
pub mod copy;
pub mod document;
mod envelope;
pub mod error;
mod frame;
mod index;
mod layout;
pub mod lease;
pub mod ledger;
pub mod locks;
mod pack;
pub mod picture;
pub mod point;
pub mod progress;
pub mod prune;
mod random;
pub mod reach;
pub mod reader;
pub mod rehearsal;
pub mod repository;
pub mod retain;
pub mod seal;
pub mod tree;
pub mod trust;
pub mod wal;
mod wire;
pub mod writer;

pub use error::{Error, Result};
