//! How far each copy is, and opening them.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_model::{config::RepositoryConfig, id::Instance, lsn::Lsn};
use lifeboat_repo::repository::Repository;
use tokio::time::timeout;

use super::{Asking, Copy, OpenedCopy, judge::words, look::within};
use crate::{
    context::{Context, believing, open_store},
    copy::{self, Lag},
    error::{Error, Result, with_causes},
    keys::Environment,
    stream::status::held_behind,
};

/// Copies that are asked at the same time.
const COPIES: usize = 4;
/// Log before the end of what a copy holds that is looked through for its newest commit.
const NEAR_END: u64 = 64 << 20;

/// Opens all copies of the configuration. One that does not answer in time says so in its place.
pub async fn open_copies(primary: &Context, environment: Environment<'_>, patience: Duration) -> Vec<OpenedCopy> {
    let names: Vec<String> = primary.config.copies.iter().map(|copy| copy.name.clone()).collect();
    let opening = names.into_iter().map(|name| async move {
        let opened = match timeout(patience, open(primary, &name, environment)).await {
            Ok(Ok(context)) => Ok(context.map(Arc::new)),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err(format!("no answer within {}", words(patience.as_secs_f64()))),
        };
        OpenedCopy { name, opened }
    });
    stream::iter(opening).buffered(COPIES).collect().await
}

/// None: there is no repository yet.
async fn open(primary: &Context, name: &str, environment: Environment<'_>) -> Result<Option<Context>> {
    let Ok(config) = primary.config.at(name) else { return Ok(None) };
    if let RepositoryConfig::Local { path } = &config.repository
        && !path.is_dir()
    {
        return Ok(None);
    }
    let store = open_store(&config.repository, environment, false).await?;
    let repository = match Repository::open(store).await {
        Err(lifeboat_repo::Error::NotARepository { .. }) => return Ok(None),
        opened => opened?,
    };
    let repository = believing(repository, &config).await?;
    let (digest, clock, initiator) = (primary.config_digest.clone(), primary.clock.clone(), primary.initiator.clone());
    Ok(Some(Context::new(config, digest, repository, clock, initiator)))
}

pub(super) async fn look(primary: &Context, instance: &Instance, asking: &Asking<'_>) -> Vec<Copy> {
    let patience = asking.patience;
    let asked = asking.copies.iter().cloned().map(|copy| async move {
        let empty = |not_asked| Copy {
            name: copy.name.clone(),
            newest_started: None,
            missing_points: None,
            missing_wal_bytes: None,
            lacks_wal: false,
            reaches: None,
            not_asked,
        };
        match &copy.opened {
            Err(why) => empty(Some(why.clone())),
            Ok(None) => empty(None),
            Ok(Some(context)) => match within(patience, lag(primary, context, instance)).await {
                Err(why) => empty(Some(why)),
                Ok((lag, reaches)) => Copy {
                    newest_started: lag.copy.map(|point| point.started),
                    missing_points: Some(lag.missing),
                    missing_wal_bytes: lag.wal.and_then(|wal| wal.bytes()),
                    lacks_wal: lag.wal.is_some_and(|wal| wal.copy.is_none()),
                    reaches,
                    ..empty(None)
                },
            },
        }
    });
    stream::iter(asked).buffered(COPIES).collect().await
}

/// How far it is behind, and the newest moment that could be brought back from it.
async fn lag(primary: &Context, copy: &Context, instance: &Instance) -> Result<(Lag, Option<Timestamp>), Error> {
    let lag = copy::lag(primary, copy, instance).await?;
    let Some(point) = lag.copy else { return Ok((lag, None)) };
    let mut reaches = point.started;
    // Without the points of the primary's stream, log of it leads nowhere.
    if let Some((wal, end)) = lag.wal.and_then(|wal| Some((wal, wal.copy?))) {
        let (repo, trusted) = (copy.instance_repo(instance), &copy.config.keys.trusted_keys);
        let from = Lsn(end.0.saturating_sub(NEAR_END));
        let commit = held_behind(&repo, (wal.system_id, wal.timeline), from, trusted).await?;
        reaches = commit.map_or(reaches, |commit| commit.max(reaches));
    }
    Ok((lag, Some(reaches)))
}
