//! Objects of points, index objects, documents, leases, and what else lies there.

use futures::{TryStreamExt as _, stream::FuturesOrdered};
use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;
use lifeboat_store::{Key, ObjectInfo};

use super::{
    Fate, Found, PruneKind, Run, Versions,
    points::{OVER, is_old},
    removal::Candidate,
};
use crate::{
    document::DocumentKind,
    error::{Error, Result},
    layout::{self, Layout},
    reach::{self, IndexUse, Reach, WalRule, index_use},
    repository::InstanceRepo,
    wal::WalObjectKind,
};

/// Index objects whose headers are read at the same time.
const INDEXES: usize = 8;
/// All folders that releases write into, and that have a rule of their own.
const KNOWN: [&str; 10] =
    ["index", "keys", "lease", "marks", "packs", "points", "timelines", "trees", "wal", "witnesses"];
/// Where trials of the endpoint write.
const PROBE: &str = "probe";

/// What lies at a key, by the key alone; none where no release writes such a key.
pub(crate) fn kind_at(layout: &Layout, key: &Key) -> Option<PruneKind> {
    let (folder, _) = key.as_str().strip_prefix(&layout.root())?.split_once('/')?;
    let id = layout::last_id(key);
    let at = |kind: PruneKind, expected: Option<Key>| (expected.as_ref() == Some(key)).then_some(kind);
    match folder {
        "points" => at(PruneKind::Point, layout::point_parts(key).map(|(time, id)| layout.point(time, id))),
        "trees" => at(PruneKind::Tree, id.map(|id| layout.tree(id))),
        "packs" => at(PruneKind::Pack, id.map(|id| layout.pack(id))),
        "keys" => at(PruneKind::Key, id.map(|id| layout.chunk_key(id))),
        "index" => at(PruneKind::Index, id.map(|id| layout.index(id))),
        "wal" => match layout.wal_name(key) {
            Some(name) if name.kind == WalObjectKind::Segment => Some(PruneKind::Segment),
            Some(_) => Some(PruneKind::Slice),
            None => layout.point_wal_system(key).map(|_| PruneKind::PointWal),
        },
        "lease" => Some(PruneKind::Lease),
        PROBE => Some(PruneKind::Probe),
        _ => {
            let kind = DocumentKind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
            layout.document_parts(kind, key).map(|_| PruneKind::Document)
        }
    }
}

