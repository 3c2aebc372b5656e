//! Every row's file: present, of the right size, with the right SHA-1.
//!
//! Files are hashed on a bounded number of blocking threads; a file that many rows share is read once. Memory is the
//! number of workers times one read buffer, plus bounded lists of examples.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use futures::TryStreamExt as _;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use tokio_postgres::Client;

use super::{Attachment, Location, stream};
use crate::error::{Error, Result};

/// How many examples of one kind of finding are kept by name.
pub const KEPT: usize = 20;

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The database's own folder inside the filestore.
    pub filestore: PathBuf,
    /// Names that the backup recorded as gone from the source when it read them. Found missing, they are listed apart.
    pub known_missing: HashSet<String>,
    /// Files hashed at the same time; 0 means two.
    pub workers: usize,
}

/// A count and the first names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examples {
    /// How many.
    pub count: u64,
    /// At most [`KEPT`] of them.
    pub examples: Vec<String>,
}

impl Examples {
    fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < KEPT {
            self.examples.push(text());
        }
    }
}

/// What the rows say and the filestore holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// Rows by kind of location.
    pub kinds: BTreeMap<String, u64>,
    /// Different files that rows name.
    pub files: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Files that rows name and the filestore lacks.
    pub missing: Examples,
    /// Missing files that the backup already recorded as missing.
    pub known_missing: Examples,
    /// Files or inline contents with another length than the row says.
    pub wrong_size: Examples,
    /// Files whose SHA-1 is not the row's checksum or not their own name.
    pub corrupt: Examples,
    /// Files that are there and cannot be read.
    pub unreadable: Examples,
    /// Rows whose bytes are outside database and filestore: the kind and how many.
    pub not_covered: BTreeMap<String, u64>,
}

impl Report {
    /// Whether every covered row has its bytes, known gaps aside.
    pub fn is_intact(&self) -> bool {
        [&self.missing, &self.wrong_size, &self.corrupt, &self.unreadable].iter().all(|found| found.count == 0)
    }
}

/// What a file must be: all rows that share a name agree on it, or the first that differs is a finding of its own.
#[derive(Debug)]
struct Wanted {
    name: String,
    checksum: Option<String>,
    size: Option<u64>,
}

#[derive(Debug)]
enum Seen {
    Missing,
    Unreadable(io::Error),
    File { size: u64, sha1: String },
}

/// Compares every row of `ir_attachment` with the filestore.
pub async fn verify(client: &Client, options: &VerifyOptions) -> Result<Report> {
    if !options.filestore.is_dir() {
        tracing::warn!(path = %options.filestore.display(), "the database has no folder in the filestore");
    }
    let mut report = Report::default();
    let mut last: Option<String> = None;
    let wanted = {
        let (report, last) = (&mut report, &mut last);
        stream(client).await?.try_filter_map(move |row| futures::future::ready(Ok(count(report, last, row))))
    };
    let workers = if options.workers == 0 { 2 } else { options.workers };
    let checked = wanted.map_ok(|wanted| look(options.filestore.clone(), wanted)).try_buffer_unordered(workers);
    let outcomes = checked.try_fold(Report::default(), |mut found, (wanted, seen)| {
        judge(&mut found, options, &wanted, seen);
        futures::future::ready(Ok(found))
    });
    let found = outcomes.await?;
    Ok(merge(report, found))
}

/// Counts a row; gives the file to look at unless the row before named the same.
fn count(report: &mut Report, last: &mut Option<String>, row: Attachment) -> Option<Wanted> {
    report.rows += 1;
    let kind = row.location.kind();
    if !row.location.is_covered() {
        *report.not_covered.entry(kind.clone()).or_default() += 1;
    }
    *report.kinds.entry(kind).or_default() += 1;
    match row.location {
        Location::Database { len } if row.size.is_some_and(|size| size != len) => {
            report
                .wrong_size
                .add(|| format!("row {}: {len} bytes in the row, {} expected", row.id, row.size.unwrap_or(0)));
            None
        }
        Location::Filestore(name) if last.as_deref() != Some(name.as_str()) => {
            *last = Some(name.clone());
            Some(Wanted { name, checksum: row.checksum, size: row.size })
        }
        _ => None,
    }
}

async fn look(filestore: PathBuf, wanted: Wanted) -> Result<(Wanted, Seen)> {
    let path = filestore.join(&wanted.name);
    let name = wanted.name.clone();
    let join = tokio::task::spawn_blocking(move || hash_file(&filestore, &name));
    let seen = join.await.map_err(|error| Error::Io { path, source: io::Error::other(error) })?;
    Ok((wanted, seen))
}

fn hash_file(filestore: &Path, name: &str) -> Seen {
    match open(filestore, name).and_then(try_hash) {
        Ok((size, sha1)) => Seen::File { size, sha1 },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Missing,
        Err(error) => Seen::Unreadable(error),
    }
}

/// Opens a file below the database's folder, through no link: what a link leads to is not in the filestore.
fn open(filestore: &Path, name: &str) -> io::Result<File> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(filestore, folder, Mode::empty())?;
    let mut names = name.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = names.next() {
        if names.peek().is_some() {
            at = rustix::fs::openat(&at, part, folder, Mode::empty())?;
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&at, part, flags, Mode::empty())?);
        let is_file = file.metadata()?.is_file();
        return if is_file { Ok(file) } else { Err(io::Error::other("it is not a file")) };
    }
    Err(io::ErrorKind::NotFound.into())
}

fn try_hash(mut file: File) -> io::Result<(u64, String)> {
    let mut buffer = vec![0; 128 << 10];
    let (mut size, mut hasher) = (0, Sha1::new());
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hasher.finalize()))),
            read => {
                size += read as u64;
                hasher.update(&buffer[..read]);
            }
        }
    }
}

