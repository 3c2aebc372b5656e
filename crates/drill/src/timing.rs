//! Where the time of a drill went, and whose work it was.
//!
//! **Whose.** A moment counts as PostgreSQL's or Odoo's while one of their programs works *and the climb waits for it*. Everything
//! else is ours: reading the repository, opening and placing, Docker, our checks, and whatever nobody has named. Precisely:
//!
//! 1. Waits are written down as [spans](Timing::during), each with a worker. Nothing of ours that the climb waits for is hidden in
//!    a span of somebody else, but for rule 3.
//! 2. The *critical path* is found backwards from the end. Of the spans that have ended by then, the one that ended last is what
//!    was waited for; what lies between its end and now is ours; and so on from its beginning. So a moment counts once however
//!    many programs worked in it, and work that was over before something else was does not count at all: without it the drill
//!    would have taken as long.
//! 3. From a span of PostgreSQL's or Odoo's on that path, the processor time that this process used meanwhile is taken off and is
//!    ours (it hashed what Odoo served, or compared what PostgreSQL read), even if somebody else's program worked at the same
//!    time. So is what Docker needs to begin a program, as measured once in every drill.
//!
//! All is counted in whole milliseconds since the first second, so that parts add up to their phase and phases to the total,
//! exactly.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lifeboat_evidence::drill::{Breakdown, Part, Phase, Worker};
use lifeboat_model::check::millis;
use rustix::time::{ClockId, clock_gettime};

/// What nobody has named: our own code and Docker.
const REST: &str = "lifeboat, Docker";

/// The book of one drill's time. Clones write into the same book.
#[derive(Clone)]
pub(crate) struct Timing {
    begun: Instant,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    phases: Vec<Begun>,
    spans: Vec<Span>,
    /// What Docker needs to begin a program.
    lead: u64,
    /// What does not count.
    apart: Duration,
}

/// A phase that has begun, and ends where the next one does.
struct Begun {
    name: String,
    at: u64,
    files: Option<u64>,
    bytes: Option<u64>,
}

/// Somebody worked, and was waited for.
#[derive(Debug, Clone)]
struct Span {
    name: &'static str,
    worker: Worker,
    from: u64,
    to: u64,
    /// How much of it is ours although it is another's.
    own: u64,
    bytes: Option<u64>,
}

/// A piece of the critical path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    name: &'static str,
    worker: Worker,
    from: u64,
    to: u64,
    bytes: Option<u64>,
}

impl Timing {
    /// An empty book.
    pub fn new(begun: Instant) -> Timing {
        Timing { begun, book: Arc::default() }
    }

    /// Begins a phase; the one before ends.
    pub fn begin_phase(&self, name: &str) {
        let at = self.now();
        self.book().phases.push(Begun { name: name.to_owned(), at, files: None, bytes: None });
    }

    /// What the phase has moved.
    pub fn moved(&self, files: u64, bytes: u64) {
        if let Some(last) = self.book().phases.last_mut() {
            (last.files, last.bytes) = (Some(files), Some(bytes));
        }
    }

    /// Writes down who worked while this was waited for, also where it is given up in the middle.
    pub async fn during<T>(&self, worker: Worker, name: &'static str, work: impl Future<Output = T>) -> T {
        let _open = Open { timing: self, name, worker, from: self.now(), cpu: own_cpu(), is_program: false };
        work.await
    }

    /// The same of a program that Docker begins.
    pub async fn program<T>(&self, worker: Worker, name: &'static str, work: impl Future<Output = T>) -> T {
        let _open = Open { timing: self, name, worker, from: self.now(), cpu: own_cpu(), is_program: true };
        work.await
    }

    /// A program that does next to nothing: as long as it takes, so long does Docker need to begin one.
    pub async fn docker_begins<T>(&self, program: impl Future<Output = T>) -> T {
        let from = Instant::now();
        let done = program.await;
        self.book().lead = millis(from.elapsed());
        done
    }

    /// Time that counts nowhere, also where it is given up in the middle: nobody works for the drill in it.
    pub async fn not_counted<T>(&self, work: impl Future<Output = T>) -> T {
        let _apart = Apart { timing: self, from: Instant::now() };
        work.await
    }

    /// How many bytes went through the newest span of this name.
    pub fn carried(&self, name: &str, bytes: u64) {
        if let Some(span) = self.book().spans.iter_mut().rev().find(|span| span.name == name) {
            span.bytes = Some(bytes);
        }
    }

    /// How long all spans of this name took together.
    pub fn took(&self, name: &str) -> Duration {
        let took = self.book().spans.iter().filter(|span| span.name == name).map(|span| span.to - span.from).sum();
        Duration::from_millis(took)
    }

