//! What keeps the tree in order: the arrows between crates, lints and dependencies, orphaned files, documents that still
//! fit the program. Each rule that a reader has to trust is held here by a test, with its reason.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod crates;
mod documents;
mod schedules;
mod sources;
mod tree;
