//! A runbook that a step runs, tried once more: what failed in it is, what passed is not; and one that took itself back begins from
//! nothing.

use lifeboat_runbook::{
    document::Document,
    event::{Asked, Ending, Event, Line},
    execute::Stand,
    plan::Mode,
};

use crate::{
    runbook,
    world::{Life, World},
};

const CALL: &str = "action = \"runbook\"\nrunbook = \"inner\"";

fn run(name: &str, more: &str) -> String {
    format!("action = \"command\"\nrun = [\"{name}\"]\nrepeatable = true\n{more}")
}

fn documents(call: &str, inner: &[(&str, String)]) -> Vec<Document> {
    let inner: Vec<(&str, &str)> = inner.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    vec![runbook("whole", &[("## Call", call), ("## After", &run("after", ""))]), runbook("inner", &inner)]
}

async fn live(world: &mut World, documents: &[Document]) -> Life {
    world.live(documents, Mode::Real, None).await.unwrap()
}

fn stopped(life: &Life) -> &str {
    match life {
        Life::Stood(Stand::Stopped { step, why }) if step == "call" => why,
        life => panic!("{life:?}"),
    }
}

/// Somebody let a failure inside pass, so the whole of it failed. Who takes the run up has that one step tried again.
#[tokio::test(start_paused = true)]
async fn what_failed_inside_is_tried_again() {
    let inner = [
        ("## One", run("one", "")),
        ("## Two", run("two", "on_failure = \"ask\"")),
        ("## Three", run("three", "on_failure = \"continue\"")),
        ("## Four", run("four", "")),
    ];
    let documents = documents(CALL, &inner);
    let mut world = World::new(&[("call/two", 1), ("call/three", 1)], &[("failure", "continue")]);
    assert_eq!(stopped(&live(&mut world, &documents).await), "steps of inner failed");
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    assert_eq!(world.effects().len(), 5, "{:?}", world.effects());
    assert!(world.effects().into_values().all(|times| times == 1), "{:?}", world.effects());
    // The same by itself.
    let documents = [runbook("whole", &[("## Call", &format!("{CALL}\nretries = 1"))]), documents[1].clone()];
    let mut world = World::new(&[("call/two", 1), ("call/three", 1)], &[("failure", "continue")]);
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
}

/// Deeper down as well.
#[tokio::test(start_paused = true)]
async fn what_failed_deep_inside_is_tried_again() {
    let mut documents = documents(CALL, &[("## Deep", "action = \"runbook\"\nrunbook = \"deep\"".to_owned())]);
    documents
        .push(runbook("deep", &[("## One", &run("one", "")), ("## Two", &run("two", "on_failure = \"continue\""))]));
    let mut world = World::new(&[("call/deep/two", 1)], &[]);
    let life = live(&mut world, &documents).await;
    assert!(matches!(&life, Life::Stood(Stand::Stopped { step, .. }) if step == "call/deep"), "{life:?}");
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    assert_eq!(world.effects().into_values().collect::<Vec<_>>(), [1, 1, 1]);
}

