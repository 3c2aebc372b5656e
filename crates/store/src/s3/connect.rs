//! The client: endpoint, credentials, TLS, time limits; and the first question to the bucket.

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, StalledStreamProtectionConfig,
    },
    types::{BucketVersioningStatus, ObjectLockEnabled},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use lifeboat_model::secret::Secret;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use url::Url;

use super::{Bucket, Versioning, failure};
use crate::{Error, Result, retry::Policy, throttle::Throttle};

/// Where a bucket is and who asks. The credentials print nowhere.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// `None` is AWS itself, by region.
    pub endpoint: Option<Url>,
    /// The bucket's name.
    pub bucket: String,
    /// The repository's root inside the bucket; empty for all of it.
    pub prefix: String,
    /// The region; servers other than AWS mostly take any.
    pub region: String,
    /// The access key id.
    pub access_key: Secret,
    /// The secret access key.
    pub secret_key: Secret,
    /// Trust these certificate authorities (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`; most servers other than AWS want it.
    pub path_style: bool,
    /// Longer objects are sent in parts.
    pub multipart_threshold: u64,
    /// Time limits and retries.
    pub limits: Limits,
}

impl S3Options {
    /// The default above which an object is sent in parts: packs of the default 16 MiB, a little over included, take
    /// one request; the largest of 64 MiB take four parallel parts, so a fault does not send all of it again.
    pub const MULTIPART_THRESHOLD: u64 = 32 << 20;
}

/// How long to wait, how often to try again, and how much of the line to use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a connection to stand.
    pub connect: Duration,
    /// For an attempt without its body; the body adds its length at [`Limits::slowest_rate`].
    pub attempt: Duration,
    /// For a body that stands still, in either direction.
    pub stall: Duration,
    /// Bytes a second below which a line is not worth waiting for.
    pub slowest_rate: u64,
    /// Length of a part; S3 wants at least 5 MiB.
    pub part: u64,
    /// Parts of one object under way at once.
    pub parallel_parts: usize,
    /// Attempts of each request.
    pub retry: Policy,
    /// What bodies keep to, in both directions.
    pub throttle: Throttle,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            slowest_rate: 64 << 10,
            part: 16 << 20,
            parallel_parts: 4,
            retry: Policy::default(),
            throttle: Throttle::of_process(),
        }
    }
}

/// Fewer attempts for the first question, so that a wrong address is told soon.
const FIRST_ATTEMPTS: u32 = 4;

pub(super) async fn open(options: S3Options) -> Result<Bucket> {
    let mut bucket = bucket(&options)?;
    bucket.versioning = bucket.keeps_versions().await?;
    bucket.ask_locks().await?;
    Ok(bucket)
}

/// Everything that needs no answer from the server.
pub(super) fn bucket(options: &S3Options) -> Result<Bucket> {
    let endpoint = match &options.endpoint {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("https://s3.{}.amazonaws.com", options.region),
    };
    let prefix = options.prefix.trim_matches('/');
    Ok(Bucket {
        client: client(options)?,
        name: options.bucket.clone(),
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        endpoint,
        versioning: Versioning::Unknown,
        locks: false,
        default_retention: false,
        reads_holds: AtomicBool::new(false),
        conditional: AtomicBool::new(true),
        limits: options.limits.clone(),
        multipart_threshold: options.multipart_threshold,
    })
}

fn client(options: &S3Options) -> Result<Client> {
    let credentials =
        Credentials::new(options.access_key.expose(), options.secret_key.expose(), None, None, "configuration");
    let timeouts = TimeoutConfig::builder().connect_timeout(options.limits.connect).build();
    let stalls = StalledStreamProtectionConfig::enabled().grace_period(options.limits.stall).build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(options.limits.throttle.client(http_client(options)?))
        .credentials_provider(credentials)
        .region(Region::new(options.region.clone()))
        .force_path_style(options.path_style)
        .retry_config(RetryConfig::disabled()) // retry::Policy alone repeats
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        // We bring the checksums ourselves, and what is read is checked against the recovery point's digests.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let config = match &options.endpoint {
        Some(url) => config.endpoint_url(url.as_str()),
        None => config,
    };
    Ok(Client::from_conf(config.build()))
}

fn http_client(options: &S3Options) -> Result<SharedHttpClient> {
    let unusable = |reason: String| Error::Unusable { store: format!("s3://{}", options.bucket), reason };
    if let Some(url) = &options.endpoint {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("the endpoint must not carry credentials; use access_key and secret_key".into()));
        }
        match url.scheme() {
            "http" => return Ok(Builder::new().build_http()),
            "https" => {}
            other => return Err(unusable(format!("the endpoint's scheme is {other}; use https (or http)"))),
        }
    }
    let tls = tls(options.ca_file.as_ref()).map_err(unusable)?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build_https())
}

/// Trust in the authorities of a file, or in the system's.
pub(crate) fn tls(ca_file: Option<&PathBuf>) -> std::result::Result<TlsContext, String> {
    let trusted = match ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(ca_certificates(path)?),
        None => TrustStore::default(),
    };
    TlsContext::builder().with_trust_store(trusted).build().map_err(|e| e.to_string())
}

