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
mod recipient;
mod sections;
mod source;
mod starter;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

use source::{Place, Source, Table};

pub use checked::{
    AzureConfig, AzureSecret, Config, ConfigCommand, ConfigSources, CopyConfig, CopyLock, DrillConfig, DrillsConfig,
    DumpConfig, DumpProgram, EngineConfig, EvidenceConfig, FilestoreConfig, GcsConfig, InstanceConfig, KeysConfig,
    PostgresConfig, RepositoryConfig, RevokedKey, S3Config, SecretSource, StandbyConfig, Tier, TierDrill,
    TimestampsConfig, TlsMode, UnknownInstance, WalConfig, WitnessConfig,
};
pub use choose::UnknownRepository;
pub use files::{FileCheck, FileKind};
pub use problem::{Problem, Warning};
pub use starter::{StarterValues, starter};

/// Checks the text of a configuration file. Relative paths are resolved against the folder of `file`.
///
/// Problems come in the order of the file. While the text is not TOML, only that is reported.
pub fn parse(text: &str, file: &Path) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let source = Source::new(text, file);
    // The first one only: what follows it is mostly its echo.
    for error in errors.iter().take(1) {
        // The error's own rendering would quote the line, which may hold a secret; its message is fixed text.
        let line = error.span().map(|span| source.line(span.start));
        source.problem(line, "", &format!("not valid TOML: {}", error.message()), "correct this line");
    }
    if source.has_problems() {
        return Err(source.into_findings().0);
    }
    let place = Place { source: &source, key: String::new(), line: None };
    let read = sections::read(&Table::new(place, document.get_ref()));
    let (problems, warnings, files) = source.into_findings();
    match read {
        Ok(config) if problems.is_empty() => Ok((Config { files, ..config }, warnings)),
        // `Reported` cannot exist without a problem in the list.
        _ => Err(problems),
    }
}
