//! What changes slowly and costs a listing: the moments that can be reached, and what is stored.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::id::PointId;
use lifeboat_repo::repository::InstanceRepo;

use super::{Asking, Facts, Storage, Wal, Window, look::within};
use crate::{context::Context, error::Result, keys::host_identity, recovery};

/// Windows are looked for from so many newest points on: weeks of days. Each needs its header read, and the log behind it
/// listed.
const WINDOW_POINTS: usize = 32;

/// What was found.
pub(super) struct Slow {
    windows: Vec<Window>,
    pub storage: Storage,
    /// When; none: not all of it could be looked up.
    pub looked: Option<Timestamp>,
    pub unknown: Vec<String>,
}

pub(super) async fn look(context: &Context, repo: &InstanceRepo, newest: Option<PointId>, asking: &Asking<'_>) -> Slow {
    // A new point may lie behind a hole: then the window of the one before grows no more.
    let same = |before: &&Facts| {
        before.points.newest.as_ref().map(|point| &point.id) == newest.map(|id| id.to_string()).as_ref()
    };
    if let Some(before) = asking.slow_before((context.clock)()).filter(same) {
        let (windows, storage) = (before.windows.clone(), before.storage.clone());
        return Slow { windows, storage, looked: before.looked_slowly, unknown: Vec::new() };
    }
    let patience = asking.slow_patience;
    let now = (context.clock)();
    let (windows, storage) =
        tokio::join!(within(patience, windows(context, repo, newest)), within(patience, storage(repo)));
    let mut slow = Slow { windows: Vec::new(), storage: Storage::default(), looked: None, unknown: Vec::new() };
    // What was left out is told again at the next look, which looks again.
    let complete = windows.as_ref().is_ok_and(|(_, skipped)| *skipped == 0) && storage.is_ok();
    slow.looked = complete.then_some(now);
    match windows {
        Ok((windows, skipped)) => {
            slow.windows = windows;
            if skipped > 0 {
                let what = if skipped == 1 { "object does" } else { "objects do" };
                slow.unknown.push(format!("all moments that can be reached: {skipped} {what} not verify"));
            }
        }
        Err(why) => slow.unknown.push(format!("the moments that can be reached: {why}")),
    }
    match storage {
        Ok(storage) => slow.storage = storage,
        Err(why) => slow.storage.not_known = Some(why),
    }
    slow
}

impl Slow {
    /// The newest window has grown with the log since it was looked up.
    pub fn windows(&self, wal: Option<&Wal>) -> Vec<Window> {
        let mut windows = self.windows.clone();
        Window::grow(&mut windows, wal.and_then(|wal| wal.newest_commit));
        windows
    }
}

impl<'a> Asking<'a> {
    /// The earlier look, where what changes slowly is young enough and was found then.
    pub(super) fn slow_before(&self, now: Timestamp) -> Option<&'a Facts> {
        self.before.filter(|before| {
            let age = before.looked_slowly.map(|looked| now.duration_since(looked));
            age.is_some_and(|age| !age.is_negative() && age.unsigned_abs() < self.slowly)
        })
    }
}

async fn windows(context: &Context, repo: &InstanceRepo, newest: Option<PointId>) -> Result<(Vec<Window>, usize)> {
    let keys = &context.config.keys;
    let host = host_identity(keys)?;
    let found = recovery::newest_windows(repo, &keys.trusted_keys, &[host], WINDOW_POINTS).await?;
    let windows = found.windows.iter().map(|window| Window {
        timeline: window.timeline,
        from: window.from.time,
        to: window.to.time,
        grows: !window.is_cut && newest.is_some_and(|newest| window.points.contains(&newest)),
    });
    Ok((windows.collect(), found.skipped.len()))
}

/// One listing.
async fn storage(repo: &InstanceRepo) -> Result<Storage> {
    let folder = format!("{}/{}/", repo.tenant(), repo.instance());
    let mut listing = repo.store().list(&folder);
    let mut storage = Storage::default();
    while let Some(object) = listing.try_next().await? {
        storage.objects += 1;
        storage.bytes += object.len;
        let part = object.key.as_str()[folder.len()..].split('/').next();
        match part {
            Some("wal") => storage.wal_bytes += object.len,
            Some("packs") => storage.pack_bytes += object.len,
            _ => {}
        }
    }
    Ok(storage)
}
