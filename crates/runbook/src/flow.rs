//! Which steps run after which, by the structure alone.
//!
//! Steps run in the order of the document. Two kinds stand aside: a *branch*, which an answer of a `decide` names, runs only if it
//! was chosen, in its own place; an *undo*, which a step names, runs only to take that step back. Nothing ever runs
//! backwards, so every run ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    action::{
        Action,
        decide::{Decide, Target},
    },
    document::{Document, Section},
    step::Undo,
};

/// An answer that leads to a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'d> {
    /// The step that asks.
    pub decide: &'d str,
    /// The answer.
    pub answer: &'d str,
}

/// The order of a document's steps and groups.
#[derive(Debug)]
pub struct Flow<'d> {
    document: &'d Document,
    /// Steps and groups in their order, and which of them holds each.
    sections: Vec<(&'d Section, Option<usize>)>,
    places: BTreeMap<&'d str, usize>,
    branches: BTreeMap<&'d str, Vec<Choice<'d>>>,
    undoes: BTreeMap<&'d str, &'d str>,
}

impl<'d> Flow<'d> {
    /// Of a document.
    pub fn of(document: &'d Document) -> Flow<'d> {
        let mut sections = Vec::new();
        for section in &document.sections {
            list(section, None, &mut sections);
        }
        let places = sections.iter().enumerate().map(|(place, (section, _))| (section.id.as_str(), place)).collect();
        let (mut branches, mut undoes) = (BTreeMap::<&str, Vec<Choice<'d>>>::new(), BTreeMap::new());
        for (section, step) in document.steps() {
            if let Action::Decide(decide) = &step.action {
                for (answer, target) in branches_of(decide) {
                    branches.entry(target).or_default().push(Choice { decide: &section.id, answer });
                }
            }
            if let Some(Undo::Step(id)) = step.undo.as_ref().map(|undo| &undo.value) {
                undoes.insert(id.as_str(), section.id.as_str());
            }
        }
        Flow { document, sections, places, branches, undoes }
    }

    /// All ids, in order.
    pub fn ids(&self) -> Vec<&'d str> {
        self.sections.iter().map(|(section, _)| section.id.as_str()).collect()
    }

    /// The place of a step or group in the order; none: there is no such one.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// The answers that lead to a step or group; none: it runs anyway.
    pub fn choices(&self, id: &str) -> &[Choice<'d>] {
        self.branches.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The step that this one takes back.
    pub fn undoes(&self, id: &str) -> Option<&'d str> {
        self.undoes.get(id).copied()
    }

    /// A step or group and those that hold it, from the inside.
    pub fn around(&self, id: &str) -> Vec<&'d Section> {
        let mut around = Vec::new();
        let mut next = self.place(id);
        while let Some((section, above)) = next.and_then(|place| self.sections.get(place)) {
            around.push(*section);
            next = *above;
        }
        around
    }

    /// Whether it may be passed over, or not be in the way at all, when `reader` runs.
    pub fn may_be_left_out(&self, id: &str, reader: &str) -> bool {
        let shared: BTreeSet<&str> = self.around(reader).iter().map(|section| section.id.as_str()).collect();
        let mut own = self.around(id).into_iter().filter(|section| !shared.contains(section.id.as_str()));
        let is_conditional = |section: &Section| section.step.as_ref().is_some_and(|step| step.only_when.is_some());
        own.any(|section| {
            let is_aside = !self.choices(&section.id).is_empty() || self.undoes(&section.id).is_some();
            is_aside || is_conditional(section)
        })
    }

    /// Steps and groups that no run can reach, with the reason; what they hold is not told again.
    pub fn unreachable(&self) -> Vec<(&'d Section, &'static str)> {
        let mut walk = Walk { flow: self, alive: true, chosen: BTreeSet::new(), open: Vec::new(), dead: Vec::new() };
        for section in &self.document.sections {
            walk.visit(section);
        }
        walk.dead
    }
}

fn list<'d>(section: &'d Section, above: Option<usize>, sections: &mut Vec<(&'d Section, Option<usize>)>) {
    if section.holds_steps() {
        let place = sections.len();
        sections.push((section, above));
        section.sections.iter().for_each(|section| list(section, Some(place), sections));
    }
}

/// The answers of a fork that lead to branches.
pub(crate) fn branches_of(decide: &Decide) -> impl Iterator<Item = (&str, &str)> {
    decide.answers.iter().filter_map(|(answer, target)| match &target.value {
        Target::Branch(id) => Some((answer.as_str(), id.as_str())),
        Target::Continue | Target::End => None,
    })
}

/// A fork without `continue`: when all its branches end the run, nothing follows.
struct Fork<'d> {
    waiting: BTreeSet<&'d str>,
    goes_on: bool,
}

struct Walk<'f, 'd> {
    flow: &'f Flow<'d>,
    /// Whether a run can be here.
    alive: bool,
    /// Branches that a step which can be reached leads to.
    chosen: BTreeSet<&'d str>,
    open: Vec<Fork<'d>>,
    dead: Vec<(&'d Section, &'static str)>,
}

impl<'d> Walk<'_, 'd> {
    fn visit(&mut self, section: &'d Section) {
        let id = section.id.as_str();
        if !section.holds_steps() || self.flow.undoes(id).is_some() {
            return;
        }
        let is_branch = !self.flow.choices(id).is_empty();
        if !self.alive {
            return self.dead.push((section, "every way that leads here ends before it"));
        }
        if is_branch && !self.chosen.contains(id) {
            return self.dead.push((section, "only answers that cannot be given lead here"));
        }
        let outside = self.open.len();
        self.decide(section);
        section.sections.iter().for_each(|section| self.visit(section));
        if is_branch {
            // What ends in here ends only the runs that came here.
            self.open.truncate(outside);
            let goes_on = std::mem::replace(&mut self.alive, true);
            self.close(id, goes_on);
        }
    }

    fn decide(&mut self, section: &'d Section) {
        let Some(step) = &section.step else { return };
        let Action::Decide(decide) = &step.action else { return };
        let waiting: BTreeSet<&str> = branches_of(decide).map(|(_, target)| target).collect();
        self.chosen.extend(&waiting);
        let goes_on = decide.answers.iter().any(|(_, target)| target.value == Target::Continue);
        if goes_on || step.only_when.is_some() {
            return;
        }
        match waiting.is_empty() {
            true => self.alive = false,
            false => self.open.push(Fork { waiting, goes_on: false }),
        }
    }

    fn close(&mut self, branch: &str, goes_on: bool) {
        for fork in &mut self.open {
            if fork.waiting.remove(branch) {
                fork.goes_on |= goes_on;
                self.alive &= fork.goes_on || !fork.waiting.is_empty();
            }
        }
    }
}
