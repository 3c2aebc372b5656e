//! A ledger that was edited in any byte, cut, re-ordered, forked or signed by others is caught: from a directory of files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bytes;
mod changed;
mod history;
mod keys;
mod program;
mod second;
mod stale;
mod stamps;
mod world;
