//! Every step that touches a server, in one runbook, against the real thing: PostgreSQL, Docker, Odoo, and a small web server that
//! remembers what it was asked.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use lifeboat_testkit::{postgres, testbed};
use serde_json::Value;

use crate::support::text;

const RUNBOOK: &str = r##"# Steps

```toml
[runbook]
id = "steps"
summary = "To see that each does what it says"
roles = ["operator"]

[parameters.container]
kind = "text"

[parameters.port]
kind = "text"

[parameters.folder]
kind = "path"

[parameters.web]
kind = "text"

[parameters.odoo]
kind = "text"

[parameters.words]
kind = "text"
default = "it's; DROP TABLE told"
```

## Stop

```toml
action = "stop"
containers = ["{{container}}"]
grace = "2s"
```

## It is stopped

```toml
action = "command"
run = ["docker", "inspect", "--format", "{{{{.State.Running}}}}", "{{container}}"]
contains = "false"
effect = "nothing"
repeatable = true
```

## Start

```toml
action = "start"
containers = ["{{container}}"]
```

## Tell

```toml
action = "sql"
host = "localhost"
port = "{{port}}"
user = "keeper"
password_file = "password"
tls = "disable"
database = "postgres"
sql = "INSERT INTO told (words) VALUES ($1)"
parameters = ["{{words}}"]
effect = "changes"
done_when = "SELECT count(*) > 0 FROM told"
touches = ["the table told"]
```

## Ask

```toml
action = "sql"
host = "localhost"
port = "{{port}}"
user = "keeper"
password_file = "password"
tls = "disable"
database = "postgres"
sql = "SELECT words FROM told"
equals = "{{words}}"
```

## Not here

A question cannot change anything.

```toml
action = "sql"
host = "localhost"
port = "{{port}}"
user = "keeper"
password_file = "password"
tls = "disable"
database = "postgres"
sql = "DELETE FROM told"
on_failure = "continue"
```

## Too many

More rows than were expected: none of them stays.

```toml
action = "sql"
host = "localhost"
port = "{{port}}"
user = "keeper"
password_file = "password"
tls = "disable"
database = "postgres"
sql = "INSERT INTO told (words) SELECT 'too many' FROM generate_series(1, 3) RETURNING words"
rows = 1
effect = "changes"
touches = ["the table told"]
on_failure = "continue"
```

## Lead the way

```toml
action = "command"
run = ["sed", "-i", "/^\\[instances.clinic.postgres\\]/,/^port/s/^port = .*/port = {{port}}/", "{{folder}}/lifeboat.toml"]
repeatable = true
touches = ["lifeboat.toml"]
```

## There

The server that lifeboat.toml names now.

```toml
action = "sql"
instance = "clinic"
database = "postgres"
sql = "SELECT words FROM told"
equals = "{{words}}"
```

## Which way

```toml
action = "decide"
check = { action = "http", url = "{{web}}/absent" }
answers = { passed = "wrong-way", failed = "continue" }
```

## Wrong way

```toml
action = "http"
url = "{{web}}/wrong-way"
```

## Wait

```toml
action = "wait"
until = { action = "http", url = "{{web}}/ready", contains = "third" }
every = "1s"
timeout = "1m"
```

## Call

```toml
action = "webhook"
url_file = "hook.url"
bearer_file = "bearer"
body = '{"rows": "{{ask.rows}}"}'
repeatable = true
touches = ["the load balancer"]
```

## Say

```toml
action = "notify"
channels = ["desk"]
subject = "{{ask.value}}"
message = "the hook answered {{call.status}}"
```

## Health

```toml
action = "odoo"
url = "{{odoo}}"
check = "health"
```

## Log in

```toml
action = "odoo"
url = "{{odoo}}"
check = "modules"
database = "demo"
user = "admin"
password_file = "admin.password"
modules = ["sale_management", "stock"]
```

## Name

```toml
action = "dns"
name = "localhost"
type = "A"
value = "127.0.0.1"
timeout = "20s"
```

## Promote

It is no standby: it is refused.

```toml
action = "promote"
host = "localhost"
port = "{{port}}"
user = "keeper"
password_file = "password"
tls = "disable"
fenced_by = "stop"
on_failure = "continue"
```
"##;

/// What the web server was asked: method and path, headers, body.
type Got = Arc<Mutex<Vec<(String, String, String)>>>;

fn web() -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (base, got) = (format!("http://{}", listener.local_addr().unwrap()), Got::default());
    let seen = Arc::clone(&got);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap() > 2 {
                let line = head.lines().last().unwrap().to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |length| length.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let asked: Vec<&str> = head.split(' ').take(2).collect();
            let mut seen = seen.lock().unwrap();
            seen.push((asked.join(" "), head.clone(), String::from_utf8(body).unwrap()));
            let times = seen.iter().filter(|(asked, ..)| asked.ends_with("/ready")).count();
            let path = asked[1].split('?').next().unwrap();
            let (status, said) = match path {
                "/ready" if times >= 3 => (200, "third"),
                "/ready" | "/hook" | "/desk" => (200, "ok"),
                _ => (404, "nothing"),
            };
            let (length, answer) = (said.len(), "Connection: close\r\nContent-Length:");
            write!(stream, "HTTP/1.1 {status} Said\r\n{answer} {length}\r\n\r\n{said}").unwrap();
        }
    });
    (base, got)
}

/// A container that does nothing, gone with the test.
struct Idle(String);

