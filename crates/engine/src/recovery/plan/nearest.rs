//! What is said of a target that cannot be reached.

use super::{
    super::windows::{self, Moment},
    Goal, Held, Wish,
};
use crate::error::{Error, Result};

/// The error, with the nearest moments that can be reached.
pub(super) async fn out_of_reach(held: &mut Held<'_>, wish: &Wish, goal: &Goal, why: String) -> Result<Error> {
    let windows = windows::find(held).await?;
    let windows: Vec<_> =
        windows.into_iter().filter(|window| wish.timeline.is_none_or(|timeline| window.timeline == timeline)).collect();
    let is_before = |moment: &Moment, system: u64| match *goal {
        Goal::Latest => true,
        Goal::Time(time) => moment.time <= time,
        Goal::Position { system_id, lsn, .. } => system == system_id && moment.lsn <= lsn,
    };
    let before = windows.iter().filter(|window| is_before(&window.to, window.system_id)).map(|window| window.to);
    let after = windows.iter().filter(|window| !is_before(&window.from, window.system_id)).map(|window| window.from);
    let order = |moment: &Moment| match goal {
        Goal::Position { .. } => (moment.lsn.0, moment.time),
        _ => (0, moment.time),
    };
    let (before, after) = (before.max_by_key(order), after.min_by_key(order));
    let inside = windows
        .iter()
        .find(|window| is_before(&window.from, window.system_id) && !is_before(&window.to, window.system_id));
    let why = match inside {
        Some(window) => format!("{why} (timeline {} has it: --timeline {0})", window.timeline),
        None => why,
    };
    Ok(Error::TargetOutOfReach {
        target: wish.target.to_string(),
        why,
        before: before.map(Box::new),
        after: after.map(Box::new),
    })
}