    /// How many spans have this name.
    pub fn count(&self, name: &str) -> usize {
        self.book().spans.iter().filter(|span| span.name == name).count()
    }

    /// How long the first phase of this name took, which is over.
    pub fn phase(&self, name: &str) -> Duration {
        let book = self.book();
        let mut phases = book.phases.iter().skip_while(|phase| phase.name != name);
        let (begun, next) = (phases.next().map(|phase| phase.at), phases.next().map(|phase| phase.at));
        Duration::from_millis(begun.zip(next).map_or(0, |(begun, next)| next - begun))
    }

    /// The phases with their parts, which do not overlap, and the sums.
    pub fn finish(&self) -> (Vec<Phase>, Breakdown) {
        let end = self.now();
        draw_up(&self.book(), end)
    }

    fn now(&self) -> u64 {
        millis(self.begun.elapsed().saturating_sub(self.book().apart))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A span that is not over.
struct Open<'a> {
    timing: &'a Timing,
    name: &'static str,
    worker: Worker,
    from: u64,
    cpu: Duration,
    is_program: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let to = self.timing.now();
        let mut book = self.timing.book();
        let lead = if self.is_program { book.lead } else { 0 };
        let own = millis(own_cpu().saturating_sub(self.cpu)) + lead;
        let (name, worker, from) = (self.name, self.worker, self.from);
        book.spans.push(Span { name, worker, from, to, own: own.min(to - from), bytes: None });
    }
}

/// Time that does not count, and is not over.
struct Apart<'a> {
    timing: &'a Timing,
    from: Instant,
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        self.timing.book().apart += self.from.elapsed();
    }
}

/// Processor time of this process, all threads.
fn own_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn draw_up(book: &Book, end: u64) -> (Vec<Phase>, Breakdown) {
    let path = critical_path(&book.spans, end);
    let ends = book.phases.iter().skip(1).map(|next| next.at).chain([end]);
    let mut phases = Vec::with_capacity(book.phases.len());
    let mut sums = Breakdown { total_ms: 0, postgres_ms: 0, odoo_ms: 0, own_ms: 0 };
    for (index, (phase, to)) in book.phases.iter().zip(ends).enumerate() {
        // Whatever was before the first phase belongs to it.
        let from = if index == 0 { 0 } else { phase.at };
        let parts = parts(&path, from, to);
        for part in &parts {
            match part.worker {
                Worker::Postgres => sums.postgres_ms += part.duration_ms,
                Worker::Odoo => sums.odoo_ms += part.duration_ms,
                Worker::Own => sums.own_ms += part.duration_ms,
            }
        }
        sums.total_ms += to - from;
        let Begun { name, files, bytes, .. } = phase;
        phases.push(Phase { name: name.clone(), duration_ms: to - from, bytes: *bytes, files: *files, parts });
    }
    (phases, sums)
}

/// From the first millisecond to the last, without a gap: rules 2 and 3 above.
fn critical_path(spans: &[Span], end: u64) -> Vec<Piece> {
    let mut path = Vec::new();
    let mut push = |name, worker, from: u64, to: u64, bytes| {
        if from < to {
            path.push(Piece { name, worker, from, to, bytes });
        }
    };
    let mut now = end;
    loop {
        // Of those that ended together, ours counts before others', and the longest.
        let waited_for = spans
            .iter()
            .filter(|span| span.to <= now && span.from < span.to)
            .max_by_key(|span| (span.to, span.worker == Worker::Own, span.to - span.from));
        let Some(span) = waited_for else { break };
        push(REST, Worker::Own, span.to, now, None);
        let begun = if span.worker == Worker::Own { span.from } else { span.from + span.own };
        push(span.name, span.worker, begun, span.to, span.bytes);
        push(REST, Worker::Own, span.from, begun, None);
        now = span.from;
    }
    push(REST, Worker::Own, 0, now, None);
    path.reverse();
    path
}

