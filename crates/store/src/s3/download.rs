//! Reading: one buffer of the length asked for, filled by as many attempts as it takes.
//!
//! When a body breaks off, the next attempt goes on behind the last byte that came: a large object gets through a line
//! that never holds long enough for all of it. The `ETag` makes sure that both halves are of one object.

use std::ops::Range;

use aws_sdk_s3::{operation::get_object::GetObjectOutput, operation::head_object::HeadObjectOutput};
use bytes::Bytes;
use jiff::Timestamp;

use super::{Bucket, Versioning, failure};
use crate::{Error, Key, ObjectInfo, Result, VersionId, check_length, check_range, throttle::within};

/// Memory asked for before a byte has come; beyond it the buffer grows with what really arrives.
const RESERVED: u64 = 64 << 20;

struct Download<'a> {
    key: &'a Key,
    version: Option<&'a VersionId>,
    /// Known at the start when a range was asked for, else from the first answer.
    range: Option<Range<u64>>,
    etag: Option<String>,
    buffer: Vec<u8>,
}

impl Bucket {
    pub(super) async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            // HTTP has no words for an empty range.
            check_range(key, range, self.head(key, version).await?.len)?;
            return Ok(Bytes::new());
        }
        let mut download = Download { key, version, range, etag: None, buffer: Vec::new() };
        let mut attempts = self.policy().begin();
        loop {
            match self.fetch(&mut download).await {
                Ok(()) => return Ok(Bytes::from(download.buffer)),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    /// Asks for what is still missing and appends what comes.
    async fn fetch(&self, download: &mut Download<'_>) -> Result<()> {
        let key = download.key;
        let have = download.buffer.len() as u64;
        let wanted = download.range.clone().map(|range| range.start + have..range.end);
        if wanted.as_ref().is_some_and(|wanted| wanted.is_empty()) {
            return Ok(());
        }
        let request = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(self.path(key))
            .set_version_id(download.version.map(|version| version.0.clone()))
            .set_range(wanted.as_ref().map(|wanted| format!("bytes={}-{}", wanted.start, wanted.end - 1)))
            .set_if_match(download.etag.clone());
        let answer = async { request.send().await.map_err(|e| self.failure("get", key.as_str(), e)) };
        let answer = self.attempt("get", key.as_str(), 0, answer).await;
        let answer = answer.map_err(|e| explain(e, key, download.version, wanted.as_ref()))?;
        let wanted = check_answer(key, wanted, &answer)?;
        if download.range.is_none() {
            download.range = Some(wanted.clone());
        }
        download.etag = answer.e_tag.clone();
        let missing = wanted.end - wanted.start;
        self.attempt("get", key.as_str(), missing, self.receive(download, missing, answer)).await
    }

    async fn receive(&self, download: &mut Download<'_>, missing: u64, answer: GetObjectOutput) -> Result<()> {
        let key = download.key;
        let broken = |reason: String| Error::Unavailable {
            operation: "get",
            key: key.to_string(),
            reason: format!("the body from {} broke off: {reason}", self.endpoint),
        };
        let end = download.buffer.len() as u64 + missing;
        download.buffer.try_reserve_exact(missing.min(RESERVED) as usize).map_err(|e| out_of_memory(key, &e))?;
        let mut body = answer.body;
        loop {
            match within(self.limits.stall, body.next()).await {
                None => return Err(broken(format!("nothing came for {} s", self.limits.stall.as_secs()))),
                Some(Some(Err(e))) => return Err(broken(failure::causes(&e))),
                Some(Some(Ok(bytes))) => {
                    download.buffer.try_reserve(bytes.len()).map_err(|e| out_of_memory(key, &e))?;
                    download.buffer.extend_from_slice(&bytes);
                    if download.buffer.len() as u64 > end {
                        return check_length(key, end, download.buffer.len() as u64);
                    }
                }
                Some(None) if (download.buffer.len() as u64) < end => return Err(broken("bytes are missing".into())),
                Some(None) => return Ok(()),
            }
        }
    }

    /// Asks for an object's headers, with retries.
    pub(super) async fn look(&self, key: &Key, version: Option<&VersionId>) -> Result<HeadObjectOutput> {
        let request = || async {
            let head = self.client.head_object().bucket(&self.name).key(self.path(key));
            let answer = head.set_version_id(version.map(|version| version.0.clone())).send().await;
            answer.map_err(|e| explain(self.failure("head", key.as_str(), e), key, version, None))
        };
        self.policy().run(|| self.attempt("head", key.as_str(), 0, request())).await
    }

    pub(super) async fn head(&self, key: &Key, asked: Option<&VersionId>) -> Result<ObjectInfo> {
        let answer = self.look(key, asked).await?;
        Ok(ObjectInfo {
            key: key.clone(),
            len: length(key, answer.content_length)?,
            version: self.version(answer.version_id.as_deref()),
            modified: timestamp(answer.last_modified.as_ref()),
        })
    }

    pub(super) async fn delete(&self, key: &Key, asked: Option<&VersionId>) -> Result<()> {
        // Deleting without a version would only lay a marker over the newest one.
        let newest = match asked {
            None if self.versioning != Versioning::Off => match self.head(key, None).await {
                Err(Error::NotFound { .. }) => return Ok(()),
                info => info?.version,
            },
            asked => asked.cloned(),
        };
        let request = || async {
            let delete = self.client.delete_object().bucket(&self.name).key(self.path(key));
            let answer = delete.set_version_id(newest.as_ref().map(|version| version.0.clone())).send().await;
            answer.map(drop).map_err(|e| self.failure("delete", key.as_str(), e))
        };
        match self.policy().run(|| self.attempt("delete", key.as_str(), 0, request())).await {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(refusal @ Error::Denied { .. }) => Err(self.explain_delete(key, newest.as_ref(), refusal).await),
            done => done,
        }
    }
}

/// A refusal in the light of what was asked: servers say variously that a version or range is not there.
fn explain(error: Error, key: &Key, version: Option<&VersionId>, range: Option<&Range<u64>>) -> Error {
    let Error::Other { reason, .. } = &error else { return error };
    let says = |texts: &[&str]| texts.iter().any(|text| reason.starts_with(text));
    match (version, range) {
        (_, Some(range)) if says(&["InvalidRange", "HTTP 416"]) => {
            let reason = format!("bytes {}..{} were asked for, the object is shorter", range.start, range.end);
            Error::Damaged { key: key.to_string(), reason }
        }
        // A malformed version id, or one that names a delete marker.
        (Some(_), _) if says(&["InvalidArgument", "HTTP 400", "MethodNotAllowed", "HTTP 405"]) => {
            Error::NotFound { key: key.to_string() }
        }
        _ if says(&["PreconditionFailed", "HTTP 412"]) => {
            Error::Damaged { key: key.to_string(), reason: "it was replaced while it was being read".into() }
        }
        _ => error,
    }
}

/// Compares the answer's own words with the question; gives the range that its body must fill.
fn check_answer(key: &Key, wanted: Option<Range<u64>>, answer: &GetObjectOutput) -> Result<Range<u64>> {
    let len = length(key, answer.content_length)?;
    let Some(wanted) = wanted else { return Ok(0..len) };
    let total = answer.content_range.as_deref().and_then(|text| text.rsplit_once('/')?.1.parse().ok());
    if let Some(total) = total {
        check_range(key, &wanted, total)?;
    }
    let starts_right = answer.content_range.as_deref().is_none_or(|text| {
        text.trim_start_matches("bytes")
            .trim_start()
            .split_once('-')
            .is_some_and(|(start, _)| start.parse() == Ok(wanted.start))
    });
    if !starts_right {
        let reason = format!("asked for byte {}, got {}", wanted.start, answer.content_range.as_deref().unwrap_or(""));
        return Err(Error::Damaged { key: key.to_string(), reason });
    }
    check_length(key, wanted.end - wanted.start, len)?;
    Ok(wanted)
}

fn length(key: &Key, stated: Option<i64>) -> Result<u64> {
    stated
        .and_then(|len| u64::try_from(len).ok())
        .ok_or_else(|| Error::Damaged { key: key.to_string(), reason: "the server states no length".into() })
}

fn out_of_memory(key: &Key, error: &std::collections::TryReserveError) -> Error {
    Error::Other { operation: "get", key: key.to_string(), reason: error.to_string() }
}

pub(super) fn timestamp(stated: Option<&aws_sdk_s3::primitives::DateTime>) -> Timestamp {
    let time = stated.and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos() as i32).ok());
    time.unwrap_or(Timestamp::UNIX_EPOCH)
}
