//! Listing: page by page, each at most a thousand names, in the order of the keys.
//!
//! In a bucket with versions the pages are of versions, of which the newest of each key is taken: it costs the same
//! number of requests (there is one version of each object) and tells the version id. A key whose newest version is a
//! delete marker is not listed. A listing that begins in the middle asks for the names after a key: what lies before it
//! is not paged over.

use std::{collections::VecDeque, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};

use super::{Bucket, S3Store, download::timestamp, failure, version};
use crate::{Error, Key, ObjectInfo, Result, VersionId};

/// Where the next page begins.
#[derive(Debug, Clone)]
enum Next {
    First { versions: bool },
    Versions { key: String, version: Option<String> },
    Objects { token: String },
    End,
}

struct Listing {
    bucket: Arc<Bucket>,
    span: Span,
    found: VecDeque<ObjectInfo>,
    next: Next,
}

/// What is wanted, as the bucket names it.
struct Span {
    prefix: String,
    /// Names come after this one.
    after: Option<String>,
}

pub(super) fn list(bucket: Arc<Bucket>, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
    let next = Next::First { versions: bucket.versions };
    let after = (!after.is_empty()).then(|| format!("{}{after}", bucket.prefix));
    let span = Span { prefix: format!("{}{prefix}", bucket.prefix), after };
    let listing = Listing { bucket, span, found: VecDeque::new(), next };
    stream::try_unfold(listing, async |mut listing| {
        let found = listing.next_object().await?;
        Ok(found.map(|info| (info, listing)))
    })
    .boxed()
}

impl Listing {
    async fn next_object(&mut self) -> Result<Option<ObjectInfo>> {
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
}

impl Span {
    fn wants(&self, path: Option<&str>) -> bool {
        path.is_some() && path > self.after.as_deref()
    }
}

impl Bucket {
    async fn page(&self, span: &Span, next: &Next) -> Result<(Vec<ObjectInfo>, Next)> {
        let prefix = span.prefix.as_str();
        let answer = self.policy().run(|| self.attempt("list", prefix, 0, self.page_once(span, next))).await;
        match answer {
            // A credential that may list objects but not their versions: the names are worth more than nothing.
            Err(Error::Denied { reason, .. })
                if matches!(next, Next::First { versions: true }) && failure::is_missing_right(&reason) =>
            {
                let next = Next::First { versions: false };
                self.policy().run(|| self.attempt("list", prefix, 0, self.page_once(span, &next))).await
            }
            answer => answer,
        }
    }

    async fn page_once(&self, span: &Span, next: &Next) -> Result<(Vec<ObjectInfo>, Next)> {
        match next {
            Next::First { versions: true } => self.page_of_versions(span, span.after.clone(), None).await,
            Next::First { versions: false } => self.page_of_objects(span, None).await,
            Next::Versions { key, version } => self.page_of_versions(span, Some(key.clone()), version.clone()).await,
            Next::Objects { token } => self.page_of_objects(span, Some(token.clone())).await,
            Next::End => Ok((Vec::new(), Next::End)),
        }
    }

    async fn page_of_versions(
        &self,
        span: &Span,
        key: Option<String>,
        version_marker: Option<String>,
    ) -> Result<(Vec<ObjectInfo>, Next)> {
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
        let found = answer.versions().iter().filter(|found| found.is_latest() == Some(true));
        let found = found.filter(|found| span.wants(found.key())); // a server may repeat the key it begins after
        let found = found.filter_map(|found| {
            let modified = timestamp(found.last_modified());
            self.info(found.key(), found.size(), version(found.version_id()), modified)
        });
        Ok((found.collect(), next))
    }

    async fn page_of_objects(&self, span: &Span, token: Option<String>) -> Result<(Vec<ObjectInfo>, Next)> {
        let prefix = span.prefix.as_str();
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let start = span.after.clone().filter(|_| token.is_none());
        let answer = request.set_start_after(start).set_continuation_token(token).send().await;
        let answer = answer.map_err(|e| self.failure("list", prefix, e))?;
        let next = match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), Some(token)) => Next::Objects { token: token.to_owned() },
            (Some(true), None) => return Err(no_marker(prefix)),
            _ => Next::End,
        };
        let found = answer.contents().iter().filter(|found| span.wants(found.key()));
        let found =
            found.filter_map(|found| self.info(found.key(), found.size(), None, timestamp(found.last_modified())));
        Ok((found.collect(), next))
    }

    /// `None` for names that are no keys: other people's objects.
    fn info(
        &self,
        path: Option<&str>,
        size: Option<i64>,
        version: Option<VersionId>,
        modified: jiff::Timestamp,
    ) -> Option<ObjectInfo> {
        let key = Key::new(path?.strip_prefix(&self.prefix)?).ok()?;
        Some(ObjectInfo { key, len: u64::try_from(size?).ok()?, version, modified })
    }

    /// All versions of one key, newest first.
    pub(super) async fn versions_of(&self, key: &Key) -> Result<Vec<VersionId>> {
        let path = self.path(key);
        let request = || async {
            let answer = self.client.list_object_versions().bucket(&self.name).prefix(&path).send().await;
            let answer = answer.map_err(|e| self.failure("list", key.as_str(), e))?;
            let same = answer.versions().iter().filter(|found| found.key() == Some(&path));
            Ok(same.filter_map(|found| version(found.version_id())).collect())
        };
        self.policy().run(|| self.attempt("list", key.as_str(), 0, request())).await
    }
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
        assert!(!store.bucket.versions);
        suite::run(&store).await;
        bucket.client.delete_bucket().bucket(&bucket.name).send().await.unwrap();
    }
}
