//! Backups, drills, controls and the moments that can be reached, along the time. Each outcome has a shape of its own; the text
//! beside it says the same.

use std::fmt::Write as _;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use maud::{Markup, html};

use super::words;
use crate::view::{Mark, Stretch, Timeline};

/// Pixels of the small one.
const WIDTH: f64 = 280.0;

/// What every glyph means.
pub(super) fn legend() -> Markup {
    let sample = |what: Markup, name: &str| {
        html! { span { svg.timeline viewBox="-7 -8 14 16" width="14" height="16" aria-hidden="true" { (what) } (name) } }
    };
    html! {
        p.legend {
            (sample(html! { path.tick d="M-3-5V5M0-5V5M3-5V5" {} }, "backup"))
            (sample(html! { path.tick.bad d="M0-7V8" {} path.tick.bad d="M-3-7H3" {} }, "backup not done"))
            (sample(glyph("drill", "passed"), "drill passed"))
            (sample(glyph("drill", "failed"), "failed"))
            (sample(glyph("drill", "incomplete"), "not complete"))
            (sample(glyph("control", "passed"), "negative control"))
            (sample(html! { rect.window x="-7" y="-2" width="14" height="4" {} }, "every moment can be reached"))
        }
    }
}

/// Where a moment is, from 0 to 1.
fn part(timeline: &Timeline, at: Timestamp) -> f64 {
    let whole = words::between(timeline.from, timeline.to).max(1.0);
    (at.duration_since(timeline.from).as_secs_f64() / whole).clamp(0.0, 1.0)
}

fn inside<'t>(timeline: &'t Timeline, verb: &'static str) -> impl Iterator<Item = &'t Mark> {
    timeline.marks.iter().filter(move |mark| mark.verb == verb && mark.at >= timeline.from && mark.at <= timeline.to)
}

/// A path of ticks; those that would lie on each other are one.
fn ticks(timeline: &Timeline, width: f64, bad: bool, draw: impl Fn(f64) -> String) -> String {
    let mut path = String::new();
    let mut last = f64::NEG_INFINITY;
    for mark in inside(timeline, "backup").filter(|mark| (mark.outcome != "passed") == bad) {
        let x = (part(timeline, mark.at) * (width - 2.0) + 1.0).round();
        if x > last {
            path.push_str(&draw(x));
            last = x;
        }
    }
    path
}

/// Midnights, as places from 0 to 1.
fn midnights(timeline: &Timeline) -> Vec<(f64, Timestamp)> {
    let mut day = timeline.from.to_zoned(TimeZone::UTC).date();
    let mut found = Vec::new();
    while found.len() < 62 {
        let Ok(next) = day.checked_add(1.day()) else { break };
        day = next;
        let Ok(at) = day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()) else { break };
        if at >= timeline.to {
            break;
        }
        found.push((part(timeline, at), at));
    }
    found
}

/// One line high, for lists.
pub(super) fn small(timeline: &Timeline) -> Markup {
    let days = midnights(timeline).iter().fold(String::new(), |mut path, (x, _)| {
        let _ = write!(path, "M{:.0} 1V30", x * WIDTH); // writing to a text cannot fail
        path
    });
    html! {
        svg.timeline viewBox="0 0 280 31" role="img" aria-label=(told(timeline)) {
            path.day d=(days) {}
            rect.track x="0" y="26" width="280" height="3" {}
            @for window in &timeline.windows { (band(timeline, window, WIDTH, 25.0, 5.0)) }
            path.tick d=(ticks(timeline, WIDTH, false, |x| format!("M{x} 15V23"))) {}
            path.tick.bad d=(ticks(timeline, WIDTH, true, |x| format!("M{x} 12V30M{} 12H{}", x - 3.0, x + 3.0))) {}
            @for verb in ["control", "drill"] {
                @for mark in inside(timeline, verb) {
                    @let x = part(timeline, mark.at) * (WIDTH - 14.0) + 7.0;
                    g transform=(format!("translate({x:.1} 7)")) { (glyph(verb, &mark.outcome)) }
                }
            }
        }
    }
}

fn band(timeline: &Timeline, window: &Stretch, width: f64, y: f64, height: f64) -> Markup {
    let (from, to) = (part(timeline, window.from) * width, part(timeline, window.to) * width);
    html! {
        @if window.to > timeline.from && window.from < timeline.to {
            rect.window x=(format!("{from:.1}")) y=(y) width=(format!("{:.1}", (to - from).max(1.0))) height=(height) {}
        }
    }
}

