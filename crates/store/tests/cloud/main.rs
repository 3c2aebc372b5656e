//! Google's and Microsoft's stores through `object_store`: the contract, faults, refusals.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod azure;
mod azurite;
mod gcs;
mod unreachable;
