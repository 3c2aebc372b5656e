//! What only the whole can tell: whether everything that is named is there, in time and of the right kind; whether every step can
//! be reached; and what its author probably did not mean to leave out.
//!
//! [`Document::parse`] has told what is wrong with single blocks. Both together are `lifeboat runbook check`, and the
//! executor begins nothing that has an error here.

mod consent;
mod map;
mod names;
mod paths;
mod promises;
mod sense;
mod surroundings;

use lifeboat_model::{config::Config, id::Instance};

pub use self::map::{Reliance, reliances};

use crate::{
    document::Document,
    error::{Finding, in_order},
    flow::Flow,
};

/// What stands around a runbook. All of it may be missing, as by default: it is executed when much is broken.
#[derive(Default)]
pub struct Surroundings<'a> {
    /// `lifeboat.toml`.
    pub config: Option<&'a Config>,
    /// The instance that it is to be executed for.
    pub instance: Option<&'a Instance>,
    /// Other runbooks by id; none of them is checked here. None: they are not known, and not looked for.
    pub runbooks: Option<&'a Lookup<'a>>,
}

/// Finds a runbook by its id.
pub type Lookup<'a> = dyn Fn(&str) -> Option<&'a Document> + 'a;

/// Everything that is wrong with a runbook or doubtful in it, in the order of the file; what parsing found included.
pub fn check(document: &Document, around: &Surroundings<'_>) -> Vec<Finding> {
    let flow = Flow::of(document);
    let mut findings = document.warnings.clone();
    findings.extend(names::check(document, &flow));
    findings.extend(paths::check(document, &flow));
    findings.extend(promises::check(document, &flow));
    findings.extend(surroundings::check(document, around));
    findings.extend(sense::check(document));
    findings.extend(consent::check(document, around.runbooks));
    in_order(findings)
}
