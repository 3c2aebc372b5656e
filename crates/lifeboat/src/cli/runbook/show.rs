//! `lifeboat runbook show`: the plan of a run as a tree.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, ValueEnum};
use lifeboat_model::{id::Instance, time::Span};
use lifeboat_runbook::{
    action::{Effect, Practice},
    check::{self, Reliance},
    document::Document,
    plan::{Item, Lasts, Mode, Plan, Planned, Runs, Source},
};
use serde::Serialize;

use super::{
    Book,
    history::{History, Rehearsed},
    selection::SelectionArgs,
};
use crate::{
    cli::Session,
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, count},
};

/// Show what a run would do, as a tree with durations; nothing is run
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    selection: SelectionArgs,
    /// What the run would be for
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ModeArg::Plan)]
    mode: ModeArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    /// To be read: what is decided by the mode stays open
    Plan,
    /// With sandboxes in place of production
    Practice,
    /// For real
    Real,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let mode = self.mode();
        let selected = self.selection.open(session)?;
        let (book, document) = (selected.book()?, selected.document()?);
        let history = History::look(session, &selected.around).await;
        let lasted = match book.id() {
            Some(id) => history.lasted(&selected.around, id).await,
            None => BTreeMap::new(),
        };
        let past = |step: &str| lasted.get(step).copied();
        let plan = selected.plan(mode, &past)?;
        let instance = selected.instance(&plan);
        let config = selected.around.config.as_ref();
        let reliances = config.and_then(|config| check::reliances(document, config, instance.as_ref()));
        let dependencies = reliances.map(|(name, reliances)| ShownMap::new(name, &reliances));
        let steps = document.steps().next();
        let rehearsed = book.id().filter(|_| steps.is_some());
        let rehearsed = rehearsed.map(|id| {
            let look = |id: &str| selected.other(id).and_then(Book::document);
            history.rehearsed(id, document, look, instance.as_ref())
        });
        session.output.show(&Shown { dependencies, rehearsed, ..Shown::new(book, document, plan) })?;
        Ok(Exit::Ok)
    }

    fn mode(&self) -> Mode {
        match self.mode {
            ModeArg::Plan => Mode::Plan,
            ModeArg::Practice => Mode::Practice,
            ModeArg::Real => Mode::Real,
        }
    }
}

#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    id: Option<String>,
    title: String,
    version: Option<String>,
    sha256: String,
    /// Whether this very text was practised, for the instance where there is one; none: it has no steps to practise.
    rehearsed: Option<Rehearsed>,
    mode: &'static str,
    parameters: Vec<ShownParameter>,
    rto_seconds: Option<u64>,
    /// The longest way through, as far as it is known.
    lasts_seconds: f64,
    /// Steps on it of which no duration is known.
    lasts_unknown: usize,
    needs: Vec<String>,
    /// What the instance cannot work without; none: its map is not known.
    dependencies: Option<ShownMap>,
    touches: Vec<String>,
    approvals: Vec<ShownApproval>,
    not_practised: Vec<NotPractised>,
    items: Vec<ShownItem>,
}

#[derive(Serialize)]
struct ShownMap {
    instance: String,
    map: Vec<ShownDependency>,
}

#[derive(Serialize)]
struct ShownDependency {
    name: String,
    kind: &'static str,
    address: String,
    note: Option<String>,
    /// Whether the head or a step names it.
    needed: bool,
    /// Steps that name it.
    steps: Vec<String>,
}

impl ShownMap {
    fn new(instance: &Instance, reliances: &[Reliance<'_>]) -> ShownMap {
        let of = |one: &Reliance<'_>| ShownDependency {
            name: one.name.to_string(),
            kind: one.dependency.kind.word(),
            address: one.dependency.address.clone(),
            note: one.dependency.note.clone(),
            needed: !one.is_forgotten(),
            steps: one.steps.clone(),
        };
        ShownMap { instance: instance.to_string(), map: reliances.iter().map(of).collect() }
    }

    fn text(&self, page: &mut Page) {
        if self.map.is_empty() {
            return;
        }
        page.heading(format_args!("What {} cannot work without", self.instance));
        let mut rows = Rows::new(&["dependency", "kind", "where", "in this runbook"]);
        for one in &self.map {
            let steps = one.steps.join(", ");
            let (tone, said) = match (one.needed, one.steps.is_empty()) {
                (false, _) => (Tone::Doubtful, "forgotten: say what to do without it"),
                (true, true) => (Tone::Plain, "needed"),
                (true, false) => (Tone::Plain, steps.as_str()),
            };
            let plain = |text| (Tone::Plain, text);
            rows.row([plain(one.name.as_str()), plain(one.kind), plain(one.address.as_str()), (tone, said)]);
        }
        page.table(rows);
    }
}

