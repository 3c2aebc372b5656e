//! Signed by others, or by a key that was not to be believed any more.

use lifeboat_evidence::audit::{Trust, Weight, Word};

use crate::world::{World, finding, key, sound, time, wrong};

#[test]
fn what_another_key_has_signed_is_caught() {
    let thief = World::small().signing_with(key(8));
    // The whole ledger, as it was and by the other key.
    let mut whole = World::empty(key(8));
    whole.hold("2026-11-21T10:00:00Z");
    whole.drill("2026-11-21T11:00:00Z");
    whole.hold("2026-11-21T12:00:00Z");
    let audit = whole.audit();
    wrong(&audit, Word::ReSigned, ".dsse.json");
    finding(&audit, Word::ForeignEntry, "checkpoint 3", Weight::Notice);
    wrong(&audit, Word::Unsigned, "entries 0 to 2");
    assert_eq!(audit.proven, 0);
    // One thing of each kind.
    for name in World::small().files.keys() {
        let mut one = World::small();
        one.files.insert(name.clone(), whole.files[name].clone());
        assert!(!one.audit().believed(), "{name}");
    }
    // The end alone, by the thief of a credential that may put.
    let mut end = thief;
    let name = end.hold("2026-11-21T13:00:00Z");
    let audit = end.audit();
    wrong(&audit, Word::ReSigned, &name);
    finding(&audit, Word::ForeignEntry, "checkpoint 4", Weight::Notice);
    assert_eq!(audit.proven, 3);
}

#[test]
fn an_envelope_without_signatures_is_unsigned() {
    let mut world = World::small();
    let name = world.statements().remove(0);
    let text = String::from_utf8(world.files[&name].clone()).unwrap();
    let bare = format!("{}\"signatures\":[]}}\n", &text[..text.find("\"signatures\"").unwrap()]);
    world.files.insert(name.clone(), bare.into_bytes());
    wrong(&world.audit(), Word::Unsigned, &name);
}

fn trust(revoked: &str) -> Trust {
    let keys = vec![key(7).public(), key(8).public()];
    Trust { keys, revoked: vec![(key(7).public(), time(revoked))], origin: None }
}

/// What came before the revocation stays proven; what came after does not, whatever it says of its own time.
#[test]
fn a_revoked_key_counts_until_its_moment() {
    let world = World::small();
    sound(&world.audit_with(trust("2026-11-21T12:30:00Z"), &[]));
    let mut later = world;
    let name = later.hold("2026-11-21T13:00:00Z");
    let audit = later.audit_with(trust("2026-11-21T12:30:00Z"), &[]);
    wrong(&audit, Word::Revoked, &name);
    wrong(&audit, Word::Revoked, "checkpoint 4");
    wrong(&audit, Word::Revoked, "entry 3");
    assert_eq!(audit.proven, 3);
    // A new key that signs over it does not heal it.
    let mut healed = later.signing_with(key(8));
    healed.hold("2026-11-21T13:30:00Z");
    let audit = healed.audit_with(trust("2026-11-21T12:30:00Z"), &[]);
    wrong(&audit, Word::Revoked, &name);
    assert_eq!(audit.proven, 4);
}

/// The owner says it in the ledger, with the new key.
#[test]
fn a_signed_revocation_counts() {
    let mut world = World::small().signing_with(key(8));
    world.revoke("2026-11-21T12:30:00Z", key(7).public());
    let keys = || Trust { keys: vec![key(7).public(), key(8).public()], ..Trust::default() };
    sound(&world.audit_with(keys(), &[]));
    let mut stolen = world.clone().signing_with(key(7));
    let name = stolen.hold("2026-11-21T13:00:00Z");
    wrong(&stolen.audit_with(keys(), &[]), Word::Revoked, &name);
    // The thief's revocation of the new key comes too late to count, and one reaches no further back than itself.
    let mut world = world.signing_with(key(7));
    let theirs = world.revoke("2026-11-21T13:00:00Z", key(8).public());
    let mut world = world.signing_with(key(8));
    world.hold("2026-11-21T14:00:00Z");
    let audit = world.audit_with(keys(), &[]);
    wrong(&audit, Word::Revoked, &theirs);
    assert_eq!(audit.proven, 5, "{audit:#?}");
}

#[test]
fn a_key_that_nobody_trusts_proves_nothing() {
    let nobody = Trust::default();
    let audit = World::small().audit_with(nobody, &[]);
    wrong(&audit, Word::Unsigned, "entries 0 to 2");
    assert_eq!(audit.proven, 0);
}
