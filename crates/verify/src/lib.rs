//! Reading an exported directory of evidence for the audit.
//!
//! **In:** a directory as `lifeboat evidence export` writes it, or any copy of the `<tenant>/evidence/` folder of a
//! repository; public keys; checkpoints that somebody kept. **Out:** a [`lifeboat_evidence::audit::Audit`].
//! **Never here:** network, configuration, secrets, and anything that the directory says of itself: only what is signed
//! counts, so the keys come from elsewhere.
//!
//! The binary of this crate is for who does not want to trust the rest of Lifeboat; `lifeboat evidence verify DIR` uses
//! the same functions.

pub mod directory;
pub mod journals;
pub mod timestamp;

pub use directory::{Error, audit};
