//! `[evidence]`: how long it is kept. May be left out.

use crate::config::{
    checked::EvidenceConfig,
    source::{Result, Value},
};

pub(super) fn read(value: &Value<'_>) -> Result<EvidenceConfig> {
    let table = value.table()?;
    let retain = table.optional("retain", |value| value.span("1m", "36600d"));
    table.finish();
    Ok(retain?.map_or_else(EvidenceConfig::default, |retain| EvidenceConfig { retain }))
}
