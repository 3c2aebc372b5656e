//! What an instance cannot work without: drawn around it, and told in a table. The drawing says nothing that the table does not.

use maud::{Markup, html};

use crate::{
    pages::{
        context::PageContext,
        parts::{self, Table, Tone},
        words,
    },
    view::{DependencyView, InstanceView},
};

/// The section.
pub(super) fn section(view: &InstanceView, context: &PageContext) -> Markup {
    html! {
        section #dependencies data-part aria-labelledby="dependencies-title" {
            h2 #dependencies-title { "What it cannot work without" }
            @if view.dependencies.is_empty() {
                p.soft { "Nobody has declared anything. Whoever brings it back wants to know: "
                    code { "[instances." (view.line.instance) ".dependencies]" } " in lifeboat.toml is the map." }
            } @else {
                p.soft { (sum(&view.dependencies)) }
                figure.map { (drawn(&view.line.instance, &view.dependencies)) }
                (table(&view.dependencies, context))
            }
        }
    }
}

/// In words: how many answer.
fn sum(dependencies: &[DependencyView]) -> String {
    let with = |state: &str| dependencies.iter().filter(|one| one.state == state).count() as u64;
    let parts = [
        (with("silent"), "does not answer", "do not answer"),
        (with("answers"), "answers", "answer"),
        (with("not-checked"), "is not checked", "are not checked"),
        (with("unknown"), "was not asked yet", "were not asked yet"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(many, ..)| *many > 0)
        .map(|(many, one, more)| format!("{} {}", words::number(many), if many == 1 { one } else { more }))
        .collect();
    format!("{}.", said.join(", "))
}

fn state(one: &DependencyView) -> (Tone, &'static str) {
    match one.state.as_str() {
        "answers" => (Tone::Good, "answers"),
        "silent" => (Tone::Bad, "does not answer"),
        "not-checked" => (Tone::Doubt, "not checked"),
        _ => (Tone::Plain, "not asked yet"),
    }
}

fn table(dependencies: &[DependencyView], context: &PageContext) -> Markup {
    let mut table = Table::new("dependencies", "Dependencies", &["Dependency", "State", "Where", "Without it"]);
    for one in dependencies {
        let (tone, word) = state(one);
        table.row(vec![
            html! { (one.name) " " span.soft { (one.kind) } },
            html! {
                (parts::word(tone, word))
                @if let Some(since) = one.since { span.because { "since " (words::ago(context.now, since)) } }
                @if let Some(why) = &one.why { span.because { (parts::first_line(why)) } }
            },
            html! { code { (one.address) } },
            html! { @match &one.note { Some(note) => { (note) } None => { span.soft { "nobody has said" } } } },
        ]);
    }
    html! { (table) }
}

const WIDTH: i32 = 760;
const NODE: (i32, i32) = (250, 44);
const GAP: i32 = 12;
const HUB: (i32, i32) = (150, 60);
/// So many are drawn; the table has all.
const MOST: usize = 24;
/// Letters that a node has room for.
const LETTERS: usize = 26;

fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        text.to_owned()
    } else {
        text.chars().take(letters - 1).chain(['…']).collect()
    }
}

/// The instance in the middle, what it needs on both sides of it, kind by kind. A line that is broken does not answer.
fn drawn(instance: &str, dependencies: &[DependencyView]) -> Markup {
    let mut sorted: Vec<&DependencyView> = dependencies.iter().collect();
    sorted.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    sorted.truncate(MOST);
    let (left, right) = sorted.split_at(sorted.len().div_ceil(2));
    let tall = |many: usize| many as i32 * (NODE.1 + GAP) - GAP;
    let height = tall(left.len()).max(HUB.1) + 2;
    let middle = height / 2;
    let nodes = [(left, 1, 1 + NODE.0), (right, WIDTH - NODE.0 - 1, WIDTH - NODE.0 - 1)].into_iter().flat_map(
        |(side, x, edge)| {
            let top = (height - tall(side.len())) / 2;
            side.iter().enumerate().map(move |(at, one)| (*one, x, edge, top + at as i32 * (NODE.1 + GAP)))
        },
    );
    let nodes: Vec<(&DependencyView, i32, i32, i32)> = nodes.collect();
    let (hub_x, hub_y) = ((WIDTH - HUB.0) / 2, middle - HUB.1 / 2);
    let label = format!("{instance} in the middle of what it cannot work without: {}", sum(dependencies));
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(label) {
            @for (one, _, edge, y) in &nodes {
                @let from = if *edge < WIDTH / 2 { hub_x } else { hub_x + HUB.0 };
                @let (between, y) = ((from + edge) / 2, y + NODE.1 / 2);
                path.way.(state(one).0.class()) fill="none" d=(format!("M{edge} {y}C{between} {y} {between} {middle} {from} {middle}")) {}
            }
            rect.hub x=(hub_x) y=(hub_y) width=(HUB.0) height=(HUB.1) rx="8" {}
            text.of-hub x=(WIDTH / 2) y=(middle + 4) text-anchor="middle" { (cut(instance, 18)) }
            @for (one, x, _, y) in &nodes {
                @let (tone, word) = state(one);
                g.node.(tone.class()) {
                    rect x=(x) y=(y) width=(NODE.0) height=(NODE.1) rx="6" {}
                    g.sign transform=(format!("translate({} {}) scale(.7)", x + 12, y + 14)) { (parts::shape(tone)) }
                    text.name x=(x + 38) y=(y + 19) { (cut(&one.name, LETTERS)) }
                    text x=(x + 38) y=(y + 35) { (one.kind) ", " (word) }
                }
            }
        }
    }
}
