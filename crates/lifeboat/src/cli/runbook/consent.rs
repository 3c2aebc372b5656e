//! What is shown and asked before a run begins: once, clearly, and more where something that lives would be destroyed.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use lifeboat_engine::context;
use lifeboat_model::id::Instance;
use lifeboat_runbook::{
    action::Effect,
    plan::{Item, Mode, Plan, Runs},
};

use super::{history::Rehearsed, run::Talk, selection::Selected};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::Tone,
    wire,
};

/// How long the production system is asked whether it lives.
const ALIVE: Duration = Duration::from_secs(5);

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
    let mut destroys = Destroys::default();
    plan.items.iter().for_each(|item| destroys.look(item, &Runs::Always));
    let living = if destroys.steps.is_empty() { None } else { living(selected, instance.as_ref()).await };
    let (Some(place), Some(instance)) = (living, instance) else {
        let given = talk.yes.then(|| "yes".to_owned());
        return confirm(session, given, "yes", "Type yes to begin:", "--yes");
    };
    if !destroys.unapproved.is_empty() {
        let steps = destroys.unapproved.join(", ");
        let message = format!("{steps} destroys while {place} answers, and nobody is sure to be asked before");
        return Err(Failure::new(Exit::CheckFailed, message)
            .safe("nothing was done")
            .hint("add a step with action = \"approve\" before it that is never passed over"));
    }
    let steps = destroys.steps.join(", ");
    say(&format!("{} {place} answers, and {steps} will destroy what is there", Tone::Bad.paint("It lives:")));
    let question = format!("Type the system's name ({instance}) to begin:");
    confirm(session, talk.confirm.clone(), instance.as_str(), &question, "--confirm NAME")
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

/// Steps that take away what does not come back by itself.
#[derive(Default)]
struct Destroys {
    steps: Vec<String>,
    /// Those that may be reached without anybody having said yes in this run.
    unapproved: Vec<String>,
    /// When somebody is asked, of all approvals so far.
    approved: Vec<Runs>,
}

impl Destroys {
    /// In the order of the plan; `above`: when what this stands in runs.
    fn look(&mut self, item: &Item, above: &Runs) {
        let runs = if item.runs == Runs::Always { above } else { &item.runs };
        if matches!(runs, Runs::Never(_) | Runs::Undo(_)) {
            return;
        }
        if let Some(step) = &item.step {
            if step.effect == Effect::Destroys {
                self.steps.push(item.id.clone());
                // An approval that may be passed over counts only for what is passed over with it.
                if !self.approved.iter().any(|approved| *approved == Runs::Always || approved == runs) {
                    self.unapproved.push(item.id.clone());
                }
            }
            if step.people > 0 {
                self.approved.push(runs.clone());
            }
        }
        item.called.iter().chain(&item.items).for_each(|below| self.look(below, runs));
    }
}

/// Where the instance's database answers; none: it does not, or that cannot be told.
async fn living(selected: &Selected, instance: Option<&Instance>) -> Option<String> {
    let config = selected.around.config.as_ref()?;
    let (_, instance) = config.instance(instance?.as_str()).ok()?;
    let mut options = context::connect_options(&instance.postgres, &wire::environment).ok()?;
    options.connect_timeout = ALIVE;
    let server = options.server();
    match lifeboat_postgres::sql::connect(&options, "postgres").await {
        Ok(_) => Some(format!("PostgreSQL at {server}")),
        // One that lets nobody in lives as well.
        Err(error) if error.server_error().is_some() => Some(format!("PostgreSQL at {server}")),
        Err(_) => None,
    }
}

fn confirm(session: &Session, given: Option<String>, wanted: &str, question: &str, option: &str) -> Result<()> {
    let typed = match given {
        Some(given) => given,
        None if io::stdin().is_terminal() => {
            session.voice.say(question);
            let mut typed = String::new();
            io::stdin().read_line(&mut typed).context("cannot read the terminal")?;
            typed.trim().to_owned()
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

#[cfg(test)]
mod tests {
    use lifeboat_runbook::{document::Document, plan::Request};

    use super::*;

    const DESTROYS: &str = "action = \"sql\"\nhost = \"db\"\nuser = \"a\"\ndatabase = \"d\"\nsql = \"DROP TABLE t\"\neffect = \"destroys\"";
    const APPROVES: &str = "action = \"approve\"\nrole = \"lead\"\nquestion = \"Go on?\"";

    /// Steps that destroy, and those of them that nobody has approved, of a runbook with these blocks.
    fn found(blocks: &[(&str, String)]) -> (Vec<String>, Vec<String>) {
        let steps = blocks.iter().map(|(id, block)| format!("## {id}\n\n```toml\n{block}\n```\n\n"));
        let head = "[runbook]\nid = \"x\"\nsummary = \"x\"\nroles = [\"lead\"]\n[parameters.hard]\nkind = \"text\"\ndefault = \"\"";
        let text = format!("# X\n\n```toml\n{head}\n```\n\n{}", steps.collect::<String>());
        let document = Document::parse(&text).unwrap();
        let request = Request { parameters: [].into(), mode: Mode::Real, past: &|_| None, runbooks: None };
        let plan = Plan::of(&document, &request).unwrap();
        let mut destroys = Destroys::default();
        plan.items.iter().for_each(|item| destroys.look(item, &Runs::Always));
        (destroys.steps, destroys.unapproved)
    }

    /// Whatever its parameters are: in none of the shipped runbooks may something be destroyed that nobody was asked about.
    #[test]
    fn shipped_runbooks_ask_before_they_destroy() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks");
        let mut destroying = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let document = Document::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let request = Request { parameters: [].into(), mode: Mode::Plan, past: &|_| None, runbooks: None };
            let plan = Plan::of(&document, &request).unwrap();
            let mut destroys = Destroys::default();
            plan.items.iter().for_each(|item| destroys.look(item, &Runs::Always));
            assert_eq!(destroys.unapproved, [""; 0], "{}", path.display());
            destroying += destroys.steps.len();
        }
        assert!(destroying > 1, "{destroying}");
    }

    #[test]
    fn an_approval_counts_that_stands_before_and_is_sure_to_be_asked() {
        let when = |block: &str, condition: &str| format!("{block}\nonly_when = \"{condition}\"");
        let one = || vec!["drop".to_owned()];
        let drop = || ("drop", DESTROYS.to_owned());
        assert_eq!(found(&[drop()]), (one(), one()));
        assert_eq!(found(&[("ask", APPROVES.to_owned()), drop()]), (one(), vec![]));
        assert_eq!(found(&[drop(), ("ask", APPROVES.to_owned())]), (one(), one()), "asked too late");
        let maybe = "first.outcome == 'passed'";
        let first = || ("first", "action = \"wait\"\nfor = \"1s\"".to_owned());
        assert_eq!(found(&[first(), ("ask", when(APPROVES, maybe)), drop()]), (one(), one()), "asked perhaps");
        assert_eq!(found(&[first(), ("ask", when(APPROVES, maybe)), ("drop", when(DESTROYS, maybe))]), (one(), vec![]));
        assert_eq!(found(&[("drop", when(DESTROYS, "hard == 'yes'"))]), (vec![], vec![]), "it never runs");
    }
}
