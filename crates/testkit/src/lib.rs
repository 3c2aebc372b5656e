//! What tests across the crates share: throw-away services, faults, a clock that stands still.
//!
//! A dev-dependency only. Plain `cargo test` touches nothing but temporary folders and loopback ports;
//! [`testbed::enabled`] (`LIFEBOAT_TESTBED=1`) turns on what needs the real servers of `testbed/`, and from then on a
//! missing server is a failure, never a skip. Everything here panics when it cannot do its job: a test ends there.

pub mod account;
pub mod browser;
pub mod bucket;
pub mod cable;
pub mod clock;
pub mod disk;
pub mod folder;
pub mod port;
pub mod postgres;
pub mod proxy;
pub mod testbed;
