//! A bucket through the raw S3 API, as its owner or a thief uses it: what the store's trait never does.
//!
//! Each act says whether the server let it happen; a refusal is an answer, not an error.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    operation::list_object_versions::ListObjectVersionsOutput,
    primitives::{ByteStream, DateTime},
    types::{BucketVersioningStatus, ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration},
};
use jiff::Timestamp;
use lifeboat_model::{retention::LockMode, secret::Secret};

use crate::testbed;

/// A credential of the testbed: the account that owns the buckets, or one of the roles, which own nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Owns the buckets.
    Owner,
    /// A role of `lifeboat repo policy`: `writer`, `reader`, `pruner`, `holder`.
    Role(&'static str),
}

impl Who {
    /// The files of its access key and secret key, under the testbed's `secrets/`.
    pub fn secret_files(self) -> (String, String) {
        match self {
            Who::Owner => ("s3-access-key".to_owned(), "s3-secret-key".to_owned()),
            Who::Role(role) => (format!("s3-{role}-access-key"), format!("s3-{role}-secret-key")),
        }
    }

    /// Its access key and secret key.
    pub fn keys(self) -> (Secret, Secret) {
        let (access, secret) = self.secret_files();
        (testbed::secret(&access), testbed::secret(&secret))
    }
}

/// What a server said to an act: done, or the code of its refusal.
pub type Said = Result<(), String>;

/// One version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawVersion {
    /// The whole key in the bucket.
    pub key: String,
    /// Its version id.
    pub version: String,
    /// Whether it is a delete marker.
    pub marker: bool,
    /// Whether it is what a reader gets who names no version.
    pub latest: bool,
}

/// A bucket in the hands of somebody.
#[derive(Debug, Clone)]
pub struct Account {
    client: Client,
    bucket: String,
}

fn said<T, E: ProvideErrorMetadata + std::fmt::Debug>(answer: Result<T, E>) -> Said {
    answer.map(drop).map_err(|error| error.code().map_or_else(|| format!("{error:?}"), str::to_owned))
}

impl Account {
    /// A bucket of the testbed's Ceph, by somebody's credential.
    pub fn new(who: Who, bucket: &str) -> Account {
        let (access, secret) = who.keys();
        let endpoint = testbed::setting("LIFEBOAT_TESTBED_S3_ENDPOINT", "http://127.0.0.1:57480");
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new(access.expose(), secret.expose(), None, None, "testbed"))
            .region(Region::new(testbed::setting("LIFEBOAT_TESTBED_S3_REGION", "us-east-1")))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .retry_config(RetryConfig::disabled());
        Account { client: Client::from_conf(config.build()), bucket: bucket.to_owned() }
    }

    /// Makes the bucket, with Object Lock (and so with versions) or plain.
    pub async fn create(&self, lock: bool) -> Said {
        said(self.client.create_bucket().bucket(&self.bucket).object_lock_enabled_for_bucket(lock).send().await)
    }

    /// Sets the bucket's policy.
    pub async fn set_policy(&self, policy: &str) -> Said {
        said(self.client.put_bucket_policy().bucket(&self.bucket).policy(policy).send().await)
    }

    /// Takes the bucket's policy away.
    pub async fn remove_policy(&self) -> Said {
        said(self.client.delete_bucket_policy().bucket(&self.bucket).send().await)
    }

    /// Switches versioning off.
    pub async fn suspend_versioning(&self) -> Said {
        let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
        said(self.client.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(suspended).send().await)
    }

    /// Everything in the bucket whose key starts with `prefix`.
    pub async fn versions(&self, prefix: &str) -> Vec<RawVersion> {
        let (mut found, mut key, mut version) = (Vec::new(), None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(prefix);
            let page = request.set_key_marker(key).set_version_id_marker(version).send().await;
            let page = page.unwrap_or_else(|e| panic!("listing {prefix}: {e:?}"));
            found.extend(entries(&page));
            if page.is_truncated() != Some(true) {
                return found;
            }
            (key, version) =
                (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
    }

    /// Deletes one version, for good; `bypass` asks to pass over a GOVERNANCE lock.
    pub async fn delete_version(&self, key: &str, version: &str, bypass: bool) -> Said {
        let request = self.client.delete_object().bucket(&self.bucket).key(key).version_id(version);
        let request = if bypass { request.bypass_governance_retention(true) } else { request };
        said(request.send().await)
    }

    /// Lays a delete marker over a key.
    pub async fn hide(&self, key: &str) -> Said {
        said(self.client.delete_object().bucket(&self.bucket).key(key).send().await)
    }

    /// Puts an object, over whatever is there.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Said {
        let request = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(bytes));
        said(request.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256).send().await)
    }

    /// Reads a version.
    pub async fn get(&self, key: &str, version: &str) -> Vec<u8> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key).version_id(version).send().await;
        let answer = answer.unwrap_or_else(|e| panic!("reading {key}: {e:?}"));
        answer.body.collect().await.unwrap_or_else(|e| panic!("reading {key}: {e:?}")).to_vec()
    }

    /// Asks for another retention of a version, for example an earlier or weaker one.
    pub async fn set_retention(
        &self,
        key: &str,
        version: &str,
        mode: LockMode,
        until: Timestamp,
        bypass: bool,
    ) -> Said {
        let until = DateTime::from_secs(until.as_second());
        let mode = match mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(until).build();
        let request = self.client.put_object_retention().bucket(&self.bucket).key(key).version_id(version);
        let request = request.retention(retention);
        let request = if bypass { request.bypass_governance_retention(true) } else { request };
        said(request.send().await)
    }
}

fn entries(page: &ListObjectVersionsOutput) -> Vec<RawVersion> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let versions = page.versions().iter().map(|found| RawVersion {
        key: text(found.key()),
        version: text(found.version_id()),
        marker: false,
        latest: found.is_latest() == Some(true),
    });
    let markers = page.delete_markers().iter().map(|found| RawVersion {
        key: text(found.key()),
        version: text(found.version_id()),
        marker: true,
        latest: found.is_latest() == Some(true),
    });
    versions.chain(markers).collect()
}
