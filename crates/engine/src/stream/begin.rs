//! Where a stream goes on: read from the repository and from the server's slot, never from memory of ours.
//!
//! A stream begins at the start of a segment, so that the segment can be stored whole when it ends; what the repository
//! holds of it already is not stored again. The server still has it: a slot keeps the whole segment that its position
//! lies in.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{ConnectOptions, Error as PostgresError, Replication, WalStream, slot, sql, timeline};
use lifeboat_repo::{
    document::{DocumentKind, Position},
    wal::{WalListing, WalObjectKind, WalRun, segment_object_size},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Gap, State, Streamer};
use crate::error::{Error, Result};

/// How long a server may take to let go of a slot after it has refused a stream.
const LETS_GO: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// Headers that are verified at the same time.
const HEADS: usize = 16;

/// What is kept of a timeline when a stream begins to follow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineDetails {
    /// The history file (`0000000N.history`); timeline 1 has none.
    pub history: Option<String>,
    /// Bytes in a WAL segment file.
    pub segment_size: u64,
    /// `server_version_num`.
    pub server_version: u32,
}

/// A stream that has begun.
pub(super) struct Begun {
    pub stream: WalStream,
    pub system_id: u64,
    pub timeline: u32,
    pub segment_size: u64,
    /// Where the stream begins: the start of a unit.
    pub start: Lsn,
    /// Up to here everything is stored.
    pub known: Lsn,
    /// Up to where the server had WAL.
    pub server_end: Lsn,
}

/// What the repository holds of the timeline that is to be followed.
struct Held {
    timeline: u32,
    /// The start of the stream, and up to where it is stored; none where nothing is.
    run: Option<(Lsn, Lsn)>,
    /// Whether WAL of this timeline is stored: then so is its history.
    recorded: bool,
}

pub(super) async fn begin(streamer: &Streamer, state: &watch::Sender<State>) -> Result<Begun> {
    let mut replication = Replication::connect(&streamer.connect).await?;
    let identity = replication.identify_system().await?;
    let segment_size = replication.wal_segment_size().await?;
    let (restart, is_new) = ensure_slot(streamer, &mut replication, state).await?;
    let server =
        Server { system_id: identity.system_id, timeline: identity.timeline, segment_size, flush: identity.flush };
    let held = held(streamer, &mut replication, &server, (restart, is_new)).await?;
    let fresh = restart.segment_start(segment_size);
    let (start, known) = held.run.unwrap_or((fresh, fresh));
    let version = replication.server_version();
    let attempt = replication.start_wal(start, held.timeline, Some(&streamer.slot)).await;
    let (stream, timeline, start, known, recorded) = match attempt {
        Ok(stream) => (stream, held.timeline, start, known, held.recorded),
        Err(PostgresError::WalRemoved { .. }) if held.run.is_some() => {
            // The server has forgotten what should have come next.
            tell_gap(state, Gap { timeline: held.timeline, from: known, to: fresh });
            (start_anew(streamer, fresh, server.timeline).await?, server.timeline, fresh, fresh, false)
        }
        Err(error) if is_in_use(&error) => {
            let (slot, server) = (streamer.slot.clone(), streamer.connect.server());
            return Err(Error::SlotInUse { slot, server });
        }
        Err(error) => return Err(error.into()),
    };
    let server_end = identity.flush.max(start);
    let begun = Begun { stream, system_id: server.system_id, timeline, segment_size, start, known, server_end };
    if !recorded {
        keep_timeline(streamer, &begun, version).await?;
    }
    Ok(begun)
}

/// The server lets go of a slot a moment after it has refused a stream through it.
async fn start_anew(streamer: &Streamer, start: Lsn, timeline: u32) -> Result<WalStream> {
    let deadline = Instant::now() + LETS_GO;
    loop {
        let replication = Replication::connect(&streamer.connect).await?;
        match replication.start_wal(start, timeline, Some(&streamer.slot)).await {
            Err(error) if is_in_use(&error) && Instant::now() < deadline => sleep(POLL).await,
            started => return Ok(started?),
        }
    }
}

/// SQLSTATE `object_in_use`.
fn is_in_use(error: &PostgresError) -> bool {
    error.server_error().is_some_and(|cause| cause.code == "55006")
}

fn tell_gap(state: &watch::Sender<State>, gap: Gap) {
    state.send_modify(|state| {
        state.remark(format!(
            "the server has removed WAL from {} on that was not stored yet; the stream goes on at {}: nothing in between \
             can be restored, make a new backup now",
            gap.from, gap.to
        ));
        state.gaps.push(gap);
    });
}

struct Server {
    system_id: u64,
    timeline: u32,
    segment_size: u64,
    flush: Lsn,
}

