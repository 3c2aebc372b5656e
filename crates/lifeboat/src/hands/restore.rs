//! `restore`: by `lifeboat restore`. What this run has begun and is right is kept, so that doing it again is how to go on.
//!
//! Only what this run has begun: a folder that an earlier incident restored into may be production by now. So the folder is noted
//! before anything is put into it ([`begun`]), and one that holds something and is not noted is refused, whoever made it. Another
//! host that takes the run up has no note, and another disk.
//!
//! One database is a file. It is made under a name of this run and gets its own when what the restore said of it is kept: whatever
//! a resumed run finds tells how far the run had come.

pub(crate) mod begun;
mod one;

use std::path::{Path, PathBuf};

use lifeboat_runbook::{
    action::restore::{Moment, Part, Restore, Target},
    execute::{Acting, Outputs},
    values::Secret,
};
use serde_json::Value;

use super::{Tools, of_slot, program};

/// As the moment that a parameter may be.
const LATEST: &str = "latest";

pub(super) async fn act(restore: &Restore, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let slot = tools.slot(&acting.id);
    let place = place(restore, acting, &slot)?;
    // What an executor that is no more has started may still write there.
    program::wait_for_earlier(&slot, tools).await?;
    if restore.database.is_some() {
        let part = match one::look(&place, &slot, &tools.run)? {
            one::Found::Done(answer) => return Ok(outputs(&answer, &place)),
            one::Found::Make(part) => part,
        };
        let answer = run(&arguments(restore, acting, (&part, false))?, &slot, tools).await?;
        one::publish(&part, &place, &slot, &answer)?;
        return Ok(outputs(&answer, &place));
    }
    // Somebody has agreed to lose what is in it; what was started since is refused by the restore all the same.
    let may_replace = restore.replace && matches!(restore.target, Target::Directory(_));
    let delta = begun::begin(&place, &slot, &tools.folder, may_replace)?;
    let restored = run(&arguments(restore, acting, (&place, delta))?, &slot, tools).await;
    if restored.is_err() {
        begun::forget_empty(&place, &slot);
    }
    Ok(outputs(&restored?, &place))
}

async fn run(arguments: &[String], slot: &Path, tools: &Tools) -> Result<Value, String> {
    let answered = program::lifeboat(arguments, slot, tools).await?;
    let told = || format!("lifeboat restore ended with {:?}: {}", answered.code, answered.words);
    answered.answer.clone().filter(|_| answered.code == Some(0)).ok_or_else(told)
}

/// The folder, or with `database` the file.
fn place(restore: &Restore, acting: &Acting<'_>, slot: &Path) -> Result<PathBuf, String> {
    let named = match &restore.target {
        Target::Directory(to) => Some(to),
        Target::Docker { folder, .. } | Target::Compose { folder, .. } => folder.as_ref(),
    };
    // The run's own folder: whoever goes on with the run goes on there.
    let place = named.map_or_else(|| of_slot(slot, "restored"), |named| acting.course.fill(named).into());
    std::path::absolute(&place).map_err(|error| format!("{}: {error}", place.display()))
}

/// What a person would have typed.
fn arguments(restore: &Restore, acting: &Acting<'_>, (place, delta): (&Path, bool)) -> Result<Vec<String>, String> {
    let fill = |template| acting.course.fill(template);
    let mut arguments = vec!["restore".to_owned(), fill(&restore.instance)];
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    match &restore.moment {
        Moment::Latest => {}
        Moment::At(at) => match fill(at) {
            at if at == LATEST => {}
            at => add("--at", at),
        },
        Moment::Point(point) => add("--point", fill(point)),
        Moment::RestorePoint(name) => add("--restore-point", fill(name)),
    }
    let place = place.to_str().ok_or_else(|| format!("{}: the path is not UTF-8", place.display()))?.to_owned();
    match &restore.target {
        Target::Directory(_) => add("--to", place),
        Target::Docker { postgres, filestore, .. } => {
            let filestore = filestore.as_ref().map(|name| format!(",filestore={}", fill(name))).unwrap_or_default();
            add("--to-docker", format!("postgres={}{filestore}", fill(postgres)));
            add("--folder", place);
        }
        Target::Compose { file, postgres, odoo, .. } => {
            add("--to-compose", fill(file));
            add("--postgres", fill(postgres));
            add("--odoo", fill(odoo));
            add("--folder", place);
        }
    }
    if let Some(database) = &restore.database {
        add("--database", fill(database));
    }
    for part in &restore.only {
        let word = match part {
            Part::Database => "database",
            Part::Filestore => "filestore",
            Part::Config => "config",
        };
        add("--only", word.to_owned());
    }
    if let Some(from) = &restore.from {
        add("--repository", fill(from));
    }
    match &restore.identity {
        Some(Secret::File(path)) => add("--identity", fill(path)),
        Some(Secret::Env(name)) => return Err(format!("the identity of {name}: name it in the configuration")),
        None => {}
    }
    let volumes = !matches!(restore.target, Target::Directory(_));
    if restore.replace && volumes {
        arguments.push("--replace".to_owned());
    }
    if delta {
        arguments.push("--delta".to_owned());
    }
    Ok(arguments)
}

fn outputs(answer: &Value, place: &Path) -> Outputs {
    let names =
        [("directory", "to"), ("point", "point"), ("newest-commit", "newest_commit"), ("lost-since", "lost_since")];
    if answer["file"].is_string() {
        // One database: a file, and what its sandbox has replayed.
        let known = [("directory", place.to_str()), ("point", answer["point"].as_str())];
        let newest = [("newest-commit", answer["newest_commit"].as_str())];
        let all = known.into_iter().chain(newest);
        return all.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    }
    let given = names.iter().filter_map(|(name, key)| Some(((*name).to_owned(), answer[*key].as_str()?.to_owned())));
    given.collect()
}