#[derive(Serialize)]
struct ShownParameter {
    name: String,
    value: Option<String>,
}

#[derive(Serialize)]
struct ShownApproval {
    step: String,
    role: String,
    people: u32,
}

#[derive(Serialize)]
struct NotPractised {
    step: String,
    why: &'static str,
}

#[derive(Serialize)]
struct ShownItem {
    id: String,
    title: String,
    line: usize,
    /// `always`, `when`, `never`, `chosen` or `undo`.
    runs: &'static str,
    /// The condition, the answers, or the step that is taken back.
    because: Vec<String>,
    step: Option<ShownStep>,
    items: Vec<ShownItem>,
    called: Vec<ShownItem>,
}

#[derive(Serialize)]
struct ShownStep {
    action: &'static str,
    words: String,
    effect: &'static str,
    touches: Vec<String>,
    /// `same`, `instead` or `not`.
    practice: &'static str,
    practice_words: &'static str,
    after_a_crash: &'static str,
    lasts_seconds: Option<f64>,
    /// `past` or `expected`.
    lasts_by: Option<&'static str>,
    timeout_seconds: Option<u64>,
    retries: u32,
    on_failure: &'static str,
    undo: Option<String>,
    needs: Vec<String>,
    role: Option<String>,
    answers: Vec<ShownAnswer>,
}

#[derive(Serialize)]
struct ShownAnswer {
    answer: String,
    leads_to: String,
}

impl Shown {
    fn new(book: &Book, document: &Document, plan: Plan) -> Shown {
        let head = document.head.as_ref();
        let Lasts { known, unknown } = plan.lasts;
        Shown {
            file: book.file.clone(),
            id: book.id().map(str::to_owned),
            title: plan.title,
            version: head.and_then(|head| head.version.clone()),
            sha256: plan.digest,
            mode: plan.mode.word(),
            parameters: plan.parameters.into_iter().map(|(name, value)| ShownParameter { name, value }).collect(),
            rto_seconds: head.and_then(|head| head.rto.as_ref()).map(|rto| rto.value.0.as_secs()),
            lasts_seconds: known.0.as_secs_f64(),
            lasts_unknown: unknown,
            needs: plan.needs,
            dependencies: None,
            rehearsed: None,
            touches: plan.touches,
            approvals: plan
                .approvals
                .into_iter()
                .map(|approval| ShownApproval { step: approval.step, role: approval.role, people: approval.people })
                .collect(),
            not_practised: plan.not_practised.into_iter().map(|(step, why)| NotPractised { step, why }).collect(),
            items: plan.items.into_iter().map(ShownItem::from).collect(),
        }
    }
}

impl From<Item> for ShownItem {
    fn from(item: Item) -> ShownItem {
        let (runs, because) = match item.runs {
            Runs::Always => ("always", Vec::new()),
            Runs::When(condition) => ("when", vec![condition]),
            Runs::Never(condition) => ("never", vec![condition]),
            Runs::Chosen(answers) => ("chosen", answers),
            Runs::Undo(step) => ("undo", vec![step]),
        };
        ShownItem {
            id: item.id,
            title: item.title,
            line: item.line,
            runs,
            because,
            step: item.step.map(ShownStep::from),
            items: item.items.into_iter().map(ShownItem::from).collect(),
            called: item.called.into_iter().map(ShownItem::from).collect(),
        }
    }
}

impl From<Planned> for ShownStep {
    fn from(step: Planned) -> ShownStep {
        let (practice, practice_words) = match step.practice {
            Practice::Same => ("same", ""),
            Practice::Instead(words) => ("instead", words),
            Practice::Not(why) => ("not", why),
        };
        ShownStep {
            action: step.action,
            words: step.words,
            effect: step.effect.word(),
            touches: step.touches,
            practice,
            practice_words,
            after_a_crash: step.again,
            lasts_seconds: step.lasts.map(|(span, _)| span.0.as_secs_f64()),
            lasts_by: step.lasts.map(|(_, source)| match source {
                Source::Past => "past",
                Source::Expected => "expected",
            }),
            timeout_seconds: step.timeout.map(|span| span.0.as_secs()),
            retries: step.retries,
            on_failure: step.on_failure,
            undo: step.undo,
            needs: step.needs,
            role: step.role,
            answers: step.answers.into_iter().map(|(answer, leads_to)| ShownAnswer { answer, leads_to }).collect(),
        }
    }
}

