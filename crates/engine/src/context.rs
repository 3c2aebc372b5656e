//! What every verb needs, made once from the configuration: the opened store, and how to reach the servers.

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{
    config::{AzureSecret, Config, InstanceConfig, PostgresConfig, RepositoryConfig, Tier},
    id::{Instance, RepositoryId},
    retention::LockPolicy,
    signature::PublicKey,
};
use lifeboat_postgres::ConnectOptions;
use lifeboat_repo::{
    locks::Locks,
    repository::{InstanceRepo, Repository},
    trust::Revocation,
};
use lifeboat_store::{
    SharedStore,
    cloud::{AzureCredential, CloudOptions, CloudStore, Service},
    local::LocalStore,
    s3::{Limits, S3Options, S3Store},
};

use crate::{
    endpoint,
    error::{Error, Result},
    keys::{Environment, read_secret, revocation},
    lifetime,
    skew::{Measured, Skew},
};

/// The version that points and evidence name as their maker.
pub const SOFTWARE: &str = concat!("lifeboat ", env!("CARGO_PKG_VERSION"));

/// In the state folder: which repositories were there.
const MEMORY: &str = "repository";

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
    /// Keys whose signatures do not count any more.
    pub revocations: Vec<Revocation>,
    skew: Measured,
}

impl Context {
    /// Of a repository that was opened. Keys that the configuration revokes are revoked.
    pub fn new(
        config: Config,
        config_digest: String,
        repository: Repository,
        clock: Clock,
        initiator: Initiator,
    ) -> Context {
        let configured = config.keys.revoked.iter().map(|revoked| Revocation { key: revoked.key, at: revoked.at });
        // In a copy the store's time of receipt says nothing of the past: see `keys::revocation`.
        let (mut revocations, repository): (Vec<Revocation>, _) = match repository.is_replica() {
            true => (Vec::new(), repository.with_doubts(configured.collect())),
            false => (configured.collect(), repository),
        };
        let known: Vec<_> = revocations.iter().map(|one| one.key).collect();
        revocations.extend(repository.revocations().iter().filter(|stated| !known.contains(&stated.key)));
        Context { config, config_digest, repository, clock, initiator, revocations, skew: Measured::default() }
    }

    /// One instance's part of the configuration.
    pub fn instance(&self, name: &str) -> Result<(&Instance, &InstanceConfig)> {
        Ok(self.config.instance(name)?)
    }

    /// One instance's part of the repository, for reading.
    pub fn instance_repo(&self, name: &Instance) -> InstanceRepo {
        self.repository.instance(&self.config.tenant, name).with_revocations(self.revocations.clone())
    }

    /// One instance's part of the repository, for writing: what is put is locked as its tier demands.
    ///
    /// # Errors
    /// [`Error::NotLockable`] where the tier demands locks and the store has none, [`Error::EndpointFailed`] where the last
    /// `lifeboat repo check` found that its locks do not hold, and [`Error::ClockSkew`] where the
    /// store's clock is so far from this host's that nobody could say when a lock ends.
    pub async fn writing_repo(&self, name: &Instance) -> Result<InstanceRepo> {
        check_lockable(self.repository.store(), &self.config)?;
        self.skew().await?.check(&self.repository.store().describe())?;
        let repo = self.instance_repo(name);
        let locks = self.locks(&repo).await?;
        Ok(repo.with_locks(locks))
    }

    async fn locks(&self, repo: &InstanceRepo) -> Result<Option<Locks>> {
        let (_, config) = self.instance(repo.instance().as_str())?;
        let tier = self.tier(config)?;
        let Some(lock) = tier.lock else { return Ok(None) };
        endpoint::check(self).await?;
        let earlier = lifetime::newest_backup(repo, &self.config.keys.trusted_keys, (self.clock)()).await?;
        Ok(Some(lifetime::locks(tier, lock, self.config.evidence.retain, earlier, self.store_clock().await?)))
    }

