//! The tokens that count now: the file is looked at again at most once a second, and read again when it changed.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::tokens::{self, Token};
use crate::{daemon::Daemon, error::Error, view::Trouble};

/// So old may be what is known of the file.
const FRESH: Duration = Duration::from_secs(1);

/// The name of the trouble.
const OF: &str = "tokens";

/// The tokens of the file that the settings name.
pub(super) struct Keyring(Mutex<Known>);

struct Known {
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    tokens: Arc<Vec<Token>>,
}

/// Tells whether a file is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Device, inode, mode, length, changed in seconds and nanoseconds; none: there is no file.
    file: Option<(u64, u64, u32, u64, i64, i64)>,
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let file = fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino(), found.mode(), found.size(), found.ctime(), found.ctime_nsec()));
        Stamp { path: path.to_owned(), file }
    }
}

impl Keyring {
    pub(super) fn new() -> Keyring {
        Keyring(Mutex::new(Known { looked: None, stamp: None, tokens: Arc::default() }))
    }

    /// All tokens. A file that cannot be used changes nothing and is told as a trouble.
    pub(super) async fn tokens(self: &Arc<Self>, daemon: &Arc<Daemon>) -> Arc<Vec<Token>> {
        {
            let known = self.known();
            if known.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
                return Arc::clone(&known.tokens);
            }
        }
        let (keyring, daemon) = (Arc::clone(self), Arc::clone(daemon));
        let looked = tokio::task::spawn_blocking(move || keyring.look(&daemon)).await;
        looked.unwrap_or_else(|_| Arc::clone(&self.known().tokens))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One looks, others who come meanwhile wait for what it finds.
    fn look(&self, daemon: &Daemon) -> Arc<Vec<Token>> {
        let mut known = self.known();
        if known.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return Arc::clone(&known.tokens);
        }
        let path = daemon.policies().settings.tokens_file.clone();
        let stamp = Stamp::of(&path);
        if known.stamp.as_ref() != Some(&stamp) {
            match tokens::list(&path) {
                Ok(tokens) => {
                    known.tokens = Arc::new(tokens);
                    daemon.troubles.end(None, OF);
                }
                Err(error) => daemon.troubles.begin(trouble(daemon, &path, &error)),
            }
            known.stamp = Some(stamp);
        }
        known.looked = Some(Instant::now());
        Arc::clone(&known.tokens)
    }
}

fn trouble(daemon: &Daemon, path: &Path, error: &Error) -> Trouble {
    let why = match error {
        Error::Unusable { problems, .. } => problems.join("; "),
        error => error.to_string(),
    };
    Trouble {
        tenant: None,
        of: OF.to_owned(),
        since: daemon.now(),
        text: format!("{}: {why}. The tokens of before still count", path.display()),
        next: Some("lifeboat token list".to_owned()),
    }
}
