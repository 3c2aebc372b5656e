//! Locks that follow policy: at the end of each backup, those that are due are extended.
//!
//! A point's own end was promised when it was written, and all that it names was locked until then. What is left are open
//! reasons (the newest, the last so many, the PITR base, drilled, held): their ends move on. Which ends were reached is
//! remembered in the state folder, so that most backups ask the store for nothing; a lost memory costs one run that asks
//! for every object.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use lifeboat_evidence::{
    Act,
    act::{Refused, Retain},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, PointId, RepositoryId},
    retention::LockMode,
};
use lifeboat_repo::{
    progress::Progress,
    reach::Needs,
    retain::{self, RetainReport},
};
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    error::{Error, Result},
    lifetime::Lifetime,
    record,
};

/// Extends the locks that are due; none where nothing was, or where the tier has no lock.
///
/// # Errors
/// [`Error::LocksRefused`] where the store refused an object: what it gave is not taken back, and the next run tries again.
pub async fn renew(context: &Context, name: &Instance, progress: Arc<dyn Progress>) -> Result<Option<RetainReport>> {
    if context.lock_policy(name)?.is_none() {
        return Ok(None);
    }
    let lifetime = Lifetime::look(context, name).await?;
    extend(context, &lifetime, progress).await
}

/// The same, when it is known already what is needed.
pub async fn extend(
    context: &Context,
    lifetime: &Lifetime,
    progress: Arc<dyn Progress>,
) -> Result<Option<RetainReport>> {
    let Some(lock) = lifetime.lock else { return Ok(None) };
    let needs = lifetime.needs();
    let file = place(&context.config.engine.state_dir, context.repository.id(), &lifetime.instance);
    let reached = Ends::load(&file);
    if needs.points.is_empty() || !reached.fall_short(&needs, lock.mode, &lifetime.promised) {
        return Ok(None);
    }
    let started = (context.clock)();
    let repo = context.writing_repo(&lifetime.instance).await?;
    let trusted = &context.config.keys.trusted_keys;
    let report = retain::extend(&repo, &needs, lock.mode, trusted, lifetime.now, false, progress).await?;
    let refused = report.refused.len() as u64 + report.more_refused;
    if report.extended > 0 || refused > 0 {
        keep(context, &lifetime.instance, started, &report).await?;
    }
    match report.refused.first() {
        None => {
            Ends::of(&needs, lock.mode).save(&file);
            Ok(Some(report))
        }
        Some((key, why)) => Err(Error::LocksRefused { count: refused, key: key.to_string(), why: why.clone() }),
    }
}

async fn keep(context: &Context, name: &Instance, started: Timestamp, report: &RetainReport) -> Result<()> {
    let refused = report.refused.iter().map(|(key, why)| Refused { key: key.to_string(), why: why.clone() });
    let act = Retain {
        points: report.points,
        objects: report.objects,
        extended: report.extended,
        enough: report.enough,
        refused: refused.collect(),
    };
    let outcome = if act.refused.is_empty() { Outcome::Passed } else { Outcome::Failed };
    record::keep_act(context, Some(name), started, outcome, Act::Retain(act)).await?;
    Ok(())
}

fn place(state_dir: &Path, repository: RepositoryId, instance: &Instance) -> PathBuf {
    state_dir.join("lifetime").join(format!("{repository}-{instance}-ends.json"))
}

/// Ends that locks were extended to.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ends {
    /// How firmly; none: by a release that did not say.
    mode: Option<LockMode>,
    points: BTreeMap<PointId, Timestamp>,
    wal: Option<Timestamp>,
    slices: Option<Timestamp>,
}

impl Ends {
    fn of(needs: &Needs, mode: LockMode) -> Ends {
        let (wal, slices) = (Some(needs.wal.until), Some(needs.slice_until));
        Ends { mode: Some(mode), points: needs.points.clone(), wal, slices }
    }

    fn load(file: &Path) -> Ends {
        fs::read_to_string(file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// What a point's own commit promised counts as reached. What was locked less firmly does not count at all.
    fn fall_short(&self, needs: &Needs, mode: LockMode, promised: &BTreeMap<PointId, Timestamp>) -> bool {
        if self.mode < Some(mode) {
            return Ends { mode: Some(mode), ..Ends::default() }.fall_short(needs, mode, promised);
        }
        let reached = |id: &PointId| self.points.get(id).max(promised.get(id)).copied();
        needs.points.iter().any(|(id, end)| reached(id) < Some(*end))
            || self.wal < Some(needs.wal.until)
            || self.slices < Some(needs.slice_until)
    }

    /// That it could not be written costs the next run some requests, nothing else.
    fn save(&self, file: &Path) {
        let write = || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut new, self)?;
            new.persist(file)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, file = %file.display(), "cannot remember which locks were extended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_falls_short_is_asked_for() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let [one, two] = [PointId([1; 8]), PointId([2; 8])];
        let needs = |ends: &[(PointId, i64)], wal| {
            let mut needs =
                Needs { points: ends.iter().map(|(id, day)| (*id, at(*day))).collect(), ..Needs::default() };
            (needs.wal.until, needs.slice_until) = (at(wal), at(5));
            needs
        };
        let none = BTreeMap::new();
        let first = needs(&[(one, 10)], 5);
        assert!(Ends::default().fall_short(&first, LockMode::Governance, &none), "nothing is known");
        let reached = Ends::of(&first, LockMode::Governance);
        assert!(!reached.fall_short(&first, LockMode::Governance, &none));
        assert!(!reached.fall_short(&needs(&[(one, 9)], 4), LockMode::Governance, &none), "less is asked for");
        assert!(reached.fall_short(&first, LockMode::Compliance, &none), "more firmly");
        assert!(!Ends::of(&first, LockMode::Compliance).fall_short(&first, LockMode::Governance, &none), "less firmly");
        assert!(Ends { mode: None, ..Ends::of(&first, LockMode::Governance) }.fall_short(
            &first,
            LockMode::Governance,
            &none
        ));
        assert!(reached.fall_short(&needs(&[(one, 11)], 5), LockMode::Governance, &none), "a later end");
        assert!(reached.fall_short(&needs(&[(one, 10)], 6), LockMode::Governance, &none), "WAL for longer");
        let with_new = needs(&[(one, 10), (two, 20)], 5);
        assert!(reached.fall_short(&with_new, LockMode::Governance, &none), "a point that nobody promised anything");
        assert!(
            !reached.fall_short(&with_new, LockMode::Governance, &BTreeMap::from([(two, at(20))])),
            "its commit promised as much"
        );
        assert!(reached.fall_short(&with_new, LockMode::Governance, &BTreeMap::from([(two, at(19))])));
        assert!(!reached.fall_short(&needs(&[], 5), LockMode::Governance, &none), "a point that is kept no more");
    }

    #[test]
    fn a_lost_or_damaged_memory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = place(folder.path(), RepositoryId([1; 16]), &"clinic".parse().unwrap());
        assert_eq!(Ends::load(&file), Ends::default());
        let ends = Ends {
            mode: Some(LockMode::Compliance),
            points: [(PointId([1; 8]), Timestamp::UNIX_EPOCH)].into(),
            wal: None,
            slices: None,
        };
        ends.save(&file);
        assert_eq!(Ends::load(&file), ends);
        fs::write(&file, "{").unwrap();
        assert_eq!(Ends::load(&file), Ends::default());
    }
}