    /// Whether a key's signature counts on what the store received then.
    pub fn believes(&self, signer: &PublicKey, received: Timestamp) -> bool {
        let revoked = |revocation: &Revocation| revocation.key == *signer && received > revocation.at;
        self.config.keys.trusted_keys.contains(signer) && !self.revocations.iter().any(revoked)
    }

    /// The lock that the instance's tier demands.
    pub fn lock_policy(&self, name: &Instance) -> Result<Option<LockPolicy>> {
        let (_, config) = self.instance(name.as_str())?;
        Ok(self.tier(config)?.lock)
    }

    /// The repository with evidence locked as the configuration demands.
    pub async fn evidence_repository(&self) -> Result<Repository> {
        let repository = self.repository.clone();
        let Some(mode) = self.config.evidence_lock() else { return Ok(repository) };
        let lock = (mode, self.config.evidence.retain.0, self.store_clock().await?);
        Ok(repository.with_evidence_lock(Some(lock)))
    }

    /// How far the store's clock is from this host's, as it was last measured.
    pub async fn skew(&self) -> Result<Skew> {
        match self.skew.last() {
            Some(skew) => Ok(skew),
            None => self.measure_skew().await,
        }
    }

    /// Measures it, again where it was measured before: all clocks of [`store_clock`](Self::store_clock) follow.
    pub async fn measure_skew(&self) -> Result<Skew> {
        let skew = Skew::measure(self.repository.store(), &self.clock).await?;
        self.skew.set(skew);
        Ok(skew)
    }

    /// The store's clock: this host's, corrected by the difference that was last measured.
    pub async fn store_clock(&self) -> Result<Clock> {
        let first = self.skew().await?;
        let (skew, clock) = (self.skew.clone(), self.clock.clone());
        Ok(Arc::new(move || skew.last().unwrap_or(first).correct(clock())))
    }

    /// An instance's targets. The parser refuses an instance whose tier does not exist.
    pub fn tier(&self, instance: &InstanceConfig) -> Result<&Tier> {
        self.config.tier_of(instance).ok_or_else(|| Error::NoTier(instance.tier.clone()))
    }
}

/// Refuses a store that cannot lock for tiers that demand it, before anything is written.
pub fn check_lockable(store: &SharedStore, config: &Config) -> Result<()> {
    if store.capabilities().locks {
        return Ok(());
    }
    let demands = |instance: &InstanceConfig| config.tier_of(instance).is_some_and(|tier| tier.lock.is_some());
    match config.instances.values().find(|instance| demands(instance)) {
        Some(instance) => Err(Error::NotLockable { tier: instance.tier.clone(), place: store.describe() }),
        None => Ok(()),
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
        RepositoryConfig::Gcs(gcs) => {
            let service = Service::Gcs {
                bucket: gcs.bucket.clone(),
                service_account: read_secret(&gcs.service_account, environment)?,
            };
            let options = CloudOptions {
                endpoint: gcs.endpoint.clone(),
                prefix: gcs.prefix.clone(),
                ca_file: gcs.ca_file.clone(),
                ..CloudOptions::new(service)
            };
            Ok(Arc::new(CloudStore::connect(options).await?))
        }
        RepositoryConfig::Azure(azure) => {
            let credential = match &azure.credential {
                AzureSecret::AccessKey(key) => AzureCredential::AccessKey(read_secret(key, environment)?),
                AzureSecret::Sas(sas) => AzureCredential::Sas(read_secret(sas, environment)?),
            };
            let (account, container) = (azure.account.clone(), azure.container.clone());
            let service = Service::Azure { account, container, credential };
            let options = CloudOptions {
                endpoint: azure.endpoint.clone(),
                prefix: azure.prefix.clone(),
                ca_file: azure.ca_file.clone(),
                ..CloudOptions::new(service)
            };
            Ok(Arc::new(CloudStore::connect(options).await?))
        }
    }
}

