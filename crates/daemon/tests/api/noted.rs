//! What people do is noted by whoever does it: once, and also when they do not wait for the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lifeboat_daemon::{
    job::Verb,
    settings::{Role, Tenants},
    state::RunFilter,
    view::ActivityView,
    work::Asked,
};
use reqwest::Method;

use crate::world::{OWN, Plan, World};

fn asked(who: &str, verb: Verb) -> Asked {
    Asked { tenant: OWN.parse().unwrap(), instance: Some("clinic".parse().unwrap()), verb, who: who.to_owned() }
}

impl World {
    /// What was noted, oldest first.
    async fn noted(&self) -> Vec<ActivityView> {
        let mut noted = self.daemon.state.activities(&Tenants::All, None, 1000).await.unwrap();
        noted.reverse();
        noted
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_noted_once() {
    let world = World::new().await;
    let key = world.token("ann", &[Role::Operator], None);
    world.tokens_are_read().await;
    let first = world.start(OWN, "clinic").await;
    let (status, text) = world.ask(Method::POST, &format!("/api/v1/runs/{first}/cancel"), Some(&key), None).await;
    assert_eq!(status, 202, "{text}");
    let body = format!(r#"{{"tenant": "{OWN}", "verb": "audit"}}"#);
    let (status, text) = world.ask(Method::POST, "/api/v1/runs", Some(&key), Some(&body)).await;
    assert_eq!(status, 202, "{text}");
    let place = format!("{}/tenants/{OWN}/instances/clinic/runs", world.base);
    let form = world.client.post(place).bearer_auth(&key).body("verb=drill");
    let form = form.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(form.status(), 303);

    let noted = world.noted().await;
    let told: Vec<_> = noted.iter().map(|it| (&*it.who, &*it.act, it.target.as_deref().unwrap(), it.allowed)).collect();
    let cancelled = format!("run {first}");
    let expected = [
        ("setup", "start", "backup of clinic", true),
        ("ann", "cancel", &*cancelled, true),
        ("ann", "start", "audit", true),
        ("ann", "start", "drill of clinic", true),
    ];
    assert_eq!(told, expected);
    assert!(noted.iter().all(|it| it.tenant.as_deref() == Some(OWN)), "{noted:?}");
    assert_eq!(noted[0].detail, Some(cancelled));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_asked_who_has_gone_is_not_done() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let is_held = Arc::new(AtomicBool::new(false));
    let (busy, held) = (Arc::clone(&is_busy), Arc::clone(&is_held));
    let alive: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        while busy.load(Ordering::SeqCst) {
            held.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let world = World::with(Plan { alive: Some(alive), ..Plan::default() }).await;
    world.start(OWN, "clinic").await;

    is_busy.store(true, Ordering::SeqCst);
    while !is_held.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await; // a turn is due five times a second
    }
    let gone = world.daemon.start(asked("gone", Verb::Drill { random: false }));
    assert!(tokio::time::timeout(Duration::from_millis(200), gone).await.is_err(), "the dispatcher is busy");
    is_busy.store(false, Ordering::SeqCst);
    world.daemon.start(asked("ann", Verb::Dump)).await.unwrap();

    let runs = world.daemon.state.runs(RunFilter::default(), 100).await.unwrap();
    assert!(runs.iter().all(|run| run.job.verb.word() != "drill"), "{runs:?}");
    let who: Vec<_> = world.noted().await.into_iter().map(|it| it.who).collect();
    assert_eq!(who, ["setup", "ann"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_blind_the_log_of_activity() {
    let world = World::new().await;
    let key = world.token("ann", &[Role::Viewer], None);
    world.tokens_are_read().await;
    for number in 0..600 {
        world.ask(Method::GET, &format!("/runs/a{number}"), None, None).await;
    }
    let body = format!(r#"{{"tenant": "{OWN}", "verb": "audit"}}"#);
    assert_eq!(world.ask(Method::POST, "/api/v1/runs", Some(&key), Some(&body)).await.0, 403);
    let told: Vec<_> = world.noted().await.into_iter().map(|it| (it.who, it.act)).collect();
    let line = |who: &str, act: &str| (who.to_owned(), act.to_owned());
    assert_eq!(told, [line("unknown at 127.0.0.1", "GET /runs/a0"), line("ann", "POST /api/v1/runs")]);
    world.end().await;
}
