//! A further try, after a failure or a break: what an earlier one has done is not done twice.

use lifeboat_runbook::{
    document::Document,
    event::{Ending, Event, Outcome},
    execute::Stand,
    plan::Mode,
};

use crate::{
    runbook,
    world::{Life, World},
};

/// How the tries of a step ended, and why.
fn ends(world: &World, id: &str) -> Vec<(Outcome, String)> {
    let lines = world.lines();
    let events = lines.into_iter().filter_map(|line| match line.event {
        Event::Ended { step, outcome, why, .. } if step == id => Some((outcome, why.unwrap_or_default())),
        _ => None,
    });
    events.collect()
}

/// Every kind of which it can be seen whether it was done.
fn seen(more: &str) -> Vec<(&'static str, Document)> {
    let blocks = [
        ("command", "action = \"command\"\nrun = [\"it\"]\ndone_when = [\"true\"]"),
        (
            "sql",
            "action = \"sql\"\ninstance = \"c\"\ndatabase = \"d\"\nsql = \"x\"\neffect = \"changes\"\ndone_when = \"y\"",
        ),
        ("http", "action = \"http\"\nurl = \"http://h/\"\nmethod = \"POST\"\ndone_when = \"http://h/\""),
        ("service", "action = \"start\"\ncontainers = [\"odoo\"]"),
        ("dns", "action = \"dns\"\nname = \"n\"\ntype = \"A\"\nvalue = \"192.0.2.1\""),
    ];
    blocks.map(|(name, block)| (name, runbook("whole", &[("## It", &format!("{block}\n{more}"))]))).into()
}

async fn live(world: &mut World, document: &Document, fuse: Option<u64>) -> Life {
    world.live(std::slice::from_ref(document), Mode::Real, fuse).await.unwrap()
}

/// The effect came, and the answer did not: seen in the next try, whether it comes by itself or by a person who takes the run up.
#[tokio::test(start_paused = true)]
async fn what_failed_after_its_effect_is_not_done_again() {
    for retries in ["retries = 2", ""] {
        for (name, document) in seen(retries) {
            let mut world = World::new(&[], &[]);
            world.lost.lock().unwrap().insert("it".to_owned(), 1);
            let mut life = live(&mut world, &document, None).await;
            if retries.is_empty() {
                assert!(matches!(life, Life::Stood(Stand::Stopped { .. })), "{name}: {life:?}");
                life = live(&mut world, &document, None).await;
            }
            assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{name}: {life:?}");
            assert_eq!(world.effects().into_values().collect::<Vec<_>>(), [1], "{name}: {:#?}", world.lines());
            let found = "found done before it was tried again".to_owned();
            assert_eq!(ends(&world, "it")[1], (Outcome::Passed, found), "{name}");
        }
    }
}

/// Killed anywhere, and then nobody can tell for a while whether it was done: nobody does it in the meantime.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_yet_is_not_done_again() {
    for retries in ["retries = 2", ""] {
        for (name, document) in seen(retries) {
            for moment in 0..12 {
                let mut world = World::new(&[], &[]);
                world.hidden.lock().unwrap().insert("it".to_owned(), 2);
                let mut life = live(&mut world, &document, Some(moment)).await;
                let mut lives = 0;
                while !matches!(life, Life::Stood(Stand::Over(Ending::Passed))) && lives < 5 {
                    life = live(&mut world, &document, None).await;
                    lives += 1;
                }
                let told = format!("{name}, killed at {moment}: {life:?} {:#?}", world.lines());
                assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{told}");
                assert_eq!(world.effects().into_values().collect::<Vec<_>>(), [1], "{told}");
            }
        }
    }
}

/// Nothing is looked at where nothing can be seen, nor where twice is as once, nor in the sandbox of a practice.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_tried_as_it_is() {
    let block = "action = \"command\"\nrun = [\"it\"]\nretries = 2";
    let cases = [
        (Mode::Real, block.to_owned()),
        (Mode::Real, format!("{block}\nrepeatable = true")),
        (Mode::Practice, format!("{block}\neffect = \"nothing\"\ndone_when = [\"true\"]")),
        (Mode::Practice, "action = \"start\"\ncontainers = [\"odoo\"]\nretries = 2".to_owned()),
    ];
    for (mode, block) in cases {
        let documents = [runbook("whole", &[("## It", &block)])];
        let mut world = World::new(&[("it", 1)], &[]);
        world.hidden.lock().unwrap().insert("it".to_owned(), 9);
        let life = world.live(&documents, mode, None).await.unwrap();
        assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{block}: {life:?}: {:#?}", world.lines());
    }
}

/// A check that decides changes nothing: cut off, it is asked again, and the answer is the same.
#[tokio::test(start_paused = true)]
async fn a_check_that_decides_can_be_cut_off() {
    let look = "{ action = \"command\", run = [\"look\"], effect = \"nothing\" }";
    let answers = "{ \"passed\" = \"good\", \"failed\" = \"bad\" }";
    let steps = [
        ("## Ask", format!("action = \"decide\"\ncheck = {look}\nanswers = {answers}\non_failure = \"continue\"")),
        ("## Good", "action = \"command\"\nrun = [\"good\"]\nrepeatable = true".to_owned()),
        ("## Bad", "action = \"command\"\nrun = [\"bad\"]\nrepeatable = true".to_owned()),
    ];
    let steps: Vec<(&str, &str)> = steps.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    let document = runbook("whole", &steps);
    for moment in 0..20 {
        let mut world = World::new(&[], &[]);
        world.hidden.lock().unwrap().insert("ask".to_owned(), 9);
        live(&mut world, &document, Some(moment)).await;
        let life = live(&mut world, &document, None).await;
        let told = format!("killed at {moment}: {life:?} {:#?}", world.lines());
        assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{told}");
        assert!(world.effects().contains_key("good: run good"), "{told}");
    }
}

/// A step that was killed before it could say that its text has a hole is not done with that hole.
#[tokio::test(start_paused = true)]
async fn a_hole_stays_one_after_a_break() {
    let steps = [
        ("## One", "action = \"command\"\nrun = [\"one\"]\non_failure = \"continue\""),
        ("## Two", "action = \"command\"\nrun = [\"rm\", \"{{one.output}}\"]\nrepeatable = true"),
    ];
    let document = runbook("whole", &steps);
    for moment in 0..12 {
        let mut world = World::new(&[("one", 9)], &[]);
        live(&mut world, &document, Some(moment)).await;
        let life = live(&mut world, &document, None).await;
        assert!(matches!(&life, Life::Stood(Stand::Stopped { step, .. }) if step == "two"), "{moment}: {life:?}");
        assert!(world.effects().is_empty(), "killed at {moment}: {:?}", world.effects());
    }
}
