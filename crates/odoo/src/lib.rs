//! What Lifeboat knows about Odoo: where attachments lie, which switches make a copy harmless, how to log in and read
//! like a user, what a boot log admits, what the books say about themselves.
//!
//! Inputs are a database connection, a filestore directory, a base URL or log lines; outputs are reports and checks.
//! **Never here:** a repository, a key, Docker. Who starts PostgreSQL and Odoo, and where, is not this crate's business;
//! it gets an address and works the same against a sandbox or a test server.
//!
//! Read on, in the order a drill needs it: [`versions`] (facts by major), [`modules`], [`attachments`],
//! [`extensions`], [`neutralise`], [`login`], [`boot_log`], [`rpc`], [`books`].

pub mod attachments;
pub mod books;
pub mod boot_log;
pub mod error;
pub mod extensions;
pub mod login;
pub mod modules;
pub mod neutralise;
pub mod rpc;
pub mod versions;

pub use error::{Error, Result};
