//! `START_REPLICATION`: the WAL of one timeline, as a stream of chunks.
//!
//! A task of its own owns the connection, so that the server hears from us even while the receiver is busy storing what
//! came before: otherwise it would close the connection after `wal_sender_timeout`. The task reads on only while there is
//! room in a short queue; what is not read waits at the server.
//!
//! A connection that nobody reads must not be kept for long, though. A server that wants to give up the slot, because it
//! keeps too much WAL, first ends its WAL sender; and a sender that cannot write its last words never ends, while the
//! server's checkpoints wait for it (seen on 15): the disk would fill in spite of `max_slot_wal_keep_size`. Nor may
//! a shutdown wait for ever for storage that is away. So in both cases the stream gives up its connection in time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use lifeboat_model::lsn::Lsn;
use postgres_protocol::message::{
    backend::Message,
    frontend::{self, CopyData},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    connection::{Backend, columns},
    error::{Error, Result, ServerError},
    replication::{Replication, text},
};

const DURING: &str = "streaming WAL";
/// Chunks that wait for the receiver: at most 16 × 128 KiB.
const QUEUE: usize = 16;
/// How often the server hears of us at least; oftener where its own limit (`wal_sender_timeout`) is below 20 s.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
const MIN_STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// A server that sends no WAL is asked for a sign of life with each status, and gives it at once.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a receiver may take nothing, or acknowledge nothing while the server waits for it to shut down, unless it
/// asks for more.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest wait for the first answer and for the farewell.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// PostgreSQL counts microseconds from 2000-01-01.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// A run of WAL as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalChunk {
    /// Position of the first byte.
    pub start: Lsn,
    /// The bytes: a slice of a receive buffer.
    pub bytes: Bytes,
    /// Up to where the server has WAL to send.
    pub server_end: Lsn,
}

impl WalChunk {
    /// The position behind the last byte.
    pub fn end(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }
}

/// How a stream ended.
#[derive(Debug)]
pub struct WalEnd {
    /// The session, for the next command.
    pub replication: Replication,
    /// The timeline that follows and where it begins, if the streamed one is over.
    pub next_timeline: Option<(u32, Lsn)>,
}

/// What the receiver wants; a change wakes the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    flushed: Lsn,
    stop: bool,
    patience: Duration,
}

/// A running stream. Dropping it closes the connection; [`WalStream::stop`] ends it in good order.
pub struct WalStream {
    chunks: mpsc::Receiver<WalChunk>,
    wish: watch::Sender<Wish>,
    requests: watch::Receiver<u64>,
    task: Option<JoinHandle<Result<WalEnd>>>,
    end: Option<WalEnd>,
    server: String,
}

impl WalStream {
    /// The command has been sent: waits for the server's answer.
    pub(crate) async fn begin(
        mut replication: Replication,
        command: String,
        start: Lsn,
        is_behind: bool,
        sender_timeout: Option<Duration>,
    ) -> Result<WalStream> {
        let server = replication.server().to_owned();
        let first = first_answer(&mut replication, &command, start).await?;
        let (sender, chunks) = mpsc::channel(QUEUE);
        let (wish, wishes) = watch::channel(Wish { flushed: Lsn(0), stop: false, patience: PATIENCE });
        let (asked, requests) = watch::channel(0);
        let task = match first {
            First::Streaming => {
                let interval = sender_timeout.map_or(STATUS_INTERVAL, |limit| limit / 4);
                let interval = interval.clamp(MIN_STATUS_INTERVAL, STATUS_INTERVAL);
                let (received, expected) = (start, start);
                let (told, waits_since) = (None, None);
                let mut task =
                    Task { replication, sender, wishes, asked, interval, received, expected, told, waits_since };
                let first = if is_behind { task.first().await? } else { None };
                tokio::spawn(task.run(first))
            }
            // The timeline ended before the position: there is nothing to stream.
            First::Ended(next_timeline) => tokio::spawn(async move { Ok(WalEnd { replication, next_timeline }) }),
        };
        Ok(WalStream { chunks, wish, requests, task: Some(task), end: None, server })
    }

