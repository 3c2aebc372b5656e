//! `lifeboat wal drop-slot`: gives up what the server keeps for an instance.

use clap::Args;
use lifeboat_engine::stream;
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::super::Session;
use crate::{
    exit::Exit,
    failure::Result,
    output::{Answer, Page},
    wire,
};

/// Remove an instance's replication slot, so that the server keeps no WAL for it
///
/// For an instance that is no longer streamed, or when the server's disk is about to fill. WAL that is not stored yet is
/// lost to restores: make a backup when streaming begins again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat wal drop-slot clinic

Exit codes: 0 removed, 6 there was none, 7 a stream is using it.")]
pub struct DropSlot {
    /// The instance
    instance: Instance,
}

#[derive(Serialize)]
struct Dropped {
    instance: String,
    slot: String,
    removed: bool,
}

impl Answer for Dropped {
    const SCHEMA: &'static str = "lifeboat.wal-drop-slot/1";

    fn text(&self, page: &mut Page) {
        match self.removed {
            true => page.line(format_args!("Removed slot {}: the server keeps no WAL for it.", self.slot)),
            false => page.line(format_args!("There is no slot {}.", self.slot)),
        }
    }
}

impl DropSlot {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (name, config) = loaded.config.instance(self.instance.as_str())?;
        let connect = lifeboat_engine::context::connect_options(&config.postgres, &wire::environment)?;
        let slot = config.postgres.wal.slot_name(name);
        let removed = stream::drop_slot(&connect, &slot).await?;
        session.output.show(&Dropped { instance: self.instance.to_string(), slot, removed })?;
        Ok(if removed { Exit::Ok } else { Exit::NotFound })
    }
}
