//! The main job on the real thing: a live Odoo is backed up, restored, drilled; and every kind of damage is caught by
//! the rung that should catch it. Needs the testbed (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod believed;
mod corruption;
mod hold;
mod kept;
mod kit;
mod loss;
mod practice;
mod production;
mod recovered;
mod rehearsed;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lifeboat_testkit::testbed;
use serde_json::Value;
use support::{Settings, Site, Storage, filestore, text};

/// Runs a drill; gives its exit code and its JSON answer.
fn drill(site: &Site) -> (i32, Value) {
    drill_with(site, &[])
}

fn drill_with(site: &Site, more: &[&str]) -> (i32, Value) {
    let identity = site.identity();
    let arguments = ["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json"];
    let output = site.run(&[&arguments, more].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), answer)
}

/// The rungs on which a check failed.
fn failed_rungs(answer: &Value) -> Vec<u64> {
    let mut rungs: Vec<u64> = answer["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["verdict"]["outcome"] == "failed")
        .map(|check| check["rung"].as_u64().unwrap())
        .collect();
    rungs.dedup();
    rungs
}

fn passes(site: &Site) {
    passed(drill(site));
}

/// What a drill answered that passed.
fn passed((code, answer): (i32, Value)) -> Value {
    assert_eq!(failed_rungs(&answer), Vec::<u64>::new(), "{answer:#}");
    assert_eq!((code, answer["outcome"].as_str()), (0, Some("passed")), "{answer:#}");
    assert_eq!(answer["comparison"]["kind"], "exact-witness", "{answer:#}");
    let digests = answer["checks"].as_array().unwrap().iter().find(|check| check["id"] == "data.digests").unwrap();
    assert_eq!(digests["verdict"]["outcome"], "passed", "{digests:#}");
    assert!(answer["rpo_seconds"].is_number() && answer["rto_seconds"].is_number(), "{answer:#}");
    nothing_left(&answer);
    answer
}

fn fails_on(site: &Site, rung: u64) {
    let (code, answer) = drill(site);
    assert_eq!(failed_rungs(&answer).first(), Some(&rung), "{answer:#}");
    assert_eq!((code, answer["outcome"].as_str()), (4, Some("failed")), "{answer:#}");
    nothing_left(&answer);
}

/// Other drills may run on this machine: only this one's things are looked for.
fn nothing_left(answer: &Value) {
    let label = format!("label=lifeboat.drill={}", answer["run"].as_str().unwrap());
    for kind in ["container", "network", "volume"] {
        let all: &[&str] = if kind == "container" { &["-a"] } else { &[] };
        let output = Command::new("docker").args([kind, "ls", "-q"]).args(all).args(["--filter", &label]).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "", "{kind} left behind");
    }
}

/// What `rsync -a` would still have to do: contents, modes, owners, times, links, attributes.
fn differences(from: &Path, to: &Path) -> String {
    rsync(from, to, &[])
}

/// The same, whatever the times are.
fn differences_but_times(from: &Path, to: &Path) -> String {
    rsync(from, to, &["--no-times"])
}

fn rsync(from: &Path, to: &Path, more: &[&str]) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let mut command = Command::new("rsync");
    command.args(["-aciXn", "--delete"]).args(more).args([&slash(from), &slash(to)]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let listed = String::from_utf8(output.stdout).unwrap();
    // With --no-times rsync still lists what differs in nothing else, with a `.` or `T` for the time alone.
    let tells =
        |line: &&str| !(more.contains(&"--no-times") && line[2..11].chars().all(|c| matches!(c, '.' | 'T' | 't')));
    listed.lines().filter(tells).map(|line| format!("{line}\n")).collect()
}

fn restore(site: &Site, to: &Path, more: &[&str]) -> String {
    let identity = site.identity();
    let mut arguments = vec![
        "restore",
        "clinic",
        "--point",
        "latest",
        "--to",
        to.to_str().unwrap(),
        "--identity",
        identity.to_str().unwrap(),
    ];
    arguments.extend(more);
    site.succeed(&arguments)
}

