//! `[tiers.<name>]`: how much may be lost, and how long it may take.

use std::collections::BTreeMap;

use crate::{
    config::{
        checked::Tier,
        source::{Result, Value},
    },
    id::TierName,
};

pub(super) fn read(value: &Value<'_>) -> Result<BTreeMap<TierName, Tier>> {
    super::whole::named(value, tier)
}

fn tier(value: &Value<'_>) -> Result<Tier> {
    let table = value.table()?;
    let rpo = table
        .required("rpo", "say how much work may be lost, for example rpo = \"24h\"", |value| value.span("1s", "366d"));
    let rto = table.required("rto", "say how long a recovery may take, for example rto = \"4h\"", |value| {
        value.span("1s", "366d")
    });
    table.finish();
    Ok(Tier { rpo: rpo?, rto: rto? })
}
