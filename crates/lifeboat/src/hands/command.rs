//! `command`: a program with its arguments; it sees no variables but PATH, HOME and those that the block names.

use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path};

use lifeboat_runbook::{
    action::command::Command,
    execute::{Acting, Outputs},
    template::Template,
    values::Secret,
};
use tokio::process;

use super::{Tools, fill_all, of_slot, program};

pub(super) async fn act(command: &Command, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let slot = tools.slot(&acting.id);
    let ended = program::run(prepare(command, &command.run, acting, tools, &slot)?, &slot, tools).await?;
    if ended.code() != Some(i32::from(command.exit)) {
        let expected = if command.exit == 0 { String::new() } else { format!("; it must end with {}", command.exit) };
        return Err(format!("{} {}{expected}", acting.course.fill(&command.run[0]), ended.tail()));
    }
    if let Some(wanted) = command.contains.as_ref().map(|text| acting.course.fill(text))
        && !ended.says(&wanted)
    {
        return Err(format!("its output does not hold \"{wanted}\": it {}", ended.tail()));
    }
    let output = ended.output().trim_end().to_owned();
    Ok(Outputs::from([("output".to_owned(), output), ("exit".to_owned(), command.exit.to_string())]))
}

pub(super) async fn was_done(command: &Command, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    let Some(probe) = &command.done_when else { return Ok(None) };
    let slot = tools.slot(&acting.id);
    let ended = program::run(prepare(command, probe, acting, tools, &slot)?, &slot, tools).await?;
    match ended.code() {
        // What the command itself said is lost with its executor.
        Some(0) => Ok(Some(Outputs::from([("exit".to_owned(), command.exit.to_string())]))),
        Some(_) => Ok(None),
        None => Err(format!("done_when {}", ended.tail())),
    }
}

fn prepare(
    command: &Command,
    arguments: &[Template],
    acting: &Acting<'_>,
    tools: &Tools,
    slot: &Path,
) -> Result<process::Command, String> {
    let arguments = fill_all(acting, arguments);
    let Some((program, arguments)) = arguments.split_first() else { return Err("there is no program".to_owned()) };
    // `lifeboat` is this one, also where it is in no folder of PATH, as in a kit.
    let program = if program == "lifeboat" { program::OURS } else { program };
    let mut prepared = process::Command::new(program);
    prepared.args(arguments).env_clear();
    for name in ["PATH", "HOME"] {
        prepared.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    if let Some(file) = &tools.config_file {
        let absolute = std::path::absolute(file).map_err(|error| error.to_string())?;
        prepared.env("LIFEBOAT_CONFIG", absolute);
    }
    prepared.envs(command.environment.iter().map(|(name, value)| (name, acting.course.fill(value))));
    for (name, path) in &command.environment_files {
        let secret = tools.secret(&Secret::File(path.clone()), acting)?;
        prepared.env(name, secret.expose());
    }
    let directory = match &command.directory {
        Some(directory) => tools.path(&acting.course.fill(directory)),
        None => {
            let empty = of_slot(slot, "d");
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&empty);
            made.map_err(|error| format!("cannot make {}: {error}", empty.display()))?;
            empty
        }
    };
    prepared.current_dir(directory);
    Ok(prepared)
}
