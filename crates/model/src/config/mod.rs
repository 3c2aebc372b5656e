//! `lifeboat.toml`: what a person writes, checked once into what the program carries.
//!
//! [`parse`] is pure. It reports *all* [`Problem`]s at once, each with file, line, dotted key, what is wrong and what to
//! do. Secrets never stand in the file: they are named by file or environment variable ([`SecretSource`]), and a value
//! that might be one is never repeated in a message. Checks that need the disk (missing files, modes) are the caller's;
//! [`Config::files`] lists what to look at, with line numbers, so that those messages look the same.

mod checked;
pub mod checks;
mod choose;
mod files;
mod nearest;
pub(crate) use nearest::nearest;
mod problem;
pub mod reading;
mod recipient;
mod sections;
mod source;
mod starter;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use checked::{
    AzureConfig, AzureSecret, Config, ConfigCommand, ConfigSources, CopyConfig, CopyLock, Dependency, DependencyKind,
    DrillConfig, DrillsConfig, DumpConfig, DumpProgram, EngineConfig, EvidenceConfig, FilestoreConfig, GcsConfig,
    InstanceConfig, KeysConfig, LimitsConfig, PostgresConfig, RepositoryConfig, RevokedKey, S3Config, SecretSource,
    StandbyConfig, Tier, TierDrill, TimestampsConfig, TlsMode, UnknownInstance, WalConfig, WitnessConfig,
};
pub use choose::UnknownRepository;
pub use files::{FileCheck, FileKind};
pub use problem::{Problem, Warning};
pub use starter::{StarterValues, starter};
pub use value::is_private_key;

/// Checks the text of a configuration file. Relative paths are resolved against the folder of `file`.
///
/// Problems come in the order of the file. While the text is not TOML, only that is reported.
pub fn parse(text: &str, file: &Path) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let found = reading::document(text, file, sections::read)?;
    Ok((Config { files: found.files, ..found.value }, found.warnings))
}
