//! Journals in the repository: who is first has a line, copies carry them, and nobody waits for ever.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_engine::{
    context::{Context, Initiator},
    copy::{self, Wanted},
    journal::{Appended, Journals, Kind, LONGEST_LINE, Name},
};
use lifeboat_model::{config::CopyConfig, id::RunId};
use lifeboat_repo::{progress::Silent, repository::Repository};
use lifeboat_store::{Key, SharedStore, Store as _, local::LocalStore};
use lifeboat_testkit::{bucket, testbed};
use tokio_util::sync::CancellationToken;

#[path = "../ledger/world.rs"]
#[allow(dead_code, reason = "the world of the ledger's tests has more than is needed here")]
mod world;

use world::*;

fn name(number: u8) -> Name {
    Name { kind: Kind::Run, id: RunId([number; 8]) }
}

fn line(text: &str) -> Bytes {
    Bytes::from(format!("{{\"line\":\"{text}\"}}"))
}

async fn write(journals: &Journals, name: Name, lines: u64) {
    for number in 1..=lines {
        assert_eq!(journals.append(name, number, line(&number.to_string())).await.unwrap(), Appended::Ours);
    }
}

/// What every store must do.
async fn first_come(context: &Context) {
    let (ours, theirs) = (Journals::of(context).await.unwrap(), Journals::of(context).await.unwrap());
    write(&ours, name(1), 3).await;
    assert_eq!(ours.append(name(1), 3, line("3")).await.unwrap(), Appended::Ours, "again the same");
    assert_eq!(theirs.append(name(1), 3, line("other")).await.unwrap(), Appended::Taken(line("3")));
    assert!(theirs.has(name(1), 3).await.unwrap() && !theirs.has(name(1), 4).await.unwrap());
    assert_eq!(theirs.read(name(1), 1).await.unwrap(), [line("1"), line("2"), line("3")]);
    assert_eq!(theirs.read(name(1), 3).await.unwrap(), [line("3")]);
    assert_eq!((theirs.count(name(1)).await.unwrap(), theirs.count(name(2)).await.unwrap()), (3, 0));
    assert_eq!(
        (theirs.line(name(1), 2).await.unwrap(), theirs.line(name(1), 9).await.unwrap()),
        (Some(line("2")), None)
    );

    // At the same time, each as often: every number is one of theirs, and both see the same.
    for number in 4..9 {
        let (a, b) = tokio::join!(ours.append(name(1), number, line("a")), theirs.append(name(1), number, line("b")),);
        let stands = ours.line(name(1), number).await.unwrap().unwrap();
        let told = |own: &str, answer| match answer {
            Appended::Ours => assert_eq!(stands, line(own)),
            Appended::Taken(other) => assert!(other == stands && stands != line(own)),
        };
        told("a", a.unwrap());
        told("b", b.unwrap());
    }

    write(&ours, name(2), 1).await;
    let incident = Name { kind: Kind::Incident, id: RunId([1; 8]) };
    write(&ours, incident, 2).await;
    let listed = theirs.list(Kind::Run, 10).await.unwrap();
    assert_eq!(listed.iter().map(|one| (one.name, one.lines)).collect::<Vec<_>>(), [(name(2), 1), (name(1), 8)]);
    assert_eq!((&listed[0].first, &listed[0].last), (&line("1"), &line("1")));
    assert_eq!(listed[1].first, line("1"));
    assert_eq!(theirs.list(Kind::Run, 1).await.unwrap().len(), 1);
    assert_eq!(theirs.list(Kind::Incident, 10).await.unwrap()[0].last, line("2"));
}

