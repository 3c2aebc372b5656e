//! Writing: one request that a taken key refuses, or parts; and finding out what happened when a reply was lost.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    Attribute, AttributeValue, Attributes, MultipartUpload, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    path::Path,
};

use super::Place;
use crate::{Error, Key, Result, Stored, retry::Attempts};

/// The object metadata that names the put which wrote it; Azure takes only letters and digits.
const TAG: &str = "lifeboatput";
/// GCS takes no more parts than this.
const MOST_PARTS: u64 = 10_000;
/// How long an abandoned upload in parts may take to be aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(30);

/// One put: its object, and a random tag by which we know the object again as ours.
struct Put<'a> {
    key: &'a Key,
    path: Path,
    bytes: Bytes,
    tag: String,
}

impl Put<'_> {
    fn attributes(&self) -> Attributes {
        let kind: AttributeValue = "application/octet-stream".into();
        let tag = AttributeValue::from(self.tag.clone());
        Attributes::from_iter([(Attribute::ContentType, kind), (Attribute::Metadata(TAG.into()), tag)])
    }
}

/// What lies under a put's key.
#[derive(Clone, Copy, PartialEq)]
enum There {
    Nothing,
    /// Our own object, of an attempt whose reply was lost.
    Ours,
    Others,
}

impl Place {
    pub(super) async fn put(&self, key: &Key, bytes: Bytes) -> Result<Stored> {
        let put = Put { key, path: self.path(key), bytes, tag: random_tag(key)? };
        let in_parts = put.bytes.len() as u64 > self.multipart_threshold;
        if in_parts && self.there(&put).await? != There::Nothing {
            return Err(Error::AlreadyExists { key: key.to_string() });
        }
        let mut attempts = self.limits.retry.begin();
        loop {
            let sent = if in_parts { self.send_parts(&put).await } else { self.send_whole(&put).await };
            let Err(error) = sent else { return Ok(Stored { version: None }) };
            if self.after_fault(&put, error, &mut attempts).await? {
                tracing::debug!(%key, "an earlier attempt had succeeded, its reply was lost");
                return Ok(Stored { version: None });
            }
        }
    }

    async fn send_whole(&self, put: &Put<'_>) -> Result<()> {
        let options = PutOptions { mode: PutMode::Create, attributes: put.attributes(), ..PutOptions::default() };
        let request = self.objects.put_opts(&put.path, PutPayload::from(put.bytes.clone()), options);
        self.attempt("put", put.key.as_str(), put.bytes.len() as u64, request).await.map(drop)
    }

    /// Decides what a failed attempt was: done with its reply lost (true), without effect (false: send again), or final.
    async fn after_fault(&self, put: &Put<'_>, error: Error, attempts: &mut Attempts) -> Result<bool> {
        // On a first attempt the key was taken before. Later, the taker may be our own first attempt; and an upload
        // that is gone may have been completed by it.
        let taken_or_gone = matches!(error, Error::AlreadyExists { .. } | Error::NotFound { .. });
        if taken_or_gone && attempts.is_retry() {
            return match self.there(put).await? {
                There::Ours => Ok(true),
                _ => Err(error),
            };
        }
        attempts.wait_after(error).await?;
        match self.there(put).await? {
            There::Ours => Ok(true),
            There::Nothing => Ok(false),
            There::Others => Err(Error::AlreadyExists { key: put.key.to_string() }),
        }
    }

    async fn there(&self, put: &Put<'_>) -> Result<There> {
        let found = match self.look(put.key).await {
            Err(Error::NotFound { .. }) => return Ok(There::Nothing),
            found => found?,
        };
        let tag = found.attributes.get(&Attribute::Metadata(TAG.into()));
        let same = found.meta.size == put.bytes.len() as u64 && tag.is_some_and(|tag| tag.as_ref() == put.tag);
        Ok(if same { There::Ours } else { There::Others })
    }

    async fn send_parts(&self, put: &Put<'_>) -> Result<()> {
        let options = PutMultipartOptions { attributes: put.attributes(), ..PutMultipartOptions::default() };
        let begun = self.objects.put_multipart_opts(&put.path, options);
        let mut upload = Upload { parts: Some(self.attempt("put", put.key.as_str(), 0, begun).await?) };
        match self.fill(put, &mut upload).await {
            Ok(()) => {
                upload.parts = None;
                Ok(())
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn fill(&self, put: &Put<'_>, upload: &mut Upload) -> Result<()> {
        let Some(parts) = &mut upload.parts else { return Ok(()) };
        let part_len = self.limits.part.max((put.bytes.len() as u64).div_ceil(MOST_PARTS)) as usize;
        let slices = (0..put.bytes.len()).step_by(part_len.max(1));
        let slices = slices.map(|start| put.bytes.slice(start..put.bytes.len().min(start + part_len)));
        stream::iter(slices)
            .map(|slice| {
                let len = slice.len() as u64;
                self.attempt("put", put.key.as_str(), len, parts.put_part(PutPayload::from(slice)))
            })
            .buffered(self.limits.parallel_parts.max(1))
            .try_for_each(|()| async { Ok(()) })
            .await?;
        self.attempt("put", put.key.as_str(), 0, parts.complete()).await.map(drop)
    }
}

/// An upload in parts that is not completed yet. Dropped (because the put was cancelled), it is aborted in the background,
/// so that its parts do not lie there invisible and paid for.
struct Upload {
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            abort(parts).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(abort(parts));
        }
    }
}

async fn abort(mut parts: Box<dyn MultipartUpload>) {
    match tokio::time::timeout(ABORT_LIMIT, parts.abort()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = super::failure::own_words(&error), "upload in parts not aborted"),
        Err(_) => tracing::debug!("upload in parts not aborted: no answer"),
    }
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
