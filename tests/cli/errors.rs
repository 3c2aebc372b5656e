//! Errors: message, causes, what is safe, hint, next command; and the documented exit codes as scripts meet them.

use std::fs;

use serde_json::Value;

use crate::program::Program;

#[test]
fn unknown_instances_name_the_nearest() {
    let program = Program::initialised();
    let ended = program.run("backup clinik").expect(6);
    insta::assert_snapshot!("unknown-instance", program.stable(&ended.stderr));
}

#[test]
fn reading_verbs_make_no_repository() {
    let program = Program::initialised();
    for verb in ["points list", "points show clinic", "verify", "status", "evidence list"] {
        let ended = program.run(verb).expect(6);
        assert!(ended.stderr.contains("hint:"), "{verb}: {}", ended.stderr);
        assert!(!program.path("repository").exists(), "{verb} made a repository");
    }
    fs::create_dir(program.path("repository")).unwrap();
    let ended = program.run("points list").expect(6);
    insta::assert_snapshot!("not-a-repository", program.stable(&ended.stderr));
}

#[test]
fn a_restore_without_identity_says_which_one_is_needed() {
    let program = Program::initialised();
    let ended = program.run("restore clinic --point latest --to out").expect(8);
    insta::assert_snapshot!("restore-without-identity", program.stable(&ended.stderr));
    assert!(!program.path("out").exists());
    program.write("wrong", "hunter2");
    let ended = program.run("restore clinic --point latest --to out --identity wrong").expect(8);
    assert!(ended.stderr.contains("wrong") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

/// An unreachable server, before anything is written.
#[test]
fn a_failed_backup_says_what_is_safe() {
    let program = Program::initialised();
    program.write("password", "secret");
    program.edit("/etc/lifeboat/clinic-postgres-password", &program.path("password").to_string_lossy());
    program.edit("localhost", "127.0.0.1");
    program.edit("port = 5432", "port = 1");
    for (path, example) in [("filestore", "/var/lib/odoo/filestore"), ("etc", "\"/etc/odoo\"")] {
        fs::create_dir(program.path(path)).unwrap();
        program.edit(example, &example.replace(example.trim_matches('"'), &program.path(path).to_string_lossy()));
    }
    let ended = program.run("--quiet backup clinic").expect(10);
    assert_eq!(ended.stdout, "");
    insta::assert_snapshot!("backup-unreachable", program.stable(&ended.stderr));
    let ended = program.run("points list").expect(0);
    assert!(ended.stdout.starts_with("No recovery points"), "{}", ended.stdout);
}

/// A disk that is not mounted must not give a backup without it; what only drills need may lie elsewhere.
#[test]
fn a_missing_path_stops_a_backup_before_it_connects() {
    let program = Program::initialised();
    program.write("password", "secret");
    program.edit("/etc/lifeboat/clinic-postgres-password", &program.path("password").to_string_lossy());
    program.edit("/var/lib/odoo/filestore", "/nonexistent/filestore");
    program.edit("\"/etc/odoo\"", &format!("{:?}", program.path("keys")));
    program.edit("# addons = [\"/etc/odoo/addons\"]", &format!("addons = [{:?}]", program.path("keys/addons")));
    let ended = program.run("--quiet backup clinic").expect(3);
    assert!(
        ended.stderr.contains("instances.clinic.filestore.path: /nonexistent/filestore does not exist"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("addons"), "{}", ended.stderr);
    assert!(!program.path("repository").exists());
}

#[test]
fn errors_are_json_where_logs_are() {
    let program = Program::initialised();
    let ended = program.run("--log-format json backup clinik").expect(6);
    let line: Value = serde_json::from_str(ended.stderr.trim()).unwrap();
    assert_eq!((&line["level"], &line["exit"], &line["exit_name"]), (&"ERROR".into(), &6.into(), &"not-found".into()));
    assert!(line["message"].as_str().unwrap().contains("clinic"));
    assert_eq!(line["next"], "lifeboat config show");
}
