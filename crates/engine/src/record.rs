//! Signed evidence, kept in the repository beside what it is about.

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_evidence::{
    Act, ActPredicate, BackupPredicate, DumpPredicate, Predicate, Statement, Verified,
    backup::{DataChecksums, NotCovered, PointReference, Sizes, Source, StartedBy, TreeSummary},
    dump::DumpedDatabase,
};
use lifeboat_model::{
    check::Outcome,
    config::InstanceConfig,
    id::{Instance, RepositoryId, RunId, Sha256Digest},
    retention::{LockMode, LockPolicy},
};
use lifeboat_repo::{point::Point, progress::Counter, repository::EvidenceRef};
use lifeboat_store::{Key, SharedStore};
use sha2::{Digest as _, Sha256};

use crate::{
    backup::BackupReport,
    context::{Context, Initiator, SOFTWARE},
    details::SourceNotes,
    dump::{self, DumpReport},
    error::{Error, Result, with_causes},
    keys::read_signing_key,
    ledger::{Appender, Place},
    tally::Tally,
};

/// Signs a statement with this host's key, puts it, and enters it into the ledger. Returns where, and the signed bytes.
///
/// A statement that was put and could not be entered is kept all the same: that is told as a warning, and the next one
/// enters it ([`keep_and_enter`] gives the reason).
pub async fn keep(context: &Context, statement: &Statement) -> Result<(Key, Bytes)> {
    let kept = keep_and_enter(context, statement).await?;
    match &kept.entered {
        Ok(_) => {}
        Err(Error::LedgerOfCopy { .. }) => {
            tracing::debug!(key = %kept.key, "kept in a copy, whose ledger is its primary's")
        }
        Err(error) => {
            let why = with_causes(error);
            tracing::warn!(
                "{} was kept and could not be entered into the ledger: {why}; the next statement enters it",
                kept.key
            );
        }
    }
    Ok((kept.key, kept.bytes))
}

/// A statement that was put.
#[derive(Debug)]
pub struct Kept {
    /// Where.
    pub key: Key,
    /// The signed bytes.
    pub bytes: Bytes,
    /// Where it stands in the ledger, or why it does not.
    pub entered: Result<Place>,
}

/// [`keep`], and tells what became of the entry.
pub async fn keep_and_enter(context: &Context, statement: &Statement) -> Result<Kept> {
    let signing = read_signing_key(&context.config.keys.signing_key_file)?;
    let place = statement.storage_key().ok_or_else(|| Error::Task("a statement without a place".to_owned()))?;
    let name = place.to_string();
    let name = name.rsplit('/').next().unwrap_or(&name);
    let bytes = Bytes::from(lifeboat_evidence::seal(statement, &signing));
    let repository = context.evidence_repository().await?;
    // The end of the log is looked for meanwhile; the entry goes after what it names.
    let put = async { Ok::<_, Error>(repository.put_evidence(&context.config.tenant, name, bytes.clone()).await?) };
    let (put, found) = tokio::join!(put, Appender::find(context));
    let key = put?;
    let sha256 = Sha256Digest(Sha256::digest(&bytes).into());
    let entered = match found {
        Ok(appender) => appender.append(context, name, sha256).await,
        Err(error) => Err(error),
    };
    Ok(Kept { key, bytes, entered })
}

/// Reads a statement of this tenant: none where it is not to be believed. It must be signed by a trusted key that nobody
/// had revoked before the store received it, lie in its own place, be of this repository, and not contradict itself.
pub async fn believed(context: &Context, reference: &EvidenceRef) -> Result<Option<Verified>> {
    let envelope = match context.repository.get_evidence(reference).await {
        // Nothing that a release wrote: whoever may write can put such things beside evidence.
        Err(lifeboat_repo::Error::Damaged { .. }) => return Ok(None),
        Err(lifeboat_repo::Error::Store(lifeboat_store::Error::NotFound { .. })) => return Ok(None),
        envelope => envelope?,
    };
    Ok(weigh(context, reference, &envelope).ok())
}

/// [`believed`], where the statement has been read: why not.
pub fn weigh(context: &Context, reference: &EvidenceRef, envelope: &[u8]) -> std::result::Result<Verified, String> {
    let verified =
        lifeboat_evidence::verify(envelope, &context.config.keys.trusted_keys).map_err(|error| error.to_string())?;
    match verified.statement.storage_key().map(|place| place.to_string()) {
        Some(own) if own == reference.key.as_str() => {}
        Some(own) => return Err(format!("it is a copy of {own}")),
        None => return Err("its name is not that of a statement".to_owned()),
    }
    if let Some(other) = belongs_to(&verified.statement).filter(|id| *id != context.repository.id()) {
        return Err(format!("it is of another repository, {other}"));
    }
    if let Some(contradiction) = verified.contradictions.first() {
        return Err(format!("it contradicts itself: {contradiction}"));
    }
    match context.believes(&verified.key, reference.modified) {
        true => Ok(verified),
        false => Err(format!(
            "the key that signed it was revoked before the store received it, at {:.0}",
            reference.modified
        )),
    }
}

