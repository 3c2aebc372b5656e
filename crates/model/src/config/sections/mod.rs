//! One file for each section of the configuration, in the order of the starter file.

mod drill;
mod dump;
mod engine;
mod instance;
mod keys;
mod postgres;
mod repository;
mod sources;
mod tiers;
mod whole;

pub(super) use whole::read;
