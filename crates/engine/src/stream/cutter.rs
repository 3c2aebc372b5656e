//! Cuts the WAL of one timeline into what is stored: slices while a segment fills, and the whole segment when it ends.
//!
//! The bytes of the segment that is being filled are kept until it ends, because the writer cannot read back what it has
//! sealed. The last part of a segment never goes as a slice: the whole segment follows at once and makes it durable. So a
//! busy server, which fills a segment before a slice is due, costs one object a segment, and nothing is stored twice.
//!
//! An idle server fills a segment in days, with a small slice every few seconds. Every 64th slice therefore covers the last 64,
//! and every 4096th the last 4096: a restore reads some hundred objects in place of a hundred thousand, and no byte is
//! stored more than four times, the whole segment included.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::wal::{Commits, WalObjectKind};

/// Something to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub kind: WalObjectKind,
    pub first: Lsn,
    pub bytes: Bytes,
    /// The times of the commits that became waiting with it, in the order of the log.
    pub commits: Vec<Timestamp>,
    /// First and last commit of all its bytes.
    pub span: Option<Commits>,
}

impl Cut {
    pub fn last(&self) -> Lsn {
        Lsn(self.first.0 + self.bytes.len() as u64)
    }
}

/// A slice of the next level covers this many.
const FAN_IN: u32 = 64;

/// Holds at most one unit of WAL.
pub(super) struct Cutter {
    unit: u64,
    start: Lsn,
    held: BytesMut,
    /// Everything before is durable or on its way.
    sent: Lsn,
    unit_span: Option<Commits>,
    /// The commits that wait to become durable.
    waiting: Vec<Timestamp>,
    /// Where slices of each level begin; the first is what waits.
    levels: [Level; 3],
}

/// What the next slice of a level covers.
#[derive(Debug, Clone, Copy)]
struct Level {
    from: Lsn,
    span: Option<Commits>,
    /// Slices of the level below since then.
    below: u32,
}

impl Level {
    fn at(from: Lsn) -> Level {
        Level { from, span: None, below: 0 }
    }
}

impl Cutter {
    /// Begins at the start of a unit. What lies before `known` is stored already.
    pub fn new(start: Lsn, known: Lsn, unit: u64) -> Cutter {
        let sent = known.max(start);
        let levels = [Level::at(sent); 3];
        Cutter { unit, start, held: BytesMut::new(), sent, unit_span: None, waiting: Vec::new(), levels }
    }

    /// Where the next byte belongs.
    pub fn position(&self) -> Lsn {
        Lsn(self.start.0 + self.held.len() as u64)
    }

    /// Bytes until the unit ends; never 0.
    pub fn room(&self) -> usize {
        usize::try_from(self.unit).unwrap_or(usize::MAX) - self.held.len()
    }

    /// Whether there is WAL that nobody has sent.
    pub fn has_waiting(&self) -> bool {
        self.position() > self.sent
    }

    /// Takes the next bytes, at most [`Cutter::room`] of them, and gives the unit when they complete it.
    ///
    /// The commits that end in them are noted before.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Cut> {
        debug_assert!(bytes.len() <= self.room());
        if self.held.capacity() == 0 {
            self.held.reserve(self.room());
        }
        self.held.extend_from_slice(bytes);
        (self.room() == 0).then(|| self.unit())
    }

    /// A commit record that ends in the bytes pushed next.
    pub fn note(&mut self, end: Lsn, time: Timestamp) {
        self.unit_span = Some(joined(self.unit_span, time));
        if end > self.sent {
            self.waiting.push(time);
            for level in &mut self.levels {
                level.span = Some(joined(level.span, time));
            }
        }
    }

    /// What waits, as a slice.
    pub fn slice(&mut self) -> Option<Cut> {
        if !self.has_waiting() {
            return None;
        }
        let Level { from, span, .. } = self.due();
        let held_from = usize::try_from(from.0 - self.start.0).unwrap_or(usize::MAX);
        let cut = Cut {
            kind: WalObjectKind::Slice,
            first: from,
            bytes: Bytes::copy_from_slice(&self.held[held_from..]),
            commits: std::mem::take(&mut self.waiting),
            span,
        };
        self.sent = cut.last();
        Some(cut)
    }

    /// The highest level whose turn it is; it and those below begin anew behind what is cut now.
    fn due(&mut self) -> Level {
        let end = self.position();
        let mut due = std::mem::replace(&mut self.levels[0], Level::at(end));
        for number in 1..self.levels.len() {
            self.levels[number].below += 1;
            if self.levels[number].below < FAN_IN {
                break;
            }
            due = std::mem::replace(&mut self.levels[number], Level::at(end));
        }
        due
    }

    fn unit(&mut self) -> Cut {
        let cut = Cut {
            kind: WalObjectKind::Segment,
            first: self.start,
            bytes: std::mem::take(&mut self.held).freeze(),
            commits: std::mem::take(&mut self.waiting),
            span: self.unit_span.take(),
        };
        self.start = cut.last();
        self.sent = self.sent.max(self.start);
        self.levels = [Level::at(self.sent); 3];
        cut
    }
}

