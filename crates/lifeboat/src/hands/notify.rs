//! `notify`: by channels of the daemon's settings where there are such; what cannot be sent from here is shown, for somebody to send.

use std::sync::Arc;

use lifeboat_daemon::notify;
use lifeboat_runbook::{
    action::notify::Notify,
    execute::{Acting, Outputs},
};

use super::Tools;

/// Shows a message instead of sending it.
pub(super) fn show(message: &Notify, acting: &Acting<'_>, tools: &Tools, why: &str) {
    let (subject, text) = words(message, acting);
    (tools.talk)(&format!("for {} ({why}):\n  {subject}\n  {text}", message.channels.join(", ")));
}

fn words(message: &Notify, acting: &Acting<'_>) -> (String, String) {
    let text = message.message.as_ref().map(|text| acting.course.fill(text)).unwrap_or_default();
    (acting.course.fill(&message.subject), text)
}

pub(super) async fn act(message: &Notify, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let (subject, text) = words(message, acting);
    let mut problems = Vec::new();
    for name in &message.channels {
        let Some(channel) = tools.channels.iter().find(|channel| channel.name == *name) else {
            show(message, acting, tools, &format!("there is no channel \"{name}\" here: somebody has to send it"));
            problems.push(format!("{name}: there is no such channel in the daemon's settings"));
            continue;
        };
        let environment = Arc::new(|name: &str| crate::wire::environment(name));
        let sent = notify::say(channel, tools.public_url.clone(), environment, (&subject, &text), (tools.clock)());
        if let Err(failure) = sent.await {
            problems.push(format!("{name}: {failure}"));
        }
    }
    match problems.is_empty() {
        true => Ok(Outputs::new()),
        false => Err(problems.join("; ")),
    }
}