fn judge(found: &mut Report, options: &VerifyOptions, wanted: &Wanted, seen: Seen) {
    let name = &wanted.name;
    found.files += 1;
    match seen {
        Seen::Missing if options.known_missing.contains(name) => found.known_missing.add(|| name.clone()),
        Seen::Missing => found.missing.add(|| name.clone()),
        Seen::Unreadable(error) => found.unreadable.add(|| format!("{name}: {error}")),
        Seen::File { size, sha1 } => {
            found.bytes += size;
            if wanted.size.is_some_and(|expected| expected != size) {
                found.wrong_size.add(|| format!("{name}: {size} bytes, {} expected", wanted.size.unwrap_or(0)));
            }
            if !fits(&sha1, wanted) {
                found.corrupt.add(|| format!("{name}: content has SHA-1 {sha1}"));
            }
        }
    }
}

/// The content must have the row's checksum and, where the name is a SHA-1, its own name.
fn fits(sha1: &str, wanted: &Wanted) -> bool {
    let base = wanted.name.rsplit('/').next().unwrap_or_default();
    let named = base.len() == 40 && base.bytes().all(|c| c.is_ascii_hexdigit());
    wanted.checksum.as_deref().is_none_or(|checksum| checksum == sha1) && (!named || base == sha1)
}

fn merge(rows: Report, files: Report) -> Report {
    let mut wrong_size = files.wrong_size;
    wrong_size.count += rows.wrong_size.count;
    wrong_size.examples.extend(rows.wrong_size.examples);
    wrong_size.examples.truncate(KEPT);
    Report { rows: rows.rows, kinds: rows.kinds, not_covered: rows.not_covered, wrong_size, ..files }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";

    fn row(id: i32, location: Location, checksum: Option<&str>, size: u64) -> Attachment {
        Attachment { id, location, checksum: checksum.map(Into::into), size: Some(size) }
    }

    fn check(files: &[(&str, &[u8])], known: &[&str], rows: Vec<Attachment>) -> Report {
        let folder = std::env::temp_dir().join(format!("lifeboat-odoo-{}-{:p}", std::process::id(), &rows));
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let options = VerifyOptions {
            filestore: folder.clone(),
            known_missing: known.iter().map(|&name| name.to_owned()).collect(),
            workers: 1,
        };
        let (mut counted, mut found, mut last) = (Report::default(), Report::default(), None);
        for row in rows {
            if let Some(wanted) = count(&mut counted, &mut last, row) {
                let seen = hash_file(&options.filestore, &wanted.name);
                judge(&mut found, &options, &wanted, seen);
            }
        }
        let _ = std::fs::remove_dir_all(folder);
        merge(counted, found)
    }

    fn named(sha1: &str) -> (String, Location) {
        let name = format!("{}/{sha1}", &sha1[..2]);
        (name.clone(), Location::Filestore(name))
    }

    #[test]
    fn an_intact_file_is_read_once_for_all_its_rows() {
        let (name, location) = named(HELLO);
        let rows = (1..4).map(|id| row(id, location.clone(), Some(HELLO), 5)).collect();
        let report = check(&[(&name, b"hello")], &[], rows);
        assert!(report.is_intact());
        assert_eq!((report.rows, report.files, report.bytes), (3, 1, 5));
    }

    #[test]
    fn what_a_link_leads_to_is_not_in_the_filestore() {
        use std::os::unix::fs::symlink;
        let base = std::env::temp_dir().join(format!("lifeboat-odoo-links-{}", std::process::id()));
        let (outside, filestore) = (base.join("outside"), base.join("filestore"));
        let (_, folder) = (std::fs::create_dir_all(outside.join("aa")), std::fs::create_dir_all(filestore.join("bb")));
        folder.unwrap();
        std::fs::write(outside.join("aa/file"), "hello").unwrap();
        symlink(outside.join("aa"), filestore.join("aa")).unwrap();
        symlink(outside.join("aa/file"), filestore.join("bb/file")).unwrap();
        symlink(&outside, base.join("link")).unwrap();
        std::fs::write(filestore.join("bb/real"), "hello").unwrap();
        for (folder, name) in [("filestore", "aa/file"), ("filestore", "bb/file"), ("link", "aa/file")] {
            assert!(matches!(hash_file(&base.join(folder), name), Seen::Unreadable(_)), "{folder} {name}");
        }
        assert!(matches!(hash_file(&filestore, "bb/gone"), Seen::Missing));
        assert!(matches!(hash_file(&filestore, "bb/real"), Seen::File { size: 5, .. }));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn missing_known_missing_and_damaged_are_told_apart() {
        let (name, location) = named(HELLO);
        let (gone, gone_location) = named(&"b".repeat(40));
        let (known, known_location) = named(&"c".repeat(40));
        let rows = vec![
            row(1, location, Some(HELLO), 5),
            row(2, gone_location, None, 5),
            row(3, known_location, None, 5),
            row(4, Location::Elsewhere("s3://".into()), None, 5),
            row(5, Location::Database { len: 3 }, None, 4),
        ];
        let report = check(&[(&name, b"jello")], &[&known], rows);
        assert!(!report.is_intact());
        assert_eq!(report.missing.examples, [gone]);
        assert_eq!(report.known_missing.examples, [known]);
        assert_eq!((report.corrupt.count, report.wrong_size.count), (1, 1));
        assert_eq!(report.not_covered.get("s3://"), Some(&1));
    }

    #[test]
    fn a_file_cut_short_has_the_wrong_size() {
        let (name, location) = named(HELLO);
        let report = check(&[(&name, b"hell")], &[], vec![row(1, location, Some(HELLO), 5)]);
        assert_eq!((report.wrong_size.count, report.corrupt.count), (1, 1));
    }
}
