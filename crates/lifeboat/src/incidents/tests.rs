//! Several hosts, one incident.

use std::sync::Arc;

use lifeboat_engine::context::Initiator;
use lifeboat_model::id::RepositoryId;
use lifeboat_repo::repository::Repository;
use lifeboat_store::{
    fault::{Fault, FaultStore, Rule},
    vault::VaultStore,
};

use super::*;
use crate::kept::tests::config;

async fn shared() -> Repository {
    let clock: Clock = Arc::new(Timestamp::now);
    Repository::init(Arc::new(VaultStore::new(clock)), RepositoryId([1; 16]), Timestamp::now()).await.unwrap()
}

/// A run that is about to begin knows what this host knows, and waits no longer.
#[tokio::test]
async fn a_run_does_not_wait_for_a_repository_that_hangs() {
    let clock: Clock = Arc::new(Timestamp::now);
    let faults = FaultStore::new(Arc::new(VaultStore::new(clock)));
    let repository = Repository::init(Arc::new(faults.clone()), RepositoryId([1; 16]), Timestamp::now()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ann = desk(folder.path(), "ann@a", Some(&repository)).await;
    let opened = ann.declare("the host is gone".into(), None, Timestamp::now()).await.unwrap();
    faults.add(Rule::on_any(Fault::Hang).and_ever_after());
    let known = known(ann, Instant::now() + Duration::from_millis(100)).await;
    assert_eq!(known.iter().map(|incident| incident.id).collect::<Vec<_>>(), [opened.id]);
}

async fn desk(folder: &Path, who: &str, repository: Option<&Repository>) -> Desk {
    let clock: Clock = Arc::new(Timestamp::now);
    let there = match repository {
        None => Err("it is away".to_owned()),
        Some(repository) => {
            let initiator = Initiator { who: who.to_owned(), command: "test".into() };
            let context = Context::new(config(), "0".repeat(64), repository.clone(), clock.clone(), initiator);
            let journals = Journals::of(&context).await.unwrap();
            Ok((context, journals))
        }
    };
    Desk { folder: folder.to_owned(), who: who.to_owned(), clock, there }
}

fn noted(text: &str) -> Happened {
    Happened::Noted { text: text.to_owned() }
}

fn texts(incident: &Incident) -> Vec<(&str, &str)> {
    let text = |line: &Line<Happened>| match &line.event {
        Happened::Noted { text } => Some(text.clone()),
        _ => None,
    };
    let lines: Vec<_> = incident.lines.iter().filter(|line| text(line).is_some()).collect();
    lines
        .into_iter()
        .map(|line| {
            let Happened::Noted { text } = &line.event else { unreachable!() };
            (line.who.as_str(), text.as_str())
        })
        .collect()
}

#[tokio::test]
async fn people_note_from_several_hosts() {
    let repository = shared().await;
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ann, ben) =
        (desk(a.path(), "ann@a", Some(&repository)).await, desk(b.path(), "ben@b", Some(&repository)).await);
    let since = "2026-11-22T08:00:00Z".parse().unwrap();
    let opened = ann.declare("the host is gone".into(), Some("clinic".into()), since).await.unwrap();
    let seen = ben.find(None).await.unwrap();
    assert_eq!((seen.id, seen.text(), seen.since()), (opened.id, "the host is gone", since));
    // Both at the same time, each without the other's: none is lost, and both see the same in the end.
    for round in 0..5 {
        let (one, other) = (format!("a{round}"), format!("b{round}"));
        let (one, other) = tokio::join!(ann.note(&opened, noted(&one)), ben.note(&seen, noted(&other)));
        one.unwrap();
        other.unwrap();
    }
    let (one, other) = (ann.find(None).await.unwrap(), ben.find(None).await.unwrap());
    assert_eq!((one.lines.len(), &one), (11, &other));
    let closed = ben.note(&other, Happened::Closed { text: None }).await.unwrap();
    assert!(closed.closed().is_some() && ann.find(None).await.is_err(), "none is open");
    let now = ann.find(Some(&opened.id.to_string()[..4])).await.unwrap();
    assert_eq!(ann.note(&now, noted("late")).await.err().unwrap().exit, Exit::Usage);
}

/// Offline, what is noted stays on the host, and comes behind the others' notes later with its own time.
#[tokio::test]
async fn what_was_noted_offline_is_not_lost() {
    let repository = shared().await;
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alone = desk(a.path(), "ann@a", None).await;
    let opened = alone.declare("no network".into(), None, Timestamp::now()).await.unwrap();
    let opened = alone.note(&opened, noted("first")).await.unwrap();
    let ann = desk(a.path(), "ann@a", Some(&repository)).await;
    assert_eq!(ann.find(None).await.unwrap(), opened);
    let ben = desk(b.path(), "ben@b", Some(&repository)).await;
    ben.note(&ben.find(None).await.unwrap(), noted("ben's")).await.unwrap();
    let offline = alone.note(&opened, noted("offline")).await.unwrap();
    let said = offline.lines.last().unwrap().at;
    let merged = ann.find(None).await.unwrap();
    assert_eq!(texts(&merged), [("ann@a", "first"), ("ben@b", "ben's"), ("ann@a", "offline")]);
    assert_eq!(merged.lines.last().unwrap().at, said);
    assert_eq!(ben.find(None).await.unwrap(), merged);
    // Cut off after lines were put aside: they are found and not doubled.
    let path = a.path().join(format!("{}.{JOURNAL}", opened.id));
    fs::copy(&path, path.with_extension("aside")).unwrap();
    assert_eq!(ann.find(None).await.unwrap(), merged);
    ben.note(&merged, noted("more")).await.unwrap();
    assert_eq!(ann.find(None).await.unwrap().lines.len(), 5);
    assert!(!path.with_extension("aside").exists());
}
