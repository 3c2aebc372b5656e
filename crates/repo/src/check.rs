//! Checks that what points name is there and unharmed.

use std::sync::Arc;

use lifeboat_model::id::PointId;
use lifeboat_store::Key;

use crate::{error::Result, point::Point, progress::Progress, repository::InstanceRepo, seal::Identity};

/// How closely to look.
#[derive(Debug, Clone)]
pub enum VerifyMode {
    /// Every object is there, with its length and version. Reads nothing.
    Heads,
    /// The SHA-256 of every object's ciphertext fits. Needs no decryption key.
    ReadCiphertext,
    /// Also opens every object and checks every chunk that the points use.
    ReadData(Vec<Identity>),
}

/// Something wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub key: Key,
    /// What is wrong.
    pub what: String,
    /// The points that name it.
    pub points: Vec<PointId>,
    /// The first files that it hits, where trees could be read.
    pub files: Vec<String>,
    /// How many files it hits.
    pub file_count: u64,
}

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Points looked at.
    pub points: u64,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read (`Heads`: bytes that should be there).
    pub bytes: u64,
    /// Chunks opened and compared with their ids.
    pub chunks: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Verifies what `points` name, each object once.
pub async fn verify(
    _repo: &InstanceRepo,
    _points: &[Point],
    _mode: VerifyMode,
    _progress: Arc<dyn Progress>,
) -> Result<VerifyReport> {
    todo!()
}
