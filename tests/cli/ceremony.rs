//! Keys through their lives: behind a passphrase, of SSH, rehearsed, rotated, revoked. Each against a real repository.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use lifeboat_engine::{
    context::{open_repository, open_store},
    keys::{document_keys, writer_keys},
};
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    document::{DocumentKind, Position},
    wal::{WalObjectKind, WalWriter},
};
use serde_json::Value;

use crate::{
    program::{Ended, Program, mode, shape},
    repository::{add_point, add_point_with_log},
};

const OLD: &str = "2026-11-20T10:00:00Z";
const NEW: &str = "2026-11-21T10:00:00Z";
const PASSPHRASE: &str = "correct horse battery";

/// The recovery identity is at `recovery.identity`.
fn initialised() -> Program {
    let program = Program::initialised();
    fs::rename(program.path("keys/recovery.identity"), program.path("recovery.identity")).unwrap();
    program
}

/// Makes `recovery` the only recipient.
fn seal_to(program: &Program, recovery: &str) {
    let text = program.read("lifeboat.toml");
    let start = text.find("recovery_recipients = [").unwrap();
    let end = start + text[start..].find(']').unwrap();
    let list = format!("recovery_recipients = [\"{recovery}\"");
    program.write("lifeboat.toml", [&text[..start], &list, &text[end..]].concat());
}

