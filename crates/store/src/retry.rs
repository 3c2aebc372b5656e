//! Trying again: one policy for every backend, so that retries never multiply on top of each other.
//!
//! Only [`Error::is_transient`] faults are tried again, a bounded number of times, with waits that double up to a
//! limit. Half of each wait is random: writers that were thrown off together do not come back together.

use std::time::Duration;

use crate::{Error, Result};

/// How often, and with what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The wait before the second attempt, up to randomness; it doubles from there.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
}

impl Default for Policy {
    /// Eight attempts within about 25 seconds: enough for a server that restarts.
    fn default() -> Self {
        Self { attempts: 8, first_wait: Duration::from_millis(200), longest_wait: Duration::from_secs(10) }
    }
}

impl Policy {
    /// A single attempt.
    pub const ONCE: Policy = Policy { attempts: 1, first_wait: Duration::ZERO, longest_wait: Duration::ZERO };

    /// Starts counting attempts of one operation.
    pub fn begin(&self) -> Attempts {
        Attempts { policy: *self, failed: 0 }
    }

    /// Runs `attempt` until it succeeds, fails for good, or the attempts are used up.
    pub async fn run<T, F: Future<Output = Result<T>>>(&self, mut attempt: impl FnMut() -> F) -> Result<T> {
        let mut attempts = self.begin();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }
}

/// The attempts of one operation so far.
#[derive(Debug)]
pub struct Attempts {
    policy: Policy,
    failed: u32,
}

impl Attempts {
    /// Whether an attempt has failed before.
    pub fn is_retry(&self) -> bool {
        self.failed > 0
    }

    /// Waits before the next attempt; gives the error back when there is none.
    pub async fn wait_after(&mut self, error: Error) -> Result<()> {
        self.failed += 1;
        if !error.is_transient() || self.failed >= self.policy.attempts {
            return Err(error);
        }
        let wait = self.wait(random_fraction());
        tracing::debug!(%error, attempt = self.failed, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn wait(&self, random: f64) -> Duration {
        let doubled = self.policy.first_wait.saturating_mul(1 << (self.failed - 1).min(20));
        doubled.min(self.policy.longest_wait).mul_f64(0.5 + random / 2.0)
    }
}

fn random_fraction() -> f64 {
    let mut random = [0; 4];
    // Without random numbers the waits are merely not spread.
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Error {
        Error::Unavailable { operation: "put", key: "k".into(), reason: "busy".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn transient_faults_are_tried_again_a_bounded_number_of_times() {
        let cases = [(0, 1, true), (3, 4, true), (7, 8, true), (8, 8, false)];
        for (faults, calls, succeeds) in cases {
            let mut made = 0;
            let answer = Policy::default()
                .run(|| {
                    made += 1;
                    std::future::ready(if made > faults { Ok(()) } else { Err(transient()) })
                })
                .await;
            assert_eq!((made, answer.is_ok()), (calls, succeeds), "{faults} faults");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_faults_are_not_tried_again() {
        let mut made = 0;
        let answer: Result<()> = Policy::default()
            .run(|| {
                made += 1;
                std::future::ready(Err(Error::NotFound { key: "k".into() }))
            })
            .await;
        assert!(matches!(answer, Err(Error::NotFound { .. })));
        assert_eq!(made, 1);
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let waits: Vec<u64> =
            (1..=8).map(|failed| Attempts { policy: Policy::default(), failed }.wait(1.0).as_millis() as u64).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let shortest = Attempts { policy: Policy::default(), failed: 1 }.wait(0.0);
        assert_eq!(shortest, Duration::from_millis(100));
    }
}
