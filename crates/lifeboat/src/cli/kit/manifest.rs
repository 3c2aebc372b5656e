//! `kit.json`: what a kit was made from, so that it can be told whether it is still true.

use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_model::id::{Instance, Tenant};
use serde::{Deserialize, Serialize};

use super::config::Slot;

/// The file.
pub const FILE: &str = "kit.json";
/// The version of its form.
pub const SCHEMA: &str = "lifeboat.kit/1";

/// What a kit was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// When.
    pub made: Timestamp,
    /// The machine.
    pub host: String,
    /// Name and version of the program, which is the one in the kit.
    pub software: String,
    /// The oldest GNU C library that the program runs with.
    pub glibc: String,
    /// The owner.
    pub tenant: Tenant,
    /// The instances that can be brought back with it.
    pub instances: Vec<Instance>,
    /// Images that drills need.
    pub images: Vec<String>,
    /// Whether they lie in the kit, as `images.tar`.
    pub holds_images: bool,
    /// Secrets that people bring.
    pub secrets: Vec<Slot>,
    /// Secrets in environment variables: key of the configuration, and name.
    pub variables: Vec<(String, String)>,
    /// Repositories that are folders of that machine.
    pub folders: Vec<PathBuf>,
    /// What was taken from that machine.
    pub sources: Vec<Taken>,
    /// Folders of which everything was taken.
    pub source_folders: Vec<Folder>,
}

/// A folder of which everything was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its path on that machine.
    pub path: PathBuf,
    /// What the names of its files end with, without the dot.
    pub extension: String,
}

/// A file that was taken into the kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its path on that machine.
    pub from: PathBuf,
    /// SHA-256 of its bytes then, in hexadecimal.
    pub sha256: String,
}
