//! Copies of an instance: whole, without keys, resumable, and no help to a thief.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod ceph;
mod damage;
mod killed;
mod locks;
mod planted;
mod reencrypt;
mod replica;
mod thief;
mod whole;
mod world;
