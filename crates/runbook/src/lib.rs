//! Runbooks: Markdown that people read and Lifeboat executes, the same file. `docs/runbook-format.md` is the contract.
//!
//! In: the text of a file, and what surrounds it (the configuration, other runbooks), brought by the caller. Out: a
//! [`Document`](document::Document), or everything that is wrong with it by line and column; then a [`Plan`](plan::Plan).
//! Nothing here reads files, asks a clock or runs anything, so the same text always gives the same answer.
//!
//! Read on: [`document`] (a file is cut into sections) → [`head`] (what it is, its parameters) → [`step`] (a block, and what
//! every step may say) → [`action`] (what is done, a file an action), with [`template`] (`{{…}}`) and [`condition`]
//! (`only_when`) → [`flow`] (who runs after what) → [`check`] (what only the whole can tell) → [`plan`] (the tree), with [`consent`] (who is
//! asked before something is destroyed);
//! and to run it: [`event`] (a line of the journal) → [`course`] (where a run stands, and what is next) → [`execute`],
//! with [`journal`] (the lines in a file); [`incident`] (what people note meanwhile).

pub mod document;
mod markdown;

pub mod head;
pub mod step;

pub mod action;
pub mod condition;
pub mod template;
pub mod values;

pub mod flow;

pub mod check;
pub mod consent;
pub mod plan;

pub mod course;
pub mod event;
pub mod execute;
pub mod incident;
pub mod journal;
pub mod printed;

pub mod error;
