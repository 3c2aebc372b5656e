//! Where to look next: bisection between a moment at which the check held and one at which it did not.
//!
//! Nothing here restores or asks. [`Search::next`] names a moment, [`Search::told`] takes what was heard of it. A moment of which
//! nothing was heard is neither good nor bad: the search goes round it, and where it cannot, it ends with the narrowest interval that
//! is proven.
//!
//! Stations come first: recovery points, and the ends of what is asked about. Between the last good and the first bad one it goes on
//! by time. Every answer says where in the log it was given, so the search knows commits, not only the times that it asked for: where
//! the commit behind the good moment is the last one of the bad moment, there is nothing left to ask.

use std::time::Duration;

use jiff::Timestamp;

/// Moments in a row of which nothing was heard, after which it is given up.
pub const PATIENCE: usize = 6;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A recovery point as it is, by its place in the caller's list.
    Point(usize),
    /// Every commit until then.
    Time(Timestamp),
    /// The latest moment that is held.
    Latest,
}

/// A moment that is asked before any time in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// The moment.
    pub place: Place,
    /// When it was, nearly: for their order.
    pub time: Timestamp,
    /// The span that can be replayed from it, where it is a point.
    pub span: Option<usize>,
}

/// What is searched.
#[derive(Debug, Clone, Default)]
pub struct Field {
    /// Oldest first.
    pub stations: Vec<Station>,
    /// Times that can be brought back: from, to. Between them nothing can.
    pub spans: Vec<(Timestamp, Timestamp)>,
    /// Good and bad need not be nearer to each other than this.
    pub resolution: Duration,
}

/// What was heard of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The check holds.
    Good {
        /// With every commit until then.
        until: Timestamp,
        /// When the next commit ended, where the log told.
        next: Option<Timestamp>,
    },
    /// The check does not hold.
    Bad {
        /// The newest commit of that state.
        newest: Timestamp,
    },
    /// It could not be asked.
    NotExecuted,
}

/// How near the two are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrowed {
    /// No commit lies between them.
    Neighbours,
    /// As near as was asked for.
    Resolution,
    /// What lies between cannot be brought back.
    NotHeld,
    /// What lies between could not be asked.
    NotExecuted,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Between the two it began to fail.
    Found(Narrowed),
    /// It holds at the newest moment; `whole`: nothing newer could not be asked.
    NeverFalse {
        /// Whether that is the newest moment of all.
        whole: bool,
    },
    /// It failed already at the oldest moment; `whole`: nothing older could not be asked.
    AlwaysFalse {
        /// Whether that is the oldest moment of all.
        whole: bool,
    },
    /// No moment could be asked.
    NoAnswer,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Ask(Place),
    /// Nothing more to ask.
    End(End),
}

/// A moment with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The moment.
    pub place: Place,
    /// Good: with every commit until then. Bad: its newest commit.
    pub time: Timestamp,
    /// Good: when the next commit ended, where the log told.
    pub next: Option<Timestamp>,
    station: Option<usize>,
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    field: Field,
    good: Option<Bound>,
    bad: Option<Bound>,
    /// Stations without an answer.
    mute: Vec<usize>,
    /// Times without an answer.
    failed: Vec<Timestamp>,
    in_a_row: usize,
}

impl Search {
    /// Begins.
    pub fn new(field: Field) -> Search {
        Search { field, good: None, bad: None, mute: Vec::new(), failed: Vec::new(), in_a_row: 0 }
    }

    /// The latest moment that is known to be good.
    pub fn good(&self) -> Option<Bound> {
        self.good
    }

    /// The earliest moment that is known to be bad.
    pub fn bad(&self) -> Option<Bound> {
        self.bad
    }

    /// What to ask now.
    pub fn next(&self) -> Next {
        let step = match (self.good, self.bad) {
            (Some(good), None) => Err(End::NeverFalse { whole: !self.any_mute(|at| Some(at) > good.station) }),
            (None, None) => self.station(self.all().next_back()).ok_or(End::NoAnswer),
            (None, Some(bad)) => {
                let older = self.all().find(|&at| Some(at) < bad.station);
                let whole = !self.any_mute(|at| Some(at) < bad.station);
                self.station(older).ok_or(End::AlwaysFalse { whole })
            }
            (Some(good), Some(bad)) => match self.station(self.middle(good, bad)) {
                Some(place) => Ok(place),
                None => self.between(good, bad).map_err(End::Found),
            },
        };
        match step {
            Ok(_) if self.in_a_row >= PATIENCE => Next::End(match (self.good, self.bad) {
                (Some(_), Some(_)) => End::Found(Narrowed::NotExecuted),
                (None, Some(_)) => End::AlwaysFalse { whole: false },
                _ => End::NoAnswer,
            }),
            Ok(place) => Next::Ask(place),
            Err(end) => Next::End(end),
        }
    }

