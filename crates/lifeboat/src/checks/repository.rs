//! The repository: can this host write, read and list there, does it hold what was written, do the clocks agree.
//!
//! The probe is a small object under `<tenant>/probes/`, at most one an hour, and it stays: nothing above the repository
//! crate deletes, and under retention it could not.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use lifeboat_engine::context::open_store;
use lifeboat_model::config::{Config, RepositoryConfig};
use lifeboat_repo::repository::Repository;
use lifeboat_store::{Error, Key, SharedStore};

use super::{Finding, Grade};
use crate::wire::environment;

/// S3 refuses signatures that are 15 minutes off; long before that, times in evidence mislead.
const SKEW_REFUSED: f64 = 600.0;
const SKEW_DOUBTFUL: f64 = 30.0;
/// A repository that does not answer within this is not usable.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at it, one step after the other; what a failed step makes meaningless is not tried.
pub async fn look(config: &Config, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    match tokio::time::timeout(LIMIT, steps(config, now, &mut findings)).await {
        Ok(()) => findings,
        Err(_) => {
            let observed = format!("no answer within {} s", LIMIT.as_secs());
            findings.push(Finding::failed("repository.answers", observed, "check endpoint, network and credentials"));
            findings
        }
    }
}

async fn steps(config: &Config, now: Timestamp, findings: &mut Vec<Finding>) {
    if let RepositoryConfig::Local { path } = &config.repository
        && !path.exists()
    {
        let observed = format!("{} does not exist yet", path.display());
        let mend =
            "nothing, if it is to be made by the first backup; otherwise mount the disk or correct repository.path";
        return findings.push(Finding::wrong(Grade::Warning, "repository.reach", observed, mend));
    }
    let store = match open_store(&config.repository, &environment, false).await {
        Ok(store) => store,
        Err(error) => {
            let mend = "check the address, the credentials' files and the network";
            return findings.push(Finding::failed("repository.reach", error.to_string(), mend));
        }
    };
    findings.push(Finding::ok("repository.reach", store.describe()));
    if let Some(problem) = format(&store).await {
        findings.push(problem);
    }
    findings.extend(write_and_read(&store, config, now).await);
    findings.push(immutability(&store));
}

/// Whether there is a repository in the store, and whether this release reads it.
async fn format(store: &SharedStore) -> Option<Finding> {
    const CHECK: &str = "repository.format";
    Some(match Repository::open(store.clone()).await {
        Ok(repository) => Finding::ok(CHECK, format!("repository {}, made {}", repository.id(), repository.created())),
        Err(lifeboat_repo::Error::NotARepository { .. }) => Finding::ok(CHECK, "none yet; the first backup makes it"),
        Err(error) => {
            Finding::failed(CHECK, error.to_string(), "name another repository, or use the release that wrote this one")
        }
    })
}

async fn write_and_read(store: &SharedStore, config: &Config, now: Timestamp) -> Vec<Finding> {
    let name = format!("{}/probes/{}", config.tenant, now.strftime("%Y%m%dT%H"));
    let key = Key::new(name).expect("a tenant and digits make a valid key");
    let content = Bytes::from(format!("lifeboat probe {}\n", config.tenant));
    let mut findings = Vec::new();
    let fresh = match store.put(&key, content.clone()).await {
        Ok(_) => true,
        Err(Error::AlreadyExists { .. }) => false, // written earlier in this hour
        Err(error) => {
            let mend = "give these credentials the right to write below the prefix, or make room";
            findings.push(Finding::failed("repository.write", error.to_string(), mend));
            return findings;
        }
    };
    findings.push(Finding::ok(
        "repository.write",
        if fresh { "an object was written" } else { "written within this hour" },
    ));
    findings.push(match store.get(&key, None, None).await {
        Ok(read) if read == content => Finding::ok("repository.read", "it came back as written"),
        Ok(_) => Finding::failed("repository.read", "other bytes came back than were written", "do not use this store"),
        Err(error) => Finding::failed("repository.read", error.to_string(), "give these credentials the right to read"),
    });
    findings.push(list(store, config, &key).await);
    if fresh {
        findings.push(clock(store, &key, now).await);
    }
    findings
}

async fn list(store: &SharedStore, config: &Config, key: &Key) -> Finding {
    const CHECK: &str = "repository.list";
    let mut listing = store.list(&format!("{}/probes/", config.tenant));
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) if object.key == *key => return Finding::ok(CHECK, "the object is listed"),
            Ok(_) => {}
            Err(error) => return Finding::failed(CHECK, error.to_string(), "give these credentials the right to list"),
        }
    }
    Finding::failed(
        CHECK,
        "an object that was written is not listed",
        "backups would not be found: do not use this store",
    )
}

async fn clock(store: &SharedStore, key: &Key, now: Timestamp) -> Finding {
    const CHECK: &str = "repository.clock";
    match store.head(key, None).await {
        Ok(info) => skew(CHECK, now.duration_since(info.modified).as_secs_f64()),
        Err(error) => Finding::wrong(Grade::NotChecked, CHECK, error.to_string(), "run it again"),
    }
}

fn skew(check: &str, seconds: f64) -> Finding {
    let observed = format!(
        "this host's clock is {:.0} s {} the store's",
        seconds.abs(),
        if seconds < 0.0 { "behind" } else { "ahead of" }
    );
    let mend = "keep both clocks with NTP (chrony, systemd-timesyncd)";
    match seconds.abs() {
        off if off > SKEW_REFUSED => Finding::failed(check, observed, mend),
        off if off > SKEW_DOUBTFUL => Finding::wrong(Grade::Warning, check, observed, mend),
        off => Finding::ok(check, format!("agrees with the store's within {:.0} s", off.ceil())),
    }
}

fn immutability(store: &SharedStore) -> Finding {
    const CHECK: &str = "repository.immutable";
    if store.is_immutable() {
        return Finding::ok(CHECK, "the store refuses early deletion");
    }
    let mend = "keep a second copy where this host cannot delete";
    Finding::wrong(Grade::Warning, CHECK, "not immutable: whoever takes this host can delete its backups", mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_graded() {
        assert_eq!(skew("x", 2.0).grade, Grade::Ok);
        assert_eq!(skew("x", -31.0).grade, Grade::Warning);
        assert_eq!(skew("x", 601.0).grade, Grade::Failed);
        assert!(skew("x", -601.0).observed.contains("behind"));
    }
}
