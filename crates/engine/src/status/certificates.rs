//! When the certificates end that the endpoints show. What is checked is what connects: the same host name, the same
//! authorities, the same mode.

use futures::{StreamExt as _, stream};
use lifeboat_model::{
    config::{InstanceConfig, RepositoryConfig, TlsMode},
    id::Instance,
};
use lifeboat_postgres::certificate::{self, Endpoint};

use super::{Asking, Certificate, look::within};
use crate::context::Context;

/// Endpoints that are looked at the same time.
const LOOKS: usize = 4;

pub(super) async fn look(
    context: &Context,
    (name, config): (&Instance, &InstanceConfig),
    asking: &Asking<'_>,
) -> Vec<Certificate> {
    if let Some(before) = asking.slow_before((context.clock)())
        && before.certificates.iter().all(|certificate| certificate.not_asked.is_none())
    {
        return before.certificates.clone();
    }
    let patience = asking.patience;
    let ask = asking.ask_servers;
    let looking = endpoints(context, name, config).into_iter().map(|(of, endpoint)| async move {
        let shown = match ask {
            true => within(patience, certificate::look(&endpoint)).await,
            false => Err("it was not asked".to_owned()),
        };
        let endpoint = endpoint.name();
        match shown {
            Ok(shown) => Certificate {
                of,
                endpoint,
                not_after: Some(shown.not_after),
                not_trusted: shown.not_trusted,
                not_asked: None,
            },
            Err(why) => Certificate { of, endpoint, not_after: None, not_trusted: None, not_asked: Some(why) },
        }
    });
    stream::iter(looking).buffered(LOOKS).collect().await
}

impl Certificate {
    /// Whether it is that of the source's own server.
    pub(super) fn is_of_source(&self) -> bool {
        self.of.starts_with("PostgreSQL of ")
    }
}

/// All that use TLS. The public addresses of large providers are not among them: nobody here renews their certificates.
fn endpoints(context: &Context, name: &Instance, config: &InstanceConfig) -> Vec<(String, Endpoint)> {
    let primary = (&context.config.repository_name, &context.config.repository);
    let copies = context.config.copies.iter().map(|copy| (&copy.name, &copy.repository));
    let stores = [primary].into_iter().chain(copies);
    let stores = stores.filter_map(|(name, store)| Some((format!("repository {name}"), of_store(store)?)));
    let postgres = &config.postgres;
    let server = (postgres.tls != TlsMode::Disable && !postgres.host.starts_with('/')).then(|| Endpoint {
        host: postgres.host.clone(),
        port: postgres.port,
        tls: postgres.tls,
        root_cert: postgres.root_cert_file.clone(),
        is_postgres: true,
    });
    stores.chain(server.map(|server| (format!("PostgreSQL of {name}"), server))).collect()
}

fn of_store(config: &RepositoryConfig) -> Option<Endpoint> {
    let (url, bucket, root_cert) = match config {
        RepositoryConfig::Local { .. } => return None,
        RepositoryConfig::S3(s3) => (s3.endpoint.as_ref()?, (!s3.path_style).then_some(&s3.bucket), s3.ca_file.clone()),
        RepositoryConfig::Gcs(gcs) => (gcs.endpoint.as_ref()?, None, gcs.ca_file.clone()),
        RepositoryConfig::Azure(azure) => (azure.endpoint.as_ref()?, None, azure.ca_file.clone()),
    };
    if url.scheme() != "https" {
        return None;
    }
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let host = bucket.map_or_else(|| host.to_owned(), |bucket| format!("{bucket}.{host}"));
    let port = url.port_or_known_default()?;
    Some(Endpoint { host, port, tls: TlsMode::VerifyFull, root_cert, is_postgres: false })
}
