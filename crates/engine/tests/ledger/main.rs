//! The ledger: dense, never forked, made good after a crash, and whole in a copy.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod append;
mod ceph;
mod copied;
mod crash;
mod many;
mod thief;
mod together;
mod world;
