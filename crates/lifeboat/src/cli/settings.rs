//! `--settings`: where the daemon's policies are read.

use std::path::PathBuf;

use clap::Args;
use lifeboat_daemon::Sources;

use super::Session;
use crate::{failure::Result, wire};

/// Where `daemon.toml` is looked for when nobody names it.
const PLACES: [&str; 2] = ["daemon.toml", "/etc/lifeboat/daemon.toml"];

/// The settings.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// The daemon's settings [default: ./daemon.toml, then /etc/lifeboat/daemon.toml; without one: lifeboat.toml alone]
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_SETTINGS", hide_env_values = true, global = true)]
    settings: Option<PathBuf>,
}

impl SettingsArgs {
    /// The settings that were named, else those that are there, else one tenant: the usual `lifeboat.toml`. A configuration
    /// that was named goes before settings that were not.
    pub fn sources(&self, session: &Session) -> Result<Sources> {
        let found = || PLACES.iter().map(PathBuf::from).find(|file| file.exists());
        let settings = match (&self.settings, &session.config_file) {
            (Some(named), _) => Some(named.clone()),
            (None, Some(_)) => None,
            (None, None) => found(),
        };
        match settings {
            Some(settings) => Ok(Sources { settings: Some(settings), config: None }),
            None => Ok(Sources { settings: None, config: Some(wire::config_file(session.config_file.as_deref())?) }),
        }
    }
}
