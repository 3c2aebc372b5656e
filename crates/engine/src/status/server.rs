//! What the source's server tells: how much of its log is not held, what the slot costs it, and who could take over.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::{config::InstanceConfig, id::Instance};
use lifeboat_postgres::{ConnectOptions, sql, standbys};
use lifeboat_repo::{document::Position, point::Point};

use super::{Asking, Facts, Slot, Standby, Standbys, Wal, judge::words, look::within};
use crate::{
    context::{Context, connect_options},
    error::Result,
    keys::host_identity,
    recovery::{self, LogEnd},
    stream::status::{self as stream, Exposure},
};

/// How long growth of the log is watched where no earlier look tells it.
const SAMPLE: Duration = Duration::from_millis(500);
/// An earlier look must be so old, in seconds, that growth since then means something.
const SINCE: f64 = 30.0;

/// What was found.
pub(super) struct Found {
    pub wal: Option<Wal>,
    pub standbys: Standbys,
    /// Why it is not known whether the log that is held leads on from the newest point.
    pub leads_on: Option<String>,
}

pub(super) async fn look(
    context: &Context,
    (name, config): (&Instance, &InstanceConfig),
    newest: Option<&Point>,
    asking: &Asking<'_>,
) -> Found {
    let silent = |why: String| Standbys { found: Vec::new(), not_asked: Some(why), hidden: 0 };
    let asked = match asking.ask_servers {
        true => connect_options(&config.postgres, asking.environment).map_err(|error| error.to_string()),
        false => Err("it was not asked".to_owned()),
    };
    if let (Err(_), false, Some(before)) = (&asked, asking.ask_servers, asking.before) {
        return Found { wal: before.wal.clone(), standbys: before.standbys.clone(), leads_on: None };
    }
    let tier_rpo = context.tier(config).map(|tier| tier.rpo.0).unwrap_or_default();
    let standbys = async {
        match &asked {
            Ok(connect) => {
                let slot = config.postgres.wal.slot_name(name);
                within(asking.patience, ask(connect, &slot, tier_rpo)).await.unwrap_or_else(silent)
            }
            Err(why) => silent(why.clone()),
        }
    };
    let wal = async {
        let held = wal(context, name, asked.as_ref(), newest, asking).await;
        held.unwrap_or_else(|error| (Some(Wal { not_asked: Some(crate::with_causes(&error)), ..unheld(newest) }), None))
    };
    let ((wal, leads_on), standbys) = tokio::join!(wal, standbys);
    Found { wal, standbys, leads_on }
}

/// Nothing of the log counts: what the newest point has not is not held.
fn unheld(newest: Option<&Point>) -> Wal {
    Wal {
        newest_commit: None,
        waiting_since: newest.map(|point| point.header.started),
        waiting_bytes: None,
        cut_since: None,
        slot: None,
        not_asked: None,
    }
}

/// None where no log is streamed; and why it is not known whether it leads on from the newest point.
async fn wal(
    context: &Context,
    name: &Instance,
    asked: std::result::Result<&ConnectOptions, &String>,
    newest: Option<&Point>,
    asking: &Asking<'_>,
) -> Result<(Option<Wal>, Option<String>)> {
    if context.instance_repo(name).wal_archive().streams().await?.is_empty() {
        return Ok((None, None));
    }
    let before = asking.before.filter(|before| {
        let age = (context.clock)().duration_since(before.looked).as_secs_f64();
        age > SINCE && slot_of(before).is_some()
    });
    let sample = if before.is_some() { Duration::ZERO } else { SAMPLE };
    let found = match asked {
        Ok(connect) => within(asking.patience, stream::look(context, name.as_str(), connect, sample)).await,
        Err(why) => Err(why.clone()),
    };
    let durable = found.as_ref().map(Exposure::durable_end);
    let end = match (newest, durable) {
        // Nothing is there to go on from, or nothing to begin with.
        (None, _) | (_, Ok(None)) => Ok(None),
        (Some(point), durable) => {
            within(asking.slow_patience, log_end(context, name, point, durable.ok().flatten())).await
        }
    };
    let mut wal = match &found {
        Ok(found) => of(found, newest, before, (context.clock)()),
        Err(why) => Wal { not_asked: Some(why.clone()), ..unheld(newest) },
    };
    if let Ok(Some(end)) = end {
        // Whatever is newer is not held, or nothing leads to it; a server that is gone took it with it.
        wal.newest_commit = end.newest_commit;
        wal.waiting_since = newest.map(|point| point.header.started).max(end.newest_commit);
        wal.cut_since = wal.waiting_since.filter(|_| end.is_cut);
    }
    Ok((Some(wal), end.err()))
}

