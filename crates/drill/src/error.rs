//! What can stop a drill. A check that finds something wrong is an answer in the report, not an error.

use std::{error::Error as StdError, io, path::PathBuf, time::Duration};

pub(crate) use lifeboat_engine::with_causes;

use lifeboat_model::size::ByteSize;

/// Shorthand for this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a step of a drill could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine does not answer.
    #[error("the Docker engine at {address} does not answer; start it, or name another with DOCKER_HOST")]
    NoDocker {
        /// Where it was looked for.
        address: String,
        /// Its answer.
        #[source]
        source: bollard::errors::Error,
    },
    /// The engine refused something.
    #[error("Docker cannot {what}")]
    Docker {
        /// What was asked of it, a verb phrase.
        what: String,
        /// Its answer.
        #[source]
        source: bollard::errors::Error,
    },
    /// An image is not there and cannot be fetched.
    #[error("image {image} is not on this host and cannot be pulled: build it, or run `docker pull {image}`")]
    NoImage {
        /// The reference.
        image: String,
        /// The engine's answer.
        #[source]
        source: bollard::errors::Error,
    },
    /// A program in a container ended with a failure.
    #[error("{program} in the {role} container ended with code {code}: {output}")]
    Program {
        /// The program.
        program: String,
        /// `postgres` or `odoo`.
        role: &'static str,
        /// Its exit code.
        code: i64,
        /// The end of what it printed.
        output: String,
    },
    /// Something took longer than allowed.
    #[error("{what} took longer than {} s", after.as_secs())]
    Timeout {
        /// What.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// A statement in the restored database failed.
    #[error("cannot {what} in the restored database")]
    Sql {
        /// What was being done.
        what: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The restored cluster's files cannot be looked at.
    #[error(transparent)]
    Postgres(#[from] lifeboat_postgres::Error),
    /// A question to Odoo got no answer.
    #[error(transparent)]
    Odoo(#[from] lifeboat_odoo::Error),
    /// A file or folder of the sandbox.
    #[error("{action} {path}")]
    Io {
        /// What was tried, for example `cannot create`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The recovery point cannot be selected or fetched.
    #[error("{what}")]
    Source {
        /// What was tried.
        what: String,
        /// The engine's or the repository's answer.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// What a program or a server printed does not have the expected form.
    #[error("unexpected output of {program}: {detail}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong.
        detail: String,
    },
    /// A negative control found nothing that it could damage.
    #[error("{why}")]
    NotApplied {
        /// Why not, in words that may stand in evidence.
        why: String,
    },
    /// A negative control ends below the rung that would ask for it.
    #[error("not needed: this negative control ends below Odoo's first rung")]
    NotNeeded,
    /// What was to be asked of a restored database is no question that can have one answer.
    #[error("the check cannot be asked: {why}")]
    Question {
        /// Why not.
        why: String,
    },
    /// The disk has no room for what would be restored.
    #[error(
        "no room at {}: {free} are free, and the drill needs {needed}; make room, or set engine.state_dir to a larger disk",
        folder.display()
    )]
    NoRoom {
        /// The drill's folder.
        folder: PathBuf,
        /// What is free.
        free: ByteSize,
        /// What is restored, and a margin.
        needed: ByteSize,
    },
    /// The drill alone wants more than all drills may have.
    #[error(
        "the drill of {instance} may use {needed} of memory, and all drills together {memory}: raise drills.memory, or lower its drill.memory"
    )]
    Budget {
        /// The instance.
        instance: String,
        /// Its limit.
        needed: ByteSize,
        /// The budget.
        memory: ByteSize,
    },
    /// A volume that is to be made or replaced is used.
    #[error("volume {volume} is used by {by}; nothing was made or removed: {next}")]
    InUse {
        /// The volume.
        volume: String,
        /// Names of containers.
        by: String,
        /// The command that changes it.
        next: String,
    },
    /// A volume of that name is there, and holds something else.
    #[error(
        "there is a volume {volume} already, and it is not this restore's: name another, or replace it with --replace, which removes what it holds"
    )]
    VolumeThere {
        /// The volume.
        volume: String,
    },
    /// What was restored cannot be asked.
    #[error("{why}")]
    NotRecovered {
        /// Why not, and what to do.
        why: String,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// A task of ours ended without an answer: a defect.
    #[error("an internal task ended unexpectedly: {0}; please report this")]
    Task(String),
}

