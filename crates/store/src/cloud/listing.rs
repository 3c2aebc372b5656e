//! Listing: pages in key order, with a plain text prefix, beginning anywhere.
//!
//! Both services list in the order of the keys' bytes, except Azure accounts with a hierarchical namespace, which list
//! folder by folder. Everything above relies on the order, so it is checked, and such an account is refused.
//!
//! Of Azure's listings `object_store` drops the object whose name is the prefix itself: that one is looked at by name.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt as _, stream, stream::BoxStream};
use object_store::{ObjectMeta, list::PaginatedListOptions};

use super::{Place, download};
use crate::{Error, Key, ObjectInfo, Result};

pub(super) fn list(place: Arc<Place>, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
    // Past the last key with the prefix.
    if after > prefix && !after.starts_with(prefix) {
        return stream::empty().boxed();
    }
    // What comes before the prefix need not be asked for, and not every service would understand it.
    let offset = after.starts_with(prefix).then(|| after.to_owned()).filter(|after| !after.is_empty());
    let itself = Key::new(prefix).ok().filter(|key| place.drops_the_prefix && key.as_str() > after);
    let prefix = format!("{}{prefix}", place.prefix);
    let walk = Walk {
        options: PaginatedListOptions {
            offset: offset.map(|offset| format!("{}{offset}", place.prefix)),
            ..PaginatedListOptions::default()
        },
        place,
        prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
        itself,
        found: VecDeque::new(),
        last: after.to_owned(),
        newest: String::new(),
        done: false,
    };
    stream::try_unfold(walk, |mut walk| async move { Ok(walk.next().await?.map(|info| (info, walk))) }).boxed()
}

struct Walk {
    place: Arc<Place>,
    prefix: Option<String>,
    /// The prefix as a key, to be looked at before all that it begins.
    itself: Option<Key>,
    options: PaginatedListOptions,
    found: VecDeque<ObjectMeta>,
    /// Nothing up to here is wanted: what the caller knows, then what was given.
    last: String,
    /// The last name of all that came.
    newest: String,
    done: bool,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<ObjectInfo>> {
        if let Some(key) = self.itself.take() {
            match self.place.head(&key).await {
                Err(Error::NotFound { .. }) => {}
                found => {
                    self.last = key.to_string();
                    return found.map(Some);
                }
            }
        }
        loop {
            while let Some(meta) = self.found.pop_front() {
                if let Some(info) = self.wanted(meta)? {
                    return Ok(Some(info));
                }
            }
            if self.done {
                return Ok(None);
            }
            self.page().await?;
        }
    }

    async fn page(&mut self) -> Result<()> {
        let (place, prefix) = (&self.place, self.prefix.as_deref());
        let named = prefix.unwrap_or("everything");
        let ask = || place.objects.list_paginated(prefix, self.options.clone());
        let page = place.limits.retry.run(|| place.attempt("list", named, 0, ask())).await?;
        self.options.page_token = page.page_token;
        self.done = self.options.page_token.is_none();
        self.found = page.result.objects.into();
        Ok(())
    }

    /// What is ours, and comes after what was given. Some services (Azurite) begin at the beginning all the same.
    fn wanted(&mut self, meta: ObjectMeta) -> Result<Option<ObjectInfo>> {
        let name = meta.location.as_ref();
        if name <= self.newest.as_str() {
            let reason = format!(
                "it lists {name} after {}: not in the order of names, as an account with a hierarchical namespace does; \
                 use one without",
                self.newest
            );
            return Err(Error::Unusable { store: self.place.describe(), reason });
        }
        self.newest = name.to_owned();
        let key = name.strip_prefix(self.place.prefix.as_str()).and_then(|rest| Key::new(rest).ok());
        let Some(key) = key.filter(|key| key.as_str() > self.last.as_str()) else { return Ok(None) };
        self.last = key.to_string();
        Ok(Some(ObjectInfo { key, len: meta.size, version: None, modified: download::modified(&meta) }))
    }
}
