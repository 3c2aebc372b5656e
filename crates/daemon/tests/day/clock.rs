//! A clock that goes faster than the real one, the same in all processes of a test.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_daemon::time::{LONGEST, Time};

/// From a moment on, so many times as fast.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    real: Duration,
    start: Timestamp,
    factor: u32,
}

impl Clock {
    /// Begins now.
    pub fn begin(folder: &Path, start: Timestamp, factor: u32) -> Clock {
        let clock = Clock { real: real(), start, factor };
        fs::write(folder.join("clock"), format!("{} {} {factor}", clock.real.as_nanos(), start)).unwrap();
        clock
    }

    /// As another process began it.
    pub fn read(folder: &Path) -> Clock {
        let text = fs::read_to_string(folder.join("clock")).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        let [real, start, factor] = words.as_slice() else { panic!("{text}") };
        let real = Duration::from_nanos(real.parse().unwrap());
        Clock { real, start: start.parse().unwrap(), factor: factor.parse().unwrap() }
    }

    pub fn of(&self, real: Duration) -> Timestamp {
        let since = SignedDuration::try_from(real.saturating_sub(self.real) * self.factor).unwrap();
        self.start.checked_add(since).unwrap()
    }

    /// How long something takes in reality.
    pub fn real(&self, span: SignedDuration) -> Duration {
        span.unsigned_abs() / self.factor
    }

    /// Waits, in the thread, for a time to come.
    pub fn wait_for(&self, time: Timestamp) {
        std::thread::sleep(self.real(time.duration_since(self.now()).max(SignedDuration::ZERO)));
    }
}

/// Since 1970, by the machine's clock: the same for all processes.
pub fn real() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[async_trait]
impl Time for Clock {
    fn now(&self) -> Timestamp {
        self.of(real())
    }

    async fn sleep_until(&self, time: Timestamp) {
        let span = self.real(time.duration_since(self.now()).max(SignedDuration::ZERO));
        // Never in a circle without a pause, whatever the factor.
        tokio::time::sleep(span.clamp(Duration::from_millis(1), LONGEST)).await;
    }
}
