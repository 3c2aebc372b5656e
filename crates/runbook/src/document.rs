//! A whole runbook: a tree of sections, some of which are steps. Parsing tells everything that is wrong with single blocks at
//! once; what only the whole can tell (references, reachability, dependencies) is looked at in [`crate::check`].

use std::{collections::BTreeMap, ops::Range, path::Path};

use lifeboat_model::config::reading;
use sha2::{Digest as _, Sha256};

use crate::{
    action::Action,
    error::{At, Finding, Severity, in_order},
    head::{self, Head},
    markdown::{self, Block, Cut},
    step::{self, Step},
    values::refuse_secrets,
};

/// Longer than any document that people read under stress.
pub const LARGEST: usize = 1 << 20;

/// Ids that answers of a `decide` and placeholders use for something else.
pub const RESERVED: [&str; 3] = [step::CONTINUE, step::END, crate::template::RUN];

/// A runbook. Nothing in it refers to the file, so it can be kept and compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The first heading.
    pub title: String,
    /// SHA-256 of the text, in hexadecimal: what evidence of a practice run names.
    pub digest: String,
    /// None: it is only for reading.
    pub head: Option<Head>,
    /// The sections below the title, in order.
    pub sections: Vec<Section>,
    /// What works and should not stay.
    pub warnings: Vec<Finding>,
}

/// A heading and what stands below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The heading's slug, or what the step's `id` says; unique among steps and the groups that hold them.
    pub id: String,
    /// The heading.
    pub title: String,
    /// 2–6.
    pub level: u8,
    /// Where the heading stands.
    pub at: At,
    /// Its own text in the file, up to the next heading: what people read before they confirm.
    pub text: Range<usize>,
    /// What is done here; none: a group of steps, or prose.
    pub step: Option<Step>,
    /// The sections below it; they come after its own step.
    pub sections: Vec<Section>,
}

impl Document {
    /// Reads the bytes of a file, or tells everything that is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Document, Vec<Finding>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Document::parse(text),
            Err(error) => {
                let right = bytes.get(..error.valid_up_to()).map(String::from_utf8_lossy).unwrap_or_default();
                let at = markdown::Lines::of(&right).at(right.len());
                Err(vec![at.error("is not UTF-8 from here on: save the file as UTF-8")])
            }
        }
    }

    /// Reads a text, or tells everything that is wrong with it, in the order of the file.
    pub fn parse(text: &str) -> Result<Document, Vec<Finding>> {
        if text.len() > LARGEST {
            return Err(vec![At::BEGIN.error("is larger than 1 MiB: nobody reads that under stress; divide it")]);
        }
        let (cuts, mut findings) = markdown::cut(text);
        let title = cuts.iter().position(|cut| cut.level == 1);
        let (mut head, mut parts) = (None, Vec::new());
        for (index, cut) in cuts.into_iter().enumerate() {
            let is_title = Some(index) == title;
            let mut blocks = cut.blocks.iter();
            if is_title {
                head = blocks.next().and_then(|block| read_head(text, block, &mut findings));
                findings.extend(blocks.map(|block| block.at.error(SECOND_HEAD)));
                parts.push((cut, None));
                continue;
            }
            if cut.level < 2 {
                findings.extend(blocks.map(|block| block.at.error(OUTSIDE)));
                continue;
            }
            if title.is_none_or(|title| index < title) {
                findings.extend(blocks.next().map(|block| block.at.error(NO_TITLE)));
                continue;
            }
            let draft = blocks.next().and_then(|block| read_step(text, block, &mut findings));
            findings.extend(blocks.map(|block| block.at.error(SECOND_BLOCK)));
            parts.push((cut, draft));
        }
        let mut parts = parts.into_iter();
        let title = parts.next().map(|(cut, _)| cut.title).unwrap_or_default();
        let sections = nest(&mut parts.peekable(), 1);
        let mut document = Document {
            title,
            digest: hex::encode(Sha256::digest(text.as_bytes())),
            head,
            sections,
            warnings: Vec::new(),
        };
        findings.extend(document.ids());
        findings.extend(document.is_whole(findings.iter().any(Finding::is_error)));
        let findings = in_order(findings);
        if findings.iter().any(Finding::is_error) {
            return Err(findings);
        }
        document.warnings = findings;
        Ok(document)
    }

    /// All sections, each before those below it: the order in which steps run.
    pub fn all(&self) -> Vec<&Section> {
        let mut found = Vec::new();
        self.sections.iter().for_each(|section| section.collect(&mut found));
        found
    }

    /// The ids of the runbooks that it runs.
    pub fn calls(&self) -> Vec<String> {
        let called = self.steps().filter_map(|(_, step)| match &step.action {
            Action::Runbook(call) => Some(call.runbook.value.clone()),
            _ => None,
        });
        called.collect()
    }

    /// The steps in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = (&Section, &Step)> {
        self.all().into_iter().filter_map(|section| Some((section, section.step.as_ref()?)))
    }

    /// The step or group with this id. Prose has none.
    pub fn find(&self, id: &str) -> Option<&Section> {
        self.all().into_iter().find(|section| section.id == id && section.holds_steps())
    }

    /// Steps and groups are called by id, so no two have the same.
    fn ids(&self) -> Vec<Finding> {
        let mut first: BTreeMap<&str, At> = BTreeMap::new();
        let mut findings = Vec::new();
        for section in self.all().into_iter().filter(|section| section.holds_steps()) {
            let id = section.id.as_str();
            if id.is_empty() {
                findings.push(
                    section.at.error("the heading gives no id: write one with letters, or id = \"…\" in its block"),
                );
            } else if RESERVED.contains(&id) {
                let message = format!("the id \"{id}\" means something else: change the heading, or write id = \"…\"");
                findings.push(section.at.error(message));
            } else if let Some(other) = first.get(id) {
                let line = other.line;
                let message =
                    format!("the id \"{id}\" stands in line {line} as well: change the heading, or write id = \"…\"");
                findings.push(section.at.error(message));
            } else {
                first.insert(id, section.at);
            }
        }
        findings
    }

    fn is_whole(&self, has_errors: bool) -> Option<Finding> {
        let step = self.steps().next();
        match (&self.head, step) {
            (None, Some((section, _))) if !has_errors => {
                let message =
                    "there are steps and no head: below the title, add a block of TOML with [runbook], id and summary";
                Some(section.at.error(message))
            }
            (_, None) if !has_errors => Some(At::BEGIN.warning("has no step: only for reading")),
            _ => None,
        }
    }
}

