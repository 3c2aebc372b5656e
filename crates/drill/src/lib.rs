//! The drill: a recovery point is restored into a sandbox and checked, rung by rung, and everything is torn down again.
//!
//! **In:** a [`source::Source`] (the same restore that an emergency uses), images, targets, a folder. **Out:** a
//! [`report::DrillReport`] with every check of the [`ladder`]. **Never here:** signing or storing evidence (the engine's),
//! printing, scheduling. The only crate that talks to Docker.
//!
//! A wrong result is an answer in the report; an error is only what keeps a drill from being begun. Whatever happens in
//! between, a cancellation included, ends in [`sandbox::teardown`].
//!
//! Read on: [`run()`], then [`climb`] (the ladder, from top to bottom), [`checks`] and [`sandbox`].

mod checks;
mod climb;
pub mod error;
pub mod extract;
pub mod find;
pub mod hold;
pub mod ladder;
mod locks;
mod measure;
mod odoo;
pub mod point;
mod postgres;
mod prediction;
pub mod recovered;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod sandbox;
pub mod screenshot;
pub mod service;
pub mod source;
mod timing;
pub mod volumes;

pub use error::{Error, Result};
pub use run::{DrillRequest, run};
