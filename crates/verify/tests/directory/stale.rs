//! What a drill was about, and what that is today.

use lifeboat_evidence::audit::{Audit, Now, Subjects, Weight, Word};

use crate::world::{World, digest, finding, sound};

/// An instance that was drilled twice, and what the drill saw last.
fn drilled() -> (World, Audit, Subjects) {
    let mut world = World::small();
    world.drill("2026-11-21T13:00:00Z");
    let audit = world.audit();
    sound(&audit);
    let [newest] = audit.rehearsals.as_slice() else { panic!("{audit:#?}") };
    assert_eq!(newest.finished, crate::world::time("2026-11-21T13:00:00Z"), "the older one is history");
    let images = newest.images.iter().map(|image| Now::Is(image.id.clone())).collect();
    let policy = newest.policy_sha256.map_or(Now::Is(digest(b"any")), Now::Is);
    let now = Subjects { point: Now::Is(newest.point_sha256), images, policy };
    (world, audit, now)
}

fn compared(change: impl FnOnce(&mut Subjects)) -> Audit {
    let (_, mut audit, mut now) = drilled();
    change(&mut now);
    let mut newest = audit.rehearsals[0].clone();
    newest.policy_sha256 = Some(digest(b"policy"));
    if now.policy == Now::Is(digest(b"any")) {
        now.policy = Now::Is(digest(b"policy"));
    }
    audit.compare(&newest, &now);
    audit
}

#[test]
fn a_drill_of_what_is_still_there_is_not_stale() {
    let audit = compared(|_| {});
    sound(&audit);
    assert!(audit.convincing());
}

#[test]
fn a_drill_goes_stale_with_each_of_its_subjects() {
    type Change = fn(&mut Subjects);
    let cases: [(&str, Change); 7] = [
        ("not there any more", |now| now.point = Now::Gone),
        ("another digest", |now| now.point = Now::Is(digest(b"another"))),
        ("sha256:new", |now| now.images[0] = Now::Is("sha256:new".into())),
        ("sha256:new", |now| *now.images.last_mut().unwrap() = Now::Is("sha256:new".into())),
        ("not configured", |now| now.images[0] = Now::Gone),
        ("settings", |now| now.policy = Now::Is(digest(b"another"))),
        ("not configured", |now| now.policy = Now::Gone),
    ];
    for (why, change) in cases {
        let audit = compared(change);
        let stale = finding(&audit, Word::Stale, "drill", Weight::Doubt);
        assert!(stale.detail.contains(why), "{stale:?}");
        assert!(audit.believed() && !audit.convincing(), "it is genuine, and proves nothing of today");
    }
}

#[test]
fn what_could_not_be_looked_up_is_not_executed() {
    let audit = compared(|now| {
        now.point = Now::Unknown("no answer".into());
        now.images[0] = Now::Unknown("no engine".into());
        now.policy = Now::Unknown("no file".into());
    });
    sound(&audit);
    for why in ["no answer", "no engine", "no file"] {
        assert!(audit.not_executed.iter().any(|left| left.why == why), "{why}: {audit:#?}");
    }
    // A drill of a release that did not record the policy.
    let (_, mut audit, now) = drilled();
    let newest = lifeboat_evidence::audit::Rehearsal { policy_sha256: None, ..audit.rehearsals[0].clone() };
    audit.compare(&newest, &now);
    assert!(audit.not_executed.iter().any(|left| left.what.contains("policy")), "{audit:#?}");
}

/// A drill that is not proven rehearses nothing, and an older one counts again.
#[test]
fn only_a_proven_drill_is_the_newest() {
    let (world, audit, _) = drilled();
    let newest = audit.rehearsals[0].name.clone();
    let mut cut = world;
    cut.remove(&["ledger/checkpoints/000000000004"]);
    let audit = cut.audit();
    assert!(!audit.believed());
    assert!(audit.rehearsals[0].name != newest, "{audit:#?}");
}
