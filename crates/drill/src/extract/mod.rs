//! Single databases out of a cluster.
//!
//! [`image`]: dumped from the live server by an image's `pg_dump`. [`restored`]: out of a recovery point or any moment that is held:
//! restored into a sandbox by the restore that a drill and an emergency use, replayed, and dumped there. Nothing but the sandbox is
//! touched, and it is torn down and proven to be gone as a drill's is. [`archive`]: the same with the attachments, as the zip that Odoo's
//! own database manager takes.

pub mod archive;
mod file;
mod image;
mod restored;
mod zip_source;

pub use file::NewFile;
pub use image::{ImageProgram, Owner};
pub use restored::{ExtractRequest, Extracted, Restored, run};
pub use zip_source::{OdooZip, ZipManifest};
