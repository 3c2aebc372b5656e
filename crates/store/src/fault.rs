//! A store that fails on command, for tests of everything above.
//!
//! [`FaultStore`] wraps any store. [`Rule`]s say which call goes wrong and how; without rules it is the inner store,
//! and passes the same contract. Faults are those that real stores have: refused or lost requests, lost replies, a
//! half-written object, bytes that came back short or changed, a disk that is full, an answer that never comes.

use std::{
    future,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::{
    Capabilities, Error, Key, LockState, ObjectInfo, Raw, Result, Retention, SharedStore, Store, Stored, VersionId,
    VersionInfo,
};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::put`] and [`Store::put_locked`]
    Put,
    /// [`Store::get`]
    Get,
    /// [`Store::head`]
    Head,
    /// [`Store::list`] and [`Store::list_from`]
    List,
    /// [`Store::delete`]
    Delete,
    /// [`Store::list_versions`]
    ListVersions,
    /// [`Store::lock_state`]
    LockState,
    /// [`Store::extend_lock`]
    ExtendLock,
    /// [`Store::set_legal_hold`]
    LegalHold,
    /// [`Store::clock`]; its key is empty.
    Clock,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::ListVersions => "list versions",
            Operation::LockState => "read the lock",
            Operation::ExtendLock => "extend the lock",
            Operation::LegalHold => "set the legal hold",
            Operation::Clock => "read the clock",
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the call fails as if the store could not be reached (transient).
    FailBefore,
    /// It happens, and the call fails as if the reply was lost (transient).
    LoseReply,
    /// The call is refused for lack of rights (lasting).
    Refuse,
    /// The call fails because no room is left (lasting).
    Full,
    /// The object is not there. For listings: nothing is there.
    Missing,
    /// `put`: only so many bytes are stored, under the key itself, and the call fails.
    WriteOnly(usize),
    /// `get`: only so many bytes come back, without an error. Listings: only so many entries.
    Truncate(usize),
    /// `get`: the byte at this place of the answer has its lowest bit changed.
    FlipByte(usize),
    /// The call never ends; dropping it is all that helps.
    Hang,
    /// The call takes so much longer.
    Delay(Duration),
}

/// Which calls go wrong, and how.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<Operation>,
    key_contains: String,
    skip: u64,
    times: u64,
    fault: Fault,
}

impl Rule {
    /// The next call of this kind, whatever its key, once.
    pub fn on(operation: Operation, fault: Fault) -> Self {
        Self { operation: Some(operation), key_contains: String::new(), skip: 0, times: 1, fault }
    }

    /// The next call of any kind, once.
    pub fn on_any(fault: Fault) -> Self {
        Self { operation: None, key_contains: String::new(), skip: 0, times: 1, fault }
    }

    /// Only keys (for `list`: prefixes) that contain this text.
    pub fn key(self, contains: impl Into<String>) -> Self {
        Self { key_contains: contains.into(), ..self }
    }

    /// Not the first matching call but the `n`-th, counted from 1.
    pub fn nth(self, n: u64) -> Self {
        Self { skip: n.saturating_sub(1), ..self }
    }

    /// So many calls, from the first that goes wrong.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// That call and all later ones: what a process sees of a store that is gone, or a store of a process that is.
    pub fn and_ever_after(self) -> Self {
        self.times(u64::MAX)
    }

    fn matches(&self, operation: Operation, key: &str) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation) && key.contains(&self.key_contains)
    }

    /// Counts a matching call; whether it is one that goes wrong.
    fn strikes(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let strikes = self.times > 0;
        self.times = self.times.saturating_sub(u64::from(self.times != u64::MAX));
        strikes
    }
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<(Operation, String)>,
    struck: u64,
    room: Option<u64>,
}

/// A store with scripted faults. Clones share the script.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: SharedStore,
    state: Arc<Mutex<State>>,
}

impl FaultStore {
    /// Wraps a store; until a rule is added, nothing goes wrong.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Adds a rule. Of several that match a call, the first added strikes.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Forgets all rules and the limit of room.
    pub fn heal(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.room = None;
    }

    /// From now on, only so many bytes more can be put before the store is full.
    pub fn limit_room(&self, bytes: u64) {
        self.state().room = Some(bytes);
    }

    /// How many calls went wrong.
    pub fn struck(&self) -> u64 {
        self.state().struck
    }

    /// How many calls of any kind were made so far. A crash at each step of some work: count the calls of a run that
    /// succeeds, then for each `n` of them run it again over
    /// `Rule::on_any(Fault::FailBefore).nth(n).and_ever_after()`, and with [`Fault::LoseReply`] at the `n`-th call and
    /// [`Fault::FailBefore`] ever after.
    pub fn made(&self) -> u64 {
        self.state().calls.len() as u64
    }

    /// Adds the rules of a crash at the `n`-th call from now, counted from 1: with `effect`, that call is still carried
    /// out, and its caller does not live to see the answer. No later call gets through.
    pub fn crash_at(&self, n: u64, effect: bool) {
        if effect {
            self.add(Rule::on_any(Fault::LoseReply).nth(n));
            self.add(Rule::on_any(Fault::FailBefore).nth(n).and_ever_after());
        } else {
            self.add(Rule::on_any(Fault::FailBefore).nth(n).and_ever_after());
        }
    }

    /// All calls so far, in order: what was called, with which key or prefix.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.state().calls.clone()
    }

    /// How many calls of one kind were made with keys that contain this text.
    pub fn count(&self, operation: Operation, key_contains: &str) -> usize {
        self.state().calls.iter().filter(|(made, key)| *made == operation && key.contains(key_contains)).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push((operation, key.to_owned()));
        let rule = state
            .rules
            .iter_mut()
            .filter(|rule| rule.matches(operation, key))
            .find_map(|rule| rule.strikes().then(|| rule.fault.clone()));
        state.struck += u64::from(rule.is_some());
        rule
    }

    fn take_room(&self, key: &str, len: u64) -> Result<()> {
        let mut state = self.state();
        match state.room {
            Some(room) if room < len => Err(full(key)),
            Some(room) => {
                state.room = Some(room - len);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A listing that may fail at its first entry, or end early.
    fn listing<T: Send + 'static>(
        &self,
        operation: Operation,
        prefix: &str,
        list: impl FnOnce() -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let begin = async move {
            match store.before(operation, &prefix).await {
                Ok(Some(Fault::LoseReply)) => failed(unreachable_store(operation, &prefix, "the reply was lost")),
                Ok(Some(Fault::Truncate(len))) => list().take(len).boxed(),
                Ok(_) => list(),
                Err(Error::NotFound { .. }) => stream::empty().boxed(),
                Err(error) => failed(error),
            }
        };
        stream::once(begin).flatten().boxed()
    }

    /// The faults that are the same for every call: the error that comes before any effect, or a wait.
    async fn before(&self, operation: Operation, key: &str) -> Result<Option<Fault>> {
        let fault = self.next_fault(operation, key);
        match fault {
            Some(Fault::FailBefore) => Err(unreachable_store(operation, key, "the request did not get through")),
            Some(Fault::Refuse) => {
                Err(Error::Denied { operation: operation.name(), key: key.to_owned(), reason: "fault".into() })
            }
            Some(Fault::Full) => Err(full(key)),
            Some(Fault::Missing) => Err(Error::NotFound { key: key.to_owned() }),
            Some(Fault::Hang) => future::pending().await,
            Some(Fault::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

fn full(key: &str) -> Error {
    Error::Full { key: key.to_owned(), reason: "no room is left (fault)".into() }
}

fn unreachable_store(operation: Operation, key: &str, reason: &str) -> Error {
    Error::Unavailable { operation: operation.name(), key: key.to_owned(), reason: format!("{reason} (fault)") }
}

/// The effect has happened; whether the caller hears of it.
fn reply<T>(operation: Operation, key: &str, fault: Option<Fault>, answer: T) -> Result<T> {
    match fault {
        Some(Fault::LoseReply) => Err(unreachable_store(operation, key, "the reply was lost")),
        _ => Ok(answer),
    }
}

fn damage(fault: &Option<Fault>, bytes: Bytes) -> Bytes {
    match fault {
        Some(Fault::Truncate(len)) => bytes.slice(..bytes.len().min(*len)),
        Some(Fault::FlipByte(at)) if *at < bytes.len() => {
            let mut changed = bytes.to_vec();
            changed[*at] ^= 1;
            Bytes::from(changed)
        }
        _ => bytes,
    }
}

#[async_trait]
impl Store for FaultStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn is_immutable(&self) -> bool {
        self.inner.is_immutable()
    }

    fn raw(&self) -> Option<&dyn Raw> {
        self.inner.raw()
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        let fault = self.before(Operation::Put, key.as_str()).await?;
        if let Some(Fault::WriteOnly(len)) = fault {
            self.inner.put_locked(key, bytes.slice(..bytes.len().min(len)), retention).await?;
            return Err(unreachable_store(Operation::Put, key.as_str(), "the body broke off"));
        }
        self.take_room(key.as_str(), bytes.len() as u64)?;
        let stored = self.inner.put_locked(key, bytes, retention).await?;
        reply(Operation::Put, key.as_str(), fault, stored)
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        let fault = self.before(Operation::Get, key.as_str()).await?;
        let bytes = damage(&fault, self.inner.get(key, version, range).await?);
        reply(Operation::Get, key.as_str(), fault, bytes)
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        let fault = self.before(Operation::Head, key.as_str()).await?;
        let info = self.inner.head(key, version).await?;
        reply(Operation::Head, key.as_str(), fault, info)
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let (inner, from, after) = (Arc::clone(&self.inner), prefix.to_owned(), after.to_owned());
        self.listing(Operation::List, prefix, move || inner.list_from(&from, &after))
    }

    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        let (inner, from, after) = (Arc::clone(&self.inner), prefix.to_owned(), after.to_owned());
        self.listing(Operation::ListVersions, prefix, move || inner.list_versions(&from, &after))
    }

    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        let fault = self.before(Operation::LockState, key.as_str()).await?;
        let state = self.inner.lock_state(key, version).await?;
        reply(Operation::LockState, key.as_str(), fault, state)
    }

    async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, retention: Retention) -> Result<()> {
        let fault = self.before(Operation::ExtendLock, key.as_str()).await?;
        self.inner.extend_lock(key, version, retention).await?;
        reply(Operation::ExtendLock, key.as_str(), fault, ())
    }

    async fn set_legal_hold(&self, key: &Key, version: Option<&VersionId>, held: bool) -> Result<()> {
        let fault = self.before(Operation::LegalHold, key.as_str()).await?;
        self.inner.set_legal_hold(key, version, held).await?;
        reply(Operation::LegalHold, key.as_str(), fault, ())
    }

    async fn clock(&self) -> Result<jiff::Timestamp> {
        let fault = self.before(Operation::Clock, "").await?;
        let time = self.inner.clock().await?;
        reply(Operation::Clock, "", fault, time)
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        let fault = match self.before(Operation::Delete, key.as_str()).await {
            Err(Error::NotFound { .. }) => return Ok(()),
            fault => fault?,
        };
        self.inner.delete(key, version).await?;
        reply(Operation::Delete, key.as_str(), fault, ())
    }
}

fn failed<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    stream::iter([Err(error)]).boxed()
}