/// Reads the CA file and holds it against the parser that the TLS client will use (which would panic).
fn ca_certificates(path: &PathBuf) -> std::result::Result<Vec<u8>, String> {
    let named = |what: String| format!("ca_file {}: {what}", path.display());
    let pem = std::fs::read(path).map_err(|e| named(e.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| named(format!("not valid PEM: {e}")))?;
        roots.add(certificate).map_err(|e| named(format!("holds no usable CA certificate: {e}")))?;
    }
    if roots.is_empty() {
        return Err(named("holds no certificate; expected PEM blocks \"BEGIN CERTIFICATE\"".into()));
    }
    Ok(pem)
}

impl Bucket {
    /// Whether the bucket keeps versions.
    async fn keeps_versions(&self) -> Result<Versioning> {
        let name = self.describe();
        match self.first_policy().run(|| self.attempt("open", &name, 0, self.versioning(&name))).await {
            Ok(Some(BucketVersioningStatus::Enabled)) => Ok(Versioning::On),
            Ok(Some(_)) => {
                tracing::warn!(bucket = name, "versioning is suspended: what is put now can be overwritten");
                Ok(Versioning::On)
            }
            Ok(None) => Ok(Versioning::Off),
            Err(Error::Denied { reason, .. }) if failure::is_missing_right(&reason) => {
                tracing::debug!(bucket = name, reason, "may not ask whether the bucket keeps versions");
                Ok(Versioning::Unknown)
            }
            Err(error @ (Error::NotFound { .. } | Error::Other { .. })) => {
                let reason = format!("it does not answer like S3 ({error}); check endpoint and path_style");
                Err(Error::Unusable { store: name, reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the bucket has Object Lock, and a default retention. Object Lock implies versions.
    async fn ask_locks(&mut self) -> Result<()> {
        if self.versioning == Versioning::Off {
            return Ok(());
        }
        let name = self.describe();
        match self.first_policy().run(|| self.attempt("open", &name, 0, self.lock_configuration(&name))).await {
            Ok(Some(default_retention)) => {
                (self.locks, self.default_retention, self.versioning) = (true, default_retention, Versioning::On);
            }
            Ok(None) => {}
            Err(Error::Denied { reason, .. }) => tracing::warn!(
                bucket = name,
                reason,
                "may not ask whether the bucket has Object Lock (s3:GetBucketObjectLockConfiguration); taken as no"
            ),
            // Servers that do not know the question have no locks.
            Err(Error::NotFound { .. } | Error::Other { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// `None`: no Object Lock; else whether it has a default retention.
    async fn lock_configuration(&self, name: &str) -> Result<Option<bool>> {
        let answer = self.client.get_object_lock_configuration().bucket(&self.name).send().await;
        let found = answer.map_err(|e| self.failure("open", name, e))?.object_lock_configuration;
        let enabled = found.filter(|found| found.object_lock_enabled == Some(ObjectLockEnabled::Enabled));
        Ok(enabled.map(|found| found.rule.is_some_and(|rule| rule.default_retention.is_some())))
    }

    fn first_policy(&self) -> Policy {
        Policy { attempts: FIRST_ATTEMPTS.min(self.policy().attempts), ..*self.policy() }
    }

    async fn versioning(&self, name: &str) -> Result<Option<BucketVersioningStatus>> {
        let answer = self.client.get_bucket_versioning().bucket(&self.name).send().await;
        Ok(answer.map_err(|e| self.failure("open", name, e))?.status)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn options(endpoint: &str) -> S3Options {
        S3Options {
            endpoint: Some(endpoint.parse().unwrap()),
            bucket: "backup".into(),
            prefix: "/clinic/".into(),
            region: "eu-central-1".into(),
            access_key: Secret::new("AKIA-visible-to-nobody"),
            secret_key: Secret::new("hunter2-visible-to-nobody"),
            ca_file: None,
            path_style: true,
            multipart_threshold: S3Options::MULTIPART_THRESHOLD,
            limits: Limits::default(),
        }
    }

    #[test]
    fn credentials_print_nowhere() {
        let options = options("https://s3.example.org/");
        let store = crate::s3::S3Store { bucket: std::sync::Arc::new(bucket(&options).unwrap()) };
        let texts = format!("{options:?} {store:?} {}", crate::Store::describe(&store));
        assert!(!texts.contains("visible-to-nobody"), "{texts}");
        assert!(texts.contains("s3://backup/clinic at https://s3.example.org"), "{texts}");
    }

    #[test]
    fn unusable_endpoints_and_authorities_are_told_before_any_request() {
        let folder = tempfile::tempdir().unwrap();
        let pem = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases = [
            ("https://user:hunter2@s3.example.org", None, "must not carry credentials"),
            ("ftp://s3.example.org", None, "scheme is ftp"),
            ("https://s3.example.org", Some(folder.path().join("none.pem")), "none.pem"),
            ("https://s3.example.org", pem("empty.pem", "nothing here"), "holds no certificate"),
            ("https://s3.example.org", pem("broken.pem", broken), "no usable CA certificate"),
            ("https://s3.example.org", pem("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA"), "PEM"),
        ];
        for (endpoint, ca_file, says) in cases {
            let Err(error) = bucket(&S3Options { ca_file, ..options(endpoint) }) else { panic!("{endpoint}: {says}") };
            assert!(error.to_string().contains(says) && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
