//! What the tests share: servers, roles, and a base backup written to a folder.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use lifeboat_model::{lsn::Lsn, secret::Secret};
use lifeboat_postgres::{BackupEvent, BaseBackup, BaseBackupOptions, ConnectOptions, Replication, Tablespace, TlsMode};
use lifeboat_testkit::postgres::{self, Options, Postgres};

/// The role that a backup runs as: nothing but `REPLICATION` and `pg_read_all_data`.
pub const ROLE: &str = "lifeboat";
pub const ROLE_PASSWORD: &str = "s3cret ü";

/// The versions to test, or none where the testbed is off. 17 is what the testbed runs.
pub fn versions() -> Vec<u32> {
    if !lifeboat_testkit::testbed::enabled() {
        return Vec::new();
    }
    let versions = postgres::versions();
    assert!(versions.contains(&17), "PostgreSQL 17 is missing (testbed/testbed images); found {versions:?}");
    versions.into_iter().collect()
}

/// The version for tests that need no more than one: a local one starts fastest.
pub fn any_version() -> Option<u32> {
    versions()
        .into_iter()
        .find(|major| Path::new(&format!("/usr/lib/postgresql/{major}/bin")).exists())
        .or(versions().pop())
}

/// A server with the role.
pub fn server(major: u32, options: &Options) -> Result<Postgres> {
    let server = Postgres::start(major, options)?;
    server.psql("postgres", &format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{ROLE_PASSWORD}'"))?;
    if major >= 14 {
        server.psql("postgres", &format!("GRANT pg_read_all_data TO {ROLE}"))?;
    }
    Ok(server)
}

pub fn options(server: &Postgres) -> ConnectOptions {
    let mut options = ConnectOptions::new("127.0.0.1", server.port(), ROLE);
    options.password = Some(Secret::new(ROLE_PASSWORD));
    options.tls = TlsMode::Disable;
    options
}

/// A base backup as it was told.
#[derive(Debug)]
pub struct Copied {
    pub start: Lsn,
    pub end: Lsn,
    pub timeline: u32,
    pub tablespaces: Vec<Tablespace>,
    pub links: Vec<(PathBuf, PathBuf)>,
    pub names: Vec<PathBuf>,
}

/// Takes a base backup into an empty folder. Tablespaces go to `<folder>-<oid>`, with links to there.
pub async fn copy(connect: &ConnectOptions, to: &Path) -> Result<Copied> {
    let replication = Replication::connect(connect).await?;
    write(replication.base_backup(BaseBackupOptions::default()).await?, to).await
}

pub async fn write(mut backup: BaseBackup, to: &Path) -> Result<Copied> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    let mut copied =
        Copied { start: Lsn(0), end: Lsn(0), timeline: 0, tablespaces: vec![], links: vec![], names: vec![] };
    let mut manifest = File::create(to.join("backup_manifest"))?;
    let mut file: Option<(File, u64)> = None;
    let mut is_finished = false;
    while let Some(event) = backup.next().await? {
        match event {
            BackupEvent::Started { start, tablespaces, .. } => {
                for tablespace in &tablespaces {
                    fs::create_dir_all(to.join("pg_tblspc"))?;
                    let place = PathBuf::from(format!("{}-{}", to.display(), tablespace.oid));
                    fs::create_dir(&place)?;
                    symlink(&place, to.join(format!("pg_tblspc/{}", tablespace.oid)))?;
                }
                (copied.start, copied.tablespaces) = (start, tablespaces);
            }
            BackupEvent::File { path, mode, size, .. } => {
                let path = PathBuf::from(String::from_utf8(path)?);
                let created = File::create(to.join(&path)).with_context(|| path.display().to_string())?;
                created.set_permissions(fs::Permissions::from_mode(mode))?;
                copied.names.push(path);
                file = Some((created, size));
            }
            BackupEvent::Data(bytes) => {
                let (file, left) = file.as_mut().context("data outside of a file")?;
                file.write_all(&bytes)?;
                *left -= bytes.len() as u64;
            }
            BackupEvent::EndFile => ensure!(file.take().context("no file")?.1 == 0, "a file of another length"),
            BackupEvent::Directory { path, mode, .. } => {
                let path = to.join(String::from_utf8(path)?);
                fs::create_dir_all(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            BackupEvent::Symlink { path, target, .. } => {
                copied.links.push((String::from_utf8(path)?.into(), String::from_utf8(target)?.into()));
            }
            BackupEvent::Manifest(bytes) => manifest.write_all(&bytes)?,
            BackupEvent::Finished { end, timeline } => {
                (copied.end, copied.timeline) = (end, timeline);
                is_finished = true;
            }
        }
    }
    ensure!(is_finished, "the backup ended without Finished");
    ensure!(backup.into_replication().is_some(), "no session after the backup");
    Ok(copied)
}
