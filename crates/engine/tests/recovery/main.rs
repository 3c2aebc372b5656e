//! Recovery to any moment, from what a real stream of a real server has stored, with a real server that replays it: on with
//! `LIFEBOAT_TESTBED=1`.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod damage;
mod moments;
mod world;
