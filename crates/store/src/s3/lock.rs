//! Object Lock: what a version's lock is, making it longer, legal holds.
//!
//! **Reading back.** HEAD carries a version's lock, but says nothing to a credential without `s3:GetObjectRetention`
//! (or, for holds, `s3:GetObjectLegalHold`): there, silence means nothing. A lock that HEAD shows is believed; where it
//! shows none the question is put outright, which a server answers with "none" or with a refusal. A version's lock
//! therefore costs one request as a rule; that holds can be read at all is found out once.
//!
//! **Extending** is one request without any bypass, so no server shortens or weakens by it. A refusal mostly means
//! that the lock is longer or firmer already: then it is read, and is enough, or the request is repeated with the
//! longer of both ends and the firmer of both modes. Ceph 18 does not turn governance into compliance, not even with a
//! later end: that stays an error.
//!
//! **Deleting** a locked version is refused with the same words as a missing right; the lock is read to tell.

use std::sync::atomic::Ordering;

use aws_sdk_s3::{
    error::ProvideErrorMetadata as _,
    operation::head_object::HeadObjectOutput,
    primitives::DateTime,
    types::{
        ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
    },
};
use jiff::Timestamp;
use lifeboat_model::retention::LockMode;

use super::{Bucket, download::timestamp};
use crate::{Error, Key, LockState, Result, Retention, VersionId};

const READ: &str = "reading the lock";
const EXTEND: &str = "extending the lock";
const HOLD: &str = "setting the legal hold";

/// What servers answer about a version without a lock, in a bucket that has locks.
const NO_LOCK: [&str; 2] = ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"];

/// The words of a retention in a put.
pub(super) fn mode(retention: Option<Retention>) -> Option<ObjectLockMode> {
    Some(match retention?.mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    })
}

/// The end of a retention in a request: whole seconds, rounded up, so that what is read back is never shorter.
pub(super) fn until(retention: Option<Retention>) -> Option<DateTime> {
    let until = retention?.until;
    let part = i64::from(until.subsec_nanosecond() > 0);
    Some(DateTime::from_secs(until.as_second().saturating_add(part)))
}

fn retention(mode: Option<&str>, until: Option<&DateTime>) -> Option<Retention> {
    let mode = match mode? {
        "GOVERNANCE" => LockMode::Governance,
        "COMPLIANCE" => LockMode::Compliance,
        _ => return None,
    };
    Some(Retention { mode, until: timestamp(Some(until?)) })
}

impl Bucket {
    pub(super) fn demand_locks(&self, key: &Key) -> Result<()> {
        if self.locks {
            return Ok(());
        }
        Err(Error::NoLocks { key: key.to_string(), store: self.describe() })
    }

