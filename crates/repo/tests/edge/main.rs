//! The stored format from outside: what goes in comes out, or is refused in the right words.

#![allow(missing_docs, clippy::unwrap_used)] // a test may panic, in its helpers too

mod crash;
mod damage;
mod dedup;
mod dumps;
mod lease;
mod memory;
mod round_trip;
mod trust;
mod world;
