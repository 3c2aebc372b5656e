//! One file for each section of the configuration, in the order of the starter file.

mod checks;
mod cloud;
mod dependencies;
mod drill;
mod drills;
mod dump;
mod engine;
mod evidence;
mod instance;
mod keys;
mod limits;
mod locks;
mod postgres;
mod repository;
mod sources;
mod tiers;
mod whole;

pub(super) use whole::read;
