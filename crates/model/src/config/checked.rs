//! The checked configuration: every value in here is possible, every path absolute or relative to the working folder.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;
use url::Url;

use super::{checks::OwnCheck, files::FileCheck, nearest::nearest};
use crate::{
    id::{DependencyName, Instance, Tenant, TierName},
    price::Price,
    retention::{LockMode, LockPolicy, RetentionPolicy},
    signature::PublicKey,
    size::{ByteRate, ByteSize},
    time::Span,
};

/// A whole `lifeboat.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who owns the instances.
    pub tenant: Tenant,
    /// Where recovery points and evidence are kept: the primary.
    pub repository: RepositoryConfig,
    /// What the primary is called; [`Config::PRIMARY`] unless it has a name.
    pub repository_name: String,
    /// What a GiB (which services call GB) costs there for a month, for those who look at what is stored.
    pub price: Option<Price>,
    /// Where they are copied to.
    pub copies: Vec<CopyConfig>,
    /// Whom backups are sealed to, and what signs them.
    pub keys: KeysConfig,
    /// Recovery classes by name.
    pub tiers: BTreeMap<TierName, Tier>,
    /// Protected Odoo systems by name; at least one.
    pub instances: BTreeMap<Instance, InstanceConfig>,
    /// How long evidence is kept.
    pub evidence: EvidenceConfig,
    /// What all drills on this host may use together.
    pub drills: DrillsConfig,
    /// How the work is done on this host.
    pub engine: EngineConfig,
    /// How much of the line to the repositories one command may use.
    pub limits: LimitsConfig,
    pub(super) files: Vec<FileCheck>,
}

/// Another place that points and evidence are copied to.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyConfig {
    /// What it is called; no two repositories have the same name.
    pub name: String,
    /// Where it is.
    pub repository: RepositoryConfig,
    /// How it locks what it keeps; none: as the tiers demand.
    pub lock: Option<CopyLock>,
}

/// How a copy locks what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyLock {
    /// Not at all, whatever the tiers demand of the primary.
    None,
    /// In this mode, where a tier has a lock.
    Mode(LockMode),
}

/// How much of the line to the repositories one command may use, all its requests together. Streams and restores are not
/// held back: what they have not moved is what would be lost, or what people wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitsConfig {
    /// What is sent; none: as much as goes through.
    pub upload: Option<ByteRate>,
    /// What is fetched; none: as much as comes through.
    pub download: Option<ByteRate>,
}

impl LimitsConfig {
    /// The least that a limit may be, as text: below it a pack of the default size would take four minutes.
    pub const LEAST: &'static str = "64 KiB/s";
    /// The most that a limit may be, as text.
    pub const MOST: &'static str = "100 GiB/s";

    /// The lower of both, each way.
    pub fn and(self, other: LimitsConfig) -> LimitsConfig {
        let lower = |one: Option<ByteRate>, other: Option<ByteRate>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        LimitsConfig { upload: lower(self.upload, other.upload), download: lower(self.download, other.download) }
    }
}

/// How long evidence is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceConfig {
    /// From when it was written on.
    pub retain: Span,
    /// Who stamps the ledger's checkpoints; none: nobody.
    pub timestamps: Option<TimestampsConfig>,
}

/// A time-stamping authority (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampsConfig {
    /// Where it answers, by HTTP: what it gives is signed, and what it gets is a digest.
    pub url: Url,
    /// A PEM file of the certificates that vouch for it, for verification.
    pub ca_file: Option<PathBuf>,
}

impl Default for EvidenceConfig {
    /// Six years, two of them leap years (HIPAA 164.316(b)(2)).
    fn default() -> Self {
        EvidenceConfig { retain: Span(Duration::from_secs(2192 * 86_400)), timestamps: None }
    }
}

/// What all drills on this host may use together: more wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrillsConfig {
    /// So many at the same time.
    pub concurrent: u32,
    /// The sum of what their containers may have; none: as many as run at the same time.
    pub memory: Option<ByteSize>,
}

impl Default for DrillsConfig {
    /// Two: a drill waits for disks and networks half of its time.
    fn default() -> Self {
        DrillsConfig { concurrent: 2, memory: None }
    }
}

/// The place of a repository.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // there is one in a process
pub enum RepositoryConfig {
    /// A local folder: not immutable, and said so.
    Local {
        /// The folder.
        path: PathBuf,
    },
    /// A bucket.
    S3(S3Config),
    /// A bucket of Google Cloud Storage: not immutable, as no lock can be put there and read back.
    Gcs(GcsConfig),
    /// A container of Azure Blob Storage: not immutable, for the same reason.
    Azure(AzureConfig),
}

