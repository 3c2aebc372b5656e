//! Attacks on the real thing: somebody who holds all that the backup host holds, and somebody who owns the bucket, try to
//! destroy recovery points on Ceph under Object Lock. After each attack everything restores, and `verify` names what was
//! tried. Needs the testbed (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../support/mod.rs"]
mod support;
mod vault;

use jiff::{Timestamp, ToSpan as _};
use lifeboat_model::retention::LockMode::{self, Compliance, Governance};
use lifeboat_testkit::{
    account::{Account, RawVersion, Who},
    testbed,
};
use vault::Vault;

/// What is done to every object in turn.
#[derive(Debug, Clone)]
enum Attack {
    /// Delete the version; with the wish to pass over a lock, or without.
    Delete { bypass: bool },
    /// Ask for another end or mode of its lock.
    Relock(LockMode, Timestamp),
    /// Lay a delete marker over it.
    Hide,
    /// Put another version over it.
    Overwrite,
}

impl Attack {
    /// The keys on which it got through.
    async fn on(&self, objects: &[RawVersion], by: &Account) -> Vec<String> {
        let mut let_through = Vec::new();
        for RawVersion { key, version, .. } in objects {
            let said = match self {
                Attack::Delete { bypass } => by.delete_version(key, version, *bypass).await,
                Attack::Relock(mode, until) => by.set_retention(key, version, *mode, *until, true).await,
                Attack::Hide => by.hide(key).await,
                Attack::Overwrite => by.put(key, b"give us money".to_vec()).await,
            };
            if said.is_ok() {
                let_through.push(key.clone());
            }
        }
        let_through
    }
}

/// Leases come and go; who destroys one has gained nothing.
async fn objects(account: &Account) -> Vec<RawVersion> {
    let mut versions = account.versions("").await;
    versions.retain(|version| !version.key.contains("/lease/"));
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_writers_credential_or_owns_the_bucket_destroys_nothing() {
    if !testbed::enabled() {
        return;
    }
    let vault = Vault::prepare().await;
    let (thief, owner) = (Account::new(Who::Role("writer"), &vault.bucket), &vault.owner);
    let before = objects(owner).await;
    assert!(before.len() > 10 && before.iter().all(|version| !version.marker && version.latest), "{before:#?}");
    vault.assert_sound("before any attack");
    assert_eq!(vault.signs(), (0, 0), "nobody has done anything yet");

    let soon = Timestamp::now() + 2.seconds();
    let later = Timestamp::now() + 8760.hours();
    let refused = [
        Attack::Delete { bypass: false },
        Attack::Delete { bypass: true },
        Attack::Relock(Compliance, soon),
        Attack::Relock(Governance, soon),
        Attack::Relock(Governance, later),
    ];
    for attack in &refused {
        for (who, account) in [("the writer", &thief), ("the owner", owner)] {
            assert_eq!(attack.on(&before, account).await, [""; 0], "{who}: {attack:?}");
        }
    }
    assert_eq!(Attack::Hide.on(&before, &thief).await, [""; 0], "the writer laid delete markers");
    for (who, account) in [("the writer", &thief), ("the owner", owner)] {
        assert!(account.suspend_versioning().await.is_err(), "{who} suspended versioning");
    }
    assert!(thief.remove_policy().await.is_err() && thief.set_policy("{}").await.is_err(), "the writer set the policy");
    let now = objects(owner).await;
    assert!(before.iter().all(|version| now.contains(version)), "something is gone");
    let more: Vec<_> = now.iter().filter(|version| !before.contains(version)).collect();
    assert!(more.iter().all(|version| version.key.contains("/evidence/")), "more than verify's evidence: {more:?}");
    vault.assert_sound("after all that was refused");

    // From here on the server lets things happen: versions can always be added.
    assert_eq!(Attack::Overwrite.on(&before, &thief).await.len(), before.len(), "a writer can add versions");
    vault.assert_sound("after every key was overwritten");
    assert!(vault.signs().0 >= before.len() as u64, "{:?} of {}", vault.signs(), before.len());

    let known: Vec<String> = objects(owner).await.into_iter().map(|version| version.key).collect();
    vault.forge_point_and_index().await;
    vault.replay_old_point(&thief).await;
    vault.assert_sound("after points were forged and replayed");
    let forged = |folder: &str, now: &[RawVersion]| -> Vec<String> {
        let new = now.iter().map(|version| version.key.clone());
        new.filter(|key| key.contains(folder) && !known.contains(key)).collect()
    };
    let now = objects(owner).await;
    let (indexes, points) = (forged("/index/", &now), forged("/points/", &now));
    assert!(indexes.len() == 1 && points.len() == 2, "one forged, one replayed: {indexes:?} {points:?}");
    assert_eq!(vault.signs_of("strange-index"), indexes);
    let named = vault.signs_of("strange-point");
    assert!(points.iter().all(|key| named.contains(key)) && named.len() == 2, "{named:?}");

    // An administrator in a bad hour: every plain listing is empty now, and every plain GET finds nothing.
    assert_eq!(Attack::Hide.on(&before, owner).await.len(), before.len());
    vault.assert_sound("after delete markers were laid over everything");
    assert!(vault.signs().1 >= before.len() as u64, "{:?} of {}", vault.signs(), before.len());

    vault.backup_goes_on();
    vault.drill_passes_and_tells();
}
