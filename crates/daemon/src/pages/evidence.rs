//! Signed statements, and how somebody who trusts nobody checks them.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde::Deserialize;

use super::{
    context::{PageContext, Place},
    filter, layout,
    parts::{self, Table, Tone},
    words,
};
use crate::view::{EvidenceView, StatementView};

/// Statements on a page.
pub const PER_PAGE: usize = 100;

/// Which statements are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// Whose.
    pub tenant: Option<String>,
    /// Of what.
    pub instance: Option<String>,
    /// `backup`, `drill`, …
    pub kind: Option<String>,
    /// Older than this moment: the time of the last one of the page before.
    pub before: Option<String>,
}

impl Wanted {
    fn path(&self, before: Option<String>) -> String {
        let fields =
            [("tenant", &self.tenant), ("instance", &self.instance), ("kind", &self.kind), ("before", &before)];
        let query: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, field)| {
                Some(format!("{name}={}", parts::encoded(field.as_deref().filter(|text| !text.is_empty())?)))
            })
            .collect();
        if query.is_empty() { "/evidence".to_owned() } else { format!("/evidence?{}", query.join("&")) }
    }
}

/// The address of a statement's page. Keys have slashes that stay.
pub(super) fn path(tenant: &str, key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(parts::encoded).collect();
    format!("/evidence/{}/{}", parts::encoded(tenant), parts.join("/"))
}

/// The page at `/evidence`. `tenants` are those whose evidence may be seen.
pub fn list(found: &[EvidenceView], wanted: &Wanted, tenants: &[String], context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Evidence);
    let mut table =
        Table::new("evidence", "Statements, newest first", &["Statement", "Of", "Made", "Signature", "Run"]);
    for one in found {
        table.row(vec![
            html! { a href=(path(&one.tenant, &one.key)) { (words::capital(&one.kind)) } },
            html! {
                @match &one.instance {
                    Some(instance) => { a href=(parts::instance_path(&one.tenant, instance)) { (instance) } " " span.soft { (one.tenant) } }
                    None => { "all of " (one.tenant) }
                }
            },
            words::time_and_ago(context.now, one.at),
            signature(one),
            html! { a href=(parts::run_path(&one.run)) { code.id { (one.run) } } },
        ]);
    }
    let more =
        (found.len() >= PER_PAGE).then(|| found.last().map(|last| wanted.path(Some(last.at.to_string())))).flatten();
    let body = html! {
        h1 { "Evidence" }
        p.lead { "Every backup, drill and act leaves a statement that is signed, entered into a ledger and never changed. "
            a href="#offline" { "Verify it offline" } ", with nothing of ours but a public key." }
        (form(wanted, tenants))
        section #statements data-part aria-label="Statements" {
            @if table.is_empty() {
                (parts::nothing("No statement", html! {
                    p { @if wanted == &Wanted::default() { "The first backup leaves the first." }
                        @else { "None is like that. " a href="/evidence" { "Show all" } } }
                }))
            } @else { (table) }
            @if let Some(more) = more { nav.pages aria-label="Pages" { a rel="next" href=(more) { "Older →" } } }
        }
        (offline())
    };
    layout::page(&context, "Evidence", body)
}

fn signature(one: &EvidenceView) -> Markup {
    html! {
        @match &one.doubt {
            None => { (parts::word(Tone::Good, "valid")) }
            Some(doubt) => { (parts::word(Tone::Bad, "not believed")) span.because { (doubt) } }
        }
    }
}

const KINDS: [&str; 8] = ["backup", "drill", "runbook", "prune", "copy", "access", "policy", "signoff"];

fn form(wanted: &Wanted, tenants: &[String]) -> Markup {
    let tenants: BTreeSet<&str> = tenants.iter().map(String::as_str).collect();
    html! {
        form.filter method="get" action="/evidence" role="search" aria-label="Find statements" {
            @if tenants.len() > 1 { (filter::select("tenant", "Tenant", &tenants, wanted.tenant.as_deref())) }
            label { span { "Instance" } input type="search" name="instance" value=[wanted.instance.as_deref()]; }
            (filter::select("kind", "Kind", &KINDS.into(), wanted.kind.as_deref()))
            button type="submit" { "Show" }
        }
    }
}

