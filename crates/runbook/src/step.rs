//! A step: what is done ([`Action`]), and what every step may say of when, how long, how often and what if not.

use std::time::Duration;

use lifeboat_model::{
    config::reading::{Result, Table, Value},
    time::Span,
};

use crate::{
    action::{self, Action},
    condition::Condition,
    error::{At, Placed},
    template::{Name, Template},
    values::{name, one_of, suggest},
};

/// As the target of an answer: go on with what follows.
pub const CONTINUE: &str = "continue";
/// As the target of an answer: the run ends here.
pub const END: &str = "end";
/// What every step gives, besides what its action gives.
pub const OUTCOME: &str = "outcome";
/// What [`OUTCOME`] can be.
pub const OUTCOMES: [&str; 3] = ["passed", "failed", "skipped"];

/// Not at once: what failed a moment ago often fails again.
const DEFAULT_RETRY_AFTER: Span = Span(Duration::from_secs(10));

/// A block under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Where the block begins.
    pub at: At,
    /// How long it may take. None: what its action says; people are waited for without end.
    pub timeout: Option<Placed<Span>>,
    /// How often it is tried again.
    pub retries: Placed<u32>,
    /// Not before this has passed.
    pub retry_after: Span,
    /// What happens when it fails after all tries.
    pub on_failure: Placed<OnFailure>,
    /// It, and what stands below it, is passed over unless this holds.
    pub only_when: Option<Placed<Condition>>,
    /// How long it should take.
    pub expected: Option<Placed<Span>>,
    /// What takes it back.
    pub undo: Option<Placed<Undo>>,
    /// What it relies on, by name or kind of the dependency map.
    pub needs: Vec<Placed<String>>,
    /// What it changes, for people. None: what its action says.
    pub touches: Option<Vec<Template>>,
    /// Who does it, or decides.
    pub role: Option<Placed<String>>,
    /// Everything that `{{…}}` asks for in it, and where.
    pub asks: Vec<(Name, At)>,
    /// What an action that takes it back asks for.
    pub undo_asks: Vec<Name>,
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The run stops and can be resumed.
    Stop,
    /// It goes on; the outcome is `failed`.
    Continue,
    /// What was done is taken back, the last first; then the run ends.
    Rollback,
    /// A person chooses among these and trying again.
    Ask,
}

impl OnFailure {
    const WORDS: [(&str, OnFailure); 4] = [
        ("stop", OnFailure::Stop),
        ("continue", OnFailure::Continue),
        ("rollback", OnFailure::Rollback),
        ("ask", OnFailure::Ask),
    ];

    /// The word in a file.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, meaning)| *meaning == self).map_or("", |(word, _)| word)
    }
}

/// What takes a step back.
#[derive(Debug, Clone, PartialEq)]
pub enum Undo {
    /// This.
    Action(Box<Action>),
    /// The step with this id, which runs for no other reason.
    Step(String),
}

/// A step, and the id that it gives itself.
#[derive(Debug)]
pub(crate) struct Draft {
    pub id: Option<String>,
    pub step: Step,
}

