//! What can stop a verb. A damaged page or a file that changed is an outcome in a report, not an error here.

use std::{io, path::PathBuf};

use lifeboat_model::{
    config::UnknownInstance,
    id::{PointId, TierName},
    lsn::Lsn,
    time::Span,
};

use crate::recovery::Moment;

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A verb that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has no such instance.
    #[error(transparent)]
    UnknownInstance(#[from] UnknownInstance),
    /// An instance points at a tier that is not there.
    #[error("tier \"{0}\" is not in the configuration")]
    NoTier(TierName),
    /// A tier demands locks that the store does not have.
    #[error(
        "tier \"{tier}\" demands that its objects are locked, and {place} has no object lock: use a bucket that was made with object lock, or remove [tiers.{tier}.lock]"
    )]
    NotLockable {
        /// The tier.
        tier: TierName,
        /// The store.
        place: String,
    },
    /// The last check of the endpoint found that its locks do not hold.
    #[error(
        "{place} failed the last `lifeboat repo check` ({failed}), and the tier demands that its objects are locked: mend the endpoint and check it again, or remove the tier's lock"
    )]
    EndpointFailed {
        /// The store.
        place: String,
        /// What failed.
        failed: String,
    },
    /// The host and the store do not agree what time it is.
    #[error(
        "the clock of {place} is {ahead} {direction} this host's: correct the clock that is wrong (NTP); locks would end at other times than they say"
    )]
    ClockSkew {
        /// The store.
        place: String,
        /// How far.
        ahead: Span,
        /// `ahead of` or `behind`.
        direction: &'static str,
    },
    /// Locks that policy demands could not be put.
    #[error(
        "{count} objects refused a longer lock, the first: {key}: {why}; give the credential the right to put retentions (`lifeboat repo policy`), then run `lifeboat verify --locks`"
    )]
    LocksRefused {
        /// How many.
        count: u64,
        /// The first of them.
        key: String,
        /// Why.
        why: String,
    },
    /// A release of what is not held.
    #[error("point {point} is under no legal hold; `lifeboat points list` shows which are")]
    NotHeld {
        /// The point.
        point: PointId,
    },
    /// No point of this id in any instance.
    #[error("no recovery point \"{wanted}\" in any configured instance; `lifeboat points list` shows them")]
    NoSuchPoint {
        /// What was asked for.
        wanted: String,
    },
    /// More than one instance has such a point.
    #[error("\"{wanted}\" fits points of several instances: give more digits of the id")]
    AmbiguousPoint {
        /// What was asked for.
        wanted: String,
    },
    /// A key or password could not be loaded.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] lifeboat_store::Error),
    /// The repository failed or refused.
    #[error(transparent)]
    Repo(#[from] lifeboat_repo::Error),
    /// PostgreSQL failed or refused.
    #[error(transparent)]
    Postgres(#[from] lifeboat_postgres::Error),
    /// A logical dump failed.
    #[error(transparent)]
    Dump(#[from] crate::dump::DumpError),
    /// A source folder could not be read.
    #[error(transparent)]
    Walk(#[from] crate::files::walk::WalkError),
    /// The write-ahead log that a base backup needs did not arrive.
    #[error("the write-ahead log stopped at {reached}, but the backup needs it up to {needed}: {why}")]
    WalIncomplete {
        /// How far it came.
        reached: Lsn,
        /// How far it had to come.
        needed: Lsn,
        /// What happened.
        why: String,
    },
    /// A witness that was asked for by itself has nothing to compare a restore with.
    #[error("no witness could be taken: {0}; try again, or take it from a standby (postgres.witness.standby)")]
    NoWitness(String),
    /// Somebody streams through the slot.
    #[error(
        "replication slot \"{slot}\" of {server} is in use: another stream of this instance runs, or its connection has not ended yet (the server notices within wal_sender_timeout)"
    )]
    SlotInUse {
        /// The slot.
        slot: String,
        /// The server.
        server: String,
    },
    /// The log past a witness did not reach the repository.
    #[error(
        "the log up to {position} did not reach the repository in time, so the witness is not kept: is `lifeboat wal stream` running?"
    )]
    WitnessNotHeld {
        /// What had to be held.
        position: Lsn,
    },
    /// Another server's log is stored under the same number.
    #[error(
        "timeline {timeline} of {server} is not the timeline {timeline} that is stored: two servers were promoted from the same one, and both chose this number. Their logs cannot lie in one instance: promote this server once more for a new number, or stream it as an instance of its own"
    )]
    TimelineTaken {
        /// The timeline.
        timeline: u32,
        /// The server.
        server: String,
    },
    /// The slot's name is taken by something else.
    #[error(
        "replication slot \"{slot}\" of {server} is a logical one: set another name in postgres.wal.slot, or drop it if nobody needs it"
    )]
    SlotIsLogical {
        /// The slot.
        slot: String,
        /// The server.
        server: String,
    },
    /// Nothing that is held leads to the moment that was asked for.
    #[error("{target} cannot be reached: {why}{}", nearest(before.as_deref(), after.as_deref()))]
    TargetOutOfReach {
        /// What was asked for.
        target: String,
        /// Why not.
        why: String,
        /// The latest moment before it that can be reached.
        before: Option<Box<Moment>>,
        /// The earliest moment after it that can be reached.
        after: Option<Box<Moment>>,
    },
    /// Nobody made a restore point of this name while the log was streamed.
    #[error("no restore point \"{name}\" is held: names are kept while the log is streamed, and are case-sensitive")]
    NoRestorePoint {
        /// The name.
        name: String,
    },
    /// Source and backup would not be of one cluster.
    #[error("the server changed during the backup: {0}; run the backup again")]
    ServerChanged(String),
    /// A repository that was there before.
    #[error(
        "{place} held a repository before and holds none now: is its disk mounted? If a new repository is meant to begin there, remove {memory}"
    )]
    RepositoryGone {
        /// Where it was.
        place: String,
        /// The file that remembers it.
        memory: PathBuf,
    },
    /// A delta restore into a folder that no restore made.
    #[error(
        "{path} was not made by a restore, and --delta removes everything in it that is not in the point: choose another folder, or if this is really meant, create an empty file {marker} in it"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// The file that a restore leaves.
        marker: &'static str,
    },
    /// A server is running on the folder.
    #[error("{path} is there, so a PostgreSQL server may be running on this folder: stop it first")]
    ServerRunning {
        /// Its `postmaster.pid`.
        path: PathBuf,
    },
    /// A delta restore over a cluster that has become a server of its own.
    #[error(
        "a server was started on {path} after the restore and has left recovery: what was written there since would be lost. Choose another folder; if that data is really given up, remove {control}"
    )]
    Promoted {
        /// PGDATA.
        path: PathBuf,
        /// The file without which it is no cluster any more.
        control: PathBuf,
    },
    /// The folder to restore into holds something.
    #[error(
        "{path} is not empty: choose an empty or new folder, or pass --delta to reuse the files in it that match (everything else in it will be removed)"
    )]
    TargetNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder of ours failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried, for example `cannot create`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A part of the point's content does not have the form that this version reads.
    #[error("point details have an unknown form ({0}); a newer lifeboat may read it")]
    Details(String),
    /// Some files could not be brought back.
    #[error("{0}")]
    Damaged(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// A copy carries its primary's ledger.
    #[error("{store} is a copy, whose ledger is its primary's: nothing is entered there")]
    LedgerOfCopy {
        /// The copy.
        store: String,
    },
    /// Slots are taken as fast as this host asks for them.
    #[error("the ledger could not be appended to: {slots} places were taken by others; the next statement tries again")]
    LedgerBusy {
        /// How many.
        slots: u32,
    },
    /// There are two logs in one place.
    #[error(
        "the ledger contradicts itself: there is another checkpoint of {size} entries with another root; nothing is entered, see `lifeboat evidence verify`"
    )]
    LedgerForked {
        /// Entries under the checkpoint.
        size: u64,
    },
    /// A person or a deadline stopped it.
    #[error("stopped before it was done")]
    Cancelled,
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

    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Store(error) => error.is_transient(),
            Error::Repo(error) => error.is_transient(),
            Error::Postgres(error) => error.is_transient(),
            Error::ServerChanged(_)
            | Error::SlotInUse { .. }
            | Error::WitnessNotHeld { .. }
            | Error::LedgerBusy { .. } => true,
            _ => false,
        }
    }
}

/// An error with its causes, in one line. A cause that the text has already is not said again.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

fn nearest(before: Option<&Moment>, after: Option<&Moment>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("; the nearest moments that can be reached are {before} and {after}"),
        (Some(before), None) => format!("; the nearest moment that can be reached is {before}"),
        (None, Some(after)) => format!("; the earliest moment that can be reached is {after}"),
        (None, None) => "; no moment can be reached yet".to_owned(),
    }
}
