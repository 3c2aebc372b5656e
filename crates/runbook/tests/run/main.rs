//! Runs, killed at every moment and taken up again: they end as if nothing had happened, and nothing is done twice.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod again;
mod back;
mod calls;
mod practice;
mod world;

use std::collections::BTreeMap;

use lifeboat_runbook::{
    course::Next,
    document::Document,
    event::{Ending, Event, Outcome},
    execute::Stand,
    plan::Mode,
};
use world::{Life, World};

const HEAD: &str =
    "[runbook]\nid = \"ID\"\nsummary = \"s\"\nroles = [\"lead\"]\n[parameters.p]\nkind = \"text\"\ndefault = \"d\"";

/// A runbook with these steps: heading and block each.
fn runbook(id: &str, steps: &[(&str, &str)]) -> Document {
    let steps = steps.iter().map(|(heading, block)| format!("{heading}\n```toml\n{block}\n```\n"));
    let text = format!("# T\n```toml\n{}\n```\n{}", HEAD.replace("ID", id), steps.collect::<String>());
    Document::parse(&text).unwrap_or_else(|findings| panic!("{findings:?}\n{text}"))
}

/// Every way in which a step can be found again after a crash.
fn whole() -> Vec<Document> {
    let steps = [
        (
            "## Ask",
            "action = \"decide\"\nquestion = \"which?\"\nanswers = { \"left\" = \"left\", \"right\" = \"right\" }",
        ),
        ("## Left", "action = \"command\"\nrun = [\"left\", \"{{p}}\"]\ndone_when = [\"true\"]"),
        ("### Below left", "action = \"command\"\nrun = [\"below\", \"{{left.output}}\"]"),
        ("## Right", "action = \"command\"\nrun = [\"right\"]"),
        ("## Consent", "action = \"approve\"\nrole = \"lead\"\nquestion = \"really?\"\npeople = 2"),
        (
            "## Service",
            "action = \"start\"\ncontainers = [\"odoo\"]\nundo = { action = \"stop\", containers = [\"odoo\"] }",
        ),
        ("## By hand", "action = \"manual\"\nlook_for = \"a light\""),
        ("## Call", "action = \"runbook\"\nrunbook = \"inner\"\nwith = { p = \"{{left.output}}\" }"),
        ("## Shaky", "action = \"command\"\nrun = [\"shaky\"]\nretries = 2\nretry_after = \"1s\""),
        ("## Never", "action = \"command\"\nrun = [\"never\"]\nonly_when = \"mode == 'practice'\""),
        ("## Last", "action = \"command\"\nrun = [\"last\", \"{{ask.answer}}\", \"{{never.outcome}}\"]"),
    ];
    let inner = [
        (
            "## One",
            "action = \"command\"\nrun = [\"one\", \"{{p}}\"]\ndone_when = [\"true\"]\nundo = { action = \"command\", run = [\"un-one\"], repeatable = true }",
        ),
        ("## Two", "action = \"stop\"\ncontainers = [\"{{one.output}}\"]"),
    ];
    vec![runbook("whole", &steps), runbook("inner", &inner)]
}

fn new_world() -> World {
    World::new(&[("shaky", 2)], &[("ask", "left")])
}

