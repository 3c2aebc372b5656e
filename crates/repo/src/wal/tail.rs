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
        while let Some(part) = self.parts.pop_front_if(|part| part.stored) {
            self.durable = part.last;
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
