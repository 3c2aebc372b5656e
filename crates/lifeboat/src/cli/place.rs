//! `--repository`: which of the configured repositories a verb reads. A copy serves wherever its primary does.

use clap::Args;

use super::Session;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    wire::{self, Loaded},
};

/// The repository.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// Read from this repository, by its name in the configuration [default: the primary]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

impl Place {
    /// Whether none was named.
    pub fn is_primary(&self) -> bool {
        self.repository.is_none()
    }

    /// What commands that go on from here must say as well.
    pub fn words(&self) -> String {
        self.repository.as_ref().map(|name| format!(" --repository {name}")).unwrap_or_default()
    }

    /// The configuration, with that repository in the place of the primary.
    pub fn load(&self, session: &Session) -> Result<Loaded> {
        let loaded = wire::load_config(session)?;
        match &self.repository {
            Some(name) => at(loaded, name),
            None => Ok(loaded),
        }
    }
}

/// The configuration seen from the repository of this name.
pub fn at(loaded: Loaded, name: &str) -> Result<Loaded> {
    let config = loaded.config.at(name).map_err(|unknown| {
        Failure::new(Exit::NotFound, unknown.to_string())
            .hint("repositories are named by [[repository]] sections")
            .next("lifeboat config show")
    })?;
    Ok(Loaded { config, ..loaded })
}