impl Section {
    /// Whether it is a step or a group: something that can be done.
    pub fn holds_steps(&self) -> bool {
        self.step.is_some() || self.sections.iter().any(Section::holds_steps)
    }

    fn collect<'s>(&'s self, found: &mut Vec<&'s Section>) {
        found.push(self);
        self.sections.iter().for_each(|section| section.collect(found));
    }
}

const SECOND_HEAD: &str =
    "a second block under the title: the first is the head, steps stand under headings of their own";
const SECOND_BLOCK: &str = "a second block under one heading: a step is one block; give this one a heading of its own";
const OUTSIDE: &str =
    "a block outside of the document: the head stands below the title, steps under headings of level 2 and more";
const NO_TITLE: &str = "a step and no title before it: begin the document with a heading of level 1";

fn read_head(text: &str, block: &Block, findings: &mut Vec<Finding>) -> Option<Head> {
    read(text, block, findings, |table| head::read(table, block.at))
}

fn read_step(text: &str, block: &Block, findings: &mut Vec<Finding>) -> Option<step::Draft> {
    read(text, block, findings, |table| {
        if head::is_head(table) {
            return Err(table
                .place
                .problem("the head stands here", "move it below the title, before the first heading"));
        }
        step::read(table, block.at)
    })
}

/// Reads a block; what is wrong stands in the lines of the file.
fn read<T>(
    text: &str,
    block: &Block,
    findings: &mut Vec<Finding>,
    read: impl FnOnce(&reading::Table<'_>) -> reading::Result<T>,
) -> Option<T> {
    let content = text.get(block.content.clone()).unwrap_or_default();
    let read = |table: &reading::Table<'_>| {
        refuse_secrets(table);
        read(table)
    };
    let of = |severity, problem| Finding::of(problem, severity, block.at);
    match reading::part(content, Path::new(""), block.at.line + 1, read) {
        Ok(found) => {
            findings.extend(found.warnings.into_iter().map(|warning| of(Severity::Warning, warning)));
            Some(found.value)
        }
        Err(problems) => {
            findings.extend(problems.into_iter().map(|problem| of(Severity::Error, problem)));
            None
        }
    }
}

/// Puts sections below those with a lower level. A heading has at most six levels, so this is never deeper.
fn nest(parts: &mut std::iter::Peekable<impl Iterator<Item = (Cut, Option<step::Draft>)>>, above: u8) -> Vec<Section> {
    let mut sections = Vec::new();
    while let Some((cut, draft)) = parts.next_if(|(cut, _)| cut.level > above) {
        let (id, step) = draft.map_or((None, None), |draft| (draft.id, Some(draft.step)));
        let id = id.unwrap_or_else(|| markdown::slug(&cut.title));
        let Cut { level, title, at, range: text, .. } = cut;
        sections.push(Section { id, title, level, at, text, step, sections: nest(parts, level) });
    }
    sections
}
