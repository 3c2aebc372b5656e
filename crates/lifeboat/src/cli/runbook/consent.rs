//! What is shown and asked before a run begins: once, clearly, and more where something that lives would be destroyed.

use std::io::{self, IsTerminal as _};

use lifeboat_runbook::{
    consent::{Asked, Conditions, Destroying, destroying},
    plan::{Mode, Plan},
};

use super::{history::Rehearsed, living, run::Talk, selection::Selected};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::Tone,
};

/// Shows what the run will touch, and asks. A practice run touches nothing that is not its own, and is not asked about.
pub(super) async fn ask(
    session: &Session,
    selected: &Selected,
    plan: &Plan,
    rehearsed: &Rehearsed,
    talk: &Talk,
) -> Result<()> {
    let say = |text: &str| session.voice.say(text);
    let instance = selected.instance(plan);
    let for_whom = instance.as_ref().map(|instance| format!(" for {instance}")).unwrap_or_default();
    say(&format!("{}{for_whom}: {}", plan.title, plan.mode.word()));
    for finding in selected.findings(selected.document()?) {
        session.voice.warn(&format!("{}:{finding}", selected.book()?.file.display()));
    }
    say(&format!("  {}", lasts(selected, plan)?));
    if plan.mode == Mode::Practice {
        for (step, why) in &plan.not_practised {
            say(&format!("  not practised: {step}, {why}"));
        }
        return Ok(());
    }
    let (tone, words) = rehearsed.words();
    let why = rehearsed.why().map(|why| format!(": {why}")).unwrap_or_default();
    say(&format!("  {}{why}", tone.paint(words)));
    for touched in &plan.touches {
        say(&format!("  touches {touched}"));
    }
    for approval in &plan.approvals {
        say(&format!("  waits for {} of role {} ({})", approval.people, approval.role, approval.step));
    }
    let destroying = destroying(&plan.items, Conditions::Open);
    let living = living::of(selected, plan, &destroying).await;
    living.dead.iter().for_each(|why| say(&format!("  {why}")));
    if living.words.is_empty() {
        let given = talk.yes.then(|| "yes".to_owned());
        return confirm(session, given, "yes", "Type yes to begin:", "--yes");
    }
    let (place, names) = (living.words.join("; "), |found: &[&Destroying]| {
        let names: Vec<String> = found.iter().map(|it| in_words(it)).collect();
        names.join(", ")
    });
    let unapproved: Vec<&Destroying> = destroying.iter().filter(|it| it.asked != Asked::Yes).collect();
    if !unapproved.is_empty() {
        let message = format!("{} destroys, and nobody is sure to be asked before: {place}", names(&unapproved));
        return Err(Failure::new(Exit::CheckFailed, message).safe("nothing was done").hint(
            "add a step with action = \"approve\" before it that is never passed over and ends the run after a no",
        ));
    }
    let steps = names(&destroying.iter().collect::<Vec<_>>());
    say(&format!("{} {place}. What is there will be destroyed by {steps}", Tone::Bad.paint("It lives:")));
    // Of what nobody knows, the runbook's own name is typed.
    let named: Vec<&str> = living.names.iter().map(String::as_str).collect();
    let (what, wanted) = match (named.as_slice(), &selected.document()?.head) {
        ([], Some(head)) => ("the runbook's id", head.id.value.clone()),
        ([name], _) => ("the system's name", (*name).to_owned()),
        (names, _) => ("the systems' names", names.join(",")),
    };
    let question = format!("Type {what} ({wanted}) to begin:");
    confirm(session, talk.confirm.clone(), &wanted, &question, "--confirm NAME")
}

fn in_words(destroying: &Destroying) -> String {
    match destroying.by_undo {
        true => format!("taking {} back", destroying.step),
        false => destroying.step.clone(),
    }
}

/// How long it should take, and may.
fn lasts(selected: &Selected, plan: &Plan) -> Result<String> {
    let rto = selected.document()?.head.as_ref().and_then(|head| head.rto.as_ref());
    let rto = rto.map(|rto| format!(", RTO {}", rto.value)).unwrap_or_default();
    let unknown = match plan.lasts.unknown {
        0 => String::new(),
        count => format!(" and {count} steps of which nobody knows"),
    };
    Ok(format!("expected to take {}{unknown}{rto}", plan.lasts.known))
}

fn confirm(session: &Session, given: Option<String>, wanted: &str, question: &str, option: &str) -> Result<()> {
    let typed = match given {
        Some(given) => given.replace(' ', ""),
        None if io::stdin().is_terminal() => {
            session.voice.say(question);
            let mut typed = String::new();
            io::stdin().read_line(&mut typed).context("cannot read the terminal")?;
            typed.trim().replace(' ', "")
        }
        None => String::new(),
    };
    if typed == wanted {
        return Ok(());
    }
    let why = match typed.is_empty() {
        true => "nobody has agreed to it".to_owned(),
        false => format!("\"{typed}\" is not \"{wanted}\""),
    };
    Err(Failure::new(Exit::Usage, why).safe("nothing was done").hint(format!("without a terminal: {option}")))
}
