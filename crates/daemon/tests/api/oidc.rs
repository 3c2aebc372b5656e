//! Sign-in at a real identity provider, and its tokens: what they open, and which of them open nothing.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use lifeboat_testkit::testbed;
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::world::{OTHER, OWN, Plan, World};

const SECRET: &str = "a secret + with / signs & more of them";
const AUDIENCE: &str = "https://lifeboat.example/api";

/// The provider, and a daemon that trusts it.
struct Place {
    _provider: Child,
    issuer: String,
    world: World,
}

async fn place() -> Place {
    let folder = testbed::state_dir().join("oidc");
    assert!(folder.join("node_modules/oidc-provider").exists(), "{} is empty; run testbed/oidc", folder.display());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (base, issuer) = (format!("http://{}", listener.local_addr().unwrap()), format!("http://127.0.0.1:{port}"));
    let mut provider = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/provider.mjs"))
        .arg(&folder)
        .args([&port.to_string(), &format!("{base}/auth/callback"), SECRET])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(provider.stdout.take().unwrap()).lines();
    let listens = async { while lines.next_line().await.unwrap().expect("it lives") != "listens" {} };
    tokio::time::timeout(Duration::from_secs(60), listens).await.expect("the provider starts");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("secret");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let sections = format!(
        "[oidc]\nissuer = \"{issuer}\"\nclient_id = \"lifeboat\"\nclient_secret_file = {file:?}\naudience = \"{AUDIENCE}\"\n\
         [[oidc.grant]]\ngroup = \"backup-operators\"\nrole = \"operator\"\ntenants = [\"{OWN}\"]\n\
         [[oidc.grant]]\ngroup = \"auditors\"\nrole = \"auditor\"\ntenants = [\"{OTHER}\"]\n",
    );
    let settings = format!("public_url = \"{base}\"");
    let world = World::with(Plan { settings, sections, listener: Some(listener), ..Plan::default() }).await;
    std::mem::forget(secrets); // read at each sign-in; the system's cleaning takes it
    Place { _provider: provider, issuer, world }
}