/// Makes the slot unless it is there. Gives where it keeps WAL from, and whether it is new.
async fn ensure_slot(
    streamer: &Streamer,
    replication: &mut Replication,
    state: &watch::Sender<State>,
) -> Result<(Lsn, bool)> {
    let name = &streamer.slot;
    let server = streamer.connect.server();
    let client = sql::connect(&streamer.connect, "postgres").await?;
    let mut is_new = false;
    for _ in 0..2 {
        match slot::look(&client, name).await? {
            Some(found) if !found.physical => return Err(Error::SlotIsLogical { slot: name.clone(), server }),
            Some(found) if found.active => return Err(Error::SlotInUse { slot: name.clone(), server }),
            Some(found) if found.is_lost() => {
                state.send_modify(|state| {
                    state.remark(format!(
                        "slot \"{name}\" had fallen behind max_slot_wal_keep_size and was invalidated; it is made anew"
                    ));
                });
                replication.drop_slot(name).await?;
            }
            Some(found) => match found.restart {
                Some(restart) => return Ok((restart, is_new)),
                // Made by somebody without RESERVE_WAL: it keeps nothing until it is used.
                None => replication.drop_slot(name).await?,
            },
            None => {}
        }
        replication.create_physical_slot(name, false).await?;
        is_new = true;
    }
    match slot::look(&client, name).await?.and_then(|found| found.restart) {
        Some(restart) => Ok((restart, is_new)),
        None => Err(Error::SlotInUse { slot: name.clone(), server }),
    }
}

/// What is stored of the timeline to follow: the server's own, or an earlier one of which the rest is still to come.
async fn held(
    streamer: &Streamer,
    replication: &mut Replication,
    server: &Server,
    (restart, is_new): (Lsn, bool),
) -> Result<Held> {
    let archive = streamer.repo.wal_archive();
    let streams = archive.streams().await?.into_iter().filter(|(system_id, _)| *system_id == server.system_id);
    let followed: Vec<u32> = streams.map(|(_, timeline)| timeline).filter(|one| *one <= server.timeline).collect();
    let begins = if server.timeline > 1 { history(replication, server.timeline).await? } else { Vec::new() };
    // A new timeline's first segment begins with a copy of the old one's bytes. A stream that did not follow the old one
    // does not continue it.
    let from_switch = |timeline: u32| {
        let parent = begins.iter().rfind(|switch| switch.timeline < timeline)?;
        let start = parent.end.segment_start(server.segment_size);
        followed.contains(&parent.timeline).then_some((start, start))
    };
    let own = Held { timeline: server.timeline, run: from_switch(server.timeline), recorded: false };
    match followed.iter().copied().max() {
        None => Ok(own),
        Some(timeline) if timeline == server.timeline => {
            // Everything before what was acknowledged is stored: there is no need to list it. One unit more, so that a
            // position at the very end of a segment finds what it is the end of.
            let unit = segment_object_size(server.segment_size);
            let from = if is_new { Lsn(0) } else { Lsn(restart.segment_start(unit).0.saturating_sub(unit)) };
            let mut listing = archive.list(server.system_id, timeline, from).await?;
            if listing.runs().is_empty() && from > Lsn(0) {
                // Somebody else moved the slot: then there is a gap, and it must be seen.
                listing = archive.list(server.system_id, timeline, Lsn(0)).await?;
            }
            let Some(run) = run_to_continue(&listing, restart) else {
                return Ok(Held { timeline, run: from_switch(timeline), recorded: false });
            };
            same_timeline(streamer, replication, server).await?;
            let known = verified(streamer, &run, restart).await?.min(server.flush);
            Ok(Held { timeline, run: Some(begin_of(&run, known, unit)), recorded: true })
        }
        Some(timeline) => {
            let Some(switch) = begins.iter().find(|switch| switch.timeline == timeline) else { return Ok(own) };
            let listing = archive.list(server.system_id, timeline, Lsn(0)).await?;
            let Some(run) = run_to_continue(&listing, restart) else { return Ok(Held { run: None, ..own }) };
            match verified(streamer, &run, restart).await? {
                known if known >= switch.end => {
                    let next = begins.iter().find(|later| later.timeline > timeline);
                    let next = next.map_or(server.timeline, |later| later.timeline);
                    let start = switch.end.segment_start(server.segment_size);
                    Ok(Held { timeline: next, run: Some((start, start)), recorded: false })
                }
                known => {
                    let unit = segment_object_size(server.segment_size);
                    Ok(Held { timeline, run: Some(begin_of(&run, known, unit)), recorded: true })
                }
            }
        }
    }
}

