//! Every route of the document × every role × own and other tenant. Whoever adds a route must say here what it takes.

use std::{collections::BTreeSet, time::Duration};

use lifeboat_daemon::{
    auth::tokens::{self, NewToken},
    settings::{Role, Tenants},
};
use reqwest::Method;
use serde_json::Value;

use crate::world::{INSTANCES, OTHER, OWN, World};

const SEES: &[Role] = &Role::ALL;
const ACTS: &[Role] = &[Role::Operator];
const PROVES: &[Role] = &[Role::Operator, Role::Approver, Role::Auditor];
const AUDITS: &[Role] = &[Role::Auditor];

/// Method, path, who may, and the status if they may.
const TABLE: &[(&str, &str, &[Role], u16)] = &[
    ("get", "/api/v1/status", SEES, 200),
    ("get", "/api/v1/instances/{tenant}/{instance}", SEES, 200),
    ("get", "/api/v1/points/{tenant}/{instance}", SEES, 200),
    ("get", "/api/v1/evidence", PROVES, 200),
    ("get", "/api/v1/evidence/{tenant}/{key}", PROVES, 200),
    ("get", "/api/v1/schedules", SEES, 200),
    ("get", "/api/v1/runbooks", SEES, 200),
    ("get", "/api/v1/runbook-runs", SEES, 200),
    ("get", "/api/v1/runbook-runs/{run}", SEES, 200),
    ("get", "/api/v1/storage", SEES, 200),
    ("get", "/api/v1/activity", AUDITS, 200),
    ("get", "/api/v1/runs", SEES, 200),
    ("post", "/api/v1/runs", ACTS, 202),
    ("get", "/api/v1/runs/{run}", SEES, 200),
    ("post", "/api/v1/runs/{run}/cancel", ACTS, 202),
    ("get", "/api/v1/runs/{run}/events", SEES, 200),
];

/// What stands for one tenant in an address.
struct Names {
    tenant: String,
    instance: String,
    run: String,
    key: String,
}

impl Names {
    fn path(&self, path: &str) -> String {
        path.replace("{tenant}", &self.tenant)
            .replace("{instance}", &self.instance)
            .replace("{run}", &self.run)
            .replace("{key}", &self.key)
    }

