//! `[engine]`: how the work is done on this host. All of it may be left out.

use std::path::PathBuf;

use crate::{
    config::{
        checked::EngineConfig,
        files::FileKind,
        source::{Result, Table, Value},
    },
    size::ByteSize,
};

/// Where Linux keeps the state of services (FHS 3.0, 5.8).
const DEFAULT_STATE_DIR: &str = "/var/lib/lifeboat";
/// Half the time of level 6 for some percent more bytes.
const DEFAULT_LEVEL: i32 = 3;
/// Large enough that requests cost nothing, small enough that several in flight fit the memory limit of 256 MiB.
const DEFAULT_PACK_SIZE: ByteSize = ByteSize(16 << 20);
/// Fills a 1 Gbit/s line to a service 50 ms away.
const DEFAULT_UPLOADS: usize = 3;

pub(super) fn read(value: Option<Value<'_>>) -> Result<EngineConfig> {
    let table = match value {
        Some(value) => value.table()?,
        None => return Ok(defaults()),
    };
    let state_dir = table.optional("state_dir", |value| value.path(FileKind::Created));
    let compression_level = number(&table, "compression_level", 1, 19);
    let pack_size = table.optional("pack_size", |value| value.size("4 MiB", "64 MiB"));
    let workers = number(&table, "workers", 0, 256);
    let uploads = number(&table, "uploads", 1, 16);
    table.finish();
    let default = defaults();
    Ok(EngineConfig {
        state_dir: state_dir?.unwrap_or(default.state_dir),
        compression_level: compression_level?.unwrap_or(default.compression_level),
        pack_size: pack_size?.unwrap_or(default.pack_size),
        workers: workers?.unwrap_or(default.workers),
        uploads: uploads?.unwrap_or(default.uploads),
    })
}

fn defaults() -> EngineConfig {
    EngineConfig {
        state_dir: PathBuf::from(DEFAULT_STATE_DIR),
        compression_level: DEFAULT_LEVEL,
        pack_size: DEFAULT_PACK_SIZE,
        workers: 0,
        uploads: DEFAULT_UPLOADS,
    }
}

/// The callers' ranges fit the types.
fn number<T: TryFrom<i64>>(table: &Table<'_>, name: &str, least: i64, most: i64) -> Result<Option<T>> {
    Ok(table.optional(name, |value| value.whole(least, most))?.and_then(|number| T::try_from(number).ok()))
}
