//! Two histories: each is signed by the right key, and both cannot be true.

use lifeboat_evidence::{audit::Word, ledger::place};

use crate::world::{World, key, sound, wrong};

/// Two continuations of the same beginning.
fn branches() -> (World, World) {
    let beginning = World::small();
    let (mut told, mut hidden) = (beginning.clone(), beginning);
    told.hold("2026-11-21T13:00:00Z");
    hidden.drill("2026-11-21T13:00:00Z");
    told.hold("2026-11-21T14:00:00Z");
    (told, hidden)
}

#[test]
fn a_fork_is_seen_by_who_kept_a_checkpoint_of_the_other_branch() {
    let (told, hidden) = branches();
    sound(&told.audit());
    sound(&hidden.audit());
    wrong(&told.audit_against(&hidden.kept()), Word::Fork, "kept-0");
    wrong(&hidden.audit_against(&told.kept()), Word::Cut, "kept-0");
}

#[test]
fn a_fork_is_seen_where_a_checkpoint_of_it_was_left() {
    let (mut told, hidden) = branches();
    let stray = hidden.kept();
    let name = place::other_checkpoint(4, &String::from_utf8(stray.clone()).unwrap());
    told.files.insert(name, stray.clone());
    wrong(&told.audit(), Word::Fork, "checkpoint 4");
    let (mut told, _) = branches();
    told.files.insert(place::checkpoint(4), stray);
    wrong(&told.audit(), Word::Fork, "checkpoint 4");
}

/// The whole ledger made again by who has the key: only a checkpoint that somebody kept tells.
#[test]
fn a_rewritten_ledger_is_a_fork() {
    let kept = World::small().kept();
    let mut again = World::empty(key(7));
    again.hold("2026-11-21T10:00:00Z");
    again.hold("2026-11-21T11:00:00Z");
    again.hold("2026-11-21T12:00:00Z");
    sound(&again.audit());
    wrong(&again.audit_against(&kept), Word::Fork, "kept-0");
}

/// A ledger that was cut and grew again contradicts what its later entries rest on.
#[test]
fn entries_of_the_other_branch_do_not_fit() {
    let (told, hidden) = branches();
    let mut mixed = hidden;
    for name in [place::entry(4), place::checkpoint(5)] {
        mixed.files.insert(name.clone(), told.files[&name].clone());
    }
    let name = told.statements().pop().unwrap();
    mixed.files.insert(name.clone(), told.files[&name].clone());
    wrong(&mixed.audit(), Word::Fork, "entry 4");
}

#[test]
fn a_checkpoint_of_another_ledger_is_no_anchor() {
    let mut other = World::empty(key(7));
    other.origin = other.origin.replace("acme", "else");
    other.hold("2026-11-21T10:00:00Z");
    wrong(&World::small().audit_against(&other.kept()), Word::Fork, "kept-0");
    let mut mixed = World::small();
    mixed.files.insert(place::other_checkpoint(1, "x"), other.kept());
    wrong(&mixed.audit(), Word::Fork, "checkpoint 1");
}

#[test]
fn an_anchor_must_be_signed() {
    let mut kept = World::small().kept();
    kept[5] ^= 1;
    wrong(&World::small().audit_against(&kept), Word::Edited, "kept-0");
    wrong(&World::small().audit_against(b""), Word::Edited, "kept-0");
}
