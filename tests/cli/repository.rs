//! A small real repository, written by the repository's own writer: what reads it needs no PostgreSQL and no Docker.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use lifeboat_engine::{
    context::{open_repository, open_store},
    details::{Comparison, PostgresDetails, SourceFacts, SourceNotes, Witness, encode},
    keys::writer_keys,
};
use lifeboat_model::{config::Config, lsn::Lsn};
use lifeboat_repo::{
    point::PointDetails,
    progress::Silent,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, WalSpan, Writer, WriterOptions},
};

use crate::program::Program;

/// A path and its content; folders end in `/`.
type Item = (&'static [u8], &'static str);

/// What the point holds, by tree.
const TREES: [(TreeKind, &[Item]); 3] = [
    (
        TreeKind::Database,
        &[
            (b"PG_VERSION", "17\n"),
            (b"base/", ""),
            (b"base/5", "relation"),
            (b"global/", ""),
            (b"global/pg_control", "control"),
        ],
    ),
    (
        TreeKind::Filestore,
        &[(b"odoo/", ""), (b"odoo/ab/", ""), (b"odoo/ab/abc", "attachment"), (b"odoo/odd \xff name", "odd")],
    ),
    (
        TreeKind::Config,
        &[(b"commands/", ""), (b"commands/kernel", "Linux"), (b"paths/", ""), (b"paths/odoo.conf", "[options]")],
    ),
];

/// Adds a recovery point of `clinic`, made at `time`; gives its id.
pub fn add_point(program: &Program, time: &str) -> String {
    add(program, time, None)
}

/// The same with a log of its own, in this segment.
pub fn add_point_with_log(program: &Program, time: &str, segment: u64) -> String {
    add(program, time, Some(segment))
}

fn add(program: &Program, time: &str, segment: Option<u64>) -> String {
    let text = program.read("lifeboat.toml");
    let (config, _) = lifeboat_model::config::parse(&text, &program.path("lifeboat.toml")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(write(&config, time.parse().unwrap(), segment))
}

async fn write(config: &Config, time: Timestamp, segment: Option<u64>) -> String {
    let store = open_store(&config.repository, &|_| None, true).await.unwrap();
    let repository = open_repository(store, &config.engine.state_dir, time).await.unwrap();
    let repo = repository.instance(&config.tenant, &"clinic".parse().unwrap());
    let options = WriterOptions {
        level: 3,
        pack_size: 4 << 20,
        workers: 1,
        uploads: 1,
        cache_dir: config.engine.state_dir.join("cache"),
        software: "lifeboat test".to_owned(),
        clock: Arc::new(move || time),
    };
    let mut writer = Writer::begin(repo, writer_keys(&config.keys).unwrap(), options, Arc::new(Silent)).await.unwrap();
    for (kind, entries) in TREES {
        writer.begin_tree(kind).await.unwrap();
        for (path, content) in entries {
            add_entry(&mut writer, path, content).await;
        }
        writer.end_tree().await.unwrap();
    }
    let start = Lsn(segment.unwrap_or(1) * SEGMENT);
    let end = Lsn(start.0 + 0x200);
    if segment.is_some() {
        writer.wal_sink().put(7, 1, start, vec![0; 0x200].into()).await.unwrap();
    }
    let wal = segment.map(|_| WalSpan { system_id: 7, timeline: 1, start, end });
    let point = writer.commit(PointDraft { started: time, details: details(time, start), wal }).await.unwrap();
    point.header.point.to_string()
}

async fn add_entry(writer: &mut Writer, path: &[u8], content: &str) {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mtime = FileTime { seconds: 1_700_000_000, nanos: 0 };
    let entry = |path: &[u8], mode| Entry { path: path.to_owned(), mode, uid, gid, mtime, ..Entry::default() };
    if let Some(folder) = path.strip_suffix(b"/") {
        return writer.entry(entry(folder, 0o700)).await.unwrap();
    }
    let kind = EntryKind::File { size: 0, extents: Vec::new() };
    writer.begin_file(Entry { kind, ..entry(path, 0o600) }, Chunking::DOCUMENT).await.unwrap();
    writer.data_from(content.as_bytes()).await.unwrap();
    writer.end_file(Finish::default()).await.unwrap();
}

const SEGMENT: u64 = 16 << 20;

fn details(time: Timestamp, start: Lsn) -> PointDetails {
    let postgres = PostgresDetails {
        version: 170_006,
        system_id: "7".to_owned(),
        timeline: 1,
        start,
        backup_end: Lsn(start.0 + 0x100),
        wal_end: Lsn(start.0 + 0x200),
        mark: None,
        segment_size: SEGMENT,
        data_checksums: true,
        tablespaces: Vec::new(),
        databases: vec!["odoo".to_owned()],
        started: time,
        finished: time,
    };
    let comparison = Comparison::NotExact { why: "not asked for".to_owned() };
    let (databases, facts) = (BTreeMap::new(), SourceFacts::default());
    let witness = Witness { comparison, taken: time, databases, facts };
    let notes = SourceNotes { remarks: vec!["one remark".to_owned()], ..SourceNotes::default() };
    PointDetails {
        postgres: encode(&postgres).unwrap(),
        witness: encode(&witness).unwrap(),
        facts: [(SourceNotes::FACT.to_owned(), encode(&notes).unwrap())].into(),
        ..PointDetails::default()
    }
}
