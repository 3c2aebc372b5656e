//! Single databases out of a cluster with several: dumped from the live server into points of their own, and taken out of a
//! physical point by a sandbox. Real servers; needs the testbed's Docker engine and images (`LIFEBOAT_TESTBED=1`, set by
//! `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod odoo;
mod points;
mod refused;
#[path = "../support/mod.rs"]
mod support;
mod tenants;
mod world;
