//! Every byte of every file.

use lifeboat_evidence::audit::{Weight, Word};

use crate::world::{World, key, sound, write};

/// One bit of each byte in turn: nothing in the evidence is without meaning, not even the hint of a key.
#[test]
fn no_byte_can_be_changed() {
    let mut world = World::empty(key(7));
    world.hold("2026-11-21T10:00:00Z");
    world.hold("2026-11-21T12:00:00Z");
    sound(&world.audit());
    let (folder, mut tried) = (world.written(), 0);
    for (name, bytes) in &world.files {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            write(folder.path(), name, &changed);
            let audit = lifeboat_verify::audit(folder.path(), world.trust(), &[], None, &mut |_| {}).unwrap();
            assert_eq!(audit.findings.worst(), Some(Weight::Wrong), "{name}, byte {at}");
            tried += 1;
        }
        write(folder.path(), name, bytes);
    }
    assert!(tried > 4000, "{tried}");
}

#[test]
fn no_byte_can_be_added_or_taken_away() {
    let world = World::small();
    for (name, bytes) in &world.files {
        for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = world.clone();
            changed.files.get_mut(name).unwrap().truncate(end);
            assert!(!changed.audit().believed(), "{name}, cut at {end}");
        }
        for more in [" ", "\n", "x"] {
            let mut changed = world.clone();
            changed.files.get_mut(name).unwrap().extend_from_slice(more.as_bytes());
            assert!(!changed.audit().believed(), "{name} and {more:?}");
        }
    }
}

/// What an export has for people is not read by the program, so its bytes mean nothing to it: whoever uses them has to get
/// them from somebody they trust.
#[test]
fn files_for_people_are_not_read() {
    let mut world = World::small();
    for name in ["README.txt", "verify.py", "keys.txt"] {
        world.files.insert(name.to_owned(), key(66).public().to_string().into_bytes());
    }
    sound(&world.audit());
}

/// Full tiles and bundles hold what the entries give. Nobody signs them and nothing rests on them: another is named.
#[test]
fn tiles_are_recomputed() {
    use lifeboat_evidence::ledger::{leaf_hash, place, tile};
    let mut world = World::small();
    // Junk of others fills the log fast: it is named, and hurts nothing.
    while world.tree.size() < 256 {
        let junk = format!("junk {}", world.tree.size());
        world.leaf(junk.as_bytes());
    }
    world.hold("2026-11-21T13:00:00Z");
    let leaves: Vec<Vec<u8>> = (0..256).map(|index| world.files[&place::entry(index)].clone()).collect();
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let (tile, bundle) = (place::tile(0, 0), place::bundle(0));
    world.files.insert(tile.clone(), tile::encode(&hashes));
    world.files.insert(bundle.clone(), tile::bundle(&leaves).unwrap());
    let audit = world.audit();
    assert!(audit.believed() && audit.proven == 4, "{audit:#?}");
    assert_eq!(audit.findings.counts().values().sum::<u64>(), 253, "each piece of junk is named: {audit:#?}");
    for name in [&tile, &bundle] {
        for at in [0, 100, world.files[name].len() - 1] {
            let mut changed = world.clone();
            changed.files.get_mut(name).unwrap()[at] ^= 1;
            let audit = changed.audit();
            assert!(audit.believed() && audit.proven == 4, "nothing rests on a tile: {audit:#?}");
            assert_eq!(audit.findings.counts()[&Word::ForeignEntry], 254, "it is named: {name}, byte {at}");
        }
    }
    let beyond = place::tile(0, 1);
    let tile = world.files[&tile].clone();
    world.files.insert(beyond.clone(), tile);
    let audit = world.audit();
    assert!(audit.believed() && audit.proven == 4, "nothing rests on a tile: {audit:#?}");
    assert_eq!(audit.findings.counts()[&Word::ForeignEntry], 254, "it is named: {beyond}");
}
