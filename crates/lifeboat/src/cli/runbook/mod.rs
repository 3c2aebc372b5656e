//! `lifeboat runbook`: what there is, everything that is wrong with it, and what a run would do. Files are enough: no daemon, no
//! repository, and where there is none, no configuration.

mod carry;
mod consent;
mod history;
mod living;
mod reading;
mod run;
mod runs;
mod selection;
mod show;
mod standing;
mod store;
mod terminal;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use lifeboat_model::{config::Config, id::Instance};
use lifeboat_runbook::{
    check::{self, Surroundings},
    document::{Document, LARGEST},
    error::Finding,
};
use serde::Serialize;

use self::history::{History, Rehearsed};
use super::Session;
use crate::{
    cli::folder::files as files_of,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, count},
    wire::{self, Reading},
};

/// List and check runbooks, show what a run would do, and run them
///
/// Runbooks are the Markdown files in the folder runbooks/ beside lifeboat.toml.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunbookCommand {
    #[command(subcommand)]
    verb: RunbookVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat runbook list
  lifeboat runbook check                         every finding, as file:line:column
  lifeboat runbook check draft.md --instance clinic
  lifeboat runbook show total-loss --instance clinic
  lifeboat runbook show total-loss --set moment=2026-11-21T14:03:10Z --mode practice
  lifeboat runbook run total-loss --instance clinic --mode practice
  lifeboat runbook run total-loss --instance clinic
  lifeboat runbook runs                          what was run from here, and what can be resumed
  lifeboat runbook resume 3fa9                   go on where it stands
  lifeboat runbook abort 3fa9 --why TEXT             take back what was done
The format: docs/runbook-format.md";

#[derive(Debug, Subcommand)]
enum RunbookVerb {
    /// List the runbooks of the folder
    List,
    Check(Check),
    Show(show::Show),
    Run(run::Run),
    Runs(runs::Runs),
    Resume(run::Resume),
    Abort(run::Abort),
}

/// Report everything that is wrong with runbooks, with file, line and column
#[derive(Debug, Args)]
struct Check {
    /// These files [default: all in the folder]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Hold them against this instance's dependencies [default: the one they name, else the only one]
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
}

impl RunbookCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            RunbookVerb::List => list(session).await,
            RunbookVerb::Check(check) => check.run(session),
            RunbookVerb::Show(show) => show.run(session).await,
            RunbookVerb::Run(run) => run.run(session).await,
            RunbookVerb::Runs(runs) => runs.run(session),
            RunbookVerb::Resume(resume) => resume.run(session).await,
            RunbookVerb::Abort(abort) => abort.run(session).await,
        }
    }
}

/// What stands around runbooks: the configuration as far as it can be read, and the folder.
struct Around {
    config: Option<Config>,
    config_file: Option<PathBuf>,
    /// Why the configuration is not known.
    unknown: Option<String>,
    folder: PathBuf,
}

impl Around {
    /// A configuration that is wrong does not stand in the way: runbooks are wanted when much is.
    fn look(session: &Session) -> Result<Around> {
        let nowhere = |unknown| Around { config: None, config_file: None, unknown, folder: "runbooks".into() };
        let file = match wire::config_file(session.config_file.as_deref()) {
            Ok(file) => file,
            Err(_) => return Ok(nowhere(Some("there is no lifeboat.toml".to_owned()))),
        };
        let folder = file.parent().unwrap_or(Path::new("")).join("runbooks");
        Ok(match wire::read_config(session)? {
            Reading::Usable(loaded) => {
                Around { config: Some(loaded.config), config_file: Some(loaded.file), unknown: None, folder }
            }
            Reading::Wrong { file, problems } => {
                let problems = count(problems.len() as u64, "problem", "problems");
                let unknown = Some(format!("{} has {problems}: lifeboat config check", file.display()));
                Around { config_file: Some(file), folder, ..nowhere(unknown) }
            }
        })
    }

    /// An instance that was named must be there.
    fn known(&self, instance: Option<&Instance>) -> Result<()> {
        let Some(instance) = instance else { return Ok(()) };
        match (&self.config, &self.unknown) {
            (Some(config), _) => match config.instance(instance.as_str()) {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::new(Exit::NotFound, error.to_string())),
            },
            (None, unknown) => {
                let why = unknown.as_deref().unwrap_or("the configuration is not known");
                Err(Failure::new(Exit::Config, format!("--instance {instance}: {why}")))
            }
        }
    }
}

/// A file, and what stands in it.
struct Book {
    file: PathBuf,
    text: String,
    read: std::result::Result<Document, Vec<Finding>>,
}

