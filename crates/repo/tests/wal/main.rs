//! The archive of WAL from outside: what a stream stores is found, without a gap or with the gap named, and comes back
//! exactly or not at all.

#![allow(missing_docs, clippy::unwrap_used)] // a test may panic, in its helpers too

mod check;
mod damage;
mod documents;
mod golden;
mod listing;
#[allow(dead_code, reason = "the other binary uses all of it")]
#[path = "../edge/memory.rs"]
mod memory;
mod names;
mod round_trip;
mod world;
