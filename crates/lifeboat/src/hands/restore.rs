//! `restore`: by `lifeboat restore`. What is there and right is kept, so that doing it again is how to go on.

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
    let arguments = arguments(restore, acting, tools)?;
    let answered = program::lifeboat(&arguments, &tools.slot(&acting.id), tools).await?;
    let Some(answer) = answered.answer.as_ref().filter(|_| answered.code == Some(0)) else {
        return Err(format!("lifeboat restore ended with {:?}: {}", answered.code, answered.words));
    };
    Ok(outputs(answer))
}

/// What a person would have typed.
fn arguments(restore: &Restore, acting: &Acting<'_>, tools: &Tools) -> Result<Vec<String>, String> {
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
    // The run's own folder: whoever goes on with the run goes on there.
    let own = || of_slot(&tools.slot(&acting.id), "restored").display().to_string();
    match &restore.target {
        Target::Directory(to) => add("--to", fill(to)),
        Target::Docker { postgres, filestore, folder } => {
            let filestore = filestore.as_ref().map(|name| format!(",filestore={}", fill(name))).unwrap_or_default();
            add("--to-docker", format!("postgres={}{filestore}", fill(postgres)));
            add("--folder", folder.as_ref().map_or_else(own, fill));
        }
        Target::Compose { file, postgres, odoo, folder } => {
            add("--to-compose", fill(file));
            add("--postgres", fill(postgres));
            add("--odoo", fill(odoo));
            add("--folder", folder.as_ref().map_or_else(own, fill));
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
    if restore.database.is_none() {
        arguments.push("--delta".to_owned());
    }
    Ok(arguments)
}

fn outputs(answer: &Value) -> Outputs {
    let names =
        [("directory", "to"), ("point", "point"), ("newest-commit", "newest_commit"), ("lost-since", "lost_since")];
    if let Some(file) = answer["file"].as_str() {
        // One database: a file, and what its sandbox has replayed.
        let known = [("directory", Some(file)), ("point", answer["point"].as_str())];
        let newest = [("newest-commit", answer["newest_commit"].as_str())];
        let all = known.into_iter().chain(newest);
        return all.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    }
    let given = names.iter().filter_map(|(name, key)| Some(((*name).to_owned(), answer[*key].as_str()?.to_owned())));
    given.collect()
}
