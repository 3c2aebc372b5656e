//! Taking a run up: on the host that began it, or on another one that has nothing but a repository.

use std::{
    collections::BTreeSet,
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
    event::{Event, Line, Outcome},
    journal::{FileJournal, Unusable},
};

use super::{Keeping, KeptJournal, file, sending::whose};
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

/// A run is being taken over: noted beside the journal until whoever was at it has been told, so that a try that went wrong is no
/// reason to go on without telling.
pub struct Taking {
    /// The repositories in which somebody looks for lines of others.
    pub places: Vec<usize>,
    /// The first line that is not theirs.
    pub line: u64,
    note: PathBuf,
}

impl Taking {
    /// Whoever was at it knows.
    pub fn done(self) {
        let _ = fs::remove_file(self.note);
    }
}

fn taking_note(path: &Path) -> PathBuf {
    path.with_extension("taking-over")
}

/// Opens the journal of a run: what this host has of it, and what the repositories have.
///
/// # Errors
/// [`Exit::Busy`] where it looks as if another host were at it, unless `take_over`; [`Exit::NotFound`] where nobody has it;
/// [`Exit::CheckFailed`] where it went on in two repositories, each without the other.
pub async fn open(folder: &Path, run: RunId, take_over: bool, keeping: Keeping) -> Result<Opened> {
    let path = file(folder, run);
    let There { lines: there, lengths, unread } = There::of(run, read(run, &keeping).await)?;
    let mut remarks = Vec::new();
    let held = match path.exists() {
        true => Some(locked(&path, &keeping)?),
        false => None,
    };
    let mut others = Others { note: taking_note(&path), ..Others::default() };
    match (&held, unread) {
        (None, Some(why)) if there.is_empty() => {
            let failure = Failure::new(Exit::Unavailable, format!("run {run} was not begun on this host, and {why}"));
            return Err(failure
                .hint("bring its journal, or reach the repository where it is kept")
                .safe("nothing was done"));
        }
        (None, None) if there.is_empty() => {
            let failure =
                Failure::new(Exit::NotFound, format!("neither this host nor the repository knows a run {run}"));
            return Err(failure.safe("nothing was done").next("lifeboat runbook list"));
        }
        (None, unread) => {
            others.check(&there, 0, &path)?;
            others.admit(run, take_over, unread.as_deref(), &keeping)?;
            remarks.extend(unread.map(|why| format!("{why}: whether the run went on there cannot be seen")));
            fs::create_dir_all(folder)?;
            others.noted()?;
            FileJournal::adopt(&path, &there)?;
        }
        (Some(_), unread) => {
            let own = FileJournal::texts(&path)?;
            let common = own.iter().zip(&there).take_while(|(own, there)| own == there).count();
            if common < there.len() {
                others.check(&there, common, &path)?;
            } else {
                others.not_told_yet(&own, &path)?;
            }
            others.admit(run, take_over, unread.as_deref(), &keeping)?;
            remarks.extend(unread.map(|why| {
                format!("{why}: going on with what is known here; whether another host went on cannot be seen")
            }));
            others.noted()?;
            if common < there.len() {
                remarks.extend(replace(&path, &there, own.len() - common)?);
            }
        }
    }
    drop(held);
    let (file, lines) = FileJournal::open(&path, &keeping.who, keeping.clock.clone()).map_err(unusable)?;
    // Where all of their lines are, somebody may look for the next one; else the primary is enough, if it has all.
    let theirs = others.last.as_ref().filter(|_| others.may_live).map(|last| last.number);
    let whole = theirs.unwrap_or(there.len() as u64).max(1);
    let mut used: Vec<usize> =
        lengths.into_iter().filter(|(_, length)| *length >= whole).map(|(index, _)| index).collect();
    if theirs.is_none() && used.contains(&0) {
        used.clear();
    }
    // Who wrote into the primary looks there. A copy may have all of it because it was copied, and take no line from here.
    let told = if used.contains(&0) { vec![0] } else { used.clone() };
    let taking = theirs.map(|last| Taking { places: told, line: last + 1, note: others.note });
    let journal = KeptJournal::of(file, run, keeping, used, taking);
    Ok(Opened { journal, lines, remarks })
}

/// What each repository has of a journal, by its name; none is no error.
type Read = Vec<(String, std::result::Result<Vec<Vec<u8>>, String>)>;

