//! What a run would do, as a tree: nothing is run, nothing is asked.
//!
//! Durations are those that past runs took, where the caller knows them, else those that the author expects. The total is the longest
//! way through: of the branches of a fork, the longest counts. Steps without either are counted apart, never as nothing.

mod given;
mod lasting;

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::time::Span;
use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, Effect, Practice},
    check::Lookup,
    condition::{Condition, Known, Operand},
    document::{Document, Section},
    error::Finding,
    flow::{Choice, Flow},
    head::{Head, Kind},
    step::{Step, Undo},
    template::{Name, Template},
};

pub use lasting::{Lasts, Source};

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is run.
    Plan,
    /// The same steps, with sandboxes in place of production.
    Practice,
    /// It happens.
    Real,
}

impl Mode {
    /// The word in conditions.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Plan => "plan",
            Mode::Practice => "practice",
            Mode::Real => "real",
        }
    }
}

/// What a plan is made with.
pub struct Request<'a> {
    /// Values by name of parameter; what is missing has its default.
    pub parameters: BTreeMap<String, String>,
    /// What the run is for.
    pub mode: Mode,
    /// How long a step took in past runs, by id.
    pub past: &'a dyn Fn(&str) -> Option<Span>,
    /// Other runbooks by id, to be shown in place of the steps that run them.
    pub runbooks: Option<&'a Lookup<'a>>,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The document's title.
    pub title: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// What the run is for.
    pub mode: Mode,
    /// Parameters and their values; None: not given, and not needed.
    pub parameters: Vec<(String, Option<String>)>,
    /// Steps and groups.
    pub items: Vec<Item>,
    /// The longest way through.
    pub lasts: Lasts,
    /// What it changes outside of a sandbox, each once, in order.
    pub touches: Vec<String>,
    /// Who is asked for approval.
    pub approvals: Vec<Approval>,
    /// What practice cannot do or passes over, by step (`call/step` in a runbook that is run), and why.
    pub not_practised: Vec<(String, &'static str)>,
    /// What the whole relies on.
    pub needs: Vec<String>,
}

/// A step that waits for approval.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// The step.
    pub step: String,
    /// Who may say yes.
    pub role: String,
    /// How many of them.
    pub people: u32,
}

/// A step or a group in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// The line of its heading.
    pub line: usize,
    /// When it runs.
    pub runs: Runs,
    /// Its condition as it stands there, whatever is known of it.
    pub only_when: Option<String>,
    /// Whether it runs only if an answer leads to it.
    pub is_branch: bool,
    /// What is done; none: a group.
    pub step: Option<Planned>,
    /// What stands below it.
    pub items: Vec<Item>,
    /// The steps of the runbook that it runs.
    pub called: Vec<Item>,
}

/// When a step runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Runs {
    /// In its turn.
    Always,
    /// In its turn, if this holds: that is seen then.
    When(String),
    /// Not at all in this mode or with these parameters, because of this.
    Never(String),
    /// If one of these answers is given, as `step: answer`, with what else must hold.
    Chosen(Vec<String>),
    /// Only to take this step back.
    Undo(String),
}

/// What a step would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The action's word.
    pub action: &'static str,
    /// What it does, in one line; what is not known yet stands in `{{…}}`.
    pub words: String,
    /// What it does to the world.
    pub effect: Effect,
    /// The instances that it is about: the one that its action names, else those of the runbook's parameters. What is not known
    /// yet stands in `{{…}}`.
    pub instances: Vec<String>,
    /// What taking it back does to the world, and to which instances.
    pub back: Option<(Effect, Vec<String>)>,
    /// What it changes.
    pub touches: Vec<String>,
    /// What practice does.
    pub practice: Practice,
    /// How a run that was cut off finds out whether it was done.
    pub again: &'static str,
    /// How long it lasts, and who says so.
    pub lasts: Option<(Span, Source)>,
    /// How long it may last.
    pub timeout: Option<Span>,
    /// How often it is tried again.
    pub retries: u32,
    /// What happens when it fails.
    pub on_failure: &'static str,
    /// What takes it back, in words.
    pub undo: Option<String>,
    /// What it relies on.
    pub needs: Vec<String>,
    /// Who does it.
    pub role: Option<String>,
    /// How many people it waits for; 0: it is no approval.
    pub people: u32,
    /// Answers and where they lead.
    pub answers: Vec<(String, String)>,
}

/// Calls inside of calls; a circle is an error of the check, and here only cut off.
const DEEPEST: usize = 8;

