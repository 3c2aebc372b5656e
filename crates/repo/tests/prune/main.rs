//! Retention and removal: what no policy keeps goes, what a kept point needs stays and is locked, whatever happens.

#![allow(missing_docs, clippy::unwrap_used)] // a test ends where something is not as it must be

mod world;

mod concurrent;
mod points;
mod proof;
mod removal;
mod replica;
mod scrub;
mod simulation;
