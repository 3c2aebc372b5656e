//! What a run of the daemon does first: it leaves the processor to others, and holds a lock by which the daemon, even another
//! one after a crash, sees that it lives.

use std::fs::{self, File, TryLockError};

use crate::{
    cli::Child,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
};

/// Held until the process ends.
pub struct Alive {
    _lock: Option<File>,
}

/// Before threads are started: they inherit the priority.
pub fn begin(child: &Child) -> Result<Alive> {
    if let Some(nice) = child.nice {
        rustix::process::nice(i32::from(nice)).context("cannot lower the priority")?;
    }
    let Some(path) = &child.alive_file else { return Ok(Alive { _lock: None }) };
    let failed = || format!("cannot lock {}", path.display());
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).context(failed())?;
    match file.try_lock() {
        Ok(()) => Ok(Alive { _lock: Some(file) }),
        Err(TryLockError::WouldBlock) => Err(Failure::new(Exit::Busy, failed()).hint("this run is under way already")),
        Err(TryLockError::Error(error)) => Err(error).context(failed()),
    }
}
