//! The first error of a run, kept until somebody who can report it asks.

use std::sync::{Mutex, PoisonError};

use lifeboat_model::id::PointId;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// Shared by all stages: the first failure ends the run, everything after it is only an echo.
pub(super) struct Failure {
    point: PointId,
    first: Mutex<Option<Error>>,
    ended: CancellationToken,
}

impl Failure {
    pub fn new(point: PointId) -> Self {
        Self { point, first: Mutex::new(None), ended: CancellationToken::new() }
    }

    /// Records an error, unless one is there.
    pub fn set(&self, error: Error) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.ended.is_cancelled() {
            *first = Some(error);
            self.ended.cancel();
        }
    }

    pub fn is_set(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// The error itself for the first who asks, [`Error::Ended`] for the others.
    pub fn check(&self) -> Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(first.unwrap_or(Error::Ended(self.point)))
    }

    /// The error to report when a stage has gone: the cause, or that it was reported.
    pub fn ended(&self) -> Error {
        self.check().err().unwrap_or(Error::Ended(self.point))
    }

    /// Waits for `work`, but not once the run has failed.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        match self.ended.run_until_cancelled(work).await {
            Some(done) => Ok(done),
            None => Err(self.ended()),
        }
    }

    /// Keeps the error of a stage, so that all others end too.
    pub fn note<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.set(error)).ok()
    }
}
