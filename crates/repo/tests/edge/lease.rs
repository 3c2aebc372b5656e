//! One writer at a time.

use lifeboat_repo::{Error, repository::Repository};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, Operation, Rule},
};

use crate::world::*;

fn leases(world: &World) -> Vec<String> {
    world.memory.keys(&format!("{ROOT}lease/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_writer_is_told_who_is_at_it() {
    let world = World::new();
    let first = world.writer().await.unwrap();
    let error = world.writer().await.err().unwrap();
    assert!(matches!(error, Error::Busy { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(leases(&world).len(), 1, "the loser leaves nothing behind");
    first.abort().await.unwrap();
    assert!(leases(&world).is_empty());
    world.writer().await.unwrap().abort().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_at_most_one_gets_it() {
    let world = std::sync::Arc::new(World::new());
    world.repo().await;
    for _ in 0..10 {
        let tries = (0..6).map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.writer().await })
        });
        let results: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert!(won.len() <= 1, "{} writers at once", won.len());
        assert!(lost.iter().all(|result| matches!(result, Err(Error::Busy { .. }))));
        for writer in won {
            writer.unwrap().abort().await.unwrap();
        }
        assert!(leases(&world).is_empty());
    }
}

/// The lease of another host's process, whose age the store tells.
async fn put_foreign(world: &World, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let writer = world.writer().await.unwrap();
    let key = leases(world)[0].clone();
    let bytes = world.memory.get(&Key::new(key.clone()).unwrap(), None, None).await.unwrap();
    writer.abort().await.unwrap();
    let mut body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    body["session"] = "00".repeat(16).into();
    change(&mut body);
    let key = format!("{ROOT}lease/0000000000000000-{}-00000000", "00".repeat(16));
    world.memory.put(&Key::new(key.clone()).unwrap(), serde_json::to_vec(&body).unwrap().into()).await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hosts_lease_ends_by_time_and_not_before() {
    let world = World::new();
    let foreign = put_foreign(&world, |body| {
        body["boot"] = "elsewhere".into();
        body["pid"] = 999_999_999.into();
    })
    .await;
    world.memory.advance(100);
    assert!(matches!(world.writer().await.err().unwrap(), Error::Busy { .. }));
    assert!(leases(&world).contains(&foreign));
    world.memory.advance(60);
    world.writer().await.unwrap().abort().await.unwrap();
    assert!(leases(&world).is_empty(), "the dead lease was removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_of_this_host_is_succeeded_at_once() {
    let world = World::new();
    put_foreign(&world, |body| body["pid"] = 999_999_999.into()).await;
    world.writer().await.unwrap().abort().await.unwrap();
    // The same number, but another process than the one that wrote it.
    put_foreign(&world, |body| body["pid_start"] = 1.into()).await;
    world.writer().await.unwrap().abort().await.unwrap();
    // A container of the same host has numbers of its own: nothing can be said of its processes.
    put_foreign(&world, |body| {
        body["pid"] = 999_999_999.into();
        body["pid_namespace"] = "pid:[1]".into();
    })
    .await;
    assert!(matches!(world.writer().await.err().unwrap(), Error::Busy { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_taken_over_makes_no_point() {
    let world = World::new();
    let writer = world.writer().await.unwrap();
    world.memory.advance(200);
    let key = format!("{ROOT}lease/0000000000000001-{}-00000000", "11".repeat(16));
    let rival = serde_json::json!({"session": "11".repeat(16), "software": "other", "host": "h2", "boot": "b",
        "pid_namespace": "n", "pid": 1, "pid_start": 1, "ttl_ms": 120_000, "acquired": "2026-11-21T20:00:00Z"});
    world.memory.put(&Key::new(key).unwrap(), serde_json::to_vec(&rival).unwrap().into()).await.unwrap();
    let error = world.finish(writer).await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    assert!(world.memory.keys(&format!("{ROOT}points/")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_to_the_lease_leaves_nothing_behind() {
    let world = World::new();
    world.repo().await;
    world.faults.add(Rule::on(Operation::Put, Fault::LoseReply).key("lease/"));
    assert!(world.writer().await.is_err());
    assert!(leases(&world).is_empty());
    world.backup(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_gives_its_lease_back() {
    let world = World::new();
    drop(world.writer().await.unwrap());
    for _ in 0..100 {
        if leases(&world).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the lease is still there");
}

#[tokio::test(start_paused = true)]
async fn a_long_run_keeps_its_lease() {
    let world = World::new();
    let writer = world.writer().await.unwrap();
    let first = leases(&world);
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        world.memory.advance(30);
    }
    assert!(leases(&world).len() == 1 && leases(&world) != first, "renewed by a new object, the old one removed");
    assert!(matches!(world.writer().await.err().unwrap(), Error::Busy { .. }));
    world.finish(writer).await.unwrap();
    assert!(leases(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_must_not_delete_leaves_its_leases_and_their_age_decides() {
    let world = World::new();
    world.faults.add(Rule::on(Operation::Delete, Fault::Refuse).and_ever_after());
    for n in 1..=2 {
        world.backup(&[file("a", text(n, 1000))]).await.unwrap();
        assert_eq!(world.memory.keys(&format!("{ROOT}points/")).len(), n as usize);
        assert!(!leases(&world).is_empty(), "nothing could be deleted");
        world.memory.advance(200);
    }
    world.writer().await.unwrap().abort().await.unwrap();
    assert!(world.faults.struck() > 0);
    let notes = world.tally.notes.lock().unwrap().clone();
    assert!(!notes.iter().any(|note| note.contains("lease")), "{notes:?}");
    // A store that does not answer is another matter.
    world.faults.heal();
    world.faults.add(Rule::on(Operation::Delete, Fault::FailBefore).key("lease/").and_ever_after());
    assert!(world.backup(&[]).await.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_daemon_leads_and_stands_in_nobodys_way() {
    let world = World::new();
    let repository = Repository::open(world.repo().await.store().clone()).await.unwrap();
    let tenant = tenant();
    let lead = || repository.lead(&tenant, "tests", now(), std::sync::Arc::new(lifeboat_repo::progress::Silent));
    let first = lead().await.unwrap();
    let error = lead().await.unwrap_err();
    assert!(matches!(error, Error::Busy { what: "another daemon", .. }), "{error}");
    world.writer().await.unwrap().abort().await.unwrap();
    assert!(repository.instances(&tenant).await.unwrap().is_empty(), "it is no instance");
    first.recheck().await.unwrap();
    first.release().await.unwrap();
    lead().await.unwrap().release().await.unwrap();
    assert_eq!(world.memory.keys("hospital/_daemon/"), Vec::<String>::new());
}
