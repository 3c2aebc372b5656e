//! What people see of a run, and how they are asked: lines that stay, and on a terminal one that lives below them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, BufRead as _, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use jiff::Timestamp;
use lifeboat_engine::context::Clock;
use lifeboat_model::time::Span;
use lifeboat_runbook::{
    course::Given,
    event::{Asked, Event, Line, Outcome},
    execute::{People, Question},
    plan::Plan,
    printed,
};
use tokio::sync::oneshot;

use super::reading::{Texts, in_lines};
use crate::{
    log::Voice,
    output::{Tone, seconds},
};

/// How often the living line is drawn.
const TICK: Duration = Duration::from_millis(500);

/// An answer that was given beforehand.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    step: String,
    answer: String,
    who: Option<String>,
}

impl std::str::FromStr for Ready {
    type Err = String;

    /// `STEP=ANSWER`, or `STEP=ANSWER@WHO`.
    fn from_str(text: &str) -> Result<Ready, String> {
        let (step, answer) = text.split_once('=').ok_or("write STEP=ANSWER, or STEP=ANSWER@WHO")?;
        let (answer, who) = match answer.split_once('@') {
            Some((_, "")) => return Err("nobody stands behind the @".to_owned()),
            Some((answer, who)) => (answer, Some(who.to_owned())),
            None => (answer, None),
        };
        Ok(Ready { step: step.trim().to_owned(), answer: answer.trim().to_owned(), who })
    }
}

/// A person at a terminal, or nobody.
pub(super) struct Terminal {
    voice: Voice,
    who: String,
    run: String,
    texts: Texts,
    ready: Mutex<VecDeque<Ready>>,
    view: Arc<Mutex<View>>,
    bar: ProgressBar,
}

/// What the living line tells.
struct View {
    clock: Clock,
    /// Title and expected duration of each step, in order.
    steps: Vec<(String, String, Option<Span>)>,
    now: Option<(String, Timestamp)>,
    began: Timestamp,
    rto: Option<Span>,
    started: BTreeMap<String, Timestamp>,
}

impl Terminal {
    /// For a run that began then.
    pub fn new(
        voice: &Voice,
        (run, who): (&str, String),
        texts: Texts,
        ready: &[Ready],
        plan: &Plan,
        (clock, began, rto): (Clock, Timestamp, Option<Span>),
    ) -> Terminal {
        let mut steps = Vec::new();
        plan.items.iter().for_each(|item| gather(item, "", &mut steps));
        let view = View { clock, steps, now: None, began, rto, started: BTreeMap::new() };
        let view = Arc::new(Mutex::new(view));
        let bar = voice.bars().add(ProgressBar::no_length());
        if voice.draws() {
            let shown = Arc::clone(&view);
            let style = ProgressStyle::with_template("{spinner} {view}").expect("a fixed, valid template").with_key(
                "view",
                move |_: &ProgressState, out: &mut dyn fmt::Write| {
                    let view = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = write!(out, "{view}"); // indicatif writes into a String
                },
            );
            bar.set_style(style);
            bar.enable_steady_tick(TICK);
        }
        let ready = Mutex::new(ready.iter().cloned().collect());
        Terminal { voice: voice.clone(), who, run: run.to_owned(), texts, ready, view, bar }
    }

