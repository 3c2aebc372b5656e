//! Which WAL the kept points need.
//!
//! A point is consistent by its own slices. The archive lets a restore go on from there, so of it everything is needed
//! that may follow on the base: the same system, the base's timeline from its start on, and every later timeline whole.
//! Which timeline branched off which, and where, is in sealed documents; prune has no keys, so all later timelines count
//! as descendants. That keeps too much after a recovery to the past, never too little.

use std::collections::{BTreeMap, VecDeque};

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};

use crate::{
    document::Position,
    error::{Error, Result},
    point::PointHeader,
    wal::{MAX_OBJECT, Named, WalArchive, WalObject, WalObjectKind},
};

/// The WAL of one point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    finished: Timestamp,
    system_id: u64,
    timeline: u32,
    start: Lsn,
    end: Lsn,
}

impl Span {
    pub fn of(header: &PointHeader) -> Option<Self> {
        let wal = header.wal.as_ref()?;
        let (system_id, timeline, start, end) = (wal.system_id, wal.timeline, wal.start, wal.end);
        Some(Self { finished: header.finished, system_id, timeline, start, end })
    }
}

/// Tells needed WAL and documents from others.
#[derive(Debug)]
pub(crate) struct WalRule {
    /// Of each system, the timeline and the position from which on WAL is needed.
    floors: BTreeMap<u64, (u32, Lsn)>,
    /// What the kept points themselves replay.
    spans: Vec<Span>,
    since: Timestamp,
}

impl WalRule {
    /// `base`: points that were finished earlier than this need only their own slices.
    pub fn new(spans: &[Span], base: Option<Timestamp>, since: Timestamp) -> Self {
        let mut floors = BTreeMap::new();
        for span in spans.iter().filter(|span| base.is_none_or(|base| span.finished >= base)) {
            let start = (span.timeline, span.start);
            let floor = floors.entry(span.system_id).or_insert(start);
            *floor = start.min(*floor);
        }
        Self { floors, spans: spans.to_vec(), since }
    }

    /// Whether an object of the archive that ends here is needed. Where no kept point has WAL, nothing can be said of any.
    pub fn needs_object(&self, system_id: u64, timeline: u32, last: Lsn, received: Timestamp) -> bool {
        let follows = |floor: &(u32, Lsn)| timeline > floor.0 || (timeline == floor.0 && last > floor.1);
        self.floors.is_empty() || received >= self.since || self.floors.get(&system_id).is_some_and(follows)
    }

    /// Whether what a document says of this position can be of use.
    pub fn needs_position(&self, position: Position, received: Timestamp) -> bool {
        let Position { system_id, timeline, lsn } = position;
        let holds = |span: &Span| {
            (span.system_id, span.timeline) == (system_id, timeline) && (span.start..=span.end).contains(&lsn)
        };
        self.needs_object(system_id, timeline, Lsn(lsn.0.saturating_add(1)), received) || self.spans.iter().any(holds)
    }

    /// Whether a kept point has WAL of this stream.
    pub fn knows_stream(&self, stream: (u64, u32)) -> bool {
        self.spans.iter().any(|span| (span.system_id, span.timeline) == stream)
    }

    /// Whether a kept point has WAL of this system.
    pub fn knows_system(&self, system_id: u64) -> bool {
        self.spans.iter().any(|span| span.system_id == system_id)
    }
}

type Names = BoxStream<'static, Result<Named>>;

/// Segments of a stream that might cover a slice; more than this of one range are not looked at, and do not count.
const CANDIDATES: usize = 16;

/// Finds out whether slices, coming in the order of their positions, are covered by good segments.
pub(crate) struct Cover {
    archive: WalArchive,
    trusted: Vec<PublicKey>,
    /// The stream whose segments are listed, and the listing.
    stream: Option<((u64, u32), Names)>,
    ahead: Option<WalObject>,
    /// Segments that may cover the next slice; each, once it was looked at so closely, with the answers.
    segments: VecDeque<(WalObject, [Option<bool>; 2])>,
}

/// How closely a segment is looked at before it counts for a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its signed header and its length: enough to let the slice's lock end.
    Head,
    /// Every byte of it: what a slice is removed for.
    Whole,
}

impl Cover {
    pub fn new(archive: WalArchive, trusted: &[PublicKey]) -> Self {
        Self { archive, trusted: trusted.to_vec(), stream: None, ahead: None, segments: VecDeque::new() }
    }