    /// The next chunk; `None` when the timeline is over (then [`WalStream::stop`] tells the next one). Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Result<Option<WalChunk>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        self.join().await?;
        Ok(None)
    }

    /// Tells the server that everything before this position is safe: it may recycle that WAL. Never goes back.
    pub fn acknowledge(&self, flushed: Lsn) {
        self.wish.send_if_modified(|wish| {
            let is_news = flushed > wish.flushed;
            wish.flushed = wish.flushed.max(flushed);
            is_news
        });
    }

    /// How long the stream may stand still before it gives up its connection ([`Error::ReceiverStalled`]); 30 seconds unless
    /// this is called. The longer, the longer the server's checkpoints or its shutdown may wait for a receiver that is
    /// stuck; what cannot go on over a new connection has to ask for more.
    pub fn give_up_after(&self, patience: Duration) {
        self.wish.send_modify(|wish| wish.patience = patience);
    }

    /// Changes when the server asks how far we are, though it has heard of us lately: then it is most likely shutting
    /// down, and stays up until all that it has sent is acknowledged or the stream is dropped. So what waits should be
    /// made safe at once.
    pub fn requests(&self) -> watch::Receiver<u64> {
        self.requests.clone()
    }

    /// Sends the last acknowledgement and ends the stream. Chunks that have not been taken are dropped.
    pub async fn stop(mut self) -> Result<WalEnd> {
        self.wish.send_modify(|wish| wish.stop = true);
        while self.chunks.recv().await.is_some() {}
        self.join().await?;
        self.end.take().ok_or_else(|| self.broken("it has ended before"))
    }

    async fn join(&mut self) -> Result<()> {
        let Some(task) = self.task.as_mut() else {
            return if self.end.is_some() { Ok(()) } else { Err(self.broken("it has ended before")) };
        };
        let ended = task.await;
        self.task = None;
        self.end = Some(ended.map_err(|error| self.broken(&error.to_string()))??);
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        Error::ConnectionLost { server: self.server.clone(), during: DURING, reason: reason.to_owned() }
    }
}

impl Drop for WalStream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

enum First {
    Streaming,
    Ended(Option<(u32, Lsn)>),
}

async fn first_answer(replication: &mut Replication, command: &str, start: Lsn) -> Result<First> {
    let server = replication.server().to_owned();
    let connection = replication.connection();
    loop {
        match connection.read_within(TURN_TIMEOUT, "starting to stream WAL").await? {
            Backend::CopyBoth => return Ok(First::Streaming),
            Backend::Notice(_) => {}
            Backend::Error(cause) => return Err(refused(&server, command, start, cause)),
            Backend::Other(Message::RowDescription(_)) => {
                return Ok(First::Ended(read_next_timeline(replication).await?));
            }
            _ => return Err(connection.unexpected("starting to stream WAL", "no stream")),
        }
    }
}

fn refused(server: &str, command: &str, start: Lsn, cause: ServerError) -> Error {
    let server = server.to_owned();
    // 58P01: requested WAL segment has already been removed.
    if cause.code == "58P01" || is_invalidation(&cause) {
        return Error::WalRemoved { server, start, cause: Box::new(cause) };
    }
    Error::of_statement(&server, command, cause)
}

/// From 18 on a slot that was given up refuses to be used; before, the server looks for the WAL all the same.
fn is_invalidation(cause: &ServerError) -> bool {
    const NOT_IN_PREREQUISITE_STATE: &str = "55000";
    cause.code == NOT_IN_PREREQUISITE_STATE && cause.routine.as_deref() == Some("ReplicationSlotAcquire")
}

/// After the copy: a row with the next timeline if this one is over, then `ReadyForQuery`.
async fn read_next_timeline(replication: &mut Replication) -> Result<Option<(u32, Lsn)>> {
    let mut next_timeline = None;
    let server = replication.server().to_owned();
    let connection = replication.connection();
    loop {
        match connection.read_within(TURN_TIMEOUT, "ending a WAL stream").await? {
            Backend::Other(Message::DataRow(row)) => {
                let row = columns(&row).map_err(|error| connection.garbled(DURING, &error))?;
                let parsed = || Some((text(&row, 0)?.parse().ok()?, text(&row, 1)?.parse().ok()?));
                next_timeline = Some(parsed().ok_or_else(|| connection.unexpected(DURING, "no next timeline"))?);
            }
            Backend::Other(Message::ReadyForQuery(_)) => return Ok(next_timeline),
            Backend::Error(cause) => return Err(Error::of_statement(&server, "START_REPLICATION", cause)),
            // WAL that was on its way when we said that we have enough.
            Backend::CopyData(_) | Backend::Notice(_) | Backend::Other(_) => {}
            Backend::CopyBoth => return Err(connection.unexpected(DURING, "a second stream")),
        }
    }
}

