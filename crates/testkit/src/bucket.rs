//! The testbed's bucket on a real Ceph RGW, with versions and object lock.

use lifeboat_store::s3::{Limits, S3Options, S3Store};
use url::Url;

use crate::testbed;

/// A prefix that no other test uses.
pub fn random_prefix(test: &str) -> String {
    format!("tests/{test}-{}", lifeboat_store::suite::random_name())
}

/// How to reach the testbed's bucket, at `prefix` in it.
pub fn options(prefix: &str) -> S3Options {
    let endpoint = testbed::setting("LIFEBOAT_TESTBED_S3_ENDPOINT", "http://127.0.0.1:57480");
    S3Options {
        endpoint: Some(endpoint.parse().unwrap_or_else(|e| panic!("LIFEBOAT_TESTBED_S3_ENDPOINT {endpoint}: {e}"))),
        bucket: testbed::setting("LIFEBOAT_TESTBED_S3_BUCKET", "lifeboat"),
        prefix: prefix.to_owned(),
        region: testbed::setting("LIFEBOAT_TESTBED_S3_REGION", "us-east-1"),
        access_key: testbed::secret("s3-access-key"),
        secret_key: testbed::secret("s3-secret-key"),
        ca_file: None,
        path_style: true,
        multipart_threshold: S3Options::MULTIPART_THRESHOLD,
        limits: Limits::default(),
    }
}

/// Connects to the testbed's bucket, under a prefix of its own.
pub async fn store(test: &str) -> S3Store {
    connect(options(&random_prefix(test))).await
}

/// Connects, or ends the test with the reason.
pub async fn connect(options: S3Options) -> S3Store {
    S3Store::connect(options).await.unwrap_or_else(|e| panic!("{e}; is the testbed up (testbed/testbed up --s3)?"))
}

/// The same options by way of another endpoint, such as a [`crate::proxy::Proxy`].
pub fn through(mut options: S3Options, address: std::net::SocketAddr) -> S3Options {
    options.endpoint = Some(Url::parse(&format!("http://{address}")).expect("a socket address makes a URL"));
    options
}