pub(crate) fn read(table: &Table<'_>, at: At) -> Result<Draft> {
    let hint = format!("say what is done: {}", Action::WORDS.join(", "));
    // The word decides what else may stand here: without it nothing can be told of the rest.
    let word = table.required("action", &hint, word)?;
    let action = Action::read(word, table);
    let id = table.optional("id", name);
    let timeout = table.optional("timeout", |value| placed(value, |value| value.span("1s", "7d")));
    let retries = table.optional("retries", |value| {
        let number = value.whole(0, 100)?;
        Ok(Placed { value: u32::try_from(number).unwrap_or(0), at: At::from(&value.place) })
    });
    let retry_after = table.optional("retry_after", |value| value.span("1s", "1d"));
    let on_failure = table.optional("on_failure", |value| placed(value, |value| one_of(value, &OnFailure::WORDS)));
    let only_when = table.optional("only_when", condition);
    let expected = table.optional("expected", |value| placed(value, |value| value.span("1s", "7d")));
    let mut undo_asks = Vec::new();
    let undo = table.optional("undo", |value| {
        value.texts(&mut |value, text| {
            undo_asks.extend(Template::names_in(value, text).into_iter().map(|(name, _)| name))
        });
        placed(value, undo)
    });
    let needs = table.optional("needs", |value| value.list_of(|value| placed(value, name)));
    // An empty list is an answer: nothing outside changes.
    let touches = table.optional("touches", |value| value.list()?.iter().map(Template::of).collect::<Result<Vec<_>>>());
    let role = table.optional("role", |value| placed(value, name));
    table.finish();
    let mut asks = Vec::new();
    table.texts(&mut |value, text| asks.extend(Template::names_in(value, text)));
    let step = Step {
        action: action?,
        at,
        timeout: timeout?,
        retries: retries?.unwrap_or(Placed { value: 0, at }),
        retry_after: retry_after?.unwrap_or(DEFAULT_RETRY_AFTER),
        on_failure: on_failure?.unwrap_or(Placed { value: OnFailure::Stop, at }),
        only_when: only_when?,
        expected: expected?,
        undo: undo?,
        needs: needs?.unwrap_or_default(),
        touches: touches?,
        role: role?,
        asks,
        undo_asks,
    };
    Ok(Draft { id: id?, step })
}

impl Step {
    /// What it gives to later steps.
    pub fn outputs(&self) -> Vec<&'static str> {
        self.action.outputs().iter().copied().chain([OUTCOME]).collect()
    }

    /// How long it may take; none: people are waited for without end.
    pub fn limit(&self) -> Option<Span> {
        self.timeout.as_ref().map(|timeout| timeout.value).or_else(|| self.action.limit())
    }
}

fn word(value: &Value<'_>) -> Result<&'static str> {
    let text = value.filled()?;
    let known = Action::WORDS.iter().find(|word| **word == text);
    known.copied().ok_or_else(|| value.place.problem("not something that can be done", suggest(text, &Action::WORDS)))
}

/// What `read` makes of a value, and where it stands.
pub(crate) fn placed<T>(value: &Value<'_>, read: impl FnOnce(&Value<'_>) -> Result<T>) -> Result<Placed<T>> {
    read(value).map(|read| Placed { value: read, at: At::from(&value.place) })
}

fn condition(value: &Value<'_>) -> Result<Placed<Condition>> {
    let text = value.filled()?;
    match Condition::parse(text) {
        Ok(condition) => Ok(Placed { value: condition, at: At::from(&value.place) }),
        Err(wrong) => {
            let rest = text.get(wrong.at..).unwrap_or_default();
            let place = match rest.is_empty() {
                true => value.place.clone(),
                false => value.place_of(rest, text.matches(rest).count().saturating_sub(1)),
            };
            Err(place.problem(wrong.message, "for example: mode == 'real' and restore.outcome == 'passed'"))
        }
    }
}

fn undo(value: &Value<'_>) -> Result<Undo> {
    match value.is_text() {
        true => name(value).map(Undo::Step),
        false => inline(value, "undo").map(|action| Undo::Action(Box::new(action))),
    }
}

/// An action in a table of its own, without what only steps may say.
pub(crate) fn inline(value: &Value<'_>, key: &str) -> Result<Action> {
    let table = value.table()?;
    let hint = format!("write {key} = {{ action = \"…\", … }}");
    let word = table.required("action", &hint, word)?;
    if action::FOR_STEPS_ONLY.contains(&word) {
        let place = table.get_hidden("action").map_or_else(|| table.place.clone(), |value| value.place);
        return Err(place.problem(format!("\"{word}\" is a step of its own"), "give it a heading"));
    }
    let action = Action::read(word, &table);
    table.finish();
    action
}
