//! A clock that moves only when told to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

/// A clock for code that takes its time as an argument. Clones show the same time.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<Mutex<Timestamp>>);

impl FixedClock {
    /// A clock that shows `time`, for example `2026-11-21T03:00:00Z`.
    pub fn at(time: &str) -> Self {
        let time = time.parse().unwrap_or_else(|e| panic!("{time} is not a time: {e}"));
        Self(Arc::new(Mutex::new(time)))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves it.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// The clock as a function.
    pub fn as_fn(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// Lets the paused time of tokio go on, so many times as fast as real time, until the test ends. By itself paused time jumps to the next
/// timer as soon as no task has anything to do, and a thread that is not tokio's looks like that: while a database
/// works, everybody's patience would be at its end.
///
/// # Panics
/// Time is not paused.
pub fn hurry(times: u32) {
    let step = Duration::from_millis(1);
    tokio::spawn(async move {
        loop {
            // Time does not jump while a blocking task goes on.
            tokio::task::spawn_blocking(move || std::thread::sleep(step)).await.ok();
            tokio::time::advance(step * times).await;
        }
    });
}
