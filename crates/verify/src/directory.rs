//! The files of a directory, in the order that the audit wants them.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use lifeboat_evidence::{
    audit::{Audit, Auditor, Demand, Trust},
    envelope,
    ledger::{entry, place, place::Place, tile},
    verify::SetEntry,
};

use crate::{
    journals,
    timestamp::{self, Authority, Token},
};

/// What a statement's file name ends with.
const STATEMENT: &str = ".dsse.json";
/// What a drill's picture is called: like its statement, but for the end. It is sealed, and nothing here opens it.
const PICTURE: &str = ".png.age";
/// What an export has besides evidence: for people, and not read.
const FOR_PEOPLE: [&str; 3] = ["README.txt", "verify.py", "keys.txt"];
/// Deeper than any name of ours; a directory of others may be endless.
const DEEPEST: usize = 8;

/// A file could not be read.
#[derive(Debug)]
pub struct Error {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}", self.path.display())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The names of a directory's files, sorted by what they are.
#[derive(Debug, Default)]
struct Names {
    statements: Vec<String>,
    entries: Vec<(u64, String)>,
    checkpoints: Vec<(u64, String)>,
    timestamps: Vec<(u64, String)>,
    tiles: Vec<(Place, String)>,
    strangers: Vec<String>,
}

/// Audits a directory. `anchors` are files with checkpoints that were kept elsewhere; `authority` vouches for time stamps;
/// `seen` is told of each statement.
pub fn audit(
    directory: &Path,
    trust: Trust,
    anchors: &[PathBuf],
    authority: Option<&Authority>,
    seen: &mut dyn FnMut(SetEntry),
) -> Result<Audit, Error> {
    let mut names = Names::default();
    names.walk(directory, "", 0)?;
    names.sort();
    let trusted = trust.keys.clone();
    let mut auditor = Auditor::new(trust, Demand::Ledger);
    auditor.now(jiff::Timestamp::now());
    for file in anchors {
        auditor.anchor(&file.display().to_string(), &read(file, entry::MAX_BYTES as u64)?);
    }
    let mut said = Vec::new();
    for name in &names.statements {
        let envelope = read(&directory.join(name), envelope::MAX_BYTES as u64)?;
        said.extend(journals::said(name, &envelope, &trusted));
        seen(auditor.statement(name, &envelope, None));
    }
    for name in &names.strangers {
        auditor.stranger(name);
    }
    for (size, name) in &names.checkpoints {
        auditor.checkpoint(*size, &read(&directory.join(name), entry::MAX_BYTES as u64)?);
    }
    for (place, name) in &names.tiles {
        auditor.tile(*place, &read(&directory.join(name), tile::MAX_BUNDLE)?);
    }
    for (index, name) in &names.entries {
        auditor.entry(*index, &leaf(&directory.join(name))?);
    }
    let stamped = |source| Error { path: directory.join("ledger/timestamps"), source };
    timestamp::audit(names.tokens(directory)?, authority, &mut auditor).map_err(stamped)?;
    let mut audit = auditor.finish();
    journals::compare(directory, &said, &mut audit)?;
    audit.subjects_not_executed("that is known where the instances are: lifeboat evidence verify on the repository");
    Ok(audit)
}

impl Names {
    fn walk(&mut self, directory: &Path, prefix: &str, depth: usize) -> Result<(), Error> {
        let failed = |source| Error { path: directory.to_owned(), source };
        for found in fs::read_dir(directory).map_err(failed)? {
            let found = found.map_err(failed)?;
            // A name that is no text is none of ours.
            let name = format!("{prefix}{}", found.file_name().to_string_lossy());
            let is_folder = found.file_type().map_err(failed)?.is_dir();
            if is_folder && depth < DEEPEST {
                self.walk(&found.path(), &format!("{name}/"), depth + 1)?;
            } else {
                self.take(name);
            }
        }
        Ok(())
    }

    fn take(&mut self, name: String) {
        match place::parse(&name) {
            Some(Place::Entry(index)) => self.entries.push((index, name)),
            Some(Place::Checkpoint(size)) => self.checkpoints.push((size, name)),
            Some(tile) => self.tiles.push((tile, name)),
            None if name.ends_with(STATEMENT) && !name.contains('/') => self.statements.push(name),
            None if FOR_PEOPLE.contains(&name.as_str()) => {}
            // Read where a statement is about it.
            None if name.split_once('/').is_some_and(|(folder, _)| folder == journals::FOLDER) => {}
            None => match timestamp::size_of(&name) {
                Some(size) => self.timestamps.push((size, name)),
                None => self.strangers.push(name),
            },
        }
    }

    /// Time stamps, each with what lies in the place of its checkpoint.
    fn tokens(&self, directory: &Path) -> Result<Vec<Token<Vec<u8>>>, Error> {
        let token = |(size, name): &(u64, String)| {
            let notes = self.checkpoints.iter().filter(|(of, _)| of == size);
            let notes = notes.map(|(_, name)| read(&directory.join(name), entry::MAX_BYTES as u64));
            let token = read(&directory.join(name), timestamp::MAX_BYTES)?;
            Ok(Token { size: *size, token, notes: notes.collect::<Result<_, _>>()? })
        };
        self.timestamps.iter().map(token).collect()
    }

    fn sort(&mut self) {
        self.statements.sort();
        let statements = &self.statements;
        let of_statement = |name: &String| {
            let stem = name.strip_suffix(PICTURE).map(|stem| format!("{stem}{STATEMENT}"));
            stem.is_some_and(|statement| statements.binary_search(&statement).is_ok())
        };
        self.strangers.retain(|name| !of_statement(name));
        self.entries.sort();
        self.checkpoints.sort();
        self.timestamps.sort();
        self.strangers.sort();
    }
}

/// The leaf of an entry's file: nobody reads one that is too long to be one of ours.
fn leaf(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    match length > entry::MAX_BYTES as u64 {
        true => Ok(entry::void()),
        false => read(path, entry::MAX_BYTES as u64),
    }
}

/// A file, or as much of it as is enough to refuse it.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|source| Error { path: path.to_owned(), source })?;
    Ok(bytes)
}
