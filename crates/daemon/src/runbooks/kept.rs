//! Journals in the repository, and what the evidence says of practice. A repository may be far away, or the very thing that is lost: it
//! is asked beside the request, not more often than every few seconds, and whoever asks waits a moment and then gets what is known.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lifeboat_engine::{
    context::Context,
    journal::{Journals, Kind},
    practice::{self, PastRun},
};
use lifeboat_model::id::{RunId, Tenant};
use lifeboat_runbook::journal::FileJournal;
use tokio::{sync::Mutex as Turn, task::JoinHandle, time::Instant};

use super::{
    journals::{Found, MOST},
    told::Beginning,
};
use crate::{Daemon, error::with_causes};

/// What is known is believed for so long.
const FRESH: Duration = Duration::from_secs(10);
/// The same of evidence, unless a journal has come to its end meanwhile.
const FRESH_EVIDENCE: Duration = Duration::from_secs(600);
/// Whoever asks waits no longer.
const WAIT: Duration = Duration::from_secs(2);
/// A look takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of each tenant. Part of [`Daemon`].
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<Tenant, Arc<Shelf>>>);

#[derive(Default)]
struct Shelf {
    known: Mutex<Known>,
    /// Whoever has it looks.
    turn: Arc<Turn<()>>,
}

/// What the repository said last.
#[derive(Clone, Default)]
pub(crate) struct Known {
    looked: Option<Instant>,
    /// Journals, with the number of lines that they had.
    journals: BTreeMap<RunId, (u64, Option<Arc<Found>>)>,
    past: Option<(Instant, Arc<Vec<PastRun>>)>,
    /// Why it could not be asked.
    pub doubt: Option<String>,
}

impl Known {
    pub fn journals(&self) -> impl Iterator<Item = &Arc<Found>> {
        self.journals.values().filter_map(|(_, found)| found.as_ref())
    }

    /// Runs that are over, by the evidence; none: nobody knows.
    pub fn past(&self) -> Option<&[PastRun]> {
        self.past.as_ref().map(|(_, runs)| runs.as_slice())
    }

    fn is_fresh(&self) -> bool {
        self.looked.is_some_and(|looked| looked.elapsed() < FRESH)
    }
}

impl Shelf {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a tenant's repository: looked up now, or some seconds ago.
pub(crate) async fn look(daemon: &Daemon, tenant: &Tenant) -> Known {
    let shelf = {
        let mut all = daemon.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(tenant.clone()).or_default())
    };
    if !shelf.known().is_fresh() {
        // An error says that it takes longer: then the next who asks gets it.
        let _ = tokio::time::timeout(WAIT, refreshed(daemon, tenant, &shelf)).await;
    }
    let mut known = shelf.known().clone();
    if known.looked.is_none() {
        known.doubt =
            Some("the repository was not read yet: what it has of runs comes as soon as it answers".to_owned());
    }
    known
}

async fn refreshed(daemon: &Daemon, tenant: &Tenant, shelf: &Arc<Shelf>) {
    let turn = match Arc::clone(&shelf.turn).try_lock_owned() {
        Ok(turn) => turn,
        // Somebody looks already.
        Err(_) => return drop(shelf.turn.lock().await),
    };
    let context = match daemon.context(tenant).await {
        Ok(context) => context,
        Err(error) => {
            let mut known = shelf.known();
            known.doubt = Some(format!("the repository cannot be read: {}", with_causes(&error)));
            known.looked = Some(Instant::now());
            return;
        }
    };
    let known = shelf.known().clone();
    let looked_at = Arc::clone(shelf);
    let look: JoinHandle<()> = tokio::spawn(async move {
        let looked = tokio::time::timeout(PATIENCE, read(&context, known)).await;
        let mut known = looked_at.known();
        match looked {
            Ok(Ok(read)) => *known = read,
            Ok(Err(error)) => known.doubt = Some(format!("the repository cannot be read: {}", with_causes(&error))),
            Err(_) => known.doubt = Some(format!("the repository did not answer within {} s", PATIENCE.as_secs())),
        }
        known.looked = Some(Instant::now());
        drop(turn);
    });
    let _ = look.await; // an error says that it panicked: the log has it
}

async fn read(context: &Context, before: Known) -> lifeboat_engine::Result<Known> {
    let journals = Journals::of_reader(context);
    let (mut now, mut has_ended) = (BTreeMap::new(), false);
    for listed in journals.list(Kind::Run, MOST).await? {
        let run = listed.name.id;
        if let Some(known) = before.journals.get(&run).filter(|(lines, _)| *lines == listed.lines) {
            now.insert(run, known.clone());
            continue;
        }
        let texts = journals.read(listed.name, 1).await?;
        let found = tokio::task::spawn_blocking(move || {
            let lines = FileJournal::check(&texts, Path::new("the repository")).ok()?.lines;
            let beginning = Beginning::of(&lines)?;
            Some(Arc::new(Found { run, beginning, lines }))
        });
        let found = found.await.ok().flatten();
        has_ended |= found.as_ref().is_some_and(|found| found.is_over());
        now.insert(run, (listed.lines, found));
    }
    let is_old = |(at, _): &(Instant, _)| at.elapsed() >= FRESH_EVIDENCE;
    let past = match before.past {
        Some(past) if !has_ended && !is_old(&past) => past,
        _ => (Instant::now(), Arc::new(practice::runs(context).await?)),
    };
    Ok(Known { looked: None, journals: now, past: Some(past), doubt: None })
}
