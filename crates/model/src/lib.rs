//! The words of Lifeboat and their sums: pure values, shared by every crate.
//!
//! **Never here:** I/O, async, clock reads, randomness. Callers bring bytes, times and random numbers.
//!
//! # Glossary (one word per idea, in code, configuration, CLI and documents)
//! - *instance*: one Odoo system: a PostgreSQL cluster and its databases, a filestore, configuration, images.
//! - *tenant*: the owner an instance belongs to; keys and prefixes never cross tenants.
//! - *tier*: a recovery class: RPO and RTO targets; instances point at one.
//! - *repository*: the object-storage prefix that holds everything; only ever added to.
//! - *recovery point*: one signed manifest that binds base backup, WAL position, filestore tree and config tree.
//! - *pack, chunk, index*: an encrypted object of many chunks; a run of bytes stored once; where each chunk lies.
//! - *sandbox*: throw-away containers on a network with no way out.
//! - *drill*: restore a recovery point into a sandbox and check it, rung by rung.
//! - *evidence*: a signed statement of what a backup or drill did and measured.
//!
//! Read on: [`config`] for what a person writes, [`check`] for what a drill answers.

pub mod check;
pub mod config;
pub mod id;
pub mod lsn;
pub mod price;
pub mod retention;
pub mod secret;
pub mod signature;
pub mod size;
pub mod time;
