//! The witness against real servers under load, with real restores to its position: on with `LIFEBOAT_TESTBED=1`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod busy;
mod cluster;
mod shapes;
