//! What is around every page: head, navigation, troubles, footer.

use maud::{DOCTYPE, Markup, Render, html};

use super::{
    assets,
    context::{PageContext, Place, roles},
    words,
};
use crate::{auth::Need, view::Trouble};

/// A whole document.
pub(super) fn page(context: &PageContext, title: &str, body: impl Render) -> Markup {
    document(context, title, None, body)
}

/// A whole document that loads itself again where there is no script.
pub(super) fn live_page(context: &PageContext, title: &str, seconds: u32, body: impl Render) -> Markup {
    document(context, title, Some(seconds), body)
}

fn document(context: &PageContext, title: &str, reload: Option<u32>, body: impl Render) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="same-origin";
                title { (title) " · Lifeboat" }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                link rel="stylesheet" href=(assets::STYLE.path());
                script defer src=(assets::SCRIPT.path()) {}
                @if let Some(seconds) = reload {
                    noscript { meta http-equiv="refresh" content=(seconds); }
                }
            }
            body data-now=(context.now) data-every=[reload] {
                a.skip href="#main" { "Skip to the content" }
                (header(context))
                div #troubles data-part { (troubles(context)) }
                main id="main" tabindex="-1" { (body) }
                (footer(context))
                p.unseen #said role="status" aria-live="polite" {}
            }
        }
    }
}

const NAVIGATION: [(Place, &str, &str, Need); 6] = [
    (Place::Overview, "/", "Overview", Need::Look),
    (Place::Schedules, "/schedules", "Schedules", Need::Look),
    (Place::Runbooks, "/runbooks", "Runbooks", Need::Look),
    (Place::Storage, "/storage", "Storage", Need::Look),
    (Place::Evidence, "/evidence", "Evidence", Need::Evidence),
    (Place::Activity, "/activity", "Activity", Need::Activity),
];

fn header(context: &PageContext) -> Markup {
    html! {
        header.bar {
            a.brand href="/" {
                svg viewBox="0 0 24 24" aria-hidden="true" {
                    circle cx="12" cy="12" r="8.2" fill="none" stroke="currentColor" stroke-width="5.4" {}
                    path.gaps d="M4.4 4.4l4 4M15.6 15.6l4 4M19.6 4.4l-4 4M8.4 15.6l-4 4" stroke-width="3" {}
                }
                "Lifeboat"
            }
            @if let Some(reader) = &context.reader {
                nav aria-label="Main" {
                    @for (place, path, name, _) in NAVIGATION.into_iter().filter(|(.., need)| context.may(*need)) {
                        a href=(path) aria-current=[(place == context.place).then_some("page")] { (name) }
                    }
                }
                div.who {
                    span { span.unseen { "Signed in as " } strong { (reader.who) } " " span.soft { (roles(reader)) } }
                    form method="post" action="/logout" { (context.csrf()) button.quiet type="submit" { "Sign out" } }
                }
            }
        }
    }
}

fn troubles(context: &PageContext) -> Markup {
    html! {
        @if !context.troubles.is_empty() {
            section.troubles aria-label="What does not work now" {
                @for trouble in context.troubles.iter().take(5) { (one_trouble(context, trouble)) }
                @if context.troubles.len() > 5 {
                    p { "… and " (context.troubles.len() - 5) " more: " code { "lifeboat status" } " lists them." }
                }
            }
        }
    }
}

fn one_trouble(context: &PageContext, trouble: &Trouble) -> Markup {
    html! {
        p {
            strong { (words::capital(&trouble.of)) @if let Some(tenant) = &trouble.tenant { " of " (tenant) } ":" } " "
            (trouble.text) " "
            span.since { "Since " (words::time_and_ago(context.now, trouble.since)) "." }
            @if let Some(next) = &trouble.next { " " span.next { (next) } }
        }
    }
}

fn footer(context: &PageContext) -> Markup {
    let looked = context.looked.unwrap_or(context.now);
    html! {
        footer {
            p {
                "Data of " time #looked datetime=(looked) data-part="looked" { (words::exact(looked)) }
                ". Times are in UTC."
            }
            p #connection role="status" aria-live="polite" {}
            p.version { "Lifeboat " (env!("CARGO_PKG_VERSION")) }
        }
    }
}
