//! Which policies count, in the words of the ledger. A tenant's ledger names the files of that tenant and the daemon's own, and
//! nothing of others.

use std::{collections::BTreeSet, path::Path};

use lifeboat_evidence::act::{Policy, PolicyChange, PolicyFile};
use lifeboat_model::id::Tenant;

use crate::policies::{self, Policies};

/// What is to be said: at the beginning (`before` is none), and when a file that counts for the tenant has changed.
pub(super) fn policy(before: Option<&Policies>, now: &Policies, tenant: &Tenant) -> Option<Policy> {
    let others = of_others(now, tenant).into_iter().chain(before.map(|it| of_others(it, tenant)).unwrap_or_default());
    let others: BTreeSet<&Path> = others.collect();
    let files = now.files.iter().filter(|file| !others.contains(file.path.as_path())).filter_map(|file| {
        Some(PolicyFile { name: file.path.display().to_string(), sha256: file.sha256.parse().ok()? })
    });
    let changed = before.map(|before| policies::changed(before, now)).unwrap_or_default();
    let changes =
        changed.into_iter().filter(|change| !others.contains(change.path.as_path())).map(|change| PolicyChange {
            name: change.path.display().to_string(),
            before: change.before.and_then(|digest| digest.parse().ok()),
            after: change.after.and_then(|digest| digest.parse().ok()),
        });
    let (files, changes): (Vec<_>, Vec<_>) = (files.collect(), changes.collect());
    (before.is_none() || !changes.is_empty()).then_some(Policy { files, changes })
}

/// Files that count for other tenants alone.
fn of_others<'a>(policies: &'a Policies, tenant: &Tenant) -> BTreeSet<&'a Path> {
    let (ours, theirs): (Vec<_>, Vec<_>) = policies.sites.iter().partition(|(name, _)| *name == tenant);
    let folders = |sites: &[(&'a Tenant, &'a std::sync::Arc<policies::Site>)]| -> BTreeSet<&'a Path> {
        let files = sites.iter().flat_map(|(_, site)| {
            let schedules = site.schedules.iter().map(|schedule| schedule.file.as_path());
            schedules.chain([site.config_file.as_path()])
        });
        files.collect()
    };
    let (ours, theirs) = (folders(&ours), folders(&theirs));
    let beside = |files: &BTreeSet<&Path>, path: &Path| files.iter().any(|file| file.parent() == path.parent());
    let all = policies.files.iter().map(|file| file.path.as_path());
    all.filter(|path| {
        !ours.contains(path) && (theirs.contains(path) || (beside(&theirs, path) && !beside(&ours, path)))
    })
    .collect()
}
