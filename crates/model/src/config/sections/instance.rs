//! `[instances.<name>]`: one Odoo system.

use std::path::Path;

use crate::{
    config::{
        checked::InstanceConfig,
        source::{Place, Result, Table, Value},
    },
    id::TierName,
};

use super::{dependencies, drill, dump, postgres, sources};

/// The class of data where none is named.
const UNCLASSIFIED: &str = "unclassified";

pub(super) fn read(value: &Value<'_>) -> Result<InstanceConfig> {
    let table = value.table()?;
    let tier = table.required("tier", "add tier = \"…\" with the name of a [tiers] section", Value::parse::<TierName>);
    let owner = table.optional("owner", |value| value.filled().map(str::to_owned));
    let data_class = table.optional("data_class", data_class);
    let postgres = table.required("postgres", "add the section with host, user and databases", postgres::read);
    let filestore = table.optional("filestore", sources::filestore);
    let config = table.optional("config", sources::config);
    let drill = table.required(
        "drill",
        "add the section with postgres_image and odoo_image: a backup that is never rehearsed proves nothing",
        drill::read,
    );
    let dump = table.optional("dump", dump::read);
    let dependencies = table.optional("dependencies", dependencies::read);
    table.finish();
    let instance = InstanceConfig {
        tier: tier?,
        owner: owner?,
        data_class: data_class?.unwrap_or_else(|| UNCLASSIFIED.to_owned()),
        postgres: postgres?,
        filestore: filestore?,
        config: config?,
        drill: drill?,
        dump: dump?.unwrap_or_default(),
        dependencies: dependencies?.unwrap_or_default(),
    };
    warn_of_gaps(&table, &instance);
    addons_are_kept(&table, &instance)?;
    checks_ask_known_databases(&table, &instance)?;
    Ok(instance)
}

/// A word that can stand in every line of a log.
fn data_class(value: &Value<'_>) -> Result<String> {
    let word = value.filled()?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if word.len() <= 63 && word.chars().all(is_plain) {
        return Ok(word.to_owned());
    }
    let hint = "write one word of at most 63 of a-z, 0-9, '-' and '_', for example \"health\"";
    Err(value.place.problem("a class of data is one plain word", hint))
}

fn warn_of_gaps(table: &Table<'_>, instance: &InstanceConfig) {
    if instance.filestore.is_none() {
        table.place.warn(
            "no filestore: attachments kept on a disk are not covered",
            "add a filestore section, unless all attachments are in the database",
        );
    }
    if let (Some(filestore), Some(config)) = (&instance.filestore, &instance.config)
        && config.paths.iter().any(|path| filestore.path.starts_with(path))
    {
        let place = place_of(table, &["config", "paths"]);
        place
            .warn("the filestore lies in one of these paths and would be stored twice", "leave it out of config.paths");
    }
}

fn addons_are_kept(table: &Table<'_>, instance: &InstanceConfig) -> Result<()> {
    let kept = instance.config.as_ref().map(|config| config.paths.as_slice()).unwrap_or_default();
    let is_kept = |path: &Path| kept.iter().any(|kept| path.starts_with(kept));
    match instance.drill.addons.iter().find(|path| !is_kept(path)) {
        None => Ok(()),
        Some(path) => {
            let message = format!("{} lies in none of config.paths, so no backup holds it", path.display());
            Err(place_of(table, &["drill", "addons"]).problem(message, "add it to config.paths"))
        }
    }
}

fn checks_ask_known_databases(table: &Table<'_>, instance: &InstanceConfig) -> Result<()> {
    let known = &instance.postgres.databases;
    let is_known = |database: &String| known.contains(database);
    let asked = instance.drill.checks.iter().filter_map(|check| Some((check, check.database.as_ref()?)));
    match asked.into_iter().find(|(_, database)| !is_known(database)) {
        None => Ok(()),
        Some((check, database)) => {
            let message = format!("{} asks database \"{database}\", which is not one of the instance", check.id);
            Err(place_of(table, &["drill", "checks"]).problem(message, format!("use one of {}", known.join(", "))))
        }
    }
}

/// The place of a key some tables down, or the nearest above it that is there.
fn place_of<'s>(table: &Table<'s>, keys: &[&str]) -> Place<'s> {
    let Some((first, rest)) = keys.split_first() else { return table.place.clone() };
    match table.get(first) {
        Some(value) if rest.is_empty() => value.place,
        Some(value) => value.table().map_or_else(|_| value.place.clone(), |table| place_of(&table, rest)),
        None => table.place.clone(),
    }
}
