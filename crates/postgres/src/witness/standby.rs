//! A try at a standby: replay pauses, so that everything before its position is visible and nothing behind it; snapshots
//! are taken; replay goes on. It pauses for a few milliseconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lifeboat_model::lsn::Lsn;
use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::{
    Attempt, Budget,
    digests::pace,
    holder::{self, Fixed, Holder, Onlookers, Ready},
};
use crate::{
    error::Result,
    replication::{Replication, SystemIdentity},
    sql,
    transport::ConnectOptions,
};

/// The standby must come to where the primary is now in this time.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Replay stops between two records.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);
const POLL_CATCH_UP: Duration = Duration::from_millis(100);

const REPLAYED: &str = "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text";
const MAY: &str = "SELECT has_function_privilege('pg_wal_replay_pause()', 'EXECUTE') \
                   AND has_function_privilege('pg_wal_replay_resume()', 'EXECUTE')";
const RESUME: &str = "SELECT pg_wal_replay_resume()";

pub(super) async fn attempt(
    primary: &ConnectOptions,
    standby: &ConnectOptions,
    databases: &[String],
    budget: &Budget,
) -> Result<Attempt> {
    let first = databases.first().map_or("postgres", String::as_str);
    let (of_primary, _) = identity(primary).await?;
    let (of_standby, timeline) = identity(standby).await?;
    if of_primary != of_standby {
        let why = format!("{} is no standby of {}: their system ids differ", standby.server(), primary.server());
        return Ok(Attempt::Inexact(why));
    }
    let control = Arc::new(sql::connect(standby, first).await?);
    if holder::text(&control, "SELECT pg_is_in_recovery()").await? != "t" {
        return Ok(Attempt::Inexact(format!("{} is not a standby (any more)", standby.server())));
    }
    // Who could pause and not resume would leave it paused.
    if holder::text(&control, MAY).await? != "t" {
        let (user, right) = (&standby.user, "EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume()");
        let why = format!("the role may not pause replay: in database {first} of the primary, GRANT {right} TO {user}");
        return Ok(Attempt::Inexact(why));
    }
    let wanted = {
        let client = sql::connect(primary, first).await?;
        holder::lsn(&client, "SELECT pg_current_wal_flush_lsn()::text").await?
    };
    if !wait_for(&control, wanted).await? {
        let why = format!("the standby did not replay to {wanted} within {} s", CATCH_UP.as_secs());
        return Ok(Attempt::Inexact(why));
    }
    let mut onlookers = Onlookers::begin(standby, databases, pace(budget, None)).await?;
    let ready = holder::prepare(standby, databases).await?;
    onlookers.look_again().await?;
    match while_paused(standby, first, &control, ready).await? {
        Ok((lsn, mut holders)) => {
            onlookers.end(&mut holders).await?;
            Ok(Attempt::Fixed(Fixed { system_id: of_standby, timeline, lsn, holders }))
        }
        Err(why) => Ok(Attempt::Inexact(why)),
    }
}

async fn identity(server: &ConnectOptions) -> Result<(u64, u32)> {
    let mut replication = Replication::connect(server).await?;
    let SystemIdentity { system_id, timeline, .. } = replication.identify_system().await?;
    replication.close().await;
    Ok((system_id, timeline))
}

async fn wait_for(control: &Client, wanted: Lsn) -> Result<bool> {
    let until = Instant::now() + CATCH_UP;
    loop {
        if holder::lsn(control, REPLAYED).await? >= wanted {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        tokio::time::sleep(POLL_CATCH_UP).await;
    }
}

type Held = std::result::Result<(Lsn, Vec<Holder>), String>;

async fn while_paused(
    standby: &ConnectOptions,
    database: &str,
    control: &Arc<Client>,
    ready: Vec<Ready>,
) -> Result<Held> {
    const PAUSE: &str = "SELECT pg_wal_replay_pause()";
    if holder::text(control, "SELECT pg_is_wal_replay_paused()").await? == "t" {
        // Somebody else's pause is not ours to end.
        return snapshots(control, ready).await;
    }
    let session = Arc::clone(control);
    let mut pause = Pause { session, standby: standby.clone(), database: database.to_owned(), on: true };
    let held = match control.simple_query(PAUSE).await {
        Ok(_) => snapshots(control, ready).await,
        Err(error) => Err(sql::statement_error(standby, PAUSE, error)),
    };
    if control.simple_query(RESUME).await.is_ok() {
        pause.on = false;
    }
    held
}

async fn snapshots(control: &Client, ready: Vec<Ready>) -> Result<Held> {
    let until = Instant::now() + PAUSE_TIMEOUT;
    while holder::text(control, "SELECT pg_get_wal_replay_pause_state()").await? != "paused" {
        if Instant::now() > until {
            return Ok(Err(format!("replay did not pause within {} s", PAUSE_TIMEOUT.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
    let lsn = holder::lsn(control, REPLAYED).await?;
    let holders = holder::open(ready).await?;
    if holder::lsn(control, REPLAYED).await? != lsn {
        return Ok(Err("somebody let replay go on".to_owned()));
    }
    Ok(Ok((lsn, holders)))
}

/// A standby must not stay paused because we were cancelled or cut off.
struct Pause {
    /// The session that asked for it: there, what ends it cannot overtake it.
    session: Arc<Client>,
    standby: ConnectOptions,
    database: String,
    on: bool,
}

impl Drop for Pause {
    fn drop(&mut self) {
        let Some(runtime) = self.on.then(Handle::try_current).and_then(std::result::Result::ok) else { return };
        let (session, standby, database) = (Arc::clone(&self.session), self.standby.clone(), self.database.clone());
        runtime.spawn(async move {
            if session.simple_query(RESUME).await.is_ok() {
                return;
            }
            let resumed = async { holder::text(&sql::connect(&standby, &database).await?, RESUME).await };
            if let Err(error) = resumed.await {
                let server = standby.server();
                tracing::error!(%server, %error, "replay may still be paused: run SELECT pg_wal_replay_resume() there");
            }
        });
    }
}
