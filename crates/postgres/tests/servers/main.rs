//! Against real servers, of every version that this machine has: on with `LIFEBOAT_TESTBED=1`.

mod backups;
mod clusters;
mod endless;
mod questions;
mod refusals;
mod restored;
mod slots;
mod streams;
mod watched;
