//! What a listing of a stream says: which positions are held, and by which objects.

use lifeboat_model::lsn::Lsn;

use super::{WalObject, WalObjectKind};

/// The objects of one stream from a position on, in the order of their first positions. Where a segment covers a range,
/// its slices are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalListing {
    objects: Vec<WalObject>,
}

/// WAL without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRun {
    /// First position held.
    pub first: Lsn,
    /// Position after the last one held.
    pub last: Lsn,
    /// The objects that cover it, in order, as few as possible. Each reaches further than the one before, and may begin
    /// before that one's end.
    pub objects: Vec<WalObject>,
}

impl WalListing {
    pub(super) fn new(mut objects: Vec<WalObject>) -> Self {
        objects.sort_by_key(|object| (object.first, object.last));
        Self { objects }
    }

    /// All objects, duplicates included.
    pub fn objects(&self) -> &[WalObject] {
        &self.objects
    }

    /// The runs without a gap, in order.
    pub fn runs(&self) -> Vec<WalRun> {
        let mut runs: Vec<WalRun> = Vec::new();
        let mut chooser = Chooser::default();
        for object in &self.objects {
            chooser.next(object, &mut runs);
        }
        chooser.end(&mut runs);
        runs
    }

    /// The run that holds `position`, cut to the objects that are needed from there on. Its end is behind `position`:
    /// where nothing from `position` on is held, there is none.
    pub fn from(&self, position: Lsn) -> Option<WalRun> {
        let mut run = self.runs().into_iter().find(|run| run.first <= position && position < run.last)?;
        run.objects.retain(|object| object.last > position);
        run.first = run.objects.first()?.first;
        Some(run)
    }
}

/// Covers each run with as few objects as possible: of those that continue what is covered, the one that reaches
/// furthest is next.
#[derive(Default)]
struct Chooser<'a> {
    reached: Lsn,
    best: Option<&'a WalObject>,
    started: bool,
}

impl<'a> Chooser<'a> {
    /// Objects come in the order of their first positions.
    fn next(&mut self, object: &'a WalObject, runs: &mut Vec<WalRun>) {
        if self.started && object.first > self.reached {
            self.take(runs);
        }
        if !self.started || object.first > self.reached {
            let (first, last) = (object.first, object.first);
            runs.push(WalRun { first, last, objects: Vec::new() });
            (self.started, self.reached) = (true, object.first);
        }
        let worth = |object: &WalObject| (object.last, object.kind == WalObjectKind::Segment);
        if object.last > self.reached && self.best.is_none_or(|best| worth(object) > worth(best)) {
            self.best = Some(object);
        }
    }

    fn take(&mut self, runs: &mut [WalRun]) {
        if let (Some(best), Some(run)) = (self.best.take(), runs.last_mut()) {
            self.reached = best.last;
            run.last = best.last;
            run.objects.push(best.clone());
        }
    }

    fn end(mut self, runs: &mut [WalRun]) {
        self.take(runs);
    }
}
