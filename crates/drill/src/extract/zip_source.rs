//! A zip of Odoo's own database manager (or of an export) as the source of a drill: `dump.sql` and `filestore/`, unpacked where a
//! restore would put them.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_evidence::drill::VersionsReadBack;
use serde::Deserialize;
use zip::{ZipArchive, read::ZipFile};

use crate::{
    error::{Error, Result},
    ladder::{LOCKS, OBJECTS, SIGNATURE, VERSIONS},
    source::{Fetched, Form, Selected, Source},
};

type Archive = ZipArchive<BufReader<File>>;

/// A manifest is a list of modules: longer ones are none.
const LONGEST_MANIFEST: u64 = 16 << 20;

/// What a zip says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ZipManifest {
    /// The database it was made of.
    pub db_name: Option<String>,
    /// Odoo's series.
    pub major_version: Option<String>,
    /// The server it was made of, as Odoo says it.
    pub pg_version: Option<String>,
}

/// The zip.
pub struct OdooZip {
    path: PathBuf,
    database: String,
    addons: Vec<PathBuf>,
    clock: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl OdooZip {
    /// A zip that is unpacked for a database of this name; `addons` are the instance's folders of modules, which no zip holds: they
    /// are taken from this host.
    pub fn new(
        path: PathBuf,
        database: String,
        addons: Vec<PathBuf>,
        clock: std::sync::Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> OdooZip {
        OdooZip { path, database, addons, clock }
    }

    /// What the zip says of itself; one without a manifest says nothing.
    pub fn manifest(path: &Path) -> Result<ZipManifest> {
        let mut archive = open(path)?;
        let Ok(file) = archive.by_name("manifest.json") else { return Ok(ZipManifest::default()) };
        let manifest = serde_json::from_reader(io::Read::take(file, LONGEST_MANIFEST));
        let detail = |error: serde_json::Error| Error::Output {
            program: format!("manifest.json in {}", path.display()),
            detail: error.to_string(),
        };
        manifest.map_err(detail)
    }
}

fn open(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(Error::io("cannot open", path))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| broken(path, error.into()))
}

/// A zip that cannot be read is a damaged backup, not a host in trouble.
fn broken(path: &Path, error: io::Error) -> Error {
    let words = format!("{} cannot be unpacked: {error}", path.display());
    Error::source("cannot use the zip")(Box::new(lifeboat_engine::Error::Damaged(words)))
}

#[async_trait]
impl Source for OdooZip {
    fn form(&self) -> Form {
        Form::Sql
    }

    async fn select(&self) -> Result<Selected> {
        let path = self.path.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let mut archive = open(&path)?;
            archive.by_name("dump.sql").map_err(|error| broken(&path, error.into()))?;
            let made = fs::metadata(&path).and_then(|metadata| metadata.modified());
            made.map_err(Error::io("cannot look at", &path))
        });
        let made = looking.await.map_err(|error| Error::Task(error.to_string()))??;
        let now = (self.clock)();
        let finished = Timestamp::try_from(made).unwrap_or(now);
        let not = |spec: &crate::ladder::Spec, why: &str| spec.not_executed(why);
        Ok(Selected {
            name: format!("zip {}", self.path.display()),
            finished,
            reference: None,
            age_seconds: u64::try_from(now.duration_since(finished).as_secs()).unwrap_or_default(),
            point: None,
            repository: None,
            versions: VersionsReadBack::default(),
            checks: vec![
                not(&SIGNATURE, "a zip is signed by nobody"),
                not(&OBJECTS, "a zip is no recovery point"),
                not(&VERSIONS, "a zip is no recovery point"),
                not(&LOCKS, "a zip is no recovery point"),
            ],
        })
    }

    async fn fetch(&self, _selected: &Selected, to: &Path) -> Result<Fetched> {
        let (path, to) = (self.path.clone(), to.to_owned());
        let (database, addons) = (self.database.clone(), self.addons.clone());
        let unpacking = tokio::task::spawn_blocking(move || unpack(&path, &to, &database, &addons));
        unpacking.await.map_err(|error| Error::Task(error.to_string()))?
    }
}

