//! Damage in the log that was brought, before the server replays it.
//!
//! PostgreSQL takes a record that does not verify for the end of the log: it promotes itself without a word of what came after.
//! So neither *the server is up* nor its log tells; the check has to know up to where there was something to replay (rung 5).
//! What lies before the end of the base backup is not touched: the server could not become consistent without it, and
//! `pg_verifybackup` reads it before (rung 4).
//!
//! - **missing WAL**: from a commit on, zeros to the end of what was brought, as if its slices had never been stored.
//! - **flipped WAL**: one bit of a commit record. The record's checksum tells PostgreSQL, and nobody else.
//!
//! A commit is chosen whose loss can be told by the point: the commit it marks at its end, or the newest that is held.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_engine::recovery::{Stop, staging};
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    control::ControlData,
    wal::records::{Commit, WalDecoder, WalEvent},
};

use super::{chance::Chance, folder::Folder, nothing};
use crate::{
    error::{Error, Result},
    source::{Fetched, OwnCopy},
};

/// Segments that are looked through for commits, from the end of the base backup on.
const MOST_SEGMENTS: usize = 64;
/// A record's header, which names its length and its checksum.
const HEADER: u64 = 24;
const PIECE: usize = 1 << 20;

const NO_COMMIT: &str = "the log holds no commit behind the base backup whose loss the point could tell";

/// Zeros from a commit on.
pub(super) async fn lose(copy: &OwnCopy<'_>, chance: Chance) -> Result<String> {
    with_log(copy, chance, |log, commit, _| {
        for (files, start) in log.segments.iter().filter(|(_, start)| start.0 + log.size > commit.start.0) {
            let from = commit.start.0.saturating_sub(start.0).min(log.size);
            for file in files {
                zero(file, from, log.size)?;
            }
        }
        Ok(format!("the log from {} on, now zeros", commit.start))
    })
    .await
}

/// One bit of a commit's record, behind its header.
pub(super) async fn flip(copy: &OwnCopy<'_>, chance: Chance) -> Result<String> {
    with_log(copy, chance, |log, commit, chance| {
        // Behind the last byte there may be padding, which no checksum covers: a commit's body is longer than that.
        let place = commit.start.0 + HEADER;
        let bit = chance.below(8) as u8;
        let found = log.segments.iter().find(|(_, start)| (start.0..start.0 + log.size).contains(&place));
        let Some((files, start)) = found else { return Err(io::ErrorKind::NotFound.into()) };
        for file in files {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place - start.0)?;
            file.write_all_at(&[byte[0] ^ (1 << bit)], place - start.0)?;
        }
        Ok(format!("bit {bit} of the byte at {}, in the commit at {}", Lsn(place), commit.start))
    })
    .await
}

/// The log as it lies in the copy.
struct Log {
    size: u64,
    /// From the one in which the base backup ends: the files of a segment (the base's own, and what was brought besides), and
    /// its first position.
    segments: Vec<(Vec<File>, Lsn)>,
}

async fn with_log(
    copy: &OwnCopy<'_>,
    mut chance: Chance,
    damage: impl FnOnce(&Log, Commit, &mut Chance) -> io::Result<String> + Send + 'static,
) -> Result<String> {
    let (restored, fetched) = (copy.restored.to_owned(), copy.fetched.clone());
    let working = move || {
        let Some(from) = fetched.consistent_at else { return nothing("it is not known where the base backup ends") };
        let log = Log::open(&restored, from)?;
        let commits = log.commits(from).map_err(Error::io("cannot read the log in", &restored))?;
        // A record that lies across two pages has the header of the second in it, which is not the record's.
        let is_whole = |commit: &&Commit| commit.start.0 / 8192 == (commit.end.0 - 1) / 8192;
        let told = told(&commits, &fetched);
        let told: Vec<Commit> = told.iter().filter(is_whole).copied().collect();
        let Some(commit) = chance.one(&told).copied() else { return nothing(NO_COMMIT) };
        damage(&log, commit, &mut chance).map_err(Error::io("cannot damage the log in", &restored))
    };
    tokio::task::spawn_blocking(working).await.map_err(|error| Error::Task(error.to_string()))?
}

impl Log {
    fn open(restored: &Path, from: Lsn) -> Result<Log> {
        let folder = Folder::open(restored)?;
        let size = u64::from(ControlData::read(&restored.join("pgdata"))?.wal_segment_size);
        let places = ["pg_wal", staging::FOLDER].map(|name| Path::new("pgdata").join(name));
        let mut segments = Vec::new();
        let mut start = from.segment_start(size);
        while segments.len() < MOST_SEGMENTS {
            let mut files = Vec::new();
            for place in &places {
                if let Some(name) = newest(restored, place, start.segment(size), size)? {
                    files.push(folder.file(&place.join(name))?);
                }
            }
            if files.is_empty() {
                break;
            }
            segments.push((files, start));
            start = Lsn(start.0 + size);
        }
        Ok(Log { size, segments })
    }

