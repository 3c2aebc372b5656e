//! What tiers demand against what places can do: a lock that nothing enforces must not stand in a configuration.

use crate::config::{
    checked::{Config, CopyLock, RepositoryConfig},
    source::{Place, Table},
};

/// Tiers that no instance uses demand nothing.
pub(super) fn hold(table: &Table<'_>, config: &Config) {
    let Some(Ok(tiers)) = table.get("tiers").map(|value| value.table()) else { return };
    let used = |name: &str| config.instances.values().any(|instance| instance.tier.as_str() == name);
    let locked: Vec<(&str, Place<'_>)> = tiers
        .named()
        .into_iter()
        .filter(|(name, _)| used(name))
        .filter_map(|(name, value)| Some((name, value.table().ok()?.get("lock")?.place)))
        .collect();
    if matches!(config.repository, RepositoryConfig::Local { .. }) {
        for (_, place) in &locked {
            place.problem(
                "a directory is not immutable: nothing in it can be locked",
                "use a bucket that was made with object lock, or remove this section, and backups are not locked",
            );
        }
    }
    if let Some((tier, _)) = locked.first() {
        copies(table, config, tier);
    }
}

fn copies(table: &Table<'_>, config: &Config, tier: &str) {
    let Some(repositories) = table.get("repository").filter(|value| value.is_list()) else { return };
    let Ok(entries) = repositories.list() else { return };
    for copy in &config.copies {
        if copy.lock == Some(CopyLock::None) || !matches!(copy.repository, RepositoryConfig::Local { .. }) {
            continue;
        }
        let named = |entry: &Table<'_>| entry.get("name").is_some_and(|name| name.text().ok() == Some(&copy.name));
        let entry = entries.iter().filter_map(|value| value.table().ok()).find(named);
        let place = entry.map_or_else(|| table.place.clone(), |entry| entry.place);
        place.problem(
            format!("a directory is not immutable, and tier \"{tier}\" demands locks of this copy as well"),
            "add lock = \"none\" if this copy is to have none, or use a bucket with object lock",
        );
    }
}
