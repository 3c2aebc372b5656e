//! Two hundred days of backups, WAL, drills, renewals of locks and prunes, with a host's clock that steps back and forth
//! and a process that dies at any call to the store.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{id::PointId, retention::RetentionPolicy, time::Span};
use lifeboat_repo::{Error, Result, check, document::DocumentKind, point::Point, progress::Silent};
use lifeboat_store::{Store as _, fault::FaultStore};

use crate::world::*;

/// Fixed, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a day's program does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Backup,
    Wal,
    Document(DocumentKind),
    Retain,
    Prune,
}

struct Simulation {
    world: World,
    stream: Stream,
    dice: Dice,
    serial: u64,
}

impl Simulation {
    fn new(seed: u64, policy: Policy) -> Self {
        Self { world: World::new(policy), stream: stream(SEGMENT), dice: Dice(seed), serial: 0 }
    }

    fn fork(&self) -> Self {
        Self { world: self.world.fork(), stream: self.stream, dice: Dice(self.dice.0), serial: self.serial }
    }

    /// One step; the store may be one that dies. What was sent counts as sent: the source goes on.
    async fn act(&mut self, act: Act, crash: Option<(u64, bool)>) -> (Result<()>, u64) {
        let faults = FaultStore::new(self.world.store());
        if let Some((call, effect)) = crash {
            faults.crash_at(call, effect);
        }
        let store = std::sync::Arc::new(faults.clone());
        let result = match act {
            Act::Backup => {
                self.serial += 1;
                self.stream.lsn += 4096;
                let files = files(self.serial);
                self.world.backup_on(store, &files, self.stream).await.map(drop)
            }
            Act::Wal => {
                let from = self.stream;
                self.stream.lsn += 1000 + self.dice.roll(SEGMENT);
                self.world.put_wal(store, from, self.stream.lsn).await
            }
            Act::Document(kind) => self.world.put_document(store, kind, self.stream).await.map(drop),
            Act::Retain => self.world.retain_on(store).await.map(drop),
            Act::Prune => self.world.prune_on(store).await.map(drop),
        };
        (result, faults.made())
    }

    async fn needs(&self, demanded: bool) -> lifeboat_repo::reach::Needs {
        self.world.needs(&self.world.repo().await, demanded).await.unwrap()
    }

    /// Every point that is there has all that it names, and what is kept is locked as a proof demands.
    async fn assert_sound(&self, what: &str) {
        let world = &self.world;
        for point in world.points().await {
            for object in &point.header.objects {
                let info = world.vault.head(&object.key, object.version.as_ref()).await;
                let info = info.unwrap_or_else(|error| panic!("{what}: {} of {}: {error}", object.key, point.key));
                assert_eq!(info.len, object.len, "{what}");
            }
        }
        let needs = self.needs(true).await;
        let mode = world.policy.lock.unwrap().mode;
        let repo = world.repo().await;
        let report = check::locks(&repo, &needs, mode, &world.trusted(), std::sync::Arc::new(Silent)).await.unwrap();
        assert_eq!(report.problems, [], "{what}");
        self.assert_locked(&needs, what).await;
    }

    /// The same, without the code that is tested.
    async fn assert_locked(&self, needs: &lifeboat_repo::reach::Needs, what: &str) {
        for point in self.world.points().await {
            let Some(end) = needs.points.get(&point.header.point) else { continue };
            let own = [(&point.key, &point.version)];
            let named = point.header.objects.iter().map(|object| (&object.key, &object.version));
            for (key, version) in own.into_iter().chain(named) {
                let lock = self.world.vault.lock_state(key, version.as_ref()).await.unwrap().retention;
                let until = lock.map_or(Timestamp::UNIX_EPOCH, |lock| lock.until);
                assert!(until >= *end, "{what}: {key} is locked until {until}, {} is kept until {end}", point.key);
            }
        }
    }