    /// Commits that end behind `from`, in order, up to where the log ends.
    fn commits(&self, from: Lsn) -> io::Result<Vec<Commit>> {
        let mut commits = Vec::new();
        let mut decoder = WalDecoder::new(from, self.size);
        'segments: for (files, start) in &self.segments {
            // The last of them is what the server asks for first, and the one that holds more.
            let Some(mut file) = files.last() else { break };
            let mut position = Lsn(start.0.max(from.0));
            file.seek(SeekFrom::Start(position.0 - start.0))?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = file.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                let mut each = |event| {
                    if let WalEvent::Commit(commit) = event {
                        commits.push(commit);
                    }
                };
                // Zeros, or what the segment held before it was used again: here the log ends.
                if decoder.feed(position, &piece[..read], &mut each).is_err() {
                    break 'segments;
                }
                position = Lsn(position.0 + read as u64);
            }
        }
        Ok(commits)
    }
}

/// The file of a segment with the highest timeline: that is the one that recovery reads.
fn newest(restored: &Path, place: &Path, segment: u64, size: u64) -> Result<Option<PathBuf>> {
    let folder = restored.join(place);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
    let suffix = &lifeboat_model::lsn::segment_file_name(1, segment, size)[8..];
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("cannot read", &folder))?.file_name();
        if name.to_str().is_some_and(|name| name.len() == 24 && name.ends_with(suffix)) {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    Ok(names.pop())
}

/// Commits whose loss the drill can know of: replay is to come behind them.
fn told(commits: &[Commit], fetched: &Fetched) -> Vec<Commit> {
    let end = match (fetched.stop, fetched.mark, fetched.wal_end) {
        (Stop::Lsn(lsn), ..) => lsn,
        (_, Some(mark), _) => mark,
        (_, None, Some(end)) => end,
        (_, None, None) => return Vec::new(),
    };
    let until = match fetched.stop {
        Stop::Time(time) => Some(time),
        _ => None,
    };
    let mut newest_before: Option<Timestamp> = None;
    let mut told = Vec::new();
    for commit in commits.iter().take_while(|commit| commit.end <= end) {
        let is_lost = match fetched.newest_held {
            // Times of commits may be out of order by a little: another one with the same time would stand for it.
            Some(held) => newest_before.is_none_or(|newest| newest < held),
            None => true,
        };
        if is_lost && until.is_none_or(|until| commit.time <= until) {
            told.push(*commit);
        }
        newest_before = newest_before.max(Some(commit.time));
    }
    told
}

fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    let mut position = from;
    while position < to {
        let len = (to - position).min(PIECE as u64) as usize;
        file.write_all_at(&zeros[..len], position)?;
        position += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(start: u64, second: i64) -> Commit {
        let time = Timestamp::from_second(second).unwrap();
        Commit { start: Lsn(start), end: Lsn(start + 48), xid: 1, time, prepared: false }
    }

    fn starts(fetched: Fetched) -> Vec<u64> {
        let commits = [commit(100, 5), commit(200, 7), commit(300, 6), commit(400, 9)];
        told(&commits, &fetched).iter().map(|commit| commit.start.0).collect()
    }

    #[test]
    fn only_a_commit_that_replay_must_reach_is_lost() {
        let wal_end = Some(Lsn(1000));
        assert_eq!(starts(Fetched { wal_end, mark: Some(Lsn(248)), ..Fetched::default() }), [100, 200]);
        assert_eq!(starts(Fetched { wal_end, stop: Stop::Lsn(Lsn(347)), ..Fetched::default() }), [100, 200]);
        let held = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(starts(Fetched { wal_end, newest_held: held(9), ..Fetched::default() }), [100, 200, 300, 400]);
        assert_eq!(
            starts(Fetched { wal_end, newest_held: held(7), ..Fetched::default() }),
            [100, 200],
            "not the loss of 300"
        );
        let stop = Stop::Time(Timestamp::from_second(6).unwrap());
        assert_eq!(starts(Fetched { wal_end, stop, ..Fetched::default() }), [100, 300]);
        assert_eq!(starts(Fetched::default()), [] as [u64; 0]);
    }

    #[test]
    fn zeros_reach_to_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        zero(&file, 60, 100).unwrap();
        let mut read = [0; 100];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read[..60].iter().all(|byte| *byte == 7) && read[60..].iter().all(|byte| *byte == 0));
    }
}
