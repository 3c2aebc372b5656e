//! What only all schedules of a tenant together with its configuration can tell: names, who comes after whom, and whether
//! all that they name is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use lifeboat_model::{
    config::{Config, FileCheck, Problem, Warning, reading::nearest},
    id::Instance,
};

use super::{
    Of, Schedule, When,
    read::{self, Draft},
};
use crate::job::Verb;

/// All schedules of a tenant.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of files and of what stands in them.
    pub schedules: Vec<Schedule>,
    /// What works and should not stay.
    pub warnings: Vec<Warning>,
    /// Paths to look at.
    pub files: Vec<FileCheck>,
}

/// All that can be told to be wrong while the configuration is not known.
pub fn problems(files: &[(PathBuf, String)]) -> Vec<Problem> {
    files.iter().filter_map(|(path, text)| read::file(text, path).err()).flatten().collect()
}

/// Checks the texts of all files of a tenant's folder, with everything that is wrong in any of them at once.
pub fn read(files: &[(PathBuf, String)], config: &Config) -> Result<Found, Vec<Problem>> {
    let (mut drafts, mut warnings, mut checks, mut problems) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (path, text) in files {
        match read::file(text, path) {
            Ok(read) => {
                drafts.extend(read.drafts);
                warnings.extend(read.warnings);
                checks.extend(read.files);
            }
            Err(wrong) => problems.extend(wrong),
        }
    }
    // A name in a file that is not understood would be missed as well.
    let all_read = problems.is_empty();
    problems.extend(names(&drafts));
    problems.extend(targets(&drafts, config));
    problems.extend(copies(&drafts, config));
    problems.extend(streams(&drafts, config));
    if all_read {
        problems.extend(order(&drafts, config));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    warnings.extend(left_out(&drafts, config));
    warnings.extend(without_locks(&drafts, config));
    let mut schedules: Vec<Schedule> = drafts.into_iter().map(|draft| draft.schedule).collect();
    for schedule in &mut schedules {
        schedule.tenant = Some(config.tenant.clone());
        if let Verb::Report { folder, .. } = &mut schedule.verb
            && folder.as_os_str().is_empty()
        {
            *folder = config.engine.state_dir.join("reports");
        }
    }
    Ok(Found { schedules, warnings, files: checks })
}

/// A proof of locks where nothing is locked is never whole.
fn without_locks(drafts: &[Draft], config: &Config) -> Vec<Warning> {
    let has_none = |name: &Instance| {
        let tier = config.instances.get(name).and_then(|instance| config.tier_of(instance));
        tier.is_some_and(|tier| tier.lock.is_none())
    };
    let of = drafts.iter().filter(|draft| draft.schedule.verb == Verb::Locks).filter_map(|draft| {
        let name = draft.schedule.instances(config).into_iter().flatten().find(has_none)?;
        let message = format!("the tier of {name} has no lock: these runs never pass");
        Some(draft.of.problem(message, "give the tier a lock, or leave it out here"))
    });
    of.collect()
}

/// Two schedules with one name would be one in all that is kept of them.
fn names(drafts: &[Draft]) -> Vec<Problem> {
    let mut first: BTreeMap<&str, &Draft> = BTreeMap::new();
    let mut problems = Vec::new();
    for draft in drafts {
        match first.get(draft.schedule.name.as_str()) {
            Some(other) => {
                let line = other.at.line.map(|line| format!(":{line}")).unwrap_or_default();
                let message = format!("the name stands in {}{line} as well", other.at.file.display());
                problems.push(draft.at.problem(message, "give one of the two another name"));
            }
            None => {
                first.insert(&draft.schedule.name, draft);
            }
        }
    }
    problems
}

fn targets(drafts: &[Draft], config: &Config) -> Vec<Problem> {
    let unknown = |draft: &Draft, what: &str, name: &str, known: Vec<&str>| {
        let hint = match (nearest(name, known.iter().copied()), known.as_slice()) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, []) => format!("add it to the configuration, or remove \"{name}\""),
            (None, known) => format!("use one of: {}", known.join(", ")),
        };
        draft.of.problem(format!("no {what} \"{name}\""), hint)
    };
    let mut problems = Vec::new();
    for draft in drafts {
        match &draft.schedule.of {
            Of::Tiers(tiers) => {
                problems.extend(tiers.iter().filter(|tier| !config.tiers.contains_key(tier)).map(|tier| {
                    unknown(draft, "tier", tier.as_str(), config.tiers.keys().map(|tier| tier.as_str()).collect())
                }))
            }
            Of::Instances(names) => {
                problems.extend(names.iter().filter(|name| !config.instances.contains_key(name)).map(|name| {
                    unknown(draft, "instance", name.as_str(), config.instances.keys().map(Instance::as_str).collect())
                }));
            }
            Of::All | Of::Tenant => {}
        }
    }
    problems
}

