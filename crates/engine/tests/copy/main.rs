//! Copies by policy: what is kept is copied and locked as the copy demands, what was pruned stays away, evidence goes along.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends where something is not as it must be")]

mod policy;
#[path = "../policy/world.rs"]
#[allow(dead_code, reason = "not every test binary uses all of it")]
mod world;