/// The run that holds what the server was last told to be safe. A later one, behind a hole, continues nothing: the server
/// still has what is missing in between.
pub(super) fn run_to_continue(listing: &WalListing, restart: Lsn) -> Option<WalRun> {
    let mut runs = listing.runs();
    let at = runs.iter().position(|run| run.last >= restart).unwrap_or(runs.len().saturating_sub(1));
    let run = (at < runs.len()).then(|| runs.swap_remove(at))?;
    // It begins behind a hole itself: nothing of it is next.
    (run.first <= restart || run.last < restart).then_some(run)
}

/// Up to where a run can be relied on. A name is no proof: everything that the server would be told to forget is verified.
async fn verified(streamer: &Streamer, run: &WalRun, restart: Lsn) -> Result<Lsn> {
    let heads = run.objects.iter().filter(|object| object.last > restart).map(|object| {
        let (archive, trusted, object) = (streamer.repo.wal_archive(), streamer.trusted.clone(), object.clone());
        async move { (object.first, object.last, archive.head(&object, &trusted).await.map(drop)) }.boxed()
    });
    let heads: Vec<_> = heads.collect();
    let mut heads = futures::stream::iter(heads).buffered(HEADS);
    let mut reached = restart.max(run.first).min(run.last);
    while let Some((first, last, head)) = heads.next().await {
        match head {
            Ok(()) if first <= reached => reached = reached.max(last),
            Err(error) if error.is_transient() => return Err(error.into()),
            // From here on the server's own copy is stored once more.
            _ => break,
        }
    }
    Ok(reached)
}

/// Where to begin so that the last unit becomes whole, and up to where it is stored.
fn begin_of(run: &WalRun, known: Lsn, unit: u64) -> (Lsn, Lsn) {
    let segments = run.objects.iter().filter(|object| object.kind == WalObjectKind::Segment);
    let whole = segments.map(|object| object.last).filter(|last| *last <= known).max();
    let start = known.segment_start(unit);
    let before = Lsn(start.0.saturating_sub(unit));
    // All slices of the unit before are there, but not the whole: it is the next to be made.
    let incomplete = start == known && run.first <= before && whole.is_none_or(|whole| whole < start);
    (if incomplete { before } else { start }, known)
}

/// Two servers that were promoted from the same one may both call their timeline by the same number. Their logs must not
/// be mixed.
async fn same_timeline(streamer: &Streamer, replication: &mut Replication, server: &Server) -> Result<()> {
    if server.timeline <= 1 {
        return Ok(());
    }
    let (_, content) = replication.timeline_history(server.timeline).await?;
    let content = String::from_utf8_lossy(&content);
    for reference in streamer.repo.list_documents(DocumentKind::Timeline).await? {
        if (reference.position.system_id, reference.position.timeline) != (server.system_id, server.timeline) {
            continue;
        }
        let identities = std::slice::from_ref(&streamer.host);
        let stored = streamer.repo.read_document::<TimelineDetails>(&reference, &streamer.trusted, identities).await?;
        if stored.details.history.as_deref() != Some(content.as_ref()) {
            return Err(Error::TimelineTaken { timeline: server.timeline, server: streamer.connect.server() });
        }
    }
    Ok(())
}

async fn history(replication: &mut Replication, timeline: u32) -> Result<Vec<timeline::TimelineSwitch>> {
    let (_, content) = replication.timeline_history(timeline).await?;
    Ok(timeline::parse_history(&content)?)
}

/// Keeps what a restore must know of the timeline, before its first WAL.
async fn keep_timeline(streamer: &Streamer, begun: &Begun, server_version: u32) -> Result<()> {
    let history = match begun.timeline {
        0 | 1 => None,
        timeline => {
            let mut replication = Replication::connect(&streamer.connect).await?;
            let (_, content) = replication.timeline_history(timeline).await?;
            Some(String::from_utf8_lossy(&content).into_owned())
        }
    };
    let details = TimelineDetails { history, segment_size: begun.segment_size, server_version };
    let position = Position { system_id: begun.system_id, timeline: begun.timeline, lsn: begun.start };
    let now = (streamer.clock)();
    streamer.repo.put_document(DocumentKind::Timeline, position, &details, &streamer.documents, now).await?;
    Ok(())
}

/// Removes an instance's slot, so that the server keeps no WAL for it. Gives whether there was one.
pub async fn drop_slot(options: &ConnectOptions, name: &str) -> Result<bool> {
    let client = sql::connect(options, "postgres").await?;
    let Some(found) = slot::look(&client, name).await? else { return Ok(false) };
    if found.active {
        return Err(Error::SlotInUse { slot: name.to_owned(), server: options.server() });
    }
    Replication::connect(options).await?.drop_slot(name).await?;
    Ok(true)
}
