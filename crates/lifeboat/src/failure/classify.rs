//! Which exit code, hint and next command fit an error, by its type.

use lifeboat_engine::{dump::DumpError, keys::KeyError};
use lifeboat_model::config::UnknownInstance;

use crate::{exit::Exit, passphrase::INTERRUPTED};

/// What is added to an error.
pub struct Advice {
    pub exit: Exit,
    pub hint: Option<String>,
    pub next: Option<String>,
}

impl Advice {
    fn new(exit: Exit) -> Self {
        Advice { exit, hint: None, next: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Advice { hint: Some(hint.into()), ..self }
    }

    fn next(self, next: impl Into<String>) -> Self {
        Advice { next: Some(next.into()), ..self }
    }
}

/// Looks through the error and its causes for the first type that we know.
pub fn advice(error: &anyhow::Error) -> Advice {
    for cause in error.chain() {
        if cause.is::<UnknownInstance>() {
            return unknown_instance();
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_engine::Error>() {
            return engine(error);
        }
        if let Some(error) = cause.downcast_ref::<DumpError>() {
            return dump(error);
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_drill::Error>()
            && error.is_without_engine()
        {
            return no_docker();
        }
        if let Some(error) = cause.downcast_ref::<KeyError>() {
            return key(error);
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_repo::Error>() {
            return repo(error);
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_postgres::Error>() {
            return postgres(error);
        }
        if let Some(error) = cause.downcast_ref::<lifeboat_store::Error>() {
            return store(error);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return io(error);
        }
    }
    Advice::new(Exit::Failed)
}

fn no_docker() -> Advice {
    Advice::new(Exit::Unavailable).hint("run it again when Docker answers").next("lifeboat doctor")
}

/// The message itself names the nearest instance, or all of them.
fn unknown_instance() -> Advice {
    Advice::new(Exit::NotFound).next("lifeboat config show")
}

fn engine(error: &lifeboat_engine::Error) -> Advice {
    use lifeboat_engine::Error;
    match error {
        Error::UnknownInstance(_) => unknown_instance(),
        Error::NoTier(_) => Advice::new(Exit::Config).next("lifeboat config check"),
        Error::NotLockable { .. } | Error::EndpointFailed { .. } => {
            Advice::new(Exit::Config).next("lifeboat repo check")
        }
        Error::LocksRefused { .. } => Advice::new(Exit::CheckFailed).next("lifeboat verify --locks"),
        Error::NotHeld { .. } | Error::NoSuchPoint { .. } => Advice::new(Exit::NotFound).next("lifeboat points list"),
        Error::AmbiguousPoint { .. } => Advice::new(Exit::Usage).next("lifeboat points list"),
        Error::ClockSkew { .. } => Advice::new(Exit::Failed).next("lifeboat doctor"),
        Error::Key(error) => key(error),
        Error::Store(error) => store(error),
        Error::Repo(error) => repo(error),
        Error::Postgres(error) => postgres(error),
        Error::Dump(error) => dump(error),
        Error::Io { source, .. } => io(source),
        Error::Damaged(_) => Advice::new(Exit::CheckFailed).next("lifeboat verify"),
        Error::TargetOutOfReach { .. } => Advice::new(Exit::NotFound)
            .hint("choose a moment that is held, or begin from a point as it is: --point")
            .next("lifeboat points windows"),
        Error::NoRestorePoint { .. } => Advice::new(Exit::NotFound).next("lifeboat points windows"),
        Error::Cancelled => Advice::new(Exit::Interrupted),
        Error::SlotInUse { .. } => Advice::new(Exit::Busy).hint("the other stream's work is untouched"),
        Error::NoWitness(_) => {
            Advice::new(Exit::Incomplete).hint("try again when the source is less busy, or from a standby")
        }
        Error::SlotIsLogical { .. } => Advice::new(Exit::Config).next("lifeboat config check"),
        error if error.is_transient() => Advice::new(Exit::Unavailable).hint("run it again"),
        _ => Advice::new(Exit::Failed),
    }
}

fn dump(error: &DumpError) -> Advice {
    match error {
        DumpError::UnknownDatabase { .. } => Advice::new(Exit::NotFound),
        DumpError::NoFileName { .. } | DumpError::WrongKind { .. } => Advice::new(Exit::Usage),
        DumpError::NoProgram { .. } | DumpError::WrongMajor { .. } | DumpError::NoAuthorities { .. } => {
            Advice::new(Exit::Config)
        }
        DumpError::Elsewhere { source, .. }
            if source.downcast_ref::<lifeboat_drill::Error>().is_some_and(lifeboat_drill::Error::is_without_engine) =>
        {
            no_docker()
        }
        DumpError::Start { source, .. } | DumpError::File { source, .. } => io(source),
        _ => Advice::new(Exit::Failed),
    }
}

fn key(error: &KeyError) -> Advice {
    match error {
        KeyError::NotTrusted { public, .. } => {
            Advice::new(Exit::Key).hint(format!("add \"{public}\" to keys.trusted_keys")).next("lifeboat key check")
        }
        KeyError::Locked { reason, .. } if *reason == INTERRUPTED => Advice::new(Exit::Interrupted),
        _ => Advice::new(Exit::Key).next("lifeboat key check"),
    }
}

fn repo(error: &lifeboat_repo::Error) -> Advice {
    use lifeboat_repo::Error;
    match error {
        Error::Store(error) => store(error),
        Error::NotARepository { .. } => Advice::new(Exit::NotFound)
            .hint("check the repository's address; the first backup makes the repository")
            .next("lifeboat doctor"),
        Error::Unknown { .. } => Advice::new(Exit::Failed),
        Error::Damaged { .. } => Advice::new(Exit::CheckFailed)
            .hint("see what is affected and what still can be restored")
            .next("lifeboat verify"),
        Error::Untrusted { .. } => Advice::new(Exit::CheckFailed)
            .hint("if another host of yours signed it, add its public key to keys.trusted_keys")
            .next("lifeboat points list"),
        Error::NoPoint { .. } => Advice::new(Exit::NotFound).next("lifeboat points list"),
        Error::Ambiguous { .. } => Advice::new(Exit::Usage).next("lifeboat points list"),
        Error::WrongIdentity { .. } => {
            Advice::new(Exit::Key).hint("bring an identity that belongs to one of these recipients: --identity FILE")
        }
        Error::BadKey { .. } | Error::RevokedSigner { .. } => Advice::new(Exit::Key).next("lifeboat key check"),
        Error::Busy { .. } => Advice::new(Exit::Busy).hint("the other run's work is untouched"),
        Error::Cache { source, .. } | Error::Sink { source, .. } | Error::Io { source, .. } => io(source),
        error if error.is_transient() => Advice::new(Exit::Unavailable).hint("run it again"),
        _ => Advice::new(Exit::Failed),
    }
}

fn postgres(error: &lifeboat_postgres::Error) -> Advice {
    let advice = Advice::new(if error.is_transient() { Exit::Unavailable } else { Exit::Failed });
    match error {
        lifeboat_postgres::Error::ConnectionLost { .. } | lifeboat_postgres::Error::ServerUnavailable { .. } => {
            advice.hint("run it again when the server answers").next("lifeboat doctor")
        }
        lifeboat_postgres::Error::ChecksumFailure { .. } => Advice::new(Exit::CheckFailed),
        _ => advice.next("lifeboat doctor"),
    }
}

fn store(error: &lifeboat_store::Error) -> Advice {
    use lifeboat_store::Error;
    match error {
        Error::NotFound { .. } => Advice::new(Exit::NotFound),
        Error::Denied { .. } => Advice::new(Exit::Failed)
            .hint("check the credentials and their rights on the repository")
            .next("lifeboat doctor"),
        Error::Full { .. } => Advice::new(Exit::Full).hint("make room where the repository lies, then run it again"),
        Error::Damaged { .. } => Advice::new(Exit::CheckFailed)
            .hint("see what is affected and what still can be restored")
            .next("lifeboat verify"),
        Error::Unusable { .. } => Advice::new(Exit::Config).next("lifeboat doctor"),
        Error::NoLocks { .. } => Advice::new(Exit::Config)
            .hint("use a bucket with object lock, or a tier without [tiers.NAME.lock]")
            .next("lifeboat repo check"),
        error if error.is_transient() => Advice::new(Exit::Unavailable)
            .hint("the repository did not answer; check network and endpoint, then run it again")
            .next("lifeboat doctor"),
        _ => Advice::new(Exit::Failed),
    }
}

fn io(error: &std::io::Error) -> Advice {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => Advice::new(Exit::NotFound),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Advice::new(Exit::Full).hint("make room, then run it again")
        }
        _ => Advice::new(Exit::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_are_found_behind_context() {
        let error = lifeboat_store::Error::Full { key: "a".into(), reason: "disk full".into() };
        let wrapped = anyhow::Error::new(error).context("backup of clinic failed");
        assert_eq!(advice(&wrapped).exit, Exit::Full);
        let transient =
            lifeboat_store::Error::Unavailable { operation: "put", key: "a".into(), reason: "timed out".into() };
        assert_eq!(advice(&anyhow::Error::new(transient)).exit, Exit::Unavailable);
        assert_eq!(advice(&anyhow::Error::msg("other")).exit, Exit::Failed);
        for (reason, exit) in [(INTERRUPTED, Exit::Interrupted), ("none was typed", Exit::Key)] {
            let locked = KeyError::Locked { path: "recovery.identity".into(), reason };
            assert_eq!(advice(&anyhow::Error::new(locked)).exit, exit);
        }
    }
}
