//! Reading: one buffer of the length asked for, filled by as many attempts as it takes, as in [`crate::s3`]; looking;
//! deleting.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStoreExt as _};

use super::{Place, failure};
use crate::{Error, Key, ObjectInfo, Result, check_length, check_range, throttle::within};

/// Memory asked for before a byte has come; beyond it the buffer grows with what really arrives.
const RESERVED: u64 = 64 << 20;

struct Download<'a> {
    key: &'a Key,
    /// Known at the start when a range was asked for, else from the first answer.
    range: Option<Range<u64>>,
    /// Makes sure that what comes after a fault is of the same object.
    etag: Option<String>,
    buffer: Vec<u8>,
}

impl Place {
    pub(super) async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            // HTTP has no words for an empty range.
            check_range(key, range, self.look(key).await?.meta.size)?;
            return Ok(Bytes::new());
        }
        let mut download = Download { key, range, etag: None, buffer: Vec::new() };
        let mut attempts = self.limits.retry.begin();
        loop {
            match self.fetch(&mut download).await {
                Ok(()) => return Ok(Bytes::from(download.buffer)),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    /// Asks for what is still missing and appends what comes.
    async fn fetch(&self, download: &mut Download<'_>) -> Result<()> {
        let (key, have) = (download.key, download.buffer.len() as u64);
        let wanted = download.range.clone().map(|range| range.start + have..range.end);
        if wanted.as_ref().is_some_and(|wanted| wanted.is_empty()) {
            return Ok(());
        }
        let options = GetOptions::new().with_range(wanted.clone()).with_if_match(download.etag.clone());
        let path = self.path(key);
        let answer = self.attempt("get", key.as_str(), 0, self.objects.get_opts(&path, options)).await;
        if let (Err(Error::Other { .. }), Some(wanted)) = (&answer, &wanted) {
            // Some services (Azurite) answer a range behind the end with something else than that.
            check_range(key, wanted, self.look(key).await?.meta.size)?;
        }
        let answer = answer?;
        let wanted = match wanted {
            Some(wanted) => {
                check_range(key, &wanted, answer.meta.size)?;
                wanted
            }
            None => 0..answer.meta.size,
        };
        if answer.range != wanted {
            let (from, to) = (answer.range.start, answer.range.end);
            let reason = format!("bytes {}..{} were asked for, {from}..{to} came", wanted.start, wanted.end);
            return Err(Error::Damaged { key: key.to_string(), reason });
        }
        if download.range.is_none() {
            download.range = Some(wanted.clone());
        }
        download.etag = answer.meta.e_tag.clone();
        self.receive(download, wanted.end - wanted.start, answer).await
    }

    async fn receive(&self, download: &mut Download<'_>, missing: u64, answer: GetResult) -> Result<()> {
        let key = download.key;
        let broken = |reason: String| Error::Unavailable {
            operation: "get",
            key: key.to_string(),
            reason: format!("the body from {} broke off: {reason}", self.endpoint),
        };
        let end = download.buffer.len() as u64 + missing;
        download.buffer.try_reserve_exact(missing.min(RESERVED) as usize).map_err(|e| out_of_memory(key, &e))?;
        let mut body = answer.into_stream();
        let received = async {
            loop {
                match within(self.limits.stall, body.next()).await {
                    None => return Err(broken(format!("nothing came for {} s", self.limits.stall.as_secs()))),
                    Some(Some(Err(e))) => return Err(broken(failure::own_words(&e))),
                    Some(Some(Ok(bytes))) => {
                        download.buffer.try_reserve(bytes.len()).map_err(|e| out_of_memory(key, &e))?;
                        download.buffer.extend_from_slice(&bytes);
                        if download.buffer.len() as u64 > end {
                            return check_length(key, end, download.buffer.len() as u64);
                        }
                    }
                    Some(None) if (download.buffer.len() as u64) < end => {
                        return Err(broken("bytes are missing".into()));
                    }
                    Some(None) => return Ok(()),
                }
            }
        };
        let received = within(self.time_to_move(missing), received).await;
        received.unwrap_or_else(|| Err(broken("it came too slowly".into())))
    }

    /// Asks for an object's head, with retries.
    pub(super) async fn look(&self, key: &Key) -> Result<GetResult> {
        let path = self.path(key);
        let question = || self.objects.get_opts(&path, GetOptions::new().with_head(true));
        self.limits.retry.run(|| self.attempt("head", key.as_str(), 0, question())).await
    }

    pub(super) async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let meta = self.look(key).await?.meta;
        Ok(ObjectInfo { key: key.clone(), len: meta.size, version: None, modified: modified(&meta) })
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        let request = || async { self.objects.delete(&path).await };
        match self.limits.retry.run(|| self.attempt("delete", key.as_str(), 0, request())).await {
            Err(Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }
}

pub(super) fn modified(meta: &ObjectMeta) -> Timestamp {
    let (seconds, nanos) = (meta.last_modified.timestamp(), meta.last_modified.timestamp_subsec_nanos());
    Timestamp::new(seconds, nanos.min(999_999_999) as i32).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn out_of_memory(key: &Key, error: &std::collections::TryReserveError) -> Error {
    Error::Other { operation: "get", key: key.to_string(), reason: error.to_string() }
}
