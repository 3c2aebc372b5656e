//! A database with its attachments as the zip that Odoo's own database manager makes and takes: `dump.sql`, `manifest.json` and
//! `filestore/`.
//!
//! What Odoo's `dump_db` (`odoo/service/db.py`, the same in 14.0 to 19.0) writes, from the sandbox instead of a running Odoo. The dump
//! goes into the zip as it comes; nothing is copied besides.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lifeboat_odoo::modules;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{NewFile, Restored, restored::Form};
use crate::{
    checks,
    error::{Error, Result},
};

/// Pieces of the dump that wait for the zip; they are 64 KiB at most as Docker gives them.
const QUEUE: usize = 32;

/// What an export holds.
#[derive(Debug)]
pub struct Exported {
    /// The zip, which the caller publishes when the sandbox is known to have been closed and to be gone.
    pub file: NewFile,
    /// The zip's length.
    pub bytes: u64,
    /// The dump's length, uncompressed.
    pub dump_bytes: u64,
    /// Files of the filestore.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// Odoo's series, for example `19.0`.
    pub series: String,
    /// How many modules are installed.
    pub modules: u64,
    /// Files that the database's attachments name and the zip does not hold; empty for a whole export.
    pub lacking: Vec<String>,
    /// Attachments whose bytes are in neither database nor filestore, by kind: links, for example. Odoo's own zip has none of them.
    pub elsewhere: BTreeMap<String, u64>,
}

/// What Odoo writes beside the dump.
#[derive(Debug, Serialize)]
struct Manifest {
    odoo_dump: &'static str,
    db_name: String,
    version: String,
    version_info: Value,
    major_version: String,
    pg_version: String,
    modules: BTreeMap<String, Option<String>>,
}

/// Writes the zip of a restored database. `databases` are the instance's, by which the filestore's level is known.
pub async fn odoo_zip(restored: &Restored, database: &str, databases: &[String], file: NewFile) -> Result<Exported> {
    restored.database(database)?;
    let client = restored.connect(database).await?;
    let manifest = manifest(&client, database).await?;
    let filestore = restored.filestore(database, databases);
    let (lacking, elsewhere) = attachments(&client, database, filestore.clone()).await?;
    let (series, modules) = (manifest.major_version.clone(), manifest.modules.len() as u64);

    let (pieces, dump) = mpsc::channel(QUEUE);
    let (whole, is_whole) = oneshot::channel();
    let content = Content { dump, is_whole, manifest, filestore };
    let writing = tokio::task::spawn_blocking(move || content.write(file));
    let dumped = restored.dump(database, Form::Sql, &pieces).await;
    drop(pieces);
    if dumped.is_ok() {
        // A writer that has ended has an error to tell.
        let _ = whole.send(());
    } else {
        drop(whole);
    }
    let written = writing.await.map_err(|error| Error::Task(error.to_string()))?;
    let dump_bytes = match (dumped, &written) {
        // A disk that is full ends the writing, and with it the dump: the first cause is the writing's.
        (Err(_), Err(error)) if !matches!(error, Error::Task(_)) => 0,
        (dumped, _) => dumped?,
    };
    let Written { file, bytes, files, file_bytes } = written?;
    Ok(Exported { file, bytes, dump_bytes, files, file_bytes, series, modules, lacking, elsewhere })
}

