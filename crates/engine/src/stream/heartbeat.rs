//! Commits without a change, so that an idle system has a provable recovery point.

use std::time::Duration;

use lifeboat_postgres::{ConnectOptions, heartbeat, sql};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::State;

/// An answer that does not come within this time is none.
const LIMIT: Duration = Duration::from_secs(30);

/// Beats until the answer is dropped. What fails is told once and tried again: WAL streams without it.
pub(super) fn start(options: ConnectOptions, interval: Duration, state: watch::Sender<State>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut client = None;
        let mut told = String::new();
        loop {
            ticks.tick().await;
            let beat = async {
                if client.is_none() {
                    client = Some(sql::connect(&options, "postgres").await?);
                }
                match &client {
                    Some(client) => heartbeat::emit(client).await.map(drop),
                    None => Ok(()),
                }
            };
            let why = match tokio::time::timeout(LIMIT, beat).await {
                Ok(Ok(())) => {
                    told.clear();
                    continue;
                }
                // Its primary beats, if it does: the commits come with the log.
                Ok(Err(lifeboat_postgres::Error::HeartbeatOnStandby { .. })) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
            };
            client = None;
            if told != why {
                state.send_modify(|state| state.remark(format!("no heartbeat could be written: {why}")));
                told = why;
            }
        }
    }))
}