/// The owner of the connection while it streams.
struct Task {
    replication: Replication,
    sender: mpsc::Sender<WalChunk>,
    wishes: watch::Receiver<Wish>,
    /// Counts how often the server has asked for our position.
    asked: watch::Sender<u64>,
    /// Between two status updates.
    interval: Duration,
    /// Up to here WAL was handed on.
    received: Lsn,
    /// The position of the next chunk.
    expected: Lsn,
    /// The last flush position that the server was told.
    told: Option<Lsn>,
    /// Since when the server waits for an acknowledgement of all that it has sent.
    waits_since: Option<Instant>,
}

enum Turn {
    Message(Box<Result<Backend>>),
    Tick,
    Wish,
    ReceiverGone,
}

impl Task {
    /// The first message of a server that has something to send: WAL, or that it is not there any more, which the server
    /// sees only after it has agreed to stream.
    async fn first(&mut self) -> Result<Option<Backend>> {
        match self.replication.connection().read_within(TURN_TIMEOUT, DURING).await {
            Ok(Backend::Error(cause)) => {
                Err(refused(self.replication.server(), "START_REPLICATION", self.expected, cause))
            }
            Ok(message) => Ok(Some(message)),
            // Slow is not dead: the stream has its own patience.
            Err(Error::Timeout { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run(mut self, first: Option<Backend>) -> Result<WalEnd> {
        if let Some(first) = first {
            // There is room: nothing was sent before.
            if self.take(Ok(first)).await? {
                return self.end(false).await;
            }
        }
        let mut heard = Instant::now();
        let mut handed_on = Instant::now();
        let mut next_status = Instant::now() + self.interval;
        // Ends with the last read when the server closes the stream.
        loop {
            let turn = {
                let room = self.sender.clone();
                let connection = self.replication.connection();
                let message = async {
                    // Room first: what has been read must be handed on.
                    match room.reserve().await {
                        Ok(_) => Some(connection.read(DURING).await),
                        Err(_) => None,
                    }
                };
                tokio::select! {
                    biased;
                    changed = self.wishes.changed() => if changed.is_ok() { Turn::Wish } else { Turn::ReceiverGone },
                    () = sleep_until(next_status) => Turn::Tick,
                    message = message => message.map_or(Turn::ReceiverGone, |message| Turn::Message(Box::new(message))),
                }
            };
            match turn {
                Turn::ReceiverGone => return Err(self.replication.connection().lost(DURING, "nobody listens".into())),
                Turn::Wish => {
                    if self.wishes.borrow_and_update().stop {
                        return self.end(true).await;
                    }
                    self.send_status(false).await?;
                    next_status = Instant::now() + self.interval;
                }
                Turn::Tick => {
                    let has_room = self.sender.capacity() > 0;
                    if !has_room {
                        // Not the server is silent: we do not listen.
                        heard = Instant::now();
                    }
                    self.check_patience(if has_room { None } else { Some(handed_on) })?;
                    if has_room && heard.elapsed() > SILENCE {
                        let server = self.replication.server().to_owned();
                        return Err(Error::Timeout { server, during: DURING, after: SILENCE });
                    }
                    // Ask for an answer only if there is doubt whether the server is alive.
                    self.send_status(has_room && heard.elapsed() >= self.interval).await?;
                    next_status = Instant::now() + self.interval;
                }
                Turn::Message(message) => {
                    heard = Instant::now();
                    handed_on = heard;
                    if self.take(*message).await? {
                        return self.end(false).await;
                    }
                }
            }
        }
    }

    /// Gives up where the server would wait for us for too long.
    fn check_patience(&self, full_since: Option<Instant>) -> Result<()> {
        let Wish { flushed, patience: after, .. } = *self.wishes.borrow();
        let is_over = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= after);
        if is_over(full_since) || is_over(self.waits_since.filter(|_| flushed < self.received)) {
            return Err(Error::ReceiverStalled { server: self.replication.server().to_owned(), after });
        }
        Ok(())
    }

    /// Deals with one message; `true` when the server has ended the stream.
    async fn take(&mut self, message: Result<Backend>) -> Result<bool> {
        match message? {
            Backend::CopyData(bytes) => self.copy_data(bytes).await.map(|()| false),
            Backend::Other(Message::CopyDone) => Ok(true),
            Backend::Notice(notice) => {
                tracing::debug!(server = self.replication.server(), %notice, "WAL stream");
                Ok(false)
            }
            Backend::Error(cause) => Err(refused(self.replication.server(), "START_REPLICATION", self.expected, cause)),
            // The server shuts down: it has sent everything.
            Backend::Other(Message::CommandComplete(_)) => {
                Err(Error::ServerStopped { server: self.replication.server().to_owned(), end: self.expected })
            }
            _ => Err(self.replication.connection().unexpected(DURING, "a message out of order")),
        }
    }

    async fn copy_data(&mut self, mut bytes: Bytes) -> Result<()> {
        let too_short =
            |task: &mut Task| task.replication.connection().unexpected(DURING, "a message that is too short");
        if bytes.is_empty() {
            return Err(too_short(self));
        }
        match bytes.get_u8() {
            b'w' if bytes.len() >= 24 => {
                let (start, server_end) = (Lsn(bytes.get_u64()), Lsn(bytes.get_u64()));
                bytes.advance(8); // the server's clock
                if start != self.expected {
                    return Err(Error::WalGap { expected: self.expected, got: start });
                }
                let chunk = WalChunk { start, bytes, server_end };
                self.expected = chunk.end();
                self.received = self.expected;
                // There is room: the caller waited for it, and nobody else sends.
                self.sender.send(chunk).await.map_err(|_| Error::ConnectionLost {
                    server: self.replication.server().to_owned(),
                    during: DURING,
                    reason: "nobody listens".into(),
                })
            }
            b'k' if bytes.len() >= 17 => {
                bytes.advance(16);
                if bytes.get_u8() == 0 {
                    return Ok(());
                }
                self.asked.send_modify(|count| *count += 1);
                // To a server that never heard of a flushed position, having received is enough.
                if self.told.is_some_and(|told| told > Lsn(0)) {
                    self.waits_since.get_or_insert_with(Instant::now);
                }
                self.send_status(false).await
            }
            b'w' | b'k' => Err(too_short(self)),
            kind => {
                let reason = format!("a message of unknown kind {kind:#04x}");
                Err(self.replication.connection().unexpected(DURING, &reason))
            }
        }
    }

    /// Standby status update: written is what was handed on, flushed what was acknowledged.
    async fn send_status(&mut self, ask_for_reply: bool) -> Result<()> {
        let flushed = self.wishes.borrow().flushed;
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        status.put_u64(self.received.0.max(flushed.0));
        status.put_u64(flushed.0);
        if flushed >= self.received {
            self.waits_since = None;
        }
        status.put_u64(0);
        status.put_i64(now_in_postgres_microseconds());
        status.put_u8(u8::from(ask_for_reply));
        let mut buf = BytesMut::new();
        let message =
            CopyData::new(status.freeze()).map_err(|error| self.replication.connection().garbled(DURING, &error))?;
        message.write(&mut buf);
        self.told = Some(flushed);
        match timeout(TURN_TIMEOUT, self.replication.connection().write(&buf, DURING)).await {
            Ok(Err(lost @ Error::ConnectionLost { .. })) => Err(self.farewell(lost).await),
            Ok(written) => written,
            Err(_) => {
                let server = self.replication.server().to_owned();
                Err(Error::Timeout { server, during: DURING, after: TURN_TIMEOUT })
            }
        }
    }

    /// What the server said before it went, where we notice first that it does not hear us any more: one that is shut down has told
    /// that it sent everything, and one that ended us has told why.
    async fn farewell(&mut self, lost: Error) -> Error {
        loop {
            match self.replication.connection().read_within(TURN_TIMEOUT, DURING).await {
                Ok(Backend::Other(Message::CommandComplete(_))) => {
                    return Error::ServerStopped { server: self.replication.server().to_owned(), end: self.expected };
                }
                Ok(Backend::Error(cause)) => {
                    return refused(self.replication.server(), "START_REPLICATION", self.expected, cause);
                }
                Ok(Backend::Notice(_)) => {}
                Ok(Backend::CopyData(bytes)) if bytes.first() == Some(&b'k') => {}
                // Nothing more; or WAL, which comes again over the next connection.
                Ok(_) | Err(_) => return lost,
            }
        }
    }

    /// Ends the copy on our side, and reads what the server has to say about it.
    async fn end(mut self, is_our_wish: bool) -> Result<WalEnd> {
        let flushed = self.wishes.borrow().flushed;
        if self.told != Some(flushed) {
            self.send_status(false).await?;
        }
        let mut buf = BytesMut::new();
        frontend::copy_done(&mut buf);
        self.replication.connection().write(&buf, DURING).await?;
        tracing::debug!(server = self.replication.server(), is_our_wish, "WAL stream ends");
        let next_timeline = read_next_timeline(&mut self.replication).await?;
        Ok(WalEnd { replication: self.replication, next_timeline })
    }
}

/// Only for `pg_stat_replication.reply_time`; nothing is decided by it.
fn now_in_postgres_microseconds() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.saturating_sub(POSTGRES_EPOCH).as_micros()).unwrap_or(0)
}
