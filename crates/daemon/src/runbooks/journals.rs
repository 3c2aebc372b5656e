//! Journals of runs on this host, in the tenant's folder of working files. Whoever may see a tenant sees its journals and no
//! other's, also where that folder has journals of several tenants, or of one that is not known any more.

use std::{
    cell::LazyCell,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use lifeboat_model::id::{Instance, RunId, Tenant};
use lifeboat_runbook::{
    event::{Event, Line},
    journal::FileJournal,
};

use super::{kept::Known, told::Beginning};
use crate::policies::{self, Policies, Site};

/// The newest that are shown of a tenant.
pub(crate) const MOST: usize = 50;
/// So many files are read to find them, the newest first. Others' are among them where tenants share a folder; what lies beyond
/// is still known from the repository.
const MOST_READ: usize = 500;
/// More files than this are not even listed.
const MOST_FILES: usize = 10_000;

/// A run, and what its journal says.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub run: RunId,
    pub beginning: Beginning,
    pub lines: Vec<Line>,
}

impl Found {
    pub fn is_over(&self) -> bool {
        matches!(self.lines.last().map(|line| &line.event), Some(Event::Finished { .. }))
    }
}

/// Journals of a tenant, the newest first, and why others could not be read.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    pub found: Vec<Arc<Found>>,
    pub doubts: Vec<String>,
}

impl Journals {
    /// With those that the repository has. Of one that is in both places, what has more lines: the other follows.
    pub fn with(mut self, known: &Known) -> Journals {
        for found in known.journals() {
            match self.found.iter_mut().find(|here| here.run == found.run) {
                Some(here) if here.lines.len() < found.lines.len() => *here = Arc::clone(found),
                Some(_) => {}
                None => self.found.push(Arc::clone(found)),
            }
        }
        self.doubts.extend(known.doubt.clone());
        self.found.sort_by_key(|found| std::cmp::Reverse((found.beginning.at, found.run)));
        self.found.truncate(MOST);
        self
    }

    /// Reads those on this host, away from the threads that answer others.
    /// `only`: no others than this.
    pub async fn here(policies: &Arc<Policies>, tenant: &Tenant, site: &Arc<Site>, only: Option<RunId>) -> Journals {
        let (policies, tenant, site) = (Arc::clone(policies), tenant.clone(), Arc::clone(site));
        let read = tokio::task::spawn_blocking(move || read(&policies, &tenant, &site, only));
        let failed = |_| Journals { doubts: vec!["journals could not be read".to_owned()], ..Journals::default() };
        read.await.unwrap_or_else(failed)
    }
}

fn read(policies: &Policies, tenant: &Tenant, site: &Site, only: Option<RunId>) -> Journals {
    let folder = site.config.engine.state_dir.join("runs");
    let mut journals = Journals::default();
    let files = match files(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return journals,
        Err(error) => {
            journals.doubts.push(format!("the journals on this host cannot be read: {error}"));
            return journals;
        }
    };
    let wanted = files.into_iter().filter(|(run, _)| only.is_none_or(|only| only == *run));
    let others = LazyCell::new(|| sharing(policies, tenant, site));
    for (run, path) in wanted.take(MOST_READ) {
        match FileJournal::look(&path) {
            Ok(lines) => {
                // A journal without a line was cut off before it began.
                if let Some(beginning) = Beginning::of(&lines)
                    && is_of(tenant, site, &others, &beginning)
                {
                    journals.found.push(Arc::new(Found { run, beginning, lines }));
                }
            }
            Err(error) if others.is_empty() => journals.doubts.push(error.to_string()),
            Err(_) => {}
        }
        if journals.found.len() + journals.doubts.len() >= MOST {
            break;
        }
    }
    journals
}

/// The newest first, by when they were last written.
fn files(folder: &Path) -> io::Result<Vec<(RunId, PathBuf)>> {
    let mut files: Vec<(SystemTime, RunId, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)?.take(MOST_FILES) {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jsonl"));
        let Some(run) = name.and_then(|name| name.parse().ok()) else { continue };
        let metadata = entry.metadata()?; // of a link: the link's own
        if metadata.is_file() {
            files.push((metadata.modified()?, run, path));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    Ok(files.into_iter().map(|(_, run, path)| (run, path)).collect())
}

/// The other tenants whose journals are in the same folder.
fn sharing<'p>(policies: &'p Policies, tenant: &Tenant, site: &Site) -> Vec<&'p Site> {
    let folder = policies::real(&site.config.engine.state_dir);
    let others = policies.sites.iter().filter(|(other, _)| *other != tenant).map(|(_, site)| &**site);
    others.filter(|other| policies::real(&other.config.engine.state_dir) == folder).collect()
}

/// A journal says of which tenant it is. One from before they did is of the tenant that alone has its instance.
fn is_of(tenant: &Tenant, site: &Site, others: &[&Site], beginning: &Beginning) -> bool {
    if let Some(whose) = &beginning.tenant {
        return whose == tenant.as_str();
    }
    let name = beginning.instance.as_ref().and_then(|name| name.parse::<Instance>().ok());
    let has = |site: &Site| name.as_ref().is_some_and(|name| site.config.instances.contains_key(name));
    has(site) && !others.iter().any(|other| has(other))
}
