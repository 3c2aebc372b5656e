//! Sealing and opening, held against the programs that people have: `age` and `ssh-keygen`.
//!
//! They are there where `testbed/install` ran; elsewhere what needs them is passed over, unless the testbed is asked for.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use lifeboat_model::secret::Secret;
use lifeboat_testkit::folder::put_program;

use super::*;

#[test]
fn opens_for_each_recipient_and_nobody_else() {
    let (a, b, c) = (Identity::generate(), Identity::generate(), Identity::generate());
    let sealed = seal(&[a.recipient(), b.recipient()], b"patient").unwrap();
    assert_eq!(sealed.sha256.0, <[u8; 32]>::from(Sha256::digest(&sealed.bytes)));
    for identity in [&a, &b] {
        assert_eq!(open_all(std::slice::from_ref(identity), &sealed.bytes).unwrap(), b"patient");
    }
    assert!(matches!(open_all(&[c], &sealed.bytes), Err(OpenError::WrongIdentity)));
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let identity = Identity::generate();
    let sealed = seal(&[identity.recipient()], b"patient").unwrap().bytes;
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(open_all(std::slice::from_ref(&identity), &changed).is_err(), "byte {at}");
        assert!(open_all(std::slice::from_ref(&identity), &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn texts() {
    let identity = Identity::generate();
    let text = Secret::new(format!("# created: today\n\n{}\n", identity.to_secret_text().expose()));
    assert_eq!(Identity::from_secret_text(&text).unwrap().recipient(), identity.recipient());
    assert_eq!(identity.recipient().to_string().parse::<Recipient>().unwrap(), identity.recipient());
    assert!(!format!("{identity:?}").contains("SECRET"));
    for bad in ["", "# only a comment", "AGE-SECRET-KEY-1XYZ"] {
        let error = Identity::from_secret_text(&Secret::new(bad)).unwrap_err().to_string();
        assert!(!error.contains("XYZ"), "{error}");
    }
}

/// Whether the programs are here. With the testbed they must be.
fn has_programs() -> bool {
    let there = ["age", "age-keygen", "ssh-keygen"].iter().all(|program| which(program).is_some());
    assert!(there || !lifeboat_testkit::testbed::enabled(), "age and ssh-keygen are missing: run testbed/install");
    there
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a program and gives its standard output.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Both at once: a pipe that is full on either side would stop both.
    let ended = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    ended.stdout
}

struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn ssh(&self, name: &str, kind: &[&str], passphrase: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-C", "somebody@safe", "-N", passphrase, "-f"]).arg(self.path(name)).arg("-t").args(kind);
        run(&mut command, b"");
    }

    fn recipient(&self, name: &str) -> Recipient {
        String::from_utf8(self.read(&format!("{name}.pub"))).unwrap().parse().unwrap()
    }

    fn identity(&self, name: &str) -> Identity {
        let IdentityFile::Open(mut found) = IdentityFile::parse(&self.read(name), Arc::new(Nobody)).unwrap() else {
            panic!("{name} is locked")
        };
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

fn locked(file: &[u8]) -> LockedIdentity {
    match IdentityFile::parse(file, Arc::new(Nobody)).unwrap() {
        IdentityFile::Locked(locked) => locked,
        IdentityFile::Open(_) => panic!("it is not locked"),
    }
}

#[test]
fn age_opens_what_is_sealed_here_and_the_other_way_round() {
    if !has_programs() {
        return;
    }
    let keys = Keys::new();
    keys.ssh("ed", &["ed25519"], "");
    keys.ssh("rsa", &["rsa", "-b", "3072"], "");
    run(Command::new("age-keygen").arg("-o").arg(keys.path("x")), b"");
    let x = keys.identity("x");
    let recipients = [x.recipient(), keys.recipient("ed"), keys.recipient("rsa")];
    // Longer than two pieces of age's payload, as packs are.
    let plain: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let sealed = seal(&recipients, &plain).unwrap().bytes;
    for name in ["x", "ed", "rsa"] {
        let opened = run(Command::new("age").args(["-d", "-i"]).arg(keys.path(name)), &sealed);
        assert!(opened == plain, "age opens with {name}");
        assert_eq!(open_all(&[keys.identity(name)], &sealed).unwrap(), plain);
        assert_eq!(keys.identity(name).recipient(), if name == "x" { x.recipient() } else { keys.recipient(name) });
        let mut age = Command::new("age");
        age.args(["-r", &keys.identity(name).recipient().to_string()]);
        let theirs = run(&mut age, &plain);
        assert_eq!(open_all(&[keys.identity(name)], &theirs).unwrap(), plain);
        assert!(matches!(open_all(&[Identity::generate()], &theirs), Err(OpenError::WrongIdentity)));
    }
}

#[test]
fn the_text_of_an_ssh_recipient_has_no_comment_and_is_one() {
    if !has_programs() {
        return;
    }
    let keys = Keys::new();
    keys.ssh("ed", &["ed25519"], "");
    let (recipient, line) = (keys.recipient("ed"), String::from_utf8(keys.read("ed.pub")).unwrap());
    assert!(line.ends_with("somebody@safe\n") && line.starts_with(&recipient.to_string()));
    assert!(!recipient.to_string().contains("somebody"));
    assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
    // The parser of the library stops after the key: what follows it must not be passed over.
    let longer = recipient.to_string() + "AAAA";
    assert!(longer.parse::<Recipient>().is_err(), "{longer}");
}

#[test]
fn ssh_keys_that_cannot_be_used_are_refused_with_words() {
    if !has_programs() {
        return;
    }
    let keys = Keys::new();
    let refused = |name: &str, kind: &[&str]| {
        keys.ssh(name, kind, "");
        let text = String::from_utf8(keys.read(&format!("{name}.pub"))).unwrap();
        text.parse::<Recipient>().map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused("small", &["rsa", "-b", "1024"]).contains("too weak"));
    assert!(refused("ecdsa", &["ecdsa"]).contains("ecdsa-sha2-nistp256"));
    let IdentityError(words) = identity_error(&keys.read("ecdsa"));
    assert!(words.contains("ecdsa-sha2-nistp256"), "{words}");
    for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "age1nonsense", "age1pq1qqqqqq", "AGE-SECRET-KEY-1QQ"] {
        assert!(bad.parse::<Recipient>().is_err(), "{bad}");
    }
}

struct IdentityError(String);

fn identity_error(file: &[u8]) -> IdentityError {
    match IdentityFile::parse(file, Arc::new(Nobody)) {
        Err(error) => IdentityError(error.to_string()),
        Ok(_) => panic!("it is usable"),
    }
}

#[test]
fn ssh_keys_behind_a_passphrase_open_with_it_alone() {
    if !has_programs() {
        return;
    }
    let keys = Keys::new();
    keys.ssh("ed", &["ed25519", "-a", "2"], "correct horse");
    keys.ssh("rsa", &["rsa", "-b", "2048", "-a", "2"], "correct horse");
    for name in ["ed", "rsa"] {
        let sealed = seal(&[keys.recipient(name)], b"patient").unwrap().bytes;
        let file = locked(&keys.read(name));
        let opened = file.unlock(&Secret::new("correct horse")).unwrap();
        assert_eq!(open_all(&opened, &sealed).unwrap(), b"patient");
        for wrong in ["correct hors", ""] {
            assert!(matches!(file.unlock(&Secret::new(wrong)), Err(UnlockError::WrongPassphrase)), "{name} {wrong:?}");
        }
    }
}

/// `age -p` asks on a terminal; `script` is one.
fn age_with_passphrase(arguments: &str, keys: &Keys, passphrase: &str, times: usize) -> bool {
    let mut command = Command::new("script");
    command.args(["-qec", &format!("age {arguments}"), "/dev/null"]).current_dir(keys.0.path());
    let input = format!("{passphrase}\n").repeat(times);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().status.success()
}

#[test]
fn an_identity_that_age_locked_opens_and_age_opens_what_is_locked_here() {
    if !has_programs() || which("script").is_none() {
        return;
    }
    let keys = Keys::new();
    run(Command::new("age-keygen").arg("-o").arg(keys.path("x")), b"");
    let recipient = keys.identity("x").recipient();
    for form in ["", "-a"] {
        assert!(age_with_passphrase(&format!("-p {form} -o locked{form} x"), &keys, "correct horse", 2));
        let file = locked(&keys.read(&format!("locked{form}")));
        assert_eq!(file.unlock(&Secret::new("correct horse")).unwrap()[0].recipient(), recipient);
        assert!(matches!(file.unlock(&Secret::new("correct")), Err(UnlockError::WrongPassphrase)));
    }
    let text = Secret::new(String::from_utf8(keys.read("x")).unwrap());
    let ours = lock_identity(&text, &Secret::new("correct horse")).unwrap();
    fs::write(keys.path("ours"), ours.expose()).unwrap();
    assert!(age_with_passphrase("-d -o opened ours", &keys, "correct horse", 1));
    assert_eq!(keys.read("opened"), text.expose().as_bytes());
    // And as an identity file, behind its passphrase.
    fs::write(keys.path("sealed"), seal(&[recipient], b"patient").unwrap().bytes).unwrap();
    assert!(age_with_passphrase("-d -i ours -o plain sealed", &keys, "correct horse", 1));
    assert_eq!(keys.read("plain"), b"patient");
}

#[test]
fn a_locked_file_that_was_changed_is_told_from_a_wrong_passphrase() {
    let text = Identity::generate().to_secret_text();
    let ours = lock_identity(&text, &Secret::new("pass")).unwrap();
    let cut = &ours.expose().as_bytes()[..ours.expose().len() / 2];
    let error = locked(cut).unlock(&Secret::new("pass")).unwrap_err();
    assert!(matches!(error, UnlockError::Content(_)), "{error:?}");
    let sealed = seal(&[Identity::generate().recipient()], text.expose().as_bytes()).unwrap().bytes;
    let error = locked(&sealed).unlock(&Secret::new("pass")).unwrap_err();
    assert!(error.to_string().contains("instead of a passphrase"), "{error}");
    // What is locked is no identity.
    let noise = lock_identity(&Secret::new("hunter2"), &Secret::new("pass")).unwrap();
    let error = locked(noise.expose().as_bytes()).unlock(&Secret::new("pass")).unwrap_err();
    assert!(matches!(error, UnlockError::Content(_)) && !error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn the_newest_identity_names_the_recipient_and_all_open() {
    let [first, second, third] = [(); 3].map(|()| Identity::generate());
    let before: Vec<_> =
        [&first, &second, &third].map(|one| seal(&[one.recipient()], b"patient").unwrap().bytes).into();
    let all = third.clone().with_former(vec![second.with_former(vec![first])]);
    assert_eq!(all.recipient(), third.recipient());
    for sealed in &before {
        assert_eq!(open_all(std::slice::from_ref(&all), sealed).unwrap(), b"patient");
    }
    assert!(matches!(open_all(&[third], &before[0]), Err(OpenError::WrongIdentity)));
}

/// A plugin in a few lines of shell: it "seals" by writing the key of the file into the stanza. For tests alone.
const PLUGIN: &str = r#"#!/bin/sh
next() { read -r line || exit 1; case $line in '-> '*) read -r body || exit 1;; esac; }
if [ "$1" = --age-plugin=recipient-v1 ]; then
  while next; do case $line in '-> wrap-file-key'*) key=$body;; '-> done'*) break;; esac; done
  if [ -e "$0.broken" ]; then printf -- '-> error internal\nbm8gY2FyZA\n'; next; printf -- '-> done\n\n'; exit; fi
  printf -- '-> recipient-stanza 0 lifeboat-test\n%s\n' "$key"; next
else
  n=0
  while next; do case $line in '-> recipient-stanza 0 lifeboat-test'*) key=$body; n=1;; '-> done'*) break;; esac; done
  if [ $n = 1 ]; then printf -- '-> file-key 0\n%s\n' "$key"; next; fi
