//! `runbook`: runs another runbook as a step of this one, with parameters of its own.
//!
//! Its steps stand in the same journal, so a run that was cut off goes on inside it. What it changes and how it is practised
//! is what its steps say.

use lifeboat_model::{
    config::reading::{Result, Table},
    time::Span,
};

use super::{Act, Again, Effect, Practice, Show};
use crate::{
    error::{At, Placed},
    step::placed,
    template::Template,
    values::name,
};

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Runbook {
    /// Its id.
    pub runbook: Placed<String>,
    /// Its parameters.
    pub with: Vec<(String, Placed<Template>)>,
}

impl Runbook {
    pub(crate) fn read(table: &Table<'_>) -> Result<Runbook> {
        let runbook = table.required("runbook", "name the other runbook by its id", |value| placed(value, name));
        let with = table.optional("with", |value| {
            let named = value.table()?.named();
            let read = |(name, value): &(&str, _)| {
                let at = At::from(&lifeboat_model::config::reading::Value::clone(value).place);
                Template::of(value).map(|template| ((*name).to_owned(), Placed { value: template, at }))
            };
            let read: Vec<Result<_>> = named.iter().map(read).collect();
            read.into_iter().collect::<Result<Vec<_>>>()
        });
        Ok(Runbook { runbook: runbook?, with: with?.unwrap_or_default() })
    }
}

impl Act for Runbook {
    fn words(&self, show: Show<'_>) -> String {
        let with: Vec<String> =
            self.with.iter().map(|(name, value)| format!("{name} = {}", show(&value.value))).collect();
        let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
        format!("run the runbook {}{with}", self.runbook.value)
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Look("its own steps stand in the journal")
    }

    fn practice(&self) -> Practice {
        Practice::Same
    }

    /// Its steps have limits of their own.
    fn limit(&self) -> Option<Span> {
        None
    }
}