    /// After a prune that was not disturbed, nothing is there that nobody needs and nothing locks.
    async fn assert_nothing_surplus(&self, what: &str) {
        let (world, now) = (&self.world, self.world.now());
        let needs = self.needs(false).await;
        let points = world.points().await;
        let named: BTreeSet<String> = points
            .iter()
            .flat_map(|point| {
                point.header.objects.iter().map(|object| object.key.to_string()).chain([point.key.to_string()])
            })
            .collect();
        let base = points.iter().find(|point| Some(point.header.point) == needs.wal.base).unwrap();
        let base_wal = base.header.wal.as_ref().unwrap();
        for version in world.versions().await {
            let key = version.info.key.to_string();
            let state = world.vault.lock_state(&version.info.key, version.info.version.as_ref()).await.unwrap();
            if state.retention.is_some_and(|lock| lock.until > now) || named.contains(&key) {
                continue;
            }
            let parts: Vec<&str> = key.strip_prefix(ROOT).unwrap().split('/').collect();
            let needed = match parts.as_slice() {
                ["wal", system, timeline, "segment" | "slice", name] => {
                    let last = u64::from_str_radix(name.split('-').nth(1).unwrap(), 16).unwrap();
                    let timeline = u32::from_str_radix(timeline, 16).unwrap();
                    version.info.modified >= needs.wal.since
                        || (*system == base_wal.system_id.to_string()
                            && (timeline, last) > (base_wal.timeline, base_wal.start.0))
                }
                ["index", _] => {
                    let file = world.vault.get(&version.info.key, version.info.version.as_ref(), None).await.unwrap();
                    let text = String::from_utf8_lossy(&file).into_owned();
                    named.iter().any(|name| name.contains("/packs/") && text.contains(name.rsplit('/').next().unwrap()))
                }
                ["timelines" | "marks" | "witnesses", _] => true, // see the tests of documents
                _ => false,
            };
            assert!(needed, "{what}: {key} is there, not locked, and nobody needs it ({:?})", state.retention);
        }
    }

    /// Of what the archive had, all from the base on is there, or is a slice whose range a segment holds.
    async fn assert_needed_wal_stays(&self, before: &[String], what: &str) {
        let (needs, points) = (self.needs(false).await, self.world.points().await);
        let base = points.iter().find(|point| Some(point.header.point) == needs.wal.base);
        let Some(base) = base.and_then(|point| point.header.wal.clone()) else { return };
        let now: BTreeSet<String> = self.world.names("wal/").await.into_iter().collect();
        let lsn = |name: &str, n: usize| u64::from_str_radix(name.split('-').nth(n).unwrap(), 16).unwrap();
        for lost in before.iter().filter(|key| !now.contains(*key)) {
            let parts: Vec<&str> = lost.strip_prefix(ROOT).unwrap().split('/').collect();
            let ["wal", system, timeline, kind, name] = parts.as_slice() else { continue };
            let last = lsn(name, 1);
            if *system != base.system_id.to_string()
                || (u32::from_str_radix(timeline, 16).unwrap(), last) <= (base.timeline, base.start.0)
            {
                continue;
            }
            let end = last.div_ceil(SEGMENT) * SEGMENT;
            let segment = format!("{ROOT}wal/{system}/{timeline}/segment/{:016x}-{end:016x}-", end - SEGMENT);
            let held = *kind == "slice" && now.iter().any(|key| key.starts_with(&segment));
            assert!(held, "{what}: {lost} is needed and went");
        }
    }

    async fn assert_prune_changes_nothing(&self, what: &str) {
        let before = self.world.versions().await;
        let (report, items) = self.world.prune().await;
        assert_eq!((report.removed, report.freed_bytes), (0, 0), "{what}: {items:?}");
        assert!(self.world.versions().await == before, "{what}: a second prune changed something");
    }

    async fn assert_restores(&mut self, points: &[Point], how_many: usize) {
        for _ in 0..how_many.min(points.len()) {
            let n = self.dice.roll(points.len() as u64) as usize;
            self.world.assert_restores(&points[n]).await;
        }
    }

