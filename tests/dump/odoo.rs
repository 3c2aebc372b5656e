//! An export is what Odoo's own database manager takes: the testbed's live Odoo is backed up and exported, Odoo 19 itself loads the
//! zip into another server, and serves it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use lifeboat_odoo::{login::SandboxLogin, rpc::Session};
use lifeboat_testkit::{
    postgres::{Options, Postgres},
    testbed,
};
use serde_json::{Value, json};

use crate::{
    support::{Settings, Site},
    world::text,
};

const PASSWORD: &str = "throw-away";
const LIMIT: Duration = Duration::from_secs(60);

/// An Odoo container; removed when dropped.
struct Odoo {
    id: String,
    port: u16,
}

impl Drop for Odoo {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "-v", &self.id]).output();
    }
}

fn docker(cluster: &Postgres, folder: &Path, more: &[&str], arguments: &[&str]) -> Command {
    let image = testbed::setting("LIFEBOAT_TESTBED_ODOO_IMAGE", "lifeboat-testbed/odoo:19");
    let mut command = Command::new("docker");
    command.arg("run").args(more).args([
        "--network",
        "host",
        "--label",
        "lifeboat.testkit=odoo",
        "--entrypoint",
        "odoo",
    ]);
    command.arg("-v").arg(format!("{}:/exchange", folder.display())).arg(image).args(arguments);
    let port = cluster.port().to_string();
    command.args(["--db_host=localhost", &format!("--db_port={port}"), "--db_user=odoo"]);
    command.args([&format!("--db_password={PASSWORD}"), "--data-dir=/exchange/data"]);
    command
}