fn copy_of_filestore() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("filestore");
    let done = Command::new("cp").arg("-a").arg(filestore()).arg(&copy).status().unwrap();
    assert!(done.success());
    (folder, copy)
}

#[test]
fn a_live_odoo_comes_back_from_a_local_directory() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    let first = site.json(&["backup", "clinic"]);
    assert_eq!(first["witness_exact"], true, "{first:#}");
    site.succeed(&["verify", "clinic"]);
    let shot = site.dir.path().join("sandbox.png");
    let drilled = passed(drill_with(&site, &["--screenshot", shot.to_str().unwrap()]));

    site.succeed(&["evidence", "verify"]);
    let png = believed::picture(&site, &drilled, &shot);
    believed::report(&site, &drilled, png.as_deref());
    believed::export(&site, &drilled);

    let to = site.dir.path().join("restored");
    restore(&site, &to, &[]);
    assert_eq!(differences(&filestore(), &to.join("filestore")), "");
    let odoo = testbed::state_dir().join("odoo");
    let kept = to.join("config/paths").join(odoo.strip_prefix("/").unwrap());
    assert_eq!(differences(&odoo.join("addons"), &kept.join("addons")), "");
    assert_eq!(fs::read(odoo.join("etc/odoo.conf")).unwrap(), fs::read(kept.join("etc/odoo.conf")).unwrap());
    assert!(fs::read_to_string(to.join("config/commands/kernel")).unwrap().starts_with("Linux"));
    assert_verified_by_postgres(&to.join("pgdata"));

    let second = site.json(&["backup", "clinic"]);
    let tree = |backup: &Value, name: &str| {
        backup["trees"].as_array().unwrap().iter().find(|tree| tree["name"] == name).unwrap().clone()
    };
    assert_eq!(tree(&second, "filestore")["new_bytes"], 0, "{second:#}");
    assert_eq!(tree(&second, "filestore")["files"], tree(&first, "filestore")["files"]);
}

/// PostgreSQL's own tool agrees with the restored files.
fn assert_verified_by_postgres(pgdata: &Path) {
    let image = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
    let mount = format!("{}:/restored:ro", pgdata.display());
    let output = Command::new("docker")
        .args([
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "0",
            "-v",
            &mount,
            "--entrypoint",
            "pg_verifybackup",
            &image,
        ])
        .args(["--no-parse-wal", "/restored"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_live_odoo_comes_back_from_s3() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings { storage: Storage::S3, ..Settings::default() });
    site.succeed(&["backup", "clinic"]);
    site.succeed(&["verify", "clinic"]);
    passes(&site);
}

#[test]
fn a_delta_restore_mends_a_damaged_folder() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let (to, whole) = (site.dir.path().join("restored"), site.dir.path().join("whole"));
    restore(&site, &to, &[]);
    restore(&site, &whole, &[]);

    let refused = site.run(&[
        "restore",
        "clinic",
        "--point",
        "latest",
        "--to",
        to.to_str().unwrap(),
        "--identity",
        site.identity().to_str().unwrap(),
    ]);
    assert!(!refused.status.success() && text(&refused).contains("--delta"), "{}", text(&refused));

    let victim = first_file(&to.join("filestore"));
    let mut bytes = fs::read(&victim).unwrap();
    bytes[0] ^= 1;
    let times = fs::metadata(&victim).unwrap().modified().unwrap();
    fs::write(&victim, bytes).unwrap();
    fs::File::open(&victim).unwrap().set_modified(times).unwrap();
    fs::write(to.join("filestore/stranger"), "does not belong").unwrap();
    fs::remove_file(to.join("pgdata/global/pg_control")).unwrap();
    fs::write(to.join("pgdata/base/stranger"), "does not belong").unwrap();
    restore(&site, &to, &["--delta"]);
    assert_eq!(differences(&whole.join("filestore"), &to.join("filestore")), "");
    // The restore's own files there (WAL, recovery settings) are written anew, so their times differ.
    assert_eq!(differences_but_times(&whole.join("pgdata"), &to.join("pgdata")), "");
}