    fn body(&self) -> String {
        format!(r#"{{"tenant": "{}", "instance": "{}", "verb": "dump"}}"#, self.tenant, self.instance)
    }
}

async fn names(world: &World) -> [Names; 2] {
    let mut all = Vec::new();
    for (tenant, instance) in INSTANCES {
        let run = world.start(tenant, instance).await.to_string();
        world.runbook(tenant, instance, &run).await;
        all.push(Names {
            tenant: tenant.to_owned(),
            instance: instance.to_owned(),
            run,
            key: world.statement(tenant).await,
        });
    }
    all.try_into().unwrap_or_else(|_| panic!("two tenants"))
}

fn is_about_one(path: &str) -> bool {
    path.contains('{')
}

fn assert_hidden(text: &str, what: &str) {
    for word in [OTHER, INSTANCES[1].1] {
        assert!(!text.contains(word), "{what} tells of {word}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_every_role() {
    let world = World::new().await;
    let document: Value = serde_json::from_str(&lifeboat_daemon::api::document()).unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
        .collect();
    let listed = TABLE.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, listed, "every route stands in the table, and no other");

    let [own, other] = names(&world).await;
    let nowhere = Names {
        tenant: "nowhere".to_owned(),
        instance: other.instance.clone(),
        run: "0123456789abcdef".to_owned(),
        key: other.key.replace(OTHER, "nowhere"),
    };
    let role_keys: Vec<(Role, String)> =
        Role::ALL.into_iter().map(|role| (role, world.token(role.word(), &[role], Some(OWN)))).collect();
    world.tokens_are_read().await;

    for (method, path, roles, passes) in TABLE {
        let verb: Method = method.to_uppercase().parse().unwrap();
        let acting = *method == "post";
        for (role, key) in &role_keys {
            let asked = |names: &Names| {
                let body = acting.then(|| names.body());
                (names.path(path), body)
            };
            let what = format!("{method} {path} as {}", role.word());
            let may = roles.contains(role);

            let (place, body) = asked(&own);
            let (status, text) = world.ask(verb.clone(), &place, Some(key), body.as_deref()).await;
            // A second dump or cancel may find the first one going on.
            let fine = status == *passes || (acting && may && status == 409);
            assert!(if may { fine } else { status == 403 }, "{what}: {status} {text}");
            assert_hidden(&text, &what);

            if is_about_one(path) || acting {
                let (place, body) = asked(&other);
                let foreign = world.ask(verb.clone(), &place, Some(key), body.as_deref()).await;
                let (place, body) = asked(&nowhere);
                let absent = world.ask(verb.clone(), &place, Some(key), body.as_deref()).await;
                assert_eq!(foreign.0, 404, "{what} of the other tenant: {}", foreign.1);
                assert_eq!(foreign, absent, "{what}: what is hidden answers as what does not exist");
                assert_hidden(&foreign.1, &what);
            } else {
                let filtered = format!("{path}?tenant={OTHER}");
                let foreign = world.ask(verb.clone(), &filtered, Some(key), None).await;
                let absent = world.ask(verb.clone(), &format!("{path}?tenant=nowhere"), Some(key), None).await;
                assert_eq!(foreign, absent, "{what}: filtered by what is hidden");
                assert_hidden(&foreign.1, &what);
            }
        }
    }

    // Who may see both sees both: the table above does not pass because nothing is there.
    let all = world.token("all", &[Role::Auditor], None);
    world.tokens_are_read().await;
    for path in [
        "/api/v1/status",
        "/api/v1/runs",
        "/api/v1/evidence",
        "/api/v1/storage",
        "/api/v1/runbooks",
        "/api/v1/runbook-runs",
    ] {
        let (status, text) = world.get(path, &all).await;
        assert!(status == 200 && text.contains(OTHER) && text.contains(OWN), "{path}: {status} {text}");
    }
    let (status, text) = world.get(&other.path("/api/v1/evidence/{tenant}/{key}"), &all).await;
    assert!(status == 200 && text.contains("envelope"), "{status} {text}");
    let (_, activity) = world.get("/api/v1/activity?limit=500", &all).await;
    assert!(activity.contains("\"start\"") && activity.contains("\"cancel\""), "acts are kept: {activity}");
    assert!(activity.contains("403: this takes the role"), "refusals are kept: {activity}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_a_wrong_one_or_an_old_one_opens_nothing() {
    let world = World::new().await;
    let [own, _] = names(&world).await;
    let valid = world.token("valid", &[Role::Operator, Role::Auditor], None);
    let revoked = world.token("revoked", &[Role::Operator, Role::Auditor], None);
    let now = world.daemon.now();
    let new = NewToken {
        name: "short".to_owned(),
        roles: [Role::Operator, Role::Auditor].into(),
        tenants: Tenants::All,
        expires: now + Duration::from_secs(3600),
    };
    let expired = tokens::create(&world.tokens_file(), &new, now).unwrap().expose().to_owned();
    world.tokens_are_read().await;
    for key in [&valid, &revoked, &expired] {
        assert_eq!(world.get("/api/v1/status", key).await.0, 200);
    }
    world.clock.advance(Duration::from_secs(3600));
    assert!(tokens::revoke(&world.tokens_file(), "revoked").unwrap());
    world.tokens_are_read().await;
    assert_eq!(world.get("/api/v1/status", &valid).await.0, 200);

    // Of the last character all but two bits are padding: one that stands further in makes another key for sure.
    let (head, last) = valid.split_at(valid.len() - 2);
    let almost = format!("{head}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
    let garbage = ["", "x", "lbt_", &almost, "eyJhbGciOiJub25lIn0.e30.", "ü"];
    let keys = [None, Some(revoked.as_str()), Some(expired.as_str())].into_iter().chain(garbage.into_iter().map(Some));
    let mut answers = BTreeSet::new();
    for key in keys {
        for (method, path, ..) in TABLE {
            let body = (*method == "post").then(|| own.body());
            let verb = method.to_uppercase().parse().unwrap();
            let (status, text) = world.ask(verb, &own.path(path), key, body.as_deref()).await;
            assert_eq!(status, 401, "{method} {path} with {key:?}: {text}");
            assert_hidden(&text, path);
            answers.insert(text);
        }
    }
    assert_eq!(answers.len(), 2, "one answer for no key and one for all bad ones: {answers:?}");
    for path in ["/metrics", "/"] {
        let (status, _) = world.ask(Method::GET, path, None, None).await;
        assert!(matches!(status, 401 | 303), "{path}: {status}");
    }
    for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        let (status, text) = world.ask(Method::GET, path, None, None).await;
        assert_eq!(status, 200, "{path}");
        assert!(!text.contains(OWN), "{path}: {text}");
    }
}
