//! `lifeboat config`: everything that is wrong with `lifeboat.toml` at once, and what the program understood of it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lifeboat_model::{
    config::{Config, CopyConfig, CopyLock, Dependency, EvidenceConfig, Problem, RepositoryConfig},
    id::DependencyName,
    retention::RetentionPolicy,
};
use serde::Serialize;

use super::Session;
use crate::{
    checks,
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, count, seconds},
    wire::{self, Reading},
};

/// Check lifeboat.toml, or show what it says
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigCommand {
    #[command(subcommand)]
    verb: ConfigVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat config check                          every problem, with file and line
  lifeboat --config new.toml config check        before it replaces the present one
  lifeboat config show --json";

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Report everything that is wrong, with file, line and what to do
    Check,
    /// Show what the program understood, without secrets
    Show,
}

impl ConfigCommand {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            ConfigVerb::Check => check(session),
            ConfigVerb::Show => show(session),
        }
    }
}

/// A problem or warning, for JSON.
#[derive(Serialize)]
pub(super) struct Remark {
    file: PathBuf,
    line: Option<usize>,
    key: String,
    message: String,
    hint: String,
    /// For people.
    #[serde(skip)]
    pub(super) text: String,
}

impl From<&Problem> for Remark {
    fn from(problem: &Problem) -> Self {
        Remark {
            file: problem.file.clone(),
            line: problem.line,
            key: problem.key.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            text: problem.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    problems: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.config-check/1";

    fn text(&self, page: &mut Page) {
        for remark in &self.problems {
            page.line(format_args!("{} {}", Tone::Bad.paint("problem:"), remark.text));
        }
        for remark in &self.warnings {
            page.line(format_args!("{} {}", Tone::Doubtful.paint("warning:"), remark.text));
        }
        let problems = count(self.problems.len() as u64, "problem", "problems");
        let warnings = count(self.warnings.len() as u64, "warning", "warnings");
        let (tone, word) = if self.problems.is_empty() { (Tone::Good, "usable") } else { (Tone::Bad, "NOT USABLE") };
        page.line(format_args!("{}: {}, {problems}, {warnings}", self.file.display(), tone.paint(word)));
    }
}

fn check(session: &Session) -> Result<Exit> {
    let remarks = |list: &[Problem]| list.iter().map(Remark::from).collect::<Vec<_>>();
    let checked = match wire::read_config(session)? {
        Reading::Wrong { file, problems } => Checked { file, problems: remarks(&problems), warnings: Vec::new() },
        Reading::Usable(loaded) => {
            let on_disk = checks::files::look(&loaded.config, &loaded.file);
            let mut warnings = loaded.warnings;
            checks::files::merge(&mut warnings, on_disk.warnings);
            Checked { file: loaded.file, problems: remarks(&on_disk.problems), warnings: remarks(&warnings) }
        }
    };
    let exit = if checked.problems.is_empty() { Exit::Ok } else { Exit::Config };
    session.output.show(&checked)?;
    Ok(exit)
}

#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    sha256: String,
    tenant: String,
    repository: String,
    immutable: Option<bool>,
    copies: Vec<ShownCopy>,
    recovery_recipients: Vec<String>,
    trusted_keys: Vec<String>,
    host_identity_file: PathBuf,
    signing_key_file: PathBuf,
    recovery_identity_file: Option<PathBuf>,
    state_dir: PathBuf,
    evidence: ShownEvidence,
    instances: Vec<ShownInstance>,
}

/// Another place that points and evidence are copied to.
#[derive(Serialize)]
struct ShownCopy {
    name: String,
    repository: String,
    immutable: Option<bool>,
    /// `as-tiers`, `none`, or a mode.
    lock: &'static str,
}

impl From<&CopyConfig> for ShownCopy {
    fn from(copy: &CopyConfig) -> Self {
        let (repository, immutable) = place(&copy.repository);
        let lock = match copy.lock {
            None => "as-tiers",
            Some(CopyLock::None) => "none",
            Some(CopyLock::Mode(mode)) => mode.word(),
        };
        ShownCopy { name: copy.name.clone(), repository, immutable, lock }
    }
}

/// Where a repository is, and whether that is immutable; None: only the endpoint can tell.
fn place(repository: &RepositoryConfig) -> (String, Option<bool>) {
    match repository {
        RepositoryConfig::Local { path } => (format!("directory {}", path.display()), Some(false)),
        RepositoryConfig::S3(s3) => {
            let at = s3.endpoint.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
            (format!("s3://{}/{}{at}", s3.bucket, s3.prefix), None)
        }
        RepositoryConfig::Gcs(gcs) => (format!("gs://{}/{}", gcs.bucket, gcs.prefix), Some(false)),
        RepositoryConfig::Azure(azure) => {
            (format!("azure://{}/{}/{}", azure.account, azure.container, azure.prefix), Some(false))
        }
    }
}

/// What is said of a place that is known to lock nothing.
fn note(immutable: Option<bool>) -> &'static str {
    if immutable == Some(false) { " (not immutable)" } else { "" }
}

