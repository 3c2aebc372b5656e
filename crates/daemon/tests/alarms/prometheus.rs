//! What is shipped for Prometheus and Grafana, held against real programs: rules and their tests by promtool, names by its linter on
//! a real scrape, every expression against a real Prometheus that scrapes a served daemon.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lifeboat_daemon::{
    api,
    auth::tokens::{self, NewToken},
    settings::{Role, Tenants},
};
use lifeboat_engine::status::Facts;
use lifeboat_testkit::testbed;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::site::{Served, Site, within};

fn program(name: &str) -> PathBuf {
    let path = testbed::state_dir().join("prometheus/usr/bin").join(name);
    assert!(path.exists(), "{} is missing; run testbed/packages prometheus", path.display());
    path
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring").join(name)
}

fn promtool(arguments: &[&str], file: &Path) {
    let done = Command::new(program("promtool")).args(arguments).arg(file).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(done.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn rules_are_good_and_fire_when_they_should() {
    if testbed::enabled() {
        promtool(&["check", "rules"], &shipped("alerts.yml"));
        promtool(&["test", "rules"], &shipped("alerts_test.yml"));
    }
}

/// Everything that can be known of an instance.
fn facts(now: jiff::Timestamp) -> Facts {
    let drill = json!({
        "run": "0000000000000001", "point": null, "kind": null, "started": now, "finished": now, "outcome": "passed",
        "rpo_seconds": 2.0, "rto_seconds": 900.0, "first_bad": null, "other_images": [], "evidence": "evidence/1",
    });
    serde_json::from_value(json!({
        "instance": "clinic", "tier": "gold", "owner": "Ann", "looked": now, "looked_slowly": now,
        "targets": {"rpo_seconds": 900.0, "rto_seconds": 14400.0, "drill_every_seconds": 604800.0},
        "points": {"stored": 3, "newest": {"id": "0000000000000001", "started": now, "finished": now}, "passed_over": 0},
        "wal": {
            "newest_commit": now, "waiting_since": now, "waiting_bytes": 5, "not_asked": null,
            "slot": {
                "name": "lifeboat", "wal_status": "extended", "active": true, "held_back_bytes": 9, "limit_bytes": 99,
                "lost_at": now,
            },
        },
        "windows": [{"timeline": 1, "from": now, "to": now}],
        "drill": drill, "drills_passed_over": 0, "rto_trend": [], "control": drill,
        "locks": {
            "mode": "compliance", "newest_until": now, "not_locked": null,
            "proof": {"at": now, "objects": 4, "short": 0},
        },
        "copies": [{
            "name": "far", "newest_started": now, "missing_points": 1, "missing_wal_bytes": 7, "lacks_wal": false,
            "reaches": now, "not_asked": null,
        }],
        "standbys": {"found": [{
            "name": "replica", "address": null, "state": "streaming", "sync_state": "async", "replay_lag_bytes": 1,
            "replay_lag_seconds": 0.5, "not_ready": null,
        }], "hidden": 0, "not_asked": null},
        "certificates": [{
            "of": "PostgreSQL of clinic", "endpoint": "db:5432", "not_after": now, "not_asked": null, "not_trusted": null,
        }],
        "keys": [{"recipient": "age1", "name": null, "last_rehearsed": now, "not_known": null, "worries": []}],
        "storage": {"objects": 9, "bytes": 99, "wal_bytes": 9, "pack_bytes": 80},
        "unknown": ["the weather"],
    }))
    .unwrap()
}

/// Serves a daemon; its address, and a token that may see everything, as a file.
async fn serve(site: &Site, served: &Served, cancel: &CancellationToken) -> (String, PathBuf) {
    let now = served.daemon.now();
    served.daemon.state.put_facts(&"acme".parse().unwrap(), &facts(now)).await.unwrap();
    served.daemon.dispatched.store(now.as_second(), std::sync::atomic::Ordering::Relaxed);
    let new = |name: &str, tenants| NewToken {
        name: name.to_owned(),
        roles: [Role::Viewer].into(),
        tenants,
        expires: now + jiff::SignedDuration::from_hours(24 * 30),
    };
    let file = served.daemon.policies().settings.tokens_file.clone();
    let all = tokens::create(&file, &new("prometheus", Tenants::All), now).unwrap();
    let other = tokens::create(&file, &new("other", Tenants::Some(["zeta".parse().unwrap()].into())), now).unwrap();
    site.write("token", all.expose());
    site.write("other", other.expose());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (daemon, cancel) = (Arc::clone(&served.daemon), cancel.clone());
    tokio::spawn(async move { api::serve(daemon, listener, None, cancel).await.unwrap() });
    (address, site.path("token"))
}

fn scrape(address: &str, token: &Path, accept: &str) -> String {
    let token = fs::read_to_string(token).unwrap();
    let done = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-H", &format!("Accept: {accept}"), "-H"])
        .arg(format!("Authorization: Bearer {token}"))
        .arg(format!("http://{address}/metrics"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    fn start(site: &Site, target: &str, token: &Path) -> Prometheus {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        // The shipped example, pointed at this daemon.
        let example = fs::read_to_string(shipped("prometheus.yml")).unwrap();
        let example = example
            .replace("/etc/prometheus/lifeboat-token", token.to_str().unwrap())
            .replace("scheme: https", "scheme: http")
            .replace("lifeboat.example.org:8440", target)
            .replace("scrape_interval: 30s", "scrape_interval: 1s")
            .replace("alerts.yml", shipped("alerts.yml").canonicalize().unwrap().to_str().unwrap());
        site.write("prometheus.yml", &example);
        promtool(&["check", "config"], &site.path("prometheus.yml"));
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", site.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", site.path("series").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::from(fs::File::create(site.path("prometheus.log")).unwrap()))
            .spawn()
            .unwrap();
        Prometheus { child, url: format!("http://{address}/api/v1/query") }
    }

    fn query(&self, expression: &str) -> Option<Value> {
        let done = Command::new("curl")
            .args(["-sS", "--get", "--data-urlencode", &format!("query={expression}"), &self.url])
            .output()
            .unwrap();
        serde_json::from_slice(&done.stdout).ok()
    }

    /// Series that an expression gives now.
    fn found(&self, expression: &str) -> usize {
        let answer = self.query(expression).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every expression that is shipped, as it would be asked.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(shipped("grafana.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut found: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(found.len() > 30, "{}", found.len());
    let rules = fs::read_to_string(shipped("alerts.yml")).unwrap();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        match line.trim().strip_prefix("expr: ") {
            Some("|") => {
                let mut expression = String::new();
                while lines.peek().is_some_and(|line| line.starts_with("          ")) {
                    expression.push_str(lines.next().unwrap().trim());
                    expression.push(' ');
                }
                found.push(expression);
            }
            Some(expression) => found.push(expression.to_owned()),
            None => {}
        }
    }
    found.into_iter().map(|expression| expression.replace("$tenant", ".*").replace("$instance", ".*")).collect()
}

fn names(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !word(c)).map(str::to_owned);
    words.filter(|name| name.starts_with("lifeboat_") || name.starts_with("process_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_and_understands_everything_that_is_shipped() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new("[notify.channels.hook]\nkind = \"webhook\"\nurl_file = \"url\"\n");
    site.write("url", "http://127.0.0.1:9/");
    let served = site.serve().await;
    served.breaks("docker");
    let cancel = CancellationToken::new();
    let (address, token) = serve(&site, &served, &cancel).await;
    let plain = scrape(&address, &token, "text/plain");
    site.write("scrape.txt", &plain);
    let lint = Command::new("sh")
        .args(["-c", "exec \"$0\" check metrics < \"$1\""])
        .arg(program("promtool"))
        .arg(site.path("scrape.txt"))
        .output()
        .unwrap();
    assert!(lint.status.success() && lint.stderr.is_empty(), "{}", String::from_utf8_lossy(&lint.stderr));
    // Another tenant's token shows nothing of this one.
    let other = scrape(&address, &site.path("other"), "application/openmetrics-text");
    assert!(other.contains("lifeboat_build_info") && !other.contains("acme") && !other.contains("clinic"), "{other}");
    assert!(!other.contains("process_") && !other.contains("hook"), "{other}");

    let prometheus = Prometheus::start(&site, &address, &token);
    within("a scrape", async || {
        let answer = prometheus.query("up{job=\"lifeboat\"} == 1")?;
        (!answer["data"]["result"].as_array()?.is_empty()).then_some(())
    })
    .await;
    assert_eq!(prometheus.found("lifeboat_instance_info{instance=\"clinic\",tenant=\"acme\"}"), 1);
    // Of what is only counted once runs end, the name alone can be checked.
    let later =
        ["lifeboat_runs_total", "lifeboat_run_duration_seconds_bucket", "lifeboat_rpo_exceeded_timestamp_seconds"];
    for expression in expressions() {
        prometheus.found(&expression);
        for name in names(&expression).iter().filter(|name| !later.contains(&name.as_str())) {
            assert!(prometheus.found(name) > 0, "{name}, which {expression} asks for, does not exist");
        }
    }
    drop(prometheus);
    cancel.cancel();
    served.stop().await;
}
