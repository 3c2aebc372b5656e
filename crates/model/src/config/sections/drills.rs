//! `[drills]`: what all drills on this host may use together. May be left out.

use crate::config::{
    checked::DrillsConfig,
    source::{Result, Value},
};

pub(super) fn read(value: &Value<'_>) -> Result<DrillsConfig> {
    let table = value.table()?;
    let concurrent = table.optional("concurrent", |value| value.whole(1, 64));
    let memory = table.optional("memory", |value| value.size("256 MiB", "16384 GiB"));
    table.finish();
    let default = DrillsConfig::default();
    Ok(DrillsConfig {
        concurrent: concurrent?.map_or(default.concurrent, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        memory: memory?,
    })
}