async fn read(run: RunId, keeping: &Keeping) -> Read {
    let reading = keeping.places.iter().map(|place| async move {
        let reading = async {
            let lines = (place.open)().await?.read(Name { kind: Kind::Run, id: run }, 1).await;
            Ok::<_, String>(lines.map_err(|error| with_causes(&error))?.into_iter().map(Vec::from).collect())
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        let late = |_| Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
        (place.name.clone(), read.unwrap_or_else(late))
    });
    futures::future::join_all(reading).await
}

/// What the repositories have of a run.
struct There {
    /// The longest journal, of which all others are beginnings.
    lines: Vec<Vec<u8>>,
    /// How many of them each repository has that was read.
    lengths: Vec<(usize, u64)>,
    /// Why not all repositories were read.
    unread: Option<String>,
}

impl There {
    fn of(run: RunId, read: Read) -> Result<There> {
        let mut unread = Vec::new();
        let mut found: Vec<(usize, String, Vec<Vec<u8>>)> = Vec::new();
        let none = read.is_empty();
        for (index, (name, lines)) in read.into_iter().enumerate() {
            match lines {
                Ok(lines) => found.push((index, name, lines)),
                Err(why) => unread.push(format!("\"{name}\" cannot be read ({why})")),
            }
        }
        let unread = match (none, unread.is_empty()) {
            (true, _) => Some("no repository is configured".to_owned()),
            (_, false) => Some(unread.join(", and ")),
            (_, true) => None,
        };
        let longest = found.iter().rev().max_by_key(|(_, _, lines)| lines.len());
        let Some((_, at, lines)) = longest.map(|(index, name, lines)| (index, name.clone(), lines.clone())) else {
            return Ok(There { lines: Vec::new(), lengths: Vec::new(), unread });
        };
        for (_, name, other) in &found {
            let forked = other.iter().zip(&lines).find(|(one, other)| one != other);
            if let Some((one, other)) = forked {
                return Err(fork(run, (name, one), (&at, other)));
            }
        }
        let lengths = found.iter().map(|(index, _, lines)| (*index, lines.len() as u64)).collect();
        Ok(There { lines, lengths, unread })
    }
}

fn fork(run: RunId, one: (&str, &[u8]), other: (&str, &[u8])) -> Failure {
    let message = format!(
        "run {run} went on twice, each without knowing of the other: in \"{}\" {}, in \"{}\" {}",
        one.0,
        whose(one.1),
        other.0,
        whose(other.1)
    );
    Failure::new(Exit::CheckFailed, message)
        .safe("nothing was done")
        .hint("what both tell of happened: put right what was done twice, then begin a new run")
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
    /// Stands there as long as they have not been told.
    note: PathBuf,
}

impl Others {
    fn check(&mut self, there: &[Vec<u8>], own: usize, path: &Path) -> Result<()> {
        let read = FileJournal::check(there, path)
            .map_err(|error| Failure::from(error).context("the journal in the repository is not as it was written"))?;
        self.last = (read.lines.len() > own).then(|| read.lines.last().cloned()).flatten();
        Ok(())
    }

    /// The file has their lines already: somebody here began to take the run over, and did not get as far as telling them.
    fn not_told_yet(&mut self, own: &[Vec<u8>], path: &Path) -> Result<()> {
        let Ok(noted) = fs::read_to_string(&self.note) else { return Ok(()) };
        let count = noted.trim().parse::<usize>().map_or(own.len(), |noted| noted.min(own.len()));
        self.check(own.get(..count).unwrap_or(own), 0, path)
    }

    /// Refuses where somebody may be at it, unless it is to be taken over all the same.
    fn admit(&mut self, run: RunId, take_over: bool, unread: Option<&str>, keeping: &Keeping) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        let Some(why) = at_work(last, (keeping.clock)()) else { return Ok(()) };
        if !take_over {
            let unread = unread.map(|why| format!("; {why}, and there may be more lines")).unwrap_or_default();
            let message = format!(
                "run {run} may be under way elsewhere: {} wrote line {} at {:.0}, {why}{unread}",
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

    /// Notes which lines are theirs, or that there is nobody to be told.
    fn noted(&self) -> Result<()> {
        match (self.may_live, &self.last) {
            (true, Some(last)) => Ok(fs::write(&self.note, last.number.to_string())?),
            _ => match fs::remove_file(&self.note) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
        }
    }
}

/// Why somebody may be at a run with this last line of another host: unless it is over, that host may be in the middle of a step, ask
/// somebody, wait to try again, or have written more that it could not send.
fn at_work(last: &Line, now: Timestamp) -> Option<String> {
    Some(match &last.event {
        Event::Finished { .. } => return None,
        Event::Started { step, .. } | Event::UndoStarted { step } => format!("in the middle of step {step}"),
        Event::Ended { step, outcome: Outcome::Failed, .. } => {
            format!("when step {step} had failed: it may be asking somebody, or about to try again")
        }
        _ if now.duration_since(last.at) < YOUNG => "less than two minutes ago".to_owned(),
        _ => "and the run is not over".to_owned(),
    })
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

/// The runs in the repositories whose id begins so; why they are not known.
pub async fn elsewhere(beginning: &str, keeping: &Keeping) -> std::result::Result<Vec<RunId>, String> {
    let looking = keeping.places.iter().map(|place| async move {
        let looking = async {
            let listed = (place.open)().await?.list(Kind::Run, MOST).await;
            Ok::<_, String>(listed.map_err(|error| with_causes(&error))?.into_iter().map(|one| one.name.id).collect())
        };
        let late = |_| Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
        let listed: std::result::Result<Vec<RunId>, String> =
            tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(late);
        listed.map_err(|why| format!("\"{}\" cannot be read ({why})", place.name))
    });
    let (mut found, mut unread) = (BTreeSet::new(), Vec::new());
    for listed in futures::future::join_all(looking).await {
        match listed {
            Ok(ids) => found.extend(ids.into_iter().filter(|id| id.to_string().starts_with(beginning))),
            Err(why) => unread.push(why),
        }
    }
    match (found.is_empty(), keeping.places.is_empty()) {
        (_, true) => Err("no repository is configured".to_owned()),
        (true, _) if !unread.is_empty() => Err(unread.join(", and ")),
        _ => Ok(found.into_iter().collect()),
    }
}
