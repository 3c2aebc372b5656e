//! Cut, added, moved.

use lifeboat_evidence::{
    audit::{Weight, Word},
    ledger::place,
};

use crate::world::{World, finding, sound, time, wrong};

#[test]
fn a_cut_end_is_seen_by_who_kept_a_checkpoint() {
    let mut world = World::small();
    let before = world.clone();
    let last = world.hold("2026-11-21T13:00:00Z");
    let kept = world.kept();
    sound(&world.audit_against(&kept));
    assert_eq!(world.audit_against(&before.kept()).anchors, 1, "an older one is continued");
    world.remove(&[&last, &place::entry(3), &place::checkpoint(4)]);
    wrong(&world.audit_against(&kept), Word::Cut, "kept-0");
    // Without it, the directory is one of an hour before, and the audit says what it cannot know.
    let alone = world.audit();
    sound(&alone);
    assert!(alone.not_executed.iter().any(|left| left.what.contains("end was cut")), "{alone:#?}");
}

#[test]
fn half_a_cut_is_seen_by_anybody() {
    let world = World::small();
    let last = world.statements().pop().unwrap();
    let without = |names: &[&str]| {
        let mut world = world.clone();
        world.remove(names);
        world.audit()
    };
    wrong(&without(&[&place::entry(2)]), Word::Cut, "checkpoint 3");
    wrong(&without(&[&place::checkpoint(3)]), Word::Unsigned, "entries 2 to 2");
    wrong(&without(&[&last]), Word::Missing, &last);
    wrong(&without(&[&last, &place::entry(2)]), Word::Cut, "checkpoint 3");
    wrong(&without(&[&last, &place::checkpoint(3)]), Word::Missing, &last);
    wrong(&without(&[&place::entry(2), &place::checkpoint(3)]), Word::NotInLedger, &last);
    wrong(&without(&[&place::checkpoint(2)]), Word::Missing, "checkpoint 2");
}

#[test]
fn a_gap_is_seen() {
    let mut world = World::small();
    world.remove(&[&place::entry(1)]);
    let gap = wrong(&world.audit(), Word::Gap, "ledger");
    assert!(gap.detail.contains("entries 1 to 1"), "{gap:?}");
    let mut first = World::small();
    first.remove(&[&place::entry(0)]);
    wrong(&first.audit(), Word::Gap, "ledger");
    let mut far = World::small();
    far.files.insert(place::entry(u64::MAX), b"junk".to_vec());
    wrong(&far.audit(), Word::Gap, "ledger");
}

#[test]
fn a_ledger_that_is_gone_is_missing() {
    let mut world = World::small();
    world.files.retain(|name, _| name.ends_with(".dsse.json"));
    wrong(&world.audit(), Word::Missing, "ledger");
    let nothing = World::empty(crate::world::key(7));
    wrong(&nothing.audit(), Word::Missing, "ledger");
}

#[test]
fn another_order_is_seen() {
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let mut world = World::small();
        let [first, second] = [place::entry(a), place::entry(b)].map(|name| world.files[&name].clone());
        world.files.insert(place::entry(a), second);
        world.files.insert(place::entry(b), first);
        wrong(&world.audit(), Word::Edited, "checkpoint");
    }
    // Checkpoints, and statements, under each other's names.
    let swap = |a: &str, b: &str| {
        let mut world = World::small();
        let [first, second] = [a, b].map(|name| world.files[name].clone());
        world.files.insert(a.to_owned(), second);
        world.files.insert(b.to_owned(), first);
        world.audit()
    };
    wrong(&swap(&place::checkpoint(1), &place::checkpoint(2)), Word::Missing, "checkpoint 1");
    let names = World::small().statements();
    wrong(&swap(&names[0], &names[1]), Word::Edited, &names[0]);
}

#[test]
fn a_statement_beside_the_ledger_is_seen() {
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T12:30:00Z"), hold());
    let name = world.put(&statement);
    wrong(&world.audit(), Word::NotInLedger, &name);
}

/// An entry that no checkpoint covers is nobody's word but its own.
#[test]
fn an_entry_after_the_last_checkpoint_is_not_signed() {
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T12:30:00Z"), hold());
    let name = world.put(&statement);
    world.enter(&name, time("2026-11-21T12:30:01Z"));
    let audit = world.audit();
    wrong(&audit, Word::Unsigned, "entries 3 to 3");
    assert_eq!(audit.proven, 3);
    world.sign();
    sound(&world.audit());
}

#[test]
fn a_statement_that_comes_late_is_back_dated() {
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T10:30:00Z"), hold());
    let name = world.record(&statement, time("2026-11-21T12:30:00Z"));
    let late = wrong(&world.audit(), Word::BackDated, &name);
    assert!(late.detail.contains("10:30"), "{late:?}");
    // Dating its entry back does not help.
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T10:30:00Z"), hold());
    let name = world.record(&statement, time("2026-11-21T10:30:01Z"));
    wrong(&world.audit(), Word::BackDated, &name);
    // Nor can something be entered before it has happened.
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-22T10:30:00Z"), hold());
    let name = world.record(&statement, time("2026-11-21T12:30:01Z"));
    wrong(&world.audit(), Word::BackDated, &name);
}

