//! One connection's worth of a stream: receive, cut, store, acknowledge.

use std::time::Duration;

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    WalChunk, WalStream,
    wal::{WalDecoder, WalEvent},
};
use lifeboat_repo::{
    document::{DocumentKind, Position},
    wal::{WalObject, WalObjectKind, segment_object_size},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Phase, State, Streamer, Until,
    begin::{self, Begun},
    cutter::{Cut, Cutter},
    heartbeat,
};
use crate::error::{Error, Result};

/// Objects on their way to the repository at the same time.
pub(super) const IN_FLIGHT: usize = 3;
/// What has come when a stream is stopped is stored within this time, or left to the next one.
const FAREWELL: Duration = Duration::from_secs(60);
/// Of `max_lag`, at least this part (1 / n) is for waiting; the rest is for storing, as long as that takes.
const LEAST_WAIT: u32 = 4;

/// Why a session is over.
pub(super) enum End {
    /// Everything that was asked for is done.
    Done,
    /// The timeline is over; another follows it.
    Timeline,
}

/// The name that an administrator gave a position (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePointDetails {
    /// The name.
    pub name: String,
    /// When, by the server's clock.
    pub time: Timestamp,
}

/// Streams over one connection.
pub(super) async fn run(
    streamer: &Streamer,
    until: Until,
    target: &mut Option<Lsn>,
    state: &watch::Sender<State>,
    cancel: &CancellationToken,
) -> Result<End> {
    let begun = tokio::select! {
        begun = begin::begin(streamer, state) => begun?,
        () = cancel.cancelled() => return Err(Error::Cancelled),
    };
    if until == Until::CaughtUp {
        target.get_or_insert(begun.server_end);
    }
    let interval = streamer.config.heartbeat;
    let _heart = interval.map(|every| heartbeat::start(streamer.connect.clone(), every.0, state.clone()));
    let (stream, mut session) = Session::new(streamer, begun, *target, state);
    let end = session.pump(stream, cancel).await;
    if end.is_err() {
        session.settle().await;
    }
    end
}

struct Session<'a> {
    streamer: &'a Streamer,
    state: &'a watch::Sender<State>,
    system_id: u64,
    timeline: u32,
    segment_size: u64,
    cutter: Cutter,
    decoder: Option<WalDecoder>,
    /// Up to here everything is durable.
    durable: Lsn,
    target: Option<Lsn>,
    storing: FuturesOrdered<BoxFuture<'static, Result<Stored>>>,
    /// Something could not be stored.
    has_hole: bool,
    /// When the oldest WAL that waits came.
    waiting_since: Option<Instant>,
    /// How long storing took lately.
    storing_takes: Duration,
    max_lag: Duration,
}

struct Stored {
    object: WalObject,
    bytes: u64,
    commits: Vec<Timestamp>,
    newest: Option<Timestamp>,
    took: Duration,
}

impl<'a> Session<'a> {
    fn new(
        streamer: &'a Streamer,
        begun: Begun,
        target: Option<Lsn>,
        state: &'a watch::Sender<State>,
    ) -> (WalStream, Session<'a>) {
        state.send_modify(|state| {
            state.phase = Phase::Streaming;
            (state.system_id, state.timeline) = (begun.system_id, begun.timeline);
            (state.received, state.durable) = (begun.start, begun.known);
            state.server_end = begun.server_end;
        });
        let session = Session {
            streamer,
            state,
            system_id: begun.system_id,
            timeline: begun.timeline,
            segment_size: begun.segment_size,
            cutter: Cutter::new(begun.start, begun.known, segment_object_size(begun.segment_size)),
            decoder: Some(WalDecoder::new(begun.start, begun.segment_size)),
            durable: begun.known,
            target,
            storing: FuturesOrdered::new(),
            has_hole: false,
            waiting_since: None,
            storing_takes: Duration::ZERO,
            max_lag: streamer.config.max_lag.0,
        };
        (begun.stream, session)
    }