async fn manifest(client: &Client, database: &str) -> Result<Manifest> {
    let query = "SELECT to_regclass('ir_module_module') IS NOT NULL";
    let is_odoo: bool = client.query_one(query, &[]).await.map_err(Error::sql("look for Odoo's tables"))?.get(0);
    if !is_odoo {
        let detail = "it has no table ir_module_module, so it is no database of Odoo".to_owned();
        return Err(Error::Output { program: format!("database \"{database}\""), detail });
    }
    let installed = "SELECT name, latest_version FROM ir_module_module WHERE state = 'installed'";
    let rows = client.query(installed, &[]).await.map_err(Error::sql("list the installed modules"))?;
    let series = modules::database_series(&modules::installed(client).await?)?;
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    let major: i32 = client.query_one(version, &[]).await.map_err(Error::sql("ask for the version"))?.get(0);
    Ok(Manifest {
        odoo_dump: "1",
        db_name: database.to_owned(),
        version: series.clone(),
        version_info: version_info(&series),
        major_version: series,
        // Odoo divides what psycopg2 says of the server in a way that has given `.0` since PostgreSQL 10.
        pg_version: format!("{major}.0"),
        modules: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

/// `odoo.release.version_info` of a series: 19.0 is `[19, 0, 0, "final", 0, ""]`, saas~18.2 begins with the text `saas~18`.
fn version_info(series: &str) -> Value {
    let (major, minor) = series.split_once('.').unwrap_or((series, "0"));
    let major = major.parse::<u32>().map_or_else(|_| json!(major), |number| json!(number));
    json!([major, minor.parse::<u32>().unwrap_or(0), 0, "final", 0, ""])
}

/// What the database's attachments name and the filestore does not hold, and what is kept elsewhere.
async fn attachments(
    client: &Client,
    database: &str,
    filestore: Option<PathBuf>,
) -> Result<(Vec<String>, BTreeMap<String, u64>)> {
    let place = checks::attachments::Place { folder: filestore, known_missing: HashSet::new() };
    let report = checks::attachments::verify(client, place).await?;
    let elsewhere = report.not_covered.clone();
    match report.is_intact() {
        true => Ok((Vec::new(), elsewhere)),
        false => Ok((vec![checks::attachments::judge(&[(database.to_owned(), report)]).observed], elsewhere)),
    }
}

struct Content {
    dump: mpsc::Receiver<Bytes>,
    /// Tells that the dump has ended well; dropped where it has not.
    is_whole: oneshot::Receiver<()>,
    manifest: Manifest,
    filestore: Option<PathBuf>,
}

struct Written {
    file: NewFile,
    bytes: u64,
    files: u64,
    file_bytes: u64,
}

impl Content {
    fn write(mut self, file: NewFile) -> Result<Written> {
        let failed = |error: zip::result::ZipError| Error::io("cannot write", file.path())(error.into());
        let mut zip = ZipWriter::new(file.file()?);
        zip.start_file("dump.sql", options()).map_err(failed)?;
        while let Some(piece) = self.dump.blocking_recv() {
            zip.write_all(&piece).map_err(Error::io("cannot write", file.path()))?;
        }
        let unfinished = |_| Error::Task("the dump did not end well".to_owned());
        self.is_whole.blocking_recv().map_err(unfinished)?;
        zip.start_file("manifest.json", options()).map_err(failed)?;
        let manifest = serde_json::to_vec_pretty(&self.manifest).map_err(|error| Error::Task(error.to_string()))?;
        zip.write_all(&manifest).map_err(Error::io("cannot write", file.path()))?;
        let (mut files, mut file_bytes) = (0, 0);
        if let Some(root) = &self.filestore {
            for path in tree(root).map_err(Error::io("cannot read", root))? {
                file_bytes += add(&mut zip, root, &path).map_err(Error::io("cannot take up", &path))?;
                files += 1;
            }
        }
        let written = zip.finish().map_err(failed)?;
        let bytes = written.metadata().map_err(Error::io("cannot look at", file.path()))?.len();
        drop(written);
        Ok(Written { file, bytes, files, file_bytes })
    }
}

fn options() -> SimpleFileOptions {
    // Sizes are not known beforehand, and may exceed what the old form can say.
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(true)
        .unix_permissions(0o600)
}

/// The regular files below a folder, in order. Odoo's filestore has one level of folders of up to 256 names.
fn tree(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn add(zip: &mut ZipWriter<File>, root: &Path, path: &Path) -> io::Result<u64> {
    let name = path.strip_prefix(root).unwrap_or(path);
    let name = name.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
    zip.start_file(format!("filestore/{name}"), options())?;
    io::copy(&mut File::open(path)?, zip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_info_is_odoos() {
        assert_eq!(version_info("19.0"), json!([19, 0, 0, "final", 0, ""]));
        assert_eq!(version_info("saas~18.2"), json!(["saas~18", 2, 0, "final", 0, ""]));
    }
}
