//! How it is served: TLS, bounds, headers, and answers to what is not understood.

use std::{net::TcpListener, num::NonZeroU32, process::Command, time::Duration};

use lifeboat_daemon::{
    auth::Allowances,
    settings::{Role, Tls},
};
use reqwest::Method;

use crate::world::{OWN, Plan, World, roomy, told};

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key_file)
        .arg("-out")
        .arg(&cert_file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let section = format!("[tls]\ncert_file = {cert_file:?}\nkey_file = {key_file:?}\n");
    let tls = Some(Tls { cert_file: cert_file.clone(), key_file });
    let world = World::with(Plan { tls, sections: section, ..Plan::default() }).await;
    let token = world.token("ann", &[Role::Viewer], Some(OWN));
    world.tokens_are_read().await;
    let pem = reqwest::Certificate::from_pem(&std::fs::read(&cert_file).unwrap()).unwrap();
    let trusting = reqwest::Client::builder().no_proxy().tls_certs_only([pem]).build().unwrap();
    let answer = trusting.get(format!("{}/api/v1/status", world.base)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    let login = trusting.post(format!("{}/login", world.base)).body(format!("token={token}"));
    let login = login.header("content-type", "application/x-www-form-urlencoded").build().unwrap();
    let once = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(&cert_file).unwrap()).unwrap()])
        .build()
        .unwrap();
    let answer = once.execute(login).await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-lifeboat=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(
        world.client.get(format!("{}/healthz", world.base)).send().await.is_err(),
        "nobody vouches for it elsewhere"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_in_one_shape() {
    let world = World::new().await;
    let key = world.token("ann", &[Role::Operator], Some(OWN));
    world.tokens_are_read().await;
    let large = format!(r#"{{"tenant": "{}"}}"#, "x".repeat(70_000));
    let start = "/api/v1/runs";
    for (method, path, body, expected) in [
        (Method::GET, "/api/v1/runs?limit=0", None, 400),
        (Method::GET, "/api/v1/runs?limit=501", None, 400),
        (Method::GET, "/api/v1/runs?limit=2&limit=3", None, 400),
        (Method::GET, "/api/v1/runs?tenant=No%20Name", None, 400),
        (Method::GET, "/api/v1/runs?nonsense=1", None, 400),
        (Method::GET, "/api/v1/runs?before=yesterday", None, 400),
        (Method::GET, "/api/v1/runs/xyz", None, 404),
        (Method::GET, "/api/v1/runs/%ff", None, 404),
        (Method::GET, "/api/v1/instances/No%20Name/clinic", None, 404),
        (Method::GET, "/api/v1/nothing", None, 404),
        (Method::DELETE, "/api/v1/runs", None, 405),
        (Method::POST, start, Some("{"), 400),
        (Method::POST, start, Some("{}"), 422),
        (Method::POST, start, Some(r#"{"tenant": "north", "verb": "backup"}"#), 422),
        (Method::POST, start, Some(r#"{"tenant": "north", "instance": "clinic", "verb": "audit"}"#), 422),
        (Method::POST, start, Some(r#"{"tenant": "north", "instance": "nobody", "verb": "backup"}"#), 404),
        (Method::POST, start, Some(large.as_str()), 413),
    ] {
        let (status, text) = world.ask(method.clone(), path, Some(&key), body).await;
        assert_eq!(status, expected, "{method} {path}: {text}");
        let problem: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
        assert!(problem["error"]["message"].is_string(), "{text}");
    }
    let plain = world.client.post(format!("{}{start}", world.base)).bearer_auth(&key).body("{}").send().await.unwrap();
    assert_eq!(told(plain).await.0, 415);

    let answer = world.client.get(format!("{}/healthz", world.base)).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("x-frame-options", "DENY")]
    {
        assert_eq!(answer.headers()[name], value);
    }
    assert!(!answer.headers().contains_key("strict-transport-security"), "not without TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let few = Allowances { caller: NonZeroU32::new(5).unwrap(), failures: NonZeroU32::new(3).unwrap(), ..roomy() };
    let world = World::with(Plan { allowances: Some(few), ..Plan::default() }).await;
    let (ann, bob) = (world.token("ann", &[Role::Viewer], None), world.token("bob", &[Role::Auditor], None));
    world.tokens_are_read().await;
    let mut refused = 0;
    for _ in 0..60 {
        let answer = world.client.get(format!("{}/api/v1/status", world.base)).bearer_auth(&ann).send().await.unwrap();
        if answer.status() == 429 {
            refused += 1;
            let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds));
        }
    }
    assert!(refused > 10, "{refused} were refused");
    assert_eq!(world.get("/api/v1/status", &bob).await.0, 200, "others are not");

    let mut statuses = Vec::new();
    for number in 0..6 {
        statuses.push(world.get("/api/v1/status", &format!("lbt_guess{number}")).await.0);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429, 429]);
    assert_eq!(world.get("/api/v1/status", &bob).await.0, 200, "a key that opens still does");
    let (_, activity) = world.get("/api/v1/activity?limit=500", &bob).await;
    let rows = activity.matches("GET /api/v1/status").count();
    assert!((2..=4).contains(&rows), "a flood is a few rows: {activity}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dawdles_is_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _world = World::with(Plan { listener: Some(listener), ..Plan::default() }).await;
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap(); // and never the end of it
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the server waits for ever");

    let mut huge = tokio::net::TcpStream::connect(address).await.unwrap();
    let line = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let _ = huge.write_all(line.as_bytes()).await; // it may be closed before all is sent
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), huge.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
