//! Listing: page by page, each at most a thousand names, in the order of the keys.
//!
//! In a bucket with versions the pages are of versions: it costs the same number of requests (there is one version of
//! each object) and tells the version id. A server lists the versions of a key together, the newest first, so that the
//! **first** version of a key is the last of them, wherever the pages end: one name is held back until the next key
//! comes. Delete markers are passed over, so nobody who lays one hides anything from a listing. A listing that begins in
//! the middle asks for the names after a key: what lies before it is not paged over.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc};

use aws_sdk_s3::primitives::DateTime;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::{Bucket, S3Store, Versioning, download::timestamp, failure};
use crate::{Error, Key, ObjectInfo, Result, VersionInfo};

/// Where the next page begins.
#[derive(Debug, Clone)]
enum Next {
    First { versions: bool },
    Versions { key: String, version: Option<String> },
    Objects { token: Option<String> },
    End,
}

struct Listing {
    bucket: Arc<Bucket>,
    span: Span,
    found: VecDeque<VersionInfo>,
    next: Next,
}

/// What is wanted, as the bucket names it.
struct Span {
    prefix: String,
    /// Names come after this one.
    after: Option<String>,
    /// Names alone will do, where versions may not be listed.
    or_names: bool,
}

/// The first version of each key.
pub(super) fn list(bucket: Arc<Bucket>, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
    // Where there are locks, there are versions that a thief may have hidden: names alone would mislead.
    let or_names = !bucket.locks;
    let listing = Listing::new(bucket, prefix, after, or_names);
    stream::try_unfold((listing, None), async |(mut listing, mut held)| {
        let first = listing.next_first(&mut held).await?;
        Ok(first.map(|info| (info, (listing, held))))
    })
    .boxed()
}

/// Every version and delete marker.
pub(super) fn versions(bucket: Arc<Bucket>, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
    let listing = Listing::new(bucket, prefix, after, false);
    stream::try_unfold(listing, async |mut listing| {
        let found = listing.next_version().await?;
        Ok(found.map(|info| (info, listing)))
    })
    .boxed()
}

impl Listing {
    fn new(bucket: Arc<Bucket>, prefix: &str, after: &str, or_names: bool) -> Self {
        let next = Next::First { versions: bucket.versioning != Versioning::Off };
        let after = (!after.is_empty()).then(|| format!("{}{after}", bucket.prefix));
        let span = Span { prefix: format!("{}{prefix}", bucket.prefix), after, or_names };
        Self { bucket, span, found: VecDeque::new(), next }
    }

    async fn next_version(&mut self) -> Result<Option<VersionInfo>> {
        loop {
            if let Some(info) = self.found.pop_front() {
                return Ok(Some(info));
            }
            let (found, next) = match &self.next {
                Next::End => return Ok(None),
                next => self.bucket.page(&self.span, next).await?,
            };
            self.found = found.into();
            self.next = next;
        }
    }

    /// Goes on to the next key; `held` is the oldest version seen of the key that is being read.
    async fn next_first(&mut self, held: &mut Option<ObjectInfo>) -> Result<Option<ObjectInfo>> {
        while let Some(version) = self.next_version().await? {
            if version.delete_marker {
                continue;
            }
            let before = held.replace(version.info);
            if let (Some(before), Some(now)) = (before, held.as_ref())
                && before.key != now.key
            {
                return Ok(Some(before));
            }
        }
        Ok(held.take())
    }
}

impl Span {
    fn wants(&self, path: Option<&str>) -> bool {
        path.is_some() && path > self.after.as_deref()
    }
}

impl Bucket {
    async fn page(&self, span: &Span, next: &Next) -> Result<(Vec<VersionInfo>, Next)> {
        let prefix = span.prefix.as_str();
        let answer = self.policy().run(|| self.attempt("list", prefix, 0, self.page_once(span, next))).await;
        match answer {
            // A credential that may list objects but not their versions: the names are worth more than nothing.
            Err(Error::Denied { reason, .. })
                if span.or_names
                    && matches!(next, Next::First { versions: true })
                    && failure::is_missing_right(&reason) =>
            {
                let next = Next::First { versions: false };
                self.policy().run(|| self.attempt("list", prefix, 0, self.page_once(span, &next))).await
            }
            answer => answer,
        }
    }

    async fn page_once(&self, span: &Span, next: &Next) -> Result<(Vec<VersionInfo>, Next)> {
        match next {
            Next::First { versions: true } => self.page_of_versions(span, span.after.clone(), None).await,
            Next::First { versions: false } => self.page_of_objects(span, None).await,
            Next::Versions { key, version } => self.page_of_versions(span, Some(key.clone()), version.clone()).await,
            Next::Objects { token } => self.page_of_objects(span, token.clone()).await,
            Next::End => Ok((Vec::new(), Next::End)),
        }
    }

    async fn page_of_versions(
        &self,
        span: &Span,
        key: Option<String>,
        version_marker: Option<String>,
    ) -> Result<(Vec<VersionInfo>, Next)> {
        let prefix = span.prefix.as_str();
        let request = self.client.list_object_versions().bucket(&self.name).prefix(prefix);
        let answer = request.set_key_marker(key).set_version_id_marker(version_marker).send().await;
        let answer = answer.map_err(|e| self.failure("list", prefix, e))?;
        let next = match (answer.is_truncated(), answer.next_key_marker()) {
            (Some(true), Some(key)) => {
                Next::Versions { key: key.to_owned(), version: answer.next_version_id_marker().map(str::to_owned) }
            }
            (Some(true), None) => return Err(no_marker(prefix)),
            _ => Next::End,
        };
        // A server may repeat the key that it begins after.
        let objects = answer.versions().iter().filter(|found| span.wants(found.key())).filter_map(|found| {
            let info = self.info(found.key(), found.size(), found.version_id(), found.last_modified())?;
            Some(VersionInfo { info, latest: found.is_latest() == Some(true), delete_marker: false })
        });
        let markers = answer.delete_markers().iter().filter(|found| span.wants(found.key())).filter_map(|found| {
            let info = self.info(found.key(), Some(0), found.version_id(), found.last_modified())?;
            Some(VersionInfo { info, latest: found.is_latest() == Some(true), delete_marker: true })
        });
        Ok((merge(objects.collect(), markers.collect()), next))
    }

