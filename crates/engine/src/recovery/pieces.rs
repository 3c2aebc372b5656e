//! Reads the log of a plan, wherever it is held. What is damaged in one object is taken from another where there is one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{
    reader::{Damage, Reader, WalSlice},
    seal::Identity,
    wal::{WalArchive, WalObject, WalReader},
};
use lifeboat_store::Key;

use crate::{error::Result, restore::is_damage};

/// Where a piece lies.
#[derive(Debug, Clone)]
enum Source {
    Point(WalSlice),
    Archive(WalObject),
}

#[derive(Debug, Clone)]
struct Piece {
    timeline: u32,
    first: Lsn,
    last: Lsn,
    source: Source,
}

impl Piece {
    fn key(&self) -> &Key {
        match &self.source {
            Source::Point(slice) => &slice.key,
            Source::Archive(object) => &object.key,
        }
    }
}

/// The log of a plan.
pub struct Pieces {
    /// By timeline and first position.
    pieces: Vec<Piece>,
    /// The longest piece: how far before a position one may begin that covers it.
    longest: u64,
    point: Arc<Reader>,
    archive: WalReader,
    broken: Mutex<Vec<(Key, String)>>,
    replaced: Mutex<Vec<String>>,
}

impl Pieces {
    /// Of the point's own log and the archive's objects.
    pub fn new(
        point: Arc<Reader>,
        archive: &WalArchive,
        objects: &[WalObject],
        trusted: &[PublicKey],
        identities: &[Identity],
    ) -> Pieces {
        let own = point.wal_slices().into_iter().map(|slice| Piece {
            timeline: slice.timeline,
            first: slice.first,
            last: slice.last,
            source: Source::Point(slice),
        });
        let archived = objects.iter().map(|object| Piece {
            timeline: object.timeline,
            first: object.first,
            last: object.last,
            source: Source::Archive(object.clone()),
        });
        let mut pieces: Vec<Piece> = own.chain(archived).collect();
        pieces.sort_by_key(|piece| (piece.timeline, piece.first, piece.last));
        let longest = pieces.iter().map(|piece| piece.last.0 - piece.first.0).max().unwrap_or_default();
        let archive = archive.reader(trusted.to_vec(), identities.to_vec());
        Pieces { pieces, longest, point, archive, broken: Mutex::default(), replaced: Mutex::default() }
    }

    /// The bytes from `first` on, up to `last` at most and one at least; or the damage that leaves none.
    pub async fn read(&self, timeline: u32, first: Lsn, last: Lsn) -> Result<std::result::Result<Bytes, Damage>> {
        for piece in self.covering(timeline, first) {
            match self.open(piece).await {
                Ok(bytes) => {
                    let skip = usize::try_from(first.0 - piece.first.0).unwrap_or(usize::MAX).min(bytes.len());
                    let wanted = usize::try_from(last.0 - first.0).unwrap_or(usize::MAX);
                    let bytes = bytes.slice(skip..);
                    let len = bytes.len().min(wanted);
                    if len > 0 {
                        return Ok(Ok(bytes.slice(..len)));
                    }
                }
                Err(error) if is_about_the_object(&error) => self.note(piece.key(), &error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Err(self.damage(timeline, first)))
    }

    /// Damage that was found, whether or not something else could be read instead.
    pub fn broken(&self) -> Vec<String> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        broken.iter().map(|(_, why)| why.clone()).chain(replaced.iter().cloned()).collect()
    }

    async fn open(&self, piece: &Piece) -> lifeboat_repo::Result<Bytes> {
        match &piece.source {
            Source::Point(slice) => self.point.read_wal(slice).await,
            Source::Archive(object) => {
                let read = self.archive.read_or_replace(object).await?;
                if let Some(why) = read.replaced {
                    tracing::debug!(object = %object.key, why, "WAL that was replaced by a copy");
                    self.replaced.lock().unwrap_or_else(PoisonError::into_inner).push(why);
                }
                Ok(read.bytes)
            }
        }
    }

    /// Pieces that hold this position, the one that reaches farthest first; known damage is not tried again.
    fn covering(&self, timeline: u32, position: Lsn) -> Vec<&Piece> {
        let earliest = Lsn(position.0.saturating_sub(self.longest));
        let begin = self.pieces.partition_point(|piece| (piece.timeline, piece.first) < (timeline, earliest));
        let end = self.pieces.partition_point(|piece| (piece.timeline, piece.first) <= (timeline, position));
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<&Piece> = self.pieces[begin..end]
            .iter()
            .filter(|piece| piece.last > position && broken.iter().all(|(key, _)| key != piece.key()))
            .collect();
        found.sort_by_key(|piece| std::cmp::Reverse(piece.last));
        found
    }

    fn note(&self, key: &Key, why: &str) {
        tracing::debug!(%key, why, "WAL that cannot be used");
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push((key.clone(), why.to_owned()));
    }

    fn damage(&self, timeline: u32, position: Lsn) -> Damage {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = self.pieces.iter().filter(|piece| piece.timeline == timeline);
        let hit = hit.filter(|piece| piece.first <= position && piece.last > position);
        let known = hit.filter_map(|piece| broken.iter().find(|(key, _)| key == piece.key())).next();
        let fallback = self.pieces.first().map(|piece| piece.key().clone());
        let (object, reason) = match (known, fallback) {
            (Some((key, why)), _) => (key.clone(), why.clone()),
            (None, Some(key)) => (key, format!("nothing holds the log at {position} of timeline {timeline}")),
            (None, None) => (
                Key::new("wal").expect("a fixed valid key"),
                format!("nothing holds the log at {position} of timeline {timeline}"),
            ),
        };
        let files = vec![format!("the database from {position} on: replay cannot go further")];
        Damage { object, reason, files, file_count: 1 }
    }
}

/// Whether the same bytes may be read from elsewhere.
fn is_about_the_object(error: &lifeboat_repo::Error) -> bool {
    matches!(error, lifeboat_repo::Error::Untrusted { .. }) || is_damage(error)
}
