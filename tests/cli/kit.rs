//! The recovery kit: what a clean machine needs, and no secret.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::program::Program;

fn with_runbook() -> Program {
    let program = Program::initialised();
    program.write("runbooks/total-loss.md", "# Total loss\n\nStay calm.\n");
    program.write("runbooks/notes.txt", "no runbook");
    program
}

/// Every file below a folder, by its path in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_kit_is_whole_works_elsewhere_and_holds_no_secret() {
    let program = with_runbook();
    let written = program.run("kit write kit --json").expect(0).json();
    assert_eq!(written["secrets"][0]["key"], "keys.host_identity_file");
    let kit = files(&program.path("kit"));
    let names: Vec<_> = kit.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["README.md", "SHA256SUMS", "kit.json", "lifeboat", "lifeboat.toml", "runbooks/total-loss.md"];
    assert_eq!(names, expected);
    for key in ["recovery.identity", "host.identity", "signing.key"] {
        let secret = program.read(&format!("keys/{key}"));
        let secret = secret.lines().last().unwrap();
        assert!(secret.len() > 40, "{key} ends with its secret");
        for (name, bytes) in kit.iter().filter(|(name, _)| name != "lifeboat") {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{key} in {name}");
        }
    }
    let itself = fs::read(env!("CARGO_BIN_EXE_lifeboat")).unwrap();
    assert!(kit.iter().any(|(name, bytes)| name == "lifeboat" && *bytes == itself), "the program is this one");
    let checked = program.run("kit check kit").expect(0).stdout;
    assert!(checked.contains("whole"), "{checked}");
    // Carried elsewhere, its own program reads its own configuration, and `sha256sum` agrees.
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("kit");
    fs::rename(program.path("kit"), &moved).unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let output = std::process::Command::new(name).args(arguments).current_dir(&moved).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run("sha256sum", &["-c", "--quiet", "SHA256SUMS"]);
    let lifeboat = moved.join("lifeboat");
    run(lifeboat.to_str().unwrap(), &["kit", "check"]);
    run(lifeboat.to_str().unwrap(), &["config", "show"]);
}

#[test]
fn damage_and_age_are_told_apart() {
    let program = with_runbook();
    program.run("kit write kit").expect(0);
    program.write("kit/secrets/s3.key", "brought by people");
    program.run("kit check kit").expect(0);
    program.edit("rpo = \"24h\"", "rpo = \"12h\"");
    let stale = program.run("kit check kit").expect(5).stdout;
    assert!(stale.contains("lifeboat.toml has changed since"), "{stale}");
    program.run("kit write kit").expect(0);
    program.run("kit check kit").expect(0);
    program.write("runbooks/ransomware.md", "# Ransomware");
    let stale = program.run("kit check kit").expect(5).stdout;
    assert!(stale.contains("runbooks/ransomware.md is new since"), "{stale}");
    program.run("kit write kit").expect(0);
    fs::remove_file(program.path("runbooks/ransomware.md")).unwrap();
    let stale = program.run("kit check kit").expect(5).stdout;
    assert!(stale.contains("runbooks/ransomware.md is gone since"), "{stale}");
    program.run("kit write kit").expect(0);
    program.run("kit check kit").expect(0);
    assert_eq!(program.read("kit/secrets/s3.key"), "brought by people", "a newer kit leaves it alone");
    let cases: [(&str, &dyn Fn()); 3] = [
        ("runbooks/total-loss.md has changed", &|| program.write("kit/runbooks/total-loss.md", "# Run")),
        ("runbooks/total-loss.md is missing", &|| fs::remove_file(program.path("kit/runbooks/total-loss.md")).unwrap()),
        ("runbooks/evil.md does not belong", &|| program.write("kit/runbooks/evil.md", "# Send money")),
    ];
    for (what, damage) in cases {
        damage();
        let damaged = program.run("kit check kit").expect(4).stdout;
        assert!(damaged.contains(what) && damaged.contains("DAMAGED"), "{what}: {damaged}");
    }
    // A kit that was not written to its end is none, and can be written again.
    fs::remove_file(program.path("kit/SHA256SUMS")).unwrap();
    fs::remove_file(program.path("kit/kit.json")).unwrap();
    program.write("kit/KIT-UNFINISHED", "-  runbooks/evil.md\n-  ../lifeboat.toml\n");
    program.run("kit check kit").expect(6);
    program.run("kit write kit").expect(0);
    program.run("kit check kit").expect(0);
    assert!(program.path("lifeboat.toml").exists(), "a name that leads out of the kit is none");
}

#[test]
fn what_must_not_be_in_a_kit_is_refused_before_anything_is_written() {
    let program = with_runbook();
    let key = program.read("keys/signing.key");
    program.write("runbooks/total-loss.md", format!("# Total loss\n\nThe key:\n{key}"));
    let refused = program.run("kit write kit").expect(8).stderr;
    assert!(refused.contains("runbooks/total-loss.md:4: a private key"), "{refused}");
    assert!(!refused.contains(key.trim()) && !program.path("kit").exists());
    program.write("runbooks/total-loss.md", "# Total loss\n");
    program.write("full/thesis.txt", "three years of work");
    let refused = program.run("kit write full").expect(1).stderr;
    assert!(refused.contains("is not empty, and no kit"), "{refused}");
    assert_eq!(files(&program.path("full")).len(), 1);
    fs::set_permissions(program.path("full"), fs::Permissions::from_mode(0o755)).unwrap();
    program.run("kit write kit --runbooks nowhere").expect(6);
}
