//! What steps do: a file an action, each with what it may say, and with the answers that plan, practice and a resumed run need.
//!
//! Every action is read key by key: an unknown key is a finding with its line, and all findings of a block are told at once.

pub mod approve;
pub mod command;
pub mod decide;
pub mod dns;
pub mod http;
pub mod kubernetes;
pub mod manual;
pub mod notify;
pub mod odoo;
pub mod promote;
pub mod restore;
pub mod runbook;
pub mod server;
pub mod service;
pub mod sql;
pub mod verify;
pub mod wait;
pub mod webhook;

use lifeboat_model::{
    config::reading::{Result, Table, Value},
    time::Span,
};

use crate::{template::Template, values::one_of};

/// How a template is shown: with what is known filled in.
pub type Show<'s> = &'s dyn Fn(&Template) -> String;

/// What an action does to the world outside of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It looks, waits or asks; or writes where nothing was.
    Nothing,
    /// It changes something, and that can be taken back.
    Changes,
    /// What it takes away does not come back by itself: an approver is wanted.
    Destroys,
}

impl Effect {
    const WORDS: [(&str, Effect); 3] =
        [("nothing", Effect::Nothing), ("changes", Effect::Changes), ("destroys", Effect::Destroys)];

    /// The word in a file.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, effect)| *effect == self).map_or("", |(word, _)| word)
    }

    /// Reads `effect`: what an author says of what cannot be seen from here.
    pub(crate) fn read(value: &Value<'_>) -> Result<Effect> {
        one_of(value, &Self::WORDS)
    }
}

/// How a run that was cut off in the middle of a step finds out whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Twice is as once: it is done again.
    Harmless,
    /// This is looked at first.
    Look(&'static str),
    /// The step's own `done_when` is asked.
    Probe,
    /// Nobody can tell: a person is asked.
    Ask,
}

impl Again {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Again::Harmless => "is done again: twice is as once",
            Again::Look(what) => what,
            Again::Probe => "its done_when is asked",
            Again::Ask => "a person is asked whether it was done",
        }
    }
}

/// What a practice run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Practice {
    /// The same.
    Same,
    /// The same, with this in place of production.
    Instead(&'static str),
    /// Nothing, for this reason: listed as not practised.
    Not(&'static str),
}

/// What plan and executor ask of every action.
pub trait Act {
    /// What it gives to later steps, besides `outcome`.
    fn outputs(&self) -> &'static [&'static str] {
        &[]
    }
    /// What it does, in one line.
    fn words(&self, show: Show<'_>) -> String;
    /// What it does to the world outside of a sandbox.
    fn effect(&self) -> Effect;
    /// Whether it was done, after a crash.
    fn again(&self) -> Again;
    /// What practice does.
    fn practice(&self) -> Practice;
    /// What it changes, as far as that can be told from here.
    fn touches(&self, _show: Show<'_>) -> Vec<String> {
        Vec::new()
    }
    /// How long it may take where the step does not say; none: without end.
    fn limit(&self) -> Option<Span> {
        Some(minutes(10))
    }
}

/// What waits for people or for time, or goes elsewhere: neither undoes nor checks anything.
pub(crate) const FOR_STEPS_ONLY: [&str; 5] = ["approve", "decide", "manual", "wait", "runbook"];

macro_rules! actions {
    ($($(#[$doc:meta])* $word:literal $name:ident($type:ty)),+ $(,)?) => {
        /// What a step does.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Action {
            $($(#[$doc])* $name($type)),+
        }

        impl Action {
            /// The words in files, in the order of the documentation.
            pub const WORDS: [&'static str; [$($word),+].len()] = [$($word),+];

            /// Its word.
            pub fn word(&self) -> &'static str {
                match self {
                    $(Action::$name(_) => $word),+
                }
            }

            /// Reads what stands beside `action = "<word>"`; the step reads its own keys of the same table.
            pub(crate) fn read(word: &str, table: &Table<'_>) -> Result<Action> {
                match word {
                    $($word => <$type>::read(table).map(Action::$name),)+
                    _ => Err(table.place.problem("not something that can be done", "")),
                }
            }
        }

        impl std::ops::Deref for Action {
            type Target = dyn Act;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Action::$name(act) => act),+
                }
            }
        }
    };
}

actions! {
    /// Brings an instance back.
    "restore" Restore(restore::Restore),
    /// Starts containers, a unit or a Compose project.
    "start" Start(service::Start),
    /// Stops them.
    "stop" Stop(service::Stop),
    /// Makes a standby the primary.
    "promote" Promote(promote::Promote),
    /// Asks or tells a PostgreSQL server.
    "sql" Sql(sql::Sql),
    /// Asks a web server.
    "http" Http(http::Http),
    /// Asks an Odoo.
    "odoo" Odoo(odoo::Odoo),
    /// Runs a program on this host.
    "command" Command(command::Command),
    /// Points a name elsewhere, or waits until it points there.
    "dns" Dns(dns::Dns),
    /// Tells another system to do something.
    "webhook" Webhook(webhook::Webhook),
    /// Scales, applies or waits in a cluster.
    "kubernetes" Kubernetes(kubernetes::Kubernetes),
    /// Climbs rungs of the drill's ladder on the recovered system.
    "verify" Verify(verify::Verify),
    /// Tells people.
    "notify" Notify(notify::Notify),
    /// Waits for people who may say yes.
    "approve" Approve(approve::Approve),
    /// Waits until a person has done something.
    "manual" Manual(manual::Manual),
    /// Waits for time, or until something is so.
    "wait" Wait(wait::Wait),
    /// Chooses which steps run.
    "decide" Decide(decide::Decide),
    /// Runs another runbook.
    "runbook" Runbook(runbook::Runbook),
}

impl Action {
    /// The instance that it names; none: it is about something else, or what it is about cannot be seen from here.
    pub fn instance(&self) -> Option<&Template> {
        match self {
            Action::Restore(restore) => Some(&restore.instance),
            Action::Verify(verify) => Some(&verify.instance),
            Action::Sql(sql) => sql.server.instance(),
            Action::Promote(promote) => promote.standby.instance(),
            _ => None,
        }
    }
}

/// A span of minutes.
pub(crate) fn minutes(number: u64) -> Span {
    Span(std::time::Duration::from_secs(number * 60))
}
