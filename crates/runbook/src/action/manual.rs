//! `manual`: waits until a person has done what the section says, and has seen `look_for`.
//!
//! What a person does may change anything, so it counts as changing something unless `effect` says otherwise. The confirmation
//! stands in the journal; a run that was cut off asks again. Practice shows the section and asks whether it is understood.

use lifeboat_model::{
    config::reading::{Result, Table},
    time::Span,
};

use super::{Act, Again, Effect, Practice, Show};
use crate::template::Template;

/// Something that a person does.
#[derive(Debug, Clone, PartialEq)]
pub struct Manual {
    /// What is to be seen when it is done.
    pub look_for: Template,
    /// What it does.
    pub effect: Effect,
}

impl Manual {
    pub(crate) fn read(table: &Table<'_>) -> Result<Manual> {
        let hint = "say what is to be seen when it is done; what is to be done stands above the block";
        let look_for = table.required("look_for", hint, Template::of);
        let effect = table.optional("effect", Effect::read);
        Ok(Manual { look_for: look_for?, effect: effect?.unwrap_or(Effect::Changes) })
    }
}

impl Act for Manual {
    fn outputs(&self) -> &'static [&'static str] {
        &["who", "note"]
    }

    fn words(&self, show: Show<'_>) -> String {
        format!("a person does it; look for: {}", show(&self.look_for))
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn again(&self) -> Again {
        Again::Ask
    }

    fn practice(&self) -> Practice {
        match self.effect {
            Effect::Nothing => Practice::Same,
            _ => Practice::Instead("it is read and confirmed as understood, not done"),
        }
    }

    fn limit(&self) -> Option<Span> {
        None
    }
}
