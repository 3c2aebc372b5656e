//! What is stored, how it grows, what it costs, which locks end. Without a price nobody's cost is made up: bytes kept for a
//! month are what every price is for.

use lifeboat_model::price::Price;
use maud::{Markup, html};

use super::{
    chart,
    context::{PageContext, Place},
    layout,
    parts::{self, Table},
    words,
};
use crate::view::{CostView, Size, StorageView};

/// Instances in the table of a tenant: the largest.
const LINES: usize = 200;

/// The page at `/storage`.
pub fn page(views: &[StorageView], context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Storage);
    let body = html! {
        h1 { "Storage" }
        @if views.is_empty() {
            (parts::nothing("Nothing is stored", html! { p { "The first backup stores the first objects." } }))
        }
        @for view in views { (tenant(view, views.len() > 1, &context)) }
    };
    layout::live_page(&context, "Storage", 300, body)
}

fn tenant(view: &StorageView, is_one_of_many: bool, context: &PageContext) -> Markup {
    let id = format!("of-{}", view.tenant);
    let bytes: u64 = view.instances.iter().map(|line| line.bytes).sum();
    let points: Vec<chart::Point> =
        view.growth.iter().map(|size| chart::Point { at: size.at, value: size.bytes as f64 }).collect();
    html! {
        section id=(id) data-part aria-labelledby=(format!("{id}-title")) {
            h2 id=(format!("{id}-title")) { @if is_one_of_many { (view.tenant) } @else { "Stored for " (view.tenant) } }
            p { (view.place) }
            div.tiles {
                (parts::tile("Stored now", words::bytes(bytes), words::count(view.instances.len() as u64, "instance", "instances")))
                @if view.cost.is_none() {
                    (parts::tile("A month of it", kept(&view.growth), "what a price per GiB and month is for; none is configured"))
                }
                (parts::tile("Growth", grown(&view.growth), "over the last 30 days, or since it is known"))
                @if let Some(cost) = &view.cost { (costs(cost)) }
            }
            @if view.cost.is_none() {
                p.soft {
                    "What it costs is told when the repository's section in " code { "lifeboat.toml" } " names a price, as "
                    code { "price_per_gb_month = \"0.023 USD\"" } "."
                }
            }
            @if points.len() > 1 { (chart::growth(&id, "Bytes stored, all instances", &points)) }
            div.two {
                div { h3 { "By instance" } (instances(view)) }
                div { h3 { "Locks that end" } (locks(view, context)) }
            }
        }
    }
}

/// This month, and what cannot be taken back.
fn costs(cost: &CostView) -> Markup {
    let money = |amount: f64| Price { amount, currency: cost.currency.clone() }.to_string();
    let this_month = cost.this_month.map_or_else(|| "not known yet".to_owned(), money);
    let price = format!("if nothing changes until its end, at {} {} for a GiB and month", cost.price, cost.currency);
    html! {
        (parts::tile("This month costs", this_month, price))
        (parts::tile("Locked in", money(cost.committed), "at most: what is stored, until the locks end"))
    }
}

fn instances(view: &StorageView) -> Markup {
    let mut lines: Vec<_> = view.instances.iter().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
    let all: u64 = lines.iter().map(|line| line.bytes).sum::<u64>().max(1);
    let mut table =
        Table::new("sizes", "Bytes by instance, largest first", &["Instance", "Stored", "Share", "Log", "Objects"]);
    for line in lines.iter().take(LINES) {
        let share = line.bytes as f64 * 100.0 / all as f64;
        table.row(vec![
            html! { a href=(parts::instance_path(&view.tenant, &line.instance)) { (line.instance) } },
            html! { (words::bytes(line.bytes)) },
            html! {
                svg.share viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" { rect.whole width="100" height="8" {} rect width=(format!("{share:.1}")) height="8" {} }
                span.number { (format!("{share:.0} %")) }
            },
            html! { (words::bytes(line.wal_bytes)) },
            html! { (words::number(line.objects)) },
        ]);
    }
    html! {
        @if table.is_empty() { p.soft { "No instance." } } @else { (table) }
        @if lines.len() > LINES { p.soft { "The largest " (LINES) " of " (words::number(lines.len() as u64)) "." } }
    }
}

fn locks(view: &StorageView, context: &PageContext) -> Markup {
    let mut heads = vec!["Newest point of", "Locked until"];
    heads.extend(view.cost.is_some().then_some("Costs until then"));
    let mut table = Table::new("locks", "Locks of the newest points, soonest first", &heads);
    for lock in view.locks_ending.iter().take(LINES) {
        let mut row = vec![
            html! { a href=(parts::instance_path(&view.tenant, &lock.instance)) { (lock.instance) } },
            words::time_and_ago(context.now, lock.until),
        ];
        if let Some(cost) = &view.cost {
            let until = lock.cost.map(|amount| Price { amount, currency: cost.currency.clone() }.to_string());
            row.push(html! { (until.unwrap_or_default()) });
        }
        table.row(row);
    }
    html! { @if table.is_empty() { p.soft { "Nothing is locked, as far as is known." } } @else { (table) } }
}

const MONTH: f64 = 30.0 * 86_400.0;
const GIB: f64 = 1_073_741_824.0;

/// The sizes of the last 30 days.
fn last_month(growth: &[Size]) -> &[Size] {
    let Some(last) = growth.last() else { return growth };
    let first = growth.iter().position(|size| words::between(size.at, last.at) <= MONTH).unwrap_or(0);
    &growth[first..]
}

/// Bytes kept over the last 30 days, as if what is known were all of it.
fn kept(growth: &[Size]) -> String {
    let growth = last_month(growth);
    let (mut sum, mut whole) = (0.0, 0.0);
    for pair in growth.windows(2) {
        let span = words::between(pair[0].at, pair[1].at);
        sum += (pair[0].bytes as f64 + pair[1].bytes as f64) / 2.0 * span;
        whole += span;
    }
    match (growth.last(), whole > 0.0) {
        (_, true) => format!("{:.2} GiB·months", sum / whole / GIB),
        (Some(only), false) => format!("{:.2} GiB·months", only.bytes as f64 / GIB),
        (None, false) => "not known yet".to_owned(),
    }
}

fn grown(growth: &[Size]) -> String {
    let growth = last_month(growth);
    match (growth.first(), growth.last()) {
        (Some(first), Some(last)) if growth.len() > 1 => {
            let sign = if last.bytes >= first.bytes { "+" } else { "−" };
            format!("{sign}{}", words::bytes(last.bytes.abs_diff(first.bytes)))
        }
        _ => "not known yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(day: i64, gib: u64) -> Size {
        Size { at: jiff::Timestamp::from_second(day * 86_400).unwrap(), bytes: gib << 30 }
    }

    #[test]
    fn a_month_is_what_was_kept_in_it() {
        assert_eq!(kept(&[]), "not known yet");
        assert_eq!(kept(&[size(1, 3)]), "3.00 GiB·months");
        assert_eq!(
            kept(&[size(0, 100), size(40, 1), size(55, 1), size(70, 3)]),
            "1.50 GiB·months",
            "older days are left out"
        );
        assert_eq!(grown(&[size(0, 100), size(40, 1), size(70, 3)]), "+2.0 GiB");
        assert_eq!(grown(&[size(40, 3), size(70, 1)]), "−2.0 GiB");
    }
}
