//! The contract of [`Store`] as tests: every backend passes [`run`], real servers included.
//!
//! It works under a folder of its own with a random name, so a shared bucket will do, and removes what it wrote.
//! A broken promise is a panic that names it.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;

use crate::{Error, Key, LockState, ObjectInfo, Retention, Store, Stored, VersionId, VersionInfo};

/// Larger than every backend's multipart threshold, and not a whole number of parts.
const LARGE: usize = 40 * 1024 * 1024 + 12_345;

/// How long to wait between two looks at something that will come.
const POLL: Duration = Duration::from_millis(200);

/// Holds `store` against the whole contract.
pub async fn run(store: &dyn Store) {
    let suite = Suite { store, folder: format!("suite-{}", random_name()) };
    suite.bytes_come_back().await;
    suite.ranges_are_exact().await;
    suite.empty_objects_are_objects().await;
    suite.large_objects_survive().await;
    suite.listings_are_ordered_and_complete().await;
    suite.prefixes_are_plain_text().await;
    suite.listings_begin_anywhere().await;
    suite.odd_keys_work().await;
    suite.taken_keys_stay_untouched().await;
    suite.versions_are_obeyed().await;
    suite.absent_is_said_plainly().await;
    suite.deletes_can_be_repeated().await;
    suite.many_at_once_do_not_mix().await;
    suite.versions_are_all_listed().await;
    suite.locks_are_refused_where_there_are_none().await;
    suite.locks_hold_until_they_end().await;
    suite.holds_hold_until_they_are_released().await;
    suite.the_clock_is_the_one_that_stamps().await;
    suite.clean_up().await;
}

/// Sixteen random hexadecimal digits, for names that collide with nobody's.
pub fn random_name() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system has random numbers");
    hex::encode(random)
}

/// `len` bytes that differ by `seed` and position, so that swapped or shifted pieces are noticed.
pub fn pattern(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

struct Suite<'a> {
    store: &'a dyn Store,
    folder: String,
}

