//! What can stop a dump.

use std::{io, path::PathBuf, time::Duration};

/// A dump that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The server has no such database.
    #[error("{place} has no database \"{name}\"; it has: {}", known.join(", "))]
    UnknownDatabase {
        /// What was asked for.
        name: String,
        /// The server, or the recovery point.
        place: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The name of a database cannot be that of a file.
    #[error("database \"{database}\" cannot be dumped into a point: its name cannot be that of a file")]
    NoFileName {
        /// The database.
        database: String,
    },
    /// No program of the right version is on this host.
    #[error(
        "there is no pg_dump of major version {major} on this host (looked at {}): install postgresql-client-{major}, or use the image of drill.postgres_image", looked.join(", ")
    )]
    NoProgram {
        /// The server's major version.
        major: u32,
        /// Where it was looked for, and what was there instead.
        looked: Vec<String>,
    },
    /// The program is of another major version than the server.
    #[error(
        "{program} is {version}, the server is PostgreSQL {major}: a dump is made by a program of the server's own major version"
    )]
    WrongMajor {
        /// The program.
        program: String,
        /// Its version.
        version: String,
        /// The server's major version.
        major: u32,
    },
    /// The program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The program's output could not be read.
    #[error("cannot read the output of {program}")]
    Output {
        /// The program.
        program: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("pg_dump of database \"{database}\" ended with {status}: {words}")]
    Failed {
        /// The database.
        database: String,
        /// Exit code or signal.
        status: String,
        /// The last lines of its standard error.
        words: String,
    },
    /// The program was silent for too long.
    #[error("pg_dump of database \"{database}\" gave nothing for {} minutes and was ended", after.as_secs() / 60)]
    Stalled {
        /// The database.
        database: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The program ended well and gave no dump.
    #[error("pg_dump of database \"{database}\" gave {bytes} bytes that are no dump in its own format")]
    NoArchive {
        /// The database.
        database: String,
        /// How many bytes came.
        bytes: u64,
    },
    /// Authorities for the server's certificate are not known.
    #[error(
        "the server's certificate is to be verified, and this host has no file of authorities for it (looked at {}): set postgres.root_cert_file", looked.join(", ")
    )]
    NoAuthorities {
        /// Where a bundle was looked for.
        looked: Vec<String>,
    },
    /// A file for the program could not be made.
    #[error("cannot {action} {path}")]
    File {
        /// For example `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The point holds an instance, not dumps, or the other way round.
    #[error("recovery point {point} {what}")]
    WrongKind {
        /// The point.
        point: String,
        /// What it holds, and what to do.
        what: &'static str,
    },
    /// Whatever else runs the program failed.
    #[error("cannot run pg_dump in {place}")]
    Elsewhere {
        /// For example an image.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