/// Where the log ends that can be brought back from a point; none where that is `durable`.
async fn log_end(
    context: &Context,
    name: &Instance,
    point: &Point,
    durable: Option<Position>,
) -> Result<Option<LogEnd>> {
    let (repo, keys) = (context.instance_repo(name), &context.config.keys);
    recovery::log_end(&repo, &keys.trusted_keys, &[host_identity(keys)?], point, durable).await
}

fn of(found: &Exposure, newest: Option<&Point>, before: Option<&Facts>, now: Timestamp) -> Wal {
    let waiting_since = match found.bytes {
        Some(0) => None,
        Some(_) => found.newest_commit.or_else(|| newest.map(|point| point.header.started)),
        None => newest.map(|point| point.header.started),
    };
    let state = found.found.as_ref().map(|slot| match slot.is_lost() {
        true => "lost".to_owned(),
        false => slot.wal_status.clone().unwrap_or_else(|| "reserved".to_owned()),
    });
    let lost_at = lost_in(found, before, now).and_then(|left| now.checked_add(left).ok());
    Wal {
        newest_commit: found.newest_commit,
        waiting_since,
        waiting_bytes: found.bytes,
        cut_since: None,
        slot: Some(Slot {
            name: found.slot.clone(),
            wal_status: state.unwrap_or_else(|| "missing".to_owned()),
            active: found.found.as_ref().is_some_and(|slot| slot.active),
            held_back_bytes: found.held_back,
            limit_bytes: found.limit,
            lost_at,
        }),
        not_asked: None,
    }
}

/// When the slot is lost as the log grows now. A moment's growth says little of a slot that is far from its limit.
fn lost_in(found: &Exposure, before: Option<&Facts>, now: Timestamp) -> Option<Duration> {
    let (limit, held) = (found.limit?, found.held_back?);
    if held < limit / 2 {
        return None;
    }
    let Some((facts, then)) = before.and_then(|facts| Some((facts, slot_of(facts)?.held_back_bytes?))) else {
        return found.hurts_in;
    };
    let growth = held.saturating_sub(then) as f64 / now.duration_since(facts.looked).as_secs_f64();
    let left = limit.saturating_sub(held) as f64 / growth;
    Duration::try_from_secs_f64(left).ok() // no growth, no end
}

fn slot_of(facts: &Facts) -> Option<&Slot> {
    facts.wal.as_ref()?.slot.as_ref()
}

async fn ask(
    connect: &ConnectOptions,
    own_slot: &str,
    rpo: Duration,
) -> std::result::Result<Standbys, lifeboat_postgres::Error> {
    let client = sql::connect(connect, "postgres").await?;
    let found = standbys::look(&client, own_slot).await?;
    let not_asked = (found.hidden > 0).then(|| {
        let who = if found.hidden == 1 { "somebody streams".to_owned() } else { format!("{} stream", found.hidden) };
        format!("{who} from it, and role {} may not see who: GRANT pg_read_all_stats TO {}", connect.user, connect.user)
    });
    let hidden = found.hidden;
    Ok(Standbys { found: found.found.into_iter().map(|one| standby(one, rpo)).collect(), not_asked, hidden })
}

fn standby(found: standbys::Standby, rpo: Duration) -> Standby {
    let not_ready = match found.lag {
        _ if found.state != "streaming" => Some(format!("it does not stream yet ({})", found.state)),
        Some(lag) if lag > rpo => {
            let (lag, rpo) = (words(lag.as_secs_f64()), words(rpo.as_secs_f64()));
            Some(format!("it replays {lag} behind; the RPO target is {rpo}"))
        }
        _ => None,
    };
    Standby {
        name: found.name,
        address: found.address,
        state: found.state,
        sync_state: found.sync_state,
        replay_lag_bytes: found.lag_bytes,
        replay_lag_seconds: found.lag.map(|lag| lag.as_secs_f64()),
        not_ready,
    }
}
