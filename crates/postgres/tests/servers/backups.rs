//! A base backup of ours against what PostgreSQL's own programs make and say.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lifeboat_model::lsn::{Lsn, segment_file_name};
use lifeboat_postgres::{BackupEvent, BaseBackupOptions, ConnectOptions, Error, Replication, Segmenter};
use lifeboat_testkit::postgres::{Options, Postgres};

use crate::clusters::{self, Copied};

const LONG_NAME: &str =
    "a_file_that_somebody_left_here_with_a_name_as_long_as_the_tar_format_of_the_server_allows_it_to_be_";

const SLOT: &str = "lifeboat_test";

fn options() -> Options {
    let conf = ["autovacuum = off", "wal_level = replica", "checkpoint_timeout = 1h"];
    Options { conf: conf.map(str::to_owned).to_vec(), ..Options::default() }
}

/// A server with what a backup can meet: an extra tablespace, unlogged tables, large values, long and empty files.
fn furnished(major: u32) -> Result<Postgres> {
    let server = clusters::server(major, &options())?;
    let place = server.root().join("space");
    fs::create_dir(&place)?;
    server.own(&place)?;
    server.psql("postgres", &format!("CREATE TABLESPACE extra LOCATION '{}'", place.display()))?;
    server.psql("postgres", "CREATE DATABASE clinic")?;
    let statements = [
        "CREATE TABLE patient AS SELECT i id, repeat(md5(i::text), 20) note FROM generate_series(1, 20000) i",
        "CREATE INDEX ON patient (id)",
        "CREATE TABLE archived (id int, at timestamptz DEFAULT '2026-01-01') TABLESPACE extra",
        "INSERT INTO archived SELECT generate_series(1, 5000)",
        "CREATE UNLOGGED TABLE draft AS SELECT generate_series(1, 5000) id",
        "CREATE TABLE letter AS SELECT i id, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 300) j) body \
         FROM generate_series(1, 50) i",
        "SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'))",
        "CREATE SEQUENCE invoice START 100",
        "SELECT nextval('invoice')",
    ];
    for statement in statements {
        server.psql("clinic", statement)?;
    }
    assert_eq!(LONG_NAME.len(), 99);
    fs::write(server.data_dir().join(LONG_NAME), "kept")?;
    fs::write(server.data_dir().join("empty"), "")?;
    server.own(&server.data_dir().join(LONG_NAME))?;
    server.own(&server.data_dir().join("empty"))?;
    server.psql("clinic", "VACUUM")?;
    server.psql("clinic", "CHECKPOINT")?;
    Ok(server)
}

/// All files below a folder by relative path; links to folders are followed.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(root, &path, found)?;
            } else {
                found.insert(path.strip_prefix(root)?.to_owned(), fs::read(&path)?);
            }
        }
        Ok(())
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found)?;
    Ok(found)
}

/// What is never the same in two backups of a cluster: its label, the checkpoint in `pg_control`, and their manifest.
fn is_of_one_backup(path: &Path) -> bool {
    ["backup_label", "backup_manifest", "global/pg_control"].iter().any(|name| path == Path::new(name))
}

/// A session whose temporary slot keeps WAL from now on.
async fn keep_wal(connect: &ConnectOptions) -> Result<Replication> {
    let mut replication = Replication::connect(connect).await?;
    replication.create_physical_slot(SLOT, true).await?;
    Ok(replication)
}

/// Streams the WAL that belongs to a backup into its `pg_wal`.
async fn add_wal(mut replication: Replication, copied: &Copied, to: &Path) -> Result<()> {
    let segment_size = replication.wal_segment_size().await?;
    let from = copied.start.segment_start(segment_size);
    let mut stream = replication.start_wal(from, copied.timeline, Some(SLOT)).await?;
    let mut segmenter = Segmenter::new(from, segment_size, 16 << 20);
    let mut slices = Vec::new();
    while segmenter.position() < copied.end {
        slices.extend(segmenter.push(&stream.next().await?.context("the timeline ended")?)?);
    }
    slices.extend(segmenter.cut());
    stream.stop().await?.replication.close().await;
    for slice in slices {
        let name = segment_file_name(copied.timeline, slice.start.segment(segment_size), segment_size);
        let mut file =
            fs::File::options().create(true).truncate(false).write(true).open(to.join("pg_wal").join(name))?;
        file.set_len(segment_size)?;
        file.seek(SeekFrom::Start(slice.start.0 % segment_size))?;
        file.write_all(&slice.bytes)?;
    }
    Ok(())
}