    /// Whether a needed segment holds all of this slice's range and verifies: signature, place and length, or whole.
    pub async fn supersedes(&mut self, slice: &WalObject, rule: &WalRule, proof: Proof) -> Result<bool> {
        self.advance(slice).await?;
        for (segment, looked) in &mut self.segments {
            let covers = segment.first <= slice.first && segment.last >= slice.last;
            let stays = rule.needs_object(segment.system_id, segment.timeline, segment.last, segment.modified);
            if !covers || !stays {
                continue;
            }
            let looked = &mut looked[proof as usize];
            let good = match looked {
                Some(good) => *good,
                None => *looked.insert(verifies(&self.archive, segment, &self.trusted, proof).await?),
            };
            if good {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Holds the segments that begin at or before the slice and end behind its beginning.
    async fn advance(&mut self, slice: &WalObject) -> Result<()> {
        let stream = (slice.system_id, slice.timeline);
        if self.stream.as_ref().is_none_or(|(of, _)| *of != stream) {
            let base = Lsn(slice.first.0 - slice.first.0 % MAX_OBJECT);
            let names = self.archive.names(WalObjectKind::Segment, stream, base);
            self.stream = Some((stream, names.fuse().boxed()));
            (self.ahead, self.segments) = (None, VecDeque::new());
        }
        self.segments.retain(|(segment, _)| segment.last > slice.first);
        let Some((_, names)) = &mut self.stream else { return Ok(()) };
        loop {
            let next = match self.ahead.take() {
                Some(next) => next,
                None => match names.try_next().await? {
                    Some(Ok(next)) => next,
                    Some(Err(_)) => continue,
                    None => return Ok(()),
                },
            };
            if next.first > slice.first {
                self.ahead = Some(next);
                return Ok(());
            }
            if next.last > slice.first && self.segments.len() < CANDIDATES {
                self.segments.push_back((next, [None; 2]));
            }
        }
    }
}

async fn verifies(archive: &WalArchive, segment: &WalObject, trusted: &[PublicKey], proof: Proof) -> Result<bool> {
    let looked = match proof {
        Proof::Head => archive.head(segment, trusted).await.map(drop),
        Proof::Whole => archive.verify(segment, trusted).await,
    };
    match looked {
        Ok(()) => Ok(true),
        Err(Error::Damaged { .. } | Error::Untrusted { .. } | Error::Unknown { .. }) => Ok(false),
        Err(Error::Store(lifeboat_store::Error::NotFound { .. } | lifeboat_store::Error::Damaged { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(day: i64, system_id: u64, timeline: u32, start: u64) -> Span {
        let finished = Timestamp::from_second(day * 86_400).unwrap();
        Span { finished, system_id, timeline, start: Lsn(start), end: Lsn(start + 100) }
    }

    fn rule(base: i64) -> WalRule {
        let spans = [span(1, 7, 1, 1000), span(2, 7, 1, 2000), span(3, 7, 2, 2500), span(4, 8, 1, 50)];
        let time = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        WalRule::new(&spans, Some(time(base)), time(10))
    }

    #[test]
    fn wal_from_the_base_on_is_needed_on_all_later_timelines() {
        let rule = rule(2);
        let old = Timestamp::UNIX_EPOCH;
        let needed = |system, timeline, last| rule.needs_object(system, timeline, Lsn(last), old);
        assert!(!needed(7, 1, 2000), "it ends where the base begins");
        assert!(needed(7, 1, 2001));
        assert!(needed(7, 2, 1), "a later timeline may follow on the base");
        assert!(needed(7, 3, 1));
        assert!(needed(8, 1, 51) && !needed(8, 1, 50), "another system has a base of its own");
        assert!(!needed(9, 1, 5000), "no kept point is of this system");
        assert!(rule.needs_object(9, 1, Lsn(5000), Timestamp::from_second(10 * 86_400).unwrap()), "just received");
        assert!(WalRule::new(&[], None, Timestamp::MAX).needs_object(9, 1, Lsn(1), old), "nothing is known of any");
    }

    #[test]
    fn documents_stay_with_the_wal_and_with_the_points_that_hold_their_position() {
        let (rule, old) = (rule(2), Timestamp::UNIX_EPOCH);
        let needed = |timeline, lsn| rule.needs_position(Position { system_id: 7, timeline, lsn: Lsn(lsn) }, old);
        assert!(needed(1, 2000) && needed(1, 9000) && needed(2, 1));
        assert!(needed(1, 1000) && needed(1, 1100), "the older point replays them itself");
        assert!(!needed(1, 999) && !needed(1, 1101) && !needed(1, 1999));
    }
}
