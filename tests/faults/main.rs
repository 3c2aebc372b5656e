//! Whatever goes wrong around a backup: one clear message that says what to do, an exit code, nothing that looks like a
//! recovery point, and once the fault is mended the next run works. Drives the built binary against throw-away clusters.
//! Needs real servers (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod gate;
mod midway;
mod repository;
mod server;
mod site;
mod stopped;
mod tablespaces;
