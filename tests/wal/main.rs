//! Continuous WAL with everything going wrong around it: what was acknowledged as durable comes back, to any moment, and
//! what the log says of itself is true. Drives the built binary against throw-away clusters.
//! Needs real servers (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../faults/gate.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod gate;
#[path = "../faults/site.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod site;

mod chaos;
mod holes;
mod promotion;
mod quiet;
mod restored;
mod transfers;
mod watched;