impl Idle {
    fn start() -> Idle {
        let image = testbed::setting("LIFEBOAT_TESTBED_POSTGRES_IMAGE", "lifeboat-testbed/postgres:17");
        let name = format!("lifeboat-steps-{}", std::process::id());
        let made = docker(&["run", "-d", "--init", "--name", &name, "--entrypoint", "sleep", &image, "900"]);
        assert!(made.status.success(), "{}", text(&made));
        Idle(name)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.0]);
    }
}

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

fn secret(folder: &Path, name: &str, content: &str) {
    fs::write(folder.join(name), content).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn every_step_does_what_it_says() {
    if !testbed::enabled() {
        return;
    }
    let cluster = postgres::Postgres::start(17, &postgres::Options::default()).unwrap();
    cluster.psql("postgres", "CREATE ROLE keeper LOGIN PASSWORD 'open-sesame'").unwrap();
    cluster.psql("postgres", "CREATE TABLE told (words text); ALTER TABLE told OWNER TO keeper").unwrap();
    let (container, (web, got)) = (Idle::start(), web());
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(at).stdin(Stdio::null()).output().unwrap()
    };
    let made = run(&["init", "--tenant", "hospital", "--instance", "clinic", "--state-dir", "state"]);
    assert!(made.status.success(), "{}", text(&made));
    // Nobody answers at the port that the executor finds there when it begins.
    let config = fs::read_to_string(at.join("lifeboat.toml")).unwrap();
    let config = config.replace("port = 5432\n", "port = 1\n").replace("user = \"lifeboat\"", "user = \"keeper\"");
    let config = config.replace("\"/etc/lifeboat/clinic-postgres-password\"", "\"password\"\ntls = \"disable\"");
    fs::write(at.join("lifeboat.toml"), config).unwrap();
    fs::write(at.join("steps.md"), RUNBOOK).unwrap();
    secret(at, "password", "open-sesame\n");
    secret(at, "bearer", "of-the-balancer\n");
    secret(at, "hook.url", &format!("{web}/hook?key=in-the-url"));
    let admin = fs::read_to_string(testbed::state_dir().join("secrets/odoo-admin.password")).unwrap();
    secret(at, "admin.password", &admin);
    let channel = "state_dir = \"daemon\"\n[[tenant]]\nconfig = \"lifeboat.toml\"\nschedules = \"schedules\"\n[notify.channels.desk]\nkind = \"webhook\"\nurl_file = \"desk.url\"\n";
    secret(at, "desk.url", &format!("{web}/desk"));
    fs::create_dir(at.join("schedules")).unwrap();
    fs::write(at.join("daemon.toml"), channel).unwrap();

    let odoo = format!("http://localhost:{}", testbed::setting("LIFEBOAT_TESTBED_ODOO_PORT", "58069"));
    let (port, here) = (cluster.port().to_string(), at.display().to_string());
    let settings = [("container", &container.0), ("port", &port), ("web", &web), ("odoo", &odoo), ("folder", &here)]
        .map(|(name, value)| format!("{name}={value}"));
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let ran = run(&[&["runbook", "run", "steps.md", "--yes", "--json"], &settings[..]].concat());
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&ran)));
    assert_eq!((ran.status.code(), &told["stand"]), (Some(4), &"failed".into()), "{}", text(&ran));
    let outcomes: Vec<(&str, &str)> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["id"].as_str().unwrap(), step["outcome"].as_str().unwrap()))
        .collect();
    let expected = [
        ("stop", "passed"),
        ("it-is-stopped", "passed"),
        ("start", "passed"),
        ("tell", "passed"),
        ("ask", "passed"),
        ("not-here", "failed"),
        ("too-many", "failed"),
        ("lead-the-way", "passed"),
        ("there", "passed"),
        ("which-way", "passed"),
        ("wait", "passed"),
        ("call", "passed"),
        ("say", "passed"),
        ("health", "passed"),
        ("log-in", "passed"),
        ("name", "passed"),
        ("promote", "failed"),
    ];
    assert_eq!(outcomes, expected, "{}", text(&ran));
    let why = |id: &str| {
        let steps = told["steps"].as_array().unwrap();
        steps.iter().find(|step| step["id"] == id).unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert!(why("not-here").contains("read-only"), "{}", why("not-here"));
    assert!(why("too-many").contains("expected 1 rows, found 3; it was rolled back"), "{}", why("too-many"));
    assert!(why("promote").contains("is no standby"), "{}", why("promote"));
    assert_eq!(cluster.psql("postgres", "SELECT words FROM told").unwrap(), "it's; DROP TABLE told");

    let got = got.lock().unwrap();
    let of = |asked: &str| {
        got.iter().find(|(found, ..)| found.contains(asked)).unwrap_or_else(|| panic!("{asked}: {got:?}"))
    };
    let (_, head, body) = of("POST /hook?");
    let run_id = told["run"].as_str().unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("idempotency-key: {run_id}-call")), "{head}");
    assert!(head.contains("authorization: bearer of-the-balancer") && body.contains(r#""rows": "1""#), "{head}{body}");
    let (_, _, body) = of("POST /desk");
    assert!(body.contains("it's; DROP TABLE told") && body.contains("the hook answered 200"), "{body}");
    assert!(!got.iter().any(|(asked, ..)| asked.contains("wrong-way")));
    let journal = fs::read_to_string(told["journal"].as_str().map(|path| at.join(path)).unwrap()).unwrap();
    for hidden in ["open-sesame", "of-the-balancer", "in-the-url", admin.trim()] {
        assert!(!journal.contains(hidden) && !text(&ran).contains(hidden), "a secret was told: {}", text(&ran));
    }
}