/// Commit times may step back a little: they are taken before the record is written.
fn joined(span: Option<Commits>, time: Timestamp) -> Commits {
    match span {
        None => Commits { first: time, last: time },
        Some(span) => Commits { first: span.first.min(time), last: span.last.max(time) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: u64 = 100;

    fn bytes(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|at| at as u8).collect()
    }

    fn feed(cutter: &mut Cutter, to: u64) -> Vec<(WalObjectKind, u64, u64)> {
        let mut cuts = Vec::new();
        while cutter.position().0 < to {
            let from = cutter.position().0;
            let end = to.min(from + cutter.room() as u64);
            if let Some(cut) = cutter.push(&bytes(from, end)) {
                assert_eq!(cut.bytes, bytes(cut.first.0, cut.last().0));
                cuts.push((cut.kind, cut.first.0, cut.last().0));
            }
        }
        cuts
    }

    #[test]
    fn a_fast_stream_is_stored_once() {
        let mut cutter = Cutter::new(Lsn(200), Lsn(200), UNIT);
        let cuts = feed(&mut cutter, 450);
        assert_eq!(cuts, [(WalObjectKind::Segment, 200, 300), (WalObjectKind::Segment, 300, 400)]);
        assert!(cutter.has_waiting());
    }

    #[test]
    fn a_slow_stream_goes_in_slices_and_once_more_whole() {
        let mut cutter = Cutter::new(Lsn(200), Lsn(200), UNIT);
        assert!(cutter.slice().is_none());
        for (to, first) in [(210, 200), (290, 210)] {
            assert!(feed(&mut cutter, to).is_empty());
            let slice = cutter.slice().unwrap();
            assert_eq!((slice.kind, slice.first.0, slice.last().0), (WalObjectKind::Slice, first, to));
            assert_eq!(slice.bytes, bytes(first, to));
            assert!(cutter.slice().is_none(), "nothing waits");
        }
        assert_eq!(feed(&mut cutter, 300), [(WalObjectKind::Segment, 200, 300)]);
        assert!(!cutter.has_waiting(), "the unit holds its last part");
        assert!(cutter.slice().is_none());
    }

    #[test]
    fn what_is_known_is_not_stored_again() {
        // Restarted in the middle of a unit: its start is streamed again for the sake of the whole.
        let mut cutter = Cutter::new(Lsn(200), Lsn(250), UNIT);
        feed(&mut cutter, 250);
        assert!(cutter.slice().is_none());
        feed(&mut cutter, 260);
        let slice = cutter.slice().unwrap();
        assert_eq!((slice.first.0, slice.last().0), (250, 260));
        assert_eq!(feed(&mut cutter, 300), [(WalObjectKind::Segment, 200, 300)]);
        // All slices of a unit are known, the whole is not.
        let mut cutter = Cutter::new(Lsn(200), Lsn(300), UNIT);
        assert_eq!(feed(&mut cutter, 310), [(WalObjectKind::Segment, 200, 300)]);
        assert_eq!(cutter.slice().unwrap().first, Lsn(300));
    }

    #[test]
    fn many_small_slices_are_covered_by_few_large_ones() {
        let time = |second: u64| Timestamp::from_second(second as i64).unwrap();
        let mut cutter = Cutter::new(Lsn(0), Lsn(0), 1 << 20);
        let mut slices: Vec<(u64, u64)> = Vec::new();
        for number in 1..=10_000 {
            cutter.note(Lsn(number), time(number));
            feed(&mut cutter, number);
            let slice = cutter.slice().unwrap();
            assert_eq!(slice.bytes, bytes(slice.first.0, number));
            assert_eq!(slice.commits, [time(number)]);
            assert_eq!(slice.span, Some(Commits { first: time(slice.first.0 + 1), last: time(number) }));
            slices.push((slice.first.0, number));
        }
        // What a restore reads: always the one that reaches farthest.
        let (mut reached, mut read) = (0, 0);
        while reached < 10_000 {
            reached = slices.iter().filter(|slice| slice.0 <= reached).map(|slice| slice.1).max().unwrap();
            read += 1;
        }
        assert!(read < 3 * 64, "{read}");
        let stored: u64 = slices.iter().map(|slice| slice.1 - slice.0).sum();
        assert!(stored <= 3 * 10_000, "{stored}");
    }

    #[test]
    fn commits_stay_with_their_bytes() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let mut cutter = Cutter::new(Lsn(200), Lsn(205), UNIT);
        cutter.note(Lsn(204), time(1)); // known before
        cutter.note(Lsn(208), time(3));
        cutter.note(Lsn(210), time(2));
        feed(&mut cutter, 210);
        let slice = cutter.slice().unwrap();
        assert_eq!(slice.commits, [time(3), time(2)]);
        assert_eq!(slice.span, Some(Commits { first: time(2), last: time(3) }));
        feed(&mut cutter, 290);
        assert_eq!(cutter.slice().unwrap().span, None);
        cutter.note(Lsn(299), time(9));
        let whole = cutter.push(&bytes(290, 300)).unwrap();
        assert_eq!(whole.commits, [time(9)], "the others are durable already");
        assert_eq!(whole.span, Some(Commits { first: time(1), last: time(9) }));
    }
}