fi
printf -- '-> done\n\n'
"#;

/// `age1lifeboattest1…`
const TEST_RECIPIENT: &str = "age1lifeboattest1pppppppp6f99kr";

fn plugin_key(prefix: &str) -> String {
    // Bech32 of no bytes, made by the library itself.
    let identity = age::plugin::Identity::default_for_plugin("lifeboattest").unwrap().to_string();
    assert_eq!(prefix, "AGE-PLUGIN-");
    identity
}

#[test]
fn a_plugins_recipient_is_sealed_to_by_the_plugin() {
    let keys = Keys::new();
    let program = keys.path("age-plugin-lifeboattest");
    let script = keys.path("plugin.sh");
    put_program(&script, PLUGIN);
    assert!(TEST_RECIPIENT.parse::<Recipient>().unwrap().plugin() == Some("lifeboattest"));
    let identity = plugin_key("AGE-PLUGIN-");
    let missing = Secret::new(identity.clone());
    assert!(Identity::from_secret_text(&missing).unwrap_err().to_string().contains("recipient"));
    let text = format!("# made for a test\n#    Recipient: {TEST_RECIPIENT}\n{identity}\n");
    let identity = Identity::from_secret_text(&Secret::new(text)).unwrap();
    assert_eq!(identity.recipient().to_string(), TEST_RECIPIENT);
    assert!(!format!("{identity:?}").contains("AGE-PLUGIN"));

    // PATH is the process's own: the rest happens in a child of this very test.
    if std::env::var_os(CHILD).is_none() {
        let no_plugin = seal(&[identity.recipient()], b"patient").unwrap_err().to_string();
        assert!(no_plugin.contains("sealing"), "{no_plugin}");
        fs::rename(&script, &program).unwrap();
        let path = std::env::join_paths(
            std::iter::once(keys.0.path().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let this = std::thread::current().name().unwrap().to_owned();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &this]).env("PATH", path.unwrap()).env(CHILD, keys.0.path());
        let told = String::from_utf8(run(&mut command, b"")).unwrap();
        assert!(told.contains("1 passed"), "{told}");
        return;
    }
    with_plugin(&identity, Path::new(&std::env::var_os(CHILD).unwrap()));
}

const CHILD: &str = "LIFEBOAT_TEST_PLUGIN_FOLDER";

fn with_plugin(identity: &Identity, folder: &Path) {
    let other = Identity::generate();
    let sealed = seal(&[other.recipient(), identity.recipient()], b"patient").unwrap().bytes;
    for one in [identity, &other] {
        assert_eq!(open_all(std::slice::from_ref(one), &sealed).unwrap(), b"patient");
    }
    let not_for_it = seal(&[other.recipient()], b"patient").unwrap().bytes;
    assert!(matches!(open_all(std::slice::from_ref(identity), &not_for_it), Err(OpenError::WrongIdentity)));
    fs::write(folder.join("age-plugin-lifeboattest.broken"), "").unwrap();
    let Error::Io { source, .. } = seal(&[identity.recipient()], b"patient").unwrap_err() else { panic!() };
    assert!(source.to_string().contains("no card"), "{source}");
}