/// The repository that a statement is of: one key may sign for several, and names of instances repeat. None: it says nothing of that, or
/// is kept on both sides of a copy, which may be two repositories.
fn belongs_to(statement: &Statement) -> Option<RepositoryId> {
    match &statement.predicate {
        Predicate::Backup(backup) => Some(backup.repository),
        Predicate::Drill(drill) => drill.repository,
        Predicate::Dump(dump) => Some(dump.repository),
        Predicate::Act(act) if matches!(act.act, Act::Copy(_)) => None,
        Predicate::Act(act) => Some(act.repository),
        Predicate::Opaque { .. } => None,
    }
}

/// Who started a run, as evidence tells it.
pub fn started_by(initiator: &Initiator) -> StartedBy {
    let (user, host) = initiator.who.split_once('@').unwrap_or((&initiator.who, ""));
    StartedBy { user: user.to_owned(), host: host.to_owned(), command: initiator.command.clone() }
}

/// The point a statement is about.
pub fn point_reference(point: &Point) -> PointReference {
    PointReference {
        id: point.header.point,
        key: point.key.to_string(),
        sha256: point.sha256,
        version: point.version.as_ref().map(|version| version.0.clone()),
    }
}

/// Where the repository is, for people, and whether what is put there for a tier is immutable.
pub fn storage(store: &SharedStore, lock: Option<LockPolicy>) -> String {
    let place = store.describe();
    match lock {
        Some(LockPolicy { mode, minimum }) if store.capabilities().locks => {
            let days = minimum.0.as_secs() / 86_400;
            let at_least = if days > 0 { format!("{days} d") } else { minimum.to_string() };
            let weak = if mode == LockMode::Governance { ": who has a special right can delete early" } else { "" };
            format!("{place} (object lock, {mode}, at least {at_least}{weak})")
        }
        _ if store.capabilities().locks => format!("{place} (not immutable: the tier has no lock)"),
        _ => format!("{place} (not immutable: it has no object lock)"),
    }
}

/// [`storage`] of a context's own repository, for an instance.
pub fn storage_of(context: &Context, instance: &Instance) -> Result<String> {
    Ok(storage(context.repository.store(), context.lock_policy(instance)?))
}

/// The id of a run.
pub fn new_run() -> Result<RunId> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|_| Error::NoRandomness)?;
    Ok(RunId(id))
}

/// SHA-256 of the configuration file, as the context carries it in hexadecimal.
pub fn config_digest(context: &Context) -> Result<Sha256Digest> {
    context.config_digest.parse().map_err(|_| Error::Task("the configuration's digest is not one".to_owned()))
}

/// What a finished backup did.
pub fn backup_statement(context: &Context, report: &BackupReport, tally: &Tally) -> Result<Statement> {
    let header = &report.point.header;
    let (_, config) = context.instance(header.instance.as_str())?;
    let postgres = &report.postgres;
    Ok(Statement::backup(BackupPredicate {
        run: report.run,
        started_by: started_by(&context.initiator),
        software: SOFTWARE.to_owned(),
        config_sha256: config_digest(context)?,
        tenant: header.tenant.clone(),
        instance: header.instance.clone(),
        tier: config.tier.clone(),
        repository: header.repository,
        storage: storage_of(context, &header.instance)?,
        started: report.started,
        finished: report.finished,
        point: point_reference(&report.point),
        source: Source {
            system_id: postgres.system_id.clone(),
            postgres_version: postgres.version_text(),
            timeline: postgres.timeline,
            start_lsn: postgres.start,
            end_lsn: postgres.wal_end,
            data_checksums: if postgres.data_checksums { DataChecksums::Verified } else { DataChecksums::Off },
            databases: postgres.databases.clone(),
        },
        sizes: sizes(tally),
        trees: trees(report),
        notes: public_notes(&report.notes),
        not_covered: not_covered(config),
    }))
}

/// What finished logical dumps did.
pub fn dump_statement(
    context: &Context,
    config: &InstanceConfig,
    report: &DumpReport,
    tally: &Tally,
) -> Result<Statement> {
    let (header, details) = (&report.point.header, &report.details);
    let database = |one: &dump::DumpedDatabase| DumpedDatabase { name: one.name.clone(), bytes: one.bytes };
    let not_covered = |what: &str, why: &str| NotCovered { what: what.to_owned(), count: None, why: why.to_owned() };
    Ok(Statement::dump(DumpPredicate {
        run: report.run,
        started_by: started_by(&context.initiator),
        software: SOFTWARE.to_owned(),
        config_sha256: config_digest(context)?,
        tenant: header.tenant.clone(),
        instance: header.instance.clone(),
        tier: config.tier.clone(),
        repository: header.repository,
        storage: storage_of(context, &header.instance)?,
        started: report.started,
        finished: report.finished,
        point: point_reference(&report.point),
        system_id: details.system_id.clone(),
        postgres_version: details.version_text(),
        program: details.program.clone(),
        databases: details.databases.iter().map(database).collect(),
        sizes: sizes(tally),
        notes: Vec::new(),
        not_covered: vec![
            not_covered("roles and tablespaces of the cluster", "a logical dump holds one database alone"),
            not_covered("filestore and configuration", "a logical dump holds one database alone"),
        ],
    }))
}

