//! CPU work, off the async threads.

use std::io;

use crate::error::{Error, Result};

/// Runs `work` on a blocking thread; `what` names it should it panic.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::Io { what: what.to_owned(), source: io::Error::other(e) })?
}