/// Around the origin. A drill is a diamond, a control a ring; what failed is a cross, what is not whole is hollow.
fn glyph(verb: &str, outcome: &str) -> Markup {
    html! {
        @match (verb, outcome) {
            ("drill", "passed") => { path.drill d="M0-5.5L5.5 0 0 5.5-5.5 0z" {} }
            ("control", "passed") => { circle.control r="3.6" {} }
            (_, "failed") => {
                path.failed d="M-4.5-4.5L4.5 4.5M4.5-4.5L-4.5 4.5" {}
                @if verb == "control" { circle.failed r="6" {} }
            }
            ("drill", _) => { path.open d="M0-5L5 0 0 5-5 0z" {} }
            _ => { circle.open r="3.6" {} path.open d="M0-3V3" {} }
        }
    }
}

/// In lanes, with days below, for the page of an instance.
pub(super) fn large(timeline: &Timeline) -> Markup {
    let days = midnights(timeline);
    let step = days.len().div_ceil(7).max(1);
    let percent = |x: f64| format!("{:.2}%", 0.8 + x * 98.4);
    html! {
        figure.lanes {
            div.names aria-hidden="true" { span { "Drills" } span { "Controls" } span { "Backups" } span { "Reachable" } }
            svg.timeline.chart height="136" role="group" aria-label=(told(timeline)) {
                @for (x, _) in &days { line.day x1=(percent(*x)) x2=(percent(*x)) y1="0" y2="116" {} }
                svg x="0.8%" y="0" width="98.4%" height="116" viewBox="0 0 1000 116" preserveAspectRatio="none" overflow="visible" {
                    rect.track x="0" y="98" width="1000" height="6" {}
                    @for window in &timeline.windows { (band(timeline, window, 1000.0, 96.0, 10.0)) }
                    path.tick d=(ticks(timeline, 1000.0, false, |x| format!("M{x} 66V82"))) {}
                    path.tick.bad d=(ticks(timeline, 1000.0, true, |x| format!("M{x} 59V110M{} 59H{}", x - 4.0, x + 4.0))) {}
                }
                @for (verb, y) in [("drill", 15), ("control", 44)] {
                    @for mark in inside(timeline, verb) {
                        svg x=(percent(part(timeline, mark.at))) y=(y) width="1" height="1" overflow="visible" {
                            @match &mark.run {
                                Some(run) => {
                                    a href=(super::parts::run_path(run)) aria-label=(said(mark)) {
                                        rect.hit x="-12" y="-12" width="24" height="24" {}
                                        g { title { (said(mark)) } (glyph(verb, &mark.outcome)) }
                                    }
                                }
                                None => { g { title { (said(mark)) } (glyph(verb, &mark.outcome)) } }
                            }
                        }
                    }
                }
                @for (x, at) in days.iter().step_by(step) {
                    @if *x < 0.85 { text x=(percent(*x)) y="131" { (at.to_zoned(TimeZone::UTC).strftime("%-d %b").to_string()) } }
                }
            }
        }
    }
}

fn said(mark: &Mark) -> String {
    format!("{} {}, {}", words::capital(&mark.verb), mark.outcome, words::moment(mark.at))
}

/// The same in words.
pub(super) fn told(timeline: &Timeline) -> String {
    let days = (words::between(timeline.from, timeline.to) / 86_400.0).round() as u64;
    let mut told = format!("Last {days} days: ");
    let sums: Vec<String> = [
        ("backup", "backup", "backups"),
        ("drill", "drill", "drills"),
        ("control", "negative control", "negative controls"),
    ]
    .into_iter()
    .map(|(verb, one, more)| {
        let all = inside(timeline, verb).count() as u64;
        let bad = inside(timeline, verb).filter(|mark| mark.outcome != "passed").count() as u64;
        let sum = if all == 0 { format!("no {one}") } else { words::count(all, one, more) };
        if bad == 0 { sum } else { format!("{sum}, of which {} did not pass", words::number(bad)) }
    })
    .collect();
    let _ = write!(told, "{}. ", sums.join("; ")); // writing to a text cannot fail
    told.push_str(&covered(timeline));
    told
}

