//! What this host remembers of a log: its tree, so that an append need not look for it. A lost memory costs a few requests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_evidence::ledger::{Hash, Previous, Tree};
use lifeboat_model::id::{RepositoryId, Tenant};
use lifeboat_store::VersionId;
use serde::{Deserialize, Serialize};

use super::Head;

const FORM: u32 = 1;
/// Statements that were entered of late: while their entries are younger than the next look for missing ones.
const RECENT: usize = 1024;
/// Heads that are remembered although the log contradicts them: each is a sign that does not go away by itself.
const CONTRADICTED: usize = 8;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Content {
    form: u32,
    origin: String,
    size: u64,
    frontier: Vec<Hash>,
    previous: Option<Previous>,
    /// Until when, by the store's clock, all statements are known to be entered.
    looked: Option<Timestamp>,
    recent: Vec<String>,
    /// The version of the checkpoint's object.
    checkpoint: Option<VersionId>,
    /// How many bundles are known to be there.
    bundles: u64,
    /// Heads that the log did not continue when it was looked at, oldest first.
    #[serde(default)]
    contradicted: Vec<Previous>,
}

/// Remembered in the state folder.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    file: PathBuf,
    content: Content,
}

impl Memory {
    pub fn load(state_dir: &Path, repository: RepositoryId, tenant: &Tenant, origin: &str) -> Memory {
        let file = state_dir.join("ledger").join(format!("{repository}-{tenant}.json"));
        let ours = |content: &Content| content.form == FORM && content.origin == origin;
        let read = |text: String| serde_json::from_str::<Content>(&text).ok().filter(ours);
        let empty = Content { form: FORM, origin: origin.to_owned(), ..Content::default() };
        let content = fs::read_to_string(&file).ok().and_then(read).unwrap_or(empty);
        Memory { file, content }
    }

    /// The head that was remembered; none where there is none.
    pub fn head(&self) -> Option<Head> {
        let Content { size, frontier, previous, recent, .. } = &self.content;
        let previous = previous.clone().filter(|_| *size > 0)?;
        let tree = Tree::from_frontier(*size, frontier.clone())?;
        let fits = previous.size == *size && previous.root == tree.root();
        fits.then(|| Head {
            tree,
            previous: Some(previous),
            checkpoint: self.content.checkpoint.clone(),
            entered: recent.iter().cloned().collect::<BTreeSet<_>>(),
            skipped: false,
        })
    }

    /// Until when all statements are known to be entered.
    pub fn looked(&self) -> Option<Timestamp> {
        self.content.looked
    }

    pub fn set_looked(&mut self, until: Timestamp) {
        self.content.looked = Some(until);
    }

    /// How many bundles are known to be there.
    pub fn bundles(&self) -> u64 {
        self.content.bundles
    }

    pub fn set_bundles(&mut self, bundles: u64) {
        self.content.bundles = bundles;
    }

    /// Where it is kept.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The heads that the log must continue: the newest, and those that it did not.
    pub fn heads(&self) -> Vec<Previous> {
        let newest = self.content.previous.clone().filter(|_| self.content.size > 0);
        self.content.contradicted.iter().cloned().chain(newest).collect()
    }

    /// Begins anew: nothing was remembered, or the log contradicts it.
    pub fn forget(&mut self) {
        let mut contradicted = std::mem::take(&mut self.content.contradicted);
        if let Some(head) = self.head().and_then(|head| head.previous) {
            tracing::warn!(
                "this host remembers {} entries of the ledger (root {}), and the ledger does not continue them: it was cut, or \
                 is another one. See lifeboat evidence verify",
                head.size,
                head.root
            );
            contradicted.retain(|known| *known != head);
            contradicted.push(head);
            let surplus = contradicted.len().saturating_sub(CONTRADICTED);
            contradicted.drain(..surplus);
        }
        let origin = std::mem::take(&mut self.content.origin);
        self.content = Content { form: FORM, origin, contradicted, ..Content::default() };
    }

    /// Whole or not at all.
    pub fn save(&mut self, head: &Head) {
        self.content.size = head.tree.size();
        self.content.frontier = head.tree.frontier().to_vec();
        self.content.previous = head.previous.clone();
        self.content.checkpoint = head.checkpoint.clone();
        // Names begin with a time: the newest are the last.
        self.content.recent = head.entered.iter().rev().take(RECENT).cloned().collect();
        if let Err(error) = self.write() {
            tracing::debug!(%error, file = %self.file.display(), "cannot remember the ledger's head");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &self.content)?;
        file.persist(&self.file)?;
        Ok(())
    }
}
