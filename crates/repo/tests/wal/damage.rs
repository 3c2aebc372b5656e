//! What was changed, moved or forged is refused in the right words; and where another object has the same range, that
//! one is read.

use lifeboat_model::{
    id::{Instance, RepositoryId},
    lsn::Lsn,
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{
    Error,
    seal::Identity,
    wal::{WalArchive, WalObject, WalObjectKind},
};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, Operation, Rule},
};
use sha2::{Digest as _, Sha256};

use crate::world::*;

const S: u64 = SEGMENT;

fn mend(bytes: &mut [u8]) {
    let (body, digest) = bytes.split_last_chunk_mut::<32>().unwrap();
    digest.copy_from_slice(&Sha256::digest(body));
}

fn refused(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. } | Error::Untrusted { .. } | Error::Unknown { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_is_noticed() {
    let world = World::new();
    let object = world.slice(0, 3000).await;
    let (reader, archive) = (world.reader().await, world.repo().await.wal_archive());
    let trusted = [world.signing.public()];
    let len = object.len as usize;
    let sealed = archive.head(&object, &trusted).await.unwrap().sealed.len as usize;
    let front = len - sealed - 32;
    let step = |at: usize| if at < front || at > len - 32 { 1 } else { 97 };
    let mut at = 0;
    while at < len {
        for mended in [false, true] {
            let original = world.memory.get(&object.key, None, None).await.unwrap();
            world.memory.tamper(object.key.as_str(), |bytes| {
                bytes[at] ^= 0x11;
                if mended && at < len - 32 {
                    mend(bytes);
                }
            });
            let error = reader.read(&object).await.unwrap_err();
            assert!(refused(&error) && error.to_string().contains(object.key.as_str()), "byte {at}: {error}");
            let head = archive.head(&object, &trusted).await;
            assert_eq!(head.is_err(), at < front, "byte {at}: a head reads the front alone: {head:?}");
            world.memory.tamper(object.key.as_str(), |bytes| *bytes = original.to_vec());
        }
        at += step(at);
    }
    assert!(reader.read(&object).await.unwrap() == wal(0, 3000), "whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_is_noticed() {
    let world = World::new();
    let object = world.slice(0, 3000).await;
    let trusted = [world.signing.public()];
    for len in (0..object.len as usize).step_by(53) {
        let copy = World::new();
        let (world, copy) = (&world, World { signing: world.signing.clone(), ..copy });
        let bytes = world.memory.get(&object.key, None, None).await.unwrap();
        copy.store.put(&object.key, bytes.slice(..len)).await.unwrap();
        // As a listing would name it, and as one of before the cut did.
        let listed = copy.list(0).await.objects()[0].clone();
        assert_eq!(listed.len, len as u64);
        let earlier = WalObject { version: listed.version.clone(), ..object.clone() };
        for object in [&listed, &earlier] {
            let error = copy.reader().await.read(object).await.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{len}: {error}");
            let error = copy.repo().await.wal_archive().head(object, &trusted).await.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. } | Error::Store(_)), "{len}: {error}");
        }
    }
}

