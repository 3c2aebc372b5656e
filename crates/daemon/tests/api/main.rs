//! The API as it is served: a real daemon on loopback with two tenants and their repositories; runs are carried out by a
//! stand-in.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![recursion_limit = "256"]

mod browser;
mod document;
mod examples;
mod follow;
mod matrix;
mod noted;
mod oidc;
mod runbooks;
mod schemathesis;
mod serving;
mod world;

#[path = "../support/mod.rs"]
mod support;