impl RepositoryConfig {
    /// What people call a place in which nothing can be locked; none where only the place itself can tell.
    pub fn without_locks(&self) -> Option<&'static str> {
        match self {
            RepositoryConfig::Local { .. } => Some("a directory"),
            RepositoryConfig::S3(_) => None,
            RepositoryConfig::Gcs(_) => Some("a bucket of Google Cloud Storage, as it is used here,"),
            RepositoryConfig::Azure(_) => Some("a container of Azure Blob Storage, as it is used here,"),
        }
    }
}

/// An S3 bucket and the credentials for it.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Config {
    /// Where the service is; without it, AWS by region.
    pub endpoint: Option<Url>,
    /// The bucket's name.
    pub bucket: String,
    /// Put before every key; empty or ending in `/`.
    pub prefix: String,
    /// The region that signatures name.
    pub region: String,
    /// Where the access key id is.
    pub access_key: SecretSource,
    /// Where the secret access key is.
    pub secret_key: SecretSource,
    /// A PEM file of the authorities that may vouch for the endpoint; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    pub path_style: bool,
}

/// A Google Cloud Storage bucket and the credentials for it.
#[derive(Debug, Clone, PartialEq)]
pub struct GcsConfig {
    /// Where the service is; without it, Google's public address.
    pub endpoint: Option<Url>,
    /// The bucket's name.
    pub bucket: String,
    /// Put before every key; empty or ending in `/`.
    pub prefix: String,
    /// Where the service account's key is: the JSON that Google gives for it.
    pub service_account: SecretSource,
    /// A PEM file of the authorities that may vouch for the endpoint; without it, the system's.
    pub ca_file: Option<PathBuf>,
}

/// An Azure Blob Storage container and the credentials for it.
#[derive(Debug, Clone, PartialEq)]
pub struct AzureConfig {
    /// Where the account's blob service is; without it, Microsoft's public address of the account.
    pub endpoint: Option<Url>,
    /// The storage account's name.
    pub account: String,
    /// The container's name.
    pub container: String,
    /// Put before every key; empty or ending in `/`.
    pub prefix: String,
    /// Who asks.
    pub credential: AzureSecret,
    /// A PEM file of the authorities that may vouch for the endpoint; without it, the system's.
    pub ca_file: Option<PathBuf>,
}

/// What lets into an Azure container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureSecret {
    /// The account's access key: it may do everything.
    AccessKey(SecretSource),
    /// A shared access signature: it may do what it was made for.
    Sas(SecretSource),
}

/// Where a secret lies; never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file, mode 0600; a line end at its end is not part of it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "file {}", path.display()),
            SecretSource::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Keys: public ones by value, private ones by file.
#[derive(Debug, Clone, PartialEq)]
pub struct KeysConfig {
    /// `age1…` and SSH recipients, at least one, whose identities live elsewhere and open everything; without comments.
    pub recovery_recipients: Vec<String>,
    /// This host's age identity: it opens indexes and trees, never data.
    pub host_identity_file: PathBuf,
    /// Identities that this host had before: they still open what was sealed to them.
    pub former_host_identity_files: Vec<PathBuf>,
    /// This host's Ed25519 key, which signs points and evidence.
    pub signing_key_file: PathBuf,
    /// The public keys whose points and evidence are believed.
    pub trusted_keys: Vec<PublicKey>,
    /// Trusted keys that are believed only for what the store received before a moment.
    pub revoked: Vec<RevokedKey>,
    /// A recovery identity, for restores and drills. On a backup host it undoes the point of sealing: a warning.
    pub recovery_identity_file: Option<PathBuf>,
}

/// A signing key that fell into other hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedKey {
    /// The key.
    pub key: PublicKey,
    /// From when on it is not believed, by the store's clock.
    pub at: Timestamp,
}

/// A recovery class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// How much work may be lost.
    pub rpo: Span,
    /// How long until people work again.
    pub rto: Span,
    /// How its objects are locked; none: not at all.
    pub lock: Option<LockPolicy>,
    /// What is kept; none: everything, for ever.
    pub retention: Option<RetentionPolicy>,
    /// How its instances are rehearsed.
    pub drill: TierDrill,
}

/// What a tier demands of drills.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierDrill {
    /// How often each instance is to be rehearsed: what reports call due. None: nobody has said.
    pub every: Option<Span>,
    /// Ids of checks that must have run in every drill of its instances, besides those that the instance asks for.
    pub required: Vec<String>,
}

