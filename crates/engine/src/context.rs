//! What every verb needs, made once from the configuration: the opened store, and how to reach the servers.

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{
    config::{Config, InstanceConfig, PostgresConfig, RepositoryConfig, Tier},
    id::{Instance, RepositoryId},
};
use lifeboat_postgres::ConnectOptions;
use lifeboat_repo::repository::{InstanceRepo, Repository};
use lifeboat_store::{
    SharedStore,
    local::LocalStore,
    s3::{Limits, S3Options, S3Store},
};

use crate::{
    error::{Error, Result},
    keys::{Environment, read_secret},
};

/// The version that points and evidence name as their maker.
pub const SOFTWARE: &str = concat!("lifeboat ", env!("CARGO_PKG_VERSION"));

/// Tells the time. Injected, so that measured RPO and RTO can be tested.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Who runs this, for evidence: `user@host`, and the command.
#[derive(Debug, Clone)]
pub struct Initiator {
    /// `user@host`.
    pub who: String,
    /// The command line or schedule that started it; never holds a secret.
    pub command: String,
}

/// One configured instance with an open repository.
pub struct Context {
    /// The checked configuration.
    pub config: Config,
    /// SHA-256 of the configuration file, for evidence.
    pub config_digest: String,
    /// The opened repository.
    pub repository: Repository,
    /// The time.
    pub clock: Clock,
    /// Who runs this.
    pub initiator: Initiator,
}

impl Context {
    /// One instance's part of the configuration.
    pub fn instance(&self, name: &str) -> Result<(&Instance, &InstanceConfig)> {
        Ok(self.config.instance(name)?)
    }

    /// One instance's part of the repository.
    pub fn instance_repo(&self, name: &Instance) -> InstanceRepo {
        self.repository.instance(&self.config.tenant, name)
    }

    /// An instance's targets. The parser refuses an instance whose tier does not exist.
    pub fn tier(&self, instance: &InstanceConfig) -> Result<&Tier> {
        self.config.tier_of(instance).ok_or_else(|| Error::NoTier(instance.tier.clone()))
    }
}

/// Opens the store that the configuration names, without touching the repository in it. A folder that is not there is
/// made when `create` says so; without it, a read-only one will do.
pub async fn open_store(config: &RepositoryConfig, environment: Environment<'_>, create: bool) -> Result<SharedStore> {
    match config {
        RepositoryConfig::Local { path } => Ok(Arc::new(LocalStore::open(path, create)?)),
        RepositoryConfig::S3(s3) => {
            let options = S3Options {
                endpoint: s3.endpoint.clone(),
                bucket: s3.bucket.clone(),
                prefix: s3.prefix.clone(),
                region: s3.region.clone(),
                access_key: read_secret(&s3.access_key, environment)?,
                secret_key: read_secret(&s3.secret_key, environment)?,
                ca_file: s3.ca_file.clone(),
                path_style: s3.path_style,
                multipart_threshold: S3Options::MULTIPART_THRESHOLD,
                limits: Limits::default(),
            };
            Ok(Arc::new(S3Store::connect(options).await?))
        }
    }
}

/// Opens the repository, and makes it on first use: once for a state folder.
///
/// The state folder remembers that a repository was there. One that is gone is most likely a disk that is not mounted,
/// and a new repository in its place would look like a backup.
pub async fn open_repository(store: SharedStore, state_dir: &Path, now: Timestamp) -> Result<Repository> {
    let memory = state_dir.join("repository");
    let place = store.describe();
    let known = std::fs::read_to_string(&memory).is_ok_and(|known| known.lines().any(|line| line == place));
    let repository = if known {
        match Repository::open(store).await {
            Err(lifeboat_repo::Error::NotARepository { .. }) => return Err(Error::RepositoryGone { place, memory }),
            opened => opened?,
        }
    } else {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| Error::NoRandomness)?;
        Repository::init(store, RepositoryId(id), now).await?
    };
    if !known {
        std::fs::create_dir_all(state_dir).map_err(Error::io("cannot create", state_dir))?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&memory);
        let written = file.as_mut().map_err(|error| std::io::Error::from(error.kind()));
        written.and_then(|file| writeln!(file, "{place}")).map_err(Error::io("cannot write", &memory))?;
    }
    Ok(repository)
}

/// How to reach an instance's PostgreSQL.
pub fn connect_options(config: &PostgresConfig, environment: Environment<'_>) -> Result<ConnectOptions> {
    Ok(ConnectOptions {
        host: config.host.clone(),
        port: config.port,
        user: config.user.clone(),
        password: config.password.as_ref().map(|source| read_secret(source, environment)).transpose()?,
        tls: config.tls,
        root_cert: config.root_cert_file.clone(),
        connect_timeout: Duration::from_secs(15),
        application_name: "lifeboat".to_owned(),
    })
}