fn copies(drafts: &[Draft], config: &Config) -> Vec<Problem> {
    let known: Vec<&str> = config.copies.iter().map(|copy| copy.name.as_str()).collect();
    let wrong = |draft: &Draft| match &draft.schedule.verb {
        Verb::Copy { .. } if known.is_empty() => {
            let hint = "add a [[repository]] with role = \"copy\" to the configuration, or remove this schedule";
            Some(draft.at.problem("there is no repository to copy to", hint))
        }
        Verb::Copy { to: Some(name) } if !known.contains(&name.as_str()) => {
            let hint = format!("use one of: {}", known.join(", "));
            Some(draft.to.as_ref().unwrap_or(&draft.at).problem(format!("no copy is called \"{name}\""), hint))
        }
        _ => None,
    };
    drafts.iter().filter_map(wrong).collect()
}

/// A slot feeds one stream.
fn streams(drafts: &[Draft], config: &Config) -> Vec<Problem> {
    let mut first: BTreeMap<Instance, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for draft in drafts.iter().filter(|draft| draft.schedule.verb == Verb::Stream) {
        for instance in draft.schedule.instances(config).into_iter().flatten() {
            match first.get(&instance) {
                Some(other) => {
                    let message = format!("\"{other}\" streams the WAL of {instance} already");
                    problems.push(draft.of.problem(message, "leave the instance to one of them"));
                }
                None => {
                    first.insert(instance, &draft.schedule.name);
                }
            }
        }
    }
    problems
}

/// Who comes after whom.
fn order(drafts: &[Draft], config: &Config) -> Vec<Problem> {
    let by_name: BTreeMap<&str, &Draft> = drafts.iter().map(|draft| (draft.schedule.name.as_str(), draft)).collect();
    let before = |draft: &Draft| match &draft.schedule.when {
        When::After { schedule, .. } => Some(schedule.clone()),
        When::Cron(_) | When::Always => None,
    };
    let mut problems = Vec::new();
    for draft in drafts {
        let (Some(name), Some(spot)) = (before(draft), &draft.after) else { continue };
        let Some(first) = by_name.get(name.as_str()) else {
            let hint = match nearest(&name, by_name.keys().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "name a schedule of this tenant".to_owned(),
            };
            problems.push(spot.problem(format!("no schedule \"{name}\""), hint));
            continue;
        };
        if first.schedule.verb == Verb::Stream {
            problems.push(spot.problem(format!("\"{name}\" is a stream: it never ends well"), "name another schedule"));
            continue;
        }
        let (mine, others) = (draft.schedule.instances(config), first.schedule.instances(config));
        // A tier that has no instance yet is not a mistake.
        let has_none = mine.is_empty() || others.is_empty();
        if !has_none && !mine.iter().any(|instance| others.contains(instance)) {
            let hint = "name a schedule of the same instances, or correct tiers or instances";
            problems.push(spot.problem(format!("has no instance in common with \"{name}\""), hint));
        }
        if let Some(circle) = circle(&draft.schedule.name, |name| by_name.get(name).and_then(|draft| before(draft))) {
            let words = circle.join(" after ");
            problems.push(spot.problem(format!("goes round in a circle: {words}"), "give one of them a cron line"));
        }
    }
    problems
}

/// The way from a schedule back to itself, if there is one.
fn circle(start: &str, before: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let mut way = vec![start.to_owned()];
    while let Some(next) = way.last().and_then(|name| before(name)) {
        if next == start {
            way.push(next);
            return Some(way);
        }
        if way.contains(&next) {
            return None; // the circle is of others, and told there
        }
        way.push(next);
    }
    None
}

/// What a person who wrote these schedules probably did not mean to leave out.
fn left_out(drafts: &[Draft], config: &Config) -> Vec<Warning> {
    let of = |is: &dyn Fn(&Verb) -> bool| -> BTreeSet<Instance> {
        let drafts = drafts.iter().filter(|draft| is(&draft.schedule.verb));
        drafts.flat_map(|draft| draft.schedule.instances(config)).flatten().collect()
    };
    let (backed_up, drilled) = (of(&|verb| *verb == Verb::Backup), of(&|verb| matches!(verb, Verb::Drill { .. })));
    let mut warnings = Vec::new();
    let Some(at) = drafts.first().map(|draft| &draft.at) else { return warnings };
    let mut warn = |message: String, hint: &str| {
        let spot = lifeboat_model::config::reading::Spot { file: at.file.clone(), line: None, key: String::new() };
        warnings.push(spot.problem(message, hint));
    };
    for (name, instance) in &config.instances {
        if !backed_up.contains(name) {
            warn(format!("no schedule backs up {name}"), "add its tier to a schedule with do = \"backup\"");
        }
        let every = config.tier_of(instance).and_then(|tier| tier.drill.every);
        if let Some(every) = every.filter(|_| !drilled.contains(name)) {
            let message = format!("{name} is to be drilled every {every}, and no schedule does it");
            warn(message, "add its tier to a schedule with do = \"drill\"");
        }
    }
    if !drilled.is_empty() && config.keys.recovery_identity_file.is_none() {
        let message = "drills are due here, and keys.recovery_identity_file names no identity that opens backups";
        warn(message.to_owned(), "run the drills on a host that has one, or name it in the configuration");
    }
    warnings
}