fn public(program: &Program, file: &str) -> String {
    program.run(&format!("key show {file}")).expect(0).stdout.trim().to_owned()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

fn packs(program: &Program) -> usize {
    files(&program.path("repository/hospital/clinic/packs")).len()
}

fn run_in(program: &Program, shell: &str) -> Ended {
    let output = Command::new("bash")
        .args(["-c", &shell.replace("lifeboat ", &format!("{} ", env!("CARGO_BIN_EXE_lifeboat")))])
        .current_dir(program.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A recovery identity behind a passphrase, and a point sealed to it.
fn behind_a_passphrase() -> Program {
    let program = initialised();
    program.write("passphrase", format!("{PASSPHRASE}\n"));
    program.run("key new recovery --passphrase-file passphrase --out locked.identity").expect(0);
    let text = program.read("locked.identity");
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") && !text.contains("SECRET"), "{text}");
    assert_eq!(mode(&program.path("locked.identity")), 0o600);
    let shown = program.run("key show locked.identity --passphrase-file passphrase").expect(0).stdout;
    seal_to(&program, shown.trim());
    add_point(&program, OLD);
    program
}

#[test]
fn an_identity_behind_a_passphrase_restores_with_it_and_only_with_it() {
    let program = behind_a_passphrase();
    let restore = "restore clinic --point latest --identity locked.identity";
    let nobody = program.run(&format!("{restore} --to out")).expect(8);
    assert!(nobody.stderr.contains("--passphrase-file"), "{}", nobody.stderr);
    program.write("wrong", "wrong horse battery");
    for verb in [
        format!("{restore} --to out"),
        "verify --read-data --identity locked.identity".to_owned(),
        "drill clinic --identity locked.identity".to_owned(),
        "points files clinic --identity locked.identity".to_owned(),
    ] {
        let wrong = program.run(&format!("{verb} --passphrase-file wrong")).expect(8);
        assert!(wrong.stderr.contains("passphrase given for locked.identity is wrong"), "{verb}: {}", wrong.stderr);
        assert!(!wrong.stderr.contains("horse"), "a passphrase is never repeated: {}", wrong.stderr);
    }
    assert!(!program.path("out").exists());
    program.run(&format!("{restore} --to out --passphrase-file passphrase")).expect(0);
    assert_eq!(program.read("out/filestore/odoo/ab/abc"), "attachment");
    program.run("verify --read-data --identity locked.identity --passphrase-file passphrase").expect(0);
    program.run("points files clinic --identity locked.identity --passphrase-file passphrase").expect(0);
    // Through a pipe: no file holds it.
    let piped = format!("lifeboat {restore} --to piped --passphrase-file /dev/fd/3 3< <(echo '{PASSPHRASE}')");
    run_in(&program, &piped).expect(0);
    assert_eq!(program.read("piped/filestore/odoo/ab/abc"), "attachment");
    fs::set_permissions(program.path("passphrase"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = program.run(&format!("{restore} --to other --passphrase-file passphrase")).expect(8);
    assert!(open.stderr.contains("chmod 0600"), "{}", open.stderr);
}

#[test]
fn short_passphrases_and_those_of_the_hosts_keys_are_refused() {
    let program = Program::new();
    program.write("short", "hunter2");
    let ended = program.run("key generate recovery --passphrase-file short --out key").expect(2);
    assert!(ended.stderr.contains("too short") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
    program.run("key generate host --passphrase-file short --out key").expect(2);
    program.run("key generate recovery --passphrase --out key").expect(8);
    assert!(!program.path("key").exists());
}

/// Types on a terminal, as a person would: when asked.
fn on_a_terminal(program: &Program, command: &str, typed: &str) -> Option<(i32, String)> {
    let command = command.replace("lifeboat ", &format!("{} ", env!("CARGO_BIN_EXE_lifeboat")));
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(program.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    let mut answered = 0;
    loop {
        let n = std::io::Read::read(&mut stdout, &mut part).unwrap();
        if n == 0 {
            break;
        }
        shown.extend_from_slice(&part[..n]);
        let asked = String::from_utf8_lossy(&shown).matches(": ").count();
        let prompts = String::from_utf8_lossy(&shown).matches("assphrase for").count()
            + String::from_utf8_lossy(&shown).matches("The same again").count();
        if asked > 0 && prompts > answered {
            stdin.write_all(typed.as_bytes()).unwrap();
            answered += 1;
        }
    }
    Some((child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&shown).into_owned()))
}

#[test]
fn a_typed_passphrase_is_not_shown_and_opens() {
    let program = behind_a_passphrase();
    let show = "lifeboat key show locked.identity";
    let Some((code, shown)) = on_a_terminal(&program, show, &format!("{PASSPHRASE}x\x7f\r")) else {
        assert!(std::env::var_os("LIFEBOAT_TESTBED").is_none(), "script is missing: run testbed/install");
        return;
    };
    assert!(code == 0 && shown.contains("age1") && !shown.contains("horse"), "{shown}");
    let (code, shown) = on_a_terminal(&program, show, "wrong\r").unwrap();
    assert!(code == 8 && shown.contains("is wrong") && !shown.contains("wrong\r\n\r"), "{shown}");
    let (code, shown) = on_a_terminal(&program, show, "half\x03").unwrap();
    assert!(code == 130 && shown.contains("stopped by Ctrl-C") && !shown.contains("half"), "{code} {shown}");
    let (code, shown) = on_a_terminal(&program, show, "half\x04").unwrap();
    assert!(code == 8 && shown.contains("none was typed") && !shown.contains("half"), "{code} {shown}");
    let generate = "lifeboat key generate recovery --passphrase --out typed.identity";
    let (code, shown) = on_a_terminal(&program, generate, &format!("{PASSPHRASE}\r")).unwrap();
    assert!(code == 0 && !shown.contains("horse"), "{shown}");
    program.run("key show typed.identity --passphrase-file passphrase").expect(0);
}

#[test]
fn ssh_keys_seal_and_open_and_a_second_backup_finds_what_is_stored() {
    let program = initialised();
    let made = run_in(&program, "ssh-keygen -q -t ed25519 -C somebody@safe -N '' -f ssh-key");
    if made.code == 127 {
        assert!(std::env::var_os("LIFEBOAT_TESTBED").is_none(), "ssh-keygen is missing: run testbed/install");
        return;
    }
    // With its comment, as the .pub file has it.
    seal_to(&program, program.read("ssh-key.pub").trim());
    program.run("key check").expect(0);
    add_point(&program, OLD);
    let before = packs(&program);
    add_point(&program, NEW);
    assert_eq!(packs(&program), before, "everything was stored already");
    program.run("restore clinic --point latest --to out --identity ssh-key").expect(0);
    assert_eq!(program.read("out/filestore/odoo/ab/abc"), "attachment");
    program.run("restore clinic --point latest --to other --identity recovery.identity").expect(8);
    assert!(public(&program, "ssh-key").starts_with("ssh-ed25519 AAAA"));
}

fn rehearse(program: &Program, identity: &str) -> Ended {
    let arguments = ["key", "rehearse", "--name", "safe at the bank", "--identity", identity, "--json"];
    program.run_with(&arguments, &[])
}

fn status(program: &Program) -> Value {
    program.run("key status --json").expect(0).json()["instances"][0].clone()
}

#[test]
fn a_rehearsal_proves_that_an_identity_alone_opens_the_newest_point() {
    let program = initialised();
    add_point(&program, OLD);
    let newest = add_point(&program, NEW);
    let before = status(&program);
    assert!(before["recipients"][0]["worries"][0].as_str().unwrap().contains("never rehearsed"), "{before:#}");
    let answer = rehearse(&program, "recovery.identity").expect(0).json();
    insta::assert_snapshot!("key-rehearsal-json", shape(&answer));
    let of = &answer["instances"][0];
    assert_eq!((&of["point"], &of["passed"]), (&Value::from(newest), &Value::from(true)));
    let tried: Vec<&str> = of["tried"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    for part in ["details", "chunk key", "tree database", "tree filestore", "pack 1"] {
        assert!(tried.iter().any(|what| what.starts_with(part)), "{part}: {tried:?}");
    }
    let after = status(&program);
    insta::assert_snapshot!("key-status-json", shape(&program.run("key status --json").expect(0).json()));
    assert_eq!(
        (&after["recipients"][0]["age_days"], &after["recipients"][0]["worries"]),
        (&0.into(), &Value::Array(vec![]))
    );
    assert_eq!(after["recipients"][0]["name"], "safe at the bank");
    let shown = program.run("key status").expect(0).stdout;
    assert!(shown.contains("safe at the bank") && shown.contains("ok"), "{shown}");
    // The evidence is believed, and the key is in no file but its own.
    program.run("evidence verify").expect(0);
    let secret = program.read("recovery.identity").lines().last().unwrap().to_owned();
    for file in [files(&program.path("repository")), files(&program.path("state"))].concat() {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", file.display());
    }
}

/// A piece of the stream's log after the point's own, and what a stream notes of its timeline.
async fn stream(program: &Program) {
    const SEGMENT: u64 = 16 << 20;
    let file = program.path("lifeboat.toml");
    let (config, _) = lifeboat_model::config::parse(&program.read("lifeboat.toml"), &file).unwrap();
    let store = open_store(&config.repository, &|_| None, true).await.unwrap();
    let repository = open_repository(store, &config.engine.state_dir, NEW.parse().unwrap()).await.unwrap();
    let repo = repository.instance(&config.tenant, &"clinic".parse().unwrap());
    let keys = writer_keys(&config.keys).unwrap();
    let position = Position { system_id: 7, timeline: 1, lsn: Lsn(SEGMENT) };
    let noted = serde_json::json!({ "history": null });
    let now = NEW.parse().unwrap();
    repo.put_document(DocumentKind::Timeline, position, &noted, &document_keys(&keys), now).await.unwrap();
    let writer = WalWriter::new(repo, keys.recipients, keys.signing, 1);
    let (kind, bytes) = (WalObjectKind::Slice, Bytes::from_static(&[7; 512]));
    writer.put(kind, 7, 1, SEGMENT, Lsn(SEGMENT + 0x200), bytes, None).await.unwrap();
}

#[test]
fn a_rehearsal_opens_the_log_and_what_a_stream_noted() {
    let program = initialised();
    add_point_with_log(&program, NEW, 1);
    tokio::runtime::Runtime::new().unwrap().block_on(stream(&program));
    let answer = rehearse(&program, "recovery.identity").expect(0).json();
    let tried = answer["instances"][0]["tried"].to_string();
    for part in ["WAL of the point, slice 1", "newest WAL of the archive, 0/1000200", "newest document in"] {
        assert!(tried.contains(part), "{part}: {tried}");
    }
    let answer = rehearse(&program, "keys/host.identity").expect(4).json();
    let failures = answer["instances"][0]["failures"].to_string();
    assert!(failures.contains("newest WAL of the archive") && !failures.contains("document"), "{failures}");
}

#[test]
fn a_wrong_and_a_damaged_identity_are_failed_rehearsals_and_stay_known() {
    let program = initialised();
    add_point(&program, NEW);
    program.run("key generate recovery --out stranger.identity").expect(0);
    for wrong in ["stranger.identity", "keys/host.identity"] {
        let answer = rehearse(&program, wrong).expect(4).json();
        let failures = answer["instances"][0]["failures"].to_string();
        assert!(failures.contains("none of the recipients"), "{failures}");
    }
    // The host's own identity opens lists: that alone is no proof.
    let answer = rehearse(&program, "keys/host.identity").json();
    assert!(answer["instances"][0]["failures"].to_string().contains("pack 1"), "{answer:#}");
    let text = program.read("recovery.identity");
    program.write("damaged.identity", &text[..text.len() - 10]);
    let arguments = ["key", "rehearse", "clinic", "--name", "office", "--identity", "damaged.identity"];
    let ended = program.run_with(&arguments, &[]).expect(8);
    let secret = &program.read("recovery.identity").lines().last().unwrap()[16..30].to_owned();
    assert!(ended.stdout.contains("DOES NOT OPEN") && !ended.stdout.contains(secret), "{}", ended.stdout);
    let status = status(&program);
    assert_eq!(status["unreadable"][0]["name"], "office");
    let stranger = public(&program, "stranger.identity");
    let row =
        status["recipients"].as_array().unwrap().iter().find(|row| row["recipient"] == stranger.as_str()).unwrap();
    assert!(row["worries"][0].as_str().unwrap().contains("opens neither"), "{row:#}");
    let kept = program.run("evidence list --json").expect(0).stdout;
    assert_eq!(kept.matches("\"rehearsal\"").count(), 4, "{kept}");
    let doctor = program.run("doctor --no-drill --json").stdout;
    assert!(doctor.contains("keys.rehearsed") && doctor.contains("never rehearsed"), "{doctor}");
}

#[test]
fn a_damaged_object_fails_the_rehearsal_by_name() {
    let program = initialised();
    add_point(&program, NEW);
    let pack = files(&program.path("repository/hospital/clinic/packs")).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let answer = rehearse(&program, "recovery.identity").expect(4).json();
    let failures = answer["instances"][0]["failures"].to_string();
    assert!(failures.contains("SHA-256") && failures.contains("pack 1"), "{failures}");
}

#[test]
fn a_new_host_identity_still_finds_what_is_stored() {
    let program = initialised();
    add_point(&program, OLD);
    let before = packs(&program);
    let text = program.read("lifeboat.toml");
    let told = program.run("key rotate host --out keys/told.identity").expect(0).stdout;
    assert!(told.contains("former_host_identity_files: add \"keys/host.identity\""), "{told}");
    assert_eq!(program.read("lifeboat.toml"), text, "without --write nothing is changed");
    let done = program.run("key rotate host --out keys/host-2.identity --write --json").expect(0).json();
    insta::assert_snapshot!("key-rotation-json", shape(&done));
    let changed = program.read("lifeboat.toml");
    assert!(changed.contains("host_identity_file = \"keys/host-2.identity\""), "{changed}");
    let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
    assert_eq!(comments(&changed), comments(&text), "comments stay");
    program.run("key check").expect(0);
    add_point(&program, NEW);
    assert_eq!(packs(&program), before, "nothing was stored anew");
    let shown = program.run("points show clinic --json").expect(0).json();
    assert_eq!(shown["sealed"]["opened"], true);
    program.run("restore clinic --point latest --to out --identity recovery.identity").expect(0);
    let kept = program.run("evidence list --json").expect(0).stdout;
    assert_eq!(kept.matches("\"rotation\"").count(), 1, "{kept}");
}

#[test]
fn a_retired_recovery_identity_opens_what_was_sealed_to_it_and_nothing_newer() {
    let program = initialised();
    let old = add_point(&program, OLD);
    let retired = public(&program, "recovery.identity");
    let rotate = format!("key rotate recovery --out second.identity --retire {retired} --write");
    let told = program.run(&rotate).expect(0).stdout;
    assert!(told.contains("still opens every older point"), "{told}");
    add_point(&program, NEW);
    program.run("restore clinic --point latest --to new --identity second.identity").expect(0);
    program.run("restore clinic --point latest --to no --identity recovery.identity").expect(8);
    program.run(&format!("restore clinic --point {old} --to old --identity recovery.identity")).expect(0);
    program.run(&format!("restore clinic --point {old} --to no --identity second.identity")).expect(8);
    let unknown = program.run(&format!("key rotate recovery --out third.identity --retire {retired}")).expect(2);
    assert!(unknown.stderr.contains("none of keys.recovery_recipients"), "{}", unknown.stderr);
    assert!(!program.path("third.identity").exists());
    program.run("key rotate recovery --out second.identity").expect(1);
}

#[test]
fn a_revoked_key_is_believed_for_what_was_there_and_for_nothing_later() {
    let program = initialised();
    let old = add_point(&program, OLD);
    let stolen = public(&program, "keys/signing.key");
    fs::copy(program.path("lifeboat.toml"), program.path("thief.toml")).unwrap();
    program.run("key rotate signing --out keys/signing-2.key --write").expect(0);
    let arguments = ["key", "revoke", "--key", &stolen, "--reason", "the host was broken into", "--json"];
    let revoked = program.run_with(&arguments, &[]).expect(0).json();
    insta::assert_snapshot!("key-revocation-json", shape(&revoked));
    assert_eq!(revoked["own"], false);
    assert_eq!(program.run("points list --json").expect(0).json()["points"][0]["valid"], true, "what was there stays");

    // The thief goes on with the stolen key, and dates the point back to long before the revocation.
    let own = program.read("lifeboat.toml");
    program.write("lifeboat.toml", program.read("thief.toml"));
    let forged = add_point(&program, "2026-11-20T11:00:00Z");
    program.write("lifeboat.toml", own);
    let listed = program.run("points list --json").expect(4).json();
    let validity: Vec<(&Value, &Value)> =
        listed["points"].as_array().unwrap().iter().map(|point| (&point["point"], &point["valid"])).collect();
    assert_eq!(validity, [(&old.as_str().into(), &true.into()), (&forged.as_str().into(), &false.into())]);
    let restored = program.run("restore clinic --point latest --to out --identity recovery.identity --json").expect(0);
    assert!(restored.stdout.contains(&old), "{}", restored.stdout);
    let refused =
        program.run(&format!("restore clinic --point {forged} --to no --identity recovery.identity")).expect(4);
    assert!(refused.stderr.contains("revoked"), "{}", refused.stderr);
    // The new key goes on.
    let newest = add_point(&program, NEW);
    let listed = program.run("points list --json").expect(4).json();
    assert_eq!((&listed["points"][2]["point"], &listed["points"][2]["valid"]), (&newest.as_str().into(), &true.into()));
}

#[test]
fn a_statement_of_a_thief_takes_nothing_away_that_was_there() {
    let program = initialised();
    add_point(&program, OLD);
    let own = public(&program, "keys/signing.key");
    // The thief has the signing key and says that it was stolen long ago.
    let since = "2020-01-01T00:00:00Z";
    let arguments = ["key", "revoke", "--key", &own, "--reason", "malice", "--since", since];
    let told = program.run_with(&arguments, &[]).expect(0).stdout;
    assert!(told.contains("no backup counts until it has a new one"), "{told}");
    assert_eq!(program.run("points list --json").expect(0).json()["points"][0]["valid"], true);
    // The owner's configuration reaches back.
    let section = format!("\n[[keys.revoked]]\nkey = \"{own}\"\nat = \"{since}\"\n");
    let text = program.read("lifeboat.toml") + &section;
    program.write("lifeboat.toml", text);
    assert_eq!(program.run("points list --json").expect(4).json()["points"][0]["valid"], false);
    let status = program.run("key status --json").expect(0).json();
    assert_eq!(status["revoked"][0]["at"], since);
}

#[test]
fn only_a_trusted_key_revokes_and_with_write_the_configuration_says_so() {
    let program = initialised();
    add_point(&program, OLD);
    program.run("key generate signing --out stranger.key").expect(0);
    let (own, stranger) = (public(&program, "keys/signing.key"), public(&program, "stranger.key"));
    let revoke = |key: &str, more: &[&str]| {
        program.run_with(&[&["key", "revoke", "--key", key, "--reason", "lost"], more].concat(), &[])
    };
    revoke(&stranger, &[]).expect(2);
    revoke(&own, &["--signing-key", "stranger.key"]).expect(8);
    revoke(&own, &["--since", "2999-01-01T00:00:00Z"]).expect(2);
    revoke(&own, &["--write"]).expect(0);
    let text = program.read("lifeboat.toml");
    assert!(text.contains("[[keys.revoked]]") && text.contains(&own), "{text}");
    let refused = revoke(&own, &[]).expect(8);
    assert!(refused.stderr.contains("itself revoked"), "{}", refused.stderr);
}

#[test]
fn a_copy_that_was_made_before_a_revocation_reaches_back_still_restores() {
    let program = initialised();
    program.edit(
        "[repository]\npath = \"repository\"\n",
        "[[repository]]\nname = \"main\"\nrole = \"primary\"\npath = \"repository\"\n\n\
         [[repository]]\nname = \"offsite\"\nrole = \"copy\"\npath = \"offsite\"\n",
    );
    let id = add_point(&program, OLD);
    program.run("copy clinic").expect(0);
    let stolen = public(&program, "keys/signing.key");
    program.run("key rotate signing --out keys/signing-2.key --write").expect(0);
    // Between the point's making and its copying, which is what the copy's own times tell.
    let arguments =
        ["key", "revoke", "--key", &stolen, "--reason", "stolen", "--since", "2026-11-21T00:00:00Z", "--write"];
    program.run_with(&arguments, &[]).expect(0);
    let restore = |point: &str| {
        let rest = "--repository offsite --to out --identity recovery.identity";
        program.run(&format!("restore clinic --point {point} {rest}"))
    };
    // The copy cannot tell it from what the thief made: it is not handed out unasked.
    let latest = restore("latest");
    assert!(latest.code != 0 && latest.stderr.contains("only by its id"), "{}", latest.stderr);
    restore(&id).expect(0);
    assert_eq!(program.read("out/filestore/odoo/ab/abc"), "attachment");
}

#[test]
fn a_recipient_whose_plugin_is_missing_is_told_before_it_matters() {
    let program = initialised();
    seal_to(&program, "age1lifeboattest1pppppppp6f99kr");
    let checked = program.run("key check").expect(8).stdout;
    assert!(checked.contains("age-plugin-lifeboattest is not on PATH"), "{checked}");
    seal_to(&program, "age1lifeboattest1pppppppp6f99kq");
    let checked = program.run("config check").expect(3);
    assert!(checked.stdout.contains("wrong letter"), "{checked:?}");
}
