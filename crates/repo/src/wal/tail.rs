//! Up to where a stream is durable, when its parts are stored several at a time and end in any order.

use std::collections::VecDeque;

use lifeboat_model::lsn::Lsn;

use crate::error::{Error, Result};

/// Parts that may be on their way at the same time.
const MOST: usize = 4096;

/// Follows one stream: each part is told when it is cut, in order, and again when it is durable, in any order. What may
/// be acknowledged to the server is [`durable`](Self::durable): everything before it is stored, without a gap.
#[derive(Debug, Clone)]
pub struct DurableTail {
    durable: Lsn,
    cut: Lsn,
    parts: VecDeque<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    first: Lsn,
    last: Lsn,
    stored: bool,
}

impl DurableTail {
    /// A stream that goes on at `from`; everything before it is durable already.
    pub fn new(from: Lsn) -> Self {
        Self { durable: from, cut: from, parts: VecDeque::new() }
    }

    /// A part was cut. It must begin where the one before ended, and have at least one byte.
    pub fn cut(&mut self, first: Lsn, last: Lsn) -> Result<()> {
        let refuse = |reason: String| Err(Error::WalOrder { first, last, reason });
        if first > self.cut {
            return refuse(format!("{} comes next, so {} bytes are missing", self.cut, first.0 - self.cut.0));
        }
        if first < self.cut {
            return refuse(format!("{} comes next; what is before it was cut already", self.cut));
        }
        if last <= first {
            return refuse("it ends before it begins".into());
        }
        if self.parts.len() >= MOST {
            return refuse(format!("{MOST} parts wait to be stored already"));
        }
        self.parts.push_back(Part { first, last, stored: false });
        self.cut = last;
        Ok(())
    }

    /// A part that was cut is durable; gives [`durable`](Self::durable). The same part told twice changes nothing: an
    /// upload may be tried again after a reply was lost. A range that was not cut like this is refused.
    pub fn stored(&mut self, first: Lsn, last: Lsn) -> Result<Lsn> {
        if first < last && last <= self.durable {
            return Ok(self.durable);
        }
        let refuse = |reason: &str| Error::WalOrder { first, last, reason: reason.to_owned() };
        let found = self.parts.binary_search_by_key(&first, |part| part.first);
        let part = found.ok().and_then(|index| self.parts.get_mut(index)).filter(|part| part.last == last);
        part.ok_or_else(|| refuse("it was stored, but never cut like this"))?.stored = true;
        while let Some(Part { last, stored: true, .. }) = self.parts.front() {
            self.durable = *last;
            self.parts.pop_front();
        }
        Ok(self.durable)
    }

    /// Everything before this position is durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The next part begins here.
    pub fn end(&self) -> Lsn {
        self.cut
    }

    /// Parts that were cut and cannot be acknowledged yet.
    pub fn waiting(&self) -> usize {
        self.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_end_in_any_order() {
        let mut tail = DurableTail::new(Lsn(100));
        for (first, last) in [(100, 110), (110, 111), (111, 200)] {
            tail.cut(Lsn(first), Lsn(last)).unwrap();
        }
        assert_eq!((tail.end(), tail.durable(), tail.waiting()), (Lsn(200), Lsn(100), 3));
        assert_eq!(tail.stored(Lsn(111), Lsn(200)).unwrap(), Lsn(100));
        assert_eq!(tail.stored(Lsn(111), Lsn(200)).unwrap(), Lsn(100), "told twice");
        assert_eq!(tail.stored(Lsn(100), Lsn(110)).unwrap(), Lsn(110));
        assert_eq!(tail.stored(Lsn(110), Lsn(111)).unwrap(), Lsn(200));
        assert_eq!(tail.stored(Lsn(100), Lsn(110)).unwrap(), Lsn(200), "long durable");
        assert_eq!(tail.waiting(), 0);
    }

    #[test]
    fn gaps_and_overlaps_are_refused_and_change_nothing() {
        let mut tail = DurableTail::new(Lsn(100));
        tail.cut(Lsn(100), Lsn(110)).unwrap();
        for (first, last) in [(111, 120), (109, 120), (100, 110), (110, 110), (110, 109)] {
            let error = tail.cut(Lsn(first), Lsn(last)).unwrap_err();
            assert!(matches!(error, Error::WalOrder { .. }), "{error}");
        }
        for (first, last) in [(110, 120), (100, 109), (99, 110), (105, 110), (99, 101), (100, 100)] {
            let error = tail.stored(Lsn(first), Lsn(last)).unwrap_err();
            assert!(matches!(error, Error::WalOrder { .. }), "{error}");
        }
        assert_eq!((tail.end(), tail.durable(), tail.waiting()), (Lsn(110), Lsn(100), 1));
        assert_eq!(tail.stored(Lsn(100), Lsn(110)).unwrap(), Lsn(110));
        let error = tail.stored(Lsn(105), Lsn(115)).unwrap_err();
        assert!(matches!(error, Error::WalOrder { .. }), "over the durable end: {error}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut tail = DurableTail::new(Lsn(0));
        let refused = (0..).find_map(|n| tail.cut(Lsn(n), Lsn(n + 1)).err()).unwrap();
        assert!(refused.to_string().contains("4096"), "{refused}");
        tail.stored(Lsn(0), Lsn(1)).unwrap();
        tail.cut(tail.end(), Lsn(tail.end().0 + 1)).unwrap();
    }

    proptest! {
        /// Never more than what is stored without a gap, and never less.
        #[test]
        fn durable_is_the_first_that_is_not_stored(lengths in prop::collection::vec(1u64..50, 1..20), seed in any::<u64>()) {
            let mut tail = DurableTail::new(Lsn(7));
            let mut parts = Vec::new();
            for length in &lengths {
                let (first, last) = (tail.end(), Lsn(tail.end().0 + length));
                tail.cut(first, last).unwrap();
                parts.push((first, last));
            }
            let mut open = parts.clone();
            let mut state = seed;
            while !open.is_empty() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (first, last) = open.swap_remove((state >> 33) as usize % open.len());
                tail.stored(first, last).unwrap();
                let expected = parts.iter().find(|part| open.contains(part)).map_or(tail.end(), |part| part.0);
                prop_assert_eq!(tail.durable(), expected);
            }
        }
    }
}