/// How much of the time can be reached.
pub(super) fn covered(timeline: &Timeline) -> String {
    let whole = words::between(timeline.from, timeline.to).max(1.0);
    let gaps = gaps(timeline);
    let open: f64 = gaps.iter().map(|gap| words::between(gap.from, gap.to)).sum();
    let Some(longest) =
        gaps.iter().max_by(|a, b| words::between(a.from, a.to).total_cmp(&words::between(b.from, b.to)))
    else {
        return "Every moment can be reached.".to_owned();
    };
    if open >= whole - 1.0 {
        return "No moment between backups can be reached.".to_owned();
    }
    let share = ((1.0 - open / whole) * 1000.0).floor() / 10.0;
    let (from, span) = (words::moment(longest.from), words::short(words::between(longest.from, longest.to)));
    format!("{share} % of the time can be reached; the longest gap is of {span}, from {from}.")
}

/// Stretches that cannot be reached, oldest first; less than a minute at the newest end is the log on its way.
pub(super) fn gaps(timeline: &Timeline) -> Vec<Stretch> {
    let mut windows: Vec<&Stretch> = timeline.windows.iter().collect();
    windows.sort_by_key(|window| window.from);
    let (mut found, mut reached) = (Vec::new(), timeline.from);
    for window in windows {
        if window.from > reached && reached < timeline.to {
            found.push(Stretch { from: reached, to: window.from.min(timeline.to) });
        }
        reached = reached.max(window.to);
    }
    if words::between(reached, timeline.to) > 60.0 {
        found.push(Stretch { from: reached, to: timeline.to });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn timeline() -> Timeline {
        let mark = |verb: &str, outcome: &str, time: &str| Mark {
            verb: verb.into(),
            outcome: outcome.into(),
            at: at(time),
            run: Some("0123456789abcdef".into()),
        };
        Timeline {
            from: at("2026-11-08T12:00:00Z"),
            to: at("2026-11-22T12:00:00Z"),
            marks: vec![
                mark("backup", "passed", "2026-11-09T01:00:00Z"),
                mark("backup", "passed", "2026-11-09T01:00:01Z"),
                mark("backup", "failed", "2026-11-10T01:00:00Z"),
                mark("drill", "failed", "2026-11-11T03:00:00Z"),
                mark("drill", "passed", "2026-11-12T03:00:00Z"),
                mark("control", "passed", "2026-11-13T03:00:00Z"),
                mark("backup", "passed", "2026-11-01T01:00:00Z"),
            ],
            windows: vec![
                Stretch { from: at("2026-11-01T00:00:00Z"), to: at("2026-11-15T00:00:00Z") },
                Stretch { from: at("2026-11-16T00:00:00Z"), to: at("2026-11-22T11:59:50Z") },
            ],
        }
    }

    #[test]
    fn the_text_says_what_the_picture_shows() {
        assert_eq!(
            told(&timeline()),
            "Last 14 days: 3 backups, of which 1 did not pass; 2 drills, of which 1 did not pass; 1 negative control. \
             92.8 % of the time can be reached; the longest gap is of 24 h, from 15 Nov 00:00."
        );
        let empty = Timeline { marks: Vec::new(), windows: Vec::new(), ..timeline() };
        let told = told(&empty);
        assert!(told.contains("no backup; no drill") && told.contains("No moment between backups"), "{told}");
    }

    #[test]
    fn ticks_on_each_other_are_one_and_older_ones_are_left_out() {
        let path = ticks(&timeline(), WIDTH, false, |x| format!("M{x}"));
        assert_eq!(path.matches('M').count(), 1, "{path}");
        let shown = small(&timeline()).into_string();
        assert_eq!(shown.matches("class=\"failed\"").count(), 1);
        assert_eq!(shown.matches("class=\"drill\"").count(), 1);
        let shown = large(&timeline()).into_string();
        assert_eq!(shown.matches("<a href=\"/runs/0123456789abcdef\"").count(), 3);
    }

    #[test]
    fn gaps_are_where_no_window_is() {
        let mut line = timeline();
        line.windows.push(Stretch { from: at("2026-11-14T00:00:00Z"), to: at("2026-11-15T12:00:00Z") });
        let found = gaps(&line);
        assert_eq!(found, [Stretch { from: at("2026-11-15T12:00:00Z"), to: at("2026-11-16T00:00:00Z") }]);
        line.windows.clear();
        assert_eq!(gaps(&line), [Stretch { from: line.from, to: line.to }]);
    }
}