    async fn pump(&mut self, mut stream: WalStream, cancel: &CancellationToken) -> Result<End> {
        stream.acknowledge(self.durable);
        let mut requests = stream.requests();
        loop {
            if self.target.is_some_and(|target| self.durable >= target) {
                return self.farewell(stream).await;
            }
            let has_room = self.storing.len() < IN_FLIGHT;
            // What is asked for has come: there is nothing to wait for.
            let is_all = self.target.is_some_and(|target| self.cutter.position() >= target);
            let due = self.waiting_since.map(|since| if is_all { since } else { since + self.patience() });
            tokio::select! {
                biased;
                () = cancel.cancelled() => return self.farewell(stream).await,
                Some(stored) = self.storing.next() => {
                    self.has_hole = stored.is_err();
                    self.stored(stored?);
                    stream.acknowledge(self.durable);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if has_room && due.is_some() => self.cut_slice(),
                // A server that asks may be waiting for us to shut down.
                Ok(()) = requests.changed(), if has_room => self.cut_slice(),
                chunk = stream.next(), if has_room => match chunk? {
                    Some(chunk) => self.take(chunk).await?,
                    None => return self.next_timeline(stream).await,
                },
            }
        }
    }

    /// How long WAL may wait before it is cut, so that it is durable after `max_lag`.
    fn patience(&self) -> Duration {
        self.max_lag.saturating_sub(self.storing_takes).max(self.max_lag / LEAST_WAIT)
    }

    /// Takes what the server sent; whole units are on their way afterwards.
    async fn take(&mut self, chunk: WalChunk) -> Result<()> {
        if chunk.start != self.cutter.position() {
            let expected = self.cutter.position();
            return Err(lifeboat_postgres::Error::WalGap { expected, got: chunk.start }.into());
        }
        let server_end = chunk.server_end;
        let mut rest = chunk.bytes;
        while !rest.is_empty() {
            let now = rest.split_to(self.cutter.room().min(rest.len()));
            self.decode(&now).await?;
            let whole = self.cutter.push(&now);
            if let Some(whole) = whole {
                self.waiting_since = None;
                self.store(whole);
            }
        }
        if self.cutter.has_waiting() {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        let received = self.cutter.position();
        self.state.send_modify(|state| {
            state.received = received;
            state.server_end = server_end.max(received);
        });
        Ok(())
    }

    /// Notes commit times and restore points. What cannot be decoded is stored all the same.
    async fn decode(&mut self, bytes: &[u8]) -> Result<()> {
        // What could not be decoded ends with its segment.
        if self.decoder.is_none() && self.cutter.position().0.is_multiple_of(self.segment_size) {
            self.decoder = Some(WalDecoder::new(self.cutter.position(), self.segment_size));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let cutter = &mut self.cutter;
        let mut restore_points = Vec::new();
        let at = cutter.position();
        let decoded = decoder.feed(at, bytes, &mut |event| match event {
            WalEvent::Commit(commit) => cutter.note(commit.end, commit.time),
            WalEvent::RestorePoint(point) => restore_points.push(point),
        });
        if let Err(error) = decoded {
            self.decoder = None;
            let text = format!("WAL from {at} on is stored, but its commits cannot be read: {error}");
            self.state.send_modify(|state| state.remark(text));
        }
        for point in restore_points {
            // Known ones were kept by the stream that stored them.
            if point.end > self.durable {
                let position = Position { system_id: self.system_id, timeline: self.timeline, lsn: point.end };
                let details = RestorePointDetails { name: point.name, time: point.time };
                let (repo, keys) = (&self.streamer.repo, &self.streamer.documents);
                let now = (self.streamer.clock)();
                repo.put_document(DocumentKind::RestorePoint, position, &details, keys, now).await?;
            }
        }
        Ok(())
    }

    fn cut_slice(&mut self) {
        self.waiting_since = None;
        if let Some(slice) = self.cutter.slice() {
            self.store(slice);
        }
    }

    fn store(&mut self, cut: Cut) {
        let (writer, begun) = (self.streamer.writer.clone(), Instant::now());
        let (system_id, timeline, segment_size) = (self.system_id, self.timeline, self.segment_size);
        let storing = tokio::spawn(async move {
            let bytes = cut.bytes.len() as u64;
            let put = writer.put(cut.kind, system_id, timeline, segment_size, cut.first, cut.bytes, cut.span);
            let object = put.await?;
            let newest = cut.span.map(|span| span.last);
            Ok(Stored { object, bytes, commits: cut.commits, newest, took: begun.elapsed() })
        });
        let stored = async move { storing.await.map_err(|error| Error::Task(error.to_string()))? };
        self.storing.push_back(Box::pin(stored));
    }

    /// One object is durable, and everything before it.
    fn stored(&mut self, stored: Stored) {
        self.durable = self.durable.max(stored.object.last);
        // Grows at once, forgets slowly.
        self.storing_takes = stored.took.max((self.storing_takes * 7 + stored.took) / 8);
        let (now, durable) = ((self.streamer.clock)(), self.durable);
        self.state.send_modify(|state| {
            state.durable = durable;
            match stored.object.kind {
                WalObjectKind::Slice => state.slices += 1,
                WalObjectKind::Segment => state.segments += 1,
            }
            state.wal_bytes += stored.bytes;
            state.stored_bytes += stored.object.len;
            state.newest_commit = stored.newest.or(state.newest_commit);
            for commit in stored.commits {
                // The server's clock may be ahead of ours.
                state.lags.add(Duration::try_from(now.duration_since(commit)).unwrap_or_default());
            }
        });
    }

    /// Stores what has come, tells the server, and ends the connection in good order.
    async fn farewell(&mut self, stream: WalStream) -> Result<End> {
        let all = async {
            self.drain().await?;
            stream.acknowledge(self.durable);
            stream.stop().await?;
            Ok(End::Done)
        };
        timeout(FAREWELL, all).await.unwrap_or(Err(Error::Cancelled))
    }

    /// The server follows another timeline now: the rest of the old one is stored before.
    async fn next_timeline(&mut self, stream: WalStream) -> Result<End> {
        self.drain().await?;
        stream.acknowledge(self.durable);
        let end = stream.stop().await?;
        let Some((next, switch)) = end.next_timeline else {
            return Err(Error::ServerChanged("the WAL stream ended and no timeline follows".to_owned()));
        };
        let (old, durable) = (self.timeline, self.durable);
        tracing::info!(old, next, %switch, %durable, "the server follows a new timeline");
        self.state.send_modify(|state| state.remark(format!("timeline {old} ended at {switch}; {next} follows")));
        Ok(End::Timeline)
    }

    /// The connection broke: what has come may be all that is left of the server, so it is stored. And nothing may still
    /// be on its way when the next session reads what is held.
    async fn settle(&mut self) {
        let all = async {
            while let Some(stored) = self.storing.next().await {
                match stored {
                    Ok(stored) if !self.has_hole => self.stored(stored),
                    _ => self.has_hole = true,
                }
            }
            // Behind what could not be stored nothing is stored: it would continue nothing.
            if !self.has_hole && self.drain().await.is_err() {
                self.has_hole = true;
            }
        };
        if timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("storing WAL took longer than {} s after the stream broke", FAREWELL.as_secs());
        }
    }

    async fn drain(&mut self) -> Result<()> {
        self.cut_slice();
        while let Some(stored) = self.storing.next().await {
            self.has_hole = stored.is_err();
            self.stored(stored?);
        }
        Ok(())
    }
}
