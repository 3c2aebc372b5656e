//! PostgreSQL over its own protocol: copies of a running cluster, its WAL, and questions about it.
//!
//! **Job:** base backup and WAL over the replication protocol (no agent, no shell, no superuser at the server), checks of
//! a restored directory, preflight, and digests of tables for comparison.
//! **In:** an address and a role. **Out:** streams of files and WAL as slices of receive buffers; plain values that can be
//! stored as JSON.
//! **Never here:** a repository, a key, a chunk; nothing is written to disk, nothing is changed at the server but the
//! slots that a caller asks for, and the empty transactions of heartbeats.
//!
//! `BackupEvent::Finished` is the only proof that a base backup is one: see [`base_backup`].
//! Read on: [`Replication`], [`base_backup`], [`wal`].

mod auth;
mod connection;
mod replication;
mod tls;
mod transport;

pub mod amend;
pub mod base_backup;
pub mod certificate;
pub mod control;
pub mod digest;
pub mod error;
pub mod heartbeat;
pub mod manifest;
pub mod pages;
pub mod preflight;
pub mod slot;
pub mod sql;
pub mod standbys;
pub mod timeline;
pub mod verify;
pub mod wal;
pub mod witness;

pub use base_backup::{BackupEvent, BaseBackup, BaseBackupOptions, Tablespace};
pub use error::{Error, Result, ServerError};
pub use lifeboat_model::config::TlsMode;
pub use replication::{CancelToken, Replication, SUPPORTED_MAJORS, SystemIdentity};
pub use transport::ConnectOptions;
pub use wal::{Segmenter, WalChunk, WalEnd, WalSlice, WalStream};
