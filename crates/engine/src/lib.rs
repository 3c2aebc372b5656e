//! The verbs: back up, restore, verify, retain, prune, record.
//!
//! **In:** a checked configuration, an open repository, a time source. **Out:** recovery points, restored folders,
//! evidence. **Never here:** scheduling, printing, Docker, reading the environment.
//!
//! A byte going up: [`database`] or [`file_source`] → `lifeboat_repo::writer` → store.
//! A byte coming down: store → `lifeboat_repo::reader` → [`restore`] → [`files::place`].
//! Read on: [`backup`], then [`restore`]; what captures and what puts back files sit side by side in [`files`].

pub mod backup;
pub mod context;
pub mod copy;
pub mod database;
pub mod details;
pub mod dump;
pub mod endpoint;
mod error;
pub mod file_source;
pub mod files;
pub mod hold;
pub mod journal;
pub mod keys;
pub mod leader;
pub mod ledger;
pub mod lifetime;
pub mod named;
pub mod pgdata;
pub mod picture;
pub mod policy;
pub mod practice;
pub mod prune;
pub mod record;
pub mod recovery;
pub mod rehearsal;
pub mod report;
pub mod restore;
pub mod retain;
pub mod scrub;
pub mod sign_off;
pub mod skew;
pub mod status;
pub mod stream;
pub mod tally;
pub mod timestamp;
pub mod witness;

pub use error::{Error, Result, with_causes};
