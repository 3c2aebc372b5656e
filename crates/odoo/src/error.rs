//! What can go wrong while asking Odoo or its database. A wrong *answer* (a missing file, a corrupted book) is a report,
//! not an error.

use std::{io, path::PathBuf};

/// Shorthand for this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a question to Odoo, its database or its filestore got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A statement failed.
    #[error("cannot {what} in the Odoo database")]
    Sql {
        /// What was being done, a verb phrase.
        what: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A request did not reach Odoo or its answer did not come back.
    #[error("request {path} to Odoo failed")]
    Http {
        /// The path of the request.
        path: String,
        /// The transport's answer.
        #[source]
        source: reqwest::Error,
    },
    /// Odoo answered with another status than 200.
    #[error("Odoo answered {path} with status {status}, expected 200")]
    Status {
        /// The path of the request.
        path: String,
        /// The status code.
        status: u16,
    },
    /// Odoo answered a remote call with an error.
    #[error("Odoo refused {method}: {name}: {message}")]
    Rpc {
        /// `model.method` or the endpoint.
        method: String,
        /// The Python exception's name.
        name: String,
        /// Its message, shortened.
        message: String,
    },
    /// The session endpoint did not open a session.
    #[error("login of \"{login}\" on database \"{database}\" was refused: {reason}")]
    Login {
        /// The login name.
        login: String,
        /// The database.
        database: String,
        /// What Odoo said.
        reason: String,
    },
    /// An answer does not have the shape that every supported version gives.
    #[error("unexpected answer to {what}: {detail}; is this Odoo 14 to 19?")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The answer is larger than what was agreed to hold in memory.
    #[error("the answer to {path} is larger than {limit} bytes")]
    TooLarge {
        /// The path of the request.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// A file or directory of the filestore cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The base module's version is none of a supported major.
    #[error("Odoo version \"{0}\" is not supported: expected a major from 14 to 19")]
    Version(String),
    /// No user of the database can be used for the sandbox login.
    #[error("the database has no active internal user to log in with: look at res_users")]
    NoUser,
}

impl Error {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Sql { source, .. } => source.is_closed() || source.code().is_none(),
            Error::Http { source, .. } => source.is_connect() || source.is_timeout() || source.is_body(),
            Error::Status { status, .. } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    pub(crate) fn sql(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
        let what = what.into();
        move |source| Error::Sql { what, source }
    }

    pub(crate) fn unexpected(what: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Unexpected { what: what.into(), detail: detail.into() }
    }
}

/// The first `limit` characters, with an ellipsis when there were more.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let line = text.trim();
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
