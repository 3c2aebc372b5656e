//! Carries runs out at their time: what is due, what may run beside what, what was interrupted, who leads.
//!
//! Read on: [`plan`] (what is due, a pure function) → [`overlap`] (what may run beside what: one table) → [`dispatch`] (the one
//! task that decides) → [`ends`] (what becomes of a run that is over) → [`carry`] (the tasks beside it) → [`streams`] → [`lead`]
//! (one daemon a repository) → [`past`] (what happened while nobody was looking) → [`reload`] (policies that change).
//!
//! | what happens | what becomes of the run |
//! |---|---|
//! | it is due, and the one before it goes on or waits | missed, with that reason: runs of a schedule never queue up |
//! | it was due while nobody was at work | what the schedule's `missed` says: the newest is caught up, the others are missed |
//! | it fails for a passing reason | tried again after `retry_after`, `retries` times |
//! | the daemon is stopped, killed or loses the lead while it goes on | looked for in evidence; if it did not happen, begun again |
//! | the same, and nobody was at work for more than 15 minutes | begun again only if `missed` would catch it up still |
//! | somebody calls it off | interrupted, not tried again |
//! | its schedule is removed while it waits | missed, with that reason |

mod answer;
mod carry;
mod desk;
mod dispatch;
mod ends;
mod lead;
mod ledger;
mod open;
mod overlap;
mod past;
mod plan;
mod reload;
mod streams;

pub use desk::{Asked, Desk, Refused};
pub use dispatch::run;
pub use lead::{Alone, Claim, Held, Lead, Leased};
pub use past::{FromEvidence, Past};
pub use reload::run as follow_policies;