impl Error {
    /// Makes an [`Error::Io`].
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn docker(what: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Error {
        let what = what.into();
        move |source| Error::Docker { what, source }
    }

    pub(crate) fn sql(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
        let what = what.into();
        move |source| Error::Sql { what, source }
    }

    /// Makes an [`Error::Source`].
    pub fn source(what: impl Into<String>) -> impl FnOnce(Box<dyn StdError + Send + Sync>) -> Error {
        let what = what.into();
        move |source| Error::Source { what, source }
    }

    /// Whether the engine did not answer, or not to the end: it is away, or was for a moment.
    pub fn is_without_engine(&self) -> bool {
        use bollard::errors::Error as Engine;
        match self {
            Error::NoDocker { .. } => true,
            Error::Docker { source, .. } => matches!(
                source,
                Engine::HyperLegacyError { .. }
                    | Engine::HyperResponseError { .. }
                    | Engine::IOError { .. }
                    | Engine::RequestTimeoutError
                    | Engine::SocketNotFoundError(_)
            ),
            _ => false,
        }
    }

    /// The words for evidence, which is stored unencrypted: nothing that a program printed, a server answered or a file is
    /// called.
    pub fn public(&self) -> String {
        match self {
            Error::Program { program, role, code, .. } => {
                format!("{program} in the {role} container ended with code {code}")
            }
            Error::Sql { source, .. } => match source.code() {
                Some(code) => format!("a statement in the restored database failed with SQLSTATE {}", code.code()),
                None => "the restored database did not answer".to_owned(),
            },
            Error::Postgres(_) => "the restored cluster's files cannot be read".to_owned(),
            Error::Odoo(error) => public_odoo(error),
            Error::Io { action, source, .. } => format!("{action} a file of the sandbox: {}", source.kind()),
            Error::Output { program, .. } => format!("unexpected output of {program}"),
            Error::NoRoom { free, needed, .. } => format!("no room: {free} are free, and the drill needs {needed}"),
            Error::Task(_) => "an internal task ended unexpectedly".to_owned(),
            Error::Question { .. } => "the check cannot be asked".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether it tells of the backup, which is damaged or wrong, and not of the store, the engine or the host, which could
    /// not be used: only then has a check failed.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Source { source, .. } => of_the_point(source.as_ref()),
            Error::Sql { source, .. } => source.code().is_some_and(|code| tells_of_data(code.code())),
            Error::Postgres(error) => !error.is_transient(),
            Error::Odoo(error) => {
                use lifeboat_odoo::Error as Odoo;
                let answered = matches!(
                    error,
                    Odoo::Status { .. } | Odoo::Rpc { .. } | Odoo::Login { .. } | Odoo::Unexpected { .. }
                );
                answered && !error.is_transient()
            }
            _ => false,
        }
    }

    /// Whether the same drill may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Timeout { .. } => true,
            Error::Odoo(error) => error.is_transient(),
            Error::Postgres(error) => error.is_transient(),
            Error::Sql { source, .. } => source.is_closed(),
            Error::Docker { source, .. } => matches!(source, bollard::errors::Error::RequestTimeoutError),
            _ => false,
        }
    }
}

fn public_odoo(error: &lifeboat_odoo::Error) -> String {
    use lifeboat_odoo::Error as Odoo;
    match error {
        Odoo::Sql { .. } => "a statement in the Odoo database failed".to_owned(),
        Odoo::Http { .. } => "a request to Odoo failed".to_owned(),
        Odoo::Status { status, .. } => format!("Odoo answered with status {status}, expected 200"),
        Odoo::Rpc { method, name, .. } => format!("Odoo refused {method}: {name}"),
        Odoo::Login { .. } => "the login was refused".to_owned(),
        _ => "Odoo or its files gave an unexpected answer".to_owned(),
    }
}

/// Whether the repository or the restore found the point itself to be missing, damaged or not to be trusted.
fn of_the_point(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<lifeboat_engine::Error>() {
            return of_the_restore(error);
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_repo::Error>() {
            return of_the_repository(error);
        }
        next = cause.source();
    }
    false
}