#[derive(Serialize)]
struct ShownInstance {
    name: String,
    owner: Option<String>,
    tier: String,
    rpo_seconds: Option<u64>,
    rto_seconds: Option<u64>,
    /// None: nothing is locked.
    lock: Option<Lock>,
    /// None: everything is kept.
    retention: Option<Retention>,
    postgres: String,
    tls: &'static str,
    databases: Vec<String>,
    filestore: Option<PathBuf>,
    config_paths: Vec<PathBuf>,
    config_commands: Vec<String>,
    postgres_image: String,
    odoo_image: String,
    addons: Vec<PathBuf>,
    dependencies: Vec<ShownDependency>,
    #[serde(skip)]
    targets: String,
}

/// What an instance cannot work without.
#[derive(Serialize)]
struct ShownDependency {
    name: String,
    kind: &'static str,
    address: String,
    note: Option<String>,
}

impl From<(&DependencyName, &Dependency)> for ShownDependency {
    fn from((name, dependency): (&DependencyName, &Dependency)) -> Self {
        let Dependency { kind, address, note } = dependency.clone();
        ShownDependency { name: name.to_string(), kind: kind.word(), address, note }
    }
}

#[derive(Serialize)]
struct Lock {
    mode: &'static str,
    minimum_seconds: u64,
}

#[derive(Serialize)]
struct Retention {
    time_zone: String,
    last: u32,
    hourly: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
    pitr_seconds: Option<u64>,
    drilled: u32,
}

impl From<&RetentionPolicy> for Retention {
    fn from(policy: &RetentionPolicy) -> Self {
        Retention {
            time_zone: policy.time_zone.to_string(),
            last: policy.last,
            hourly: policy.hourly,
            daily: policy.daily,
            weekly: policy.weekly,
            monthly: policy.monthly,
            yearly: policy.yearly,
            pitr_seconds: policy.pitr.map(|pitr| pitr.0.as_secs()),
            drilled: policy.drilled,
        }
    }
}

impl ShownInstance {
    /// How long and how firmly, in a cell.
    fn kept(&self) -> (String, String) {
        let lock = self.lock.as_ref().map_or("not locked".to_owned(), |lock| lock.mode.to_owned());
        let Some(kept) = &self.retention else { return (lock, "everything".to_owned()) };
        let counts = [
            (kept.last, "last"),
            (kept.hourly, "hourly"),
            (kept.daily, "daily"),
            (kept.weekly, "weekly"),
            (kept.monthly, "monthly"),
            (kept.yearly, "yearly"),
            (kept.drilled, "drilled"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        let pitr = kept.pitr_seconds.map(|pitr| format!("PITR {}", seconds(pitr as f64)));
        (lock, counts.chain(pitr).collect::<Vec<_>>().join(", "))
    }
}

impl Shown {
    fn new(file: PathBuf, sha256: String, config: &Config) -> Self {
        let (repository, immutable) = place(&config.repository);
        let keys = &config.keys;
        Shown {
            file,
            sha256,
            tenant: config.tenant.to_string(),
            repository,
            immutable,
            copies: config.copies.iter().map(ShownCopy::from).collect(),
            recovery_recipients: keys.recovery_recipients.clone(),
            trusted_keys: keys.trusted_keys.iter().map(ToString::to_string).collect(),
            host_identity_file: keys.host_identity_file.clone(),
            signing_key_file: keys.signing_key_file.clone(),
            recovery_identity_file: keys.recovery_identity_file.clone(),
            state_dir: config.engine.state_dir.clone(),
            evidence: ShownEvidence::from(&config.evidence),
            instances: shown_instances(config),
        }
    }
}

/// How evidence is kept.
#[derive(Serialize)]
struct ShownEvidence {
    retain_seconds: u64,
    time_stamps: Option<String>,
    time_stamps_ca_file: Option<PathBuf>,
}

impl From<&EvidenceConfig> for ShownEvidence {
    fn from(config: &EvidenceConfig) -> Self {
        let stamps = config.timestamps.as_ref();
        ShownEvidence {
            retain_seconds: config.retain.0.as_secs(),
            time_stamps: stamps.map(|stamps| stamps.url.to_string()),
            time_stamps_ca_file: stamps.and_then(|stamps| stamps.ca_file.clone()),
        }
    }
}

impl std::fmt::Display for ShownEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kept {}", seconds(self.retain_seconds as f64))?;
        match &self.time_stamps {
            Some(url) => write!(f, ", stamped by {url}"),
            None => write!(f, ", not time-stamped"),
        }
    }
}

