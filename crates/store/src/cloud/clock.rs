//! The service's clock: the `Date` of an answer, whatever it answers. Nothing has to be written for it.

use jiff::Timestamp;
use object_store::GetOptions;

use super::{Place, http};
use crate::{Error, Result};

const OPERATION: &str = "asking the clock";
/// A name that nothing is kept under: the answer is that there is nothing, and has a date.
const NOTHING: &str = "probes/clock";

impl Place {
    /// What the clock shows now: the `Date` of the answer to a HEAD, and half the time that the question took. `Date` has
    /// whole seconds, cut off.
    pub(super) async fn clock(&self) -> Result<Timestamp> {
        self.limits.retry.run(|| self.ask_clock()).await
    }

    async fn ask_clock(&self) -> Result<Timestamp> {
        let name = self.describe();
        let path = object_store::path::Path::from(format!("{}{NOTHING}", self.prefix));
        let asked = tokio::time::Instant::now();
        let question = self.objects.get_opts(&path, GetOptions::new().with_head(true));
        let (answer, heard) = http::listening(tokio::time::timeout(self.limits.attempt, question)).await;
        let half = asked.elapsed() / 2;
        // A token's issuer has a clock of its own.
        if let Some(date) = heard.date.filter(|_| heard.host == self.host) {
            return Ok(date.checked_add(half).unwrap_or(date));
        }
        match answer {
            Ok(Err(error)) => Err(self.failure(OPERATION, &name, &error, &heard)),
            Ok(Ok(_)) => {
                let reason = "the service's answer has no Date".into();
                Err(Error::Other { operation: OPERATION, key: name, reason })
            }
            Err(_) => {
                let reason = format!("{} did not answer within {} s", self.endpoint, self.limits.attempt.as_secs());
                Err(Error::Unavailable { operation: OPERATION, key: name, reason })
            }
        }
    }
}
