//! Practice: what cannot be practised is passed over and named, also on the way back, and what a run as a whole says counts.

use std::collections::BTreeMap;

use lifeboat_runbook::{
    document::Document,
    event::{Ending, Event},
    execute::{Finish, Stand},
    plan::Mode,
};

use crate::{
    runbook,
    world::{Life, World},
};

fn look(name: &str) -> String {
    format!("action = \"command\"\nrun = [\"{name}\"]\neffect = \"nothing\"")
}

async fn practise(world: &mut World, documents: &[Document]) -> Ending {
    match world.live(documents, Mode::Practice, None).await.unwrap() {
        Life::Stood(Stand::Over(ending)) => ending,
        life => panic!("{life:?}: {:#?}", world.lines()),
    }
}

/// Why each step was passed over.
fn passed_over(world: &World) -> BTreeMap<String, String> {
    let lines = world.lines();
    let events = lines.into_iter().filter_map(|line| match line.event {
        Event::NotPractised { step, why } => Some((step, why)),
        _ => None,
    });
    events.collect()
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_practised_is_passed_over_with_all_that_needs_it() {
    let documents = [
        runbook(
            "whole",
            &[
                ("## First", &look("first")),
                ("## Elsewhere", &look("elsewhere")),
                ("## Changes", "action = \"command\"\nrun = [\"changes\"]"),
                ("## Needs", &look("{{elsewhere.output}}")),
                ("## Asks", &format!("{}\nonly_when = \"needs.outcome == 'skipped'\"", look("{{first.output}}"))),
                ("## Call", "action = \"runbook\"\nrunbook = \"inner\""),
            ],
        ),
        runbook("inner", &[("## One", &look("one")), ("## Two", &look("two"))]),
    ];
    let mut world = World::new(&[], &[]);
    world.unpractised = vec!["elsewhere", "call/two"];
    world.finish.outputs = BTreeMap::from([("drill".to_owned(), "d-1".to_owned())]);
    assert_eq!(practise(&mut world, &documents).await, Ending::Passed);
    let effects: Vec<String> = world.effects().into_keys().collect();
    assert_eq!(effects, ["asks: run of first", "call/one: run one", "first: run first"]);
    let over = passed_over(&world);
    let names: Vec<&str> = over.keys().map(String::as_str).collect();
    assert_eq!(names, ["call/two", "changes", "elsewhere", "needs"]);
    assert_eq!(over["elsewhere"], "not here");
    assert!(over["needs"].contains("{{elsewhere.output}}"), "{over:?}");
    let Event::Finished { outputs, why: None, .. } = world.lines().pop().unwrap().event else { panic!() };
    assert_eq!(outputs["drill"], "d-1");
    assert_eq!(*world.let_go.lock().unwrap(), [true]);
    // For real all of it is done, and nobody is asked what can be practised.
    let mut real = World::new(&[], &[]);
    real.unpractised = vec!["elsewhere", "call/two"];
    real.live(&documents, Mode::Real, None).await.unwrap();
    assert!(passed_over(&real).is_empty() && real.effects().len() == 6, "{:?}", real.effects());
}

#[tokio::test(start_paused = true)]
async fn the_way_back_does_nothing_that_practice_does_not() {
    let with = |undo: &str| format!("{}\nundo = {undo}", look("x"));
    let back = "{ action = \"command\", run = [\"back\"] }";
    let looking = "{ action = \"command\", run = [\"look\"], effect = \"nothing\" }";
    let documents = [runbook(
        "whole",
        &[
            ("## Changes", &with(back)),
            ("## Looks", &with(looking)),
            ("## Fails", &format!("{}\non_failure = \"rollback\"", look("fails"))),
        ],
    )];
    let mut world = World::new(&[("fails", 1)], &[]);
    assert_eq!(practise(&mut world, &documents).await, Ending::RolledBack);
    let effects: Vec<String> = world.effects().into_keys().collect();
    assert_eq!(effects, ["changes: run x", "looks: run look", "looks: run x"]);
    let lines = world.lines();
    let undone = lines.iter().find_map(|line| match &line.event {
        Event::UndoEnded { step, why, .. } if step == "changes" => why.clone(),
        _ => None,
    });
    assert!(undone.unwrap().starts_with("not practised: "));
}

#[tokio::test(start_paused = true)]
async fn what_stands_still_is_let_go_of_without_an_end() {
    let documents = [runbook("whole", &[("## Fails", &look("fails"))])];
    let mut world = World::new(&[("fails", 1)], &[]);
    let life = world.live(&documents, Mode::Practice, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Stopped { .. })), "{life:?}");
    assert_eq!(*world.let_go.lock().unwrap(), [false]);
}

#[tokio::test(start_paused = true)]
async fn a_practice_whose_sandbox_did_not_prove_itself_has_failed() {
    let documents = [runbook("whole", &[("## First", &look("first"))])];
    let mut world = World::new(&[], &[]);
    world.finish = Finish { why: Some("something was left behind".to_owned()), ..Finish::default() };
    assert_eq!(practise(&mut world, &documents).await, Ending::Failed);
    let Event::Finished { ending: Ending::Failed, why: Some(why), .. } = world.lines().pop().unwrap().event else {
        panic!()
    };
    assert_eq!(why, "something was left behind");
}
