//! The runbooks of a tenant: the Markdown files in the folder `runbooks/` beside its configuration.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat_runbook::{
    check::{self, Surroundings},
    document::{Document, LARGEST},
    error::Finding,
    plan::{Mode, Plan, Request},
};

use crate::policies::Site;

/// More than anybody has.
const MOST: usize = 200;

/// A file, and what stands in it.
#[derive(Debug)]
pub(crate) struct Book {
    /// Its name in the folder: `total-loss.md`.
    pub file: String,
    /// The text; empty where it is none.
    pub text: String,
    /// What it says, or all that is wrong with it.
    pub read: Result<Document, Vec<Finding>>,
}

impl Book {
    pub fn document(&self) -> Option<&Document> {
        self.read.as_ref().ok()
    }

    pub fn id(&self) -> Option<&str> {
        self.document()?.head.as_ref().map(|head| head.id.value.as_str())
    }
}

/// All of a tenant, by file name.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub books: Vec<Book>,
    /// Why the folder, or a file, could not be read.
    pub doubts: Vec<String>,
}

impl Shelf {
    /// Reads the folder, away from the threads that answer others.
    pub async fn read(site: &Arc<Site>) -> Shelf {
        let folder = folder(site);
        let read = tokio::task::spawn_blocking(move || Shelf::of(&folder));
        read.await
            .unwrap_or_else(|_| Shelf { books: Vec::new(), doubts: vec!["runbooks could not be read".to_owned()] })
    }

    fn of(folder: &Path) -> Shelf {
        let mut shelf = Shelf::default();
        let names = match names(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return shelf,
            Err(error) => {
                shelf.doubts.push(format!("the folder of runbooks cannot be read: {error}"));
                return shelf;
            }
        };
        if names.len() > MOST {
            shelf.doubts.push(format!("{} runbooks are too many: the first {MOST} are shown", names.len()));
        }
        for name in names.into_iter().take(MOST) {
            match bytes(&folder.join(&name)) {
                Ok(bytes) => {
                    let read = Document::read(&bytes);
                    let text = String::from_utf8(bytes).unwrap_or_default();
                    shelf.books.push(Book { file: name, text, read });
                }
                Err(error) => shelf.doubts.push(format!("{name} cannot be read: {error}")),
            }
        }
        shelf
    }

    pub fn by_id(&self) -> BTreeMap<&str, &Document> {
        // Of two with one id, the first: `lifeboat runbook check` tells of the other.
        self.books.iter().rev().filter_map(|book| Some((book.id()?, book.document()?))).collect()
    }

    pub fn by_digest(&self, sha256: &str) -> Option<&Document> {
        self.books.iter().filter_map(Book::document).find(|document| document.digest == sha256)
    }

    /// What is wrong with a runbook or doubtful in it, held against its tenant's configuration.
    pub fn findings(&self, book: &Book, site: &Site) -> Vec<Finding> {
        let document = match &book.read {
            Ok(document) => document,
            Err(findings) => return findings.clone(),
        };
        let all = self.by_id();
        let lookup = |id: &str| all.get(id).copied();
        check::check(document, &Surroundings { config: Some(&site.config), instance: None, runbooks: Some(&lookup) })
    }

    /// What a run would do, as far as that is known without its parameters.
    pub fn plan(&self, document: &Document) -> Option<Plan> {
        let all = self.by_id();
        let lookup = |id: &str| all.get(id).copied();
        let past = |_: &str| None;
        let request = Request { parameters: BTreeMap::new(), mode: Mode::Plan, past: &past, runbooks: Some(&lookup) };
        Plan::of(document, &request).ok()
    }
}

/// Where they lie.
fn folder(site: &Site) -> PathBuf {
    site.config_file.parent().unwrap_or(Path::new("")).join("runbooks")
}

/// README.md tells about them and is none.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(name) =
            name.to_str().filter(|name| name.ends_with(".md") && *name != "README.md" && !name.starts_with('.'))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// One more than may be: a larger file is told to be so, and not read.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
