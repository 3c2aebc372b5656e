//! Folders, captured and put back, through a real repository in a folder: what goes in comes out exactly, what changes
//! under our hands is told, what was built to escape the target stays inside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(missing_docs)]

mod changes;
mod config;
mod damage;
mod delta;
mod hostile;
mod interrupted;
mod odd;
mod round_trip;
mod second_run;
mod snapshot;
mod world;
