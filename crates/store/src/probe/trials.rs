//! The trials, in the order that each needs what came before it.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;

use super::{Outcome, ProbeOptions, key};
use crate::{Error, Key, Raw, Result, Retention, SharedStore, VersionId, VersionInfo};

/// How long the objects of a probe are locked; a trial extends and tries to shorten it.
const LOCK: SignedDuration = SignedDuration::from_secs(60);
const LONGER: SignedDuration = SignedDuration::from_secs(75);
const SHORTER: SignedDuration = SignedDuration::from_secs(20);
/// A lock short enough to wait for, as a lease's where the bucket locks by itself.
const BRIEF: SignedDuration = SignedDuration::from_secs(5);
/// How long to wait for the end of such a lock.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);
/// Clocks further apart than this cannot promise when a lock ends.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(15);

const FIRST: Bytes = Bytes::from_static(b"the first version of a probe");
const SECOND: Bytes = Bytes::from_static(b"somebody else's version of a probe");

pub(super) struct Trials<'a> {
    store: &'a SharedStore,
    folder: String,
    options: ProbeOptions,
    skew: Option<SignedDuration>,
    /// The first version of a key that was put to twice.
    first: Option<VersionId>,
    /// What the second put came to.
    second: Option<Second>,
    /// The version under lock, and its lock.
    locked: Option<(VersionId, Retention)>,
    extended: bool,
    /// Why this credential cannot delete even what is free.
    no_deletes: Option<String>,
    held: Option<VersionId>,
}

#[derive(Clone, Copy, PartialEq)]
enum Second {
    Refused,
    Version,
}

impl<'a> Trials<'a> {
    pub fn new(store: &'a SharedStore, folder: String, options: ProbeOptions) -> Self {
        Self {
            store,
            folder,
            options,
            skew: None,
            first: None,
            second: None,
            locked: None,
            extended: false,
            no_deletes: None,
            held: None,
        }
    }

    pub fn folder(&self) -> &str {
        &self.folder
    }

    pub fn measured_skew(&self) -> Option<SignedDuration> {
        self.skew
    }

    fn key(&self, name: &str) -> Key {
        key(&self.folder, name)
    }

