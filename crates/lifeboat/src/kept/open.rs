//! Taking a run up: on the host that began it, or on another one that has nothing but a repository.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{
    journal::{Kind, Name},
    with_causes,
};
use lifeboat_model::id::RunId;
use lifeboat_runbook::{
    event::{Event, Line},
    journal::{FileJournal, Unusable},
};

use super::{Keeping, KeptJournal, file};
use crate::{
    exit::Exit,
    failure::{Failure, Result},
};

/// A run whose last line is younger may be under way elsewhere.
const YOUNG: SignedDuration = SignedDuration::from_secs(120);
/// How long a repository may take to give a journal.
const PATIENCE: Duration = Duration::from_secs(60);
/// Runs that are looked at to find one by the beginning of its id.
const MOST: usize = 1000;

/// A journal that can be gone on with. [`Event::Resumed`] is to be written next: that is what takes the run over.
pub struct Opened {
    /// The journal.
    pub journal: KeptJournal,
    /// Its lines.
    pub lines: Vec<Line>,
    /// What people should know.
    pub remarks: Vec<String>,
}

/// Opens the journal of a run: what this host has of it, and what the repository has.
///
/// # Errors
/// [`Exit::Busy`] where it looks as if another host were at it, unless `take_over`; [`Exit::NotFound`] where nobody has it.
pub async fn open(folder: &Path, run: RunId, take_over: bool, keeping: Keeping) -> Result<Opened> {
    let path = file(folder, run);
    let there = read(run, &keeping).await;
    let mut remarks = Vec::new();
    let held = match path.exists() {
        true => Some(locked(&path, &keeping)?),
        false => None,
    };
    let mut others = Others::default();
    match (&held, there) {
        (None, Err(why)) => {
            let failure = Failure::new(Exit::Unavailable, format!("run {run} was not begun on this host, and {why}"));
            return Err(failure
                .hint("bring its journal, or reach the repository where it is kept")
                .safe("nothing was done"));
        }
        (None, Ok(there)) if there.is_empty() => {
            let failure =
                Failure::new(Exit::NotFound, format!("neither this host nor the repository knows a run {run}"));
            return Err(failure.safe("nothing was done").next("lifeboat runbook list"));
        }
        (None, Ok(there)) => {
            others = Others::check(&there, 0, &path)?;
            others.admit(run, take_over, &keeping)?;
            fs::create_dir_all(folder)?;
            FileJournal::adopt(&path, &there)?;
        }
        (Some(_), Err(why)) => {
            remarks.push(format!(
                "{why}: going on with the journal of this host; whether another one went on cannot be seen"
            ));
        }
        (Some(_), Ok(there)) => {
            let own = FileJournal::texts(&path)?;
            let common = own.iter().zip(&there).take_while(|(own, there)| own == there).count();
            if common < there.len() {
                others = Others::check(&there, common, &path)?;
                others.admit(run, take_over, &keeping)?;
                remarks.extend(replace(&path, &there, own.len() - common)?);
            }
        }
    }
    drop(held);
    let (file, lines) = FileJournal::open(&path, &keeping.who, keeping.clock.clone()).map_err(unusable)?;
    let journal = KeptJournal::of(file, run, keeping, others.may_live);
    Ok(Opened { journal, lines, remarks })
}

/// The lines in the repository; none are no error.
async fn read(run: RunId, keeping: &Keeping) -> std::result::Result<Vec<Vec<u8>>, String> {
    let Some(opener) = &keeping.opener else {
        return Err("no repository is configured".to_owned());
    };
    let reading = async {
        let (journals, remark) = opener().await?;
        if let Some(remark) = remark {
            (keeping.notice)(&remark);
        }
        let lines = journals.read(Name { kind: Kind::Run, id: run }, 1).await;
        Ok::<_, String>(lines.map_err(|error| with_causes(&error))?.into_iter().map(Vec::from).collect())
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(lines)) => Ok(lines),
        Ok(Err(why)) => Err(format!("no repository can be read ({why})")),
        Err(_) => Err(format!("no repository answered within {} s", PATIENCE.as_secs())),
    }
}

