//! `wait`: for a time, until a moment, or until something is so (`until`, asked again `every`).
//!
//! It looks and changes nothing. A wait that was cut off goes on: what has passed since its begin counts. Practice waits for
//! what can be so in a sandbox, and not for time.

use jiff::Timestamp;
use lifeboat_model::{
    config::reading::{Result, Table, Value},
    time::Span,
};

use super::{Act, Action, Again, Effect, Practice, Show, minutes};
use crate::{
    step::inline,
    template::Template,
    values::{template_of, twice},
};

/// Waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait(pub For);

/// For what.
#[derive(Debug, Clone, PartialEq)]
pub enum For {
    /// A time.
    Time(Template),
    /// A moment.
    Moment(Template),
    /// Until this passes.
    Passes {
        /// What is asked; it changes nothing.
        check: Box<Action>,
        /// How often.
        every: Span,
    },
}

impl Wait {
    pub(crate) fn read(table: &Table<'_>) -> Result<Wait> {
        let time = table.optional("for", |value| template_of::<Span>(value).map(For::Time));
        let moment = table.optional("until_moment", |value| template_of::<Timestamp>(value).map(For::Moment));
        let check = table.optional("until", looks);
        let every = table.optional("every", |value| value.span("1s", "1h"));
        let (time, moment, check, every) = (time?, moment?, check?, every?);
        match (time, moment, check) {
            (Some(_), Some(_), _) => Err(twice(table, "until_moment", "for")),
            (Some(_), _, Some(_)) => Err(twice(table, "until", "for")),
            (_, Some(_), Some(_)) => Err(twice(table, "until", "until_moment")),
            (None, None, Some(check)) => {
                let every = every.unwrap_or(Span(std::time::Duration::from_secs(5)));
                Ok(Wait(For::Passes { check: Box::new(check), every }))
            }
            (time, moment, None) => {
                let hint = "say for what: for = \"5m\", until_moment = \"…\" or until = { action = \"http\", … }";
                time.or(moment).map(Wait).ok_or_else(|| table.missing("for", hint))
            }
        }
    }
}

/// An action that is asked, and must not change anything.
pub(crate) fn looks(value: &Value<'_>) -> Result<Action> {
    let action = inline(value, "check")?;
    match action.effect() {
        Effect::Nothing => Ok(action),
        _ => {
            Err(value.place.problem("this changes something", "give it a heading, and ask here with sql, http or odoo"))
        }
    }
}

impl Act for Wait {
    fn words(&self, show: Show<'_>) -> String {
        match &self.0 {
            For::Time(time) => format!("wait for {}", show(time)),
            For::Moment(moment) => format!("wait until {}", show(moment)),
            For::Passes { check, every } => format!("wait until this passes, every {every}: {}", check.words(show)),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Harmless
    }

    fn practice(&self) -> Practice {
        match &self.0 {
            For::Passes { check, .. } => check.practice(),
            _ => Practice::Not("time is not practised"),
        }
    }

    /// A time has its own end; what is asked for may never be so.
    fn limit(&self) -> Option<Span> {
        matches!(self.0, For::Passes { .. }).then(|| minutes(30))
    }
}
