//! Index objects that the writer did not make, sealed to the right recipients: a backup that believed them would store
//! places that hold nothing of the kind. Built by hand from FORMAT.md.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use lifeboat_model::{
    id::{ObjectId, Sha256Digest},
    signature::SigningKey,
};
use lifeboat_repo::{
    point::{ObjectKind, Point},
    progress::Counter,
    writer::Writer,
};
use lifeboat_store::{Key, SharedStore, Store as _, local::LocalStore};
use sha2::{Digest as _, Sha256};

use crate::world::*;

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn age_identity(world: &World) -> age::x25519::Identity {
    let secret = world.host.to_secret_text();
    secret.expose().trim().parse().unwrap()
}

/// What a thief with the host's identity can know: the chunk key, and so the ids of chunks that are yet to come.
async fn chunk_key(world: &World, point: &Point) -> [u8; 32] {
    let object = point.header.objects.iter().find(|object| object.kind == ObjectKind::Key).unwrap();
    let file = world.vault.get(&object.key, object.version.as_ref(), None).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&age::decrypt(&age_identity(world), &file).unwrap()).unwrap();
    hex::decode(json["chunk_key"].as_str().unwrap()).unwrap().try_into().unwrap()
}

/// The age file of an index that says that the next backup's new file lies where another one does.
async fn forged_age(world: &World, point: &Point) -> (Vec<u8>, ObjectId) {
    let victim = files(4).pop().unwrap().1;
    let chunk = blake3::keyed_hash(&chunk_key(world, point).await, &victim);
    let pack = point.header.objects.iter().find(|object| object.kind == ObjectKind::Pack).unwrap();
    let pack_id: ObjectId = pack.key.as_str().rsplit('/').next().unwrap().parse().unwrap();
    let mut out = point.header.chunk_key.0.to_vec();
    number(&mut out, 1);
    text(&mut out, &world.recovery.recipient().to_string());
    number(&mut out, 1);
    out.extend_from_slice(&pack_id.0);
    number(&mut out, pack.len);
    out.extend_from_slice(&pack.sha256.0);
    text(&mut out, pack.version.as_ref().map_or("", |version| &version.0));
    number(&mut out, 1); // one frame of 20,001 bytes with one chunk of 20,000
    for value in [20_001, 20_000, 1] {
        number(&mut out, value);
    }
    out.extend_from_slice(chunk.as_bytes());
    number(&mut out, 20_000);
    let plain = [&b"LBINDX01"[..], &zstd::bulk::compress(&out, 1).unwrap()].concat();
    (age::encrypt(&age_identity(world).to_public(), &plain).unwrap(), pack_id)
}

/// A signed object around it.
fn signed(id: ObjectId, instance: &str, point: &Point, pack: ObjectId, sealed: &[u8], signing: &SigningKey) -> Bytes {
    let sha256 = Sha256Digest(Sha256::digest(sealed).into());
    let header = serde_json::json!({"format": 1, "kind": "index", "id": id, "repository": point.header.repository,
        "tenant": "hospital", "instance": instance, "chunk_key": point.header.chunk_key, "packs": [pack],
        "recipients": point.header.recipients, "sealed": {"len": sealed.len(), "sha256": sha256}});
    let json = serde_json::to_vec(&header).unwrap();
    let mut out = b"LBINDOB1".to_vec();
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(signing.public().as_bytes());
    out.extend_from_slice(&signing.sign(&[&b"lifeboat index v1\n"[..], &json].concat()));
    out.extend_from_slice(&(sealed.len() as u64).to_le_bytes());
    out.extend_from_slice(sealed);
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    out.into()
}

fn index_key(id: ObjectId) -> Key {
    key(&format!("{ROOT}index/{id}"))
}