#[tokio::test]
async fn who_is_first_has_the_line_in_a_bucket() {
    let clock = TestClock::begin();
    let bucket = vault(&clock);
    let host = Host::over(Arc::new(bucket.clone()), 1, &clock, LOCK).await;
    let journals = Journals::of(&host.context).await.unwrap();
    write(&journals, name(2), 1).await;
    let key = Key::new(format!("hospital/_journals/{}/00000001.json", name(2))).unwrap();
    assert!(bucket.lock_state(&key, None).await.unwrap().retention.is_some(), "locked as evidence is");
    let again = journals.append(name(2), 1, line("other")).await.unwrap();
    assert_eq!((again, bucket.versions_of(&key).len()), (Appended::Taken(line("1")), 1), "no second version");

    // What a thief puts over a line, or behind a gap, counts for nothing.
    bucket.thief().overwrite(&key, line("forged"));
    bucket.thief().delete_marker(&key);
    let far = Key::new(format!("hospital/_journals/{}/00000009.json", name(2))).unwrap();
    bucket.thief().overwrite(&far, line("forged"));
    let stray = Key::new(format!("hospital/_journals/{}/notes", name(2))).unwrap();
    bucket.thief().overwrite(&stray, line("forged"));
    assert_eq!(journals.read(name(2), 1).await.unwrap(), [line("1")]);
    assert_eq!(journals.list(Kind::Run, 9).await.unwrap()[0].lines, 1);
    assert!(journals.append(name(2), 2, Bytes::from(vec![b'x'; LONGEST_LINE + 1])).await.is_err());
    assert!(journals.append(name(2), 0, line("0")).await.is_err());

    let repo = host.context.instance_repo(&"clinic".parse().unwrap());
    let signs = lifeboat_repo::check::signs(&repo, &trusted(), Arc::new(Silent)).await.unwrap();
    let told = (signs.newer_versions, signs.delete_markers, signs.strange_keys);
    assert_eq!(told, (1, 1, 1), "and is told as a sign of an attack: {:?}", signs.samples);
}

#[tokio::test]
async fn who_is_first_has_the_line_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), true).unwrap();
    let repository = Repository::init(Arc::new(store), ID, Timestamp::now()).await.unwrap();
    first_come(&Host::of(repository, 1, Arc::new(Timestamp::now), "").context).await;
}

/// A real bucket with versions and object lock, which ignores `If-None-Match`.
#[tokio::test]
async fn who_is_first_has_the_line_in_ceph() {
    if !testbed::enabled() {
        return;
    }
    let store: SharedStore = Arc::new(bucket::store("journal").await);
    let repository = Repository::init(store, ID, Timestamp::now()).await.unwrap();
    let short = "[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1m\"\n";
    let mut host = Host::of(repository, 1, Arc::new(Timestamp::now), short);
    host.context.config.evidence.retain = "1m".parse().unwrap();
    first_come(&host.context).await;
}

#[tokio::test]
async fn a_copy_carries_them_and_keeps_what_it_has() {
    let clock = TestClock::begin();
    let mut host = Host::over(Arc::new(vault(&clock)), 1, &clock, LOCK).await;
    let config = &mut host.context.config;
    config.copies.push(CopyConfig { name: "offsite".into(), repository: config.repository.clone(), lock: None });
    let replica = Repository::init_replica(Arc::new(vault(&clock)), &host.context.repository).await.unwrap();
    let initiator = Initiator { who: "test@here".into(), command: "test".into() };
    let to =
        Context::new(host.context.config.at("offsite").unwrap(), "0".repeat(64), replica, clock.shown(), initiator);
    let (here, there) = (Journals::of(&host.context).await.unwrap(), Journals::of(&to).await.unwrap());
    write(&here, name(1), 3).await;
    let copy = async || {
        let cancel = CancellationToken::new();
        copy::run(&host.context, &to, "clinic", Wanted::All, Arc::new(Silent), &cancel).await.unwrap()
    };
    assert_eq!(copy().await.remarks, Vec::<String>::new());
    assert_eq!(there.read(name(1), 1).await.unwrap(), here.read(name(1), 1).await.unwrap());
    // While the primary was away, the run went on in the copy alone.
    there.append(name(1), 4, line("in the copy")).await.unwrap();
    assert!(copy().await.is_complete());
    here.append(name(1), 4, line("at the primary")).await.unwrap();
    assert!(copy().await.is_complete(), "the copy is as long");
    here.append(name(1), 5, line("5")).await.unwrap();
    let refused = copy().await.evidence.refused;
    assert!(refused.len() == 1 && refused[0].0.as_str().ends_with("/00000004.json"), "{refused:?}");
    assert_eq!(there.count(name(1)).await.unwrap(), 4, "nothing is hung onto another's line");
    assert_eq!(there.line(name(1), 4).await.unwrap().unwrap(), line("in the copy"));
}
