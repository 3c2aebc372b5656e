//! Recovery points of an instance, from the repository.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use lifeboat_engine::context::Context;
use lifeboat_model::id::{Instance, Tenant};
use lifeboat_repo::point::{Point, PointRef};

use super::PointView;
use crate::{
    Error, Result,
    daemon::{Daemon, Scope},
    look::Opened,
};

/// Points that are shown.
const SHOWN: usize = 100;
/// Headers read at the same time: one can be large.
const READS: usize = 2;

/// The newest hundred points of an instance, newest first, logical dumps among them; none where there is no such instance that may
/// be seen.
pub async fn points(
    daemon: &Daemon,
    scope: &Scope,
    tenant: &Tenant,
    instance: &Instance,
) -> Result<Option<Vec<PointView>>> {
    let known = daemon.policies().sites.get(tenant).is_some_and(|site| site.config.instances.contains_key(instance));
    if !scope.has(tenant) || !known {
        return Ok(None);
    }
    let opened = match daemon.opened(tenant).await {
        Ok(opened) => opened,
        Err(Error::NotOpen { absent: true, .. }) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let repo = opened.context.instance_repo(instance);
    let listed = repo.list_points().await.map_err(lifeboat_engine::Error::from)?;
    let newest: Vec<PointRef> = listed.into_iter().rev().take(SHOWN).collect();
    let opened = &opened;
    let reading = newest.into_iter().map(|reference| async move { view(opened, instance, &reference).await });
    stream::iter(reading).buffered(READS).try_collect().await.map(Some)
}

async fn view(opened: &Opened, instance: &Instance, reference: &PointRef) -> Result<PointView> {
    if let Some(known) = opened.points.get(&reference.key) {
        return Ok(known);
    }
    let context: &Context = &opened.context;
    let repo = context.instance_repo(instance);
    let view = match repo.read_point(reference, &context.config.keys.trusted_keys).await {
        Ok(point) => {
            let Point { header, signer, modified, .. } = &point;
            PointView {
                point: header.point.to_string(),
                started: header.started,
                finished: header.finished,
                bytes: (!header.trees.is_empty()).then(|| header.trees.iter().map(|tree| tree.bytes).sum()),
                doubt: repo.doubt(signer, *modified),
            }
        }
        // Not an answer about the point.
        Err(lifeboat_repo::Error::Store(error)) => return Err(lifeboat_engine::Error::from(error).into()),
        Err(error) => PointView {
            point: reference.id.to_string(),
            started: reference.time,
            finished: reference.time,
            bytes: None,
            doubt: Some(error.to_string()),
        },
    };
    opened.points.put(reference.key.clone(), view.clone());
    Ok(view)
}
