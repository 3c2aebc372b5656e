//! What is done to a database, tried on a real PostgreSQL with tables as Odoo 14 to 19 and well-known modules have them: on with
//! `LIFEBOAT_TESTBED=1`.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod login;
mod neutralise;
mod site;
