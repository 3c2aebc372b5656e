//! `[tiers.<name>]`: how much may be lost, how long it may take, what is kept and how it is locked.

use std::collections::BTreeMap;

use crate::{
    config::{
        checked::{Tier, TierDrill},
        source::{Result, Value},
    },
    id::TierName,
    retention::{LockMode, LockPolicy, RetentionPolicy, Zone},
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
    let lock = table.optional("lock", lock);
    let retention = table.optional("retention", retention);
    let drill = table.optional("drill", drill);
    table.finish();
    Ok(Tier { rpo: rpo?, rto: rto?, lock: lock?, retention: retention?, drill: drill?.unwrap_or_default() })
}

fn drill(value: &Value<'_>) -> Result<TierDrill> {
    let table = value.table()?;
    let every = table.optional("every", |value| value.span("1h", "366d"));
    let required = table.optional("required", |value| value.list_of(super::drill::check_id));
    table.finish();
    Ok(TierDrill { every: every?, required: required?.unwrap_or_default() })
}

fn lock(value: &Value<'_>) -> Result<LockPolicy> {
    let table = value.table()?;
    let mode = table.required("mode", "add mode = \"compliance\", or \"governance\" for trying out", lock_mode);
    let minimum =
        table.required("minimum", "say how long objects are locked at the least, for example \"14d\"", |value| {
            value.span("1m", "3660d")
        });
    table.finish();
    Ok(LockPolicy { mode: mode?, minimum: minimum? })
}

pub(super) fn lock_mode(value: &Value<'_>) -> Result<LockMode> {
    let modes = [LockMode::Compliance, LockMode::Governance];
    let text = value.filled()?;
    modes.into_iter().find(|mode| mode.word() == text).ok_or_else(|| {
        let hint = "use \"compliance\" (nobody can delete early) or \"governance\" (who has a special right can)";
        value.place.problem("not a lock mode", hint)
    })
}

fn retention(value: &Value<'_>) -> Result<RetentionPolicy> {
    let table = value.table()?;
    let time_zone = table.optional("time_zone", Value::zone);
    let number = |name| {
        let count = table.optional(name, |value| value.whole(0, 100_000));
        count.map(|count| count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
    };
    let [last, hourly, daily] = ["last", "hourly", "daily"].map(number);
    let [weekly, monthly, yearly] = ["weekly", "monthly", "yearly"].map(number);
    let pitr = table.optional("pitr", |value| value.span("1m", "3660d"));
    let drilled = number("drilled");
    table.finish();
    let policy = RetentionPolicy {
        time_zone: time_zone?.unwrap_or(Zone::UTC),
        last: last?,
        hourly: hourly?,
        daily: daily?,
        weekly: weekly?,
        monthly: monthly?,
        yearly: yearly?,
        pitr: pitr?,
        drilled: drilled?,
    };
    let counts = [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly];
    if counts.iter().all(|count| *count == 0) && policy.pitr.is_none() {
        table.place.warn(
            "keeps nothing but the newest point and those that passed a drill",
            "say what to keep, for example daily = 7; or remove the section, then everything is kept",
        );
    }
    Ok(policy)
}
