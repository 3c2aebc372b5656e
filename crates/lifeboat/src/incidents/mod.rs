//! Incidents: what people note, from whatever host they are at, and which one is open.
//!
//! A note is durable on this host first, and in the repository as soon as that answers. Several people note at the same time: of two
//! notes with the same number the one that is first in the repository has it, and the other is written again behind it.

mod merge;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_engine::{
    context::{Clock, Context},
    journal::{Journals, Kind, Name},
    record, with_causes,
};
use lifeboat_evidence::{Act, act};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId, Sha256Digest},
};
use lifeboat_runbook::{
    event::Line,
    incident::Happened,
    journal::{Chain, Unusable},
};
use tokio::time::Instant;

use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    kept::Keeper,
    wire::{self, Loaded, Reading},
};

/// Below the state folder.
const FOLDER: &str = "incidents";
const JOURNAL: &str = "jsonl";
/// Incidents that are looked at, the newest.
const MOST: usize = 200;
/// How long the repository may take: people are waiting, and this host's file is enough.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for a run that is about to begin, in all.
const RUN_PATIENCE: Duration = Duration::from_secs(30);

/// The lines of an incident.
pub type Notes = Chain<Happened>;

/// An incident as far as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its id.
    pub id: RunId,
    /// What happened, in the order of the lines.
    pub lines: Vec<Line<Happened>>,
    /// SHA-256 over all of them.
    pub head: String,
}

impl Incident {
    fn read(id: RunId, path: &Path) -> std::result::Result<Incident, Unusable> {
        let read = Notes::read(path)?;
        Ok(Incident { id, lines: read.lines, head: read.head })
    }

    /// What was wrong, in the words of whoever opened it.
    pub fn text(&self) -> &str {
        self.lines
            .iter()
            .find_map(|line| if let Happened::Opened { text, .. } = &line.event { Some(text.as_str()) } else { None })
            .unwrap_or_default()
    }

    /// The instance; none: it is about more than one.
    pub fn instance(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            if let Happened::Opened { instance, .. } = &line.event { instance.as_deref() } else { None }
        })
    }

    /// Since when: the reference of the RPO.
    pub fn since(&self) -> Timestamp {
        let since = self
            .lines
            .iter()
            .find_map(|line| if let Happened::Opened { since, .. } = &line.event { Some(*since) } else { None });
        since.unwrap_or(Timestamp::MAX)
    }

    /// When it was declared.
    pub fn opened(&self) -> Timestamp {
        self.lines.first().map_or(Timestamp::MAX, |line| line.at)
    }

    /// When it was closed; none: it is open.
    pub fn closed(&self) -> Option<Timestamp> {
        self.lines.iter().find(|line| matches!(line.event, Happened::Closed { .. })).map(|line| line.at)
    }
}

/// Where incidents are noted.
pub struct Desk {
    folder: PathBuf,
    who: String,
    clock: Clock,
    /// The repository, or why none answers.
    there: std::result::Result<(Context, Journals), String>,
}

impl Desk {
    /// Opens it. A repository that does not answer is none that stands in the way.
    pub async fn open(session: &Session, loaded: &Loaded) -> Desk {
        let keeper = Keeper::new(session, loaded, "lifeboat incident");
        let reaching = async {
            let context = keeper.reach().await?;
            let journals = Journals::of(&context).await.map_err(|error| with_causes(&error))?;
            Ok((context, journals))
        };
        let there = tokio::time::timeout(PATIENCE, reaching).await;
        let there = there.unwrap_or_else(|_| Err(format!("no repository answered within {} s", PATIENCE.as_secs())));
        Desk { there, ..Desk::alone_at(session, loaded, String::new()) }
    }

    /// On this host alone; why.
    fn alone_at(session: &Session, loaded: &Loaded, why: String) -> Desk {
        let folder = loaded.config.engine.state_dir.join(FOLDER);
        let who = Keeper::new(session, loaded, "lifeboat incident").who().to_owned();
        Desk { folder, who, clock: session.clock.clone(), there: Err(why) }
    }

    /// Why it is on this host alone.
    pub fn alone(&self) -> Option<&str> {
        self.there.as_ref().err().map(String::as_str)
    }

