//! Requests as a thief would send them, for the probe.

use async_trait::async_trait;
use aws_sdk_s3::{
    error::SdkError,
    primitives::ByteStream,
    types::{BucketVersioningStatus, VersioningConfiguration},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{S3Store, upload::SignHash};
use crate::{Key, Raw, Result, Retention, Stored, VersionId};

#[async_trait]
impl Raw for S3Store {
    async fn lay_marker(&self, key: &Key) -> Result<Option<VersionId>> {
        let bucket = &self.bucket;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(bucket.path(key)).send();
        let answer = async { request.await.map_err(|e| bucket.failure("delete", key.as_str(), e)) };
        let answer = bucket.attempt("delete", key.as_str(), 0, answer).await?;
        Ok(bucket.version(answer.version_id()))
    }

    async fn set_retention(&self, key: &Key, version: &VersionId, retention: Retention, bypass: bool) -> Result<()> {
        self.bucket.send_retention(key, Some(version), retention, bypass).await
    }

    async fn delete_with_bypass(&self, key: &Key, version: &VersionId) -> Result<()> {
        let bucket = &self.bucket;
        let request = bucket.client.delete_object().bucket(&bucket.name).key(bucket.path(key)).version_id(&version.0);
        let request = request.bypass_governance_retention(true).send();
        let answer = async { request.await.map_err(|e| bucket.failure("delete", key.as_str(), e)) };
        bucket.attempt("delete", key.as_str(), 0, answer).await.map(drop)
    }

    /// The hash stands in the request twice, as in every put: Ceph 18 checks the one that is signed, and not the other.
    async fn refuses_a_wrong_checksum(&self, key: &Key) -> Result<Option<bool>> {
        let bucket = &self.bucket;
        let other = Sha256::digest(b"these bytes");
        let request = bucket.client.put_object().bucket(&bucket.name).key(bucket.path(key));
        let request = request.checksum_sha256(STANDARD.encode(other)).body(ByteStream::from_static(b"other bytes"));
        let request = request.customize().interceptor(SignHash(hex::encode(other))).send();
        let answer = async {
            match request.await {
                Ok(_) => Ok(false),
                Err(SdkError::ServiceError(refusal)) if refusal.raw().status().as_u16() == 400 => Ok(true),
                Err(error) => Err(bucket.failure("put", key.as_str(), error)),
            }
        };
        bucket.attempt("put", key.as_str(), 0, answer).await.map(Some)
    }

    async fn put_in_parts(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        if retention.is_some() {
            self.bucket.demand_locks(key)?;
        }
        self.bucket.put_in_parts(key, bytes, retention).await
    }

    async fn set_versioning(&self, on: bool) -> Result<()> {
        let (bucket, name) = (&self.bucket, self.bucket.describe());
        let operation = "setting the versioning";
        let status = if on { BucketVersioningStatus::Enabled } else { BucketVersioningStatus::Suspended };
        let wanted = VersioningConfiguration::builder().status(status).build();
        let request = bucket.client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(wanted);
        let answer = async { request.send().await.map_err(|e| bucket.failure(operation, &name, e)) };
        bucket.attempt(operation, &name, 0, answer).await.map(drop)
    }
}
