//! A second opinion: `docs/verify.py`, which knows nothing of this crate, and asks openssl about signatures. Part of the
//! testbed's tests, as it needs `python3` and `openssl`.

use std::{fs, path::Path, process::Command};

use lifeboat_evidence::ledger::place;

use crate::world::{REPOSITORY, World, key, write};

fn wanted() -> bool {
    std::env::var("LIFEBOAT_TESTBED").is_ok()
}

/// Whether it verified, and what it said.
fn opinion(directory: &Path, more: &[&str]) -> (bool, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify.py");
    let output = Command::new("python3")
        .arg(program)
        .arg(directory)
        .arg(key(7).public().to_string())
        .args(more)
        .output()
        .expect("python3 is installed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("verified") || said.contains("WRONG"), "it came to no opinion: {said}");
    (output.status.success(), said)
}

#[test]
fn an_independent_program_agrees() {
    if !wanted() {
        return;
    }
    let mut world = World::small();
    world.leaf(b"junk");
    world.hold("2026-11-21T13:00:00Z");
    // It is stricter than we are: junk in the ledger is wrong for it.
    let (verified, said) = opinion(world.written().path(), &[]);
    assert!(!verified && said.contains("entry 3"), "{said}");
    let world = World::small();
    let folder = world.written();
    let kept = write(folder.path(), "kept", &world.kept());
    let (verified, said) = opinion(folder.path(), &["--against", kept.to_str().unwrap()]);
    assert!(verified && said.contains("3 statements, 3 entries, 4 checkpoints: verified"), "{said}");
}

#[test]
fn an_independent_program_sees_what_we_see() {
    if !wanted() {
        return;
    }
    let world = World::small();
    let folder = world.written();
    for (name, bytes) in &world.files {
        // The middle of a file is in what is signed, its end but one in the signature.
        for at in [bytes.len() / 2, bytes.len() - 12] {
            let mut changed = bytes.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            write(folder.path(), name, &changed);
            let (verified, said) = opinion(folder.path(), &[]);
            assert!(!verified, "{name}, byte {at}: {said}");
        }
        fs::remove_file(folder.path().join(name)).unwrap();
        // An inner checkpoint is missed by us alone: the later ones say the same.
        let inner = (1..3).any(|size| *name == place::checkpoint(size));
        let (verified, said) = opinion(folder.path(), &[]);
        assert_eq!(verified, inner, "{name} is gone: {said}");
        write(folder.path(), name, bytes);
    }
    let mut longer = world.clone();
    longer.hold("2026-11-21T13:00:00Z");
    let kept = write(folder.path(), "kept", &longer.kept());
    let (verified, said) = opinion(folder.path(), &["--against", kept.to_str().unwrap()]);
    assert!(!verified && said.contains("cut off"), "{said}");
    let mut other = World::empty(key(8));
    other.hold("2026-11-21T10:00:00Z");
    assert!(!opinion(other.written().path(), &[]).0);
}

/// The same key signs the ledgers of other tenants and repositories.
#[test]
fn an_independent_program_sees_other_ledgers() {
    if !wanted() {
        return;
    }
    let world = World::small();
    let folder = world.written();
    let (verified, said) = opinion(folder.path(), &[]);
    assert!(verified && said.contains(&format!("ledger {}: ", world.origin)), "{said}");
    let seen = |directory: &Path, more: &[&str]| {
        let (verified, said) = opinion(directory, more);
        assert!(!verified && said.contains("more than one ledger"), "{said}");
    };
    let other = lifeboat_evidence::ledger::origin(REPOSITORY, &"other".parse().unwrap());
    let mut mixed = world.clone();
    mixed.origin = other;
    mixed.sign();
    let kept = write(folder.path(), "kept", &mixed.kept());
    seen(folder.path(), &["--against", kept.to_str().unwrap()]);
    mixed.hold("2026-11-21T13:00:00Z");
    seen(mixed.written().path(), &[]);
    // The entry alone.
    mixed.origin.clone_from(&world.origin);
    mixed.files.insert(place::checkpoint(3), world.kept());
    mixed.sign();
    assert!(!mixed.audit().believed());
    seen(mixed.written().path(), &[]);
}