    /// The repository, where one answers.
    pub fn context(&self) -> std::result::Result<&Context, &str> {
        self.there.as_ref().map(|(context, _)| context).map_err(String::as_str)
    }

    fn path(&self, id: RunId) -> PathBuf {
        self.folder.join(format!("{id}.{JOURNAL}"))
    }

    /// All that are known, the newest first; and what could not be read.
    pub async fn all(&self) -> Result<(Vec<Incident>, Vec<String>)> {
        let mut remarks = Vec::new();
        let mut known = BTreeMap::new();
        for id in self.here()? {
            known.insert(id, None);
        }
        if let Ok((_, journals)) = &self.there {
            match journals.list(Kind::Incident, MOST).await {
                Ok(listed) => known.extend(listed.into_iter().map(|one| (one.name.id, Some((one.lines, one.last))))),
                Err(error) => remarks.push(format!("incidents of other hosts are not known: {}", with_causes(&error))),
            }
        }
        let mut found = Vec::new();
        for (id, there) in known {
            let here = Notes::texts(&self.path(id)).unwrap_or_default();
            let same = there
                .is_some_and(|(lines, last)| lines == here.len() as u64 && here.last().is_some_and(|own| *own == last));
            if !same && let Err(why) = self.sync(id).await {
                remarks.push(format!("incident {id}: {why}"));
            }
            match Incident::read(id, &self.path(id)) {
                Ok(incident) if !incident.lines.is_empty() => found.push(incident),
                Ok(_) => {}
                Err(error) => remarks.push(error.to_string()),
            }
        }
        found.sort_by_key(|incident| std::cmp::Reverse((incident.opened(), incident.id)));
        Ok((found, remarks))
    }

    fn here(&self) -> Result<Vec<RunId>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::from(error).context(format!("cannot read {}", self.folder.display()))),
        };
        let mut ids = Vec::new();
        for entry in entries.take(MOST * 10) {
            let path = entry?.path();
            let is_journal = path.extension().is_some_and(|end| end == JOURNAL);
            ids.extend(path.file_stem().filter(|_| is_journal).and_then(|stem| stem.to_str()?.parse::<RunId>().ok()));
        }
        Ok(ids)
    }

    /// The one that is meant: by the beginning of its id, else the only open one.
    pub async fn find(&self, wanted: Option<&str>) -> Result<Incident> {
        let (all, remarks) = self.all().await?;
        remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        let fits = |incident: &&Incident| match wanted {
            Some(wanted) => incident.id.to_string().starts_with(wanted),
            None => incident.closed().is_none(),
        };
        let found: Vec<&Incident> = all.iter().filter(fits).collect();
        let ids = || found.iter().map(|one| one.id.to_string()).collect::<Vec<_>>().join(", ");
        match (found.as_slice(), wanted) {
            ([one], _) => Ok((*one).clone()),
            ([], Some(wanted)) => {
                Err(Failure::new(Exit::NotFound, format!("no incident whose id starts with {wanted}"))
                    .next("lifeboat incident list"))
            }
            ([], None) => Err(Failure::new(Exit::NotFound, "no incident is open").next("lifeboat incident open TEXT")),
            (_, Some(wanted)) => Err(Failure::new(Exit::Usage, format!("\"{wanted}\" is the beginning of {}", ids()))),
            (_, None) => Err(Failure::new(Exit::Usage, format!("several incidents are open: {}", ids()))
                .hint("name one with --incident ID")),
        }
    }

    /// Opens an incident.
    pub async fn declare(&self, text: String, instance: Option<String>, since: Timestamp) -> Result<Incident> {
        let id = record::new_run()?;
        fs::create_dir_all(&self.folder).context(format!("cannot make {}", self.folder.display()))?;
        let mut notes = Notes::create(&self.path(id), &self.who, self.clock.clone())?;
        add(&mut notes, Happened::Opened { text, instance, since }).await?;
        drop(notes);
        self.shared(id).await
    }

    /// Writes something down. To one that is closed nothing is added.
    pub async fn note(&self, incident: &Incident, event: Happened) -> Result<Incident> {
        if let Some(closed) = incident.closed() {
            let message = format!("incident {} was closed at {closed:.0}", incident.id);
            return Err(Failure::new(Exit::Usage, message).next("lifeboat incident open TEXT"));
        }
        let (mut notes, _) = Notes::open(&self.path(incident.id), &self.who, self.clock.clone())?;
        add(&mut notes, event).await?;
        drop(notes);
        self.shared(incident.id).await
    }

    /// What stands on this host goes to the repository, and the other way round; then it is read.
    async fn shared(&self, id: RunId) -> Result<Incident> {
        if let Err(why) = self.sync(id).await {
            tracing::warn!(
                "it stands on this host alone for now, and is sent with the next command about incidents: {why}"
            );
        }
        Ok(Incident::read(id, &self.path(id))?)
    }

    async fn sync(&self, id: RunId) -> std::result::Result<(), String> {
        let (_, journals) = self.there.as_ref().map_err(Clone::clone)?;
        let name = Name { kind: Kind::Incident, id };
        let path = self.path(id);
        let merging = merge::merge(journals, name, &self.folder, &path, &self.who, &self.clock);
        match tokio::time::timeout(PATIENCE, merging).await {
            Ok(merged) => merged,
            Err(_) => Err(format!("the repository did not answer within {} s", PATIENCE.as_secs())),
        }
    }

    /// Keeps a signed statement of how it stands; where that is, or why it is not recorded.
    pub async fn record(&self, incident: &Incident) -> std::result::Result<String, String> {
        let (context, _) = self.there.as_ref().map_err(Clone::clone)?;
        let known = |name: &Instance| context.config.instance(name.as_str()).is_ok();
        let instance = incident.instance().and_then(|name| name.parse().ok()).filter(known);
        let head: Sha256Digest = incident.head.parse().map_err(|_| "it has no lines".to_owned())?;
        let closed = incident.closed().is_some();
        let act = Act::Incident(act::Incident {
            incident: incident.id,
            text: incident.text().to_owned(),
            since: incident.since(),
            closed,
            lines: incident.lines.len() as u64,
            head,
        });
        let outcome = if closed { Outcome::Passed } else { Outcome::Incomplete };
        let keeping = record::keep_act(context, instance.as_ref(), incident.opened(), outcome, act);
        match tokio::time::timeout(PATIENCE, keeping).await {
            Ok(kept) => kept.map(|(key, _)| key.to_string()).map_err(|error| with_causes(&error)),
            Err(_) => Err(format!("the repository did not take it within {} s", PATIENCE.as_secs())),
        }
    }
}

