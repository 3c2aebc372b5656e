//! What tiers demand against what places can do: a lock that nothing enforces must not stand in a configuration.

use crate::config::{
    checked::{Config, CopyLock},
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
    if let Some(what) = config.repository.without_locks() {
        for (_, place) in &locked {
            place.problem(
                format!("{what} is not immutable: nothing in it can be locked"),
                "use an S3 bucket that was made with object lock, or remove this section, and backups are not locked",
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
        let Some(what) = copy.repository.without_locks().filter(|_| copy.lock != Some(CopyLock::None)) else {
            continue;
        };
        let named = |entry: &Table<'_>| entry.get("name").is_some_and(|name| name.text().ok() == Some(&copy.name));
        let entry = entries.iter().filter_map(|value| value.table().ok()).find(named);
        let place = entry.map_or_else(|| table.place.clone(), |entry| entry.place);
        place.problem(
            format!("{what} is not immutable, and tier \"{tier}\" demands locks of this copy as well"),
            "add lock = \"none\" if this copy is to have none, or use an S3 bucket with object lock",
        );
    }
}
