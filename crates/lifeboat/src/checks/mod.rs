//! Looks at what a verb rests on before the verb needs it. Shared by `config check`, `key check` and `doctor`, so that
//! all three say the same of the same thing.

pub mod dependencies;
pub mod docker;
pub mod files;
pub mod finding;
pub mod keys;
pub mod postgres;
pub mod repository;
pub mod space;

pub use finding::{Finding, Findings, Grade};