    /// Takes what was heard of a moment that [`Search::next`] has named.
    pub fn told(&mut self, place: Place, heard: Heard) {
        let station = self.field.stations.iter().position(|station| station.place == place);
        self.in_a_row = if heard == Heard::NotExecuted { self.in_a_row + 1 } else { 0 };
        let bad = self.bad.map(|bad| bad.time);
        match heard {
            Heard::NotExecuted => match (station, place) {
                (Some(station), _) => self.mute.push(station),
                (None, Place::Time(time)) => self.failed.push(time),
                (None, _) => {}
            },
            Heard::Good { until, next } => {
                // Clocks that were set back do not lead it out of the interval.
                let time = self.good.map_or(until, |good| good.time.max(until));
                let next = next.filter(|next| *next > time).map(|next| bad.map_or(next, |bad| next.min(bad)));
                self.good = Some(Bound { place, time, next, station });
            }
            Heard::Bad { newest } => {
                let time = bad.map_or(newest, |bad| bad.min(newest));
                let time = self.good.map_or(time, |good| time.max(low(good)));
                self.bad = Some(Bound { place, time, next: None, station });
            }
        }
    }

    /// How many moments will have to be asked yet, as far as can be said: all answered, and the field evenly filled.
    pub fn left(&self) -> usize {
        let stations = &self.field.stations;
        let ends = match (self.good, self.bad) {
            (None, None) => 2,
            (None, Some(_)) => 1,
            (Some(_), None) => return 0,
            (Some(_), Some(_)) => 0,
        };
        let first = self.good.and_then(|good| good.station).unwrap_or(0);
        let last = self.bad.and_then(|bad| bad.station).unwrap_or(stations.len().saturating_sub(1));
        let between = match (self.good, self.bad) {
            (Some(Bound { station: None, .. }), _) | (_, Some(Bound { station: None, .. })) => 0,
            _ => (first + 1..last).filter(|at| !self.mute.contains(at)).count(),
        };
        let from = self.good.map(low).or_else(|| stations.first().map(|station| station.time));
        let to = self.bad.map(|bad| bad.time).or_else(|| stations.last().map(|station| station.time));
        let (Some(from), Some(to)) = (from, to) else { return ends };
        let width = micros(to).saturating_sub(micros(from)).max(0) / (between as i64 + 1);
        let resolution = self.resolution().max(1);
        ends + halvings(between as i64 + 1)
            + halvings((width / resolution).saturating_add(i64::from(width % resolution > 0)))
    }

    /// Stations without a known failure, oldest first.
    fn all(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.field.stations.len()).filter(|at| !self.mute.contains(at))
    }

    fn any_mute(&self, of: impl Fn(usize) -> bool) -> bool {
        self.mute.iter().any(|&at| of(at))
    }

    fn station(&self, at: Option<usize>) -> Option<Place> {
        at.and_then(|at| self.field.stations.get(at)).map(|station| station.place)
    }

    /// The station in the middle of those between; none once a time was asked.
    fn middle(&self, good: Bound, bad: Bound) -> Option<usize> {
        let (first, last) = (good.station?, bad.station?);
        let middle = (first + last) / 2;
        self.all().filter(|&at| first < at && at < last).min_by_key(|at| at.abs_diff(middle))
    }

    /// A time between the two, in the middle of the widest piece that can be brought back and was not tried.
    fn between(&self, good: Bound, bad: Bound) -> Result<Place, Narrowed> {
        let (low, high) = (micros(low(good)), micros(bad.time));
        if low >= high {
            return Err(Narrowed::Neighbours);
        }
        let resolution = self.resolution();
        if high - low <= resolution {
            return Err(Narrowed::Resolution);
        }
        let mut pieces: Vec<(i64, i64)> = Vec::new();
        for (at, (from, to)) in self.field.spans.iter().enumerate() {
            // What a point holds is replayed from it on, whatever clock told when its backup was done.
            let own = good.station.and_then(|station| self.field.stations.get(station)).and_then(|of| of.span);
            let from = if own == Some(at) { low } else { micros(*from).max(low) };
            pieces.push((from, micros(*to).min(high - 1)));
        }
        for failed in self.failed.iter().map(|failed| micros(*failed)) {
            let split = |(from, to): (i64, i64)| match (from..=to).contains(&failed) {
                true => vec![(from, failed - 1), (failed + 1, to)],
                false => vec![(from, to)],
            };
            pieces = pieces.into_iter().flat_map(split).collect();
        }
        let widest = pieces.into_iter().filter(|(from, to)| from <= to).max_by_key(|(from, to)| to - from);
        let none = match self.failed.iter().any(|failed| (low..high).contains(&micros(*failed))) {
            true => Narrowed::NotExecuted,
            false => Narrowed::NotHeld,
        };
        match widest {
            Some((from, to)) if to - from >= resolution.min(high - low - 1) => {
                let middle = from + (to - from) / 2;
                Timestamp::from_microsecond(middle).map(Place::Time).map_err(|_| none)
            }
            _ => Err(none),
        }
    }

    fn resolution(&self) -> i64 {
        i64::try_from(self.field.resolution.as_micros()).unwrap_or(i64::MAX)
    }
}

/// The earliest time at which the state is another than the good one.
fn low(good: Bound) -> Timestamp {
    good.next.unwrap_or_else(|| Timestamp::from_microsecond(micros(good.time) + 1).unwrap_or(Timestamp::MAX))
}

/// PostgreSQL's clock has microseconds; what is between belongs to the earlier.
fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// How often something of this size can be halved.
fn halvings(size: i64) -> usize {
    if size <= 1 { 0 } else { (64 - (size - 1).leading_zeros()) as usize }
}

#[cfg(test)]
mod tests;