fn expected() -> BTreeMap<String, u32> {
    [
        "left: run left x",
        "below-left: run below of left",
        "service: start container odoo",
        "call/one: run one of left",
        "call/two: stop container of call/one",
        "shaky: run shaky",
        "last: run last left skipped",
    ]
    .map(|effect| (effect.to_owned(), 1))
    .into()
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_through() {
    let documents = whole();
    let mut world = new_world();
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    assert_eq!(world.effects(), expected());
    assert!(matches!(world.lines().last().unwrap().event, Event::Finished { ending: Ending::Passed, .. }));
    // Once over, it stays over, and nothing more is done or written but that somebody looked.
    world.live(&documents, Mode::Real, None).await.unwrap();
    assert_eq!(world.effects(), expected());
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_moment_it_ends_the_same_and_nothing_is_doubled() {
    let documents = whole();
    let mut world = new_world();
    world.live(&documents, Mode::Real, None).await.unwrap();
    let moments = world.ticks();
    assert!(moments > 80, "{moments}");
    for first in 0..moments {
        // And once more in the middle of what follows.
        for second in [0, 1, 2, 3, 5, 8, 13, 21] {
            let mut world = new_world();
            assert!(matches!(world.live(&documents, Mode::Real, Some(first)).await.unwrap(), Life::Killed), "{first}");
            let _ = world.live(&documents, Mode::Real, Some(second)).await.unwrap();
            let life = world.live(&documents, Mode::Real, None).await.unwrap();
            let told = || format!("killed at {first} and {second}: {life:?} {:#?}", world.lines());
            assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{}", told());
            assert_eq!(world.effects(), expected(), "{}", told());
            assert!(world.lines().iter().zip(1..).all(|(line, number)| line.number == number), "{}", told());
            assert_eq!(world.replayed(&documents[0], Mode::Real).unwrap().next(), Next::Over(Ending::Passed));
        }
    }
}

/// Two consents are two people's, whoever is at the keyboard.
#[tokio::test(start_paused = true)]
async fn nobody_consents_twice() {
    let documents = whole();
    let mut world = new_world();
    world.live(&documents, Mode::Real, None).await.unwrap();
    let who: Vec<String> = world
        .lines()
        .iter()
        .filter(|line| matches!(&line.event, Event::Answered { step, .. } if step == "consent"))
        .map(|line| line.who.clone())
        .collect();
    assert_eq!(who, ["ann", "ben"]);
    let mut refused = new_world();
    refused.says.insert("consent", "no");
    let life = refused.live(&documents, Mode::Real, None).await.unwrap();
    let Life::Stood(Stand::Stopped { step, why }) = life else { panic!("{life:?}") };
    assert_eq!((step.as_str(), why.as_str()), ("consent", "ann says no: because"));
    assert!(!refused.effects().contains_key("service: start container odoo"));
}

/// What failed for good, with `rollback`, takes back what was done, the last first; killed anywhere, nothing is taken back twice but
/// what says that twice is as once.
#[tokio::test(start_paused = true)]
async fn a_rollback_takes_back_the_last_first_wherever_it_is_killed() {
    let steps = [
        (
            "## Service",
            "action = \"start\"\ncontainers = [\"odoo\"]\nundo = { action = \"stop\", containers = [\"odoo\"] }",
        ),
        ("## Plain", "action = \"command\"\nrun = [\"plain\"]"),
        ("## Call", "action = \"runbook\"\nrunbook = \"inner\""),
        ("## Fails", "action = \"command\"\nrun = [\"fails\"]\non_failure = \"rollback\"\nrepeatable = true"),
        ("## After", "action = \"command\"\nrun = [\"after\"]"),
    ];
    let documents = vec![runbook("whole", &steps), whole().remove(1)];
    let world = || World::new(&[("fails", 99)], &[]);
    let mut through = world();
    let life = through.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{life:?}");
    let undone: Vec<String> = through
        .lines()
        .iter()
        .filter_map(|line| match &line.event {
            Event::UndoEnded { step, outcome: Outcome::Passed, .. } => Some(step.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(undone, ["call/one", "call", "service"]);
    for moment in 0..through.ticks() {
        let mut world = world();
        assert!(matches!(world.live(&documents, Mode::Real, Some(moment)).await.unwrap(), Life::Killed), "{moment}");
        let life = world.live(&documents, Mode::Real, None).await.unwrap();
        assert!(
            matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))),
            "{moment}: {life:?} {:#?}",
            world.lines()
        );
        for (effect, times) in world.effects() {
            let harmless = effect.contains("un-one");
            assert!(times == 1 || harmless, "killed at {moment}: {effect} {times} times: {:#?}", world.lines());
        }
        assert!(world.effects().contains_key("service: stop container odoo"), "{moment}");
        assert!(!world.effects().contains_key("after: run after"), "{moment}");
    }
}

/// A run that stands still is taken up where it stopped: what passed is not done again, what failed is.
#[tokio::test(start_paused = true)]
async fn what_stopped_is_tried_again_when_it_is_taken_up() {
    let documents = whole();
    let mut world = new_world();
    world.failing.lock().unwrap().insert("call/two".to_owned(), 1);
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    let Life::Stood(Stand::Stopped { step, .. }) = life else { panic!("{life:?}") };
    assert_eq!(step, "call/two");
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Passed))), "{life:?}: {:#?}", world.lines());
    assert_eq!(world.effects(), expected());
}

