//! `[limits]`: how much of the line to the repositories one command may use. All of it may be left out.

use crate::config::{
    checked::LimitsConfig,
    source::{Result, Value},
};

pub(super) fn read(value: &Value<'_>) -> Result<LimitsConfig> {
    let table = value.table()?;
    let rate = |name: &str| table.optional(name, |value| value.rate(LimitsConfig::LEAST, LimitsConfig::MOST));
    let (upload, download) = (rate("upload"), rate("download"));
    table.finish();
    Ok(LimitsConfig { upload: upload?, download: download? })
}
