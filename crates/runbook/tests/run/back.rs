//! The way back: nothing is taken back twice, or with a hole in its text, and what stays as it was made is named.

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

const FAILS: (&str, &str) =
    ("## Fails", "action = \"command\"\nrun = [\"fails\"]\neffect = \"nothing\"\non_failure = \"rollback\"");

fn command(name: &str, undo: &str) -> String {
    format!("action = \"command\"\nrun = [\"{name}\"]\nundo = {undo}")
}

async fn live(world: &mut World, document: &Document, fuse: Option<u64>) -> Life {
    world.live(std::slice::from_ref(document), Mode::Real, fuse).await.unwrap()
}

/// How the taking back of a step ended, and why.
fn undone(world: &World, id: &str) -> (Outcome, String) {
    let lines = world.lines();
    let event = lines.into_iter().find_map(|line| match line.event {
        Event::UndoEnded { step, outcome, why } if step == id => Some((outcome, why.unwrap_or_default())),
        _ => None,
    });
    event.unwrap()
}

fn why(world: &World) -> Option<String> {
    let Event::Finished { why, .. } = world.lines().pop().unwrap().event else { panic!("{:#?}", world.lines()) };
    why
}

/// Killed anywhere, what nobody can see is asked of people, and what cannot be seen yet as well: never done twice.
#[tokio::test(start_paused = true)]
async fn what_takes_back_is_not_done_twice() {
    let undos = [
        "{ action = \"command\", run = [\"un-it\"] }",
        "{ action = \"command\", run = [\"un-it\"], done_when = [\"true\"] }",
        "{ action = \"sql\", instance = \"c\", database = \"d\", sql = \"run un-it\", effect = \"changes\" }",
        "{ action = \"webhook\", url = \"http://h/run un-it\" }",
    ];
    for undo in undos {
        let document = runbook("whole", &[("## It", &command("it", undo)), FAILS]);
        for hidden in [0, 1] {
            let mut asked = 0;
            for moment in 0..30 {
                let mut world = World::new(&[("fails", 9)], &[]);
                world.hidden.lock().unwrap().insert("it".to_owned(), hidden);
                live(&mut world, &document, Some(moment)).await;
                let life = live(&mut world, &document, None).await;
                let told = format!("{undo}, killed at {moment}: {life:?} {:#?}", world.lines());
                assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{told}");
                assert_eq!(world.effects().into_values().collect::<Vec<_>>(), [1, 1], "{told}");
                asked += u32::from(undone(&world, "it").1 == "done, says ann");
            }
            assert_eq!(asked > 0, hidden == 1 || !undo.contains("done_when"), "{undo}");
        }
    }
}

/// Nobody is there to say whether it was taken back: the run waits, and is asked again by whoever takes it up.
#[tokio::test(start_paused = true)]
async fn a_person_takes_back_by_hand() {
    let steps = [
        ("## It", command("it", "\"by-hand\"")),
        ("## By hand", "action = \"manual\"\nlook_for = \"it is gone\"".to_owned()),
    ];
    let mut steps: Vec<(&str, &str)> = steps.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    steps.push(FAILS);
    let document = runbook("whole", &steps);
    let mut world = World::new(&[("fails", 9)], &[]);
    let life = live(&mut world, &document, None).await;
    // Of these people one looks whether it was done.
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::HalfRolledBack))), "{life:?}: {:#?}", world.lines());
    assert_eq!(undone(&world, "it"), (Outcome::Failed, "ann says no".to_owned()));
    assert_eq!(why(&world).unwrap(), "could not be taken back: it");
    let mut world = World::new(&[("fails", 9)], &[]);
    world.says.insert("back", "yes");
    let life = live(&mut world, &document, None).await;
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{life:?}: {:#?}", world.lines());
    assert_eq!((undone(&world, "it").1.as_str(), why(&world)), ("done, says ann", None));
}

/// A step that takes another back has its own limit.
#[tokio::test(start_paused = true)]
async fn what_takes_back_may_take_as_long_as_it_says() {
    let drop = "action = \"command\"\nrun = [\"un-slow\"]\n";
    for (limit, outcome) in [("timeout = \"1h\"", Outcome::Passed), ("", Outcome::Failed)] {
        let (it, drop) = (command("it", "\"drop\""), format!("{drop}{limit}"));
        let document = runbook("whole", &[("## It", &it), ("## Drop", &drop), FAILS]);
        let mut world = World::new(&[("fails", 9)], &[]);
        live(&mut world, &document, None).await;
        assert_eq!(undone(&world, "it").0, outcome, "{limit}: {:#?}", world.lines());
    }
}