/// Held while it is compared: nobody else on this host is at it.
fn locked(path: &Path, keeping: &Keeping) -> Result<FileJournal> {
    Ok(FileJournal::open(path, &keeping.who, keeping.clock.clone()).map_err(unusable)?.0)
}

fn unusable(error: Unusable) -> Failure {
    match error {
        Unusable::Busy(_) => {
            Failure { exit: Exit::Busy, ..Failure::from(error) }.hint("look for it on this host, and wait or end it")
        }
        error => Failure::from(error),
    }
}

/// Lines that this host did not write.
#[derive(Default)]
struct Others {
    /// The last of all.
    last: Option<Line>,
    /// Whoever wrote them may be at it still.
    may_live: bool,
}

impl Others {
    fn check(there: &[Vec<u8>], own: usize, path: &Path) -> Result<Others> {
        let read = FileJournal::check(there, path)
            .map_err(|error| Failure::from(error).context("the journal in the repository is not as it was written"))?;
        let last = (read.lines.len() > own).then(|| read.lines.last().cloned()).flatten();
        Ok(Others { last, may_live: false })
    }

    /// Refuses where somebody may be at it, unless it is to be taken over all the same.
    fn admit(&mut self, run: RunId, take_over: bool, keeping: &Keeping) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        let Some(why) = at_work(last, (keeping.clock)()) else { return Ok(()) };
        if !take_over {
            let message = format!(
                "run {run} may be under way elsewhere: {} wrote line {} at {:.0}, {why}",
                last.who, last.number, last.at
            );
            return Err(Failure::new(Exit::Busy, message)
                .safe("nothing was done")
                .hint("ask them; or make sure that nobody is at it any more, and take it over: whoever is finds out within seconds and stops, if they reach the repository")
                .next(format!("lifeboat runbook resume {run} --take-over")));
        }
        self.may_live = true;
        Ok(())
    }
}

/// Why somebody may be at a run with this last line.
fn at_work(last: &Line, now: Timestamp) -> Option<String> {
    match &last.event {
        Event::Finished { .. } => None,
        Event::Started { step, .. } | Event::UndoStarted { step } => Some(format!("in the middle of step {step}")),
        _ if now.duration_since(last.at) < YOUNG => Some("less than two minutes ago".to_owned()),
        _ => None,
    }
}

/// Puts the repository's lines in the place of this host's. Lines that nobody else saw are kept aside: what they tell of happened.
fn replace(path: &Path, there: &[Vec<u8>], unseen: usize) -> Result<Option<String>> {
    if unseen == 0 {
        // The file is a beginning of what is there.
        fs::remove_file(path)?;
        FileJournal::adopt(path, there)?;
        return Ok(None);
    }
    let aside = aside(path);
    fs::rename(path, &aside)?;
    FileJournal::adopt(path, there)?;
    Ok(Some(format!(
        "another host went on with this run before {unseen} lines of this host were in the repository: they are kept in {}; what they \
         tell of was done as well, and the run goes on without knowing of it",
        aside.display()
    )))
}

fn aside(path: &Path) -> PathBuf {
    let free = (1..).map(|number| path.with_extension(format!("aside-{number}"))).find(|path| !path.exists());
    free.unwrap_or_else(|| path.with_extension("aside"))
}

/// The runs in the repository whose id begins so; why they are not known.
pub async fn elsewhere(beginning: &str, keeping: &Keeping) -> std::result::Result<Vec<RunId>, String> {
    let Some(opener) = &keeping.opener else {
        return Err("no repository is configured".to_owned());
    };
    let looking = async {
        let (journals, _) = opener().await?;
        let listed = journals.list(Kind::Run, MOST).await.map_err(|error| with_causes(&error))?;
        let ids = listed.into_iter().map(|one| one.name.id);
        Ok(ids.filter(|id| id.to_string().starts_with(beginning)).collect())
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => Err(format!("no repository answered within {} s", PATIENCE.as_secs())),
    }
}