/// Loads the zip with Odoo's own `odoo db load`.
fn load(cluster: &Postgres, folder: &Path) {
    let mut command = docker(cluster, folder, &["--rm"], &["db"]);
    let output = command.args(["load", "copy", "/exchange/demo.zip"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

fn serve(cluster: &Postgres, folder: &Path) -> Odoo {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut command = docker(cluster, folder, &["-d"], &["server", "--database=copy", "--max-cron-threads=0"]);
    command.args([&format!("--http-port={port}"), "--http-interface=127.0.0.1"]);
    command.args(["--addons-path=/usr/lib/python3/dist-packages/odoo/addons,/exchange/addons"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Odoo { id: String::from_utf8(output.stdout).unwrap().trim().to_owned(), port }
}

async fn login(port: u16, database: &str) -> Session {
    let login = SandboxLogin { id: 2, login: "admin".into(), password: testbed::secret("odoo-admin.password") };
    let base: url::Url = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let begun = Instant::now();
    loop {
        match Session::login(base.clone(), database, &login, Duration::from_secs(30)).await {
            Ok(session) => return session,
            Err(error) if begun.elapsed() > LIMIT => panic!("{database} on port {port}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

async fn partners(session: &Session) -> i64 {
    let count = session.call("res.partner", "search_count", json!([[]]), json!({"context": {"active_test": false}}));
    count.await.unwrap().as_i64().unwrap()
}

/// A backup during which nobody made a partner, however busy the testbed is with other tests.
async fn steady_backup(site: &Site, source: &Session) -> i64 {
    for _ in 0..5 {
        let before = partners(source).await;
        site.json(&["backup", "clinic"]);
        if partners(source).await == before {
            return before;
        }
    }
    panic!("somebody makes partners all the time")
}

#[test]
fn odoo_loads_an_export_and_serves_it() {
    if !testbed::enabled() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let site = Site::new(&Settings::default());
    let source_port = testbed::setting("LIFEBOAT_TESTBED_ODOO_PORT", "58069").parse().unwrap();
    let source = runtime.block_on(login(source_port, "demo"));
    let expected = runtime.block_on(steady_backup(&site, &source));

    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let zip = folder.path().join("demo.zip");
    let identity = site.identity();
    let arguments = ["export", "clinic", "--database", "demo", "--odoo-zip", zip.to_str().unwrap()];
    let answer = site.json(&[&arguments[..], &["--identity", identity.to_str().unwrap()]].concat());
    assert_eq!((&answer["complete"], answer["odoo_series"].as_str()), (&json!(true), Some("19.0")), "{answer:#}");
    fs::set_permissions(&zip, fs::Permissions::from_mode(0o644)).unwrap();
    let addons = testbed::state_dir().join("odoo/addons");
    let copied = Command::new("cp").arg("-r").arg(addons).arg(folder.path().join("addons")).status().unwrap();
    assert!(copied.success());

    let cluster = Postgres::start(17, &Options::default()).unwrap();
    cluster.psql("postgres", &format!("CREATE ROLE odoo LOGIN CREATEDB PASSWORD '{PASSWORD}'")).unwrap();
    load(&cluster, folder.path());
    let odoo = serve(&cluster, folder.path());
    runtime.block_on(serves_the_same(&source, odoo.port, expected));

    // The other way round: a zip that Odoo itself has made, checked by our drill.
    let mut command = docker(&cluster, folder.path(), &["--rm"], &["db"]);
    let output = command.args(["dump", "copy", "/exchange/own.zip"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    drop(odoo);
    let (code, answer) = import(&site, &folder.path().join("own.zip"));
    assert_eq!((code, answer["outcome"].as_str()), (0, Some("passed")), "{answer:#}");
    assert_eq!(answer["database"], "copy");
    for id in ["boot.registry", "use.login", "use.attachments", "attachments.filestore", "teardown.proof"] {
        assert_eq!(verdict(&answer, id)["outcome"], "passed", "{id}: {answer:#}");
    }
    for id in ["point.signature", "files.manifest", "replay.end", "data.digests", "measure.rpo", "evidence.signed"] {
        let verdict = verdict(&answer, id);
        assert_eq!(verdict["outcome"], "not-executed", "{id}: {answer:#}");
        assert!(verdict["why"].as_str().unwrap().contains("zip"), "{verdict}");
    }

    // A dump that PostgreSQL does not take is no backup.
    let broken = folder.path().join("broken.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&broken).unwrap());
    zip.start_file("dump.sql", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"CREATE TABLE patient (id int);\nCREATE TABLE patient (id int);\n").unwrap();
    zip.finish().unwrap();
    let refused = site.run(&["import", "clinic", "--odoo-zip", broken.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2), "it has no manifest: {}", text(&refused));
    let refused = site.run(&["import", "clinic", "--odoo-zip", broken.to_str().unwrap(), "--database", "x", "--json"]);
    let answer: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((refused.status.code(), verdict(&answer, "replay.end")["outcome"].as_str()), (Some(4), Some("failed")));
    assert!(verdict(&answer, "replay.end")["why"].as_str().unwrap().contains("already exists"), "{answer:#}");
    assert_eq!(verdict(&answer, "teardown.proof")["outcome"], "passed", "{answer:#}");
}

fn import(site: &Site, zip: &Path) -> (i32, Value) {
    let output = site.run(&["import", "clinic", "--odoo-zip", zip.to_str().unwrap(), "--json"]);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), answer)
}

fn verdict(answer: &Value, id: &str) -> Value {
    let checks = answer["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap()["verdict"].clone()
}

async fn serves_the_same(source: &Session, port: u16, expected: i64) {
    let copy = login(port, "copy").await;
    assert_eq!(partners(&copy).await, expected);
    let domain = json!([["store_fname", "!=", false], ["res_field", "=", false]]);
    let stored = copy.search_read("ir.attachment", domain, &["id", "checksum", "file_size"], 5).await.unwrap();
    assert_eq!(stored.len(), 5, "{stored:?}");
    for attachment in &stored {
        same_bytes(source, &copy, attachment).await;
    }
}

async fn same_bytes(source: &Session, copy: &Session, attachment: &Value) {
    let id = i32::try_from(attachment["id"].as_i64().unwrap()).unwrap();
    let (there, here) = (source.attachment(id).await.unwrap(), copy.attachment(id).await.unwrap());
    assert_eq!((&here.sha1, here.len), (&there.sha1, there.len), "{attachment}");
    assert_eq!(Some(here.sha1.as_str()), attachment["checksum"].as_str(), "{attachment}");
    assert_eq!(Some(here.len), attachment["file_size"].as_u64(), "{attachment}");
}
