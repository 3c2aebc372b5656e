//! The dead man's switch: a service elsewhere is asked for something for as long as the daemon is well. When that stops, for
//! whatever reason, that service raises the alarm. It is not about how the instances are: only about whether somebody watches.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{
    Memory,
    channel::{Failure, Means},
};
use crate::{daemon::Daemon, settings::DeadMan, view::Trouble};

/// Longer than the dispatcher ever waits, with room for a slow disk.
const DISPATCHER: SignedDuration = SignedDuration::from_secs(120);
/// The key of a row that is only written to see that rows can be written.
const MARK: &str = "pulse/";

/// Why nobody may believe that all is well; none: it is.
pub(super) async fn unwell(daemon: &Daemon, memory: &Memory, now: Timestamp) -> Option<String> {
    let dispatched = Timestamp::from_second(daemon.dispatched.load(Ordering::Relaxed)).unwrap_or_default();
    if now.duration_since(dispatched) > DISPATCHER {
        return Some("nothing was begun for two minutes: the dispatcher does not turn".to_owned());
    }
    if let Some(why) = leads_nothing(daemon) {
        return Some(why);
    }
    let row = (MARK.to_owned(), "{}".to_owned());
    if let Err(error) = daemon.state.keep_conditions(vec![row], Vec::new()).await {
        return Some(format!("the state cannot be written: {error}"));
    }
    silent(daemon, memory)
}

/// Another daemon that is asked for the same switch must not hide that the one that leads has stopped. Until the first claim
/// after the start has answered, nothing is known of that, and the switch is asked for.
fn leads_nothing(daemon: &Daemon) -> Option<String> {
    let troubles = daemon.troubles.all();
    let mut why = None;
    for tenant in daemon.policies().sites.keys() {
        let is_of = |trouble: &&Trouble| {
            matches!(&*trouble.of, "leader" | "lead") && trouble.tenant.as_deref() == Some(tenant.as_str())
        };
        let trouble = troubles.iter().find(is_of)?; // this tenant is led
        why = Some(format!("this daemon works for no tenant: {}", trouble.text));
    }
    why
}

/// A channel that fails is told of over the others. Where there is none, nobody knows.
fn silent(daemon: &Daemon, memory: &Memory) -> Option<String> {
    let failing = memory.failing();
    let policies = daemon.policies();
    let (name, (_, why)) = failing.iter().next()?;
    let is_told = policies.settings.notify.channels.iter().any(|channel| !failing.contains_key(&channel.name));
    (!is_told).then(|| format!("no channel works; {name}: {why}"))
}

/// Asks.
pub(super) async fn ping(dead_man: &DeadMan, means: &Means) -> Result<(), Failure> {
    means.http.get(means.address(&dead_man.url)?).await
}
