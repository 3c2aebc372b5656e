//! Continuous WAL: streamed from the server, stored as it comes, and acknowledged only when it is durable.
//!
//! ```text
//! server ─► WalStream ─► decoder (commit times, restore points)
//!                    └─► cutter ─► slices, whole segments ─► repository ─► acknowledge
//! ```
//! The server's physical slot keeps whatever has not been acknowledged, so there is no state of ours that could be lost:
//! what is held is read from the repository, and the stream goes on from there ([`begin`]). The slot serves as the lease
//! too, since a server lets one connection at a time use it.
//!
//! A connection that ends is made again for ever; only what a person must mend ends a stream.
//!
//! Memory: one segment that fills, and at most [`session::IN_FLIGHT`] on their way.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::{
    config::{InstanceConfig, WalConfig},
    id::Instance,
    lsn::Lsn,
    signature::PublicKey,
};
use lifeboat_postgres::ConnectOptions;
use lifeboat_repo::{document::DocumentKeys, repository::InstanceRepo, seal::Identity, wal::WalWriter};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Clock, Context},
    error::{Error, Result},
    keys::{document_keys, writer_keys},
};

mod begin;
mod clock;
mod cutter;
mod heartbeat;
mod lag;
mod session;
pub mod status;
mod witness;

pub use begin::{TimelineDetails, drop_slot};
pub use clock::watch_clock;
pub use lag::Lags;
pub use session::RestorePointDetails;
pub use witness::keep_witness;

/// Waits between attempts to connect: this first, then twice as long each time …
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A server notices after `wal_sender_timeout` (60 s) that a stream was killed on another host; on the same one at once.
const OTHER_STREAM: Duration = Duration::from_secs(75);
const OTHER_STREAM_ONCE: Duration = Duration::from_secs(5);

/// What is going on.
#[derive(Debug, Clone, Default)]
pub enum Phase {
    /// On the way to the server.
    #[default]
    Connecting,
    /// WAL comes.
    Streaming,
    /// The last attempt failed; the next follows.
    Waiting {
        /// Why.
        why: String,
        /// The pause before the next attempt.
        pause: Duration,
    },
}

/// WAL that the server no longer had when the stream came back: nothing between these can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The timeline that was being followed.
    pub timeline: u32,
    /// Held up to here.
    pub from: Lsn,
    /// Held again from here on.
    pub to: Lsn,
}

/// What a stream has done, for whoever watches.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What is going on.
    pub phase: Phase,
    /// Cluster identity.
    pub system_id: u64,
    /// The timeline that is followed.
    pub timeline: u32,
    /// Up to here WAL has come.
    pub received: Lsn,
    /// Up to here WAL is durable, without a gap.
    pub durable: Lsn,
    /// Up to here the server has WAL to send.
    pub server_end: Lsn,
    /// The newest commit that is durable.
    pub newest_commit: Option<Timestamp>,
    /// Parts of segments stored.
    pub slices: u64,
    /// Whole segments stored.
    pub segments: u64,
    /// Bytes of WAL stored, what is stored twice counted twice.
    pub wal_bytes: u64,
    /// Bytes of objects written.
    pub stored_bytes: u64,
    /// From commit to durable.
    pub lags: Lags,
    /// Connections made after the first.
    pub reconnects: u64,
    /// WAL that was lost before it could be stored.
    pub gaps: Vec<Gap>,
    /// What people should know, newest last; at most [`State::MOST_REMARKS`].
    pub remarks: Vec<String>,
}

impl State {
    /// How many remarks are kept.
    pub const MOST_REMARKS: usize = 100;

    fn remark(&mut self, text: String) {
        tracing::warn!("{text}");
        if self.remarks.len() == Self::MOST_REMARKS {
            self.remarks.remove(0);
        }
        self.remarks.push(text);
    }
}

/// When a stream is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never by itself.
    Cancelled,
    /// When everything that the server had at the beginning is durable.
    CaughtUp,
}

/// Streams an instance's WAL into the repository until it is cancelled.
///
/// Cancelling stores what has come and tells the server before it returns.
pub async fn run(
    context: &Context,
    instance: &str,
    connect: &ConnectOptions,
    until: Until,
    state: &watch::Sender<State>,
    cancel: &CancellationToken,
) -> Result<()> {
    let (name, config) = context.instance(instance)?;
    let streamer = Streamer::new(context, name, config, connect.clone()).await?;
    let broke = Notify::new();
    tokio::select! {
        biased;
        done = follow(&streamer, instance, until, state, cancel, &broke) => done,
        () = watch_clock(context, state, &broke) => Err(Error::Task("the watch over the store's clock".to_owned())),
    }
}

/// Connects, again and again. `broke` hears of each connection that is lost.
async fn follow(
    streamer: &Streamer,
    instance: &str,
    until: Until,
    state: &watch::Sender<State>,
    cancel: &CancellationToken,
    broke: &Notify,
) -> Result<()> {
    let patience = if until == Until::CaughtUp { OTHER_STREAM_ONCE } else { OTHER_STREAM };
    let mut pause = FIRST_PAUSE;
    let (mut target, mut busy_since) = (None, None);
    loop {
        let begun = streamer.durable(state);
        let error = match session::run(streamer, until, &mut target, state, cancel).await {
            Ok(session::End::Done) => return Ok(()),
            Ok(session::End::Timeline) => continue,
            Err(_) if cancel.is_cancelled() => return Err(Error::Cancelled),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        let is_busy = matches!(error, Error::SlotInUse { .. });
        let since = *busy_since.get_or_insert_with(Instant::now);
        if is_busy && since.elapsed() > patience {
            return Err(error);
        }
        if !is_busy {
            busy_since = None;
        }
        // A session that got somewhere was a good one.
        pause = if streamer.durable(state) > begun { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        let why = error.to_string();
        broke.notify_one();
        tracing::warn!(instance, %error, ?pause, "the WAL stream broke; it is taken up again");
        state.send_modify(|state| {
            state.reconnects += 1;
            state.phase = Phase::Waiting { why, pause };
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
        state.send_modify(|state| state.phase = Phase::Connecting);
    }
}

/// What all sessions of a stream share.
struct Streamer {
    repo: InstanceRepo,
    writer: WalWriter,
    documents: DocumentKeys,
    /// Whose objects are believed.
    trusted: Vec<PublicKey>,
    host: Identity,
    connect: ConnectOptions,
    config: WalConfig,
    slot: String,
    clock: Clock,
}

impl Streamer {
    async fn new(
        context: &Context,
        name: &Instance,
        config: &InstanceConfig,
        connect: ConnectOptions,
    ) -> Result<Streamer> {
        let keys = writer_keys(&context.config.keys)?;
        let repo = context.writing_repo(name).await?;
        let level = context.config.engine.compression_level;
        Ok(Streamer {
            documents: document_keys(&keys),
            writer: WalWriter::new(repo.clone(), keys.recipients, keys.signing, level),
            trusted: keys.trusted,
            host: keys.host,
            repo,
            connect,
            config: config.postgres.wal.clone(),
            slot: config.postgres.wal.slot_name(name),
            clock: context.clock.clone(),
        })
    }

    fn durable(&self, state: &watch::Sender<State>) -> Lsn {
        state.borrow().durable
    }
}
