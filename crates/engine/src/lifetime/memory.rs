//! What was read and verified before, so that it is not fetched again: a cache in the state folder.
//!
//! An entry stands for one version of one object, as the store lists it (key, VersionId, time of receipt), with the key
//! that signed it: whether that key is believed is asked anew each time. A file that does not read is a file that is not
//! there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, PointId, RepositoryId},
    retention::LockMode,
    signature::PublicKey,
};
use lifeboat_store::{Key, VersionId};
use serde::{Deserialize, Serialize};

/// A later form has another number, and begins with nothing.
const FORM: u32 = 2;

/// What a point's signed header says, as far as policy asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Read {
    pub finished: Timestamp,
    pub dump: bool,
    pub retain_until: Option<Timestamp>,
    pub lock_mode: Option<LockMode>,
    pub signer: PublicKey,
}

/// What a statement says, as far as policy asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Heard {
    Passed { point: PointId, at: Timestamp },
    Held { point: PointId, at: Timestamp, held: bool },
    Nothing,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    form: u32,
    points: BTreeMap<String, Read>,
    statements: BTreeMap<String, (PublicKey, Heard)>,
}

/// What is known, and what was asked for this time: only that is kept.
pub(super) struct Memory {
    file: PathBuf,
    known: Content,
    seen: Content,
}

/// The name of one version of an object.
pub(super) fn place(key: &Key, version: Option<&VersionId>, modified: Timestamp) -> String {
    format!("{key} {} {modified}", version.map_or("-", |version| version.0.as_str()))
}

impl Memory {
    pub fn load(state_dir: &Path, repository: RepositoryId, instance: &Instance) -> Memory {
        let file = state_dir.join("lifetime").join(format!("{repository}-{instance}.json"));
        let read = |text: String| serde_json::from_str::<Content>(&text).ok().filter(|content| content.form == FORM);
        let known = fs::read_to_string(&file).ok().and_then(read).unwrap_or_default();
        Memory { file, known, seen: Content { form: FORM, ..Content::default() } }
    }

    pub fn point(&self, place: &str) -> Option<&Read> {
        self.known.points.get(place)
    }

    pub fn remember_point(&mut self, place: String, read: Read) {
        self.seen.points.insert(place, read);
    }

    pub fn statement(&self, place: &str) -> Option<&(PublicKey, Heard)> {
        self.known.statements.get(place)
    }

    pub fn remember_statement(&mut self, place: String, heard: (PublicKey, Heard)) {
        self.seen.statements.insert(place, heard);
    }

    /// Whole or not at all. That it could not be written costs the next run some reading, nothing else.
    pub fn save(self) {
        if let Err(error) = self.write() {
            tracing::debug!(%error, file = %self.file.display(), "cannot remember what was read");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &self.seen)?;
        file.persist(&self.file)?;
        Ok(())
    }
}