    /// An answer that was given beforehand: each is used once.
    fn ready(&self, question: &Question<'_>) -> Option<Given> {
        if question.asked == Asked::Doubt {
            return None; // nobody could know that it would be asked
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let index = ready.iter().position(|one| one.step == question.id && question.answers.contains(&one.answer))?;
        let Ready { answer, who, .. } = ready.remove(index)?;
        let who = who.map_or_else(|| self.who.clone(), |who| self.named(&who));
        let comment = question.comment.then(|| "given beforehand".to_owned());
        Some(Given { who, answer, comment })
    }

    /// A name that somebody typed is no more than that: where it was typed stands beside it.
    fn named(&self, name: &str) -> String {
        if name == self.who { name.to_owned() } else { format!("{name} (at {})", self.who) }
    }

    /// Says something and keeps the living line below it.
    pub fn say(&self, text: &str) {
        self.voice.say(text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn gather(item: &lifeboat_runbook::plan::Item, path: &str, steps: &mut Vec<(String, String, Option<Span>)>) {
    let id = if path.is_empty() { item.id.clone() } else { format!("{path}/{}", item.id) };
    if let Some(step) = &item.step {
        steps.push((id.clone(), item.title.clone(), step.lasts.map(|(span, _)| span)));
    }
    item.items.iter().for_each(|item| gather(item, path, steps));
    item.called.iter().for_each(|item| gather(item, &id, steps));
}

impl View {
    fn title(&self, step: &str) -> &str {
        self.steps.iter().find(|(id, ..)| id == step).map_or("", |(_, title, _)| title)
    }

    fn expected(&self, step: &str) -> Option<Span> {
        self.steps.iter().find(|(id, ..)| id == step)?.2
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = (self.clock)();
        let since = |then: Timestamp| seconds(now.duration_since(then).as_secs_f64().max(0.0));
        if let Some((step, began)) = &self.now {
            write!(f, "{}: {}", self.title(step), since(*began))?;
            if let Some(expected) = self.expected(step) {
                write!(f, " of about {expected}")?;
            }
            let next = self.steps.iter().skip_while(|(id, ..)| id != step).nth(1);
            if let Some((_, title, _)) = next {
                write!(f, " · then {title}")?;
            }
            write!(f, " · ")?;
        }
        write!(f, "{} in all", since(self.began))?;
        match self.rto {
            Some(rto) if now.duration_since(self.began).unsigned_abs() > rto.0 => write!(f, ", PAST the RTO of {rto}"),
            Some(rto) => write!(f, " of {rto} (RTO)"),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl People for Terminal {
    async fn ask(&self, question: &Question<'_>) -> Option<Given> {
        if let Some(given) = self.ready(question) {
            return Some(given);
        }
        if !io::stdin().is_terminal() {
            return None;
        }
        // Nothing is drawn over what somebody types.
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let given = self.at_the_terminal(question).await;
        self.voice.bars().add(self.bar.clone());
        given
    }

    fn told(&self, line: &Line) {
        let words = {
            let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
            tell(&mut view, line)
        };
        if let Some(words) = words {
            self.voice.say(&words);
        }
        if let Event::Ended { outputs, .. } = &line.event
            && let Some(printed) = printed::of(outputs)
        {
            self.voice.say(&in_lines(&printed, &self.run));
        }
    }
}

impl Terminal {
    async fn at_the_terminal(&self, question: &Question<'_>) -> Option<Given> {
        let prose = self.texts.prose(&question.id, &question.section.text);
        self.say(&format!("\n== {} ==\n{prose}", question.section.title));
        if let Some(role) = question.role {
            self.say(&format!("For: {role}"));
        }
        if !question.already.is_empty() {
            self.say(&format!("Have said yes: {}. Somebody else has to, too.", question.already.join(", ")));
        }
        let answer = loop {
            self.say(&format!("{} [{}]", question.text, question.answers.join("/")));
            let typed = line().await?;
            match question.answers.iter().find(|answer| answer.eq_ignore_ascii_case(&typed)) {
                Some(answer) => break answer.clone(),
                None => self.say("not one of the answers"),
            }
        };
        let who = match question.role {
            Some(_) => {
                self.say(&format!("Your name [{}]:", self.who));
                let typed = line().await?;
                if typed.is_empty() { self.who.clone() } else { self.named(&typed) }
            }
            None => self.who.clone(),
        };
        let comment = match question.comment {
            true => loop {
                self.say("Why (one line):");
                let typed = line().await?;
                if !typed.is_empty() {
                    break Some(typed);
                }
            },
            false => None,
        };
        Some(Given { who, answer, comment })
    }
}

/// One line from the terminal; none: it is gone. A thread of its own: a read that waits for ever would keep the runtime from ending.
async fn line() -> Option<String> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = io::stdin().lock().read_line(&mut text);
        let _ = sender.send(matches!(read, Ok(1..)).then(|| text.trim().to_owned())); // nobody waits any more
    });
    receiver.await.ok().flatten()
}

/// A line of the journal for people; some say nothing new.
fn tell(view: &mut View, line: &Line) -> Option<String> {
    let clock = line.at.strftime("%H:%M:%S");
    let words = match &line.event {
        Event::Begun { runbook, mode, .. } => format!("begun: {runbook}, {}", mode.word()),
        Event::Resumed => format!("taken up by {}", line.who),
        Event::Started { step, attempt } => {
            view.now = Some((step.clone(), line.at));
            view.started.insert(step.clone(), line.at);
            let again = if *attempt > 1 { format!(", try {attempt}") } else { String::new() };
            format!("▸ {} ({step}{again})", view.title(step))
        }
        Event::Ended { step, outcome, why, outputs, .. } => {
            view.now = None;
            let took = view.started.get(step).map(|began| line.at.duration_since(*began).as_secs_f64());
            let took = took.map(|took| format!(", {}", seconds(took))).unwrap_or_default();
            let expected = view.expected(step).map(|span| format!(" of about {span}")).unwrap_or_default();
            match outcome {
                Outcome::Passed => {
                    let known = why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
                    let given = told_outputs(outputs);
                    format!("{} {step}{took}{expected}{known}{given}", Tone::Good.paint("✓"))
                }
                Outcome::Failed => {
                    let why = why.as_deref().unwrap_or("no reason was given");
                    format!("{} {step}{took}: {why}", Tone::Bad.paint("✗"))
                }
            }
        }
        Event::Skipped { step, why } => format!("- {step}: passed over, {why}"),
        Event::NotPractised { step, why } => format!("- {step}: {} {why}", Tone::Doubtful.paint("not practised:")),
        Event::Answered { step, answer, comment, .. } => {
            let comment = comment.as_ref().map(|comment| format!(" ({comment})")).unwrap_or_default();
            format!("  {step}: {answer}, says {}{comment}", line.who)
        }
        Event::UndoStarted { step } => format!("↩ taking back {step}"),
        Event::UndoEnded { step, outcome: Outcome::Passed, .. } => {
            format!("{} {step} is taken back", Tone::Good.paint("✓"))
        }
        Event::UndoEnded { step, why, .. } => {
            format!("{} {step} is NOT taken back: {}", Tone::Bad.paint("✗"), why.as_deref().unwrap_or_default())
        }
        Event::Aborted { why } => format!("called off by {}: {why}", line.who),
        Event::Finished { .. } => return None,
    };
    Some(format!("{clock} {words}"))
}

/// What later steps and people want to know, in few words.
fn told_outputs(outputs: &BTreeMap<String, String>) -> String {
    const TOLD: [&str; 7] = ["point", "newest-commit", "lost-since", "rpo-seconds", "checks", "timeline", "answer"];
    let told: Vec<String> = TOLD.iter().filter_map(|name| Some(format!("{name} {}", outputs.get(*name)?))).collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}