    fn raw(&self) -> Result<&'a dyn Raw> {
        self.store
            .raw()
            .ok_or_else(|| Error::Unusable { store: self.store.describe(), reason: "it has no such requests".into() })
    }

    /// Demands locks, and versions, without which there are none.
    fn demand_locks(&self, name: &str) -> Result<Key> {
        let key = self.key(name);
        if self.store.capabilities().locks {
            return Ok(key);
        }
        Err(Error::NoLocks { key: key.to_string(), store: self.store.describe() })
    }

    /// The version under lock, or why there is none.
    fn locked(&self) -> std::result::Result<(Key, VersionId, Retention), Outcome> {
        let none = || Outcome::NotExecuted("there is no object under lock to try it on".into());
        let (version, lock) = self.locked.clone().ok_or_else(none)?;
        Ok((self.key("locked"), version, lock))
    }

    async fn until(&self, length: SignedDuration) -> Result<Retention> {
        let end = self.store.clock().await? + length;
        let until = Timestamp::from_second(end.as_second()).unwrap_or(end);
        Ok(Retention { mode: self.options.mode, until })
    }

    async fn versions(&self, key: &Key) -> Result<Vec<VersionInfo>> {
        let found = self.store.list_versions(key.as_str(), "");
        found.try_filter(|found| std::future::ready(found.info.key == *key)).try_collect().await
    }

    async fn retention(&self, key: &Key, version: &VersionId) -> Result<Option<Retention>> {
        Ok(self.store.lock_state(key, Some(version)).await?.retention)
    }

    pub async fn skew(&mut self) -> Result<Outcome> {
        let skew = self.store.clock().await?.duration_since(Timestamp::now());
        self.skew = Some(skew);
        let seconds = skew.as_secs_f64();
        let words = if seconds < 0.0 { "behind" } else { "ahead" };
        Ok(Outcome::of(skew.abs() <= MOST_SKEW, format!("{:.1} s {words}", seconds.abs())))
    }

    pub async fn overwrite(&mut self) -> Result<Outcome> {
        let key = self.key("twice");
        self.first = self.store.put(&key, FIRST).await?.version;
        let words = match self.store.put(&key, SECOND).await {
            Err(Error::AlreadyExists { .. }) => {
                self.second = Some(Second::Refused);
                "the second put was refused"
            }
            Err(error) => return Err(error),
            Ok(stored) if stored.version.is_some() && stored.version != self.first => {
                self.second = Some(Second::Version);
                "the second put made a newer version"
            }
            Ok(_) => {
                return Ok(Outcome::Failed("the second put replaced the first; the bucket keeps no versions".into()));
            }
        };
        let there = match self.store.get(&key, self.first.as_ref(), None).await {
            Ok(back) => back == FIRST,
            Err(Error::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Outcome::of(there, format!("{words}; the first {}", if there { "is there" } else { "is not" })))
    }

    pub async fn conditional(&self) -> Result<Outcome> {
        Ok(match self.second {
            Some(Second::Refused) => Outcome::Passed("honoured: a put on a taken key is refused".into()),
            Some(Second::Version) => Outcome::Passed("ignored: a put on a taken key makes a newer version".into()),
            None => Outcome::NotExecuted("no second put was made".into()),
        })
    }

    pub async fn listing(&self) -> Result<Outcome> {
        let Some(first) = self.first.as_ref() else {
            return Ok(Outcome::NotExecuted("it keeps no versions".into()));
        };
        let key = self.key("twice");
        let seen: Vec<VersionInfo> = self.versions(&key).await?;
        let expected = if self.second == Some(Second::Version) { 2 } else { 1 };
        let oldest = seen.last().and_then(|found| found.info.version.as_ref());
        let complete = seen.len() == expected && oldest == Some(first) && seen[0].latest;
        let listed: Vec<_> = self.store.list(key.as_str()).try_collect().await?;
        let stands = listed.len() == 1 && listed[0].version.as_ref() == Some(first);
        let words = if stands { "the first stands" } else { "the first does not stand for the key" };
        Ok(Outcome::of(complete && stands, format!("{} of {expected} versions listed; {words}", seen.len())))
    }

    pub async fn marker(&self) -> Result<Outcome> {
        let key = self.key("marked");
        let Some(version) = self.store.put(&key, FIRST).await?.version else {
            return Ok(Outcome::NotExecuted("it keeps no versions".into()));
        };
        self.raw()?.lay_marker(&key).await?;
        let seen = self.versions(&key).await?;
        let marked = seen.iter().any(|found| found.delete_marker);
        let kept = seen.iter().any(|found| found.info.version.as_ref() == Some(&version));
        let readable = self.store.get(&key, Some(&version), None).await.is_ok_and(|bytes| bytes == FIRST);
        let listed: Vec<_> = self.store.list(key.as_str()).try_collect().await?;
        let stands = listed.first().is_some_and(|found| found.version.as_ref() == Some(&version));
        let words = [("marker listed", marked), ("object listed", kept && stands), ("object readable", readable)];
        let words = words.map(|(what, true_)| format!("{what}: {}", if true_ { "yes" } else { "no" }));
        Ok(Outcome::of(marked && kept && readable && stands, words.join(", ")))
    }

    pub async fn checksum(&self) -> Result<Outcome> {
        let key = self.key("checksum");
        let Some(raw) = self.store.raw() else {
            return Ok(Outcome::NotExecuted("this kind of store takes no checksums".into()));
        };
        Ok(match raw.refuses_a_wrong_checksum(&key).await? {
            Some(true) => Outcome::of(self.versions(&key).await?.is_empty(), "refused"),
            Some(false) => Outcome::Failed("stored all the same".into()),
            None => Outcome::NotExecuted("nothing is checked on the way to it".into()),
        })
    }

    pub async fn put_under_lock(&mut self) -> Result<Outcome> {
        let key = self.demand_locks("locked")?;
        let wanted = self.until(LOCK).await?;
        let Some(version) = self.store.put_locked(&key, FIRST, Some(wanted)).await?.version else {
            return Ok(Outcome::Failed("the put made no version".into()));
        };
        let there = self.retention(&key, &version).await?;
        if there.is_some() {
            self.locked = Some((version, wanted));
        }
        Ok(Outcome::of(there == Some(wanted), words(there)))
    }

    pub async fn parts_under_lock(&self) -> Result<Outcome> {
        let key = self.demand_locks("parts")?;
        let wanted = self.until(LOCK).await?;
        let Some(version) = self.raw()?.put_in_parts(&key, FIRST, Some(wanted)).await?.version else {
            return Ok(Outcome::Failed("the upload made no version".into()));
        };
        let there = self.retention(&key, &version).await?;
        Ok(Outcome::of(there == Some(wanted), words(there)))
    }

    /// Whether this credential can delete at all: else a refusal says nothing of locks.
    async fn try_deleting(&mut self) -> Result<()> {
        let key = self.key("free");
        // Where the bucket locks by itself, nothing is free before a lock of its own has ended.
        let brief = if self.store.capabilities().default_retention { Some(self.until(BRIEF).await?) } else { None };
        let version = self.store.put_locked(&key, FIRST, brief).await?.version;
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.store.delete(&key, version.as_ref()).await {
                Err(Error::Locked { until: Some(_), .. })
                    if brief.is_some() && tokio::time::Instant::now() < patience =>
                {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => {
                    self.no_deletes = Some(format!("this credential may delete nothing: {error}"));
                    return Ok(());
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Whether a version that should be there is, and with what lock.
    async fn survives(&self, key: &Key, version: &VersionId, lock: Option<Retention>) -> Result<bool> {
        match self.store.get(key, Some(version), None).await {
            Ok(bytes) => Ok(bytes == FIRST && (lock.is_none() || self.retention(key, version).await? == lock)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub async fn delete_locked(&mut self) -> Result<Outcome> {
        let (key, version, lock) = match self.locked() {
            Ok(locked) => locked,
            Err(none) => return Ok(none),
        };
        self.try_deleting().await?;
        let answer = self.store.delete(&key, Some(&version)).await;
        if !self.survives(&key, &version, Some(lock)).await? {
            return Ok(Outcome::Failed("the locked version is gone".into()));
        }
        Ok(match (answer, &self.no_deletes) {
            (Err(Error::Locked { .. } | Error::Denied { .. }), Some(why)) => Outcome::NotExecuted(why.clone()),
            (Err(Error::Locked { .. }), None) => Outcome::Passed("refused; an object without lock was deleted".into()),
            (Err(error), _) => Outcome::NotExecuted(error.to_string()),
            (Ok(()), _) => Outcome::Passed("accepted without effect: the version is there".into()),
        })
    }

    pub async fn extend(&mut self) -> Result<Outcome> {
        let (key, version, lock) = match self.locked() {
            Ok(locked) => locked,
            Err(none) => return Ok(none),
        };
        let wanted =
            Retention { until: self.until(LONGER).await?.until.max(lock.until + SignedDuration::from_secs(1)), ..lock };
        self.store.extend_lock(&key, Some(&version), wanted).await?;
        let there = self.retention(&key, &version).await?;
        self.extended = there == Some(wanted);
        if let Some(there) = there {
            self.locked = Some((version, there));
        }
        Ok(Outcome::of(self.extended, words(there)))
    }

    pub async fn shorten(&self) -> Result<Outcome> {
        let lock = match self.locked() {
            Ok((_, _, lock)) => lock,
            Err(none) => return Ok(none),
        };
        self.worsen(Retention { until: self.until(SHORTER).await?.until, ..lock }, false).await
    }

    pub async fn weaken(&self) -> Result<Outcome> {
        let lock = match self.locked() {
            Ok((_, _, lock)) => lock,
            Err(none) => return Ok(none),
        };
        if lock.mode == LockMode::Governance {
            return Ok(Outcome::NotExecuted("there is no mode weaker than governance".into()));
        }
        self.worsen(Retention { mode: LockMode::Governance, ..lock }, false).await
    }

    /// Asks for a lesser lock, and sees whether it stands as before.
    async fn worsen(&self, lesser: Retention, bypass: bool) -> Result<Outcome> {
        let (key, version, lock) = match self.locked() {
            Ok(locked) => locked,
            Err(none) => return Ok(none),
        };
        if !self.extended {
            return Ok(Outcome::NotExecuted("no lock was changed at all, so a refusal would say nothing".into()));
        }
        let answer = self.raw()?.set_retention(&key, &version, lesser, bypass).await;
        let there = self.retention(&key, &version).await?;
        if there != Some(lock) {
            return Ok(Outcome::Failed(format!("now {}", words(there))));
        }
        Ok(match answer {
            Ok(()) => Outcome::Passed("accepted without effect: the lock stands".into()),
            Err(Error::Unavailable { reason, .. }) => Outcome::NotExecuted(reason),
            Err(_) => Outcome::Passed("refused".into()),
        })
    }

    pub async fn bypass(&self) -> Result<Outcome> {
        let (key, version, lock) = match self.locked() {
            Ok(locked) => locked,
            Err(none) => return Ok(none),
        };
        let shorter = Retention { until: self.until(SHORTER).await?.until, ..lock };
        let shortened = match self.worsen(shorter, true).await? {
            Outcome::Failed(words) => return Ok(Outcome::Failed(format!("the lock was shortened: {words}"))),
            Outcome::Passed(words) => words,
            Outcome::NotExecuted(why) => return Ok(Outcome::NotExecuted(why)),
        };
        let answer = self.raw()?.delete_with_bypass(&key, &version).await;
        if !self.survives(&key, &version, Some(lock)).await? {
            return Ok(Outcome::Failed("the locked version was deleted".into()));
        }
        Ok(match answer {
            Err(Error::Unavailable { reason, .. }) => Outcome::NotExecuted(reason),
            _ => Outcome::Passed(format!("{shortened}; the delete too")),
        })
    }

    pub async fn hold(&mut self) -> Result<Outcome> {
        let key = self.demand_locks("held")?;
        let Some(version) = self.store.put(&key, FIRST).await?.version else {
            return Ok(Outcome::Failed("the put made no version".into()));
        };
        self.store.set_legal_hold(&key, Some(&version), true).await?;
        self.held = Some(version.clone());
        let stands = self.store.lock_state(&key, Some(&version)).await?.legal_hold;
        let answer = self.store.delete(&key, Some(&version)).await;
        if !self.survives(&key, &version, None).await? {
            return Ok(Outcome::Failed("the version under hold is gone".into()));
        }
        if let (Err(_), Some(why)) = (answer, &self.no_deletes) {
            return Ok(Outcome::NotExecuted(why.clone()));
        }
        Ok(Outcome::of(stands, if stands { "read back, and the delete refused" } else { "not read back" }))
    }

    pub async fn release(&self) -> Result<Outcome> {
        let (Some(version), key) = (&self.held, self.key("held")) else {
            return Ok(Outcome::NotExecuted("there is no object under hold to try it on".into()));
        };
        self.store.set_legal_hold(&key, Some(version), false).await?;
        if self.store.lock_state(&key, Some(version)).await?.legal_hold {
            return Ok(Outcome::Failed("the hold still stands".into()));
        }
        if self.no_deletes.is_some() || self.store.capabilities().default_retention {
            return Ok(Outcome::Passed("released, as read back".into()));
        }
        Ok(match self.store.delete(&key, Some(version)).await {
            Ok(()) => Outcome::Passed("released, and deleted".into()),
            Err(error) => Outcome::Failed(format!("released, but {error}")),
        })
    }

    pub async fn default_retention(&self) -> Result<Outcome> {
        let key = self.demand_locks("brief")?;
        if !self.store.capabilities().default_retention {
            return Ok(Outcome::Passed("none".into()));
        }
        let brief = self.until(BRIEF).await?;
        let Some(version) = self.store.put_locked(&key, FIRST, Some(brief)).await?.version else {
            return Ok(Outcome::Failed("the put made no version".into()));
        };
        let there = self.retention(&key, &version).await?;
        Ok(Outcome::of(there == Some(brief), format!("there is one; a put with its own: {}", words(there))))
    }

    pub async fn suspend(&self) -> Result<Outcome> {
        if !self.options.intrusive {
            return Ok(Outcome::NotExecuted("only tried with --intrusive".into()));
        }
        self.demand_locks("versioning")?;
        let raw = self.raw()?;
        match raw.set_versioning(false).await {
            Ok(()) => {
                raw.set_versioning(true).await?;
                Ok(Outcome::Failed("it was switched off, and on again".into()))
            }
            Err(Error::Unavailable { reason, .. }) => Ok(Outcome::NotExecuted(reason)),
            Err(_) => Ok(Outcome::Passed("refused".into())),
        }
    }
}

fn words(retention: Option<Retention>) -> String {
    retention.map_or_else(|| "no lock".to_owned(), |lock| format!("{} until {}", lock.mode, lock.until))
}