fn span(seconds: f64) -> String {
    Span(std::time::Duration::from_secs_f64(seconds)).to_string()
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.runbook-show/1";

    fn text(&self, page: &mut Page) {
        page.line(&self.title);
        page.field("runbook", self.id.as_deref().unwrap_or("only for reading"));
        page.field("sha256", &self.sha256);
        if let Some(rehearsed) = &self.rehearsed {
            let (tone, words) = rehearsed.words();
            let why = rehearsed.why().map(|why| format!(": {why}")).unwrap_or_default();
            page.field("practice", format_args!("{}{why}", tone.paint(words)));
        }
        page.field("mode", self.mode);
        for parameter in &self.parameters {
            page.field(&parameter.name, parameter.value.as_deref().unwrap_or("(to be given)"));
        }
        if !self.items.is_empty() {
            let unknown = match self.lasts_unknown {
                0 => String::new(),
                steps => format!(", and {} of unknown duration", count(steps as u64, "step", "steps")),
            };
            let rto = self.rto_seconds.map(|rto| format!("; the RTO is {}", span(rto as f64))).unwrap_or_default();
            page.field("lasts", format_args!("{}{unknown}{rto}", span(self.lasts_seconds)));
        }
        let list = |page: &mut Page, name: &str, list: &[String]| {
            if !list.is_empty() {
                page.field(name, list.join(", "));
            }
        };
        list(page, "relies on", &self.needs);
        list(page, if self.mode == "practice" { "real runs touch" } else { "touches" }, &self.touches);
        let approvals = self.approvals.iter().map(|one| format!("{} (at {})", people(one.people, &one.role), one.step));
        list(page, "asks for approval", &approvals.collect::<Vec<_>>());
        if self.mode == "practice" {
            let left_out = self.not_practised.iter().map(|one| format!("{} ({})", one.step, one.why));
            list(page, "not practised", &left_out.collect::<Vec<_>>());
        }
        if let Some(map) = &self.dependencies {
            map.text(page);
        }
        page.gap();
        self.branch(&self.items, "", page);
    }
}

fn people(number: u32, role: &str) -> String {
    if number == 1 { role.to_owned() } else { format!("{number} of {role}") }
}

impl Shown {
    fn branch(&self, items: &[ShownItem], before: &str, page: &mut Page) {
        for (index, item) in items.iter().enumerate() {
            let is_last = index + 1 == items.len();
            let (joint, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let below = format!("{before}{below}");
            page.line(format_args!("{before}{joint}{}", self.headline(item)));
            let inner = [item.called.as_slice(), item.items.as_slice()];
            let rail = if inner.iter().all(|items| items.is_empty()) { "   " } else { "│  " };
            for line in item.step.iter().flat_map(|step| self.details(step)) {
                page.line(format_args!("{below}{rail}{line}"));
            }
            for items in inner {
                self.branch(items, &below, page);
            }
        }
    }

    fn headline(&self, item: &ShownItem) -> String {
        let because = item.because.join("; ");
        let runs = match item.runs {
            "when" => format!("  only when {because}"),
            "never" => format!("  {}", Tone::Doubtful.paint(&format!("passed over, as this does not hold: {because}"))),
            "chosen" => format!("  if {because}"),
            "undo" => format!("  only to take back {because}"),
            _ => String::new(),
        };
        let lasts = match &item.step {
            Some(ShownStep { lasts_seconds: Some(seconds), lasts_by, .. }) => {
                format!("  {}{}", span(*seconds), if *lasts_by == Some("past") { " in past runs" } else { "" })
            }
            Some(_) if item.called.is_empty() => "  ?".to_owned(),
            _ => String::new(),
        };
        let id = if item.step.is_some() { format!(" [{}]", item.id) } else { String::new() };
        format!("{}{id}{lasts}{runs}", item.title)
    }

    fn details(&self, step: &ShownStep) -> Vec<String> {
        let mut lines = vec![step.words.clone()];
        if !step.answers.is_empty() {
            let answers = step.answers.iter().map(|answer| format!("{} → {}", answer.answer, answer.leads_to));
            lines.push(answers.collect::<Vec<_>>().join(", "));
        }
        let practice = match step.practice {
            "same" => None,
            "not" => Some(Tone::Doubtful.paint(&format!("not practised: {}", step.practice_words))),
            _ => Some(format!("in practice: {}", step.practice_words)),
        };
        let is_destroying = step.effect == Effect::Destroys.word();
        if self.mode != "practice" && !step.touches.is_empty() {
            let touches = step.touches.join(", ");
            match step.effect {
                _ if is_destroying => lines.push(Tone::Bad.paint(&format!("destroys what is there: {touches}"))),
                "changes" => lines.push(format!("changes {touches}")),
                _ => {}
            }
        }
        lines.extend(practice.filter(|_| self.mode == "practice"));
        if step.on_failure != "stop" {
            lines.push(format!("if it fails: {}", step.on_failure));
        }
        if let Some(undo) = &step.undo {
            lines.push(format!("taken back by: {undo}"));
        }
        lines
    }
}