fn shown_instances(config: &Config) -> Vec<ShownInstance> {
    let shown = |(name, instance): (&lifeboat_model::id::Instance, &lifeboat_model::config::InstanceConfig)| {
        let tier = config.tier_of(instance);
        let sources = instance.config.clone().unwrap_or_default();
        ShownInstance {
            name: name.to_string(),
            owner: instance.owner.clone(),
            tier: instance.tier.to_string(),
            rpo_seconds: tier.map(|tier| tier.rpo.0.as_secs()),
            rto_seconds: tier.map(|tier| tier.rto.0.as_secs()),
            lock: tier
                .and_then(|tier| tier.lock)
                .map(|lock| Lock { mode: lock.mode.word(), minimum_seconds: lock.minimum.0.as_secs() }),
            retention: tier.and_then(|tier| tier.retention.as_ref()).map(Retention::from),
            postgres: format!("{}@{}:{}", instance.postgres.user, instance.postgres.host, instance.postgres.port),
            tls: instance.postgres.tls.word(),
            databases: instance.postgres.databases.clone(),
            filestore: instance.filestore.as_ref().map(|filestore| filestore.path.clone()),
            config_paths: sources.paths,
            config_commands: sources.commands.iter().map(|command| command.name.clone()).collect(),
            postgres_image: instance.drill.postgres_image.clone(),
            odoo_image: instance.drill.odoo_image.clone(),
            addons: instance.drill.addons.clone(),
            dependencies: instance.dependencies.iter().map(ShownDependency::from).collect(),
            targets: tier.map(|tier| format!("RPO {}, RTO {}", tier.rpo, tier.rto)).unwrap_or_default(),
        }
    };
    config.instances.iter().map(shown).collect()
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.config-show/1";

    fn text(&self, page: &mut Page) {
        page.field("file", self.file.display());
        page.field("sha256", &self.sha256);
        page.field("tenant", &self.tenant);
        page.field("repository", format_args!("{}{}", self.repository, note(self.immutable)));
        for copy in &self.copies {
            let lock = match copy.lock {
                "as-tiers" => "locks as the tiers demand",
                "none" => "locks nothing",
                mode => mode,
            };
            let place = format_args!("{}{}", copy.repository, note(copy.immutable));
            page.field("copy", format_args!("{}: {place}, {lock}", copy.name));
        }
        page.field("sealed to", self.recovery_recipients.join(", "));
        page.field("trusted", self.trusted_keys.join(", "));
        page.field("host identity", self.host_identity_file.display());
        page.field("signing key", self.signing_key_file.display());
        if let Some(path) = &self.recovery_identity_file {
            page.field("recovery identity", path.display());
        }
        page.field("state folder", self.state_dir.display());
        page.field("evidence", &self.evidence);
        page.gap();
        let mut rows = Rows::new(&[
            "instance",
            "tier",
            "targets",
            "postgres",
            "databases",
            "filestore",
            "odoo image",
            "lock",
            "kept",
        ]);
        for instance in &self.instances {
            let filestore = instance.filestore.as_ref().map_or("none".into(), |path| path.display().to_string());
            let databases = instance.databases.join(", ");
            let cells = [&instance.name, &instance.tier, &instance.targets, &instance.postgres, &databases, &filestore];
            let (lock, kept) = instance.kept();
            rows.plain(cells.into_iter().chain([&instance.odoo_image, &lock, &kept]));
        }
        page.table(rows);
        for instance in self.instances.iter().filter(|instance| !instance.dependencies.is_empty()) {
            page.heading(format_args!("What {} cannot work without", instance.name));
            let mut rows = Rows::new(&["dependency", "kind", "address", "note"]);
            for one in &instance.dependencies {
                rows.plain([&one.name, one.kind, &one.address, one.note.as_deref().unwrap_or_default()]);
            }
            page.table(rows);
        }
    }
}

fn show(session: &Session) -> Result<Exit> {
    let loaded = wire::load_config(session)?;
    session.output.show(&Shown::new(loaded.file, loaded.digest, &loaded.config))?;
    Ok(Exit::Ok)
}