impl Suite<'_> {
    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}/{name}", self.folder)).expect("the suite uses valid keys")
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Stored {
        match self.store.put(key, bytes).await {
            Ok(stored) => stored,
            Err(e) => panic!("put {key}: {e}"),
        }
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Bytes {
        match self.store.get(key, version, range.clone()).await {
            Ok(bytes) => bytes,
            Err(e) => panic!("get {key} {version:?} {range:?}: {e}"),
        }
    }

    async fn listed(&self, prefix: &str) -> Vec<ObjectInfo> {
        match self.store.list(prefix).try_collect().await {
            Ok(found) => found,
            Err(e) => panic!("list {prefix}: {e}"),
        }
    }

    async fn listed_keys(&self, prefix: &str) -> Vec<String> {
        self.listed(prefix).await.into_iter().map(|info| info.key.to_string()).collect()
    }

    async fn bytes_come_back(&self) {
        let (key, bytes) = (self.key("bytes/one"), pattern(1, 100_000));
        let stored = self.put(&key, bytes.clone()).await;
        assert_eq!(
            stored.version.is_some(),
            self.store.capabilities().versions,
            "put gives a version, if there are any"
        );
        assert_same(&self.get(&key, None, None).await, &bytes, "get without version");
        assert_same(&self.get(&key, stored.version.as_ref(), None).await, &bytes, "get of the version put");
        for version in [None, stored.version.as_ref()] {
            let info = self.store.head(&key, version).await.unwrap_or_else(|e| panic!("head {key}: {e}"));
            assert_eq!((&info.key, info.len, &info.version), (&key, 100_000, &stored.version));
            assert!(info.modified.as_second() > 1_600_000_000, "modified is a time: {}", info.modified);
        }
    }

    async fn ranges_are_exact(&self) {
        let (key, len) = (self.key("ranges/one"), 70_001u64);
        let bytes = pattern(2, len as usize);
        let version = self.put(&key, bytes.clone()).await.version;
        for range in [0..len, 0..1, len - 1..len, 65_535..65_537, 1..len - 1, 5..5, 0..0, len..len] {
            let part = self.get(&key, version.as_ref(), Some(range.clone())).await;
            assert_same(&part, &bytes[range.start as usize..range.end as usize], &format!("{range:?}"));
        }
        #[allow(clippy::reversed_empty_ranges)] // asked for on purpose
        for range in [0..len + 1, len - 1..len + 1, len..len + 1, len + 5..len + 9, len + 1..len + 1, 9..3] {
            let answer = self.store.get(&key, version.as_ref(), Some(range.clone())).await;
            assert!(matches!(answer, Err(Error::Damaged { .. })), "{range:?} lies outside, but gave {answer:?}");
        }
    }

    async fn empty_objects_are_objects(&self) {
        let key = self.key("empty/one");
        let version = self.put(&key, Bytes::new()).await.version;
        assert!(self.get(&key, version.as_ref(), None).await.is_empty());
        assert!(self.get(&key, None, Some(0..0)).await.is_empty());
        assert_eq!(self.store.head(&key, None).await.map(|info| info.len).ok(), Some(0));
        assert_eq!(self.listed(key.as_str()).await.first().map(|info| info.len), Some(0));
    }

    async fn large_objects_survive(&self) {
        let (key, bytes) = (self.key("large/one"), pattern(3, LARGE));
        let version = self.put(&key, bytes.clone()).await.version;
        let info = self.store.head(&key, version.as_ref()).await.unwrap_or_else(|e| panic!("head {key}: {e}"));
        assert_eq!((info.len, info.version), (LARGE as u64, version.clone()));
        let middle = (LARGE / 2 - 1000) as u64..(LARGE / 2 + 1_000_000) as u64;
        let part = self.get(&key, version.as_ref(), Some(middle.clone())).await;
        assert_same(&part, &bytes[middle.start as usize..middle.end as usize], "middle of a large object");
        assert_same(&self.get(&key, version.as_ref(), None).await, &bytes, "large object");
    }

    async fn listings_are_ordered_and_complete(&self) {
        // Folders and files whose names share beginnings: the order is that of the whole key, `-` < `.` < `/` < `0`.
        let names = ["a", "a-b", "a.b", "b/z", "b-", "b0", "b/a/deep", "b/a-", "c/1", "c/10", "c/2", "D", "_"];
        let mut expected: Vec<String> =
            names.iter().map(|name| self.key(&format!("list/{name}")).to_string()).collect();
        for (index, key) in expected.iter().enumerate() {
            self.put(&Key::new(key.as_str()).expect("valid"), pattern(4, index)).await;
        }
        let lens: Vec<(String, u64)> = expected.iter().cloned().zip(0..).collect();
        expected.sort_unstable();
        let found = self.listed(&format!("{}/list/", self.folder)).await;
        assert_eq!(found.iter().map(|info| info.key.to_string()).collect::<Vec<_>>(), expected, "in key order");
        for info in found {
            let len = lens.iter().find(|(key, _)| *key == info.key.to_string()).map(|(_, len)| *len);
            assert_eq!(len, Some(info.len), "length of {} as listed", info.key);
            assert_eq!(info.version.is_some(), self.store.capabilities().versions, "version of {}", info.key);
        }
    }

    async fn prefixes_are_plain_text(&self) {
        let at = |text: &str| format!("{}/prefix/{text}", self.folder);
        for name in ["2026-01-01", "2026-01-02", "2026-02-01/x", "2026-02-01-y", "2027"] {
            self.put(&self.key(&format!("prefix/{name}")), Bytes::from_static(b"x")).await;
        }
        let all: Vec<String> =
            ["2026-01-01", "2026-01-02", "2026-02-01-y", "2026-02-01/x", "2027"].iter().map(|name| at(name)).collect();
        let cases: [(&str, &[String]); 8] = [
            ("", &all),
            ("2026-01", &all[..2]),
            ("2026-02-01", &all[2..4]),
            ("2026-02-01/", &all[3..4]),
            ("2027", &all[4..]),
            ("2027/", &[]),
            ("2028", &[]),
            ("2026-01-01/deeper/still", &[]),
        ];
        for (prefix, expected) in cases {
            assert_eq!(self.listed_keys(&at(prefix)).await, expected, "prefix \"{prefix}\"");
        }
        for prefix in ["../", "/", "nothing/../"] {
            let found = self.listed_keys(&format!("{}/{prefix}", self.folder)).await;
            assert!(found.is_empty(), "prefix \"{prefix}\" is no path: {found:?}");
        }
        let first = self.store.list(&at("")).next().await;
        assert!(
            matches!(&first, Some(Ok(info)) if info.key.as_str() == all[0]),
            "a dropped listing is harmless: {first:?}"
        );
        assert!(self.listed_keys("").await.contains(&all[0]), "the empty prefix lists everything");
    }

    async fn listings_begin_anywhere(&self) {
        let names = ["a", "a-b", "a.b", "b/z", "b-", "b0", "b/a/deep", "b/a-", "c/1", "c/10", "c/2", "D", "_"];
        let mut all: Vec<String> = names.iter().map(|name| self.key(&format!("from/{name}")).to_string()).collect();
        for key in &all {
            self.put(&Key::new(key.as_str()).expect("valid"), Bytes::from_static(b"x")).await;
        }
        all.sort_unstable();
        let at = |text: &str| format!("{}/from/{text}", self.folder);
        let begins =
            ["", "b", "b-", "b.", "b/", "b/a", "b/a-", "b/a/", "b/a/deep", "b/zz", "c/1", "c/1~", "zz"].map(at);
        let begins = begins.into_iter().chain(["".into(), "~".into(), self.folder.clone()]);
        for after in begins.chain(all.clone()) {
            for prefix in ["", "b", "b/", "c/1", "c/10", "nothing"].map(at) {
                let expected: Vec<&String> =
                    all.iter().filter(|key| key.starts_with(&prefix) && **key > after).collect();
                let found: Vec<ObjectInfo> = match self.store.list_from(&prefix, &after).try_collect().await {
                    Ok(found) => found,
                    Err(e) => panic!("list {prefix} from {after}: {e}"),
                };
                let found: Vec<String> = found.iter().map(|info| info.key.to_string()).collect();
                assert_eq!(found.iter().collect::<Vec<_>>(), expected, "prefix \"{prefix}\" after \"{after}\"");
            }
        }
    }

    async fn odd_keys_work(&self) {
        let long = "l".repeat(200);
        let names = [
            ".hidden",
            "...",
            "..a",
            "-",
            "--help",
            "_",
            "a..b",
            "UPPER",
            "upper",
            "x.y-z_0",
            "1/2/3/4/5/6/7/8",
            &long,
        ];
        for (index, name) in names.iter().enumerate() {
            let (key, bytes) = (self.key(&format!("odd/{name}")), pattern(index as u64, 10 + index));
            self.put(&key, bytes.clone()).await;
            assert_same(&self.get(&key, None, None).await, &bytes, name);
            assert!(self.listed_keys(key.as_str()).await.contains(&key.to_string()), "{key} is listed");
        }
        assert_eq!(self.listed(&format!("{}/odd/", self.folder)).await.len(), names.len());
    }

    async fn taken_keys_stay_untouched(&self) {
        let key = self.key("taken/one");
        let (first, second) = (pattern(5, 1000), pattern(6, 2000));
        let version = self.put(&key, first.clone()).await.version;
        match self.store.put(&key, second).await {
            Err(Error::AlreadyExists { key: named }) => assert_eq!(named, key.as_str()),
            Ok(_) if !self.store.capabilities().refuses_overwrite => {}
            other => panic!("put to a taken key: {other:?}"),
        }
        let keeps = self.store.capabilities();
        if keeps.refuses_overwrite || keeps.versions {
            assert_same(&self.get(&key, version.as_ref(), None).await, &first, "what was there first");
        }
    }

    async fn versions_are_obeyed(&self) {
        if !self.store.capabilities().versions {
            return;
        }
        let key = self.key("versions/one");
        let bytes = pattern(7, 5000);
        let version = self.put(&key, bytes.clone()).await.version.expect("a versioned store names the version");
        assert_eq!(
            self.listed(key.as_str()).await.first().and_then(|info| info.version.clone()),
            Some(version.clone())
        );
        let other = VersionId("lifeboat.no.such.version".into());
        let answer = self.store.get(&key, Some(&other), None).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "an unknown version gave {answer:?}");
        self.store.delete(&key, Some(&version)).await.unwrap_or_else(|e| panic!("delete {key}: {e}"));
        let answer = self.store.get(&key, Some(&version), None).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "a deleted version gave {answer:?}");
        assert!(self.listed(key.as_str()).await.is_empty());
    }

    async fn absent_is_said_plainly(&self) {
        let key = self.key("absent/one");
        let not_found = |e: &Error| matches!(e, Error::NotFound { key: named } if named == key.as_str());
        for range in [None, Some(0..0), Some(0..10)] {
            let answer = self.store.get(&key, None, range.clone()).await;
            assert!(answer.as_ref().is_err_and(not_found), "get {range:?} gave {answer:?}");
        }
        let answer = self.store.head(&key, None).await;
        assert!(answer.as_ref().is_err_and(not_found), "head gave {answer:?}");
        assert!(self.listed(key.as_str()).await.is_empty());
    }

    async fn deletes_can_be_repeated(&self) {
        let key = self.key("deleted/one");
        self.put(&key, pattern(8, 10)).await;
        for time in ["first", "second"] {
            self.store.delete(&key, None).await.unwrap_or_else(|e| panic!("{time} delete: {e}"));
            assert!(
                matches!(self.store.head(&key, None).await, Err(Error::NotFound { .. })),
                "after the {time} delete"
            );
        }
        assert!(self.listed(key.as_str()).await.is_empty());
        self.put(&key, pattern(9, 11)).await;
        assert_same(&self.get(&key, None, None).await, &pattern(9, 11), "a key put again after its delete");
    }

    async fn many_at_once_do_not_mix(&self) {
        let keys: Vec<Key> = (0..24).map(|index| self.key(&format!("many/{:02}/{index}", index % 5))).collect();
        let round = |index: usize| {
            let (key, bytes) = (keys[index].clone(), pattern(100 + index as u64, 50_000 + index));
            async move {
                self.put(&key, bytes.clone()).await;
                assert_same(&self.get(&key, None, None).await, &bytes, key.as_str());
            }
        };
        future::join_all((0..keys.len()).map(round)).await;
        let found = self.listed(&format!("{}/many/", self.folder)).await;
        assert_eq!(found.len(), keys.len());
        self.only_one_wins().await;
    }

    async fn only_one_wins(&self) {
        if !self.store.capabilities().refuses_overwrite {
            return;
        }
        let key = self.key("race/one");
        let answers = future::join_all((0..8).map(|index| self.store.put(&key, pattern(index, 100_000)))).await;
        let winners: Vec<usize> = (0..answers.len()).filter(|index| answers[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1, "one of eight writers of a key wins: {answers:?}");
        assert!(answers.iter().all(|a| matches!(a, Ok(_) | Err(Error::AlreadyExists { .. }))), "{answers:?}");
        assert_same(&self.get(&key, None, None).await, &pattern(winners[0] as u64, 100_000), "the winner's bytes");
    }

    async fn all_versions(&self, key: &Key) -> Vec<VersionInfo> {
        match self.store.list_versions(key.as_str(), "").try_collect().await {
            Ok(found) => found,
            Err(e) => panic!("list versions of {key}: {e}"),
        }
    }

    async fn versions_are_all_listed(&self) {
        let key = self.key("all/one");
        let mut versions = vec![self.put(&key, pattern(20, 10)).await.version];
        if self.store.capabilities().versions {
            // Where there are versions, a put to a taken key makes another.
            for len in [11, 12] {
                versions.insert(0, self.put(&key, pattern(20, len)).await.version);
            }
        }
        let found = self.all_versions(&key).await;
        let seen: Vec<_> = found.iter().map(|found| (found.info.version.clone(), found.latest)).collect();
        let expected: Vec<_> = versions.iter().cloned().enumerate().map(|(place, id)| (id, place == 0)).collect();
        assert_eq!(seen, expected, "all versions, the newest first");
        assert!(found.iter().all(|found| !found.delete_marker && found.info.key == key));
        let first = self.listed(key.as_str()).await;
        assert_eq!(first.len(), 1, "a key is listed once");
        assert_eq!(
            (&first[0].version, first[0].len),
            (&versions[versions.len() - 1], 10),
            "the first version is listed"
        );
        let after = self.store.list_versions(&format!("{}/all/", self.folder), key.as_str());
        assert!(after.try_collect::<Vec<_>>().await.is_ok_and(|found| found.is_empty()), "nothing comes after {key}");
    }

    async fn locks_are_refused_where_there_are_none(&self) {
        if self.store.capabilities().locks {
            return;
        }
        let key = self.key("unlockable/one");
        let retention = Retention { mode: LockMode::Governance, until: Timestamp::MAX };
        let answer = self.store.put_locked(&key, Bytes::new(), Some(retention)).await;
        assert!(matches!(answer, Err(Error::NoLocks { .. })), "a put with a lock gave {answer:?}");
        assert!(self.listed(key.as_str()).await.is_empty(), "nothing was put without the lock");
        let version = self.put(&key, Bytes::new()).await.version;
        assert_eq!(self.store.lock_state(&key, version.as_ref()).await.ok(), Some(LockState::default()));
        let answer = self.store.extend_lock(&key, version.as_ref(), retention).await;
        assert!(matches!(answer, Err(Error::NoLocks { .. })), "{answer:?}");
        let answer = self.store.set_legal_hold(&key, version.as_ref(), true).await;
        assert!(matches!(answer, Err(Error::NoLocks { .. })), "{answer:?}");
    }

    async fn lock_of(&self, key: &Key, version: Option<&VersionId>) -> LockState {
        match self.store.lock_state(key, version).await {
            Ok(state) => state,
            Err(e) => panic!("lock of {key}: {e}"),
        }
    }

    async fn now(&self) -> Timestamp {
        match self.store.clock().await {
            Ok(now) => now,
            Err(e) => panic!("clock: {e}"),
        }
    }

    async fn assert_delete_is_refused(&self, key: &Key, version: Option<&VersionId>, until: Option<Timestamp>) {
        match self.store.delete(key, version).await {
            Err(Error::Locked { key: named, until: said }) => assert_eq!((named.as_str(), said), (key.as_str(), until)),
            other => panic!("delete of {key}, locked until {until:?}, gave {other:?}"),
        }
    }

    /// Objects of one request and of several, with a lock of a few seconds.
    async fn locks_hold_until_they_end(&self) {
        if !self.store.capabilities().locks {
            return;
        }
        for (name, len) in [("locked/small", 1000), ("locked/large", LARGE)] {
            let (key, bytes) = (self.key(name), pattern(21, len));
            let whole = Timestamp::from_second(self.now().await.as_second()).expect("a whole second");
            let governance = |seconds| Retention { mode: LockMode::Governance, until: whole + seconds };
            let (short, long) = (governance(SignedDuration::from_secs(10)), governance(SignedDuration::from_secs(12)));
            let put = self.store.put_locked(&key, bytes.clone(), Some(short)).await;
            let version = put.unwrap_or_else(|e| panic!("put {key}: {e}")).version;
            let state = async || self.lock_of(&key, version.as_ref()).await;
            let locked = |retention| LockState { retention: Some(retention), legal_hold: false };
            assert_eq!(state().await, locked(short), "the lock of {key} as read back");
            self.assert_delete_is_refused(&key, version.as_ref(), Some(short.until)).await;
            for (asked, then) in [(short, short), (long, long), (long, long), (short, long)] {
                let extended = self.store.extend_lock(&key, version.as_ref(), asked).await;
                extended.unwrap_or_else(|e| panic!("extend {key} to {}: {e}", asked.until));
                assert_eq!(state().await, locked(then), "the lock of {key} after {} was asked for", asked.until);
            }
            self.assert_delete_is_refused(&key, version.as_ref(), Some(long.until)).await;
            assert_same(&self.get(&key, version.as_ref(), None).await, &bytes, "a locked object");
            self.delete_when_the_lock_has_ended(&key, version.as_ref(), long.until).await;
        }
    }

    async fn delete_when_the_lock_has_ended(&self, key: &Key, version: Option<&VersionId>, until: Timestamp) {
        for _ in 0..600 {
            match self.store.delete(key, version).await {
                Ok(()) => return assert!(self.now().await >= until, "{key} was deleted before {until}"),
                Err(Error::Locked { .. } | Error::Denied { .. }) => tokio::time::sleep(POLL).await,
                Err(e) => panic!("delete {key} after its lock: {e}"),
            }
        }
        panic!("{key} is still locked long after {until}");
    }

    async fn holds_hold_until_they_are_released(&self) {
        if !self.store.capabilities().locks {
            return;
        }
        let key = self.key("held/one");
        let version = self.put(&key, pattern(22, 100)).await.version;
        for held in [false, true, true] {
            let set = self.store.set_legal_hold(&key, version.as_ref(), held).await;
            set.unwrap_or_else(|e| panic!("legal hold of {key}: {e}"));
            let state = LockState { retention: None, legal_hold: held };
            assert_eq!(self.lock_of(&key, version.as_ref()).await, state);
        }
        self.assert_delete_is_refused(&key, version.as_ref(), None).await;
        let released = self.store.set_legal_hold(&key, version.as_ref(), false).await;
        released.unwrap_or_else(|e| panic!("release {key}: {e}"));
        self.store.delete(&key, version.as_ref()).await.unwrap_or_else(|e| panic!("delete {key} once released: {e}"));
    }

    async fn the_clock_is_the_one_that_stamps(&self) {
        let key = self.key("clock/one");
        let before = self.now().await;
        self.put(&key, Bytes::new()).await;
        let modified = match self.store.head(&key, None).await {
            Ok(info) => info.modified,
            Err(e) => panic!("head {key}: {e}"),
        };
        // Both may be cut to whole seconds.
        let apart = modified.duration_since(before).abs();
        assert!(apart <= SignedDuration::from_secs(30), "stamped {modified}, the clock showed {before}");
    }

    async fn clean_up(&self) {
        for _ in 0..4 {
            for info in self.listed(&format!("{}/", self.folder)).await {
                let removed = self.store.delete(&info.key, info.version.as_ref()).await;
                removed.unwrap_or_else(|e| panic!("delete {}: {e}", info.key));
            }
        }
        assert!(self.listed(&format!("{}/", self.folder)).await.is_empty(), "everything was removed");
    }
}

/// Names a difference without printing megabytes.
fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    assert_eq!(got.len(), expected.len(), "length of {what}");
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {:#04x}, expected {:#04x}", got[at], expected[at]);
    }
}