async fn assert_untrusted(
    archive: &WalArchive,
    object: &WalObject,
    trusted: PublicKey,
    identity: &Identity,
    says: &str,
) {
    let error = archive.reader(vec![trusted], vec![identity.clone()]).read(object).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }) && error.to_string().contains(says), "{}: {error}", object.key);
    let error = archive.head(object, &[trusted]).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }) && error.to_string().contains(says), "{}: {error}", object.key);
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_and_foreign_objects_are_not_trusted() {
    let world = World::new();
    let whole = world.put(WalObjectKind::Slice, 0, S).await.unwrap();
    let bytes = world.memory.get(&whole.key, None, None).await.unwrap();
    let (old, id) = (format!("{:016x}-{S:016x}", 0), whole.key.as_str().rsplit('-').next().unwrap());
    let name = whole.key.as_str();
    let renamed = [
        name.replace(&old, &format!("{S:016x}-{:016x}", 2 * S)),
        name.replace(&old, &format!("{:016x}-{:016x}", 0, S - 1)),
        name.replace("/slice/", "/segment/"),
        name.replace(id, &format!("{:032x}", 7)),
        name.replace(&format!("{TIMELINE:08x}"), &format!("{:08x}", TIMELINE + 1)),
        name.replace(&SYSTEM.to_string(), "77"),
    ];
    let archive = world.repo().await.wal_archive();
    for name in &renamed {
        world.store.put(&Key::new(name.as_str()).unwrap(), bytes.clone()).await.unwrap();
        let (system, timeline) =
            (if name.contains("/77/") { 77 } else { SYSTEM }, if name.contains("00000004") { 4 } else { 3 });
        let listing = archive.list(system, timeline, Lsn(0)).await.unwrap();
        let replaced = archive.replacements(&whole).await.unwrap();
        let found = listing.objects().iter().chain(&replaced).find(|found| found.key.as_str() == name);
        let found = found.unwrap_or_else(|| panic!("{name} is listed"));
        assert_untrusted(&archive, found, world.signing.public(), &world.recovery, "renamed or copied").await;
        world.memory.remove(name);
    }
    // A caller that makes its own object for a good key.
    let wrong = WalObject { last: Lsn(S - 1), ..whole.clone() };
    assert_untrusted(&archive, &wrong, world.signing.public(), &world.recovery, "renamed or copied").await;

    // The same name in another instance, and in another repository.
    let other: Instance = "ward".parse().unwrap();
    let elsewhere = World { instance: other, signing: world.signing.clone(), ..World::new() };
    let key = Key::new(name.replace("/clinic/", "/ward/")).unwrap();
    elsewhere.store.put(&key, bytes.clone()).await.unwrap();
    let foreign = World { repository: RepositoryId([2; 16]), signing: world.signing.clone(), ..World::new() };
    foreign.store.put(&whole.key, bytes).await.unwrap();
    for place in [elsewhere, foreign] {
        let object = place.list(0).await.objects()[0].clone();
        let archive = place.repo().await.wal_archive();
        assert_untrusted(&archive, &object, world.signing.public(), &world.recovery, "hospital/clinic").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_signers_count_and_only_recovery_identities_open() {
    let world = World::new();
    let object = world.slice(0, 3000).await;
    let archive = world.repo().await.wal_archive();
    let stranger = SigningKey::from_seed(&[66; 32]).public();
    assert_untrusted(&archive, &object, stranger, &world.recovery, "keys.trusted_keys").await;
    for identity in [Identity::generate(), world.host.clone()] {
        let reader = archive.reader(vec![world.signing.public()], vec![identity]);
        for error in [reader.read(&object).await.unwrap_err(), reader.read_or_replace(&object).await.unwrap_err()] {
            assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
            assert!(error.to_string().contains(&world.recovery.recipient().to_string()), "says whose: {error}");
        }
    }
}

/// Stores objects, damages the first `damaged` of them, and reads the first.
async fn survives(objects: &[(WalObjectKind, u64, u64)], damaged: usize) -> Result<Option<String>, Error> {
    let world = World::new();
    let mut stored = Vec::new();
    for (kind, first, last) in objects {
        stored.push(world.put(*kind, *first, *last).await.unwrap());
    }
    for (index, object) in stored[..damaged].iter().enumerate() {
        match index % 2 {
            0 => world.memory.tamper(object.key.as_str(), |bytes| bytes[800] ^= 1),
            _ => world.memory.remove(object.key.as_str()),
        }
    }
    let read = world.reader().await.read_or_replace(&stored[0]).await?;
    assert!(read.bytes == wal(objects[0].1, objects[0].2), "{objects:?}");
    Ok(read.replaced)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_object_with_the_same_range_serves() {
    use WalObjectKind::{Segment, Slice};
    let halves = [(Slice, S, S + 5000), (Slice, S + 5000, 2 * S)];
    let (before, after) = ((Slice, 0, S), (Slice, 2 * S, 3 * S));
    let served: Vec<(Vec<_>, usize)> = vec![
        ([vec![(Segment, S, 2 * S)], halves.to_vec(), vec![before, after]].concat(), 1),
        (vec![(Segment, S, 2 * S), (Segment, S, 2 * S)], 1),
        (vec![(Slice, S, 2 * S), (Segment, S, 2 * S)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 1000, 2000)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 900, 1500), (Slice, 1400, 2100)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 500, 2500), (Slice, 900, 1500), (Slice, 1500, 2100)], 2),
        ([vec![(Segment, S, 2 * S), (Segment, S, 2 * S)], halves.to_vec()].concat(), 2),
    ];
    for (objects, damaged) in served {
        let reason = survives(&objects, damaged).await.unwrap_or_else(|e| panic!("{objects:?}: {e}"));
        assert!(reason.is_some_and(|reason| reason.contains("damaged")), "{objects:?}");
        assert_eq!(survives(&objects, 0).await.unwrap(), None, "nothing is replaced that is good");
    }
    let lost: Vec<(Vec<_>, usize)> = vec![
        (vec![(Slice, 1000, 2000)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 1000, 1999)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 1001, 2000)], 1),
        (vec![(Slice, 1000, 2000), (Slice, 1000, 2000)], 2),
        (vec![(Segment, S, 2 * S), halves[0], before, after], 1),
        ([vec![(Segment, S, 2 * S)], halves.to_vec()].concat(), 2),
    ];
    for (objects, damaged) in lost {
        let error = survives(&objects, damaged).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{objects:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_store_is_no_damage() {
    let world = World::new();
    let object = world.slice(0, 1000).await;
    world.slice(0, 1000).await;
    world.faults.add(Rule::on(Operation::Get, Fault::FailBefore).key(object.key.as_str()));
    let error = world.reader().await.read_or_replace(&object).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    world.faults.add(Rule::on(Operation::Get, Fault::Missing).key(object.key.as_str()));
    world.faults.add(Rule::on(Operation::List, Fault::FailBefore));
    let error = world.reader().await.read_or_replace(&object).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    world.faults.heal();
    world.faults.add(Rule::on(Operation::Get, Fault::Missing).key(object.key.as_str()));
    let read = world.reader().await.read_or_replace(&object).await.unwrap();
    assert!(read.bytes == wal(0, 1000) && read.replaced.is_some());
}
