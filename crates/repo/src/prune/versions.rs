//! A listing of all versions, told apart: the object, and what somebody put over it.

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use lifeboat_store::{ObjectInfo, Store, VersionInfo};

use crate::error::Result;

/// What a listing of versions shows.
#[derive(Debug)]
pub(crate) enum Found {
    /// The first version of a key: the object.
    Object {
        info: ObjectInfo,
        /// How many versions were put over it.
        over: u64,
    },
    /// A newer version, or a delete marker.
    Foreign(VersionInfo),
}

/// Versions in the order of their keys, of each key the newest first; one is held at a time, however many a key has.
pub(crate) struct Versions {
    listed: BoxStream<'static, lifeboat_store::Result<VersionInfo>>,
    /// The oldest version of the current key so far.
    pending: Option<(ObjectInfo, u64)>,
    ahead: Option<VersionInfo>,
}

impl Versions {
    pub fn new(store: &dyn Store, prefix: &str) -> Self {
        Self { listed: store.list_versions(prefix, "").fuse().boxed(), pending: None, ahead: None }
    }

    pub async fn next(&mut self) -> Result<Option<Found>> {
        loop {
            let next = match self.ahead.take() {
                Some(next) => Some(next),
                None => self.listed.try_next().await?,
            };
            let Some(next) = next else { return Ok(self.pending.take().map(object)) };
            if self.pending.as_ref().is_some_and(|(info, _)| info.key != next.info.key) {
                self.ahead = Some(next);
                return Ok(self.pending.take().map(object));
            }
            if next.delete_marker {
                return Ok(Some(Found::Foreign(next)));
            }
            let over = self.pending.as_ref().map_or(0, |(_, over)| over + 1);
            if let Some((newer, _)) = self.pending.replace((next.info, over)) {
                return Ok(Some(Found::Foreign(VersionInfo { info: newer, latest: false, delete_marker: false })));
            }
        }
    }
}

fn object((info, over): (ObjectInfo, u64)) -> Found {
    Found::Object { info, over }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use lifeboat_store::{Key, vault::VaultStore};

    use super::*;

    #[tokio::test]
    async fn the_first_version_is_the_object_and_all_else_is_foreign() {
        let vault = VaultStore::new(Arc::new(|| Timestamp::UNIX_EPOCH));
        let key = |text: &str| Key::new(text).unwrap();
        for name in ["a", "b", "c"] {
            vault.put(&key(name), name.as_bytes().to_vec().into()).await.unwrap();
        }
        let thief = vault.thief();
        thief.overwrite(&key("b"), "other".into());
        thief.delete_marker(&key("b"));
        thief.overwrite(&key("b"), "third".into());
        thief.delete_marker(&key("c"));
        thief.delete_marker(&key("d"));
        let mut versions = Versions::new(&vault, "");
        let mut seen = Vec::new();
        while let Some(found) = versions.next().await.unwrap() {
            seen.push(match found {
                Found::Object { info, over } => format!("{} {} {over}", info.key, info.len),
                Found::Foreign(found) if found.delete_marker => format!("{} marker", found.info.key),
                Found::Foreign(found) => format!("{} newer {}", found.info.key, found.info.len),
            });
        }
        let expected = ["a 1 0", "b marker", "b newer 5", "b newer 5", "b 1 2", "c marker", "c 1 0", "d marker"];
        let mut sorted = seen.clone();
        sorted.sort();
        let mut wanted: Vec<String> = expected.map(str::to_owned).to_vec();
        wanted.sort();
        assert_eq!(sorted, wanted, "{seen:?}");
        assert!(seen.iter().position(|text| text == "b 1 2") < seen.iter().position(|text| text == "c 1 0"));
    }
}
