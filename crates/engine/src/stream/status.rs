//! How much would be lost if the server were lost now, and what the slot costs it.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::{id::Instance, lsn::Lsn, signature::PublicKey};
use lifeboat_postgres::{ConnectOptions, Replication, slot, sql};
use lifeboat_repo::{
    document::Position,
    repository::InstanceRepo,
    wal::{WalObject, segment_object_size},
};

use super::begin::run_to_continue;
use crate::{context::Context, error::Result};

/// Objects without a commit that are passed over in search of the newest one.
const MOST_HEADS: usize = 64;

/// The present state of an instance's continuous WAL.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// The slot's name.
    pub slot: String,
    /// What the server says of it; none where it does not exist.
    pub found: Option<slot::Slot>,
    /// Cluster identity.
    pub system_id: u64,
    /// The server's timeline.
    pub timeline: u32,
    /// Up to here the server's WAL is on its disk.
    pub flushed: Lsn,
    /// Up to here WAL of this timeline is durable in the repository; none where there is none.
    pub durable: Option<Lsn>,
    /// The newest commit that is durable, by the server's clock.
    pub newest_commit: Option<Timestamp>,
    /// WAL on the server's disk that is not in the repository, in bytes; none where nothing is there to go on from.
    pub bytes: Option<u64>,
    /// The longest that a commit of that WAL can have waited.
    pub age: Option<Duration>,
    /// WAL that the slot keeps from being recycled, in bytes.
    pub held_back: Option<u64>,
    /// The server's limit for that (`max_slot_wal_keep_size`), in bytes; none: no limit, its disk can fill.
    pub limit: Option<u64>,
    /// How fast the server writes WAL, in bytes a second.
    pub growth: f64,
    /// When the slot is invalidated if nothing is acknowledged and growth stays as it is.
    pub hurts_in: Option<Duration>,
}

impl Exposure {
    /// Where the log that is durable ends.
    pub(crate) fn durable_end(&self) -> Option<Position> {
        Some(Position { system_id: self.system_id, timeline: self.timeline, lsn: self.durable? })
    }
}

/// Asks server and repository. Takes `sample` to see how fast WAL grows.
pub async fn look(context: &Context, instance: &str, connect: &ConnectOptions, sample: Duration) -> Result<Exposure> {
    let (name, config) = context.instance(instance)?;
    let slot_name = config.postgres.wal.slot_name(name);
    let mut replication = Replication::connect(connect).await?;
    let identity = replication.identify_system().await?;
    let segment_size = replication.wal_segment_size().await?;
    replication.close().await;
    let client = sql::connect(connect, "postgres").await?;
    let first = slot::server(&client).await?;
    tokio::time::sleep(sample).await;
    let found = slot::look(&client, &slot_name).await?;
    let server = slot::server(&client).await?;
    // Without a slot, what is newest counts.
    let restart = found.as_ref().and_then(|slot| slot.restart);
    let unit = segment_object_size(segment_size);
    let from = restart.map_or(Lsn(0), |restart| Lsn(restart.segment_start(unit).0.saturating_sub(unit)));
    let stream = (identity.system_id, identity.timeline);
    let held = newest(context, name, stream, from, restart).await?;

    let seconds = Duration::try_from(server.now.duration_since(first.now)).unwrap_or_default().as_secs_f64();
    let growth = if seconds > 0.0 { (server.flush.0.saturating_sub(first.flush.0)) as f64 / seconds } else { 0.0 };
    let durable = held.as_ref().map(|held| held.durable);
    let bytes = durable.map(|durable| server.flush.0.saturating_sub(durable.0));
    let newest_commit = held.and_then(|held| held.newest_commit);
    let age = match bytes {
        Some(0) => Some(Duration::ZERO),
        _ => newest_commit.map(|commit| Duration::try_from(server.now.duration_since(commit)).unwrap_or_default()),
    };
    let held_back = restart.map(|at| server.flush.0.saturating_sub(at.0));
    let limit = server.max_slot_wal_keep_size;
    let left = limit.zip(held_back).map(|(limit, held)| limit.saturating_sub(held) as f64);
    let hurts_in = left.filter(|_| growth > 0.0).and_then(|left| Duration::try_from_secs_f64(left / growth).ok());
    Ok(Exposure {
        slot: slot_name,
        found,
        system_id: identity.system_id,
        timeline: identity.timeline,
        flushed: server.flush,
        durable,
        newest_commit,
        bytes,
        age,
        held_back,
        limit,
        growth,
        hurts_in,
    })
}

struct Newest {
    durable: Lsn,
    newest_commit: Option<Timestamp>,
}

/// The end of what is stored of a timeline, and the newest commit in it.
async fn newest(
    context: &Context,
    name: &Instance,
    stream: (u64, u32),
    from: Lsn,
    restart: Option<Lsn>,
) -> Result<Option<Newest>> {
    let repo = context.instance_repo(name);
    let listing = repo.wal_archive().list(stream.0, stream.1, from).await?;
    let run = match restart {
        Some(restart) => run_to_continue(&listing, restart),
        None => listing.runs().pop(),
    };
    let Some(run) = run else { return Ok(None) };
    let trusted = &context.config.keys.trusted_keys;
    let newest_commit = newest_commit(&repo, &run.objects, trusted).await?;
    Ok(Some(Newest { durable: run.last, newest_commit }))
}

/// The newest commit in the last run of a stream that is held from a position on.
pub(crate) async fn held_behind(
    repo: &InstanceRepo,
    (system_id, timeline): (u64, u32),
    from: Lsn,
    trusted: &[PublicKey],
) -> Result<Option<Timestamp>> {
    let listing = repo.wal_archive().list(system_id, timeline, from).await?;
    match listing.runs().pop() {
        Some(run) => newest_commit(repo, &run.objects, trusted).await,
        None => Ok(None),
    }
}

async fn newest_commit(repo: &InstanceRepo, objects: &[WalObject], trusted: &[PublicKey]) -> Result<Option<Timestamp>> {
    let archive = repo.wal_archive();
    for object in objects.iter().rev().take(MOST_HEADS) {
        if let Some(commits) = archive.head(object, trusted).await?.commits {
            return Ok(Some(commits.last));
        }
    }
    Ok(None)
}