/// Opens the repository for writing; it is made on first use. `remark` is told of clocks that work and should not stay so.
pub async fn open_for_writing(
    config: &Config,
    environment: Environment<'_>,
    clock: &Clock,
    remark: impl FnOnce(&str),
) -> Result<Repository> {
    let store = open_store(&config.repository, environment, true).await?;
    check_lockable(&store, config)?;
    let skew = Skew::measure(&store, clock).await?;
    skew.check(&store.describe())?;
    if let Some(words) = skew.remark(&store.describe()) {
        remark(&words);
    }
    believing(open_repository(store, &config.engine.state_dir, clock()).await?, config).await
}

/// Opens the repository, and makes it on first use: once for a state folder.
///
/// The state folder remembers that a repository was there. One that is gone is most likely a disk that is not mounted,
/// and a new repository in its place would look like a backup.
pub async fn open_repository(store: SharedStore, state_dir: &Path, now: Timestamp) -> Result<Repository> {
    let make = |store| async move {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| Error::NoRandomness)?;
        Ok(Repository::init(store, RepositoryId(id), now).await?)
    };
    open_or_make(store, state_dir, make).await
}

/// Opens the repository for what only reads, and is not to make one. Revoked keys are looked up.
///
/// # Errors
/// [`Error::RepositoryGone`] where the state folder remembers that one was there.
pub async fn open_for_reading(config: &Config, environment: Environment<'_>) -> Result<Repository> {
    let gone = |place: String| {
        let memory = config.engine.state_dir.join(MEMORY);
        match remembers(&memory, &place) {
            true => Error::RepositoryGone { place, memory },
            false => lifeboat_repo::Error::NotARepository { store: place }.into(),
        }
    };
    if let RepositoryConfig::Local { path } = &config.repository
        && !path.is_dir()
    {
        return Err(gone(format!("directory {}", path.display())));
    }
    let store = open_store(&config.repository, environment, false).await?;
    match Repository::open(store).await {
        Err(lifeboat_repo::Error::NotARepository { store }) => Err(gone(store)),
        opened => believing(opened?, config).await,
    }
}

/// Looks up which signing keys are not believed any more, and reads with that in mind.
pub async fn believing(repository: Repository, config: &Config) -> Result<Repository> {
    let found = revocation::load(&repository, &config.tenant, &config.keys).await?;
    found.passed_over.iter().for_each(|why| tracing::warn!("{why}"));
    Ok(repository.with_revocations(found.keys).with_doubts(found.doubted))
}

/// The same for a copy of `primary`.
pub async fn open_replica(store: SharedStore, state_dir: &Path, primary: &Repository) -> Result<Repository> {
    let opened =
        open_or_make(store, state_dir, |store| async move { Ok(Repository::init_replica(store, primary).await?) })
            .await?;
    // One that was there may be anything.
    Ok(Repository::init_replica(opened.store().clone(), primary).await?)
}

fn remembers(memory: &Path, place: &str) -> bool {
    std::fs::read_to_string(memory).is_ok_and(|known| known.lines().any(|line| line == place))
}

async fn open_or_make<F: Future<Output = Result<Repository>>>(
    store: SharedStore,
    state_dir: &Path,
    make: impl FnOnce(SharedStore) -> F,
) -> Result<Repository> {
    let memory = state_dir.join(MEMORY);
    let place = store.describe();
    if remembers(&memory, &place) {
        return match Repository::open(store).await {
            Err(lifeboat_repo::Error::NotARepository { .. }) => Err(Error::RepositoryGone { place, memory }),
            opened => Ok(opened?),
        };
    }
    let repository = make(store).await?;
    std::fs::create_dir_all(state_dir).map_err(Error::io("cannot create", state_dir))?;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&memory);
    let written = file.as_mut().map_err(|error| std::io::Error::from(error.kind()));
    written.and_then(|file| writeln!(file, "{place}")).map_err(Error::io("cannot write", &memory))?;
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
