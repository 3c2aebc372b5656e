//! The server's clock: the `Date` of an answer, whatever it answers.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents},
    error::BoxError,
};
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use jiff::{Timestamp, fmt::rfc2822};

use super::Bucket;
use crate::{Error, Result};

const OPERATION: &str = "asking the clock";

/// Keeps the `Date` of the answer that comes.
#[derive(Debug, Clone, Default)]
struct CatchDate(Arc<Mutex<Option<Timestamp>>>);

impl CatchDate {
    fn taken(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for CatchDate {
    fn name(&self) -> &'static str {
        "CatchDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|text| rfc2822::parse(text).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.timestamp());
        Ok(())
    }
}

impl Bucket {
    /// What the server's clock shows now: the `Date` of its answer to a HEAD of the bucket (a refusal has one too), and
    /// half the time that the question took. `Date` has whole seconds, cut off: the truth may be up to a second later,
    /// never earlier by more than the line is uneven.
    pub(super) async fn clock(&self) -> Result<Timestamp> {
        let name = self.describe();
        self.policy().run(|| self.attempt(OPERATION, &name, 0, self.ask_clock(&name))).await
    }

    async fn ask_clock(&self, name: &str) -> Result<Timestamp> {
        let date = CatchDate::default();
        let asked = tokio::time::Instant::now();
        let answer = self.client.head_bucket().bucket(&self.name).customize().interceptor(date.clone()).send().await;
        let half = asked.elapsed() / 2;
        match (date.taken(), answer) {
            (Some(date), _) => Ok(date.checked_add(half).unwrap_or(date)),
            (None, Err(error)) => Err(self.failure(OPERATION, name, error)),
            (None, Ok(_)) => Err(Error::Other {
                operation: OPERATION,
                key: name.to_owned(),
                reason: "the server's answer has no Date".into(),
            }),
        }
    }
}
