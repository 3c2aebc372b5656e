//! Recovery to any moment that is held.
//!
//! A recovery begins from a recovery point (the *base*), replays the log that follows it, and ends at a [`Target`].
//! [`plan()`] chooses base, timelines and log; [`staging`] brings the log to a server that replays it already;
//! [`windows()`] tells what can be reached at all. Putting the files in place is [`crate::restore`]'s.
//!
//! PostgreSQL itself decides where to stop. It is told so in a way in which it refuses to end earlier; at *the end of
//! what is held*, where it cannot know, `restore_command` fails hard unless all that is held has come.

mod held;
pub mod pieces;
mod plan;
pub mod staging;
mod target;
mod windows;

pub use plan::{Plan, Wish, plan, witness};
pub use target::{Action, Settings, Stop, Target};
pub(crate) use windows::{LogEnd, log_end};
pub use windows::{Moment, Window, Windows, newest_windows, windows};