/// What was there before there was a ledger is entered when it begins, in one go.
#[test]
fn what_a_beginning_ledger_takes_over_is_not_back_dated() {
    let mut world = World::empty(crate::world::key(7));
    for day in 1..5 {
        let statement = world.act_statement(time(&format!("2026-10-0{day}T10:00:00Z")), hold());
        let name = world.put(&statement);
        world.enter(&name, time(&format!("2026-11-21T09:00:0{day}Z")));
    }
    world.sign();
    world.hold("2026-11-21T10:00:00Z");
    // The entries of one go rest on no checkpoint, as there was none.
    let audit = world.audit();
    assert!(!audit.findings.has(Word::BackDated), "{audit:#?}");
    let statement = world.act_statement(time("2026-10-06T10:00:00Z"), hold());
    let name = world.record(&statement, time("2026-11-21T10:30:00Z"));
    wrong(&world.audit(), Word::BackDated, &name);
}

/// Whoever may put can fill a slot with junk. It is named, and what is signed over it stays proven.
#[test]
fn junk_in_the_ledger_is_foreign_and_hurts_nothing() {
    let mut world = World::small();
    let copy = world.files[&place::entry(1)].clone();
    world.leaf(b"junk");
    world.leaf(&copy);
    world.leaf(&lifeboat_evidence::ledger::entry::void());
    world.hold("2026-11-21T13:00:00Z");
    // Too long to be an entry: nobody reads it, the leaf is a word.
    world.files.insert(place::entry(5), vec![b'x'; 70_000]);
    world.files.insert("ledger/notes".to_owned(), b"junk".to_vec());
    let audit = world.audit();
    assert!(audit.believed() && audit.convincing(), "{audit:#?}");
    assert_eq!((audit.proven, audit.statements), (4, 4));
    for of in ["entry 3", "entry 4", "entry 5", "ledger/notes"] {
        finding(&audit, Word::ForeignEntry, of, Weight::Notice);
    }
    let other = world.files[&place::checkpoint(4 + 3)].clone();
    world.files.insert(place::checkpoint(7), b"junk".to_vec());
    wrong(&world.audit(), Word::Unsigned, "entries 3 to 6");
    // The true one lies beside the junk that was first in its place.
    world.files.insert(place::other_checkpoint(7, "any"), other);
    assert!(world.audit().believed());
}

/// Who may put and cannot sign takes nothing away.
#[test]
fn junk_beside_the_ledger_hurts_nothing() {
    let mut world = World::small();
    for name in [place::checkpoint(999_999), place::tile(0, 999), place::bundle(0)] {
        world.files.insert(name, b"junk".to_vec());
    }
    let copy = world.kept();
    world.files.insert(place::checkpoint(77), copy);
    let audit = world.audit();
    assert!(audit.believed() && audit.convincing() && audit.proven == 3, "{audit:#?}");
    for of in ["checkpoint 999999", "checkpoint 77", &place::tile(0, 999), &place::bundle(0)] {
        finding(&audit, Word::ForeignEntry, of, Weight::Notice);
    }
}

/// Revoked as of before, it accuses nobody either, whatever the clock says.
#[test]
fn an_entry_of_a_revoked_key_does_not_date_others_back() {
    let other = crate::world::key(8);
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T15:00:00Z"), hold());
    world.record(&statement, time("2026-11-21T15:00:01Z"));
    let mut world = world.signing_with(other.clone());
    world.hold("2026-11-21T13:00:00Z");
    let trust = |revoked| {
        let keys = vec![crate::world::key(7).public(), other.public()];
        lifeboat_evidence::audit::Trust { keys, revoked, origin: None }
    };
    assert!(world.audit_with(trust(Vec::new()), &[]).findings.has(Word::BackDated));
    let revoked = vec![(crate::world::key(7).public(), time("2026-11-21T12:30:00Z"))];
    let audit = world.audit_with(trust(revoked), &[]);
    assert!(!audit.findings.has(Word::BackDated) && audit.proven == 4, "{audit:#?}");
}

/// One entry that says it is of another century accuses itself, and nobody after it.
#[test]
fn an_entry_of_the_future_does_not_date_others_back() {
    let mut world = World::small();
    let statement = world.act_statement(time("2026-11-21T12:30:00Z"), hold());
    world.record(&statement, time("2100-01-01T00:00:00Z"));
    world.hold("2026-11-21T13:00:00Z");
    let audit = world.audit();
    wrong(&audit, Word::ForwardDated, "entry 3");
    assert!(!audit.findings.has(Word::BackDated), "{audit:#?}");
}

fn hold() -> lifeboat_evidence::Act {
    use lifeboat_evidence::{act::Hold, backup::PointReference};
    let point = PointReference {
        id: lifeboat_model::id::PointId([1; 8]),
        key: "p".into(),
        sha256: crate::world::digest(b"p"),
        version: None,
    };
    lifeboat_evidence::Act::Hold(Hold { point, reason: "r".into(), objects: 0, shared: 0, refused: Vec::new() })
}
