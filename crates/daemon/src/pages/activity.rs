//! Who did what, and who was refused.

use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    layout,
    parts::{self, Table, Tone},
    words,
};
use crate::view::ActivityView;

/// Entries on a page.
pub const PER_PAGE: usize = 200;

/// The page at `/activity`.
pub fn page(found: &[ActivityView], context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Activity);
    let names = ["When", "Who", "What", "Allowed", "What became of it"];
    let mut table = Table::new("activity", "Acts, newest first", &names);
    for one in found {
        table.row(vec![
            words::time_and_ago(context.now, one.at),
            html! { (one.who) },
            html! { (one.act) @if let Some(target) = &one.target { " " span.id { (target) } } @if let Some(tenant) = &one.tenant { " " span.soft { (tenant) } } },
            if one.allowed { parts::word(Tone::Plain, "yes") } else { parts::word(Tone::Bad, "refused") },
            html! { (one.detail.as_deref().unwrap_or("–")) },
        ]);
    }
    let body = html! {
        h1 { "Activity" }
        p.lead { "Every act and every refusal. What people did is also in the ledger of the tenant, signed." }
        section #acts data-part aria-label="Acts" {
            @if table.is_empty() { (parts::nothing("Nobody has done anything yet", html! { p { "The next sign-in, start or refusal stands here." } })) }
            @else { (table) }
            @if found.len() >= PER_PAGE { p.soft { "The newest " (PER_PAGE) ". Older ones are in the ledger: " (parts::command("lifeboat evidence list --kind access")) } }
        }
    };
    layout::live_page(&context, "Activity", 60, body)
}
