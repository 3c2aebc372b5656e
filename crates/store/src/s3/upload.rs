//! Writing: one request, or parts in parallel; and finding out what happened when a reply was lost.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::{
    config::{ConfigBag, Intercept, RuntimeComponents},
    error::BoxError,
    primitives::{ByteStream, SdkBody},
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::{Bucket, Versioning, lock};
use crate::{Error, Key, Result, Retention, Stored, VersionId, retry::Attempts};

/// The object metadata that names the put which wrote it.
const TAG: &str = "lifeboat-put";
/// S3 takes no more parts than this.
const MOST_PARTS: u64 = 10_000;
/// How long an abandoned multipart upload may take to be aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(30);

/// Versions of one key that are looked at for our tag. Each has one writer; others' versions are newer.
const MOST_VERSIONS: usize = 1000;

/// One put: its object, and a random tag by which we know the object again as ours.
struct Put<'a> {
    key: &'a Key,
    bytes: Bytes,
    retention: Option<Retention>,
    tag: String,
}

/// What lies under a put's key.
enum There {
    Nothing,
    /// Our own object, of an attempt whose reply was lost.
    Ours(Stored),
    Others,
}

impl There {
    fn ours(self, put: &Put<'_>) -> Result<Stored> {
        let There::Ours(stored) = self else { return Err(Error::AlreadyExists { key: put.key.to_string() }) };
        tracing::debug!(key = %put.key, "an earlier attempt had succeeded, its reply was lost");
        Ok(stored)
    }
}

/// A body's hash, in the two forms that a request carries it.
#[derive(Debug, Clone)]
struct Digest {
    hex: String,
    base64: String,
}

impl Digest {
    async fn of(key: &Key, bytes: &Bytes) -> Result<Self> {
        let bytes = bytes.clone();
        let hash = tokio::task::spawn_blocking(move || Sha256::digest(&bytes)).await;
        let hash = hash.map_err(|e| Error::Other { operation: "put", key: key.to_string(), reason: e.to_string() })?;
        Ok(Self { hex: hex::encode(hash), base64: STANDARD.encode(hash) })
    }
}

/// Signs the hash that we already have, so that the SDK does not hash the body again on an async thread.
#[derive(Debug)]
pub(super) struct SignHash(pub(super) String);

impl Intercept for SignHash {
    fn name(&self) -> &'static str {
        "SignHash"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

fn body(bytes: &Bytes) -> ByteStream {
    ByteStream::new(SdkBody::from(bytes.clone()))
}

impl Bucket {
    pub(super) async fn put(self: &Arc<Self>, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        let put = Put { key, bytes, retention, tag: random_tag(key)? };
        if put.bytes.len() as u64 > self.multipart_threshold {
            self.put_parts(&put).await
        } else {
            self.put_whole(&put).await
        }
    }

    /// In parts, whatever the length.
    pub(super) async fn put_in_parts(
        self: &Arc<Self>,
        key: &Key,
        bytes: Bytes,
        retention: Option<Retention>,
    ) -> Result<Stored> {
        self.put_parts(&Put { key, bytes, retention, tag: random_tag(key)? }).await
    }

    async fn put_whole(self: &Arc<Self>, put: &Put<'_>) -> Result<Stored> {
        let digest = Digest::of(put.key, &put.bytes).await?;
        self.until_settled(put, || self.send_whole(put, &digest)).await
    }

    async fn send_whole(&self, put: &Put<'_>, digest: &Digest) -> Result<Stored> {
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.path(put.key))
            .metadata(TAG, &put.tag)
            .set_object_lock_mode(lock::mode(put.retention))
            .set_object_lock_retain_until_date(lock::until(put.retention))
            .set_if_none_match(self.if_none_match())
            .checksum_sha256(&digest.base64)
            .content_type("application/octet-stream")
            .content_length(put.bytes.len() as i64)
            .body(body(&put.bytes))
            .customize()
            .interceptor(SignHash(digest.hex.clone()));
        let answer = request.send().await.map_err(|e| self.failure("put", put.key.as_str(), e))?;
        Ok(Stored { version: self.version(answer.version_id()) })
    }

    /// Repeats a request that makes the object visible, until it is known whether it did.
    async fn until_settled<F: Future<Output = Result<Stored>>>(
        self: &Arc<Self>,
        put: &Put<'_>,
        send: impl Fn() -> F,
    ) -> Result<Stored> {
        let mut attempts = self.policy().begin();
        loop {
            let answer = self.attempt("put", put.key.as_str(), put.bytes.len() as u64, send()).await;
            match answer {
                Ok(stored) if attempts.is_retry() => return self.watch_for_a_second(put, stored).await,
                Ok(stored) => return Ok(stored),
                Err(error) => {
                    if let Some(stored) = self.after_fault(put, error, &mut attempts).await? {
                        return Ok(stored);
                    }
                }
            }
        }
    }

