//! `command`: runs a program on this host: a list of arguments, never a line for a shell.
//!
//! What it does cannot be seen from here, so it counts as changing something unless `effect` says otherwise. Whether it was done
//! after a crash, `done_when` asks: another list of arguments that ends with 0 once it is. `repeatable = true` says that
//! twice is as once. Without either, a person is asked. Practice runs it only if its effect is nothing.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show};
use crate::{
    template::Template,
    values::{arguments, named},
};

/// A program to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Program and arguments.
    pub run: Vec<Template>,
    /// Where; none: an empty folder of the run.
    pub directory: Option<Template>,
    /// Variables; the program sees no others but PATH and HOME.
    pub environment: Vec<(String, Template)>,
    /// Variables whose value is the content of a file.
    pub environment_files: Vec<(String, Template)>,
    /// The code it must end with.
    pub exit: u8,
    /// What must stand in its output.
    pub contains: Option<Template>,
    /// What it does.
    pub effect: Effect,
    /// Program and arguments that end with 0 once it is done.
    pub done_when: Option<Vec<Template>>,
    /// Whether twice is as once.
    pub repeatable: bool,
}

/// Programs that read an argument as a program.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"];

impl Command {
    pub(crate) fn read(table: &Table<'_>) -> Result<Command> {
        let hint = "write run = [\"program\", \"argument\"]";
        let run = table.required("run", hint, |value| {
            let run = arguments(value)?;
            refuse_shell(value, &run).map(|()| run)
        });
        let directory = table.optional("directory", Template::of);
        let environment = table.optional("environment", named);
        let environment_files = table.optional("environment_files", named);
        let exit = table.optional("exit", |value| value.whole(0, 255));
        let contains = table.optional("contains", Template::of);
        let effect = table.optional("effect", Effect::read);
        let done_when = table.optional("done_when", arguments);
        let repeatable = table.optional("repeatable", Value::flag);
        Ok(Command {
            run: run?,
            directory: directory?,
            environment: environment?.unwrap_or_default(),
            environment_files: environment_files?.unwrap_or_default(),
            exit: exit?.and_then(|exit| u8::try_from(exit).ok()).unwrap_or(0),
            contains: contains?,
            effect: effect?.unwrap_or(Effect::Changes),
            done_when: done_when?,
            repeatable: repeatable?.unwrap_or(false),
        })
    }
}

/// What a shell reads again is not one argument any more.
fn refuse_shell(value: &Value<'_>, run: &[Template]) -> Result<()> {
    let literal = |at: usize| run.get(at).and_then(Template::as_literal).unwrap_or_default();
    let program = literal(0);
    let is_shell = SHELLS.contains(&program.rsplit('/').next().unwrap_or_default());
    let is_line = (1..run.len()).any(|at| literal(at).starts_with('-') && literal(at).contains('c'));
    let has_names = run.iter().any(|argument| argument.names().next().is_some());
    match is_shell && is_line && has_names {
        false => Ok(()),
        true => {
            let hint = "run the program without a shell, or put the line into a script that takes arguments";
            Err(value.place_of("{{", 0).problem("a value put into a shell's line could become commands", hint))
        }
    }
}

impl Act for Command {
    fn outputs(&self) -> &'static [&'static str] {
        &["output", "exit"]
    }

    fn words(&self, show: Show<'_>) -> String {
        format!("run {}", self.run.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn again(&self) -> Again {
        match (self.effect, self.repeatable, &self.done_when) {
            (Effect::Nothing, ..) | (_, true, _) => Again::Harmless,
            (_, _, Some(_)) => Again::Probe,
            _ => Again::Ask,
        }
    }

    fn practice(&self) -> Practice {
        match self.effect {
            Effect::Nothing => Practice::Same,
            _ => Practice::Not("what a program does to this host cannot be put into a sandbox"),
        }
    }
}
