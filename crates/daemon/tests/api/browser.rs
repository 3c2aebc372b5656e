//! Sessions: signing in and out, what other sites cannot do, and what ends them.

use std::time::Duration;

use lifeboat_daemon::{auth::tokens, settings::Role};
use reqwest::{Method, Response};

use crate::world::{OWN, World, told};

/// The value of a cookie that an answer sets.
fn cookie(answer: &Response) -> Option<String> {
    let all = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let own = all.filter_map(|text| text.strip_prefix("lifeboat=")).filter_map(|text| text.split(';').next());
    own.map(str::to_owned).next().filter(|value| !value.is_empty())
}

async fn sign_in(world: &World, token: &str, with: Option<&str>) -> Response {
    let request = world.client.post(format!("{}/login", world.base));
    let request = match with {
        Some(cookie) => request.header("cookie", format!("lifeboat={cookie}")),
        None => request,
    };
    let form = "application/x-www-form-urlencoded";
    request.header("content-type", form).body(format!("token={token}&to=%2Fstorage")).send().await.unwrap()
}

async fn with_cookie(
    world: &World,
    method: Method,
    path: &str,
    cookie: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let mut request = world.client.request(method.clone(), format!("{}{path}", world.base));
    request = request.header("cookie", format!("lifeboat={cookie}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == Method::POST && path.starts_with("/api") {
        let body = r#"{"tenant": "north", "instance": "clinic", "verb": "dump"}"#;
        request = request.header("content-type", "application/json").body(body);
    }
    told(request.send().await.unwrap()).await
}

/// The hidden field of the forms that a page has.
fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("a form: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_until_it_ends() {
    let world = World::new().await;
    let token = world.token("ann", &[Role::Operator], Some(OWN));
    world.tokens_are_read().await;

    let refused = sign_in(&world, "lbt_wrong", None).await;
    assert_eq!(refused.status(), 303);
    assert!(refused.headers()["location"].to_str().unwrap().starts_with("/login?problem=token"));
    assert_eq!(cookie(&refused), None);

    // A cookie that somebody else chose is never made a session.
    let answer = sign_in(&world, &token, Some("chosen-by-somebody-else")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/storage"));
    let text = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(text.contains("; HttpOnly; SameSite=Strict; Max-Age=43200"), "{text}");
    let first = cookie(&answer).unwrap();
    assert_ne!(first, "chosen-by-somebody-else");
    let fixed = with_cookie(&world, Method::GET, "/api/v1/status", "chosen-by-somebody-else", &[]).await;
    assert_eq!(fixed.0, 401);
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &first, &[]).await.0, 200);

    // Signing in again ends the session before.
    let second = cookie(&sign_in(&world, &token, Some(&first)).await).unwrap();
    assert_ne!(first, second);
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &first, &[]).await.0, 401);
    let (status, page) = with_cookie(&world, Method::GET, "/", &second, &[]).await;
    assert_eq!(status, 200, "{page}");

    // Signing out takes the form of this session.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(with_cookie(&world, Method::POST, "/logout", &second, &form).await.0, 403);
    let out = world.client.post(format!("{}/logout", world.base)).header("cookie", format!("lifeboat={second}"));
    let out = out.header(form[0].0, form[0].1).body(format!("csrf={}", csrf(&page))).send().await.unwrap();
    assert_eq!((out.status().as_u16(), out.headers()["location"].to_str().unwrap()), (303, "/login"));
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &second, &[]).await.0, 401);

    // It ends with its time, and with the token that it was begun with.
    let third = cookie(&sign_in(&world, &token, None).await).unwrap();
    world.clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &third, &[]).await.0, 401);
    let fourth = cookie(&sign_in(&world, &token, None).await).unwrap();
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &fourth, &[]).await.0, 200);
    tokens::revoke(&world.tokens_file(), "ann").unwrap();
    world.tokens_are_read().await;
    assert_eq!(with_cookie(&world, Method::GET, "/api/v1/status", &fourth, &[]).await.0, 401);
    let mut looked = 0;
    for file in std::fs::read_dir(world.folder.path().join("state")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            looked += 1;
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(fourth.len()).any(|window| window == fourth.as_bytes());
            assert!(!found, "{} holds a cookie", file.display());
        }
    }
    assert!(looked >= 2, "the state is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_cannot_act_with_a_session() {
    let world = World::new().await;
    let token = world.token("ann", &[Role::Operator], Some(OWN));
    world.tokens_are_read().await;
    let session = cookie(&sign_in(&world, &token, None).await).unwrap();
    let (_, page) = with_cookie(&world, Method::GET, "/", &session, &[]).await;
    let own = csrf(&page);
    let origin = world.base.clone();
    let post =
        async |headers: &[(&str, &str)]| with_cookie(&world, Method::POST, "/api/v1/runs", &session, headers).await;
    for foreign in [
        &[][..],
        &[("x-csrf", "guess")],
        &[("x-csrf", own.as_str()), ("sec-fetch-site", "cross-site")],
        &[("x-csrf", own.as_str()), ("sec-fetch-site", "same-site")],
        &[("x-csrf", own.as_str()), ("origin", "https://evil.example")],
        &[("x-csrf", own.as_str()), ("origin", "null")],
    ] {
        let (status, text) = post(foreign).await;
        assert_eq!(status, 403, "{foreign:?}: {text}");
    }
    let (status, text) = post(&[("x-csrf", &own), ("sec-fetch-site", "same-origin"), ("origin", &origin)]).await;
    assert_eq!(status, 202, "{text}");

    // Nobody is signed in by another site's form either.
    let login = world.client.post(format!("{}/login", world.base)).header("sec-fetch-site", "cross-site");
    let login = login.header("content-type", "application/x-www-form-urlencoded").body(format!("token={token}"));
    let answer = login.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), cookie(&answer)), (403, None));
}