    /// Decides what a failed attempt was: no effect (`None`: send again), done with its reply lost (`Some`), or final.
    async fn after_fault(
        self: &Arc<Self>,
        put: &Put<'_>,
        error: Error,
        attempts: &mut Attempts,
    ) -> Result<Option<Stored>> {
        match &error {
            Error::Other { reason, .. } if self.gives_up_condition(reason) => return Ok(None),
            _ => {}
        }
        // On a first attempt the key was taken before. Later, the taker may be our own first attempt; and an upload
        // that is gone may have been completed by it.
        let taken_or_gone = matches!(error, Error::AlreadyExists { .. } | Error::NotFound { .. });
        if !(taken_or_gone && attempts.is_retry()) {
            attempts.wait_after(error).await?;
            return match self.there(put).await? {
                There::Nothing => Ok(None),
                found => found.ours(put).map(Some),
            };
        }
        match self.there(put).await? {
            There::Nothing => Err(error),
            found => found.ours(put).map(Some),
        }
    }

    /// An attempt that we gave up may still have been carried out, before or behind the one that succeeded. The first
    /// of them is the object: all have the same bytes and the same lock.
    async fn watch_for_a_second(self: &Arc<Self>, put: &Put<'_>, stored: Stored) -> Result<Stored> {
        if stored.version.is_none() {
            return Ok(stored);
        }
        match self.there(put).await {
            Ok(There::Ours(first)) => Ok(first),
            Ok(_) => Ok(stored),
            Err(Error::Denied { reason, .. }) => {
                let key = put.key;
                tracing::warn!(%key, reason, "may not look whether repeated requests left more than one version");
                Ok(stored)
            }
            Err(error) => Err(error),
        }
    }

    /// What lies under the key of a put. Where there are versions all of them are looked at: one of somebody else, or a
    /// delete marker, may lie over ours.
    async fn there(self: &Arc<Self>, put: &Put<'_>) -> Result<There> {
        if self.versioning == Versioning::Off {
            return self.there_newest(put).await;
        }
        let versions = match self.versions_of(put.key, MOST_VERSIONS).await {
            Err(Error::Denied { .. }) => return self.there_newest(put).await,
            versions => versions?,
        };
        let mut ours = Vec::new();
        for info in versions.iter().rev().filter(|info| info.len == put.bytes.len() as u64) {
            if self.is_ours(put, info.version.as_ref()).await? {
                ours.push(info.version.clone());
            }
        }
        if ours.len() > 1 {
            tracing::warn!(key = %put.key, kept = ?ours[0], surplus = ?ours[1..], "repeated requests left more than one version");
        }
        Ok(match ours.into_iter().next() {
            Some(version) => There::Ours(Stored { version }),
            None if versions.is_empty() => There::Nothing,
            None => There::Others,
        })
    }

    async fn there_newest(&self, put: &Put<'_>) -> Result<There> {
        let found = match self.look(put.key, None).await {
            Err(Error::NotFound { .. }) => return Ok(There::Nothing),
            found => found?,
        };
        let same_length = found.content_length() == Some(put.bytes.len() as i64);
        if same_length && found.metadata().and_then(|metadata| metadata.get(TAG)) == Some(&put.tag) {
            return Ok(There::Ours(Stored { version: self.version(found.version_id()) }));
        }
        Ok(There::Others)
    }