    pub(super) async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        if !self.locks {
            return Ok(LockState::default());
        }
        let head = self.look(key, version).await?;
        // Without a version the newest is meant; another could become the newest between the requests.
        let seen = head.version_id.clone().map(VersionId);
        let version = version.cloned().or(seen);
        let mode = head.object_lock_mode().map(ObjectLockMode::as_str);
        let retention = match retention(mode, head.object_lock_retain_until_date()) {
            Some(retention) => Some(retention),
            None => self.ask_retention(key, version.as_ref()).await?,
        };
        Ok(LockState { retention, legal_hold: self.legal_hold(key, version.as_ref(), &head).await? })
    }

    async fn legal_hold(&self, key: &Key, version: Option<&VersionId>, head: &HeadObjectOutput) -> Result<bool> {
        let stated = head.object_lock_legal_hold_status();
        match stated {
            Some(status) => Ok(*status == ObjectLockLegalHoldStatus::On),
            None if self.reads_holds.load(Ordering::Relaxed) => Ok(false),
            None => self.ask_legal_hold(key, version).await,
        }
    }

    async fn ask_retention(&self, key: &Key, version: Option<&VersionId>) -> Result<Option<Retention>> {
        let request = || async {
            let ask = self.client.get_object_retention().bucket(&self.name).key(self.path(key));
            match ask.set_version_id(version.map(|version| version.0.clone())).send().await {
                Ok(answer) => Ok(answer.retention.and_then(|found| {
                    let mode = found.mode.as_ref().map(ObjectLockRetentionMode::as_str);
                    retention(mode, found.retain_until_date.as_ref())
                })),
                Err(error) if error.code().is_some_and(|code| NO_LOCK.contains(&code)) => Ok(None),
                Err(error) => Err(self.failure(READ, key.as_str(), error)),
            }
        };
        self.policy().run(|| self.attempt(READ, key.as_str(), 0, request())).await
    }

    async fn ask_legal_hold(&self, key: &Key, version: Option<&VersionId>) -> Result<bool> {
        let request = || async {
            let ask = self.client.get_object_legal_hold().bucket(&self.name).key(self.path(key));
            match ask.set_version_id(version.map(|version| version.0.clone())).send().await {
                Ok(answer) => {
                    let status = answer.legal_hold.and_then(|hold| hold.status);
                    Ok(status == Some(ObjectLockLegalHoldStatus::On))
                }
                Err(error) if error.code().is_some_and(|code| NO_LOCK.contains(&code)) => Ok(false),
                Err(error) => Err(self.failure(READ, key.as_str(), error)),
            }
        };
        let held = self.policy().run(|| self.attempt(READ, key.as_str(), 0, request())).await?;
        self.reads_holds.store(true, Ordering::Relaxed);
        Ok(held)
    }

    pub(super) async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, wanted: Retention) -> Result<()> {
        self.demand_locks(key)?;
        let error = match self.send_retention(key, version, wanted, false).await {
            Err(error @ (Error::Denied { .. } | Error::Other { .. })) => error,
            done => return done,
        };
        let Ok(LockState { retention: Some(there), .. }) = self.lock_state(key, version).await else {
            return Err(error);
        };
        let joined = there.join(wanted);
        if joined == there {
            Ok(())
        } else if joined == wanted {
            Err(error)
        } else {
            self.send_retention(key, version, joined, false).await
        }
    }

    /// Sends a retention as it is: without a bypass, the server refuses what shortens or weakens.
    pub(super) async fn send_retention(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        wanted: Retention,
        bypass: bool,
    ) -> Result<()> {
        let request = || async {
            let mode = match wanted.mode {
                LockMode::Governance => ObjectLockRetentionMode::Governance,
                LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            };
            let lock = ObjectLockRetention::builder().mode(mode).set_retain_until_date(until(Some(wanted))).build();
            let put = self.client.put_object_retention().bucket(&self.name).key(self.path(key)).retention(lock);
            let put = put.set_bypass_governance_retention(bypass.then_some(true));
            let answer = put.set_version_id(version.map(|version| version.0.clone())).send().await;
            answer.map(drop).map_err(|e| self.failure(EXTEND, key.as_str(), e))
        };
        self.policy().run(|| self.attempt(EXTEND, key.as_str(), 0, request())).await
    }

    pub(super) async fn set_legal_hold(&self, key: &Key, version: Option<&VersionId>, held: bool) -> Result<()> {
        self.demand_locks(key)?;
        let status = if held { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let request = || async {
            let hold = ObjectLockLegalHold::builder().status(status.clone()).build();
            let put = self.client.put_object_legal_hold().bucket(&self.name).key(self.path(key)).legal_hold(hold);
            let answer = put.set_version_id(version.map(|version| version.0.clone())).send().await;
            answer.map(drop).map_err(|e| self.failure(HOLD, key.as_str(), e))
        };
        self.policy().run(|| self.attempt(HOLD, key.as_str(), 0, request())).await
    }

    /// A refused delete in the light of the version's lock.
    pub(super) async fn explain_delete(&self, key: &Key, version: Option<&VersionId>, refusal: Error) -> Error {
        if !self.locks {
            return refusal;
        }
        let Ok(state) = self.lock_state(key, version).await else { return refusal };
        let now = self.clock().await.unwrap_or_else(|_| Timestamp::now());
        let until = state.retention.map(|retention| retention.until).filter(|until| *until > now);
        if until.is_some() || state.legal_hold {
            return Error::Locked { key: key.to_string(), until };
        }
        refusal
    }
}
