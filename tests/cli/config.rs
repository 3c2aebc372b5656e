//! `config check` and `config show`: every problem at once, each with file, line and what to do.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::program::{Program, shape};

/// A configuration whose files are all there.
fn complete() -> Program {
    let program = Program::initialised();
    program.write("password", "secret");
    for folder in ["filestore", "etc"] {
        fs::create_dir(program.path(folder)).unwrap();
    }
    program.edit("/etc/lifeboat/clinic-postgres-password", &program.path("password").to_string_lossy());
    program.edit("/var/lib/odoo/filestore", &program.path("filestore").to_string_lossy());
    program.edit("paths = [\"/etc/odoo\"]", &format!("paths = [{:?}]", program.path("etc")));
    program
}

#[test]
fn a_complete_configuration_is_usable() {
    let program = complete();
    let recipient = program.run("key generate recovery --out elsewhere.key --json").json()["public"].clone();
    program.edit("recovery_recipients = [\n", &format!("recovery_recipients = [\n    {recipient},\n"));
    for identity in ["elsewhere.key", "keys/recovery.identity"] {
        fs::remove_file(program.path(identity)).unwrap();
    }
    let ended = program.run("config check").expect(0);
    assert_eq!(ended.stdout, "lifeboat.toml: usable, 0 problems, 0 warnings\n");
    assert_eq!(ended.stderr, "");
}

/// A recovery identity beside the data undoes the sealing: it is found under any name.
#[test]
fn a_recovery_identity_on_the_backup_host_is_a_warning() {
    let program = complete();
    fs::rename(program.path("keys/recovery.identity"), program.path("keys/old-notes")).unwrap();
    let checked = program.run("config check --json").expect(0).json();
    let messages: Vec<&str> =
        checked["warnings"].as_array().unwrap().iter().map(|warning| warning["message"].as_str().unwrap()).collect();
    assert!(messages.iter().any(|message| message.starts_with("keys/old-notes opens every backup")), "{messages:?}");
    fs::remove_file(program.path("keys/old-notes")).unwrap();
    let checked = program.run("config check").expect(0).stdout;
    assert!(!checked.contains("opens every backup"), "{checked}");
}

#[test]
fn all_problems_come_at_once() {
    let program = complete();
    program.edit("port = 5432", "prot = 5432");
    program.edit("rpo = \"24h\"", "rpo = 24");
    program.edit("databases = [\"odoo\"]", "databases = []");
    program.edit("user = \"lifeboat\"", "user = \"lifeboat\"\npassword = \"hunter2\"");
    let ended = program.run("config check").expect(3);
    assert!(!ended.stdout.contains("hunter2"), "what may be a secret is not repeated");
    insta::assert_snapshot!("config-problems", program.stable(&ended.stdout));
    // Every other command refuses in the same words.
    let refused = program.run("backup clinic").expect(3);
    assert_eq!(refused.stdout, "");
    for line in ended.stdout.lines().filter_map(|line| line.strip_prefix("problem: ")) {
        assert!(refused.stderr.contains(line), "{line}\n{}", refused.stderr);
    }
    insta::assert_snapshot!("config-check-json", shape(&program.run("config check --json").expect(3).json()));
}

#[test]
fn files_are_looked_at() {
    let program = complete();
    fs::remove_dir(program.path("filestore")).unwrap();
    fs::set_permissions(program.path("password"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(program.path("keys/host.identity")).unwrap();
    let ended = program.run("config check").expect(3);
    let problems: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("problem: ")).collect();
    insta::assert_snapshot!("config-files", program.stable(&problems.join("\n")));
}

#[test]
fn the_configuration_is_found_and_its_absence_explained() {
    let program = Program::new();
    let ended = program.run("config show");
    // A machine may have one in /etc; then that one counts.
    if ended.code == 3 {
        assert!(ended.stderr.contains("next: lifeboat init"), "{}", ended.stderr);
    }
    let ended = program.run("--config missing.toml status").expect(3);
    insta::assert_snapshot!("config-missing", program.stable(&ended.stderr));
    let other = complete();
    let path = other.path("lifeboat.toml");
    let by_variable = program.run_with(&["config", "show"], &[("LIFEBOAT_CONFIG", &path.to_string_lossy())]).expect(0);
    let by_option = program.run_with(&["--config", &path.to_string_lossy(), "config", "show"], &[]).expect(0);
    assert_eq!(by_variable.stdout, by_option.stdout);
}

#[test]
fn show_has_no_secrets() {
    let program = complete();
    let ended = program.run("config show").expect(0);
    // Columns are as wide as the longest path, which is another on each machine.
    let words: Vec<String> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("  ")).collect();
    insta::assert_snapshot!("config-show", program.stable(&words.join("\n")));
    let json = program.run("config show --json").expect(0);
    insta::assert_snapshot!("config-show-json", shape(&json.json()));
    for text in [ended.stdout, json.stdout] {
        assert!(!text.contains("AGE-SECRET"), "{text}");
    }
}