fn unpack(path: &Path, to: &Path, database: &str, addons: &[PathBuf]) -> Result<Fetched> {
    let filestore = to.join("filestore").join(database);
    fs::create_dir_all(&filestore).map_err(Error::io("cannot create", &filestore))?;
    let mut archive = open(path)?;
    let mut fetched = Fetched::default();
    let mut others = 0;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| broken(path, error.into()))?;
        let Some(place) = place(&member, to, &filestore) else {
            others += u64::from(member.is_file() && member.name() != "manifest.json");
            continue;
        };
        fetched.bytes += put(&mut member, &place).map_err(|error| damage_or_disk(path, &place, error))?;
        fetched.files += 1;
    }
    if others > 0 {
        fetched.notes.push(format!("{others} other files in the zip were left aside, as Odoo does"));
    }
    for folder in addons.iter().filter(|folder| folder.is_dir()) {
        let relative = folder.strip_prefix("/").unwrap_or(folder);
        copy_tree(folder, &to.join("config/paths").join(relative))?;
        fetched.notes.push(format!("no zip holds modules: {} was taken from this host", folder.display()));
    }
    Ok(fetched)
}

/// Where a member goes; nowhere for what Odoo does not know, and for a name that leads out of its folder.
fn place(member: &ZipFile<'_, BufReader<File>>, to: &Path, filestore: &Path) -> Option<PathBuf> {
    let name = member.enclosed_name().filter(|_| member.is_file())?;
    if name == Path::new("dump.sql") {
        return Some(to.join("dump.sql"));
    }
    name.strip_prefix("filestore").ok().filter(|below| below.file_name().is_some()).map(|below| filestore.join(below))
}

/// Unpacks one member; its checksum is compared at its end.
fn put(member: &mut ZipFile<'_, BufReader<File>>, place: &Path) -> io::Result<u64> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    io::copy(member, &mut File::create_new(place)?)
}

/// A disk that is full says nothing of the zip.
fn damage_or_disk(path: &Path, place: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error.kind() {
        InvalidData | InvalidInput | Other | UnexpectedEof => broken(path, error),
        _ => Error::io("cannot write", place)(error),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("cannot create", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("cannot read", from))? {
        let entry = entry.map_err(Error::io("cannot read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() && !source.is_symlink() {
            copy_tree(&source, &target)?;
        } else if source.is_file() {
            fs::copy(&source, &target).map_err(Error::io("cannot copy", &source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zip(folder: &Path, members: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("x.zip");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    #[test]
    fn only_what_odoo_knows_is_unpacked_and_nothing_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let members = [
            ("dump.sql", "SELECT 1;"),
            ("manifest.json", r#"{"db_name": "north", "major_version": "19.0"}"#),
            ("filestore/ab/abcd", "attachment"),
            ("filestore/../../evil", "x"),
            ("../evil", "x"),
            ("other/file", "x"),
        ];
        let path = zip(folder.path(), &members);
        let to = folder.path().join("restored");
        let fetched = unpack(&path, &to, "north", &[]).unwrap();
        assert_eq!((fetched.files, fetched.bytes), (2, 19));
        assert_eq!(fs::read_to_string(to.join("filestore/north/ab/abcd")).unwrap(), "attachment");
        assert!(!folder.path().join("evil").exists() && !to.join("evil").exists());
        assert!(fetched.notes[0].starts_with("3 other files"), "{:?}", fetched.notes);
        assert_eq!(OdooZip::manifest(&path).unwrap().db_name.as_deref(), Some("north"));
    }

    #[test]
    fn a_changed_byte_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = zip(folder.path(), &[("dump.sql", "SELECT 1;"), ("filestore/ab/abcd", "0123456789abcdef")]);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|window| window == b"filestore/ab".split_at(4).0).unwrap();
        bytes[at + 20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = unpack(&path, &folder.path().join("to"), "north", &[]).unwrap_err();
        assert!(error.is_damage(), "{error:?}");
    }
}
