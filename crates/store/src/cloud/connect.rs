//! The client of a service: address, credential, TLS and time limits.

use std::{path::PathBuf, sync::Arc};

use lifeboat_model::secret::Secret;
use object_store::{
    RetryConfig,
    azure::{MicrosoftAzureBuilder, split_sas},
    gcp::GoogleCloudStorageBuilder,
    list::PaginatedListOptions,
};
use url::Url;

use super::{Objects, Place, http::Sender};
use crate::{Error, Result, retry::Policy, s3::Limits};

/// Where a bucket is and who asks. The credentials print nowhere.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Which service, and where in it.
    pub service: Service,
    /// The service's address, where it is not the public one.
    pub endpoint: Option<Url>,
    /// The repository's root; empty for all of the bucket.
    pub prefix: String,
    /// Trust these certificate authorities (PEM) instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Longer objects are sent in parts, which no condition can guard.
    pub multipart_threshold: u64,
    /// Time limits and retries.
    pub limits: Limits,
}

impl CloudOptions {
    /// The default above which an object is sent in parts. Both services take more in one request (Azure 5000 MiB), and
    /// nothing that the repository writes is near it: packs end at 64 MiB.
    pub const MULTIPART_THRESHOLD: u64 = 256 << 20;

    /// All of a bucket at the service's public address.
    pub fn new(service: Service) -> Self {
        Self {
            service,
            endpoint: None,
            prefix: String::new(),
            ca_file: None,
            multipart_threshold: Self::MULTIPART_THRESHOLD,
            limits: Limits::default(),
        }
    }
}

/// A service and a place in it.
#[derive(Debug, Clone)]
pub enum Service {
    /// Google Cloud Storage.
    Gcs {
        /// The bucket's name.
        bucket: String,
        /// The key of a service account: the JSON that Google gives for it.
        service_account: Secret,
    },
    /// Azure Blob Storage.
    Azure {
        /// The storage account's name.
        account: String,
        /// The container's name.
        container: String,
        /// Who asks.
        credential: AzureCredential,
    },
}

/// Who asks Azure.
#[derive(Debug, Clone)]
pub enum AzureCredential {
    /// The account's access key: it may do everything.
    AccessKey(Secret),
    /// A shared access signature, as the query text `sv=…&sig=…`: it may do what it was made for.
    Sas(Secret),
}

/// Fewer attempts for the first question, so that a wrong address is told soon.
const FIRST_ATTEMPTS: u32 = 4;

/// `crate::retry` alone repeats.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Everything that needs no answer from the service.
pub(super) fn place(options: &CloudOptions) -> Result<Place> {
    let (name, public) = match &options.service {
        Service::Gcs { bucket, .. } => (format!("gs://{bucket}"), "https://storage.googleapis.com".to_owned()),
        Service::Azure { account, container, .. } => {
            (format!("azure://{account}/{container}"), format!("https://{account}.blob.core.windows.net"))
        }
    };
    let unusable = |reason: String| Error::Unusable { store: name.clone(), reason };
    let url = match &options.endpoint {
        Some(url) => url.clone(),
        None => Url::parse(&public).map_err(|e| unusable(format!("{public} is no address: {e}")))?,
    };
    check_endpoint(&url).map_err(unusable)?;
    let endpoint = url.as_str().trim_end_matches('/').to_owned();
    let sender = Sender::new(options.ca_file.as_ref(), &options.limits).map_err(unusable)?;
    let objects = objects(options, &endpoint, sender).map_err(|e| unusable(super::failure::own_words(&e)))?;
    let prefix = options.prefix.trim_matches('/');
    Ok(Place {
        objects,
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        host: url.host_str().unwrap_or_default().to_owned(),
        endpoint,
        drops_the_prefix: matches!(options.service, Service::Azure { .. }),
        limits: options.limits.clone(),
        multipart_threshold: options.multipart_threshold,
        name,
    })
}

fn objects(options: &CloudOptions, endpoint: &str, sender: Sender) -> object_store::Result<Arc<dyn Objects>> {
    match &options.service {
        Service::Gcs { bucket, service_account } => {
            let builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_base_url(endpoint)
                .with_service_account_key(service_account.expose())
                .with_retry(no_retries())
                .with_http_connector(sender);
            Ok(Arc::new(builder.build()?))
        }
        Service::Azure { account, container, credential } => {
            let builder = MicrosoftAzureBuilder::new()
                .with_account(account)
                .with_container_name(container)
                .with_endpoint(endpoint.to_owned())
                .with_retry(no_retries())
                .with_http_connector(sender);
            let builder = match credential {
                AzureCredential::AccessKey(key) => builder.with_access_key(key.expose()),
                AzureCredential::Sas(token) => builder.with_sas_authorization(split_sas(token.expose())?),
            };
            Ok(Arc::new(builder.build()?))
        }
    }
}

fn check_endpoint(url: &Url) -> std::result::Result<(), String> {
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("the endpoint must not carry credentials; they have keys of their own".into());
    }
    match url.scheme() {
        "http" | "https" => Ok(()),
        other => Err(format!("the endpoint's scheme is {other}; use https (or http)")),
    }
}

impl Place {
    /// Whether the bucket is there and this credential may list it.
    pub(super) async fn answers(&self) -> Result<()> {
        let name = self.describe();
        let policy = Policy { attempts: FIRST_ATTEMPTS.min(self.limits.retry.attempts), ..self.limits.retry };
        let one = || PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let prefix = Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let asked = policy.run(|| self.attempt("open", &name, 0, self.objects.list_paginated(prefix, one()))).await;
        match asked.map(drop) {
            Err(error @ (Error::NotFound { .. } | Error::Other { .. })) => {
                let reason = format!("it does not answer like this service ({error}); check name and endpoint");
                Err(Error::Unusable { store: name, reason })
            }
            answer => answer,
        }
    }
}