/// What takes too long is over, with all that it had begun, before its end is written and anything else is begun.
#[tokio::test(start_paused = true)]
async fn what_took_too_long_is_waited_for_before_it_has_ended() {
    let slow = "action = \"command\"\nrun = [\"slow\"]\ntimeout = \"1m\"\non_failure = \"rollback\"";
    let undo = command("it", "{ action = \"command\", run = [\"un-slow\"] }");
    let mut world = World::new(&[], &[]);
    live(&mut world, &runbook("whole", &[("## It", &undo), ("## Slow", slow)]), None).await;
    let settled = world.settled.lock().unwrap().clone();
    let of = |wanted: &str| settled.iter().rfind(|(id, _)| id == wanted).map(|(_, lines)| *lines);
    for (index, line) in world.lines().iter().enumerate() {
        match &line.event {
            Event::Ended { step, outcome: Outcome::Failed, .. } | Event::UndoEnded { step, .. } => {
                assert_eq!(of(step), Some(index), "{step}: {:#?}", world.lines());
            }
            _ => {}
        }
    }
    assert_eq!((undone(&world, "it").0, settled.len()), (Outcome::Failed, 3));
}

/// Nor is anything taken back with a hole in its text. What only the step itself asks for is none.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_back_with_a_hole() {
    let undo = "{ action = \"command\", run = [\"un-it\", \"{{it.output}}\"] }";
    let document = runbook("whole", &[("## It", &command("it", undo)), FAILS]);
    let mut holes = 0;
    for moment in 0..12 {
        let mut world = World::new(&[("fails", 9)], &[]);
        live(&mut world, &document, Some(moment)).await;
        live(&mut world, &document, None).await;
        let (outcome, why) = undone(&world, "it");
        if outcome == Outcome::Failed {
            assert!(why.starts_with("{{it.output}} has no value"), "{why}");
            assert_eq!(world.effects().len(), 1, "{:?}", world.effects());
            holes += 1;
        }
    }
    assert!(holes > 0, "it was never cut off in its middle");
    let steps = [
        ("## One", "action = \"command\"\nrun = [\"one\"]\non_failure = \"continue\"\neffect = \"nothing\"".to_owned()),
        ("## It", command("{{one.output}}", "{ action = \"command\", run = [\"un-it\"] }\non_failure = \"rollback\"")),
    ];
    let steps: Vec<(&str, &str)> = steps.iter().map(|(heading, block)| (*heading, block.as_str())).collect();
    let mut world = World::new(&[("one", 9)], &[]);
    live(&mut world, &runbook("whole", &steps), None).await;
    assert_eq!(undone(&world, "it").0, Outcome::Passed);
}

/// Whoever reads that it is rolled back reads as well what is not as it was before.
#[tokio::test(start_paused = true)]
async fn what_nothing_takes_back_is_named() {
    let steps = [
        ("## Look", "action = \"command\"\nrun = [\"look\"]\neffect = \"nothing\""),
        ("## Off", "action = \"stop\"\ncontainers = [\"odoo\"]"),
        ("## Service", "action = \"start\"\ncontainers = [\"x\"]\nundo = { action = \"stop\", containers = [\"x\"] }"),
        ("## Call", "action = \"runbook\"\nrunbook = \"inner\""),
        ("## Shaky", "action = \"command\"\nrun = [\"shaky\"]\non_failure = \"rollback\""),
        ("## Never", "action = \"command\"\nrun = [\"never\"]"),
    ];
    let inner = runbook("inner", &[("## Down", "action = \"stop\"\nunit = \"postgresql\"")]);
    let documents = [runbook("whole", &steps), inner];
    let mut world = World::new(&[("shaky", 9)], &[]);
    let life = world.live(&documents, Mode::Real, None).await.unwrap();
    assert!(matches!(life, Life::Stood(Stand::Over(Ending::RolledBack))), "{life:?}");
    assert_eq!(why(&world).unwrap(), "done and not taken back: off, call/down; tried and not taken back: shaky");
    // Nothing of a practice stays: its sandbox goes as a whole.
    let mut world = World::new(&[("fails", 9)], &[]);
    let sql = "action = \"sql\"\ninstance = \"c\"\ndatabase = \"d\"\nsql = \"x\"\neffect = \"changes\"";
    let undo = command("it", "{ action = \"command\", run = [\"un-it\"] }");
    let documents = [runbook("whole", &[("## Sql", sql), ("## It", &undo), FAILS])];
    world.live(&documents, Mode::Practice, None).await.unwrap();
    assert_eq!(why(&world), None);
}