impl Plan {
    /// Plans a run. What is wrong with the parameters is told at once, where each is declared.
    pub fn of(document: &Document, request: &Request<'_>) -> Result<Plan, Vec<Finding>> {
        let values = given::values(document.head.as_ref(), &request.parameters, request.mode)?;
        let flow = Flow::of(document);
        let head = document.head.as_ref();
        let planner = Planner { head, flow: &flow, request, values: &values, open: &BTreeSet::new(), depth: 0 };
        let items: Vec<Item> = document.sections.iter().filter_map(|section| planner.item(section)).collect();
        let mut plan = Plan {
            title: document.title.clone(),
            digest: document.digest.clone(),
            mode: request.mode,
            parameters: values.into_iter().collect(),
            lasts: lasting::sum(&items),
            items: Vec::new(),
            touches: Vec::new(),
            approvals: Vec::new(),
            not_practised: Vec::new(),
            needs: document.head.iter().flat_map(|head| head.needs.iter().map(|need| need.value.clone())).collect(),
        };
        items.iter().for_each(|item| plan.gather(item, ""));
        plan.items = items;
        Ok(plan)
    }

    /// Sums up what stands in an item; what never runs adds nothing.
    fn gather(&mut self, item: &Item, path: &str) {
        let id = if path.is_empty() { item.id.clone() } else { format!("{path}/{}", item.id) };
        if matches!(item.runs, Runs::Never(_)) {
            return self.not_practised.push((id, "its only_when does not hold"));
        }
        if let Some(step) = &item.step {
            let add = |list: &mut Vec<String>, new: &[String]| {
                new.iter().for_each(|one| {
                    if !list.contains(one) {
                        list.push(one.clone())
                    }
                });
            };
            add(&mut self.touches, &step.touches);
            add(&mut self.needs, &step.needs);
            if let Practice::Not(why) = step.practice {
                self.not_practised.push((id.clone(), why));
            }
            if let (Some(role), 1..) = (&step.role, step.people) {
                self.approvals.push(Approval { step: id.clone(), role: role.clone(), people: step.people });
            }
        }
        item.items.iter().for_each(|item| self.gather(item, path));
        item.called.iter().for_each(|item| self.gather(item, &id));
    }
}

/// One line that a terminal can show.
fn line(text: String) -> String {
    text.replace(char::is_control, " ")
}

fn condition(section: &Section) -> Option<&Condition> {
    section.step.as_ref()?.only_when.as_ref().map(|placed| &placed.value)
}

struct Planner<'p, 'r> {
    head: Option<&'p Head>,
    flow: &'p Flow<'p>,
    request: &'p Request<'r>,
    values: &'p BTreeMap<String, Option<String>>,
    /// Parameters whose value a step gives while the run goes on.
    open: &'p BTreeSet<String>,
    depth: usize,
}

impl Planner<'_, '_> {
    fn item(&self, section: &Section) -> Option<Item> {
        if !section.holds_steps() {
            return None;
        }
        Some(Item {
            id: section.id.clone(),
            title: section.title.clone(),
            line: section.at.line,
            runs: self.runs(section),
            only_when: condition(section).map(|condition| condition.text.clone()),
            is_branch: !self.flow.choices(&section.id).is_empty(),
            step: section.step.as_ref().map(|step| self.planned(&section.id, step)),
            items: section.sections.iter().filter_map(|section| self.item(section)).collect(),
            called: section.step.as_ref().map(|step| self.called(step)).unwrap_or_default(),
        })
    }

    /// The steps of the runbook that a step runs.
    fn called(&self, step: &Step) -> Vec<Item> {
        let Action::Runbook(call) = &step.action else { return Vec::new() };
        let lookup = self.request.runbooks.filter(|_| self.depth < DEEPEST);
        let Some(document) = lookup.and_then(|lookup| lookup(&call.runbook.value)) else { return Vec::new() };
        let (mut values, mut open) = (BTreeMap::<String, Option<String>>::new(), BTreeSet::new());
        for parameter in document.head.iter().flat_map(|head| &head.parameters) {
            let with = call.with.iter().find(|(name, _)| *name == parameter.name);
            let is_open = |name: &Name| !matches!(self.known(&Operand::Name(name.clone())), Known::Value(_));
            if with.is_some_and(|(_, template)| template.value.names().any(is_open)) {
                open.insert(parameter.name.clone());
            }
            let with = with.map(|(_, template)| self.show(&template.value));
            let default = || parameter.default.as_ref().map(|default| default.value.clone());
            values.insert(parameter.name.clone(), with.or_else(default));
        }
        let flow = Flow::of(document);
        let (head, depth) = (document.head.as_ref(), self.depth + 1);
        let inner = Planner { head, flow: &flow, request: self.request, values: &values, open: &open, depth };
        document.sections.iter().filter_map(|section| inner.item(section)).collect()
    }

