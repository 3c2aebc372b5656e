//! The ledger of a tenant: who appends, in which order things are put, and who reads.
//!
//! `<tenant>/evidence/ledger/` holds slots for entries, checkpoints, and full tiles (see `FORMAT.md` of the evidence crate).
//! Nothing in it is ever overwritten. An append is
//!
//! 1. find the end: from what this host remembers, else from the newest checkpoint ([`head`]);
//! 2. put the entry into the first free slot; who is not the first there takes the next ([`enter`]);
//! 3. put the checkpoint over the log so far. A crash in between is made good by whoever appends next: entries without a
//!    checkpoint are covered by the next one, statements without an entry are entered ([`missing`]);
//! 4. once in 256 entries, put the tiles that have become full ([`mod@tiles`]).
//!
//! Two hosts never fork it: which entry stands in a slot is decided by the store once, and a checkpoint is computed from
//! what stands in the slots. What else somebody puts into a slot is a leaf like any other, and only costs its place.
//!
//! A copy of a repository carries the primary's ledger, and nothing is appended there ([`mod@carry`], decision 0012).

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_evidence::ledger::{self, Entry, Hash, Previous, Tree, checkpoint, entry, place};
use lifeboat_model::{
    id::{Sha256Digest, Tenant},
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{
    ledger::LedgerStore,
    repository::{EvidenceRef, Repository},
};

use crate::{
    context::{Clock, Context},
    error::{Error, Result},
    keys::read_signing_key,
};

mod carry;
mod enter;
mod head;
mod memory;
mod missing;
mod read;
mod tiles;

pub use carry::Carried;
pub(crate) use carry::carry;
pub use read::{Found, Latest, Leaf, checkpoints, latest, read, tiles};

use head::Head;
use memory::Memory;

/// Requests on their way at the same time.
const AT_ONCE: usize = 32;
/// The longest note that is read as a checkpoint.
const LONGEST: u64 = ledger::note::MAX_BYTES as u64;

/// Where a statement stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The index of its entry.
    pub index: u64,
    /// How many entries the checkpoint covers that was put after it.
    pub size: u64,
    /// The checkpoint's root.
    pub root: Hash,
}

/// Whether a signature counts on what the store received at that time.
type Believes = Arc<dyn Fn(&PublicKey, Timestamp) -> bool + Send + Sync>;

/// A tenant's log in a repository.
#[derive(Clone)]
struct Log {
    store: LedgerStore,
    origin: String,
    trusted: Vec<PublicKey>,
    believes: Believes,
}

impl Log {
    fn new(repository: &Repository, tenant: &Tenant, trusted: &[PublicKey], believes: Believes) -> Self {
        let origin = ledger::origin(repository.id(), tenant);
        Self { store: repository.ledger(tenant), origin, trusted: trusted.to_vec(), believes }
    }

    /// Of a context, whose revocations count.
    async fn of(context: &Context) -> Result<Self> {
        Ok(Self::within(context, &context.evidence_repository().await?))
    }

    /// The same for reading alone: no lock is ever put.
    fn of_reader(context: &Context) -> Self {
        Self::within(context, &context.repository.clone().with_evidence_lock(None))
    }

    fn within(context: &Context, repository: &Repository) -> Self {
        let (revocations, trusted) = (context.revocations.clone(), context.config.keys.trusted_keys.clone());
        let keys = trusted.clone();
        let believes: Believes = Arc::new(move |key, received| {
            let revoked = revocations.iter().any(|revoked| revoked.key == *key && received > revoked.at);
            keys.contains(key) && !revoked
        });
        Self::new(repository, &context.config.tenant, &trusted, believes)
    }

    /// The bytes of a slot's leaf. What is too long to be an entry is not read.
    async fn leaf(&self, found: &EvidenceRef) -> Result<Bytes> {
        if found.len > entry::MAX_BYTES as u64 {
            return Ok(entry::void().into());
        }
        Ok(self.store.get(found, entry::MAX_BYTES as u64).await?)
    }

    /// The leaves of slots, in their order.
    async fn leaves(&self, found: &[EvidenceRef]) -> Result<Vec<Bytes>> {
        let reading = found.iter().cloned().map(|found| {
            let log = self.clone();
            async move { log.leaf(&found).await }
        });
        stream::iter(reading).buffered(AT_ONCE).try_collect().await
    }

    /// A checkpoint of this log, if that is what stands there: signed by a key that counted when the store received it,
    /// and of the size that its place says.
    async fn checkpoint(&self, found: &EvidenceRef) -> Result<Option<checkpoint::Signed>> {
        let note = match self.store.get(found, LONGEST).await {
            Err(lifeboat_repo::Error::Damaged { .. }) => return Ok(None),
            Err(lifeboat_repo::Error::Store(lifeboat_store::Error::NotFound { .. })) => return Ok(None),
            note => note?,
        };
        Ok(self.weigh(found, &note))
    }

