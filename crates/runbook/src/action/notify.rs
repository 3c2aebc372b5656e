//! `notify`: tells people, by channels of the daemon's settings or by what the terminal shows.
//!
//! Nothing but people's knowledge changes. A message that may have been sent is sent again: twice is better than never.
//! Practice shows it and sends nothing.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show, minutes};
use crate::template::Template;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// Channels by name; where there is no daemon, the message is shown for somebody to send.
    pub channels: Vec<String>,
    /// Its first line.
    pub subject: Template,
    /// The rest.
    pub message: Option<Template>,
}

impl Notify {
    pub(crate) fn read(table: &Table<'_>) -> Result<Notify> {
        let hint = "name the channels that are told: channels = [\"oncall\"]";
        let text = |value: &Value<'_>| value.filled().map(str::to_owned);
        let channels = table.required("channels", hint, |value| value.filled_list_of(hint, text));
        let subject = table.required("subject", "say it in one line", Template::of);
        let message = table.optional("message", Template::of);
        Ok(Notify { channels: channels?, subject: subject?, message: message? })
    }
}

impl Act for Notify {
    fn words(&self, show: Show<'_>) -> String {
        format!("tell {}: {}", self.channels.join(", "), show(&self.subject))
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Harmless
    }

    fn practice(&self) -> Practice {
        Practice::Instead("the message is shown, not sent")
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(minutes(2))
    }
}
