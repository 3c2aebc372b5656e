//! The store's clock, looked at again: a stream runs for months, and locks end by the store's time.

use std::time::Duration;

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::State;
use crate::{context::Context, skew::Skew};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// The least between two, however often the connection breaks; and the pause after one that failed.
const AT_LEAST: Duration = Duration::from_secs(60);
/// A store that takes longer to tell the time is asked later.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures how far the store's clock is from this host's, about every hour and when `again` says so. Locks follow what
/// was measured last.
///
/// However far that is, WAL must be held: what has changed is told, and the stream goes on. Never returns.
pub async fn watch_clock(context: &Context, state: &watch::Sender<State>, again: &Notify) {
    let mut told = context.skew().await.ok();
    loop {
        sleep(AT_LEAST).await;
        tokio::select! {
            () = sleep(EVERY.saturating_sub(AT_LEAST)) => {}
            () = again.notified() => {}
        }
        while let Err(why) = look(context, state, &mut told).await {
            tracing::warn!(%why, "the store did not tell its time; locks go on by the difference that was last measured");
            sleep(AT_LEAST).await;
        }
    }
}

async fn look(context: &Context, state: &watch::Sender<State>, told: &mut Option<Skew>) -> Result<(), String> {
    let store = context.repository.store().describe();
    let measured = timeout(PATIENCE, context.measure_skew()).await;
    let measured = measured.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let skew = measured.map_err(|error| error.to_string())?;
    if let Some(news) = skew.news(told.unwrap_or_default(), &store) {
        state.send_modify(|state| state.remark(news));
        *told = Some(skew);
    }
    Ok(())
}
