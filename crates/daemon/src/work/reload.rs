//! Policies that change while the daemon is at work: read again, adopted whole, or refused whole with the old ones kept.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    Daemon, Error,
    error::with_causes,
    policies::{self, Policies},
    view::{ActivityView, Trouble},
};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What a file looked like: modification time, size and inode. Enough to know that it must be read again.
type Look = BTreeMap<PathBuf, Option<(i64, i64, u64, u64)>>;

/// Follows the files of the policies until it is cancelled.
pub async fn run(daemon: Arc<Daemon>, cancel: CancellationToken) {
    let mut seen = look(&daemon).await;
    loop {
        let is_asked = tokio::select! {
            () = cancel.cancelled() => return,
            () = daemon.surroundings.reload.notified() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let before = look(&daemon).await;
        if !is_asked && before == seen {
            continue;
        }
        read_again(&daemon).await;
        // Looked at before it was read: what was written in between is read again. Its own folders may be others now.
        let after = look(&daemon).await;
        seen = if before.keys().eq(after.keys()) { before } else { after };
    }
}

async fn look(daemon: &Daemon) -> Look {
    let (policies, sources) = (daemon.policies(), daemon.sources.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let mut look = Look::new();
        let named = [sources.settings.as_deref(), sources.config.as_deref()].into_iter().flatten();
        for path in named.chain(policies.files.iter().map(|file| file.path.as_path())) {
            look.insert(path.to_owned(), stat(path));
        }
        for folder in &policies.folders {
            look.insert(folder.clone(), stat(folder));
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            look.extend(entries.map(|path| (path.clone(), stat(&path))));
        }
        look
    });
    looked.await.unwrap_or_default()
}

fn stat(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// Reads all policies again, and adopts them if they are good and not the same.
async fn read_again(daemon: &Daemon) {
    let sources = daemon.sources.clone();
    let read = tokio::task::spawn_blocking(move || policies::read(&sources)).await;
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "reading the policies failed");
            return;
        }
    };
    match read {
        Ok(new) => adopt(daemon, new).await,
        Err(error) => refuse(daemon, &error).await,
    }
}

async fn adopt(daemon: &Daemon, mut new: Policies) {
    daemon.troubles.end(None, "policies");
    let old = daemon.policies();
    let changes = policies::changed(&old, &new);
    if changes.is_empty() {
        return;
    }
    if (&old.settings.listen, &old.settings.state_dir, &old.settings.tls)
        != (&new.settings.listen, &new.settings.state_dir, &new.settings.tls)
    {
        tracing::warn!("listen, tls and state_dir stay as they are until the daemon is started again");
        new.settings.listen = old.settings.listen;
        new.settings.state_dir.clone_from(&old.settings.state_dir);
        new.settings.tls.clone_from(&old.settings.tls);
    }
    for change in &changes {
        let digest = change.after.as_deref().map_or("gone", |digest| digest.get(..12).unwrap_or(digest));
        tracing::info!(file = %change.path.display(), digest, "policy changed");
    }
    let names: Vec<String> = changes.iter().map(|change| change.path.display().to_string()).collect();
    daemon.policies.send_replace(Arc::new(new));
    say(daemon, &names.join(", "), true, Some("adopted".to_owned())).await;
}

async fn refuse(daemon: &Daemon, error: &Error) {
    let (file, problems) = match error {
        Error::Unusable { file, problems } => (file.display().to_string(), problems.clone()),
        other => (String::new(), vec![with_causes(other)]),
    };
    let text = format!("a change of the policies is refused, the old ones count: {}", problems.join("; "));
    let is_known = daemon.troubles.all().iter().any(|known| known.of == "policies" && known.text == text);
    daemon.troubles.begin(Trouble {
        tenant: None,
        of: "policies".to_owned(),
        since: daemon.now(),
        text: text.clone(),
        next: Some("correct the file; lifeboat config check and lifeboat schedule check say what is wrong".to_owned()),
    });
    if !is_known {
        tracing::error!(file, "{text}");
        say(daemon, &file, false, Some(text)).await;
    }
}

async fn say(daemon: &Daemon, target: &str, allowed: bool, detail: Option<String>) {
    let activity = ActivityView {
        at: daemon.now(),
        tenant: None,
        who: "daemon".to_owned(),
        act: "policies".to_owned(),
        target: Some(target.to_owned()),
        allowed,
        detail,
    };
    if let Err(error) = daemon.state.activity(&activity).await {
        tracing::warn!(error = %with_causes(&error), "the change of policies could not be noted");
    }
}
