//! Checks of a restored directory, with `pg_verifybackup`, `pg_checksums` and `pg_controldata` as oracles.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Context as _, Result};
use lifeboat_postgres::{Error, control::ControlData, manifest, pages, verify};
use lifeboat_testkit::postgres::{Options, Postgres};

use crate::clusters;

fn flip(path: &Path, at: u64) -> Result<()> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])?;
    Ok(())
}

/// A number in the output of `pg_checksums` or `pg_controldata`.
fn number(output: &str, label: &str) -> Result<u64> {
    let line =
        output.lines().find(|line| line.starts_with(label)).with_context(|| format!("no {label} in {output}"))?;
    line[label.len()..].trim().parse().with_context(|| line.to_owned())
}

#[tokio::test]
async fn a_backup_is_clean_and_each_damage_is_named() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        server.psql("postgres", "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 50000)")?;
        let table = server.psql("postgres", "SELECT pg_relation_filepath('t')")?;
        server.psql("postgres", "CHECKPOINT")?;
        let restored = Postgres::empty(major)?;
        let data = restored.data_dir();
        clusters::copy(&clusters::options(&server), data).await?;
        fs::write(data.join("recovery.signal"), "")?;
        fs::write(data.join("pg_wal/000000010000000000000009"), "anything")?;

        let options = verify::Options::default();
        let clean = verify::restored_dir(data, &options)?;
        assert!(clean.is_clean(), "{major}: {clean:?}");
        let listed = clean.manifest.clone().context("no manifest")?;
        let left_out = fs::metadata(data.join("postgresql.auto.conf"))?.len();
        assert!(listed.files > 900 && listed.bytes == clean.bytes_read + left_out, "{clean:?}");
        assert_eq!(listed.wal_ranges.len(), 1);
        let id = server.psql("postgres", "SELECT system_identifier FROM pg_control_system()")?.parse()?;
        assert_eq!(listed.system_id, (major >= 17).then_some(id));
        let page_report = clean.pages.context("no pages")?;
        assert!(page_report.checked > 3000 && page_report.files > 200, "{page_report:?}");

        // The same damage is seen by pg_verifybackup, which stops at nothing either.
        flip(&data.join(&table), 3 * 8192 + 4000)?;
        let longer = data.join("postgresql.conf");
        fs::write(&longer, fs::read_to_string(&longer)? + "\n")?;
        fs::remove_file(data.join("global/1262"))?;
        fs::write(data.join("base/stray"), "stray")?;
        restored.own(restored.root())?;
        let oracle = restored.run("pg_verifybackup", &["-n", &data.display().to_string()]).unwrap_err().to_string();
        let report = verify::restored_dir(data, &options)?;
        assert!(!report.is_clean());
        let found = report.manifest.context("no manifest")?;
        for (findings, path) in [
            (&found.wrong_checksum, table.as_str()),
            (&found.wrong_size, "postgresql.conf"),
            (&found.missing, "global/1262"),
            (&found.extra, "base/stray"),
        ] {
            assert_eq!(findings.count, 1, "{major}: {found:?}");
            assert!(findings.examples[0].starts_with(path), "{found:?}");
            assert!(oracle.contains(path), "{path} is not in {oracle}");
        }
        let bad = report.pages.context("no pages")?.bad;
        assert_eq!(bad.count, 1);
        assert!(bad.examples[0].starts_with(&format!("{table} block 3:")), "{bad:?}");

        let ignored = ["postgresql.conf", "base"].map(|path| path.as_bytes().to_vec()).to_vec();
        let partly = manifest::verify_dir(data, &verify::Options { ignore: ignored, ..options.clone() })?;
        assert_eq!((partly.wrong_size.count, partly.extra.count, partly.missing.count), (0, 0, 1));

        let interrupted = verify::Options::default();
        interrupted.interrupt.store(true, Ordering::Relaxed);
        assert!(matches!(verify::restored_dir(data, &interrupted), Err(Error::Interrupted)));

        flip(&data.join("backup_manifest"), 2000)?;
        assert!(matches!(verify::restored_dir(data, &options), Err(Error::Manifest { .. })));
        fs::remove_file(data.join("backup_manifest"))?;
        assert!(matches!(verify::restored_dir(data, &options), Err(Error::Read { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn pages_and_control_data_as_postgresql_sees_them() -> Result<()> {
    for major in clusters::versions() {
        let conf = ["max_connections = 37", "max_prepared_transactions = 5", "max_locks_per_transaction = 99"];
        let options = Options {
            conf: conf.map(str::to_owned).to_vec(),
            initdb: vec!["--wal-segsize=32".into()],
            ..Options::default()
        };
        let mut server = clusters::server(major, &options)?;
        server.psql("postgres", "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 50000)")?;
        server.psql("postgres", "CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 50000)")?;
        let table = PathBuf::from(server.psql("postgres", "SELECT pg_relation_filepath('t')")?);
        server.stop()?;
        let data = server.data_dir();
        let folder = data.display().to_string();

        let control = ControlData::read(data)?;
        let output = String::from_utf8(server.run("pg_controldata", &[&folder])?.stdout)?;
        for (label, value) in [
            ("Database system identifier:", control.system_id),
            ("pg_control version number:", control.control_version.into()),
            ("Catalog version number:", control.catalog_version.into()),
            ("Database block size:", control.page_size.into()),
            ("Bytes per WAL segment:", control.wal_segment_size.into()),
            ("Data page checksum version:", control.page_checksum_version.into()),
            ("max_connections setting:", control.max_connections.into()),
            ("max_worker_processes setting:", control.max_worker_processes.into()),
            ("max_wal_senders setting:", control.max_wal_senders.into()),
            ("max_prepared_xacts setting:", control.max_prepared_transactions.into()),
            ("max_locks_per_xact setting:", control.max_locks_per_transaction.into()),
        ] {
            assert_eq!(number(&output, label)?, value, "{major}: {label}");
        }

        let output = String::from_utf8(server.run("pg_checksums", &["--check", "-D", &folder])?.stdout)?;
        let report = pages::verify_dir(data, &verify::Options::default())?;
        assert_eq!(report.bad.count, 0, "{report:?}");
        assert_eq!(report.checked + report.new, number(&output, "Blocks scanned:")?, "{major}");
        assert_eq!(report.files, number(&output, "Files scanned:")?, "{major}");

        // A byte changed, and a good page in the place of another one.
        flip(&data.join(&table), 8192 * 5 + 8000)?;
        let bytes = fs::read(data.join(&table))?;
        let mut file = fs::File::options().write(true).open(data.join(&table))?;
        file.seek(SeekFrom::Start(8192 * 9))?;
        file.write_all(&bytes[8192 * 8..8192 * 9])?;
        let report = pages::verify_dir(data, &verify::Options { threads: 1, ..verify::Options::default() })?;
        assert_eq!(report.bad.count, 2, "{report:?}");
        let oracle = server.run("pg_checksums", &["--check", "-D", &folder]).unwrap_err().to_string();
        for block in [5, 9] {
            assert!(report.bad.examples.iter().any(|bad| bad.contains(&format!("block {block}:"))), "{report:?}");
            assert!(oracle.contains(&format!("block {block}:")), "{oracle}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_without_checksums_is_said_to_be_one() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(major, &Options { checksums: false, ..Options::default() })?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("copy");
    clusters::copy(&clusters::options(&server), &data).await?;
    let report = verify::restored_dir(&data, &verify::Options::default())?;
    assert!(report.is_clean() && report.no_page_checksums && report.pages.is_none(), "{report:?}");
    Ok(())
}
