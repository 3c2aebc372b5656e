//! Signed evidence, kept in the repository beside what it is about.

use bytes::Bytes;
use lifeboat_evidence::{
    BackupPredicate, DumpPredicate, Statement,
    backup::{DataChecksums, NotCovered, PointReference, Sizes, Source, StartedBy, TreeSummary},
    dump::DumpedDatabase,
};
use lifeboat_model::{
    config::{InstanceConfig, RepositoryConfig},
    id::{RunId, Sha256Digest},
};
use lifeboat_repo::{point::Point, progress::Counter};
use lifeboat_store::Key;

use crate::{
    backup::BackupReport,
    context::{Context, Initiator, SOFTWARE},
    details::SourceNotes,
    dump::{self, DumpReport},
    error::{Error, Result},
    keys::read_signing_key,
    tally::Tally,
};

/// Signs a statement with this host's key and keeps it. Returns where, and the signed bytes.
pub async fn keep(context: &Context, statement: &Statement) -> Result<(Key, Bytes)> {
    let signing = read_signing_key(&context.config.keys.signing_key_file)?;
    let place = statement.storage_key().ok_or_else(|| Error::Task("a statement without a place".to_owned()))?;
    let name = place.to_string();
    let name = name.rsplit('/').next().unwrap_or(&name);
    let bytes = Bytes::from(lifeboat_evidence::seal(statement, &signing));
    let key = context.repository.put_evidence(&context.config.tenant, name, bytes.clone()).await?;
    Ok((key, bytes))
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

/// Where the repository is, for people, and whether it is immutable.
pub fn storage(config: &RepositoryConfig, describe: &str) -> String {
    match config {
        RepositoryConfig::Local { .. } => format!("{describe} (not immutable)"),
        RepositoryConfig::S3(_) => format!("{describe} (object lock not used yet: not immutable)"),
    }
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
        storage: storage(&context.config.repository, &context.repository.store().describe()),
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
        storage: storage(&context.config.repository, &context.repository.store().describe()),
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
