//! A message as people read it.

use maud::{DOCTYPE, html};
use url::Url;

use super::{Condition, Message, Notice, What};
use crate::settings::Severity;

/// What stands in front: how grave, the gravest, how many more.
pub(super) fn subject(message: &Message) -> String {
    let Some(first) = message.notices.first() else { return "Lifeboat".to_owned() };
    let others = message.notices.len() as u64 - 1 + message.more.values().sum::<u64>();
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    format!("[{}] {}{more}", tag(message, first), title(first))
}

/// The whole of it without marks.
pub(super) fn text(message: &Message, public_url: Option<&Url>) -> String {
    let mut text = String::new();
    for notice in &message.notices {
        let condition = &notice.condition;
        text.push_str(&format!("[{}] {}\n", tag(message, notice), title(notice)));
        text.push_str(&format!("    {}\n", about(condition)));
        for line in condition.text.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        if let Some(deadline) = condition.deadline.filter(|_| notice.what != What::Resolved) {
            text.push_str(&format!("    until: {deadline:.0}\n"));
        }
        if let Some(next) = condition.next.as_ref().filter(|_| notice.what != What::Resolved) {
            text.push_str(&format!("    next: {next}\n"));
        }
        if let Some(link) = link(condition, public_url) {
            text.push_str(&format!("    {link}\n"));
        }
        text.push('\n');
    }
    for line in rest(message) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&format!("Lifeboat, {:.0}, message {}\n", message.at, message.id));
    text
}

/// The same for mail programs that show HTML. No script, no picture, nothing from elsewhere.
pub(super) fn page(message: &Message, public_url: Option<&Url>) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (subject(message)) } }
            body style="font-family: sans-serif; line-height: 1.4; max-width: 44em" {
                @for notice in &message.notices {
                    @let condition = &notice.condition;
                    div style={ "border-left: 4px solid " (colour(notice)) "; padding: 0 0 0 0.8em; margin: 0 0 1.2em 0" } {
                        p style="margin: 0" { strong { "[" (tag(message, notice)) "] " (title(notice)) } }
                        p style="margin: 0; color: #555" { (about(condition)) }
                        @for line in condition.text.lines() { p style="margin: 0" { (line) } }
                        @if notice.what != What::Resolved {
                            @if let Some(deadline) = condition.deadline { p style="margin: 0" { "until: " (format!("{deadline:.0}")) } }
                            @if let Some(next) = &condition.next { p style="margin: 0" { "next: " code { (next) } } }
                        }
                        @if let Some(link) = link(condition, public_url) { p style="margin: 0" { a href=(link) { (link) } } }
                    }
                }
                @for line in rest(message) { p { (line) } }
                p style="color: #555" { "Lifeboat, " (format!("{:.0}", message.at)) ", message " (message.id) }
            }
        }
    }
    .into_string()
}

/// Where one can look at it.
pub(super) fn link(condition: &Condition, public_url: Option<&Url>) -> Option<String> {
    let mut url = public_url?.clone();
    if let (Some(tenant), Some(instance)) = (&condition.tenant, &condition.instance) {
        url.path_segments_mut().ok()?.pop_if_empty().extend(["tenants", tenant, "instances", instance]);
    }
    Some(url.into())
}

/// What the notice says in one line.
pub(super) fn title(notice: &Notice) -> String {
    match notice.what {
        What::Begins | What::Graver => notice.condition.title.clone(),
        What::Reminder => format!("still: {}", notice.condition.title),
        What::Resolved => format!("no longer: {}", notice.condition.title),
    }
}

fn tag(message: &Message, notice: &Notice) -> &'static str {
    match (message.is_test, notice.what) {
        (true, _) => "test",
        (_, What::Resolved) => "resolved",
        _ => severity(notice.condition.severity),
    }
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn colour(notice: &Notice) -> &'static str {
    match (notice.what, notice.condition.severity) {
        (What::Resolved, _) => "#2e7d32",
        (_, Severity::Critical) => "#b3261e",
        (_, Severity::Warning) => "#b26a00",
        (_, Severity::Info) => "#44617b",
    }
}

/// Whose it is.
fn about(condition: &Condition) -> String {
    let parts = [
        ("tenant", &condition.tenant),
        ("instance", &condition.instance),
        ("tier", &condition.tier),
        ("owner", &condition.owner),
    ];
    let mut words: Vec<_> =
        parts.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}"))).collect();
    if words.is_empty() {
        words.push("the daemon itself".to_owned());
    }
    if let Some(since) = condition.since {
        words.push(format!("since {since:.0}"));
    }
    words.join(", ")
}

/// What is not told in full.
fn rest(message: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    if !message.more.is_empty() {
        let kinds: Vec<_> = message.more.iter().map(|(kind, count)| format!("{count} of {kind}")).collect();
        lines.push(format!("And more that is not told in full: {}. Look at the overview.", kinds.join(", ")));
    }
    if message.held_back > 0 {
        lines.push(format!(
            "{} notices were held back by the hourly limit or while this channel was away: what still counts stands above.",
            message.held_back
        ));
    }
    if message.given_up > 0 {
        lines.push(format!("{} earlier messages never got here within three days.", message.given_up));
    }
    lines
}