    fn weigh(&self, found: &EvidenceRef, note: &[u8]) -> Option<checkpoint::Signed> {
        let signed = checkpoint::open_of(note, &self.trusted, &self.origin).ok()?;
        let in_place = place::parse(self.store.name(found)) == Some(place::Place::Checkpoint(signed.checkpoint.size));
        (in_place && (self.believes)(&signed.key, found.modified)).then_some(signed)
    }

    fn entry(&self, leaf: &[u8], index: u64) -> Option<Entry> {
        Some(Entry::open_at(leaf, &self.trusted, &self.origin, index).ok()?.entry)
    }
}

/// A log that is written by this host.
#[derive(Clone)]
struct Writer {
    log: Log,
    signing: SigningKey,
    clock: Clock,
    memory: Memory,
}

/// Enters a statement that has been put as `<tenant>/evidence/<name>`, and puts the checkpoint. Statements that a crash
/// left out are entered before it; the very first append enters all that there are.
///
/// # Errors
/// Where it could not be entered, which [`Error::is_transient`] may tell to be worth another try: the statement stays where
/// it is, and the next append enters it.
pub async fn append(context: &Context, name: &str, sha256: Sha256Digest) -> Result<Place> {
    Appender::find(context).await?.append(context, name, sha256).await
}

/// Somebody who knows where the log ends, and is about to append.
pub(crate) struct Appender {
    writer: Writer,
    head: Head,
    listed: Option<missing::Listed>,
}

/// What this host remembers of the tenant's log, each with where: heads that it must continue. Nothing is asked and nothing
/// written.
pub fn remembered(context: &Context) -> Vec<(String, checkpoint::Checkpoint)> {
    let (repository, tenant) = (context.repository.id(), &context.config.tenant);
    let origin = lifeboat_evidence::ledger::origin(repository, tenant);
    let memory = Memory::load(&context.config.engine.state_dir, repository, tenant, &origin);
    let file = memory.file().display().to_string();
    let head = |head: Previous| {
        (file.clone(), checkpoint::Checkpoint { origin: origin.clone(), size: head.size, root: head.root })
    };
    memory.heads().into_iter().map(head).collect()
}

impl Appender {
    /// Finds the end of the log.
    pub async fn find(context: &Context) -> Result<Self> {
        let mut writer = Writer::of(context).await?;
        let looking = writer.clone();
        let (head, listed) = tokio::try_join!(writer.head(), looking.prefetch(context))?;
        Ok(Self { writer, head, listed })
    }

    /// [`append`].
    pub async fn append(self, context: &Context, name: &str, sha256: Sha256Digest) -> Result<Place> {
        self.writer.append(context, self.head, self.listed, name, sha256).await
    }
}

impl Writer {
    async fn of(context: &Context) -> Result<Self> {
        if context.repository.is_replica() {
            return Err(Error::LedgerOfCopy { store: context.repository.store().describe() });
        }
        let signing = read_signing_key(&context.config.keys.signing_key_file)?;
        let (log, clock) = (Log::of(context).await?, context.store_clock().await?);
        let memory = Memory::load(
            &context.config.engine.state_dir,
            context.repository.id(),
            &context.config.tenant,
            &log.origin,
        );
        Ok(Self { log, signing, clock, memory })
    }

    /// The end of the log, as far as this host can tell now.
    async fn head(&mut self) -> Result<Head> {
        let head = match self.memory.head() {
            Some(known) => Head::find(&self.log, known).await?,
            None => None,
        };
        match head {
            Some(head) => Ok(head),
            // Nothing is remembered, or it contradicts the log.
            None => {
                self.memory.forget();
                let head = Head::find(&self.log, Head::empty()).await?;
                head.ok_or_else(|| Error::Task("an empty log contradicts nothing".to_owned()))
            }
        }
    }

    /// Enters what is missing and this statement.
    async fn append(
        mut self,
        context: &Context,
        mut head: Head,
        listed: Option<missing::Listed>,
        name: &str,
        sha256: Sha256Digest,
    ) -> Result<Place> {
        let mut statements = self.missing(context, &mut head, name, listed).await?;
        statements.push((name.to_owned(), sha256));
        let index = self.enter(&mut head, statements).await?;
        self.put_checkpoint(&mut head).await?;
        let note = checkpoint::sign_tree(&self.log.origin, &head.tree, &self.signing);
        crate::timestamp::stamp(context, &self.log.store, head.tree.size(), &note).await;
        let place = Place { index, size: head.tree.size(), root: head.tree.root() };
        // What follows can be had from the slots at any time.
        match tiles::complete(&self.log, self.memory.bundles(), head.tree.size()).await {
            Ok(bundles) => self.memory.set_bundles(bundles),
            Err(error) => tracing::debug!(%error, "the ledger's tiles are left to the next append"),
        }
        self.memory.save(&head);
        Ok(place)
    }
}

fn previous(tree: &Tree) -> Previous {
    Previous { size: tree.size(), root: tree.root() }
}