/// What of the path lies in a phase, one entry for each name and worker.
fn parts(path: &[Piece], from: u64, to: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for piece in path {
        let (begun, ended) = (piece.from.max(from), piece.to.min(to));
        if begun >= ended {
            continue;
        }
        // Bytes are told where their work ends.
        let bytes = piece.bytes.filter(|_| piece.to <= to);
        match parts.iter_mut().find(|part| part.name == piece.name && part.worker == piece.worker) {
            Some(part) => {
                part.duration_ms += ended - begun;
                part.bytes = part.bytes.map_or(bytes, |known| Some(known + bytes.unwrap_or(0)));
            }
            None => parts.push(Part {
                name: piece.name.to_owned(),
                worker: piece.worker,
                duration_ms: ended - begun,
                bytes,
            }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use Worker::{Odoo, Own, Postgres};

    fn span(name: &'static str, worker: Worker, from: u64, to: u64) -> Span {
        Span { name, worker, from, to, own: 0, bytes: None }
    }

    fn begun(name: &str, at: u64) -> Begun {
        Begun { name: name.to_owned(), at, files: None, bytes: None }
    }

    /// Milliseconds of each worker on the path to `end`.
    fn sums(spans: &[Span], end: u64) -> [u64; 3] {
        let path = critical_path(spans, end);
        assert_eq!(path.iter().map(|piece| piece.to - piece.from).sum::<u64>(), end, "no gap and no overlap: {path:?}");
        assert!(path.windows(2).all(|pair| pair[0].to == pair[1].from), "{path:?}");
        [Postgres, Odoo, Own]
            .map(|worker| path.iter().filter(|piece| piece.worker == worker).map(|piece| piece.to - piece.from).sum())
    }

    #[test]
    fn what_nobody_has_named_is_ours() {
        assert_eq!(sums(&[], 70), [0, 0, 70]);
        assert_eq!(sums(&[span("replay", Postgres, 20, 50)], 70), [30, 0, 40]);
    }

    #[test]
    fn a_moment_counts_once_and_for_whoever_was_waited_for() {
        let spans = [span("place", Own, 0, 100), span("probe", Odoo, 30, 80)];
        assert_eq!(sums(&spans, 100), [0, 0, 100], "the probe was over before the files were there");
        let spans = [span("place", Own, 0, 100), span("probe", Odoo, 30, 120)];
        assert_eq!(sums(&spans, 120), [0, 90, 30], "faster placing would have saved nothing");
        let spans = [span("amcheck", Postgres, 0, 90), span("digests", Postgres, 0, 100)];
        assert_eq!(sums(&spans, 100), [100, 0, 0]);
        let spans = [span("amcheck", Postgres, 10, 100), span("hash", Own, 50, 100)];
        assert_eq!(sums(&spans, 100), [0, 0, 100], "in doubt it is ours");
    }

    #[test]
    fn our_processor_time_is_ours_in_whosever_span() {
        let fetched = Span { own: 15, ..span("attachments", Odoo, 0, 60) };
        assert_eq!(sums(&[fetched], 60), [0, 45, 15]);
        let more_than_all = Span { own: 60, ..span("attachments", Odoo, 0, 60) };
        assert_eq!(sums(&[more_than_all], 60), [0, 0, 60]);
    }

    #[test]
    fn parts_add_up_to_phases_and_phases_to_the_total() {
        let replay = Span { bytes: Some(7), ..span("replay", Postgres, 40, 130) };
        let book = Book {
            phases: vec![begun("fetch", 2), begun("replay", 50), begun("use", 140)],
            spans: vec![span("place", Own, 5, 40), replay, span("login", Odoo, 141, 150)],
            lead: 0,
            apart: Duration::ZERO,
        };
        let (phases, sums) = draw_up(&book, 160);
        for phase in &phases {
            assert_eq!(phase.parts.iter().map(|part| part.duration_ms).sum::<u64>(), phase.duration_ms, "{phase:?}");
        }
        assert_eq!(phases.iter().map(|phase| phase.duration_ms).sum::<u64>(), sums.total_ms);
        assert_eq!((sums.total_ms, sums.postgres_ms, sums.odoo_ms, sums.own_ms), (160, 90, 9, 61));
        let bytes = |phase: &Phase| phase.parts.iter().filter_map(|part| part.bytes).sum::<u64>();
        assert_eq!((bytes(&phases[0]), bytes(&phases[1])), (0, 7), "counted where the work ended");
    }

    #[tokio::test]
    async fn what_does_not_count_is_in_no_phase() {
        let timing = Timing::new(Instant::now());
        timing.begin_phase("use");
        timing.not_counted(tokio::time::sleep(Duration::from_millis(300))).await;
        timing.begin_phase("tear down");
        let (phases, sums) = timing.finish();
        assert!(sums.total_ms < 300, "{sums:?}");
        assert_eq!(phases.iter().map(|phase| phase.duration_ms).sum::<u64>(), sums.total_ms);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_is_written_down() {
        let timing = Timing::new(Instant::now());
        timing.begin_phase("replay");
        let endless = timing.during(Postgres, "replay", std::future::pending::<()>());
        assert!(tokio::time::timeout(Duration::from_millis(20), endless).await.is_err());
        let (_, sums) = timing.finish();
        assert!(sums.postgres_ms > 0 && sums.postgres_ms + sums.own_ms == sums.total_ms, "{sums:?}");
    }
}
