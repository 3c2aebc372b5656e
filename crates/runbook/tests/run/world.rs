//! A small world: effects are counted, people answer as they are told to, and everything ends at a given moment, as by `kill -9`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_runbook::{
    action::Action,
    course::{Course, Given, Misfit},
    document::Document,
    event::{Asked, Event, Line},
    execute::{Acting, Broken, Executor, Finish, Hands, Journal, Outputs, People, Question, Stand},
    plan::Mode,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What outlives an executor: the journal, and what was done to the world.
#[derive(Default)]
pub struct World {
    lines: Mutex<Vec<Line>>,
    effects: Mutex<BTreeMap<String, u32>>,
    /// Steps that fail so many times more.
    pub failing: Mutex<BTreeMap<String, u32>>,
    /// Steps that have their effect and say so many times that they failed.
    pub lost: Mutex<BTreeMap<String, u32>>,
    /// Steps of which it cannot be told so many times whether they were done.
    pub hidden: Mutex<BTreeMap<String, u32>>,
    /// What was done, in its order: the step, whether that takes it back, and how often it was taken back before.
    pub acts: Mutex<Vec<(String, bool, u32)>>,
    /// Steps whose leavings were waited for, and how many lines there were then.
    pub settled: Mutex<Vec<(String, usize)>>,
    /// What people say to questions, by step; otherwise yes.
    pub says: BTreeMap<&'static str, &'static str>,
    /// Steps that cannot be practised here.
    pub unpractised: Vec<&'static str>,
    /// What a run as a whole gave.
    pub finish: Finish,
    /// Whether each run that was let go of had come to its end.
    pub let_go: Mutex<Vec<bool>>,
    /// So many things happen before the end; none: it does not come.
    fuse: Option<u64>,
    ticks: AtomicU64,
    burnt: Notify,
}

/// How a life of an executor ended.
#[derive(Debug)]
pub enum Life {
    Stood(Stand),
    Killed,
}

impl World {
    /// In which these steps fail so many times, and people say this.
    pub fn new(failing: &[(&str, u32)], says: &[(&'static str, &'static str)]) -> World {
        let failing = failing.iter().map(|(step, times)| ((*step).to_owned(), *times)).collect();
        World { failing: Mutex::new(failing), says: says.iter().copied().collect(), ..World::default() }
    }

    /// Something happens, unless the end has come: then nothing ever happens again.
    async fn tick(&self) {
        let now = self.ticks.fetch_add(1, Ordering::SeqCst);
        if self.fuse.is_some_and(|fuse| now >= fuse) {
            self.burnt.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// How many things happened.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::SeqCst)
    }

    /// How often each step had its effect.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        self.effects.lock().unwrap().clone()
    }

    /// The journal.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// An executor lives until the run stands or the fuse is burnt.
    pub async fn live(&mut self, documents: &[Document], mode: Mode, fuse: Option<u64>) -> Result<Life, Broken> {
        (self.fuse, self.ticks) = (fuse, AtomicU64::new(0));
        let (world, document) = (&*self, &documents[0]);
        let mut lines = world.lines();
        let mut journal = Kept(world);
        let first = match lines.is_empty() {
            true => Event::Begun {
                runbook: "whole".to_owned(),
                sha256: document.digest.clone(),
                mode,
                parameters: BTreeMap::from([("p".to_owned(), "x".to_owned())]),
                texts: BTreeMap::new(),
                tenant: None,
                instance: None,
                incident: None,
                reference: None,
            },
            false => Event::Resumed,
        };
        let values = BTreeMap::from([("p".to_owned(), "x".to_owned())]);
        let course = Course::new(document, mode, values, "run-1", "2026-11-22T00:00:00Z");
        let known =
            |id: &str| documents.iter().find(|document| document.head.as_ref().is_some_and(|head| head.id.value == id));
        let running = async {
            lines.push(journal.append(None, first).await.map_err(Broken::Journal)?);
            let mut executor = Executor {
                hands: world,
                people: world,
                journal: &mut journal,
                runbooks: &known,
                lines,
                cancel: CancellationToken::new(),
            };
            executor.run(course).await
        };
        tokio::select! {
            biased;
            stand = running => stand.map(Life::Stood),
            () = world.burnt.notified() => Ok(Life::Killed),
        }
    }

