//! What a period's evidence says together, for executives and auditors. Pure: from statements to text.
//!
//! **In:** believed statements, one after the other ([`Builder::add`]), and how whole the ledger is. **Out:** a [`Period`],
//! and from it a self-contained HTML document ([`html`]), JSON ([`json`]) or CSV ([`csv()`]). Who believes what is decided
//! before; nothing here reads a clock, a file or a key.
//!
//! Of each drill a [`Period`] has a line. Full records are written behind it, one by one, from the signed statements: memory
//! holds one of them at a time.
//!
//! Read on: [`period`] for what is said, [`Builder`] for how it is summed, then [`html`].

mod builder;
mod clauses;
mod csv;
mod due;
pub mod html;
pub mod json;
mod judge;
pub mod paper;
pub mod period;
mod trend;
mod words;

pub use builder::{Builder, Charge, Scope, Told};
pub use clauses::Clause;
pub use csv::csv;
pub use period::{Ledger, Period, State};
pub use trend::{Direction, NOISE, Trend, median, trend};
