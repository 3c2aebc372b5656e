//! Policy end to end: what is written is locked, what is known comes from signed things, what is kept stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod facts;
mod holds;
mod lead;
mod locked;
mod pruned;
mod skewed;
mod world;