/// As docs/evidence.md has it.
fn offline() -> Markup {
    html! {
        section.offline #offline aria-labelledby="offline-title" {
            h2 #offline-title { "Verify it offline" }
            ol.steps {
                li { p { strong { "Get the public key from the owner" } ", not from here and not from the evidence: on paper, from last year's files, from a second person. It looks like "
                    code { "lifeboat-ed25519:…" } "." } }
                li { p { strong { "Export." } " The owner runs:" } p { (parts::command("lifeboat evidence export --to evidence-2026")) } }
                li { p { strong { "Verify" } ", on a machine without a network if you like. The program has no configuration and no network code:" }
                    p { (parts::command("lifeboat-verify evidence-2026 --key lifeboat-ed25519:… --against checkpoint-of-last-year")) }
                    p.soft { "It ends with 0 (believed), 4 (something is wrong), 5 (nothing is wrong, and something stays in doubt). Want none of ours? "
                        code { "python3 verify.py evidence-2026 'lifeboat-ed25519:…'" } " is a hundred lines that ask " code { "openssl" } "." } }
                li { p { strong { "Keep the newest checkpoint" } ", the file with the highest number in " code { "ledger/checkpoints/" }
                    ", for the next time. Whoever keeps one can prove that nothing before it was changed or removed." } }
            }
        }
    }
}

/// The page of a statement at `/evidence/{tenant}/{key}`.
pub fn statement(found: &StatementView, context: &PageContext) -> Markup {
    let view = &found.line;
    let context = context.clone().at(Place::Evidence);
    let of = view.instance.as_deref().unwrap_or(&view.tenant);
    let title = format!("{} of {of}", words::capital(&view.kind));
    let text = found
        .statement
        .as_ref()
        .map(|statement| serde_json::to_string_pretty(statement).unwrap_or_else(|_| statement.to_string()));
    let body = html! {
        nav.crumbs aria-label="Where this is" { a href="/evidence" { "Evidence" } " / " a href=(format!("/evidence?tenant={}", parts::encoded(&view.tenant))) { (view.tenant) } }
        h1 { (title) }
        div.verdict.(if view.doubt.is_none() { "good" } else { "bad" }) {
            (parts::icon(if view.doubt.is_none() { Tone::Good } else { Tone::Bad }))
            div {
                p.large { @if view.doubt.is_none() { "Signed by a trusted key" } @else { "Not to be believed" } }
                p { @match &view.doubt {
                    None => { "So says this daemon. To know it without us, verify it yourself: the commands are below." }
                    Some(doubt) => { (doubt) }
                } }
            }
        }
        (parts::facts(vec![
            ("Made", Some(words::time_and_ago(context.now, view.at))),
            ("Run", Some(html! { a href=(parts::run_path(&view.run)) { code.id { (view.run) } } })),
            ("Instance", view.instance.as_ref().map(|instance| html! { a href=(parts::instance_path(&view.tenant, instance)) { (instance) } })),
            ("Key", Some(html! { code.id { (view.key) } })),
        ]))
        section aria-labelledby="verify-title" {
            h2 #verify-title { "Verify this one" }
            p { "With the repository at hand:" }
            p { (parts::command(&format!("lifeboat evidence show {}", view.key))) }
            p { "Offline, and by somebody else, with the public key that the owner has given them (" a href="/evidence#offline" { "all steps" } "):" }
            p { (parts::command("lifeboat evidence export --to evidence-2026")) }
            p { (parts::command("lifeboat-verify evidence-2026 --key lifeboat-ed25519:…")) }
        }
        section aria-labelledby="text-title" {
            h2 #text-title { "What was signed" }
            @match text {
                Some(text) => { pre tabindex="0" { code { (text) } } }
                None => { p { "It is not shown: nobody vouches for it." } }
            }
            details.answer {
                summary { "The envelope as it is stored" }
                p { "Kept in a file, it is checked with " code { "lifeboat evidence verify FILE" } "." }
                pre tabindex="0" { code { (found.envelope) } }
            }
        }
    };
    layout::page(&context, &title, body)
}