impl Run<'_> {
    /// The next object of a folder that lies where one of its kind may lie; all else is told of.
    async fn next_of(
        &mut self,
        versions: &mut Versions,
        is_ours: impl Fn(&Layout, &Key) -> bool,
    ) -> Result<Option<(ObjectInfo, u64)>> {
        while let Some(found) = versions.next().await? {
            if self.options.cancel.is_cancelled() {
                return Ok(None);
            }
            match found {
                Found::Foreign(version) => self.foreign(version.info, version.delete_marker).await?,
                Found::Object { info, over } if is_ours(self.repo.layout(), &info.key) => {
                    self.report.objects += 1;
                    return Ok(Some((info, over)));
                }
                Found::Object { info, .. } => self.stranger(info).await?,
            }
        }
        Ok(None)
    }

    /// An object that nothing needs; one under newer versions stays with them.
    pub(super) async fn unneeded(&mut self, candidate: Candidate, over: u64) -> Result<()> {
        if over > 0 && !self.options.foreign {
            self.tell(candidate, Fate::Waits(OVER.into()));
            return Ok(());
        }
        self.candidate(candidate).await
    }

    /// Trees, packs and chunk keys.
    pub(super) async fn folder(&mut self, folder: &str, kind: PruneKind) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), &self.prefix(folder));
        let ours = |layout: &Layout, key: &Key| kind_at(layout, key) == Some(kind);
        while let Some((info, over)) = self.next_of(&mut versions, ours).await? {
            if self.reach.contains(&info.key) {
                self.keep(&info, kind);
                continue;
            }
            let leased = !self.is_released(&info);
            let why = "no point names it".to_owned();
            self.unneeded(Candidate { leased, ..Candidate::new(info, kind, why) }, over).await?;
        }
        self.flush().await
    }

    /// Index objects: needed as long as a pack that they name is.
    pub(super) async fn indexes(&mut self) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), &self.prefix("index"));
        let ours = |layout: &Layout, key: &Key| kind_at(layout, key) == Some(PruneKind::Index);
        loop {
            let mut some = Vec::new();
            while some.len() < INDEXES
                && let Some(next) = self.next_of(&mut versions, ours).await?
            {
                some.push(next);
            }
            if some.is_empty() {
                return self.flush().await;
            }
            let looked = look_at_indexes(&self.repo, some, self.trusted, &self.reach, self.oldest_pack).await?;
            for ((info, over), used) in looked {
                if used != IndexUse::Nothing {
                    self.keep(&info, PruneKind::Index);
                    continue;
                }
                let why = "no pack that it names is needed".to_owned();
                let candidate = Candidate { leased: true, ..Candidate::new(info, PruneKind::Index, why) };
                self.unneeded(candidate, over).await?;
            }
        }
    }

    /// Timelines, marks and witnesses.
    pub(super) async fn documents(&mut self, rule: &WalRule) -> Result<()> {
        self.systems.extend(reach::newest_system(&self.repo).await?);
        for kind in DocumentKind::ALL {
            let mut versions = Versions::new(&**self.repo.store(), &self.prefix(kind.folder()));
            let ours = |layout: &Layout, key: &Key| layout.document_parts(kind, key).is_some();
            while let Some((info, over)) = self.next_of(&mut versions, ours).await? {
                let Some((position, _)) = self.repo.layout().document_parts(kind, &info.key) else { continue };
                let system = position.system_id;
                let needed = match kind {
                    DocumentKind::Timeline => self.systems.contains(&system) || rule.knows_system(system),
                    _ => false,
                };
                if needed || rule.needs_position(position, info.modified) {
                    self.keep(&info, PruneKind::Document);
                    continue;
                }
                let why = match kind {
                    DocumentKind::Timeline => "no WAL and no kept point is of its system",
                    _ => "neither the WAL at its position nor a point that holds it is kept",
                };
                let kind = PruneKind::Document;
                self.unneeded(Candidate::new(info, kind, why), over).await?;
            }
            self.flush().await?;
        }
        Ok(())
    }

    /// Leases of the dead, their older versions and the markers that releases without versions laid over them.
    pub(super) async fn leases(&mut self) -> Result<()> {
        self.turn.end().await?;
        let folder = self.prefix("lease");
        self.leftovers(&folder, PruneKind::Lease, "a lease that has outlived its time").await
    }

    async fn leftovers(&mut self, prefix: &str, kind: PruneKind, why: &str) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), prefix);
        while let Some(found) = versions.next().await? {
            let (info, marker) = match found {
                Found::Foreign(version) => (version.info, version.delete_marker),
                Found::Object { info, .. } => (info, false),
            };
            self.report.objects += 1;
            if is_old(info.modified, self.now()) {
                self.candidate(Candidate { marker, ..Candidate::new(info, kind, why) }).await?;
            } else {
                self.keep(&info, kind);
            }
        }
        self.flush().await
    }

    /// Folders that have no rule: what trials of the endpoint left, and what is not ours.
    pub(super) async fn others(&mut self) -> Result<()> {
        let root = self.repo.layout().root();
        let mut after = String::new();
        loop {
            let next = self.repo.store().list_versions(&root, &after).try_next().await?;
            let Some(next) = next else { return self.flush().await };
            let name = next.info.key.as_str()[root.len()..].to_owned();
            match name.split_once('/') {
                Some((PROBE, _)) => {
                    self.leftovers(&format!("{root}{PROBE}/"), PruneKind::Probe, "a trial of the endpoint left it")
                        .await?;
                    after = format!("{root}{PROBE}/~");
                }
                Some((folder, _)) if KNOWN.contains(&folder) => after = format!("{root}{folder}/~"),
                Some((folder, _)) => {
                    self.strangers(&format!("{root}{folder}/")).await?;
                    after = format!("{root}{folder}/~");
                }
                None => {
                    self.strangers(next.info.key.as_str()).await?;
                    after = next.info.key.to_string();
                }
            }
        }
    }

    async fn strangers(&mut self, prefix: &str) -> Result<()> {
        let mut versions = Versions::new(&**self.repo.store(), prefix);
        while let Some(found) = versions.next().await? {
            match found {
                Found::Foreign(version) => self.foreign(version.info, version.delete_marker).await?,
                Found::Object { info, .. } => self.stranger(info).await?,
            }
        }
        Ok(())
    }
}

/// What each index object is good for.
async fn look_at_indexes(
    repo: &InstanceRepo,
    some: Vec<(ObjectInfo, u64)>,
    trusted: &[PublicKey],
    reach: &Reach,
    oldest: Option<Timestamp>,
) -> Result<Vec<((ObjectInfo, u64), IndexUse)>> {
    let mut looks = FuturesOrdered::new();
    for (info, over) in some {
        looks.push_back(async move {
            let used = index_use(repo, &info, trusted, reach, oldest).await?;
            Ok::<_, Error>(((info, over), used))
        });
    }
    looks.try_collect().await
}
