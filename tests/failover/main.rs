//! The shipped runbooks `failover` and `failback` on real clusters under load, run for real by the built binary.
//! Needs real servers (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../faults/gate.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod gate;
#[path = "../faults/site.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod site;
#[path = "../wal/transfers.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod transfers;

mod pair;
mod sides;
