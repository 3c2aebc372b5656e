//! A runbook is practised: its steps are done in the sandbox of a drill, production is left alone, and the drill's evidence is the
//! practice's.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use lifeboat_testkit::testbed;
use serde_json::Value;

use super::nothing_left;
use crate::support::{Settings, Site, text};

/// On a host that has much to do.
const PATIENCE: Duration = Duration::from_secs(180);

const RUNBOOK: &str = r##"# Bring the clinic back

```toml
[runbook]
id = "back"
summary = "It is gone"
roles = ["operator"]
rto = "1h"
needs = ["postgresql", "object-storage"]

[parameters.instance]
kind = "instance"
default = "clinic"

[parameters.key]
kind = "secret-file"
```

## Before anything is there

```toml
action = "sql"
instance = "{{instance}}"
database = "demo"
sql = "SELECT 1"
```

## Stop

```toml
action = "stop"
containers = ["production-that-nobody-may-touch"]
```

## Restore

```toml
action = "restore"
instance = "{{instance}}"
identity_file = "{{key}}"
to = "/srv/never-written"
```

## Place

```toml
action = "command"
run = ["test", "-f", "{{restore.directory}}/pgdata/PG_VERSION"]
effect = "nothing"
```

## Start

```toml
action = "start"
containers = ["never-started"]
```

## Healthy

```toml
action = "wait"
until = { action = "odoo", url = "https://erp.example.org", check = "health" }
```

## Users

```toml
action = "sql"
instance = "{{instance}}"
database = "demo"
sql = "SELECT count(*) FROM res_users WHERE login LIKE $1"
parameters = ["lifeboat-sandbox-%"]
equals = "1"
```

## Mark

```toml
action = "sql"
host = "db.example.org"
user = "odoo"
database = "demo"
sql = "CREATE TABLE practised AS SELECT 1"
effect = "changes"
```

## Page

```toml
action = "http"
url = "https://erp.example.org/web/login"
contains = "password"
```

## Somebody else

```toml
action = "http"
url = "https://status.example.org/"
```

## Modules

```toml
action = "odoo"
url = "https://erp.example.org"
check = "modules"
database = "demo"
user = "admin"
password_file = "/nowhere/password"
modules = ["base", "web"]
```

## Verify

```toml
action = "verify"
instance = "{{instance}}"
restored_by = "restore"
rungs = ["files", "replay", "structure", "data", "attachments", "boot", "use"]
```

## Tell

```toml
action = "notify"
channels = ["business"]
subject = "{{instance}} is back as of {{restore.newest-commit}}"
```
"##;

/// A run is killed in the middle of its drill, which notices and tears down. What was cut off is begun anew.
fn killed_it_leaves_nothing(site: &Site, run: &[&str]) {
    let drills = || -> Vec<PathBuf> {
        let entries = fs::read_dir(site.dir.path().join("state/drills")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("drill-")).collect()
    };
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", drills());
            thread::sleep(Duration::from_millis(50));
        }
    };
    let mut executor = site.command(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Its containers are started when there is a way in.
    let is_under_way = |drill: &PathBuf| drill.join("gate-postgres").exists();
    wait("a drill is begun", &|| drills().iter().any(is_under_way));
    let name = drills()[0].file_name().unwrap().to_str().unwrap().to_owned();
    executor.kill().unwrap();
    executor.wait().unwrap();
    wait("it is torn down", &|| drills().is_empty());
    nothing_left(&serde_json::json!({ "run": name.trim_start_matches("drill-") }));
    let again = site.run(&["runbook", "resume", "latest"]);
    assert!(again.status.code() == Some(2) && text(&again).contains("practice"), "{}", text(&again));
}

#[test]
fn a_runbook_is_practised_in_a_drill() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let folder = site.dir.path().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("back.md"), RUNBOOK).unwrap();
    let key = format!("key={}", site.identity().display());
    let run = ["runbook", "run", "back", "--set", &key, "--mode", "practice", "--json"];
    killed_it_leaves_nothing(&site, &run);
    let output = site.run(&run);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!((output.status.code(), answer["stand"].as_str()), (Some(0), Some("passed")), "{answer:#}");

    let steps = answer["steps"].as_array().unwrap();
    let of = |id: &str| steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("{id}: {answer:#}"));
    let done = ["restore", "place", "start", "healthy", "users", "mark", "page", "modules", "verify", "tell"];
    assert!(done.iter().all(|id| of(id)["outcome"] == "passed") && steps.len() == done.len(), "{answer:#}");
    let passed_over: Vec<&str> =
        answer["not_practised"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    assert_eq!(passed_over, ["before-anything-is-there", "stop", "somebody-else"]);
    assert!(of("verify")["outputs"]["checks"].as_str().unwrap().parse::<u32>().unwrap() >= 10, "{answer:#}");
    assert!(text(&output).contains("is back as of 20"), "what is told is shown: {}", text(&output));

    // Its last line says where the proof is, and the proof says who asked for it.
    let journal = fs::read_to_string(answer["journal"].as_str().unwrap()).unwrap();
    let last: Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
    let outputs: BTreeMap<String, String> = serde_json::from_value(last["outputs"].clone()).unwrap();
    assert_eq!(last["event"], "finished", "{last:#}");
    nothing_left(&serde_json::json!({ "run": outputs["drill"] }));
    let shown = site.json(&["evidence", "show", &outputs["drill"]]);
    let proof = &shown["statement"]["predicate"];
    assert_eq!(proof["outcome"], "passed", "{shown:#}");
    let wanted = format!("runbook back, run {}", answer["run"].as_str().unwrap());
    assert!(proof["started_by"]["command"].as_str().unwrap().contains(&wanted), "{:#}", proof["started_by"]);
    assert!(site.repository().join(&outputs["evidence"]).exists(), "{outputs:?}");
    assert!(!std::path::Path::new("/srv/never-written").exists());
}
