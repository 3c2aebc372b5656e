//! A run that ends at any call to the store, before or after its effect: never a visible point that does not restore,
//! always a next run that works.

use std::time::Duration;

use lifeboat_repo::{Error, tree::TreeKind, writer::Chunking};
use lifeboat_store::fault::{Fault, Operation, Rule};

use crate::world::*;

fn first() -> Vec<File> {
    vec![file("a", text(1, 50_000)), file("b", noise(2, 5 << 20))]
}

fn second() -> Vec<File> {
    let mut files = first();
    files[0].bytes[10] = b'!';
    files.push(file("c", noise(3, 5 << 20)));
    files
}

/// Every visible point must restore what its own run was given.
async fn assert_sound(world: &World, what: &str) {
    let repo = world.clean_repo().await;
    for reference in repo.list_points().await.unwrap() {
        let point =
            repo.read_point(&reference, &[world.signing.public()]).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let files = point.header.trees[0].entries;
        world.assert_restores(&point, if files == 2 { &FIRST } else { &SECOND }).await;
    }
}

static FIRST: std::sync::LazyLock<Vec<File>> = std::sync::LazyLock::new(first);
static SECOND: std::sync::LazyLock<Vec<File>> = std::sync::LazyLock::new(second);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_call() {
    let base = World::new();
    base.backup(&FIRST).await.unwrap();
    // How many calls an undisturbed second run makes.
    let probe = base.on(base.memory.fork());
    probe.backup(&SECOND).await.unwrap();
    let calls = probe.faults.calls().len() as u64;
    assert!(calls > 20);
    for n in 1..=calls + 2 {
        for fault in [Fault::FailBefore, Fault::LoseReply] {
            let what = format!("call {n} of {calls}, {fault:?}");
            let world = base.on(base.memory.fork());
            world.clean_repo().await;
            world.faults.add(Rule::on_any(fault).nth(n).and_ever_after());
            let result = async {
                let store: lifeboat_store::SharedStore = std::sync::Arc::new(world.faults.clone());
                let repository = lifeboat_repo::repository::Repository::open(store).await?;
                let repo = repository.instance(&tenant(), &instance());
                let begun =
                    lifeboat_repo::writer::Writer::begin(repo, world.keys(), world.options(), world.tally.clone());
                let mut writer = begun.await?;
                write_tree(&mut writer, &SECOND).await?;
                world.finish(writer).await
            }
            .await;
            if let Err(Error::Ended(_)) = result {
                panic!("{what}: the first error must be the real one");
            }
            // LoseReply has an effect each time: the dead process's uploads may all arrive.
            world.faults.heal();
            assert_sound(&world, &what).await;
            world.memory.advance(200); // its lease has outlived its time
            let point = world.backup(&SECOND).await.unwrap_or_else(|e| panic!("{what}: the next run: {e}"));
            world.assert_restores(&point, &SECOND).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_or_a_refusal_ends_in_one_clear_error() {
    for (fault, words) in [(Fault::Full, "no space left"), (Fault::Refuse, "refused")] {
        for kind in ["packs/", "trees/", "wal/", "index/", "points/", "keys/"] {
            let world = World::new();
            world.repo().await;
            world.faults.add(Rule::on(Operation::Put, fault.clone()).key(kind).and_ever_after());
            let error = world.backup(&SECOND).await.unwrap_err();
            assert!(error.to_string().contains(words) && error.to_string().contains(kind), "{kind}: {error}");
            assert!(world.memory.keys(&format!("{ROOT}points/")).is_empty());
            world.faults.heal();
            let point = world.backup(&SECOND).await.unwrap();
            world.assert_restores(&point, &SECOND).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_can_be_aborted_and_its_packs_are_used() {
    let world = World::new();
    world.repo().await;
    world.faults.add(Rule::on(Operation::Put, Fault::Full).key("trees/"));
    let mut writer = world.writer().await.unwrap();
    let error = match write_tree(&mut writer, &SECOND).await {
        Err(error) => {
            writer.abort().await.unwrap();
            error
        }
        Ok(_) => world.finish(writer).await.unwrap_err(),
    };
    assert!(error.to_string().contains("trees/"), "{error}");
    let packs = world.memory.keys(&format!("{ROOT}packs/"));
    assert!(!packs.is_empty());
    let point = world.backup(&SECOND).await.unwrap();
    world.assert_restores(&point, &SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_pack_is_not_relied_upon() {
    let world = World::new();
    world.repo().await;
    world.faults.add(Rule::on(Operation::Put, Fault::WriteOnly(1000)).key("packs/"));
    world.backup(&SECOND).await.unwrap_err();
    let point = world.backup(&SECOND).await.unwrap();
    world.assert_restores(&point, &SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_given_up_does_not_keep_the_run_from_ending() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    // Nothing is stored for a while: batches fill up until the caller has to wait, and does not.
    world.faults.add(Rule::on(Operation::Put, Fault::Delay(Duration::from_secs(3))).key("/packs/").and_ever_after());
    writer.begin_file(entry("a"), Chunking::DOCUMENT).await.unwrap();
    let mut given_up = 0;
    for n in 0..200 {
        let part = noise(n, 1 << 20);
        let waited = tokio::time::timeout(Duration::from_millis(300), writer.data(part.into())).await;
        match waited {
            Ok(done) => done.unwrap(),
            Err(_) => given_up += 1,
        }
        if given_up == 3 {
            break;
        }
    }
    assert_eq!(given_up, 3, "the store was never slow enough");
    world.faults.heal();
    let ended = tokio::time::timeout(Duration::from_secs(60), writer.abort()).await;
    ended.expect("the packer waits for a batch that never comes").unwrap();
    let point = world.backup(&FIRST).await.unwrap();
    world.assert_restores(&point, &FIRST).await;
}