const LOOK: &str = "SELECT (SELECT count(*) || ' ' || sum(hashtext(p::text)) FROM patient p), \
    (SELECT count(*) || ' ' || sum(hashtext(a::text)) FROM archived a), \
    (SELECT count(*) || ' ' || sum(hashtext(l::text)) FROM letter l), (SELECT count(*) FROM draft), \
    (SELECT sum(length(data)) FROM pg_largeobject), (SELECT last_value FROM invoice)";

async fn equals_pg_basebackup(major: u32) -> Result<()> {
    let server = furnished(major)?;
    let connect = clusters::options(&server);
    let before = server.psql("clinic", LOOK)?;

    let keeper = keep_wal(&connect).await?;
    let mut restored = Postgres::empty(major)?;
    let copied = clusters::copy(&connect, restored.data_dir()).await?;
    let tablespace = copied.tablespaces.first().context("no tablespace")?;
    assert_eq!(Path::new(&tablespace.location), server.root().join("space"));
    assert!(tablespace.size > 100_000, "{tablespace:?}");
    assert_eq!(copied.links, [(PathBuf::from(format!("pg_tblspc/{}", tablespace.oid)), server.root().join("space"))]);
    assert_eq!(copied.names.last(), Some(&PathBuf::from("global/pg_control")), "pg_control comes last");

    // The oracle, of the same quiet cluster.
    let oracle = server.root().join("oracle");
    let mapping = format!("{}={}", server.root().join("space").display(), server.root().join("oracle-space").display());
    let oracle_text = oracle.display().to_string();
    server.run("pg_basebackup", &["-D", &oracle_text, "-c", "fast", "-X", "none", "-T", &mapping])?;
    let (ours, theirs) = (files(restored.data_dir())?, files(&oracle)?);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{major}");
    let differing: Vec<_> =
        ours.iter().filter(|(path, content)| theirs[*path] != **content).map(|(path, _)| path).collect();
    assert!(differing.iter().all(|path| is_of_one_backup(path)), "{major}: {differing:?}");
    assert_eq!(ours[Path::new(LONG_NAME)], b"kept");
    assert!(ours.len() > 900, "{} files", ours.len());

    restored.own(restored.root())?;
    restored.run("pg_verifybackup", &["-n", &restored.data_dir().display().to_string()])?;
    add_wal(keeper, &copied, restored.data_dir()).await?;
    restored.own(restored.root())?;
    restored.resume()?;
    let unlogged_is_empty = before.replace("\t5000\t", "\t0\t");
    assert_ne!(unlogged_is_empty, before);
    assert_eq!(restored.psql("clinic", LOOK)?, unlogged_is_empty, "{major}");
    restored.psql("clinic", "INSERT INTO archived VALUES (1)")?;
    Ok(())
}

#[tokio::test]
async fn backup_equals_pg_basebackup() -> Result<()> {
    for major in clusters::versions() {
        equals_pg_basebackup(major).await.with_context(|| format!("PostgreSQL {major}"))?;
    }
    Ok(())
}

/// Flips a byte in the middle of pages of a stopped server's table.
fn corrupt(server: &mut Postgres, table: &str, blocks: &[u64]) -> Result<String> {
    let path = server.psql("postgres", &format!("SELECT pg_relation_filepath('{table}')"))?;
    server.stop()?;
    let mut file = fs::File::options().read(true).write(true).open(server.data_dir().join(&path))?;
    for block in blocks {
        let at = SeekFrom::Start(block * 8192 + 5000);
        let mut byte = [0];
        file.seek(at)?;
        file.read_exact(&mut byte)?;
        file.seek(at)?;
        file.write_all(&[byte[0] ^ 0x10])?;
    }
    server.resume()?;
    Ok(path)
}

