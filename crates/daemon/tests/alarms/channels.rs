//! What PagerDuty, Slack and the dead man's switch are really sent, over HTTP to a server in this process.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use lifeboat_daemon::{
    daemon::Told,
    job::{Because, Job, Verb},
    runner::RunEvent,
    view::{EventView, Trouble},
};
use lifeboat_model::id::RunId;
use lifeboat_testkit::clock::hurry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    heard,
    site::{Paused, Served, Site, within},
};

/// What a server was asked for, and how it answers.
#[derive(Default)]
struct Inbox {
    /// Path, type and body, in their order.
    got: Vec<(String, String, Value)>,
    /// Paths that begin like this are answered like that, with the body sent back: a server may repeat a secret.
    answers: Vec<(&'static str, u16)>,
}

type Shared = Arc<Mutex<Inbox>>;

async fn receive(State(inbox): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
    let mut inbox = inbox.lock().unwrap();
    let path = uri.path().to_owned();
    let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let answer = inbox.answers.iter().find(|(begins, _)| path.starts_with(begins)).map_or(202, |(_, status)| *status);
    inbox.got.push((path, kind, serde_json::from_slice(&body).unwrap_or(Value::Null)));
    (StatusCode::from_u16(answer).unwrap(), body)
}

async fn receiver(inbox: &Shared) -> String {
    let router = Router::new().fallback(receive).with_state(Arc::clone(inbox));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}

/// The bodies that were sent to a path.
fn of(inbox: &Shared, path: &str) -> Vec<Value> {
    let inbox = inbox.lock().unwrap();
    let sent = inbox.got.iter().filter(|(asked, ..)| asked == path);
    sent.map(|(_, kind, body)| {
        assert_eq!(kind, if body.is_null() { "" } else { "application/json" });
        body.clone()
    })
    .collect()
}

const KEY: &str = "R0UT1NG-KEY-OF-PAGERDUTY";
const SLACK: &str = "/services/T000/B000/SLACK-PATH-SECRET";

async fn pager_and_chat(inbox: &Shared) -> Site {
    heard::listen();
    let base = receiver(inbox).await;
    let site = Site::new(&format!(
        "[notify.channels.pager]\nkind = \"pagerduty\"\nurl = \"{base}/v2/enqueue\"\nrouting_key_file = \"key\"\n\
         [notify.channels.chat]\nkind = \"slack\"\nurl_file = \"slack\"\n"
    ));
    site.write("key", &format!("{KEY}\n"));
    site.write("slack", &format!("{base}{SLACK}\n"));
    site
}

/// Nothing that was said anywhere has a secret in it.
async fn keeps_its_secrets(served: &Served) {
    let state = served.daemon.state.conditions().await.unwrap();
    let said = format!("{} {:?} {state:?}", heard::lines(), served.daemon.troubles.all());
    for secret in [KEY, "SLACK-PATH", "DEAD-MAN-SECRET"] {
        assert!(!said.contains(secret), "{secret} was told: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_opened_and_resolved_under_one_key_and_the_chat_sees_both() {
    let inbox = Shared::default();
    let site = pager_and_chat(&inbox).await;
    let served = site.serve().await;
    served.breaks("docker");
    within("both are told", async || (of(&inbox, "/v2/enqueue").len() + of(&inbox, SLACK).len() == 2).then_some(()))
        .await;
    served.mends("docker");
    within("both see its end", async || (of(&inbox, "/v2/enqueue").len() + of(&inbox, SLACK).len() == 4).then_some(()))
        .await;

    let pages = of(&inbox, "/v2/enqueue");
    let (trigger, resolve) = (&pages[0], &pages[1]);
    assert_eq!((&trigger["routing_key"], &trigger["event_action"]), (&json!(KEY), &json!("trigger")));
    let key = trigger["dedup_key"].as_str().unwrap();
    assert!((4..=255).contains(&key.len()), "PagerDuty takes no longer one: {key}");
    let payload = &trigger["payload"];
    let summary = payload["summary"].as_str().unwrap();
    assert!(summary.starts_with("[critical] ") || summary.starts_with("[warning] "), "{summary}");
    assert!(summary.len() <= 1024 && summary.to_lowercase().contains("docker"), "{summary}");
    assert_eq!(
        (&payload["source"], &payload["group"], &payload["class"]),
        (&json!("lifeboat"), &json!("acme"), &json!("trouble"))
    );
    assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()), "{payload}");
    assert!(payload["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{payload}");
    let text = payload["custom_details"]["text"].as_str().unwrap();
    assert!(text.contains("docker does not answer") && text.contains("next: look at it"), "{text}");
    assert_eq!(*resolve, json!({"routing_key": KEY, "event_action": "resolve", "dedup_key": key}));

    let chat = of(&inbox, SLACK);
    let (begins, over) = (&chat[0], &chat[1]);
    assert_eq!(begins["text"].as_str().unwrap(), summary, "what phones show");
    let [part] = begins["attachments"].as_array().unwrap().as_slice() else { panic!("{begins}") };
    assert!(["danger", "warning"].contains(&part["color"].as_str().unwrap()), "{part}");
    assert!(part["text"].as_str().unwrap().contains("docker does not answer"), "{part}");
    assert!(
        over["text"].as_str().unwrap().starts_with("[resolved] ") && over["attachments"][0]["color"] == "good",
        "{over}"
    );
    keeps_its_secrets(&served).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_repeats_the_secret_is_told_without_it() {
    let inbox = Shared::default();
    inbox.lock().unwrap().answers = vec![("/v2/", 400), ("/services/", 403)];
    let site = pager_and_chat(&inbox).await;
    let served = site.serve().await;
    served.breaks("docker");
    for channel in ["channel pager", "channel chat"] {
        within("a failing channel is a trouble", async || served.lacks(channel).then_some(())).await;
    }
    let troubles = served.daemon.troubles.all();
    let why = |of: &str| troubles.iter().find(|trouble| trouble.of == of).unwrap().text.clone();
    assert!(why("channel pager").contains("the answer was 400"), "{}", why("channel pager"));
    assert!(why("channel chat").contains("the answer was 403: it does not believe us"), "{}", why("channel chat"));
    within("the log has it", async || heard::lines().contains("did not get there").then_some(())).await;
    keeps_its_secrets(&served).await;
    served.stop().await;
}

/// How often the switch was asked for.
fn pings(inbox: &Shared) -> usize {
    of(inbox, "/ping/DEAD-MAN-SECRET").len()
}

/// Six of its periods without a ping, but for one that was on its way.
async fn is_silent(inbox: &Shared, why: &str) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = pings(inbox);
    tokio::time::sleep(Duration::from_secs(1)).await; // six of its periods
    assert_eq!(pings(inbox), before, "it was asked for although {why}");
}

async fn is_pinged(inbox: &Shared, when: &str) {
    let before = pings(inbox);
    within(when, async || (pings(inbox) >= before + 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_mans_switch_is_asked_for_only_while_somebody_watches() {
    heard::listen();
    let inbox = Shared::default();
    let base = receiver(&inbox).await;
    let site = Site::new(
        "[notify.channels.hook]\nkind = \"webhook\"\nurl_file = \"hook\"\n\
         [notify.dead_man]\nurl_file = \"dead\"\nevery = \"10s\"\n",
    );
    site.write("hook", &format!("{base}/hook"));
    site.write("dead", &format!("{base}/ping/DEAD-MAN-SECRET"));
    let served = site.serve().await;
    is_silent(&inbox, "nothing has begun what is due").await;
    let (cancel, daemon) = (CancellationToken::new(), Arc::clone(&served.daemon));
    let works = tokio::spawn(lifeboat_daemon::work::run(daemon, cancel.clone()));
    let begun = std::time::Instant::now();
    is_pinged(&inbox, "all is well").await;
    assert!(begun.elapsed() > Duration::from_millis(300), "every ten seconds of its time, not more often");

    // It works for nobody: another daemon does, and would be hidden by this one's pings.
    served.breaks("leader");
    is_silent(&inbox, "another daemon leads").await;
    served.mends("leader");
    is_pinged(&inbox, "it leads again").await;

    // Messages get nowhere.
    inbox.lock().unwrap().answers = vec![("/hook", 500)];
    served.breaks("docker");
    within("a failing channel is a trouble", async || served.lacks("channel hook").then_some(())).await;
    is_silent(&inbox, "no channel works").await;
    inbox.lock().unwrap().answers.clear();
    is_pinged(&inbox, "messages get there again").await;

    // The service itself says no: that is told over the channels, and asked again.
    inbox.lock().unwrap().answers = vec![("/ping", 404)];
    within("that is a trouble", async || served.lacks("dead man's switch").then_some(())).await;
    inbox.lock().unwrap().answers.clear();
    within("it is over", async || (!served.lacks("dead man's switch")).then_some(())).await;

    cancel.cancel();
    works.await.unwrap();
    within("that nothing is begun any more counts", async || {
        let before = pings(&inbox);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (pings(&inbox) == before).then_some(())
    })
    .await;
    keeps_its_secrets(&served).await;
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn people_are_told_however_much_happens() {
    hurry(20);
    let site = Site::new(
        "[notify.channels.hook]\nkind = \"webhook\"\nurl_file = \"hook\"\n\
         [notify.dead_man]\nurl_file = \"dead\"\nevery = \"10s\"\n",
    );
    for name in ["hook", "dead"] {
        site.write(name, "http://127.0.0.1:9/");
    }
    let served = site.serve_by(Arc::new(Paused::begin())).await;
    // Their addresses are gone: each try fails, and is a trouble.
    for name in ["hook", "dead"] {
        std::fs::remove_file(site.path(name)).unwrap();
    }
    served.breaks("docker");
    let event = RunEvent::Phase { name: "streaming".to_owned() };
    let event = Arc::new(EventView { run: "01".repeat(8), number: 1, at: served.daemon.now(), event });
    let began = std::time::Instant::now();
    while !(served.lacks("channel hook") && served.lacks("dead man's switch")) {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody was told of anything");
        served.daemon.dispatched.store(served.daemon.now().as_second(), Ordering::Relaxed);
        served.daemon.tell(Told::Event { tenant: "acme".parse().unwrap(), event: Arc::clone(&event) });
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_configured_is_told_to_nobody() {
    let inbox = Shared::default();
    let site = pager_and_chat(&inbox).await;
    site.write("schedules/gold.toml", "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n");
    let served = site.serve().await;
    let daemon = &served.daemon;
    let trouble = Trouble {
        tenant: None,
        of: "channel gone".to_owned(),
        since: daemon.now(),
        text: "refused".to_owned(),
        next: None,
    };
    daemon.troubles.begin(trouble);
    for (run, (schedule, instance)) in (1..).zip([("gone", "clinic"), ("nightly", "gone"), ("nightly", "clinic")]) {
        let job = Job {
            run: RunId([run; 8]),
            tenant: "acme".parse().unwrap(),
            instance: Some(instance.parse().unwrap()),
            verb: Verb::Backup,
            because: Because::Schedule { schedule: schedule.to_owned(), due: daemon.now() },
        };
        daemon.state.missed(&job, "nobody was at work", daemon.now()).await.unwrap();
    }
    let told = within("the one that is configured is told", async || {
        let rows = daemon.state.conditions().await.unwrap();
        let keys: Vec<String> = rows.into_iter().map(|(key, _)| key).filter(|key| key.starts_with("known/")).collect();
        keys.iter().any(|key| key == "known/acme/clinic/run nightly").then_some(keys)
    })
    .await;
    assert!(!told.iter().any(|key| key.contains("gone/run") || key.contains("run gone")), "{told:?}");
    within("the channel is forgotten", async || (!served.lacks("channel gone")).then_some(())).await;
    served.stop().await;
}
