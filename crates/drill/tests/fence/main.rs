//! What a sandbox may reach: tried from inside real containers, beside what a drill says of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics fails, which is what it is for")]
#![allow(clippy::print_stdout, reason = "cargo shows what a test that failed has printed")]

#[allow(dead_code, reason = "the other test binary uses the rest")]
#[path = "../testbed/origin.rs"]
mod origin;

mod engine;
mod reach;
mod secrets;
