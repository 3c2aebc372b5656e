//! Which runbook is meant, for which instance, with which parameters.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use lifeboat_model::{id::Instance, time::Span};
use lifeboat_runbook::{
    check::{self, Surroundings},
    document::Document,
    error::Finding,
    head::Kind,
    plan::{Mode, Plan, Request},
};

use super::{Around, Book, by_id, shelf};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    output::count,
};

/// A runbook and its parameters.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// A file, or the id of a runbook in the folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The instance, for the parameter of that kind
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
    /// Give a parameter (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// A runbook without errors, with what stands around it.
pub(super) struct Selected {
    pub around: Around,
    shelf: Vec<Book>,
    opened: Option<Book>,
    arguments: SelectionArgs,
}

impl SelectionArgs {
    /// Reads it; one with errors is refused.
    pub fn open(self, session: &Session) -> Result<Selected> {
        let around = Around::look(session)?;
        around.known(self.instance.as_ref())?;
        let shelf = shelf(&around.folder)?;
        let opened = if self.file.is_file() { Some(Book::open(self.file.clone())?) } else { None };
        let selected = Selected { around, shelf, opened, arguments: self };
        let book = selected.book()?;
        let document = book.read.as_ref().map_err(|findings| unusable(book, findings))?;
        let findings = selected.findings(document);
        match findings.iter().any(Finding::is_error) {
            true => Err(unusable(book, &findings)),
            false => Ok(selected),
        }
    }
}

impl Selected {
    /// The file.
    pub fn book(&self) -> Result<&Book> {
        let name = &self.arguments.file;
        let named = || by_id(&self.shelf).get(name.to_string_lossy().as_ref()).copied();
        self.opened.as_ref().or_else(named).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no file and no runbook \"{}\"", name.display()))
                .next("lifeboat runbook list")
        })
    }

    /// What stands in it.
    pub fn document(&self) -> Result<&Document> {
        let book = self.book()?;
        book.read.as_ref().map_err(|findings| unusable(book, findings))
    }

    /// Another runbook of the folder, or this one by its id.
    pub fn other(&self, id: &str) -> Option<&Book> {
        let own = self.opened.as_ref().filter(|book| book.id() == Some(id));
        own.or_else(|| by_id(&self.shelf).get(id).copied())
    }

    /// What works and should not stay; and errors, where there are any.
    pub fn findings(&self, document: &Document) -> Vec<Finding> {
        let lookup = |id: &str| self.other(id).and_then(Book::document);
        let (config, instance) = (self.around.config.as_ref(), self.arguments.instance.as_ref());
        check::check(document, &Surroundings { config, instance, runbooks: Some(&lookup) })
    }

    /// What a run would do.
    pub fn plan(&self, mode: Mode, past: &dyn Fn(&str) -> Option<Span>) -> Result<Plan> {
        let document = self.document()?;
        let lookup = |id: &str| self.other(id).and_then(Book::document);
        let request = Request { parameters: self.parameters(document), mode, past, runbooks: Some(&lookup) };
        Plan::of(document, &request).map_err(|findings| {
            let failure = Failure::new(Exit::Usage, "the parameters do not fit the runbook");
            Failure { details: findings.into_iter().map(|finding| finding.message).collect(), ..failure }
        })
    }

    /// The instance that the plan is for: a parameter says it, or it was named, or there is only one.
    pub fn instance(&self, plan: &Plan) -> Option<Instance> {
        let document = self.document().ok()?;
        let mut declared = document.head.iter().flat_map(|head| &head.parameters);
        let name = declared.find(|parameter| parameter.kind == Kind::Instance).map(|parameter| &parameter.name);
        let value = name.and_then(|name| plan.parameters.iter().find(|(known, _)| known == name)?.1.as_deref());
        let said = value.and_then(|value| value.parse().ok()).or_else(|| self.arguments.instance.clone());
        said.or_else(|| {
            let mut all = self.around.config.as_ref()?.instances.keys();
            all.next().filter(|_| all.next().is_none()).cloned()
        })
    }

    /// Those that were given; `--instance` is that of the first parameter of this kind.
    fn parameters(&self, document: &Document) -> BTreeMap<String, String> {
        let mut parameters: BTreeMap<String, String> = self.arguments.settings.iter().cloned().collect();
        let declared = document.head.iter().flat_map(|head| &head.parameters);
        let mut of_kind = declared.filter(|parameter| parameter.kind == Kind::Instance);
        if let (Some(instance), Some(parameter)) = (&self.arguments.instance, of_kind.next()) {
            parameters.entry(parameter.name.clone()).or_insert_with(|| instance.to_string());
        }
        parameters
    }
}

fn unusable(book: &Book, findings: &[Finding]) -> Failure {
    let file = book.file.display();
    let errors: Vec<String> =
        findings.iter().filter(|finding| finding.is_error()).map(|finding| format!("{file}:{finding}")).collect();
    let message = format!("{file} has {}", count(errors.len() as u64, "error", "errors"));
    let failure = Failure { details: errors, ..Failure::new(Exit::CheckFailed, message) };
    failure.next(format!("lifeboat runbook check {file}"))
}