impl Book {
    fn open(file: PathBuf) -> Result<Book> {
        let mut bytes = Vec::new();
        // One more than may be: a larger file is told to be so, and not read.
        let read = File::open(&file).and_then(|opened| opened.take(LARGEST as u64 + 1).read_to_end(&mut bytes));
        read.context(format!("cannot read the runbook {}", file.display()))?;
        let read = Document::read(&bytes);
        Ok(Book { read, text: String::from_utf8(bytes).unwrap_or_default(), file })
    }

    fn document(&self) -> Option<&Document> {
        self.read.as_ref().ok()
    }

    fn id(&self) -> Option<&str> {
        self.document()?.head.as_ref().map(|head| head.id.value.as_str())
    }
}

/// All runbooks of the folder, by file name. README.md tells about them and is none.
fn shelf(folder: &Path) -> Result<Vec<Book>> {
    let files = files_of(folder, "md", false)?.into_iter();
    files.filter(|path| path.file_name().is_some_and(|name| name != "README.md")).map(Book::open).collect()
}

fn by_id(books: &[Book]) -> BTreeMap<&str, &Book> {
    // Of two with one id, the first: `check` tells of the other.
    books.iter().rev().filter_map(|book| Some((book.id()?, book))).collect()
}

#[derive(Serialize)]
struct Listed {
    folder: PathBuf,
    runbooks: Vec<ListedRunbook>,
}

#[derive(Serialize)]
struct ListedRunbook {
    file: PathBuf,
    id: Option<String>,
    title: Option<String>,
    summary: Option<String>,
    version: Option<String>,
    sha256: Option<String>,
    steps: usize,
    rto_seconds: Option<u64>,
    /// Whether each block can be read; `check` tells the rest.
    readable: bool,
    /// Whether this very text was practised; none: it has no steps to practise.
    rehearsed: Option<Rehearsed>,
}

impl ListedRunbook {
    fn new(book: &Book, others: &BTreeMap<&str, &Book>, history: &History) -> Self {
        let steps = book.document().map_or(0, |document| document.steps().count());
        let known = book.id().zip(book.document()).filter(|_| steps > 0);
        let document = book.document();
        let head = document.and_then(|document| document.head.as_ref());
        ListedRunbook {
            file: book.file.clone(),
            id: book.id().map(str::to_owned),
            title: document.map(|document| document.title.clone()),
            summary: head.map(|head| head.summary.clone()),
            version: head.and_then(|head| head.version.clone()),
            sha256: document.map(|document| document.digest.clone()),
            steps,
            rehearsed: known.map(|(id, document)| {
                let look = |id: &str| others.get(id).and_then(|book| book.document());
                history.rehearsed(id, document, look, None)
            }),
            rto_seconds: head.and_then(|head| head.rto.as_ref()).map(|rto| rto.value.0.as_secs()),
            readable: document.is_some(),
        }
    }
}

impl Answer for Listed {
    const SCHEMA: &'static str = "lifeboat.runbook-list/1";

    fn text(&self, page: &mut Page) {
        if self.runbooks.is_empty() {
            page.line(format_args!("there is no runbook in {}", self.folder.display()));
        }
        let mut rows = Rows::new(&["runbook", "when", "steps", "practice", "file"]).numbers(&[2]);
        for book in &self.runbooks {
            let steps = match (book.readable, book.steps) {
                (false, _) => (Tone::Bad, "has errors".to_owned()),
                (true, 0) => (Tone::Plain, "for reading".to_owned()),
                (true, steps) => (Tone::Plain, steps.to_string()),
            };
            let when = book.summary.as_deref().or(book.title.as_deref()).unwrap_or_default();
            let file = book.file.display().to_string();
            let plain = |text| (Tone::Plain, text);
            rows.row([
                plain(book.id.as_deref().unwrap_or("-")),
                plain(when),
                (steps.0, steps.1.as_str()),
                book.rehearsed.as_ref().map_or(plain("-"), Rehearsed::words),
                plain(&file),
            ]);
        }
        page.table(rows);
        let why = self.runbooks.iter().find_map(|book| book.rehearsed.as_ref()?.why());
        if let Some(why) = why {
            page.line(format_args!("whether they were practised is not known: {why}"));
        }
    }
}

