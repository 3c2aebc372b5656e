//! `approve`: waits for people who may say yes. The step's `role` says who; `people = 2` wants two of them, neither of whom is
//! whoever runs the runbook.
//!
//! What was said stands in the journal, so a resumed run does not ask again. Practice asks as well: people are part of it.

use lifeboat_model::{
    config::reading::{Result, Table, Value},
    time::Span,
};

use super::{Act, Again, Effect, Practice, Show};
use crate::{error::Placed, step::placed, template::Template, values::name};

/// A question to people with a say.
#[derive(Debug, Clone, PartialEq)]
pub struct Approve {
    /// Who may say yes.
    pub role: Placed<String>,
    /// What they say yes to.
    pub question: Template,
    /// How many of them.
    pub people: u32,
    /// Whether each must say why.
    pub comment: bool,
}

impl Approve {
    pub(crate) fn read(table: &Table<'_>) -> Result<Approve> {
        let role = table.required("role", "say who may approve: role = \"…\"", |value| placed(value, name));
        let question = table.required("question", "say what is approved", Template::of);
        let people = table.optional("people", |value| value.whole(1, 5));
        let comment = table.optional("comment", Value::flag);
        Ok(Approve {
            role: role?,
            question: question?,
            people: people?.and_then(|people| u32::try_from(people).ok()).unwrap_or(1),
            comment: comment?.unwrap_or(false),
        })
    }
}

impl Act for Approve {
    fn outputs(&self) -> &'static [&'static str] {
        &["who", "comment"]
    }

    fn words(&self, show: Show<'_>) -> String {
        let many = if self.people == 1 { String::new() } else { format!("{} of ", self.people) };
        format!("{many}{} approve: {}", self.role.value, show(&self.question))
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Look("what was said stands in the journal")
    }

    fn practice(&self) -> Practice {
        Practice::Same
    }

    fn limit(&self) -> Option<Span> {
        None
    }
}
