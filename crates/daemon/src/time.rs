//! The time of the daemon: told and waited for in one place, so that a day can be tested in a minute.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Tells the time and waits for it.
#[async_trait]
pub trait Time: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Comes back when the time has come, or earlier: whoever waits looks again. A clock that is set or a machine that slept
    /// must not delay anything by more than [`LONGEST`].
    async fn sleep_until(&self, time: Timestamp);
}

/// The longest that anybody waits without looking at the clock again.
pub const LONGEST: Duration = Duration::from_secs(10);