async fn add(notes: &mut Notes, event: Happened) -> Result<()> {
    notes.add(None, event).await.map(drop).map_err(|why| Failure::new(Exit::Failed, why))
}

/// All that are known by then: those of this host alone where the repository takes longer.
async fn known(desk: Desk, until: Instant) -> Vec<Incident> {
    let all = match tokio::time::timeout_at(until, desk.all()).await {
        Ok(all) => all,
        Err(_) => Desk { there: Err("it did not answer in time".to_owned()), ..desk }.all().await,
    };
    all.map(|(all, _)| all).unwrap_or_default()
}

/// The incident that is open now, for runs that begin meanwhile: the one about this instance before one about all. None where
/// it cannot be told: a run does not wait for that.
pub async fn current(session: &Session, instance: Option<&Instance>) -> Option<Incident> {
    let Ok(Reading::Usable(loaded)) = wire::read_config(session) else { return None };
    let until = Instant::now() + RUN_PATIENCE;
    let opening = Desk::open(session, &loaded);
    let desk = match tokio::time::timeout_at(until, opening).await {
        Ok(desk) => desk,
        Err(_) => Desk::alone_at(session, &loaded, "no repository answered in time".to_owned()),
    };
    if let Err(why) = desk.context() {
        session.voice.warn(&format!("whether others have opened an incident cannot be told: {why}"));
    }
    let mut open = known(desk, until).await;
    open.retain(|incident| incident.closed().is_none());
    let wanted = instance.map(Instance::as_str);
    open.retain(|incident| incident.instance().is_none() || wanted.is_none() || incident.instance() == wanted);
    open.sort_by_key(|incident| incident.instance().is_none());
    open.into_iter().next()
}