fn first_file(folder: &Path) -> PathBuf {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_file() && fs::metadata(&path).unwrap().len() > 0 {
            return path;
        }
        if path.is_dir() {
            return first_file(&path);
        }
    }
    panic!("no file in {}", folder.display())
}

#[test]
fn damaged_packs_fail_the_drill_and_are_named() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    // All of them: their number and order vary, and the database must be among what the damage hits.
    let packs = site.objects("packs");
    let name = packs[0].file_name().unwrap().to_str().unwrap();
    for pack in &packs {
        let mut damaged = fs::read(pack).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(pack, &damaged).unwrap();
    }
    let verify = site.run(&["verify", "clinic"]);
    assert!(verify.status.code() == Some(4) && text(&verify).contains(name), "{}", text(&verify));
    // Rung 2 reads nothing; what is fetched is authenticated as it is opened.
    fails_on(&site, 3);

    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let verify = site.run(&["verify", "clinic"]);
    assert!(verify.status.code() == Some(4) && text(&verify).contains(name), "{}", text(&verify));
    fails_on(&site, 2);
    let to = site.dir.path().join("partly");
    let partly = site.run(&[
        "restore",
        "clinic",
        "--point",
        "latest",
        "--to",
        to.to_str().unwrap(),
        "--identity",
        site.identity().to_str().unwrap(),
    ]);
    assert!(!partly.status.success() && text(&partly).contains(name), "{}", text(&partly));
    assert!(!to.join("pgdata/global/pg_control").exists(), "a damaged cluster must not be startable");

    // The next backup stores again what is missing, and its drill passes.
    site.succeed(&["backup", "clinic"]);
    passes(&site);
}

#[test]
fn a_file_missing_from_the_backup_fails_the_attachments_rung() {
    if !testbed::enabled() {
        return;
    }
    let (_folder, copy) = copy_of_filestore();
    fs::remove_file(first_file(&copy.join("demo"))).unwrap();
    let site = Site::new(&Settings { filestore: copy, ..Settings::default() });
    site.succeed(&["backup", "clinic"]);
    fails_on(&site, 8);
}

#[test]
fn a_missing_addon_fails_the_boot_rung() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings { addons: None, ..Settings::default() });
    site.succeed(&["backup", "clinic"]);
    fails_on(&site, 10);
}

#[test]
fn the_wrong_odoo_image_fails_the_boot_rung() {
    if !testbed::enabled() {
        return;
    }
    let image = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
    let site = Site::new(&Settings { odoo_image: image, ..Settings::default() });
    site.succeed(&["backup", "clinic"]);
    let (code, answer) = drill(&site);
    assert_eq!(code, 4, "{answer:#}");
    // Neutralising needs the image too: it is the first to notice.
    assert!(failed_rungs(&answer).iter().all(|rung| (9..=10).contains(rung)), "{answer:#}");
    assert!(!failed_rungs(&answer).is_empty(), "{answer:#}");
    nothing_left(&answer);
}

#[test]
fn the_wrong_identity_is_said_plainly_and_changes_nothing() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let to = site.dir.path().join("restored");
    let host = site.dir.path().join("keys/host.identity");
    for (identity, word) in
        [(host.to_str().unwrap(), "identity"), ("/nowhere/recovery.identity", "/nowhere/recovery.identity")]
    {
        let output =
            site.run(&["restore", "clinic", "--point", "latest", "--to", to.to_str().unwrap(), "--identity", identity]);
        assert_eq!(output.status.code(), Some(8), "{}", text(&output));
        assert!(text(&output).contains(word), "{}", text(&output));
        assert!(!to.exists(), "nothing may be written");
    }
}
