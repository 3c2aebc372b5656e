//! `decide`: chooses which later steps run, by what a person answers or by what a check finds.
//!
//! An answer names a later step or group, `continue` or `end`. What answers name is a *branch*: it runs only if it is chosen, and
//! then in its own place; the run goes on behind it. So a run only ever goes forward, and every run ends. The answer stands in the
//! journal: a resumed run does not ask again. Practice asks as well; a check asks the sandbox.

use lifeboat_model::{
    config::reading::{Result, Table},
    time::Span,
};

use super::{Act, Action, Again, Effect, Practice, Show, minutes, wait::looks};
use crate::{
    error::{At, Placed},
    template::Template,
    values::twice,
};

/// What a check can find, as answers.
pub const FOUND: [&str; 2] = ["passed", "failed"];

/// A fork.
#[derive(Debug, Clone, PartialEq)]
pub struct Decide {
    /// What tells.
    pub by: By,
    /// Answers in the order of the file, and where each leads.
    pub answers: Vec<(String, Placed<Target>)>,
}

/// What tells which way.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// A person, asked this.
    Question(Template),
    /// Whether this passes.
    Check(Box<Action>),
}

/// Where an answer leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To what follows.
    Continue,
    /// Nowhere: the run ends.
    End,
    /// To this branch as well.
    Branch(String),
}

impl Target {
    /// As it is written.
    pub fn word(&self) -> &str {
        match self {
            Target::Continue => crate::step::CONTINUE,
            Target::End => crate::step::END,
            Target::Branch(id) => id,
        }
    }
}

impl Decide {
    pub(crate) fn read(table: &Table<'_>) -> Result<Decide> {
        let question = table.optional("question", Template::of);
        let check = table.optional("check", looks);
        let hint = "say where answers lead: answers = { \"yes\" = \"step-id\", \"no\" = \"end\" }";
        let answers = table.required("answers", hint, |value| {
            let mut named = value.table()?.named();
            named.sort_by_key(|(_, value)| (value.place.line, value.place.column));
            let answers: Vec<Result<_>> = named
                .iter()
                .map(|(answer, value)| {
                    let target = match value.filled()? {
                        crate::step::CONTINUE => Target::Continue,
                        crate::step::END => Target::End,
                        id => Target::Branch(id.to_owned()),
                    };
                    Ok(((*answer).to_owned(), Placed { value: target, at: At::from(&value.place) }))
                })
                .collect();
            let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
            match answers.len() {
                0 | 1 => Err(value.place.problem("there is nothing to choose from", "give at least two answers")),
                _ => Ok(answers),
            }
        });
        let by = match (question?, check?) {
            (Some(_), Some(_)) => return Err(twice(table, "check", "question")),
            (Some(question), None) => By::Question(question),
            (None, Some(check)) => By::Check(Box::new(check)),
            (None, None) => {
                let hint = "add question = \"…\" for a person, or check = { action = \"sql\", … }";
                return Err(table.missing("question", hint));
            }
        };
        let answers = answers?;
        if matches!(by, By::Check(_))
            && !answers.iter().map(|(answer, _)| answer.as_str()).all(|it| FOUND.contains(&it))
        {
            let place = table.get_hidden("answers").map_or_else(|| table.place.clone(), |value| value.place);
            return Err(place.problem("a check finds \"passed\" or \"failed\"", "name exactly these two answers"));
        }
        Ok(Decide { by, answers })
    }
}

impl Act for Decide {
    fn outputs(&self) -> &'static [&'static str] {
        &["answer"]
    }

    fn words(&self, show: Show<'_>) -> String {
        match &self.by {
            By::Question(question) => format!("decide: {}", show(question)),
            By::Check(check) => format!("decide by this: {}", check.words(show)),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        match &self.by {
            By::Question(_) => Again::Look("the answer stands in the journal"),
            // It changes nothing.
            By::Check(_) => Again::Harmless,
        }
    }

    fn practice(&self) -> Practice {
        match &self.by {
            By::Question(_) => Practice::Same,
            By::Check(check) => check.practice(),
        }
    }

    fn limit(&self) -> Option<Span> {
        match &self.by {
            By::Question(_) => None,
            By::Check(check) => check.limit().or(Some(minutes(10))),
        }
    }
}
