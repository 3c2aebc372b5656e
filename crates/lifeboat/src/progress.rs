//! Progress on standard error, fed by the layers below through their [`Progress`] trait: counters that grow, and notes.
//! On a terminal one line is redrawn; elsewhere only the notes appear, so that logs stay readable. Programs that follow are
//! told at most once a second, and at the end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use lifeboat_daemon::runner::RunEvent;
use lifeboat_repo::progress::{Counter, Progress};

use crate::{
    log::Voice,
    output::{bytes, count},
};

/// How often the line is redrawn.
const TICK: Duration = Duration::from_millis(200);

/// How often programs that follow are told.
const EVENT_MILLIS: u64 = 1000;

/// What is shown, in this order: few enough to fit a terminal of 80 columns, since a folded line cannot be redrawn.
const SHOWN: [(Counter, &str); 6] = [
    (Counter::ReadBytes, "read"),
    (Counter::FetchedBytes, "fetched"),
    (Counter::RestoredBytes, "restored"),
    (Counter::StoredBytes, "stored"),
    (Counter::Files, "files"),
    (Counter::Objects, "objects"),
];

/// One run's progress.
pub struct Meter {
    counts: Arc<Counts>,
    bar: ProgressBar,
    voice: Voice,
    started: Instant,
    /// When programs were told, in milliseconds since the start.
    told: AtomicU64,
}

#[derive(Default)]
struct Counts([AtomicU64; SHOWN.len()]);

impl Meter {
    /// Begins; `title` names the verb and the instance.
    pub fn start(voice: &Voice, title: String) -> Arc<Meter> {
        let counts = Arc::new(Counts::default());
        let bar = voice.bars().add(ProgressBar::no_length());
        if voice.draws() {
            let shown = Arc::clone(&counts);
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed} {counts}")
                .expect("a fixed, valid template")
                .with_key("counts", move |_: &ProgressState, out: &mut dyn fmt::Write| {
                    let _ = write!(out, "{shown}"); // indicatif writes into a String
                });
            bar.set_style(style);
            bar.set_message(title);
            bar.enable_steady_tick(TICK);
        }
        Arc::new(Meter { counts, bar, voice: voice.clone(), started: Instant::now(), told: AtomicU64::new(0) })
    }

    /// Tells programs, unless it was done just now.
    fn tell(&self) {
        let told = self.told.load(Ordering::Relaxed);
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_due = now >= told.saturating_add(EVENT_MILLIS);
        if is_due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.voice.event(&self.counts.event(), &self.counts.to_string());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.voice.tells_events() && !self.counts.is_empty() {
            self.voice.event(&self.counts.event(), &self.counts.to_string());
        }
    }
}

impl Progress for Meter {
    fn add(&self, counter: Counter, n: u64) {
        if let Some(index) = SHOWN.iter().position(|(shown, _)| *shown == counter) {
            self.counts.0[index].fetch_add(n, Ordering::Relaxed);
            if self.voice.tells_events() {
                self.tell();
            }
        }
    }

    fn note(&self, text: &str) {
        self.voice.say(text);
    }
}

impl Counts {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    fn event(&self) -> RunEvent {
        let [read, fetched, restored, stored, files, objects] =
            std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        RunEvent::Progress { read, fetched, restored, stored, files, objects }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ((counter, word), value) in SHOWN.iter().zip(&self.0) {
            let value = value.load(Ordering::Relaxed);
            if value == 0 {
                continue;
            }
            match counter {
                Counter::Files | Counter::Objects => {
                    write!(f, "{separator}{}", count(value, word.trim_end_matches('s'), word))?;
                }
                _ => write!(f, "{separator}{word} {}", bytes(value))?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        let counts = Counts::default();
        assert_eq!(counts.to_string(), "");
        counts.0[0].store(3 << 20, Ordering::Relaxed);
        counts.0[4].store(1234, Ordering::Relaxed);
        assert_eq!(counts.to_string(), "read 3.0 MiB, 1,234 files");
        let RunEvent::Progress { read, files, stored, .. } = counts.event() else { panic!("no progress") };
        assert_eq!((read, files, stored), (3 << 20, 1234, 0));
    }
}
