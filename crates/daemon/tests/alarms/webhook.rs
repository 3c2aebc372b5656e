//! Webhooks against a real server that checks the signature, is slow, has trouble, and is gone for a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::site::{Site, within};

/// What a receiver got, by id, and how it answers.
#[derive(Default)]
struct Inbox {
    got: BTreeMap<String, Value>,
    tries: u32,
    /// Answers to give before good ones.
    answers: Vec<Answer>,
    wrong: Vec<String>,
}

enum Answer {
    Trouble,
    /// Took it, and the sender does not hear of it in time.
    TookAndSilent,
    Elsewhere,
}

type Shared = Arc<Mutex<Inbox>>;

async fn receive(State(inbox): State<Shared>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hook-secret").unwrap();
    mac.update(header("lifeboat-timestamp").as_bytes());
    mac.update(b".");
    mac.update(&body);
    let expected = format!("v1={}", hex::encode(mac.finalize().into_bytes()));
    let answer = {
        let mut inbox = inbox.lock().unwrap();
        inbox.tries += 1;
        if header("lifeboat-signature") != expected {
            inbox.wrong.push(header("lifeboat-signature"));
            return (StatusCode::FORBIDDEN, HeaderMap::new());
        }
        let answer = inbox.answers.pop();
        if matches!(answer, None | Some(Answer::TookAndSilent)) {
            let message: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(message["id"], header("lifeboat-id"));
            inbox.got.insert(header("lifeboat-id"), message);
        }
        answer
    };
    match answer {
        None => (StatusCode::NO_CONTENT, HeaderMap::new()),
        Some(Answer::Trouble) => (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()),
        Some(Answer::Elsewhere) => {
            let elsewhere = HeaderMap::from_iter([("location".parse().unwrap(), "/stolen".parse().unwrap())]);
            (StatusCode::TEMPORARY_REDIRECT, elsewhere)
        }
        Some(Answer::TookAndSilent) => {
            tokio::time::sleep(Duration::from_secs(12)).await;
            (StatusCode::NO_CONTENT, HeaderMap::new())
        }
    }
}

async fn receiver(inbox: Shared) -> String {
    let stolen = Arc::clone(&inbox);
    let router = Router::new()
        .route("/hook", post(receive))
        .route("/stolen", post(async move || stolen.lock().unwrap().wrong.push("followed a redirect".into())))
        .with_state(inbox);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

const NOTIFY: &str = "[notify.channels.hook]\nkind = \"webhook\"\nurl_file = \"url\"\nsecret_file = \"secret\"\n";

fn titles(inbox: &Shared) -> Vec<String> {
    let inbox = inbox.lock().unwrap();
    let notices = inbox.got.values().flat_map(|message| message["notices"].as_array().cloned().unwrap());
    notices.map(|notice| format!("{} {}", notice["what"].as_str().unwrap(), notice["kind"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_tried_again_and_delivered_once() {
    let inbox = Shared::default();
    inbox.lock().unwrap().answers = vec![Answer::TookAndSilent, Answer::Elsewhere, Answer::Trouble, Answer::Trouble];
    let site = Site::new(NOTIFY);
    site.write("url", &receiver(Arc::clone(&inbox)).await);
    site.write("secret", "hook-secret\n");
    let served = site.serve().await;
    served.breaks("docker");
    within("a failing channel is a trouble", async || served.lacks("channel hook").then_some(())).await;
    within("the message is there", async || (titles(&inbox).len() == 1 && !served.lacks("channel hook")).then_some(()))
        .await;
    {
        let inbox = inbox.lock().unwrap();
        assert_eq!((inbox.got.len(), inbox.tries), (1, 5), "one message, tried until somebody said that it was there");
        assert!(inbox.wrong.is_empty(), "{:?}", inbox.wrong);
    }
    // After a restart nothing is told again, and what is over is.
    served.stop().await;
    let served = site.serve().await;
    served.breaks("docker");
    tokio::time::sleep(Duration::from_secs(2)).await; // two minutes
    assert_eq!(titles(&inbox).len(), 1);
    served.mends("docker");
    within("the end is told", async || (titles(&inbox).len() == 2).then_some(())).await;
    let told = titles(&inbox);
    assert!(told.contains(&"begins trouble".to_owned()) && told.contains(&"resolved trouble".to_owned()), "{told:?}");
    let totals = served.daemon.state.notice_totals().await.unwrap();
    assert!(totals.contains(&("hook".to_owned(), "delivered".to_owned(), 2)), "{totals:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_appears_in_what_is_said() {
    let site = Site::new(NOTIFY);
    site.write("url", "http://127.0.0.1:9/T0P/SECRET-PATH");
    site.write("secret", "hook-secret");
    let served = site.serve().await;
    served.breaks("docker");
    within("a failing channel is a trouble", async || served.lacks("channel hook").then_some(())).await;
    let said = format!("{:?} {:?}", served.daemon.troubles.all(), served.daemon.state.conditions().await.unwrap());
    assert!(said.contains("no answer") && !said.contains("SECRET"), "{said}");
    served.stop().await;
}
