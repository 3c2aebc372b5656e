//! A point with dumps back into a folder: `DIR/dump/<database>.dump`, every chunk checked.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat_repo::{
    point::Point,
    progress::Progress,
    reader::{Damage, Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
    tree::TreeKind,
};
use tokio_util::sync::CancellationToken;

use super::{DumpDetails, DumpError};
use crate::{
    details::decode,
    error::{Error, Result},
    files::place::Placer,
    restore::INCOMPLETE_MARKER,
};

/// What came back.
#[derive(Debug)]
pub struct DumpRestoreReport {
    /// What the point tells about its dumps.
    pub details: DumpDetails,
    /// The folder with the dumps.
    pub folder: PathBuf,
    /// Dumps that are whole.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be brought back.
    pub damage: Vec<Damage>,
}

/// What a point with dumps tells about them.
pub fn details(point: &Point, identities: &[Identity]) -> Result<DumpDetails> {
    if !point.header.is_dump() {
        let what = "holds an instance and no logical dumps";
        return Err(DumpError::WrongKind { point: point.header.point.to_string(), what }.into());
    }
    let details = point.open_details(identities)?;
    let fact = details.facts.get(DumpDetails::FACT);
    decode(fact.ok_or_else(|| Error::Details("it does not tell about its dumps".to_owned()))?)
}

/// Brings a point's dumps into a new or empty folder.
pub async fn restore(
    (repo, point): (&InstanceRepo, &Point),
    identities: &[Identity],
    to: &Path,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<DumpRestoreReport> {
    let work = async {
        let details = details(point, identities)?;
        let reader = Reader::open(repo.clone(), point, identities, ReaderOptions::default(), progress).await?;
        reader.check_identity().await?;
        let marker = prepare(to)?;
        let folder = to.join("dump");
        // Plaintext of a whole database: for nobody else to read.
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io("cannot create", &folder))?;
        let placer = Arc::new(Placer::new(folder.clone(), false));
        let done = reader.restore_tree(TreeKind::Dump, placer, None).await?;
        sync(&folder)?;
        if done.damage.is_empty() {
            fs::remove_file(&marker).map_err(Error::io("cannot remove", &marker))?;
        }
        Ok(DumpRestoreReport { details, folder, files: done.files, bytes: done.bytes, damage: done.damage })
    };
    tokio::select! {
        report = work => report,
        () = cancel.cancelled() => Err(Error::Cancelled),
    }
}

/// The folder, with the mark that it is incomplete.
fn prepare(to: &Path) -> Result<PathBuf> {
    if to.exists() {
        let mut content = fs::read_dir(to).map_err(Error::io("cannot read", to))?;
        if content.next().is_some() {
            return Err(Error::TargetNotEmpty { path: to.to_owned() });
        }
    }
    fs::create_dir_all(to).map_err(Error::io("cannot create", to))?;
    let marker = to.join(INCOMPLETE_MARKER);
    let text = "A restore into this folder has not finished. Do not use what is in it.\n";
    fs::write(&marker, text).map_err(Error::io("cannot write", &marker))?;
    Ok(marker)
}

fn sync(folder: &Path) -> Result<()> {
    let opened = fs::File::open(folder).map_err(Error::io("cannot open", folder))?;
    rustix::fs::syncfs(&opened).map_err(|error| Error::io("cannot sync", folder)(error.into()))
}