/// What took itself back is done anew, wherever it is killed; only what can be seen to be still there is left as it is.
#[tokio::test(start_paused = true)]
async fn what_took_itself_back_begins_from_nothing() {
    let service = "action = \"start\"\ncontainers = [\"c\"]\n";
    let inner = [
        ("## One", run("one", "undo = { action = \"command\", run = [\"un-one\"], repeatable = true }")),
        ("## Stays", service.to_owned()),
        ("## Fails", run("fails", "on_failure = \"rollback\"")),
    ];
    let documents = documents(CALL, &inner);
    let world = || World::new(&[("call/fails", 1)], &[]);
    let mut through = world();
    let life = live(&mut through, &documents).await;
    assert_eq!(
        stopped(&life),
        "inner took back what it did; done and not taken back: call/stays; tried and not taken back: call/fails"
    );
    let life = live(&mut through, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", through.lines());
    let expected = [
        ("after: run after", 1),
        ("call/fails: run fails", 1),
        ("call/one: run one", 2),
        ("call/one: run un-one", 1),
        ("call/stays: start container c", 1),
    ];
    assert_eq!(through.effects(), expected.map(|(effect, times)| (effect.to_owned(), times)).into());
    let one: Vec<_> = through.acts.lock().unwrap().iter().filter(|act| act.0 == "call/one").cloned().collect();
    let act = |undoing, round| ("call/one".to_owned(), undoing, round);
    assert_eq!(one, [act(false, 0), act(true, 0), act(false, 1)], "who is told of it can tell them apart");
    for moment in 0..60 {
        let mut world = world();
        world.live(&documents, Mode::Real, Some(moment)).await.unwrap();
        let mut life = live(&mut world, &documents).await;
        if let Life::Stood(Stand::Stopped { .. }) = life {
            life = live(&mut world, &documents).await;
        }
        let told = format!("killed at {moment}: {life:?} {:#?}", world.lines());
        assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{told}");
        assert_eq!(world.effects()["call/stays: start container c"], 1, "{told}");
    }
}

/// A run that is called off behind such a try takes back what that did, and names what an earlier one has left.
#[tokio::test(start_paused = true)]
async fn what_was_begun_anew_is_taken_back_once() {
    let inner = [
        ("## One", run("one", "undo = { action = \"command\", run = [\"un-one\"], repeatable = true }")),
        ("## Fails", run("fails", "on_failure = \"rollback\"")),
    ];
    let inner: Vec<(&str, &str)> = inner.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    let outer = [("## Call", format!("{CALL}\nretries = 1")), ("## Last", run("last", "on_failure = \"rollback\""))];
    let outer: Vec<(&str, &str)> = outer.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    let documents = [runbook("whole", &outer), runbook("inner", &inner)];
    let mut world = World::new(&[("call/fails", 1), ("last", 9)], &[]);
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{life:?}: {:#?}", world.lines());
    assert_eq!((world.effects()["call/one: run one"], world.effects()["call/one: run un-one"]), (2, 2));
    let Event::Finished { why, .. } = world.lines().pop().unwrap().event else { panic!() };
    assert_eq!(why.unwrap(), "done and not taken back: call/fails; tried and not taken back: last");
}

/// What an earlier try has left stays named, also where a later one did not come so far.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_try_has_left_is_not_forgotten() {
    let back = "undo = { action = \"stop\", containers = [\"g\"] }\non_failure = \"rollback\"";
    let inner = [
        ("## Gate", format!("action = \"start\"\ncontainers = [\"g\"]\n{back}")),
        ("## Off", "action = \"stop\"\ncontainers = [\"odoo\"]".to_owned()),
        ("## Fails", "action = \"wait\"\nfor = \"1s\"\non_failure = \"rollback\"".to_owned()),
    ];
    let documents = documents(&format!("{CALL}\nretries = 1\non_failure = \"rollback\""), &inner);
    let mut world = World::new(&[("call/fails", 1)], &[]);
    world.hidden.lock().unwrap().insert("call/gate".to_owned(), 1);
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{life:?}: {:#?}", world.lines());
    let Event::Finished { why, .. } = world.lines().pop().unwrap().event else { panic!() };
    assert_eq!(why.unwrap(), "done and not taken back: call/off");
}

/// What its caller took back is done anew with it, also where it had passed itself.
#[tokio::test(start_paused = true)]
async fn what_its_caller_took_back_is_done_anew() {
    let inner = [
        ("## Deep", "action = \"runbook\"\nrunbook = \"deep\"".to_owned()),
        ("## Fails", run("fails", "on_failure = \"rollback\"")),
    ];
    let mut documents = documents(&format!("{CALL}\nretries = 1"), &inner);
    let undo = "undo = { action = \"command\", run = [\"un-one\"], repeatable = true }";
    documents.push(runbook("deep", &[("## One", &run("one", undo))]));
    let mut world = World::new(&[("call/fails", 1)], &[]);
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    let times = |what: &str| world.effects()[&format!("call/deep/one: run {what}")];
    assert_eq!((times("one"), times("un-one")), (2, 1), "{:#?}", world.lines());
}

/// Nothing took it back, and nothing can see it: it is not done a second time without a word of a person.
#[tokio::test(start_paused = true)]
async fn what_was_left_is_asked_for_before_it_is_done_again() {
    let inner = [
        ("## Adds", "action = \"command\"\nrun = [\"adds\"]".to_owned()),
        ("## Fails", run("fails", "on_failure = \"rollback\"")),
    ];
    let documents = documents(&format!("{CALL}\nretries = 1"), &inner);
    let mut world = World::new(&[("call/fails", 1)], &[]);
    let life = live(&mut world, &documents).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    let is_doubt =
        |line: &Line| matches!(&line.event, Event::Answered { step, asked: Asked::Doubt, .. } if step == "call/adds");
    assert!(world.lines().iter().any(is_doubt), "{:#?}", world.lines());
    assert_eq!(world.effects()["call/adds: run adds"], 1, "who was asked has seen that it was done");
}
