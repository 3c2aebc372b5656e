//! The names of a point's files, as a stream: a point may hold millions.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use lifeboat_engine::keys::host_identity;
use lifeboat_model::id::Instance;
use lifeboat_repo::{
    point::PointSelector,
    progress::Silent,
    reader::{Reader, ReaderOptions},
    tree::{Entry, EntryKind, TreeKind},
};
use serde::Serialize;

use crate::{
    cli::{Session, identity::IdentityArgs, place::Place},
    exit::Exit,
    failure::Result,
    output::moment,
    wire,
};

/// List the files of a recovery point
///
/// With --json one JSON object a line (lifeboat.points-files/1), since a point may hold millions of files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat points files clinic
  lifeboat points files clinic 3fa9 --part filestore --under odoo/ab
  lifeboat points files clinic --json | jq -r 'select(.size > 1e9).path'")]
pub struct Files {
    /// The instance
    instance: Instance,
    /// "latest", or 4 to 16 digits of its id
    #[arg(default_value = "latest")]
    point: PointSelector,
    /// Only this part (repeatable)
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
    /// Only this path and what lies below it, relative to the part
    #[arg(long, value_name = "PATH")]
    under: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    place: Place,
}

/// A part of a recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// PGDATA and tablespaces
    Database,
    /// Odoo's attachments
    Filestore,
    /// Configuration and kept command output
    Config,
    /// Logical dumps
    Dump,
}

impl From<Part> for TreeKind {
    fn from(part: Part) -> TreeKind {
        match part {
            Part::Database => TreeKind::Database,
            Part::Filestore => TreeKind::Filestore,
            Part::Config => TreeKind::Config,
            Part::Dump => TreeKind::Dump,
        }
    }
}

/// Name and version of a line in JSON.
const SCHEMA: &str = "lifeboat.points-files/1";

/// One entry, one line.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    part: &'static str,
    path: &'a str,
    /// The exact path in hexadecimal, where it is not UTF-8.
    path_bytes: Option<String>,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: Option<u64>,
    modified: Option<Timestamp>,
    target: Option<String>,
    note: Option<&'a str>,
}

impl Files {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let repo = repository.instance(&config.tenant, &self.instance);
        let point = wire::find_point(&repo, &self.point, config).await?;
        let identities = match self.identity.identity.as_slice() {
            [] => vec![host_identity(&config.keys)?],
            _ => wire::recovery_identities(&self.identity, config)?,
        };
        let options = ReaderOptions::default();
        let reader = Reader::open(repo, &point, &identities, options, Arc::new(Silent)).await?;
        let mut out = BufWriter::new(io::stdout().lock());
        let parts: Vec<TreeKind> = self.part.iter().map(|part| TreeKind::from(*part)).collect();
        for kind in TreeKind::ALL.into_iter().filter(|kind| parts.is_empty() || parts.contains(kind)) {
            let Some(mut entries) = reader.entries(kind)? else { continue };
            while let Some(entry) = entries.next().await? {
                if self.wants(&entry) && !write(&mut out, kind, &entry, session.output.is_json())? {
                    return Ok(Exit::Ok);
                }
            }
        }
        match out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(Exit::Ok),
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let Some(under) = &self.under else { return true };
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        path.starts_with(under)
    }
}

/// Writes one line; false when nobody reads any more.
fn write(out: &mut impl Write, kind: TreeKind, entry: &Entry, json: bool) -> io::Result<bool> {
    let path = String::from_utf8_lossy(&entry.path);
    let line = line(kind, entry, &path);
    let written = if json {
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        let size = line.size.map_or("-".to_owned(), |size| size.to_string());
        let target = line.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        let modified = line.modified.map(moment).unwrap_or_default();
        let name = path.escape_debug().collect::<String>().replace("\\\"", "\"").replace("\\'", "'");
        let owner = format!("{}:{}", entry.uid, entry.gid);
        writeln!(out, "{} {} {owner:>11} {size:>12} {modified} {}/{name}{target}", line.mode, letter(entry), line.part)
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

fn line<'a>(kind: TreeKind, entry: &'a Entry, path: &'a str) -> Line<'a> {
    let (word, size, target) = match &entry.kind {
        EntryKind::Directory => ("directory", None, None),
        EntryKind::Symlink { target } => ("symlink", None, Some(target)),
        EntryKind::File { size, .. } => ("file", Some(*size), None),
        EntryKind::Fifo => ("fifo", None, None),
        EntryKind::HardLink { target } => ("hardlink", None, Some(target)),
    };
    let nanos = i32::try_from(entry.mtime.nanos).unwrap_or_default();
    Line {
        schema: SCHEMA,
        part: kind.word(),
        path,
        path_bytes: std::str::from_utf8(&entry.path).is_err().then(|| hex::encode(&entry.path)),
        kind: word,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size,
        modified: Timestamp::new(entry.mtime.seconds, nanos).ok(),
        target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
        note: entry.note.as_deref(),
    }
}

fn letter(entry: &Entry) -> char {
    match entry.kind {
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::File { .. } => 'f',
        EntryKind::Fifo => 'p',
        EntryKind::HardLink { .. } => 'h',
    }
}