fn of_the_restore(error: &lifeboat_engine::Error) -> bool {
    use lifeboat_engine::Error as Engine;
    match error {
        Engine::Repo(error) => of_the_repository(error),
        Engine::Store(error) => of_the_store(error),
        Engine::Postgres(error) => !error.is_transient(),
        Engine::Damaged(_) | Engine::Details(_) => true,
        Engine::TargetOutOfReach { .. } | Engine::NoRestorePoint { .. } => true,
        _ => false,
    }
}

fn of_the_repository(error: &lifeboat_repo::Error) -> bool {
    use lifeboat_repo::Error as Repo;
    match error {
        Repo::Store(error) => of_the_store(error),
        Repo::Damaged { .. } | Repo::Untrusted { .. } | Repo::NoPoint { .. } | Repo::WalGap { .. } => true,
        Repo::Gone { .. } => true,
        // Whoever has these keys cannot bring it back, whatever is stored.
        Repo::WrongIdentity { .. } => true,
        _ => false,
    }
}

fn of_the_store(error: &lifeboat_store::Error) -> bool {
    use lifeboat_store::Error as Store;
    matches!(error, Store::NotFound { .. } | Store::Damaged { .. })
}

/// Classes of SQLSTATE that say nothing of the data: connections, authorisation, conflicts, resources, an operator, limits.
fn tells_of_data(code: &str) -> bool {
    !["08", "28", "40", "53", "55", "57"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_store::Error as Store;

    fn source(error: impl StdError + Send + Sync + 'static) -> Error {
        Error::source("cannot restore the point")(Box::new(error))
    }

    #[test]
    fn only_what_tells_of_the_backup_is_damage() {
        let gone = Store::NotFound { key: "a/packs/00".into() };
        let away = Store::Unavailable { operation: "get", key: "a/packs/00".into(), reason: "timed out".into() };
        let denied = Store::Denied { operation: "get", key: "a/packs/00".into(), reason: "403".into() };
        let damaged = lifeboat_repo::Error::Damaged { object: "a/wal/00".into(), reason: "its SHA-256".into() };
        assert!(source(lifeboat_repo::Error::Store(gone)).is_damage());
        assert!(source(lifeboat_engine::Error::Repo(damaged)).is_damage());
        assert!(!source(lifeboat_engine::Error::Store(away)).is_damage());
        assert!(!source(lifeboat_repo::Error::Store(denied)).is_damage());
        let full = Error::io("cannot write", "/work/pgdata/base/1/2")(io::ErrorKind::StorageFull.into());
        assert!(!full.is_damage());
        let program = Error::Program { program: "psql".into(), role: "postgres", code: 2, output: "patient 17".into() };
        assert!(!program.is_damage());
        let refused = lifeboat_odoo::Error::Status { path: "/web/content/7".into(), status: 500 };
        assert!(Error::Odoo(refused).is_damage());
        assert!(tells_of_data("XX001") && tells_of_data("42P01") && !tells_of_data("53100") && !tells_of_data("57P03"));
    }

    #[test]
    fn evidence_gets_no_names_and_no_output() {
        let message = "invalid partner Jane Doe".to_owned();
        let errors = [
            Error::Program { program: "psql".into(), role: "postgres", code: 2, output: "Jane Doe".into() },
            Error::Output { program: "odoo".into(), detail: "Jane Doe".into() },
            Error::Task("Jane Doe".into()),
            Error::io("cannot read", "/work/filestore/Jane Doe")(io::ErrorKind::PermissionDenied.into()),
            Error::Odoo(lifeboat_odoo::Error::Rpc {
                method: "res.partner.search_read".into(),
                name: "ValueError".into(),
                message,
            }),
            Error::Odoo(lifeboat_odoo::Error::Login {
                login: "Jane Doe".into(),
                database: "demo".into(),
                reason: "no".into(),
            }),
            source(lifeboat_engine::Error::Damaged("Jane Doe".into())),
        ];
        for error in errors {
            let public = error.public();
            assert!(with_causes(&error).contains("Jane") && !public.contains("Jane"), "{public}");
        }
    }
}