#[tokio::test]
async fn a_corrupted_page_fails_the_backup() -> Result<()> {
    for major in clusters::versions() {
        let mut server = clusters::server(major, &options())?;
        server.psql("postgres", "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 5000)")?;
        let path = corrupt(&mut server, "t", &[3, 7])?;
        let folder = tempfile::tempdir()?;
        let error = clusters::copy(&clusters::options(&server), &folder.path().join("copy")).await.unwrap_err();
        match error.downcast::<Error>()? {
            Error::ChecksumFailure { count, examples, .. } => {
                assert_eq!(count, 2, "{major}: {examples:?}");
                assert!(examples[0].contains(&path), "{major}: {examples:?}");
            }
            other => panic!("{major}: {other}"),
        }
        // Without verification the same copy goes through: the error is the server's, not an accident.
        let unverified = BaseBackupOptions { verify_checksums: false, ..BaseBackupOptions::default() };
        let replication = Replication::connect(&clusters::options(&server)).await?;
        clusters::write(replication.base_backup(unverified).await?, &folder.path().join("again")).await?;
    }
    Ok(())
}

/// A backup that is slow enough to be met in the middle.
async fn slow_backup(server: &Postgres) -> Result<lifeboat_postgres::BaseBackup> {
    let replication = Replication::connect(&clusters::options(server)).await?;
    let slow = BaseBackupOptions { max_rate: Some(1024), ..BaseBackupOptions::default() };
    let mut backup = replication.base_backup(slow).await?;
    while !matches!(backup.next().await?.context("no data")?, BackupEvent::Data(_)) {}
    Ok(backup)
}

async fn end_of(mut backup: lifeboat_postgres::BaseBackup) -> Error {
    loop {
        match backup.next().await {
            Ok(Some(BackupEvent::Finished { .. }) | None) => panic!("the backup was finished"),
            Ok(Some(_)) => {}
            Err(error) => {
                assert!(backup.next().await.is_err(), "an error is final");
                return error;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_fails_the_backup() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let mut server = clusters::server(major, &options())?;
    let backup = slow_backup(&server).await?;
    server.stop()?;
    let error = end_of(backup).await;
    assert!(matches!(error, Error::ServerUnavailable { .. } | Error::ConnectionLost { .. }), "{error}");
    assert!(error.is_transient());

    server.resume()?;
    let backup = slow_backup(&server).await?;
    server.crash()?;
    let error = end_of(backup).await;
    assert!(matches!(error, Error::ServerUnavailable { .. } | Error::ConnectionLost { .. }), "{error}");

    let refused = Replication::connect(&clusters::options(&server)).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    server.resume()?;
    let folder = tempfile::tempdir()?;
    clusters::copy(&clusters::options(&server), &folder.path().join("copy")).await?;
    Ok(())
}

#[tokio::test]
async fn a_backup_can_be_cancelled_and_timed_out() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(major, &options())?;
    let mut replication = Replication::connect(&clusters::options(&server)).await?;
    assert_eq!(replication.show("wal_level").await?, "replica");
    let cancel = replication.cancel_token();
    let slow = BaseBackupOptions { max_rate: Some(1024), ..BaseBackupOptions::default() };
    let mut backup = replication.base_backup(slow).await?;
    while !matches!(backup.next().await?.context("no data")?, BackupEvent::Data(_)) {}
    cancel.cancel().await?;
    let error = end_of(backup).await;
    assert_eq!(error.server_error().map(|cause| cause.code.as_str()), Some("57014"), "{error}");

    // A spread checkpoint of many pages takes minutes.
    server.psql("postgres", "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 100000)")?;
    let impatient = BaseBackupOptions {
        fast_checkpoint: false,
        start_timeout: Duration::from_millis(500),
        ..BaseBackupOptions::default()
    };
    let replication = Replication::connect(&clusters::options(&server)).await?;
    let error = replication.base_backup(impatient).await?.next().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_ne!(Lsn(0), Replication::connect(&clusters::options(&server)).await?.identify_system().await?.flush);
    Ok(())
}