/// One protected Odoo system.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceConfig {
    /// Its recovery class; exists in [`Config::tiers`].
    pub tier: TierName,
    /// Who answers for it, as free text in reports.
    pub owner: Option<String>,
    /// What kind of data is in it, as `health`: a word of the owner's own, for logs.
    pub data_class: String,
    /// Its PostgreSQL cluster.
    pub postgres: PostgresConfig,
    /// Its filestore, if its files are kept on a disk.
    pub filestore: Option<FilestoreConfig>,
    /// Files and commands whose output belongs to it.
    pub config: Option<ConfigSources>,
    /// How it is rehearsed.
    pub drill: DrillConfig,
    /// How its databases are dumped.
    pub dump: DumpConfig,
    /// What it cannot work without, by name: the map that runbooks are held against.
    pub dependencies: BTreeMap<DependencyName, Dependency>,
}

/// Something that an instance cannot work without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// What it is.
    pub kind: DependencyKind,
    /// Where it is: host and port, or a URL.
    pub address: String,
    /// For people: who answers for it, what to do without it.
    pub note: Option<String>,
}

/// What a dependency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependencyKind {
    /// A PostgreSQL server.
    Postgresql,
    /// Redis, for sessions.
    Redis,
    /// A bucket, of attachments or of backups.
    ObjectStorage,
    /// A zone that names the system.
    Dns,
    /// A proxy or load balancer in front of it.
    Ingress,
    /// Who says who people are.
    Identity,
    /// A system that data goes to or comes from.
    Integration,
    /// A mail server.
    Mail,
    /// Anything else.
    Other,
}

impl DependencyKind {
    /// All of them.
    pub const ALL: [DependencyKind; 9] = [
        DependencyKind::Postgresql,
        DependencyKind::Redis,
        DependencyKind::ObjectStorage,
        DependencyKind::Dns,
        DependencyKind::Ingress,
        DependencyKind::Identity,
        DependencyKind::Integration,
        DependencyKind::Mail,
        DependencyKind::Other,
    ];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            DependencyKind::Postgresql => "postgresql",
            DependencyKind::Redis => "redis",
            DependencyKind::ObjectStorage => "object-storage",
            DependencyKind::Dns => "dns",
            DependencyKind::Ingress => "ingress",
            DependencyKind::Identity => "identity",
            DependencyKind::Integration => "integration",
            DependencyKind::Mail => "mail",
            DependencyKind::Other => "other",
        }
    }
}

/// How to reach a PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresConfig {
    /// Host name or address.
    pub host: String,
    /// Port, 1–65535.
    pub port: u16,
    /// A role with REPLICATION and `pg_read_all_data`.
    pub user: String,
    /// Its password, unless the server asks for none.
    pub password: Option<SecretSource>,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// A PEM file of the authorities that may vouch for the server; without it, the system's.
    pub root_cert_file: Option<PathBuf>,
    /// The Odoo databases in the cluster, at least one.
    pub databases: Vec<String>,
    /// Whether a backup digests every table, for the drill to compare.
    pub digests: bool,
    /// Continuous WAL.
    pub wal: WalConfig,
    /// How the digests are taken.
    pub witness: WitnessConfig,
}

/// How WAL is streamed between base backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// The physical replication slot; see [`WalConfig::slot_name`].
    pub slot: Option<String>,
    /// The longest that WAL waits before it is sent to the repository.
    pub max_lag: Span,
    /// How often a commit without a change is written, so that an idle system has a provable recovery point; none: never.
    pub heartbeat: Option<Span>,
}

impl WalConfig {
    /// The slot in the configuration, or `lifeboat_<instance>` with the characters that slots may have.
    pub fn slot_name(&self, instance: &Instance) -> String {
        self.slot.clone().unwrap_or_else(|| {
            let mut name = format!("lifeboat_{}", instance.as_str().replace('-', "_"));
            name.truncate(63); // PostgreSQL cuts longer names (NAMEDATALEN)
            name
        })
    }
}

impl Default for WalConfig {
    fn default() -> Self {
        let (max_lag, heartbeat) = (Span(Duration::from_secs(2)), Some(Span(Duration::from_secs(5))));
        WalConfig { slot: None, max_lag, heartbeat }
    }
}

/// What taking a witness may cost the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    /// The longest that one table may take.
    pub statement_timeout: Span,
    /// Sessions that digest at the same time.
    pub parallel: usize,
    /// The share of its time that a session works, in percent.
    pub duty_cycle: u8,
    /// Larger tables are digested in a sample of their blocks, and recorded as such.
    pub sample_above: Option<ByteSize>,
    /// How often a snapshot is taken until one has an exact position.
    pub tries: u32,
    /// A standby that is digested in place of the primary, with the same role and TLS settings.
    pub standby: Option<StandbyConfig>,
}

