//! `lifeboat copy`: another repository gets what the primary holds, verified on the way; with `--reencrypt` sealed to the
//! recipients of today.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use lifeboat_engine::{
    context::{self, Context},
    copy::{self, Wanted, reencrypt},
    skew::Skew,
};
use lifeboat_model::id::Instance;
use lifeboat_repo::{repository::Repository, seal::Identity};

use super::{Session, identity::IdentityArgs, place};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    progress::Meter,
    wire::{self, Loaded},
};

mod answer;
pub mod lag;

use answer::{Done, Row};

/// Copy recovery points, WAL and evidence to another repository
///
/// Bytes go as they are and are verified on the way, so no decryption key is needed; damage and forgery stay behind and are
/// named. What is there is not sent again: a copy that was stopped goes on, and one that runs often keeps up. With --reencrypt
/// everything is opened and sealed to keys.recovery_recipients of now, into a repository of its own.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Copy {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
    /// The repository to copy to, by its name in the configuration [default: all with role = "copy"]
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Only points that were finished at this time or later
    #[arg(long, value_name = "TIME", conflicts_with = "points")]
    since: Option<Timestamp>,
    /// Which points, of those that policy keeps
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    points: Which,
    /// Open everything and seal it to the recipients of now, in a repository of its own
    #[arg(long, requires = "to")]
    reencrypt: bool,
    /// A recovery identity (repeatable), for --reencrypt [default: keys.recovery_identity_file]
    #[arg(long, value_name = "FILE", requires = "reencrypt")]
    identity: Vec<PathBuf>,
    /// The identity's passphrase is the first line of this file, or of /dev/fd/N [default: asked on the terminal]
    #[arg(long, value_name = "FILE", requires = "identity")]
    passphrase_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat copy                                  everything, to every copy
  lifeboat copy clinic --to offsite --points latest
  lifeboat copy --to renewed --reencrypt --identity /media/key/recovery.identity

Exit codes: 0 all that was wanted is in the copy, 4 something was damaged or forged and stayed behind.";

/// Which points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Which {
    /// All that policy keeps
    #[default]
    All,
    /// The newest backup
    Latest,
}

impl Copy {
    fn identities(&self) -> IdentityArgs {
        IdentityArgs { identity: self.identity.clone(), passphrase_file: self.passphrase_file.clone() }
    }

    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let targets = self.targets(&loaded)?;
        let identities = match self.reencrypt {
            true => wire::recovery_identities(&self.identities(), &loaded.config)?,
            false => Vec::new(),
        };
        let instances = wire::instances(self.instance.as_ref(), &loaded.config);
        if let Some(named) = &self.instance {
            loaded.config.instance(named.as_str())?;
        }
        let (primary, _) = wire::open_for_reading(&loaded).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        for target in &targets {
            match self.to_target(session, &loaded, &primary, target, &instances, &identities).await {
                Ok(done) => rows.extend(done),
                Err(failure) if session.cancel.is_cancelled() || targets.len() == 1 => return Err(failure),
                // One copy that cannot be reached is no reason to leave the others behind.
                Err(failure) => {
                    session.voice.warn(&format!("{target}: {}", failure.messages().join(": ")));
                    failed.get_or_insert(failure);
                }
            }
        }
        let done = Done::new(self.reencrypt, rows);
        session.output.show(&done)?;
        match failed {
            Some(failure) => Err(failure),
            None => Ok(if done.complete { Exit::Ok } else { Exit::CheckFailed }),
        }
    }

    fn targets(&self, loaded: &Loaded) -> Result<Vec<String>> {
        let config = &loaded.config;
        let targets: Vec<String> = match &self.to {
            Some(name) if *name == config.repository_name => {
                return Err(Failure::new(Exit::Usage, format!("\"{name}\" is the primary, and copies go elsewhere")));
            }
            Some(name) => vec![name.clone()],
            None => config.copies.iter().map(|copy| copy.name.clone()).collect(),
        };
        if targets.is_empty() {
            return Err(Failure::new(Exit::Config, "no copy is configured")
                .hint("add a [[repository]] section with role = \"copy\" for each, and role = \"primary\" for the one there is"));
        }
        Ok(targets)
    }

    async fn to_target(
        &self,
        session: &Session,
        loaded: &Loaded,
        primary: &Repository,
        target: &str,
        instances: &[Instance],
        identities: &[Identity],
    ) -> Result<Vec<Row>> {
        let command = if self.reencrypt { "lifeboat copy --reencrypt" } else { "lifeboat copy" };
        let from = wire::context(session, loaded.clone(), primary.clone(), command);
        let there = place::at(loaded.clone(), target)?;
        let repository = self.open(session, &there, primary).await.safe("nothing was copied")?;
        let to = wire::context(session, there, repository, command);
        let mut rows = Vec::new();
        for instance in instances {
            let failed = format!("copy of {instance} to {target} failed");
            let row = self.one(session, &from, &to, instance, identities).await;
            rows.push(row.safe("what was copied so far stays, and is not sent again").context(failed)?);
        }
        Ok(rows)
    }

    async fn open(&self, session: &Session, there: &Loaded, primary: &Repository) -> Result<Repository> {
        let (config, now) = (&there.config, session.now());
        let store = context::open_store(&config.repository, &wire::environment, true).await?;
        context::check_lockable(&store, config)?;
        let skew = Skew::measure(&store, &session.clock).await?;
        skew.check(&store.describe())?;
        if let Some(remark) = skew.remark(&store.describe()) {
            session.voice.warn(&remark);
        }
        let state_dir = &config.engine.state_dir;
        let opened = match self.reencrypt {
            true => reencrypt::open_target(store, state_dir, now, primary).await?,
            false => context::open_replica(store, state_dir, primary).await?,
        };
        wire::believing(opened, config).await
    }

    async fn one(
        &self,
        session: &Session,
        from: &Context,
        to: &Context,
        instance: &Instance,
        identities: &[Identity],
    ) -> Result<Row> {
        let wanted = match (self.since, self.points) {
            (Some(time), _) => Wanted::Since(time),
            (None, Which::Latest) => Wanted::Latest,
            (None, Which::All) => Wanted::All,
        };
        let meter = Meter::start(&session.voice, format!("copy {instance} to {}", to.config.repository_name));
        let names = (instance, from.config.repository_name.as_str(), to);
        if self.reencrypt {
            let (name, cancel) = (instance.as_str(), &session.cancel);
            let moved = reencrypt::run(from, to, name, wanted, identities, meter.clone(), cancel).await?;
            return Ok(Row::reencrypted(names, &moved));
        }
        let copied = copy::run(from, to, instance.as_str(), wanted, meter.clone(), &session.cancel).await?;
        Ok(Row::copied(names, &copied))
    }
}
