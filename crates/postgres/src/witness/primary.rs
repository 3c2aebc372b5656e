//! A try at the primary: a stretch of WAL, snapshots at its end, and which commits of the one the others show.

use std::time::Duration;

use lifeboat_model::lsn::Lsn;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    Attempt, Budget,
    digests::pace,
    holder::{self, Fixed, Holder, Onlookers},
    position::{Position, of_snapshot},
};
use crate::{
    error::{Error, Result},
    replication::{Replication, SystemIdentity},
    sql,
    transport::ConnectOptions,
    wal::{Commit, WalDecoder, WalEvent},
};

/// How long before the snapshots the look at the WAL begins. A commit may stall between its record and its visibility; a
/// tenth of a second was once too short.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// The server must have written and sent its WAL up to the snapshots in this time; `wal_writer_delay` is at most 10 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// At most this many sessions wait with a snapshot.
const MOST_HOLDERS: usize = 8;
/// More commits in one look-back are not kept: 128 MiB of them.
const MOST_COMMITS: usize = 4 << 20;
/// A page of WAL, and the longest header of one.
const PAGE: u64 = 8192;
const LONG_HEADER: u64 = 40;

const INSERT: &str = "SELECT pg_current_wal_insert_lsn()::text";
const FLUSHED: &str = "SELECT pg_current_wal_flush_lsn()::text";

pub(super) async fn attempt(primary: &ConnectOptions, databases: &[String], budget: &Budget) -> Result<Attempt> {
    let control = sql::connect(primary, databases.first().map_or("postgres", String::as_str)).await?;
    let mut replication = Replication::connect(primary).await?;
    let identity = replication.identify_system().await?;
    let segment_size = replication.wal_segment_size().await?;
    // Before the WAL that is looked at, since the position may be at its very beginning.
    let mut onlookers = Onlookers::begin(primary, databases, pace(budget, None)).await?;
    let begin = holder::lsn(&control, INSERT).await?;
    // The server refuses to begin beyond what it has flushed.
    let flushed = holder::lsn(&control, FLUSHED).await?;
    let watched = Watched::start(replication, identity.timeline, begin, flushed, segment_size).await?;
    let mut rounds = Vec::new();
    for _ in 0..rounds_of(databases.len()) {
        rounds.push(holder::prepare(primary, databases).await?);
    }
    tokio::time::sleep(LOOK_BACK).await;
    onlookers.look_again().await?;
    let mut held = Vec::with_capacity(rounds.len());
    for round in rounds {
        held.push(holder::open(round).await?);
    }
    let end = holder::lsn(&control, INSERT).await?;
    let Some(commits) = watched.until(end, primary).await? else {
        return Ok(Attempt::Inexact(format!("more than {MOST_COMMITS} commits within {} s", LOOK_BACK.as_secs())));
    };
    match choose(held, &commits, end) {
        Ok((lsn, mut holders)) => {
            onlookers.end(&mut holders).await?;
            let SystemIdentity { system_id, timeline, .. } = identity;
            Ok(Attempt::Fixed(Fixed { system_id, timeline, lsn, holders }))
        }
        Err(why) => Ok(Attempt::Inexact(why)),
    }
}

/// One database needs one snapshot; of several, the snapshots are rarely at the same position on a busy server.
fn rounds_of(databases: usize) -> usize {
    if databases <= 1 { 1 } else { (MOST_HOLDERS / databases).max(1) }
}