impl Default for WitnessConfig {
    fn default() -> Self {
        WitnessConfig {
            statement_timeout: Span(Duration::from_secs(30 * 60)),
            parallel: 1,
            duty_cycle: 100,
            sample_above: None,
            tries: 5,
            standby: None,
        }
    }
}

/// Where a standby listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyConfig {
    /// Host name or address.
    pub host: String,
    /// Port, 1–65535.
    pub port: u16,
}

/// How a PostgreSQL connection is protected (libpq: `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Encrypted, to whoever answers.
    Require,
    /// Encrypted, to a server with a certificate from a known authority.
    VerifyCa,
    /// Encrypted, to the server with that name.
    #[default]
    VerifyFull,
}

impl TlsMode {
    /// All of them, weakest first.
    pub const ALL: [TlsMode; 4] = [TlsMode::Disable, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An Odoo filestore on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct FilestoreConfig {
    /// The folder that holds one folder per database.
    pub path: PathBuf,
}

/// Configuration that a restore needs besides the data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigSources {
    /// Absolute files and folders.
    pub paths: Vec<PathBuf>,
    /// Commands whose output is kept.
    pub commands: Vec<ConfigCommand>,
}

/// A command whose standard output is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigCommand {
    /// The file name of the output; unique within the instance.
    pub name: String,
    /// Program and arguments; no shell in between.
    pub run: Vec<String>,
    /// How long it may take.
    pub timeout: Span,
}

/// How an instance is rehearsed.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillConfig {
    /// Image of the instance's PostgreSQL.
    pub postgres_image: String,
    /// Image of the instance's Odoo.
    pub odoo_image: String,
    /// Folders of extra addons, each inside one of [`ConfigSources::paths`].
    pub addons: Vec<PathBuf>,
    /// Memory limit of the sandbox.
    pub memory: ByteSize,
    /// How long a drill may take.
    pub timeout: Span,
    /// Ids of checks that must have run, or the drill is incomplete.
    pub required: Vec<String>,
    /// What is asked besides the ladder.
    pub checks: Vec<OwnCheck>,
}

/// How logical dumps are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpConfig {
    /// Who runs `pg_dump`.
    pub program: DumpProgram,
}

/// Who runs `pg_dump`; it is of the server's own major version in any case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DumpProgram {
    /// One on this host, where there is one of the right version; else the image's.
    #[default]
    Auto,
    /// That of [`DrillConfig::postgres_image`].
    Image,
    /// This one.
    Path(PathBuf),
}

/// How the work is done on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Caches and working files; may be deleted at any time without losing a backup.
    pub state_dir: PathBuf,
    /// zstd level, 1–19.
    pub compression_level: i32,
    /// Size at which a pack is closed, 4–64 MiB.
    pub pack_size: ByteSize,
    /// Threads for chunking, compression and sealing; 0: one per core.
    pub workers: usize,
    /// Packs in flight to storage at once, 1–16.
    pub uploads: usize,
}

/// No such instance in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no instance \"{name}\" in the configuration; {}", known_instances(name, known))]
pub struct UnknownInstance {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

fn known_instances(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "it has none: add an [instances.<name>] section".to_owned(),
        None => format!("it has: {}", known.join(", ")),
    }
}

impl Config {
    /// The name of a primary that has been given none.
    pub const PRIMARY: &str = "main";

    /// The named instance, or an error that names those that exist.
    pub fn instance(&self, name: &str) -> Result<(&Instance, &InstanceConfig), UnknownInstance> {
        self.instances
            .iter()
            .find(|(instance, _)| instance.as_str() == name)
            .ok_or_else(|| UnknownInstance { name: name.to_owned(), known: self.instance_names() })
    }

    /// The tier of an instance; the parser has made sure that it exists.
    pub fn tier_of(&self, instance: &InstanceConfig) -> Option<&Tier> {
        self.tiers.get(&instance.tier)
    }

    /// How firmly evidence is locked: like the firmest tier of an instance; none where no tier has a lock.
    pub fn evidence_lock(&self) -> Option<LockMode> {
        self.instances.values().filter_map(|instance| self.tier_of(instance)?.lock.map(|lock| lock.mode)).max()
    }

    /// The names of all repositories, the primary first.
    pub fn repository_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.repository_name.as_str()).chain(self.copies.iter().map(|copy| copy.name.as_str()))
    }

    /// Every file and folder that the configuration names, with its key and line, for checks that need the disk.
    pub fn files(&self) -> &[FileCheck] {
        &self.files
    }

    fn instance_names(&self) -> Vec<String> {
        self.instances.keys().map(ToString::to_string).collect()
    }
}
