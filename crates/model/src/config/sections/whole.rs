//! The file as a whole, and what concerns more than one section.

use std::{collections::BTreeMap, fmt::Display, path::PathBuf, str::FromStr};

use crate::config::{
    checked::{Config, RepositoryConfig},
    source::{Result, Table, Value},
    value::is_private_key,
};
use crate::id::Instance;

use super::{drills, engine, evidence, instance, keys, limits, locks, repository, tiers};

pub(in crate::config) fn read(table: &Table<'_>) -> Result<Config> {
    refuse_private_keys(table);
    let tenant = table.required("tenant", "add tenant = \"…\", the owner of the instances", Value::parse);
    let repository =
        table.required("repository", "add [repository] with path = \"…\", or [repository.s3]", repository::read);
    let keys = table.required("keys", "add the section; `lifeboat init` writes it and makes the keys", keys::read);
    let tiers = table.optional("tiers", tiers::read);
    let instances = table.optional("instances", |value| named(value, instance::read));
    let evidence = table.optional("evidence", evidence::read);
    let drills = table.optional("drills", drills::read);
    let engine = engine::read(table.get("engine"));
    let limits = table.optional("limits", limits::read);
    table.finish();
    let repository = repository?;
    let config = Config {
        tenant: tenant?,
        repository: repository.primary,
        repository_name: repository.name,
        price: repository.price,
        copies: repository.copies,
        keys: keys?,
        tiers: tiers?.unwrap_or_default(),
        instances: instances?.unwrap_or_default(),
        evidence: evidence?.unwrap_or_default(),
        drills: drills?.unwrap_or_default(),
        engine: engine?,
        limits: limits?.unwrap_or_default(),
        files: Vec::new(),
    };
    if config.instances.is_empty() {
        table.place.warn("there is no instance: nothing is backed up", "add an [instances.<name>] section");
    }
    tiers_exist(table, &config);
    paths_are_apart(table, &config);
    locks::hold(table, &config);
    Ok(config)
}

/// A table whose keys are names: all entries are read before the first problem ends it.
pub(super) fn named<K, V>(value: &Value<'_>, read: impl Fn(&Value<'_>) -> Result<V>) -> Result<BTreeMap<K, V>>
where
    K: FromStr + Ord,
    K::Err: Display,
{
    let entries: Vec<Result<(K, V)>> = value
        .table()?
        .named()
        .into_iter()
        .map(|(name, value)| {
            let key = name.parse::<K>().map_err(|_| {
                let hint = "use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit";
                value.place.problem("not a valid name", hint)
            });
            let value = read(&value);
            Ok((key?, value?))
        })
        .collect();
    entries.into_iter().collect()
}

/// A private key in the file is a leak, whatever key it stands under.
fn refuse_private_keys(table: &Table<'_>) {
    table.texts(&mut |value, text| {
        if is_private_key(text) {
            let hint = "remove it, and replace the key: whoever has seen this file has it";
            value.place.problem("holds a private key", hint);
        }
    });
}

fn tiers_exist(table: &Table<'_>, config: &Config) {
    let Some(Ok(instances)) = table.get("instances").map(|value| value.table()) else { return };
    for (name, value) in instances.named() {
        let Some(instance) = name.parse().ok().and_then(|name: Instance| config.instances.get(&name)) else { continue };
        if config.tiers.contains_key(&instance.tier) {
            continue;
        }
        let known: Vec<&str> = config.tiers.keys().map(|tier| tier.as_str()).collect();
        let hint = match known.as_slice() {
            [] => format!("add a [tiers.{}] section with rpo and rto", instance.tier),
            known => format!("use one of: {}, or add a [tiers.{}] section", known.join(", "), instance.tier),
        };
        let place = value.table().ok().and_then(|table| table.get("tier")).map_or(value.place, |tier| tier.place);
        place.problem(format!("no tier \"{}\"", instance.tier), hint);
    }
}

/// What is read must not hold what is written, and what is written must not hold what opens it.
fn paths_are_apart(table: &Table<'_>, config: &Config) {
    let files = table.place.source.files();
    let copies = config.copies.iter().map(|copy| &copy.repository);
    let repositories: Vec<&PathBuf> = std::iter::once(&config.repository)
        .chain(copies)
        .filter_map(|repository| match repository {
            RepositoryConfig::Local { path } => Some(path),
            _ => None,
        })
        .collect();
    for check in &files {
        let place = table.place.at(check);
        let is_source = check.key.ends_with(".filestore.path") || check.key.contains(".config.paths[");
        for repository in &repositories {
            if is_source && repository.starts_with(&check.path) {
                place.problem(
                    "the repository lies in here: a backup would take in itself",
                    "keep the repository elsewhere",
                );
            }
            if check.key.starts_with("keys.") && check.is_within(repository) {
                place.problem("lies in the repository: whoever copies that has the key as well", "keep it elsewhere");
            }
        }
        if is_source && config.engine.state_dir.starts_with(&check.path) {
            place.warn("engine.state_dir lies in here: its caches would be backed up", "keep it elsewhere");
        }
        let identity = config.keys.recovery_identity_file.as_ref();
        if is_source && identity.is_some_and(|identity| identity.starts_with(&check.path)) {
            place.warn(
                "the recovery identity lies in here: backups would hold the key that opens them",
                "keep it elsewhere",
            );
        }
    }
}
