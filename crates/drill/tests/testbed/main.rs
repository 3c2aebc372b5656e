//! Drills against the testbed's real PostgreSQL, Odoo and Docker (`LIFEBOAT_TESTBED=1`). The data comes from
//! `pg_basebackup` and a copy of the filestore and configuration, in the folders that a restore makes: what is tested here is
//! the sandbox and the ladder. Without the variable there is nothing to test against, and the tests say so and end.

#![allow(clippy::print_stdout, reason = "a failed drill is understood from its table")]

mod moment;
mod negative;
mod origin;
mod own;
mod production;
mod teardown;
mod whole;