/// Puts what `forge` makes and backs up one file more; gives whether the forged places were believed.
async fn believed(forge: impl Fn(&World, &Point, Vec<u8>, ObjectId) -> Bytes) -> (bool, World) {
    let mut world = World::new();
    let point = world.backup(&files(3)).await.unwrap();
    world.clock.advance(60);
    let (sealed, pack) = forged_age(&world, &point).await;
    let bytes = forge(&world, &point, sealed, pack);
    world.vault.thief().overwrite(&index_key(ObjectId([9; 16])), bytes);
    world.clock.advance(60);
    world.with_empty_cache();
    let stored = world.tally.get(Counter::NewBytes);
    let next = world.backup(&files(4)).await.unwrap();
    let believed = world.tally.get(Counter::NewBytes) == stored;
    if !believed {
        assert_eq!(world.restore(&next).await, files(4));
    }
    (believed, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forgery_would_work_if_it_were_the_writers_own() {
    let id = ObjectId([9; 16]);
    let own = |world: &World, point: &Point, sealed: Vec<u8>, pack| {
        signed(id, "clinic", point, pack, &sealed, &world.signing)
    };
    assert!(believed(own).await.0, "the other tests here show nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_nobody_trusted_signed_is_passed_over() {
    let id = ObjectId([9; 16]);
    let (strange, words) = (SigningKey::from_seed(&[66; 32]), "signed by no key");
    let (taken, world) = believed(|_, point, sealed, pack| signed(id, "clinic", point, pack, &sealed, &strange)).await;
    assert!(!taken && world.tally.noted(words), "{:?}", world.tally.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_place_is_passed_over() {
    for (id, instance) in [(ObjectId([8; 16]), "clinic"), (ObjectId([9; 16]), "other")] {
        let (taken, world) =
            believed(|world, point, sealed, pack| signed(id, instance, point, pack, &sealed, &world.signing)).await;
        assert!(!taken && world.tally.noted("a copy of index"), "{:?}", world.tally.notes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_index_that_came_after_signed_ones_is_passed_over() {
    let (taken, world) = believed(|_, _, sealed, _| sealed.into()).await;
    assert!(!taken && world.tally.noted("it is not signed"), "{:?}", world.tally.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_tells_of_other_packs_than_the_content_is_passed_over() {
    let id = ObjectId([9; 16]);
    let other = ObjectId([7; 16]);
    let (taken, world) =
        believed(|world, point, sealed, _| signed(id, "clinic", point, other, &sealed, &world.signing)).await;
    assert!(!taken && world.tally.noted("other packs"), "{:?}", world.tally.notes());
}

/// A repository in a folder, whose index objects become those of an earlier release: the age file alone.
struct Folder {
    world: World,
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Folder { world: World::new(), folder: tempfile::tempdir().unwrap() }
    }

    async fn writer(&self) -> Writer {
        let store: SharedStore = Arc::new(LocalStore::open(self.folder.path(), true).unwrap());
        let repository = self.world.repository(store).await.with_evidence_lock(None);
        let repo = repository.instance(&tenant(), &"clinic".parse().unwrap());
        Writer::begin(repo, self.world.keys(), self.world.options(), self.world.tally.clone()).await.unwrap()
    }

    fn strip_signatures(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path().join("hospital/clinic/index")).unwrap();
        let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.iter().for_each(|path| strip(path));
        paths.len()
    }
}

fn strip(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let begin = bytes.windows(21).position(|window| window == b"age-encryption.org/v1").unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, &bytes[begin..bytes.len() - 32]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_index_of_an_earlier_release_serves_for_packs_that_a_point_names() {
    let mut old = Folder::new();
    let mut writer = old.writer().await;
    old.world.write(&mut writer, &files(3)).await.unwrap();
    old.world.commit(writer).await.unwrap();
    assert_eq!(old.strip_signatures(), 1);
    old.world.with_empty_cache();
    let stored = old.world.tally.get(Counter::NewBytes);
    let mut writer = old.writer().await;
    let renamed: Vec<File> = files(3).into_iter().map(|(path, bytes)| (format!("new-{path}"), bytes)).collect();
    old.world.write(&mut writer, &renamed).await.unwrap();
    old.world.commit(writer).await.unwrap();
    assert_eq!(old.world.tally.get(Counter::NewBytes), stored, "{:?}", old.world.tally.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_point_is_built_upon_if_its_index_is_signed_and_only_then() {
    for signed in [true, false] {
        let mut old = Folder::new();
        let mut writer = old.writer().await;
        old.world.write(&mut writer, &files(3)).await.unwrap();
        writer.abort().await.unwrap();
        if !signed {
            assert_eq!(old.strip_signatures(), 1);
        }
        old.world.with_empty_cache();
        let stored = old.world.tally.get(Counter::NewBytes);
        let mut writer = old.writer().await;
        old.world.write(&mut writer, &files(3)).await.unwrap();
        old.world.commit(writer).await.unwrap();
        let anew = old.world.tally.get(Counter::NewBytes) - stored;
        assert_eq!(anew, if signed { 0 } else { 60_000 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_index_is_no_word_for_packs_that_no_point_names() {
    for signed in [true, false] {
        let mut old = Folder::new();
        let mut writer = old.writer().await;
        old.world.write(&mut writer, &files(3)).await.unwrap();
        old.world.commit(writer).await.unwrap();
        let mut writer = old.writer().await;
        old.world.write(&mut writer, &files(4)).await.unwrap();
        writer.abort().await.unwrap();
        if !signed {
            assert_eq!(old.strip_signatures(), 2);
        }
        old.world.with_empty_cache();
        let stored = old.world.tally.get(Counter::NewBytes);
        let mut writer = old.writer().await;
        old.world.write(&mut writer, &files(4)).await.unwrap();
        old.world.commit(writer).await.unwrap();
        let anew = old.world.tally.get(Counter::NewBytes) - stored;
        assert_eq!(anew, if signed { 0 } else { 20_000 });
    }
}