    /// What the host thinks of the time; whether a backup would be started with such a clock.
    fn shift_clock(&mut self) -> bool {
        let minutes = match self.dice.roll(10) {
            0 => self.dice.roll(600) as i64 - 300, // hours off: refused until somebody sets it
            1..=4 => self.dice.roll(24) as i64 - 12,
            _ => 0,
        };
        self.world.host_ahead.store(minutes * 60, Ordering::SeqCst);
        minutes.abs() <= 15
    }

    /// A crash ends a run; the supervisor starts it again a little later.
    async fn act_with_luck(&mut self, act: Act, what: &str) {
        if self.dice.roll(4) == 0 {
            let crash = (1 + self.dice.roll(40), self.dice.roll(2) == 0);
            let (result, _) = self.act(act, Some(crash)).await;
            if result.is_ok() {
                return; // it had ended before
            }
            self.world.store_clock.advance(130);
            self.assert_sound(&format!("{what}, crashed at {crash:?}")).await;
        }
        let (result, _) = self.act(act, None).await;
        match result {
            // The clock was set back since the newest point: refused, in words.
            Err(Error::Clock { .. }) if act == Act::Backup => {}
            other => other.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    }

    async fn day(&mut self, day: i64) {
        let what = format!("day {day}");
        if day == 0 || day == 90 || day == 140 {
            // A fail-over, and a cluster that was made anew.
            match day {
                90 => self.stream.timeline += 1,
                140 => self.stream = Stream { system_id: 8_000_000_000_000_000_002, timeline: 1, lsn: 3 * SEGMENT },
                _ => {}
            }
            self.act_with_luck(Act::Document(DocumentKind::Timeline), &what).await;
        }
        let backups = 1 + self.dice.roll(4) as i64;
        for n in 0..backups {
            self.world.store_clock.advance(DAY / backups / 2 + self.dice.roll(600) as i64);
            self.act_with_luck(Act::Wal, &what).await;
            if self.shift_clock() {
                self.act_with_luck(Act::Backup, &format!("{what}, backup {n}")).await;
            }
            self.world.host_ahead.store(0, Ordering::SeqCst);
        }
        if self.dice.roll(7) == 0 {
            self.act_with_luck(Act::Document(DocumentKind::RestorePoint), &what).await;
            self.act_with_luck(Act::Document(DocumentKind::Witness), &what).await;
        }
        if self.dice.roll(5) == 0 {
            // Who passed a drill is kept for longer from now on: its locks are extended before anybody relies on it.
            self.drill().await;
            self.act(Act::Retain, None).await.0.unwrap();
        }
        self.act_with_luck(Act::Retain, &what).await;
        self.assert_sound(&what).await;
        let before = self.world.names("wal/").await;
        self.act_with_luck(Act::Prune, &what).await;
        self.assert_needed_wal_stays(&before, &what).await;
        self.assert_sound(&format!("{what}, pruned")).await;
        self.assert_nothing_surplus(&what).await;
        if day % 5 == 0 {
            self.assert_prune_changes_nothing(&what).await;
        }
        let points = self.world.points().await;
        self.assert_restores(&points, 1).await;
        let next = BEGIN + (day + 1) * DAY;
        self.world.store_clock.advance((next - self.world.store_clock.second()).max(60));
    }

    async fn drill(&mut self) {
        let points: Vec<PointId> = self.world.points().await.iter().map(|point| point.header.point).collect();
        if !points.is_empty() {
            let drilled = points[self.dice.roll(points.len() as u64) as usize];
            self.world.passed.lock().unwrap().insert(drilled, self.world.now());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_days() {
    let mut simulation = Simulation::new(0x5eed_1234_5678_9abc, policy(Duration::from_secs(6 * 86_400)));
    let mut most = 0;
    for day in 0..200 {
        simulation.day(day).await;
        most = most.max(simulation.world.points().await.len());
    }
    simulation.act(Act::Prune, None).await.0.unwrap();
    simulation.assert_prune_changes_nothing("at the end").await;
    let points = simulation.world.points().await;
    for point in &points {
        simulation.world.assert_restores(point).await;
    }
    let made = simulation.world.made.lock().unwrap().len();
    assert!(made > 300 && points.len() < 60 && most < 80, "{made} made, {} kept, at most {most}", points.len());
    // What policy does not keep is there because it is locked.
    let world = &simulation.world;
    let needs = simulation.needs(false).await;
    for point in points.iter().filter(|point| !needs.points.contains_key(&point.header.point)) {
        let lock = world.vault.lock_state(&point.key, point.version.as_ref()).await.unwrap();
        assert!(lock.is_locked(world.now()), "{} is there for no reason", point.key);
    }
}

/// Other policies, a month of each.
#[tokio::test(flavor = "multi_thread")]
async fn other_policies() {
    let span = |hours: u64| Some(Span(Duration::from_secs(hours * 3600)));
    let none = RetentionPolicy {
        time_zone: "Asia/Kolkata".parse().unwrap(),
        last: 0,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        pitr: None,
        drilled: 0,
    };
    let hourly = RetentionPolicy { hourly: 30, pitr: span(12), ..none.clone() };
    let policies = [
        ("the last three alone", RetentionPolicy { last: 3, ..none.clone() }),
        ("hours and half a day of log", hourly),
        ("a week of log alone", RetentionPolicy { pitr: span(168), ..none.clone() }),
        ("drilled ones alone", RetentionPolicy { drilled: 4, ..none.clone() }),
        ("nothing but the newest", none),
    ];
    for (seed, (what, retention)) in (1..).zip(policies) {
        let policy = Policy { retention: Some(retention), ..policy(Duration::from_secs(6 * 86_400)) };
        let mut simulation = Simulation::new(0x5eed_0000 + seed, policy);
        for day in 0..30 {
            simulation.day(day).await;
        }
        simulation.act(Act::Prune, None).await.0.unwrap();
        simulation.assert_prune_changes_nothing(what).await;
        for point in &simulation.world.points().await {
            simulation.world.assert_restores(point).await;
        }
    }
}

/// One day, and a crash at each call of each of its runs, before and after its effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_every_call_of_a_day() {
    let mut simulation = Simulation::new(0x00c0_ffee_0000_0001, policy(Duration::from_secs(6 * 86_400)));
    let mut crashes = 0;
    for day in 0..14 {
        simulation.day(day).await;
    }
    simulation.world.store_clock.advance(DAY / 2);
    let acts = [Act::Wal, Act::Backup, Act::Document(DocumentKind::Witness), Act::Retain, Act::Prune];
    for act in acts {
        let mut probe = simulation.fork();
        let (result, calls) = probe.act(act, None).await;
        result.unwrap();
        for call in 1..=calls {
            for effect in [false, true] {
                let what = format!("{act:?}, call {call} of {calls}, {effect}");
                let mut crashed = simulation.fork();
                let (result, _) = crashed.act(act, Some((call, effect))).await;
                crashes += u64::from(result.is_err());
                crashed.world.store_clock.advance(130);
                crashed.assert_sound(&what).await;
                crashed.act(act, None).await.0.unwrap_or_else(|error| panic!("{what}, again: {error}"));
                crashed.assert_sound(&format!("{what}, again")).await;
                if act == Act::Prune {
                    crashed.assert_nothing_surplus(&what).await;
                    crashed.assert_prune_changes_nothing(&what).await;
                }
                if act == Act::Backup && call % 7 == 0 {
                    let points = crashed.world.points().await;
                    crashed.world.assert_restores(points.last().unwrap()).await;
                }
            }
        }
        simulation.act(act, None).await.0.unwrap();
        simulation.world.store_clock.advance(600);
    }
    assert!(crashes > 100, "{crashes} crashes");
}
