//! Following a run: from its beginning, from where one was, to its end.

use std::time::Duration;

use lifeboat_daemon::settings::Role;
use reqwest::Response;

use crate::world::{INSTANCES, OWN, World};

async fn follow(world: &World, run: &str, key: &str, after: Option<&str>) -> Response {
    let mut request = world.client.get(format!("{}/api/v1/runs/{run}/events", world.base)).bearer_auth(key);
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    request.send().await.unwrap()
}

/// What comes until the text has this in it.
async fn until(answer: &mut Response, end: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(end) {
            let part = answer.chunk().await.unwrap().unwrap_or_else(|| panic!("{end} before the end: {text}"));
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_twice() {
    let world = World::new().await;
    let key = world.token("ann", &[Role::Viewer], Some(OWN));
    world.tokens_are_read().await;
    let run = world.start(OWN, INSTANCES[0].1).await.to_string();

    let mut live = follow(&world, &run, &key, None).await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let text = until(&mut live, "second").await;
    assert!(text.contains("id: 1\n") && text.contains("\"first\"") && !text.contains("third"), "{text}");
    drop(live); // the connection breaks

    let mut again = follow(&world, &run, &key, Some("1")).await;
    let text = until(&mut again, "second").await;
    assert!(!text.contains("\"first\"") && text.contains("id: 2\n"), "{text}");
    world.gate.send_replace(true);
    let text = tokio::time::timeout(Duration::from_secs(20), again.text()).await.expect("it is over").unwrap();
    assert!(text.contains("third") && text.contains("event: end") && text.contains("\"passed\""), "{text}");

    let whole = follow(&world, &run, &key, None).await.text().await.unwrap();
    for word in ["\"first\"", "\"second\"", "\"third\"", "event: end"] {
        assert_eq!(whole.matches(word).count(), 1, "{word}: {whole}");
    }
    let late = follow(&world, &run, &key, Some("3")).await.text().await.unwrap();
    assert!(late.starts_with("event: end"), "{late}");
    assert_eq!(follow(&world, &run, &key, Some("x")).await.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_counted_and_do_not_hold_up_the_end() {
    let world = World::new().await;
    let key = world.token("ann", &[Role::Viewer], Some(OWN));
    world.tokens_are_read().await;
    let run = world.start(OWN, INSTANCES[0].1).await.to_string();
    let mut followers = Vec::new();
    for _ in 0..32 {
        let answer = follow(&world, &run, &key, None).await;
        assert_eq!(answer.status(), 200);
        followers.push(answer);
    }
    assert_eq!(follow(&world, &run, &key, None).await.status(), 429);
    world.end().await;
}