/// Somebody's browser: keeps cookies, and shows each redirect.
fn browser() -> Client {
    let none = reqwest::redirect::Policy::none();
    Client::builder().cookie_store(true).redirect(none).no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

fn target(answer: &Response) -> Url {
    let text = answer.headers()["location"].to_str().unwrap();
    answer.url().join(text).unwrap()
}

impl Place {
    /// Goes through the provider's pages as this person, until it sends the browser back to the daemon.
    async fn to_callback(&self, browser: &Client, person: &str) -> Url {
        let mut answer = browser.get(format!("{}/auth/start?to=%2Fruns%2F1", self.world.base)).send().await.unwrap();
        for _ in 0..20 {
            if answer.status().is_redirection() {
                let next = target(&answer);
                if next.as_str().starts_with(&self.world.base) {
                    return next;
                }
                answer = browser.get(next).send().await.unwrap();
                continue;
            }
            let place = answer.url().clone();
            let page = answer.text().await.unwrap();
            let fields = match page.contains("name=\"login\"") {
                true => format!("prompt=login&login={person}&password=any"),
                false => "prompt=consent".to_owned(),
            };
            let form = browser.post(place).header("content-type", "application/x-www-form-urlencoded").body(fields);
            answer = form.send().await.unwrap();
        }
        panic!("the provider sends nobody back");
    }

    async fn status(&self, browser: &Client) -> (u16, String) {
        crate::world::told(browser.get(format!("{}/api/v1/status", self.world.base)).send().await.unwrap()).await
    }

    /// A token with these claims, signed by the provider.
    async fn forge(&self, header: Value, claims: Value, key: Option<&str>) -> String {
        let mut place: Url = format!("{}/forge", self.issuer).parse().unwrap();
        place.query_pairs_mut().append_pair("token", &json!({"header": header, "claims": claims}).to_string());
        if let Some(key) = key {
            place.query_pairs_mut().append_pair("key", key);
        }
        self.world.client.get(place).send().await.unwrap().text().await.unwrap()
    }

    async fn asked(&self) -> u32 {
        let answer = self.world.client.get(format!("{}/asked", self.issuer)).send().await.unwrap();
        answer.text().await.unwrap().parse().unwrap()
    }

    fn claims(&self) -> Value {
        let now = self.world.daemon.now().as_second();
        json!({"iss": self.issuer, "sub": "x", "aud": AUDIENCE, "exp": now + 600, "groups": ["backup-operators"]})
    }
}

fn with(claims: &Value, changes: Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_and_see_what_their_groups_may() {
    if !testbed::enabled() {
        return;
    }
    let place = place().await;
    let ann = browser();
    let callback = place.to_callback(&ann, "ann").await;

    // What came back is worth nothing in another browser, nor with another state.
    let thief = browser();
    let stolen = thief.get(callback.clone()).send().await.unwrap();
    assert!(target(&stolen).as_str().contains("problem=flow"));
    assert_eq!(place.status(&thief).await.0, 401);

    let answer = ann.get(callback.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.unwrap();
    assert!(page.contains("0;url=/runs/1"), "{page}");
    let (status, text) = place.status(&ann).await;
    assert!(status == 200 && text.contains("clinic") && !text.contains(OTHER), "{status} {text}");
    let again = ann.get(callback).send().await.unwrap();
    assert!(target(&again).as_str().contains("problem=flow"), "an answer counts once");

    let mallory = browser();
    let mut changed = place.to_callback(&mallory, "ann").await;
    let pairs: Vec<_> = changed.query_pairs().into_owned().filter(|(name, _)| name != "state").collect();
    changed.query_pairs_mut().clear().extend_pairs(pairs).append_pair("state", "another");
    assert!(target(&mallory.get(changed).send().await.unwrap()).as_str().contains("problem=flow"));
    assert_eq!(place.status(&mallory).await.0, 401);

    // Known, and in no group that may anything.
    let bob = browser();
    let callback = place.to_callback(&bob, "bob").await;
    assert_eq!(bob.get(callback).send().await.unwrap().status(), 200);
    let (status, text) = place.status(&bob).await;
    assert_eq!(status, 403, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_programs_open_what_their_groups_may_and_bad_ones_nothing() {
    if !testbed::enabled() {
        return;
    }
    let place = place().await;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("resource", AUDIENCE)
        .append_pair("scope", "api")
        .finish();
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let request = place.world.client.post(format!("{}/token", place.issuer)).basic_auth("program", Some(encoded));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let (status, text) = place.world.get("/api/v1/status", &token).await;
    assert!(status == 200 && text.contains(OTHER), "{status} {text}");
    assert_eq!(place.world.get("/api/v1/evidence", &token).await.0, 200);

    let good = place.claims();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = place.forge(json!({"alg": algorithm, "kid": algorithm}), good.clone(), None).await;
        let (status, text) = place.world.get("/api/v1/status", &token).await;
        assert!(status == 200 && text.contains("clinic"), "{algorithm}: {status} {text}");
        let other = format!("{}{}", &token[..token.len() - 3], if token.ends_with("AAA") { "BBB" } else { "AAA" });
        assert_eq!(place.world.get("/api/v1/status", &other).await.0, 401, "{algorithm} with another signature");
    }
    let now = place.world.daemon.now().as_second();
    let header = json!({"alg": "RS256", "kid": "RS256"});
    for (what, header, changes) in [
        ("expired", header.clone(), json!({"exp": now - 61})),
        ("without an end", header.clone(), json!({"exp": null})),
        ("not valid yet", header.clone(), json!({"nbf": now + 300})),
        ("for somebody else", header.clone(), json!({"aud": "https://other.example"})),
        ("for nobody", header.clone(), json!({"aud": null})),
        ("of another issuer", header.clone(), json!({"iss": "https://evil.example"})),
        ("of nobody", header.clone(), json!({"iss": null})),
        ("about nobody", header.clone(), json!({"sub": null})),
        ("signed with the public key as a secret", json!({"alg": "HS256", "kid": "RS256"}), json!({})),
        ("with the name of another key", json!({"alg": "RS256", "kid": "ES256"}), json!({})),
    ] {
        let token = place.forge(header, with(&good, changes), None).await;
        let (status, text) = place.world.get("/api/v1/status", &token).await;
        assert_eq!(status, 401, "{what}: {text}");
        assert!(text.contains("unknown, expired or revoked"), "{what}: {text}");
    }
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    for header in [json!({"alg": "none"}), json!({"alg": "None", "kid": "RS256"})] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", encode(&header), encode(&good));
            assert_eq!(place.world.get("/api/v1/status", &token).await.0, 401, "{token}");
        }
    }

    // Keys that are not known make the daemon ask the provider again, and not for each of them.
    let before = place.asked().await;
    for number in 0..20 {
        let header = json!({"alg": "RS256", "kid": format!("unknown-{number}")});
        let token = place.forge(header, good.clone(), None).await;
        assert_eq!(place.world.get("/api/v1/status", &token).await.0, 401);
    }
    let more = place.asked().await - before;
    assert!(more <= 1, "{more} questions");
}
