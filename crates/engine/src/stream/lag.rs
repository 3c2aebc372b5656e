//! How long commits waited to become durable in the repository: counted in buckets, so that memory does not grow.

use std::time::Duration;

/// Buckets grow by a twentieth each: a quantile is at most 5 % above the truth.
const GROWTH: f64 = 1.05;
const FIRST: Duration = Duration::from_millis(1);
/// The last one begins at about 3 days.
const BUCKETS: usize = 400;

/// Times from commit (the server's clock) to durable (this host's).
#[derive(Debug, Clone)]
pub struct Lags {
    counts: [u64; BUCKETS],
    total: u64,
    longest: Duration,
}

impl Default for Lags {
    fn default() -> Self {
        Lags { counts: [0; BUCKETS], total: 0, longest: Duration::ZERO }
    }
}

impl Lags {
    /// Counts one commit.
    pub fn add(&mut self, lag: Duration) {
        let ratio = lag.as_secs_f64() / FIRST.as_secs_f64();
        let bucket = if ratio <= 1.0 { 0.0 } else { ratio.log(GROWTH).ceil() };
        // Not negative, and cut at the end.
        self.counts[(bucket as usize).min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.longest = self.longest.max(lag);
    }

    /// How many commits were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// A bound that this share (0 to 1) of all commits kept; none without commits.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.total as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return Some(FIRST.mul_f64(GROWTH.powf(bucket as f64)).min(self.longest));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_bound_what_they_count() {
        let mut lags = Lags::default();
        assert_eq!(lags.quantile(0.99), None);
        (1..=1000).for_each(|ms| lags.add(Duration::from_millis(ms)));
        for (share, truth) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let bound = lags.quantile(share).unwrap().as_millis();
            assert!((truth..=truth * 21 / 20).contains(&bound), "{share}: {bound}");
        }
        assert_eq!((lags.count(), lags.longest()), (1000, Duration::from_secs(1)));
        lags.add(Duration::from_secs(1 << 30));
        assert_eq!(lags.quantile(1.0), Some(lags.longest().min(FIRST.mul_f64(GROWTH.powf(BUCKETS as f64 - 1.0)))));
        lags.add(Duration::ZERO);
    }
}
