//! The command line as people and scripts meet it: golden output, exit codes, JSON shapes. No Docker, no network.
//!
//! Snapshots lie in `snapshots/`. A change to one is a change of the interface: look at it, then accept it with
//! `INSTA_UPDATE=always cargo test -p lifeboat --test cli`.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod agreed;
mod ceremony;
mod config;
mod copied;
mod errors;
mod evidence;
mod exported;
mod help;
mod incident;
mod kept;
mod keys;
mod kit;
mod ledger;
mod moments;
mod notified;
mod program;
mod ran;
mod repo;
mod repository;
mod restored;
mod runbooks;
mod scheduled;
mod shipped;
mod stored;