/// A text with a hole in it is never acted on: here what a person says was done has left no output.
#[tokio::test(start_paused = true)]
async fn what_has_no_value_is_not_guessed() {
    let steps = [
        ("## One", "action = \"command\"\nrun = [\"one\"]"),
        ("## Two", "action = \"command\"\nrun = [\"rm\", \"{{one.output}}\"]"),
    ];
    let documents = vec![runbook("whole", &steps)];
    let mut holes = 0;
    for moment in 0..20 {
        let mut world = World::new(&[], &[]);
        world.live(&documents, Mode::Real, Some(moment)).await.unwrap();
        match world.live(&documents, Mode::Real, None).await.unwrap() {
            Life::Stood(Stand::Stopped { step, why }) => {
                assert!(step == "two" && why.starts_with("{{one.output}} has no value"), "{step}: {why}");
                assert_eq!(world.effects().len(), 1, "{moment}");
                holes += 1;
            }
            _ => assert_eq!(world.effects().len(), 2, "{moment}: {:#?}", world.lines()),
        }
    }
    assert!(holes > 0, "one was never cut off in its middle");
}

/// Somebody has to say what now; until then the run stands, and the answer counts.
#[tokio::test(start_paused = true)]
async fn who_is_asked_after_a_failure_decides() {
    let steps = [
        ("## Odd", "action = \"command\"\nrun = [\"odd\"]\non_failure = \"ask\""),
        ("## Next", "action = \"command\"\nrun = [\"next\", \"{{odd.outcome}}\"]"),
    ];
    let documents = vec![runbook("whole", &steps)];
    let mut world = World::new(&[("odd", 1)], &[]);
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(&life, Life::Stood(Stand::Waits { step }) if step == "odd"), "{life:?}");
    world.says.insert("failure", "continue");
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Failed))), "{life:?}");
    assert_eq!(world.effects(), [("next: run next failed".to_owned(), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_end_a_run() {
    let steps = [
        (
            "## Ask",
            "action = \"decide\"\nquestion = \"go on?\"\nanswers = { \"yes\" = \"continue\", \"no\" = \"end\" }",
        ),
        ("## Next", "action = \"command\"\nrun = [\"next\"]"),
    ];
    let documents = vec![runbook("whole", &steps)];
    let mut world = World::new(&[], &[("ask", "no")]);
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::Answered))), "{life:?}");
    assert_eq!(world.effects(), BTreeMap::new());
}

/// A journal of another document is refused, and nothing is done.
#[tokio::test(start_paused = true)]
async fn a_journal_of_another_runbook_does_not_fit() {
    let mut world = new_world();
    world.live(&whole(), Mode::Real, Some(30)).await.unwrap();
    let other = vec![runbook("whole", &[("## Other", "action = \"command\"\nrun = [\"other\"]")])];
    let refused = world.live(&other, Mode::Real, None).await.unwrap_err();
    assert!(format!("{refused:?}").contains("no step"), "{refused:?}");
    assert!(!world.effects().contains_key("other: run other"));
}