    async fn is_ours(&self, put: &Put<'_>, version: Option<&VersionId>) -> Result<bool> {
        match self.look(put.key, version).await {
            Ok(found) => Ok(found.metadata().and_then(|metadata| metadata.get(TAG)) == Some(&put.tag)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn if_none_match(&self) -> Option<String> {
        self.conditional.load(Ordering::Relaxed).then(|| "*".to_owned())
    }

    /// Some servers refuse the condition as unknown: leave it out from then on.
    fn gives_up_condition(&self, reason: &str) -> bool {
        let unknown = reason.starts_with("NotImplemented") || reason.starts_with("HTTP 501");
        unknown && self.conditional.swap(false, Ordering::Relaxed)
    }

    async fn put_parts(self: &Arc<Self>, put: &Put<'_>) -> Result<Stored> {
        let upload = self.begin_parts(put).await?;
        let part_len = self.limits.part.max((put.bytes.len() as u64).div_ceil(MOST_PARTS));
        let parts = stream::iter(slices(&put.bytes, part_len as usize).into_iter().zip(1..))
            .map(|(slice, number)| self.put_part(put.key, upload.id.clone(), slice, number))
            .buffered(self.limits.parallel_parts.max(1))
            .try_collect::<Vec<_>>()
            .await;
        let done = match parts {
            Ok(parts) => self.until_settled(put, || self.complete_parts(put, &upload.id, &parts)).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(_) => upload.forget(),
            Err(_) => upload.abort().await,
        }
        self.make_sure_of_the_lock(put, done?).await
    }

    /// A lock is asked for when an upload in parts begins, and Ceph 18 forgets it without a word (it was seen to). So it
    /// is put on the finished version once more, which changes nothing where it stood already.
    async fn make_sure_of_the_lock(&self, put: &Put<'_>, stored: Stored) -> Result<Stored> {
        if let Some(retention) = put.retention {
            self.extend_lock(put.key, stored.version.as_ref(), retention).await?;
        }
        Ok(stored)
    }

    async fn begin_parts(self: &Arc<Self>, put: &Put<'_>) -> Result<Upload> {
        let request = || async {
            let create = self
                .client
                .create_multipart_upload()
                .bucket(&self.name)
                .key(self.path(put.key))
                .metadata(TAG, &put.tag)
                .set_object_lock_mode(lock::mode(put.retention))
                .set_object_lock_retain_until_date(lock::until(put.retention))
                .content_type("application/octet-stream")
                .checksum_algorithm(ChecksumAlgorithm::Sha256);
            let answer = create.send().await.map_err(|e| self.failure("put", put.key.as_str(), e))?;
            answer.upload_id.ok_or_else(|| Error::Other {
                operation: "put",
                key: put.key.to_string(),
                reason: "the server gave no upload id".into(),
            })
        };
        let id = self.policy().run(|| self.attempt("put", put.key.as_str(), 0, request())).await?;
        Ok(Upload { bucket: Some(Arc::clone(self)), path: self.path(put.key), id })
    }

    async fn put_part(&self, key: &Key, upload: String, slice: Bytes, number: i32) -> Result<CompletedPart> {
        let digest = &Digest::of(key, &slice).await?;
        let (upload, slice) = (&upload, &slice);
        let request = || async move {
            let request = self
                .client
                .upload_part()
                .bucket(&self.name)
                .key(self.path(key))
                .upload_id(upload)
                .part_number(number)
                .checksum_sha256(&digest.base64)
                .content_length(slice.len() as i64)
                .body(body(slice))
                .customize()
                .interceptor(SignHash(digest.hex.clone()));
            request.send().await.map_err(|e| self.failure("put", key.as_str(), e))
        };
        let len = slice.len() as u64;
        let answer = self.policy().run(|| self.attempt("put", key.as_str(), len, request())).await?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag);
        Ok(part.set_checksum_sha256(answer.checksum_sha256).build())
    }

    async fn complete_parts(&self, put: &Put<'_>, upload: &str, parts: &[CompletedPart]) -> Result<Stored> {
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(self.path(put.key))
            .upload_id(upload)
            .set_if_none_match(self.if_none_match())
            .multipart_upload(all);
        let answer = request.send().await.map_err(|e| self.failure("put", put.key.as_str(), e))?;
        Ok(Stored { version: self.version(answer.version_id()) })
    }
}

/// A multipart upload that is not completed yet. Dropped (because the put was cancelled), it is aborted in the
/// background, so that its parts do not lie there invisible and paid for.
struct Upload {
    bucket: Option<Arc<Bucket>>,
    path: String,
    id: String,
}

impl Upload {
    fn forget(mut self) {
        self.bucket = None;
    }

    async fn abort(mut self) {
        if let Some(bucket) = self.bucket.take() {
            abort(bucket, self.path.clone(), self.id.clone()).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(bucket), Ok(runtime)) = (self.bucket.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(abort(bucket, self.path.clone(), self.id.clone()));
        }
    }
}

async fn abort(bucket: Arc<Bucket>, path: String, id: String) {
    let request = bucket.client.abort_multipart_upload().bucket(&bucket.name).key(&path).upload_id(&id).send();
    match tokio::time::timeout(ABORT_LIMIT, request).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(path, id, error = super::failure::causes(&error), "multipart upload not aborted")
        }
        Err(_) => tracing::debug!(path, id, "multipart upload not aborted: no answer"),
    }
}

fn slices(bytes: &Bytes, len: usize) -> Vec<Bytes> {
    (0..bytes.len()).step_by(len).map(|start| bytes.slice(start..bytes.len().min(start + len))).collect()
}

fn random_tag(key: &Key) -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Error::Other {
        operation: "put",
        key: key.to_string(),
        reason: format!("no random numbers: {e}"),
    })?;
    Ok(hex::encode(random))
}