    async fn page_of_objects(&self, span: &Span, token: Option<String>) -> Result<(Vec<VersionInfo>, Next)> {
        let prefix = span.prefix.as_str();
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let start = span.after.clone().filter(|_| token.is_none());
        let answer = request.set_start_after(start).set_continuation_token(token).send().await;
        let answer = answer.map_err(|e| self.failure("list", prefix, e))?;
        let next = match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), Some(token)) => Next::Objects { token: Some(token.to_owned()) },
            (Some(true), None) => return Err(no_marker(prefix)),
            _ => Next::End,
        };
        let found = answer.contents().iter().filter(|found| span.wants(found.key())).filter_map(|found| {
            let info = self.info(found.key(), found.size(), None, found.last_modified())?;
            Some(VersionInfo { info, latest: true, delete_marker: false })
        });
        Ok((found.collect(), next))
    }

    /// `None` for names that are no keys: other people's objects.
    fn info(
        &self,
        path: Option<&str>,
        size: Option<i64>,
        version: Option<&str>,
        modified: Option<&DateTime>,
    ) -> Option<ObjectInfo> {
        let key = Key::new(path?.strip_prefix(&self.prefix)?).ok()?;
        let len = u64::try_from(size?).ok()?;
        Some(ObjectInfo { key, len, version: self.version(version), modified: timestamp(modified) })
    }

    /// The versions of one key, the newest first, at most `most`; delete markers left out.
    pub(super) async fn versions_of(self: &Arc<Self>, key: &Key, most: usize) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        // Other keys that begin with this one come after it.
        let mut listing = Listing::new(Arc::clone(self), key.as_str(), "", false);
        while let Some(version) = listing.next_version().await? {
            if version.info.key != *key || found.len() >= most {
                break;
            }
            if !version.delete_marker {
                found.push(version.info);
            }
        }
        Ok(found)
    }
}

/// One page in order again: a server sends versions and delete markers as one list, which the client takes apart.
fn merge(objects: Vec<VersionInfo>, markers: Vec<VersionInfo>) -> Vec<VersionInfo> {
    if markers.is_empty() {
        return objects;
    }
    let place = |found: &VersionInfo| (found.info.key.clone(), Reverse(found.latest), Reverse(found.info.modified));
    let (mut objects, mut markers) = (VecDeque::from(objects), VecDeque::from(markers));
    let mut merged = Vec::with_capacity(objects.len() + markers.len());
    while let (Some(object), Some(marker)) = (objects.front(), markers.front()) {
        let next = if place(marker) <= place(object) { &mut markers } else { &mut objects };
        merged.extend(next.pop_front());
    }
    merged.extend(objects);
    merged.extend(markers);
    merged
}

impl S3Store {
    /// How many multipart uploads under a key prefix are neither completed nor aborted. They are invisible, but cost
    /// room; a killed process can leave some.
    pub async fn unfinished_uploads(&self, prefix: &str) -> Result<usize> {
        let bucket = &self.bucket;
        let request = || async {
            let path = format!("{}{prefix}", bucket.prefix);
            let answer = bucket.client.list_multipart_uploads().bucket(&bucket.name).prefix(path).send().await;
            answer.map(|found| found.uploads().len()).map_err(|e| bucket.failure("list", prefix, e))
        };
        bucket.policy().run(|| bucket.attempt("list", prefix, 0, request())).await
    }
}

fn no_marker(prefix: &str) -> Error {
    Error::Other {
        operation: "list",
        key: prefix.to_owned(),
        reason: "the server says that there is more, but not where it begins".into(),
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_testkit::testbed;

    use super::*;
    use crate::{
        s3::{Limits, S3Options, connect},
        suite,
    };

    /// The testbed's own bucket has versions; one without them is listed by other requests.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_without_versions_passes_the_contract() {
        if !testbed::enabled() {
            return;
        }
        let options = S3Options {
            endpoint: Some(testbed::setting("LIFEBOAT_TESTBED_S3_ENDPOINT", "http://127.0.0.1:57480").parse().unwrap()),
            bucket: format!("lifeboat-plain-{}", suite::random_name()),
            prefix: "plain".into(),
            region: testbed::setting("LIFEBOAT_TESTBED_S3_REGION", "us-east-1"),
            access_key: testbed::secret("s3-access-key"),
            secret_key: testbed::secret("s3-secret-key"),
            ca_file: None,
            path_style: true,
            multipart_threshold: S3Options::MULTIPART_THRESHOLD,
            limits: Limits::default(),
        };
        let bucket = connect::bucket(&options).unwrap();
        bucket.client.create_bucket().bucket(&bucket.name).send().await.unwrap();
        let store = S3Store::connect(options).await.unwrap();
        assert_eq!(store.bucket.versioning, Versioning::Off);
        suite::run(&store).await;
        bucket.client.delete_bucket().bucket(&bucket.name).send().await.unwrap();
    }
}
