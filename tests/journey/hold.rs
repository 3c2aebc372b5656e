//! A drill that is held: whoever asked for it looks into the sandbox, and nothing that the drill found changes by that.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lifeboat_testkit::testbed;
use serde_json::Value;

use super::passed;
use crate::support::{Settings, Site, text};

/// A drill takes half a minute on a host that has much to do.
const PATIENCE: Duration = Duration::from_secs(240);

/// Longer than a drill's own time may vary, shorter than anybody waits for.
const LOOKED: Duration = Duration::from_secs(3);

/// What the file tells, once it has this.
fn told(child: &mut Child, file: &Path, what: &str) -> Value {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let known = fs::read(file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if let Some(known) = known.filter(|known| known[what].is_object()) {
            return known;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the drill ended before it told of {what}");
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{} tells nothing of {what}", file.display());
}

/// What Odoo's page of its health answers; none: nobody does.
fn health(serving: &Value) -> Option<String> {
    let url = format!("{}web/health", serving["url"].as_str().unwrap());
    let output = Command::new("curl").args(["-s", "--max-time", "20", &url]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

async fn count(serving: &Value) -> i64 {
    let mut config = tokio_postgres::Config::new();
    config.host(serving["socket"].as_str().unwrap()).port(serving["port"].as_u64().unwrap() as u16);
    config.user(serving["role"].as_str().unwrap()).dbname(serving["databases"][0].as_str().unwrap());
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one("SELECT count(*) FROM res_users", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_held_drill_can_be_looked_into_and_says_what_it_would_have_said() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let file = site.dir.path().join("hold.json");
    let (hold, identity) = (file.to_str().unwrap().to_owned(), site.identity());
    let arguments =
        ["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json", "--hold=10m", "--hold-file", &hold];
    let mut drill = site.command(&arguments);
    let mut drill = drill.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = drill.stdin.take().unwrap();

    let restored = told(&mut drill, &file, "restored");
    assert!(restored["restored"]["newest_commit"].is_string(), "{restored:#}");
    assert!(Path::new(restored["restored"]["folder"].as_str().unwrap()).join("pgdata/PG_VERSION").exists());
    let known = told(&mut drill, &file, "serving");
    let serving = &known["serving"];
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(health(serving).unwrap().contains("pass"));
    assert!(count(serving).await > 1);
    let again = site.run(&arguments);
    assert!(again.status.code() == Some(2) && text(&again).contains("is there already"), "{}", text(&again));
    thread::sleep(LOOKED);
    assert_eq!(drill.try_wait().unwrap(), None, "nobody has said that it is enough");
    writeln!(stdin).unwrap();

    let ended = tokio::task::spawn_blocking(move || drill.wait_with_output().unwrap()).await.unwrap();
    let answer: Value =
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&ended)));
    let answer = passed((ended.status.code().unwrap(), answer));
    assert_eq!(answer["point"], known["restored"]["point"]);
    assert!(answer["evidence"].is_string(), "{answer:#}");
    assert_eq!(health(serving), None, "the sandbox is gone");
    assert!(!file.exists() && !Path::new(serving["socket"].as_str().unwrap()).exists());
    // The time in which it was only held is nobody's work.
    let counted = answer["breakdown"]["total_ms"].as_f64().unwrap() / 1000.0;
    let all = answer["seconds"].as_f64().unwrap();
    assert!(counted + LOOKED.as_secs_f64() <= all, "{counted} of {all}");
    assert!(answer["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().starts_with("held for ")));
    for login in serving["logins"].as_array().unwrap() {
        let (said, password) = (text(&ended), login["password"].as_str().unwrap());
        assert!(!said.contains(password) && said.contains(login["login"].as_str().unwrap()), "{said}");
    }
}
