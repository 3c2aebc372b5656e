//! People are told, and Prometheus is shown: against real servers.

#![recursion_limit = "256"] // the futures of a whole server are deep
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod channels;
mod heard;
mod mail;
mod prometheus;
mod site;
mod webhook;

#[path = "../support/mod.rs"]
mod support;