    /// A journal that reads as what happened so far: what a new reader makes of it.
    pub fn replayed<'d>(&self, document: &'d Document, mode: Mode) -> Result<Course<'d>, Misfit> {
        let mut course = Course::new(document, mode, BTreeMap::new(), "run-1", "2026-11-22T00:00:00Z");
        course.replay(&self.lines()).map(|()| course)
    }
}

/// Whether it happens this time, where it happens so many times.
fn once_less(times: &Mutex<BTreeMap<String, u32>>, id: &str) -> bool {
    times.lock().unwrap().get_mut(id).filter(|left| **left > 0).map(|left| *left -= 1).is_some()
}

struct Kept<'w>(&'w World);

#[async_trait]
impl Journal for Kept<'_> {
    async fn append(&mut self, who: Option<&str>, event: Event) -> Result<Line, String> {
        self.0.tick().await;
        let line = {
            let mut lines = self.0.lines.lock().unwrap();
            let number = lines.len() as u64 + 1;
            let who = who.unwrap_or("root@rescue").to_owned();
            let line = Line { number, at: Timestamp::UNIX_EPOCH, who, event };
            // As a file keeps it.
            let text = serde_json::to_string(&line).unwrap();
            lines.push(serde_json::from_str(&text).unwrap());
            line
        };
        self.0.tick().await;
        Ok(line)
    }
}

#[async_trait]
impl Hands for World {
    async fn act(&self, acting: &Acting<'_>) -> Result<Outputs, String> {
        self.tick().await;
        if once_less(&self.failing, &acting.id) {
            return Err("the world says no".to_owned());
        }
        let name = format!("{}: {}", acting.id, acting.action.words(&|template| acting.course.fill(template)));
        if name.contains("slow") {
            tokio::time::sleep(Duration::from_secs(20 * 60)).await;
        }
        *self.effects.lock().unwrap().entry(name).or_default() += 1;
        self.acts.lock().unwrap().push((acting.id.clone(), acting.undoing, acting.round));
        self.tick().await;
        if once_less(&self.lost, &acting.id) {
            return Err("the connection was lost".to_owned());
        }
        let given = match acting.action {
            Action::Decide(_) => ("answer", "passed".to_owned()),
            _ => ("output", format!("of {}", acting.id)),
        };
        Ok(Outputs::from([(given.0.to_owned(), given.1)]))
    }

    async fn was_done(&self, acting: &Acting<'_>) -> Result<Option<Outputs>, String> {
        self.tick().await;
        if once_less(&self.hidden, &acting.id) {
            return Err("it does not answer yet".to_owned());
        }
        let name = format!("{}: {}", acting.id, acting.action.words(&|template| acting.course.fill(template)));
        let done = self.effects.lock().unwrap().contains_key(&name);
        Ok(done.then(|| Outputs::from([("output".to_owned(), format!("of {}", acting.id))])))
    }

    async fn settle(&self, acting: &Acting<'_>) {
        let lines = self.lines().len();
        self.settled.lock().unwrap().push((acting.id.clone(), lines));
    }

    async fn not_practised(&self, acting: &Acting<'_>) -> Option<String> {
        self.unpractised.contains(&acting.id.as_str()).then(|| "not here".to_owned())
    }

    async fn finish(&self, is_over: bool) -> Finish {
        self.let_go.lock().unwrap().push(is_over);
        self.finish.clone()
    }
}

#[async_trait]
impl People for World {
    async fn ask(&self, question: &Question<'_>) -> Option<Given> {
        self.tick().await;
        let who = ["ann", "ben", "eve"].into_iter().find(|who| !question.already.iter().any(|said| said == who))?;
        let answer = match question.asked {
            Asked::Question => self.says.get(question.id.as_str()).copied().unwrap_or("yes"),
            Asked::Failure => self.says.get("failure").copied()?,
            Asked::Doubt if self.says.contains_key("back") => "yes",
            // Who looks sees whether it was done.
            Asked::Doubt => {
                let is_back = question.text.contains("take");
                let is_it = |name: &String| {
                    name.starts_with(&format!("{}:", question.id)) && name.contains("run un-") == is_back
                };
                match self.effects.lock().unwrap().keys().any(is_it) {
                    true => "yes",
                    false => "no",
                }
            }
        };
        Some(Given { who: who.to_owned(), answer: answer.to_owned(), comment: Some("because".to_owned()) })
    }

    fn told(&self, _line: &Line) {}
}
