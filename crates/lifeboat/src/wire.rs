//! From `lifeboat.toml` to what the verbs need: the checked configuration, key files, an open repository.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lifeboat_engine::{
    context::{self, Context},
    keys::read_identities,
};
use lifeboat_model::{
    config::{Config, Problem, RepositoryConfig, Warning, parse},
    id::Instance,
};
use lifeboat_repo::{
    point::{Point, PointSelector},
    repository::{InstanceRepo, Repository},
    seal::Identity,
};
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{Session, identity::IdentityArgs},
    exit::Exit,
    failure::{Failure, Result},
};

/// Where the configuration is looked for when nobody names it.
const PLACES: [&str; 2] = ["lifeboat.toml", "/etc/lifeboat/lifeboat.toml"];

/// A configuration that was read and checked.
#[derive(Clone)]
pub struct Loaded {
    /// Where it was read.
    pub file: PathBuf,
    /// The checked values.
    pub config: Config,
    /// What works and should not stay.
    pub warnings: Vec<Warning>,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
}

/// The configuration, or everything that is wrong with it.
pub enum Reading {
    /// Usable.
    Usable(Box<Loaded>),
    /// Not usable, for these reasons.
    Wrong {
        /// Where it was read.
        file: PathBuf,
        /// All reasons.
        problems: Vec<Problem>,
    },
}

/// The file that holds the configuration: the one named, else the first that exists.
pub fn config_file(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    PLACES.iter().map(PathBuf::from).find(|file| file.exists()).ok_or_else(|| {
        Failure::new(Exit::Config, format!("no configuration: looked for {}", PLACES.join(" and ")))
            .hint("name it with --config or LIFEBOAT_CONFIG, or begin with a starter file")
            .next("lifeboat init")
    })
}

/// Reads the configuration; says what is wrong without failing over it.
pub fn read_config(session: &Session) -> Result<Reading> {
    let file = config_file(session.config_file.as_deref())?;
    let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
    Ok(match parse(&text, &file) {
        Ok((config, warnings)) => {
            let digest = hex::encode(Sha256::digest(text.as_bytes()));
            Reading::Usable(Box::new(Loaded { file, config, warnings, digest }))
        }
        Err(problems) => Reading::Wrong { file, problems },
    })
}

fn unreadable(file: &Path, error: io::Error) -> Failure {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let failure = Failure { exit: Exit::Config, ..Failure::from(error) };
    let failure = failure.context(format!("cannot read the configuration {}", file.display()));
    if missing { failure.hint("write a starter file").next("lifeboat init") } else { failure }
}

/// Reads a configuration that must be usable, and keeps to its limits. Its warnings are the business of `config check` and `doctor`.
pub fn load_config(session: &Session) -> Result<Loaded> {
    match read_config(session)? {
        Reading::Usable(loaded) => {
            for warning in &loaded.warnings {
                tracing::info!("{warning}");
            }
            session.keep_to(loaded.config.limits);
            Ok(*loaded)
        }
        Reading::Wrong { file, problems } => {
            let count = crate::output::count(problems.len() as u64, "problem", "problems");
            let mut failure = Failure::new(Exit::Config, format!("{} has {count}", file.display()));
            failure.details = problems.iter().map(ToString::to_string).collect();
            Err(failure.safe("nothing was done").next("lifeboat config check"))
        }
    }
}

/// The instance that was named, else all that are configured.
pub fn instances(named: Option<&Instance>, config: &Config) -> Vec<Instance> {
    named.map_or_else(|| config.instances.keys().cloned().collect(), |name| vec![name.clone()])
}

/// Looks up an environment variable, for secrets that the configuration takes from there.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Opens the repository for a backup; it is made on first use.
pub async fn open_or_make(session: &Session, loaded: &Loaded) -> Result<Repository> {
    let remark = |words: &str| session.voice.warn(words);
    Ok(context::open_for_writing(&loaded.config, &environment, &session.clock, remark).await?)
}

/// Looks up which signing keys are not believed any more, and reads with that in mind.
pub async fn believing(repository: Repository, config: &Config) -> Result<Repository> {
    Ok(context::believing(repository, config).await?)
}

/// All that the engine's verbs need; `command` names what was started, for evidence.
pub fn context(session: &Session, loaded: Loaded, repository: Repository, command: &str) -> Context {
    Context::new(loaded.config, loaded.digest, repository, session.clock.clone(), session.initiator(command))
}

/// Opens the repository for a verb that only reads: one that is not there is an error, and is not made.
pub async fn open_for_reading(loaded: &Loaded) -> Result<(Repository, &Config)> {
    if let RepositoryConfig::Local { path } = &loaded.config.repository
        && !path.is_dir()
    {
        return Err(Failure::new(Exit::NotFound, format!("there is no repository at {}", path.display()))
            .hint("check repository.path; the first backup makes the repository")
            .next("lifeboat config check"));
    }
    let store = context::open_store(&loaded.config.repository, &environment, false).await?;
    Ok((believing(Repository::open(store).await?, &loaded.config).await?, &loaded.config))
}

/// The identities that open backups: the ones named, else the one that the configuration names. A passphrase, where one
/// is needed, is taken from its file or asked for.
pub fn recovery_identities(given: &IdentityArgs, config: &Config) -> Result<Vec<Identity>> {
    let files = match (given.identity.as_slice(), &config.keys.recovery_identity_file) {
        ([], Some(file)) => std::slice::from_ref(file),
        (named, _) => named,
    };
    if files.is_empty() {
        return Err(Failure::new(Exit::Key, "this needs a recovery identity, and none was given").hint(format!(
            "bring the identity of one of these from where it is kept, and pass it with --identity FILE: {}",
            config.keys.recovery_recipients.join(", ")
        )));
    }
    let passphrases = given.passphrases();
    let read = |file: &PathBuf| read_identities(file, &passphrases).map_err(Failure::from);
    Ok(files.iter().map(read).collect::<Result<Vec<_>>>()?.concat())
}

/// Finds and verifies a point. Where there is none, and no such instance is configured either, the name is what is wrong.
pub async fn find_point(repo: &InstanceRepo, selector: &PointSelector, config: &Config) -> Result<Point> {
    let found = repo.find_point(selector, &config.keys.trusted_keys).await;
    if matches!(found, Err(lifeboat_repo::Error::NoPoint { .. })) {
        config.instance(repo.instance().as_str())?;
    }
    Ok(found?)
}

/// Whether one of the identities opens the point's data. Asked before anything is written: a host's own identity opens
/// listings, so it would be found wrong only at the first byte of data.
pub fn opens(point: &Point, identities: &[Identity]) -> Result<()> {
    let header = &point.header;
    if identities.iter().any(|identity| header.recipients.contains(&identity.recipient().to_string())) {
        return Ok(());
    }
    let needed = header.recipients.join(" or ");
    Err(Failure::new(Exit::Key, format!("none of the given identities opens recovery point {}", header.point))
        .safe("nothing was written")
        .hint(format!("it needs the recovery identity that belongs to {needed}"))
        .next("lifeboat key show FILE"))
}