    fn runs(&self, section: &Section) -> Runs {
        if let Some(undone) = self.flow.undoes(&section.id) {
            return Runs::Undo(undone.to_owned());
        }
        let open = match condition(section)
            .map(|condition| (condition.holds(&|operand| self.known(operand)), &condition.text))
        {
            Some((Some(false), text)) => return Runs::Never(text.clone()),
            Some((None, text)) => Some(text),
            Some((Some(true), _)) | None => None,
        };
        // A branch waits for its answer first, whatever else it waits for.
        match (self.flow.choices(&section.id), open) {
            ([], None) => Runs::Always,
            ([], Some(text)) => Runs::When(text.clone()),
            (choices, open) => {
                let and = open.map(|text| format!(" and {text}")).unwrap_or_default();
                let words = |choice: &Choice<'_>| format!("{}: {}{and}", choice.decide, choice.answer);
                Runs::Chosen(choices.iter().map(words).collect())
            }
        }
    }

    fn known(&self, operand: &Operand) -> Known {
        match operand {
            Operand::Mode if self.request.mode == Mode::Plan => Known::NotYet,
            Operand::Mode => Known::Value(self.request.mode.word().to_owned()),
            Operand::Name(Name::Parameter(name)) if self.open.contains(name) => Known::NotYet,
            Operand::Name(Name::Parameter(name)) => match self.values.get(name) {
                Some(Some(value)) => Known::Value(value.clone()),
                _ if self.request.mode == Mode::Plan => Known::NotYet,
                _ => Known::Nothing,
            },
            Operand::Name(Name::Output { .. }) => Known::NotYet,
            Operand::Text(text) => Known::Value(text.clone()),
        }
    }

    fn show(&self, template: &Template) -> String {
        template.fill(|name| match name {
            Name::Parameter(name) => self.values.get(name).cloned().flatten(),
            Name::Output { .. } => None,
        })
    }

    /// The instances that an action is about.
    fn instances(&self, action: &Action) -> Vec<String> {
        if let Some(named) = action.instance() {
            return vec![self.show(named)];
        }
        let declared = self.head.iter().flat_map(|head| &head.parameters);
        let of_kind = declared.filter(|parameter| parameter.kind == Kind::Instance);
        of_kind.filter_map(|parameter| self.values.get(&parameter.name).cloned().flatten()).collect()
    }

    fn planned(&self, id: &str, step: &Step) -> Planned {
        let show = |template: &Template| self.show(template);
        let (action, show): (&Action, &dyn Fn(&Template) -> String) = (&step.action, &show);
        let touches: Vec<String> = match &step.touches {
            Some(said) => said.iter().map(show).collect(),
            None => action.touches(show),
        };
        let touches = touches.into_iter().map(line).collect();
        let undo = step.undo.as_ref().map(|undo| match &undo.value {
            Undo::Action(action) => line(action.words(show)),
            Undo::Step(id) => format!("the step {id}"),
        });
        let back = step.undo.as_ref().and_then(|undo| match &undo.value {
            Undo::Action(action) => Some(&**action),
            Undo::Step(id) => Some(&self.flow.around(id).first()?.step.as_ref()?.action),
        });
        let answers = match action {
            Action::Decide(decide) => {
                decide.answers.iter().map(|(answer, target)| (answer.clone(), target.value.word().to_owned())).collect()
            }
            _ => Vec::new(),
        };
        let past = (self.request.past)(id).map(|span| (span, Source::Past));
        Planned {
            action: action.word(),
            words: line(action.words(show)),
            effect: action.effect(),
            instances: self.instances(action),
            back: back.map(|action| (action.effect(), self.instances(action))),
            touches,
            practice: action.practice(),
            again: action.again().words(),
            lasts: past.or(step.expected.as_ref().map(|expected| (expected.value, Source::Expected))),
            timeout: step.limit(),
            retries: step.retries.value,
            on_failure: step.on_failure.value.word(),
            undo,
            needs: step.needs.iter().map(|need| need.value.clone()).collect(),
            role: step.role.as_ref().map(|role| role.value.clone()),
            people: if let Action::Approve(approve) = action { approve.people } else { 0 },
            answers,
        }
    }
}