async fn list(session: &Session) -> Result<Exit> {
    let around = Around::look(session)?;
    let books = shelf(&around.folder)?;
    let history = match books.iter().any(|book| book.id().is_some()) {
        true => History::look(session, &around).await,
        false => History::nothing_to_ask(session),
    };
    let others = by_id(&books);
    let runbooks = books.iter().map(|book| ListedRunbook::new(book, &others, &history)).collect();
    session.output.show(&Listed { folder: around.folder, runbooks })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Checked {
    /// None: none was found.
    config: Option<PathBuf>,
    /// Why runbooks were not held against the configuration.
    not_checked: Option<String>,
    files: Vec<CheckedFile>,
    errors: usize,
    warnings: usize,
}

#[derive(Serialize)]
struct CheckedFile {
    file: PathBuf,
    id: Option<String>,
    steps: usize,
    findings: Vec<Remark>,
}

/// A finding, for JSON.
#[derive(Serialize)]
struct Remark {
    line: usize,
    column: usize,
    severity: &'static str,
    message: String,
}

impl From<&Finding> for Remark {
    fn from(finding: &Finding) -> Self {
        let (line, column) = (finding.at.line, finding.at.column);
        Remark { line, column, severity: finding.severity.word(), message: finding.message.clone() }
    }
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.runbook-check/1";

    fn text(&self, page: &mut Page) {
        for file in &self.files {
            for Remark { line, column, severity, message } in &file.findings {
                let tone = if *severity == "error" { Tone::Bad } else { Tone::Doubtful };
                let (name, word) = (file.file.display(), tone.paint(&format!("{severity}:")));
                page.line(format_args!("{name}:{line}:{column}: {word} {message}"));
            }
        }
        if let Some(why) = &self.not_checked {
            let word = Tone::Doubtful.paint("not checked:");
            page.line(format_args!("{word} instances, repositories and dependencies, as {why}"));
        }
        let runbooks = count(self.files.len() as u64, "runbook", "runbooks");
        let errors = count(self.errors as u64, "error", "errors");
        let warnings = count(self.warnings as u64, "warning", "warnings");
        let (tone, word) = if self.errors == 0 { (Tone::Good, "usable") } else { (Tone::Bad, "NOT USABLE") };
        page.line(format_args!("{runbooks}: {}, {errors}, {warnings}", tone.paint(word)));
    }
}

impl Check {
    fn run(self, session: &Session) -> Result<Exit> {
        let around = Around::look(session)?;
        around.known(self.instance.as_ref())?;
        let shelf = shelf(&around.folder)?;
        let given: Vec<Book> = self.files.iter().cloned().map(Book::open).collect::<Result<_>>()?;
        let books = if given.is_empty() { &shelf } else { &given };
        if books.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("there is no runbook in {}", around.folder.display()))
                .hint("name a file, or put runbooks beside lifeboat.toml"));
        }
        let others = by_id(&shelf);
        // A file that was named and is called by another one that was, is that one.
        let named = by_id(&given);
        let lookup = |id: &str| named.get(id).or_else(|| others.get(id)).and_then(|book| book.document());
        let surroundings =
            Surroundings { config: around.config.as_ref(), instance: self.instance.as_ref(), runbooks: Some(&lookup) };
        let files: Vec<CheckedFile> = books.iter().map(|book| checked(book, books, &surroundings)).collect();
        let of = |severity| {
            files.iter().flat_map(|file| &file.findings).filter(|finding| finding.severity == severity).count()
        };
        let (errors, warnings) = (of("error"), of("warning"));
        // Without any configuration there is nothing to hold them against; with a wrong one, something was left out.
        let is_incomplete = around.unknown.is_some() && around.config_file.is_some();
        let checked = Checked { config: around.config_file, not_checked: around.unknown, files, errors, warnings };
        session.output.show(&checked)?;
        Ok(match (errors, is_incomplete) {
            (1.., _) => Exit::CheckFailed,
            (0, true) => Exit::Incomplete,
            (0, false) => Exit::Ok,
        })
    }
}

fn checked(book: &Book, books: &[Book], surroundings: &Surroundings<'_>) -> CheckedFile {
    let mut findings = match &book.read {
        Ok(document) => check::check(document, surroundings),
        Err(findings) => findings.clone(),
    };
    if let Some(head) = book.document().and_then(|document| document.head.as_ref()) {
        let twin = books.iter().take_while(|other| other.file != book.file).find(|other| other.id() == book.id());
        findings.extend(twin.map(|twin| {
            let file = twin.file.display();
            head.id.at.error(format!("the id \"{}\" stands in {file} as well: give one of them another", head.id.value))
        }));
    }
    findings.sort_by_key(|finding| finding.at);
    CheckedFile {
        file: book.file.clone(),
        id: book.id().map(str::to_owned),
        steps: book.document().map_or(0, |document| document.steps().count()),
        findings: findings.iter().map(Remark::from).collect(),
    }
}
