//! What can stop a drill. A check that finds something wrong is an answer in the report, not an error.

use std::{error::Error as StdError, io, path::PathBuf, time::Duration};

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

/// An error and its causes on one line, for a check's text.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