/// Keeps the statement of an act that began at `started` and has just ended. Without an instance it is about the whole
/// repository.
pub async fn keep_act(
    context: &Context,
    instance: Option<&Instance>,
    started: Timestamp,
    outcome: Outcome,
    act: Act,
) -> Result<(Key, Bytes)> {
    let lock = match instance {
        Some(name) => context.lock_policy(name)?,
        None => context.config.instances.values().find_map(|instance| context.config.tier_of(instance)?.lock),
    };
    let statement = Statement::act(ActPredicate {
        run: new_run()?,
        started_by: started_by(&context.initiator),
        software: SOFTWARE.to_owned(),
        config_sha256: config_digest(context)?,
        tenant: context.config.tenant.clone(),
        instance: instance.cloned(),
        repository: context.repository.id(),
        storage: storage(context.repository.store(), lock),
        started,
        finished: (context.clock)(),
        outcome,
        act,
    });
    keep(context, &statement).await
}

fn sizes(tally: &Tally) -> Sizes {
    Sizes {
        read_bytes: tally.get(Counter::ReadBytes),
        new_bytes: tally.get(Counter::NewBytes),
        stored_bytes: tally.get(Counter::StoredBytes),
        reused_bytes: tally.get(Counter::ReusedBytes),
        files: tally.get(Counter::Files),
    }
}

/// What evidence may say: it is kept in clear and for years, so it counts, and names neither paths nor output. The
/// words are in the point's sealed details and on the screen of whoever ran the backup.
fn public_notes(notes: &SourceNotes) -> Vec<String> {
    let counts = [
        (notes.incomplete.len(), "sources gave less than they should"),
        (notes.failed_commands.len(), "commands whose output was to be kept failed"),
        (notes.remarks.len(), "remarks are in the sealed details of the point"),
    ];
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

/// Changed and vanished files are counted over all file trees; a database has neither.
fn trees(report: &BackupReport) -> Vec<TreeSummary> {
    let summary = |(kind, stats): &(&'static str, lifeboat_repo::writer::TreeStats)| {
        let notes = report.notes.of(kind);
        TreeSummary {
            kind: (*kind).to_owned(),
            entries: stats.entries,
            bytes: stats.bytes,
            changed: notes.changed,
            vanished: notes.skipped,
        }
    };
    report.trees.iter().map(summary).collect()
}

fn not_covered(config: &InstanceConfig) -> Vec<NotCovered> {
    let mut list = Vec::new();
    if config.filestore.is_none() {
        let why = "no filestore is configured for this instance".to_owned();
        list.push(NotCovered { what: "attachments kept in files".to_owned(), count: None, why });
    }
    if config.config.is_none() {
        let why = "no config paths are configured for this instance".to_owned();
        list.push(NotCovered { what: "configuration".to_owned(), count: None, why });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_tells_the_truth() {
        let folder = tempfile::tempdir().unwrap();
        let local: SharedStore =
            std::sync::Arc::new(lifeboat_store::local::LocalStore::open(folder.path(), true).unwrap());
        let clock = std::sync::Arc::new(|| "2026-11-21T20:00:00Z".parse().unwrap());
        let vault: SharedStore = std::sync::Arc::new(lifeboat_store::vault::VaultStore::new(clock));
        let lock = |mode, minimum: &str| Some(LockPolicy { mode, minimum: minimum.parse().unwrap() });
        let compliance = lock(LockMode::Compliance, "14d");
        assert!(storage(&local, None).ends_with("(not immutable: it has no object lock)"));
        assert!(storage(&local, compliance).ends_with("(not immutable: it has no object lock)"));
        assert!(storage(&vault, None).ends_with("(not immutable: the tier has no lock)"));
        assert!(storage(&vault, compliance).ends_with("(object lock, compliance, at least 14 d)"));
        let text = storage(&vault, lock(LockMode::Governance, "2h"));
        assert!(text.ends_with("at least 2h 0m: who has a special right can delete early)"), "{text}");
    }

    #[test]
    fn evidence_counts_and_names_nothing() {
        let notes = SourceNotes {
            failed_commands: vec!["containers: ended with exit status: 1".into()],
            remarks: vec!["/etc/odoo is a link to /srv/secret".into(), "more".into()],
            ..SourceNotes::default()
        };
        let public = public_notes(&notes);
        assert_eq!(public.len(), 2, "{public:?}");
        assert!(!public.join(" ").contains("/srv") && !public.join(" ").contains("containers"), "{public:?}");
    }
}
