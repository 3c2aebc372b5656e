//! Runbooks of the tenants, and their runs: read where they lie, each time somebody asks. People and `lifeboat runbook run` write
//! them; the daemon runs none, and a run needs no daemon.
//!
//! Read on: [`shelf`] (the files beside a configuration) → [`journals`] (runs on this host) → [`kept`] (those in the
//! repository, and what was practised) → [`told`] (what a
//! journal says of each step).

pub(crate) mod journals;
pub(crate) mod kept;
pub(crate) mod shelf;
pub(crate) mod told;
