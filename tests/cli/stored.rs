//! The verbs that read a repository: points, verify, restore, status; with a sound one, a damaged one, the wrong keys.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    program::{Program, mode, shape},
    repository::add_point,
};

const OLD: &str = "2026-11-20T10:00:00Z";
const NEW: &str = "2026-11-21T10:00:00Z";

/// Two points of the instance, the recovery identity at `recovery.identity`.
fn with_points() -> (Program, [String; 2]) {
    let program = Program::initialised();
    fs::rename(program.path("keys/recovery.identity"), program.path("recovery.identity")).unwrap();
    let points = [add_point(&program, OLD), add_point(&program, NEW)];
    (program, points)
}

fn objects(program: &Program, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![program.path("repository/hospital/clinic").join(kind)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Makes a file of the repository writable again and changes one byte of it.
fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn points_are_listed_and_shown_without_a_recovery_identity() {
    let (program, [old, new]) = with_points();
    fs::remove_file(program.path("recovery.identity")).unwrap();
    let listed = program.run("points list clinic --json").expect(0).json();
    let ids: Vec<&str> =
        listed["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap()).collect();
    assert_eq!(ids, [&old, &new], "the newest stands last");
    insta::assert_snapshot!("points-list-json", shape(&listed));
    let limited = program.run("points list --limit 1").expect(0).stdout;
    assert!(
        !limited.contains(&old) && limited.contains(&new) && limited.contains("1 older one not shown"),
        "{limited}"
    );

    let shown = program.run("points show clinic --json").expect(0).json();
    insta::assert_snapshot!("points-show-json", shape(&shown));
    assert_eq!((&shown["point"], &shown["sealed"]["opened"]), (&Value::from(new), &Value::from(true)));
    let by_prefix = program.run(&format!("points show clinic {} --json", &old[..6])).expect(0).json();
    assert_eq!(by_prefix["point"], old.as_str());
    program.run("points show clinic 0000000000000000").expect(6);

    // Without the host's identity the header is still readable.
    fs::remove_file(program.path("keys/host.identity")).unwrap();
    let shown = program.run("points show clinic").expect(0).stdout;
    assert!(shown.contains("not opened"), "{shown}");
}

#[test]
fn files_are_listed_with_exact_names() {
    let (program, _) = with_points();
    let all = program.run("points files clinic").expect(0).stdout;
    insta::assert_snapshot!("points-files", owner_hidden(&all));
    let lines = program.run("points files clinic --part filestore --json").expect(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    insta::assert_snapshot!("points-files-json", shape(&lines[0]));
    let odd = lines.iter().find(|line| line["path_bytes"].is_string()).unwrap();
    assert_eq!(odd["path_bytes"], "6f646f6f2f6f646420ff206e616d65");
    let below = program.run("points files clinic --under odoo/ab").expect(0).stdout;
    assert_eq!(below.lines().count(), 2, "{below}");
}

fn owner_hidden(text: &str) -> String {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    text.replace(&format!("{:>11}", format!("{uid}:{gid}")), "OWNER")
}

#[test]
fn a_restore_gives_everything_back() {
    let (program, [_, new]) = with_points();
    let ended = program.run("restore clinic --point latest --to out --identity recovery.identity").expect(0);
    assert!(ended.stdout.contains(&new) && ended.stderr.contains("restoring"), "{ended:?}");
    // Links to tablespaces name their target by it, so it is absolute whatever was typed.
    let cluster = format!("chown -R postgres: {}", program.path("out/pgdata").display());
    assert!(ended.stdout.contains(&cluster) && ended.stdout.contains("archive_mode is off"), "{}", ended.stdout);
    assert_eq!(program.read("out/pgdata/base/5"), "relation");
    assert_eq!(program.read("out/filestore/odoo/ab/abc"), "attachment");
    assert_eq!(program.read("out/config/paths/odoo.conf"), "[options]");
    assert_eq!(mode(&program.path("out/pgdata")), 0o700);
    assert!(!program.path("out/RESTORE-INCOMPLETE").exists());
    // Into a folder that is not empty only with --delta, which mends it.
    let refused = program.run("restore clinic --point latest --to out --identity recovery.identity").expect(1);
    assert!(refused.stderr.contains("--delta"), "{}", refused.stderr);
    fs::write(program.path("out/filestore/odoo/ab/abc"), "changed!!!").unwrap();
    fs::write(program.path("out/filestore/stranger"), "").unwrap();
    let ended =
        program.run("restore clinic --point latest --to out --delta --identity recovery.identity --json").expect(0);
    assert_eq!(program.read("out/filestore/odoo/ab/abc"), "attachment");
    assert!(!program.path("out/filestore/stranger").exists());
    insta::assert_snapshot!("restore-json", shape(&ended.json()));
    let only = program.run("restore clinic --point latest --to files --only filestore --identity recovery.identity");
    only.expect(0);
    assert!(program.path("files/filestore").exists() && !program.path("files/pgdata").exists());
}

#[test]
fn the_wrong_identity_is_told_before_anything_is_written() {
    let (program, _) = with_points();
    program.run("key generate recovery --out stranger.identity").expect(0);
    for identity in ["stranger.identity", "keys/host.identity"] {
        for verb in [
            format!("restore clinic --point latest --to out --identity {identity}"),
            format!("verify clinic --read-data --identity {identity}"),
            format!("drill clinic --identity {identity}"),
        ] {
            let ended = program.run(&verb).expect(8);
            assert!(ended.stderr.contains("none of the given identities opens"), "{verb}: {}", ended.stderr);
        }
    }
    assert!(!program.path("out").exists());
    let open = program.path("recovery.identity");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ended = program.run("restore clinic --point latest --to out --identity recovery.identity").expect(8);
    assert!(ended.stderr.contains("chmod 0600"), "{}", ended.stderr);
}

#[test]
fn verify_finds_damage_and_names_what_it_hits() {
    let (program, [old, _]) = with_points();
    for depth in ["--quick", "", "--read-data --identity recovery.identity"] {
        program.run(&format!("verify {depth}")).expect(0);
    }
    insta::assert_snapshot!("verify-json", shape(&program.run("verify --json").expect(0).json()));
    let pack = objects(&program, "packs").remove(0);
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    let length = fs::read(&pack).unwrap().len();
    flip(&pack, length / 2);
    program.run("verify --quick").expect(0);
    let ended = program.run("verify").expect(4);
    assert!(ended.stdout.contains(&name) && ended.stdout.contains(&old), "{}", ended.stdout);
    let json = program.run("verify clinic --read-data --identity recovery.identity --json").expect(4).json();
    assert_eq!(json["sound"], false);
    assert!(json["instances"][0]["problems"][0]["file_count"].as_u64() > Some(0), "{json:#}");

    let partly = program.run("restore clinic --point latest --to out --identity recovery.identity").expect(4);
    assert!(partly.stdout.contains(&name) && partly.stdout.contains("INCOMPLETE"), "{}", partly.stdout);
    assert!(program.path("out/RESTORE-INCOMPLETE").exists());
    fs::remove_file(&pack).unwrap();
    program.run("verify --quick").expect(4);
}

#[test]
fn an_object_that_points_share_is_looked_at_once() {
    let (program, [old, new]) = with_points();
    let verified = |depth: &str, code| program.run(&format!("verify --json {depth}")).expect(code).json();
    let together = verified("--read-data --identity recovery.identity", 0)["instances"][0]["objects"].clone();
    for depth in ["--quick", ""] {
        let row = verified(depth, 0)["instances"][0].clone();
        assert_eq!((&row["points"], &row["objects"]), (&Value::from(2), &together), "{depth}");
    }
    let pack = objects(&program, "packs").remove(0);
    fs::remove_file(&pack).unwrap();
    for depth in ["--quick", "", "--read-data --identity recovery.identity"] {
        let row = verified(depth, 4)["instances"][0].clone();
        assert_eq!(row["objects"], together, "{depth}");
        let named = row["problems"][0]["points"].to_string();
        assert!(named.contains(&old) && named.contains(&new), "{depth}: {row:#}");
    }
}

/// A point that was changed is no point: it is passed over aloud, and never silently.
#[test]
fn a_changed_point_is_not_believed() {
    let (program, [old, new]) = with_points();
    let point = objects(&program, "points").pop().unwrap();
    flip(&point, 40);
    let listed = program.run("points list").expect(4).stdout;
    assert!(listed.contains("NOT VALID"), "{listed}");
    let shown = program.run("points show clinic").expect(0).stdout;
    assert!(shown.contains(&old) && shown.contains("a newer point was passed over"), "{shown}");
    let ended = program.run("restore clinic --point latest --to out --identity recovery.identity").expect(0);
    assert!(ended.stderr.contains("warning: a newer recovery point was passed over"), "{}", ended.stderr);
    program.run(&format!("restore clinic --point {new} --to out2 --identity recovery.identity")).expect(4);
    program.run("verify").expect(4);
    let status = program.run("status --json").expect(5).json();
    assert!(
        status["instances"][0]["reasons"].to_string().contains("1 newer recovery point does not verify"),
        "{status}"
    );
    // Signed by a key that is not trusted any more: the same.
    let public = program.run("key generate signing --out other.key --json").expect(0).json()["public"].clone();
    let old_key = program.run("key show keys/signing.key").expect(0).stdout;
    program.edit(old_key.trim(), public.as_str().unwrap());
    program.run("points list").expect(4);
    program.run("status").expect(4);
}

#[test]
fn status_never_flatters() {
    let program = Program::initialised();
    add_point(&program, OLD);
    let status = program.run("status").expect(5).stdout;
    assert!(status.contains("AT RISK") && status.contains("no drill has proven"), "{status}");
    assert!(status.contains("the RPO target is 1d 0h"), "{status}");
    let json = program.run("status clinic --json").expect(5).json();
    insta::assert_snapshot!("status-json", shape(&json));
    assert_eq!(json["instances"][0]["state"], "at-risk");
    program.run("status nobody").expect(6);
    let line = program.run("status --plugin").expect(1).stdout;
    assert!(line.starts_with("LIFEBOAT WARNING - clinic is at risk: ") && line.lines().count() == 1, "{line}");
    let unknown = program.run("status nobody --plugin").expect(3).stdout;
    assert!(unknown.starts_with("LIFEBOAT UNKNOWN - ") && unknown.contains("nobody"), "{unknown}");
    let known = program.run("status clinic").expect(5).stdout;
    for words in ["What is known of clinic", "never rehearsed", "not known: PostgreSQL of clinic"] {
        assert!(known.contains(words), "no {words:?} in {known}");
    }
    fs::remove_dir_all(program.path("repository/hospital/clinic")).unwrap();
    assert!(program.run("status").expect(4).stdout.contains("UNPROTECTED"));
}

/// Else whoever can write to the repository could hide the last drill behind an older one.
#[test]
fn a_drill_statement_that_does_not_verify_is_told() {
    let program = Program::initialised();
    add_point(&program, &jiff::Timestamp::now().to_string()); // its age is no reason
    program.write("repository/hospital/evidence/20261121T110000Z-clinic-drill-00000000000000aa.dsse.json", "{}");
    let status = program.run("status").expect(5).stdout;
    assert!(status.contains("1 newer drill statement does not verify"), "{status}");
    assert!(status.contains("next: lifeboat evidence verify"), "{status}");
}

/// What follows a pipe may close it early.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (program, _) = with_points();
    let command = format!("{} points files clinic | head -1", env!("CARGO_BIN_EXE_lifeboat"));
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {command}")])
        .current_dir(program.path("."))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn doctor_probes_a_local_repository() {
    let (program, _) = with_points();
    program.write("password", "secret");
    program.edit("/etc/lifeboat/clinic-postgres-password", &program.path("password").to_string_lossy());
    program.edit("localhost", "127.0.0.1");
    program.edit("port = 5432", "port = 1");
    let json = program.run("doctor --no-drill --json").expect(4).json();
    insta::assert_snapshot!("doctor-json", shape(&json));
    let grade = |check: &str| {
        let findings = json["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).map(|finding| finding["grade"].clone()).unwrap()
    };
    for check in
        ["repository.format", "repository.write", "repository.read", "repository.list", "keys.signing_key_file"]
    {
        assert_eq!(grade(check), "ok", "{check}");
    }
    assert_eq!(grade("repository.immutable"), "warning");
    assert_eq!(grade("postgres.reachable"), "failed");
}