/// The first round in which all snapshots have one exact position; the others are let go.
fn choose(rounds: Vec<Vec<Holder>>, commits: &[Commit], end: Lsn) -> std::result::Result<(Lsn, Vec<Holder>), String> {
    let mut why = String::new();
    for holders in rounds {
        let positions = holders.iter().map(|holder| of_snapshot(&holder.snapshot, commits, end));
        match agreed(positions) {
            Ok(lsn) => return Ok((lsn, holders)),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

fn agreed(positions: impl Iterator<Item = Position>) -> std::result::Result<Lsn, String> {
    let mut agreed = None;
    for position in positions {
        match (position, agreed) {
            (Position::None { hidden, shown }, _) => {
                return Err(format!("the commit at {hidden} is hidden, and the later one at {shown} is visible"));
            }
            (Position::At(lsn), Some(other)) if lsn != other => {
                return Err(format!("two databases' snapshots are at {other} and {lsn}"));
            }
            (Position::At(lsn), _) => agreed = Some(lsn),
        }
    }
    agreed.ok_or_else(|| "no database".to_owned())
}

/// The commits of the WAL as it is written. The task ends with the sender.
struct Watched {
    end: watch::Sender<Option<Lsn>>,
    task: JoinHandle<Result<Option<Vec<Commit>>>>,
}

impl Watched {
    /// No slot is needed: the WAL of the last second is there, but for two checkpoints within it, and then the server says so.
    async fn start(
        replication: Replication,
        timeline: u32,
        begin: Lsn,
        flushed: Lsn,
        segment_size: u64,
    ) -> Result<Watched> {
        let first = begin.min(flushed);
        let first = Lsn(first.0 - first.0 % PAGE);
        let mut stream = replication.start_wal(first, timeline, None).await?;
        let mut decoder = WalDecoder::new(first, segment_size);
        let (end, mut ends) = watch::channel(None::<Lsn>);
        let task = tokio::spawn(async move {
            let mut commits = Vec::new();
            loop {
                if ends.borrow_and_update().is_some_and(|end| decoder.position() >= reached(end)) {
                    return Ok((commits.len() < MOST_COMMITS).then_some(commits));
                }
                let chunk = tokio::select! {
                    chunk = stream.next() => chunk?,
                    changed = ends.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Err(Error::Interrupted),
                    },
                };
                let Some(chunk) = chunk else {
                    let reason = "its timeline ended: it is no primary any more".to_owned();
                    let server = "the source".to_owned();
                    return Err(Error::ConnectionLost { server, during: "streaming WAL for a witness", reason });
                };
                decoder.feed(chunk.start, &chunk.bytes, &mut |event| {
                    if let WalEvent::Commit(commit) = event
                        && commit.start >= begin
                        && commits.len() < MOST_COMMITS
                    {
                        commits.push(commit);
                    }
                })?;
                stream.acknowledge(decoder.position());
            }
        });
        Ok(Watched { end, task })
    }

    /// All commits whose records end before a position; none if they were too many.
    async fn until(self, end: Lsn, source: &ConnectOptions) -> Result<Option<Vec<Commit>>> {
        let _ = self.end.send(Some(end));
        let ended = timeout(FLUSH_TIMEOUT, self.task).await.map_err(|_| Error::Timeout {
            server: source.server(),
            during: "waiting for the WAL of a witness",
            after: FLUSH_TIMEOUT,
        })?;
        ended.map_err(|error| Error::Protocol {
            server: source.server(),
            during: "reading the WAL of a witness",
            reason: error.to_string(),
        })?
    }
}

/// The next record's place may be behind a page header that is not written before the record is.
fn reached(end: Lsn) -> Lsn {
    let in_page = end.0 % PAGE;
    if in_page <= LONG_HEADER { Lsn(end.0 - in_page) } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_must_agree() {
        let at = |lsn| Position::At(Lsn(lsn));
        assert_eq!(agreed([at(7), at(7)].into_iter()), Ok(Lsn(7)));
        assert!(agreed([at(7), at(8)].into_iter()).unwrap_err().contains("0/7 and 0/8"));
        assert!(agreed([at(7), Position::None { hidden: Lsn(1), shown: Lsn(2) }].into_iter()).is_err());
        assert_eq!([1, 2, 3, 8, 20].map(rounds_of), [1, 4, 2, 1, 1]);
    }

    #[test]
    fn a_page_header_is_not_waited_for() {
        assert_eq!(reached(Lsn(8192 * 3 + 24)), Lsn(8192 * 3));
        assert_eq!(reached(Lsn(8192 * 2048 + 40)), Lsn(8192 * 2048));
        assert_eq!(reached(Lsn(8192 * 3 + 64)), Lsn(8192 * 3 + 64));
    }
}
