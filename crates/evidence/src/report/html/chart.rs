//! Small charts as inline SVG. Positions across are percentages and text keeps its size, so that the same picture is legible on a
//! phone, a desk and paper; each tells in words what it shows.

use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use lifeboat_model::check::Outcome;
use maud::{Markup, html};

use crate::report::{
    period::{Gap, Rehearsal},
    words::{count, day, span},
};

/// Where lines of a logarithmic scale of durations are drawn.
const LINES: [(f64, &str); 12] = [
    (0.1, "0.1 s"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3600.0, "1 h"),
    (6.0 * 3600.0, "6 h"),
    (86_400.0, "1 day"),
    (7.0 * 86_400.0, "1 week"),
    (30.0 * 86_400.0, "30 days"),
    (365.0 * 86_400.0, "1 year"),
    (3650.0 * 86_400.0, "10 years"),
];

const TOP: f64 = 16.0;
const BOTTOM: f64 = 130.0;
const HEIGHT: f64 = 152.0;

/// The stretch of time that a chart shows.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Stretch {
    /// In percent, with room for a mark at either end.
    fn x(self, time: Timestamp) -> f64 {
        let whole = self.to.duration_since(self.from).as_secs_f64().max(1.0);
        let part = time.duration_since(self.from).as_secs_f64() / whole;
        1.5 + part.clamp(0.0, 1.0) * 97.0
    }

    /// Firsts of months, at most seven.
    fn months(self) -> Vec<(f64, String)> {
        let first = self.from.to_zoned(TimeZone::UTC).date();
        let mut month = civil::date(first.year(), first.month(), 1);
        let mut found = Vec::new();
        while found.len() < 600 {
            let Ok(time) = month.to_zoned(TimeZone::UTC) else { break };
            if time.timestamp() >= self.to {
                break;
            }
            if time.timestamp() >= self.from {
                found.push((self.x(time.timestamp()), time.strftime("%b %y").to_string()));
            }
            let Ok(next) = month.checked_add(1.month()) else { break };
            month = next;
        }
        let step = found.len().div_ceil(6).max(1);
        found.into_iter().step_by(step).filter(|(x, _)| *x < 88.0).collect()
    }
}

/// A measured time of each rehearsal, and the target that it had.
pub(super) struct Measure<'r> {
    /// `RPO` or `RTO`.
    pub name: &'static str,
    /// What that is.
    pub what: &'static str,
    pub rehearsals: &'r [Rehearsal],
    pub of: fn(&Rehearsal) -> (Option<f64>, u64),
    /// Today's, where nothing was measured.
    pub target: u64,
}

/// Where it is, the rehearsal, its measure and its target.
type Point<'r> = (f64, &'r Rehearsal, Option<f64>, u64);

struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Scale {
        let largest = values.clone().fold(1.0, f64::max);
        let smallest = values.fold(largest, f64::min).max(0.1);
        let above = LINES.iter().find(|(line, _)| *line > largest * 1.05).map_or(LINES[11].0, |(line, _)| *line);
        let below = LINES.iter().rev().find(|(line, _)| *line <= smallest).map_or(LINES[0].0, |(line, _)| *line);
        Scale { low: below, high: above.max(below * 10.0) }
    }

    fn y(&self, seconds: f64) -> f64 {
        let part = (seconds.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        BOTTOM - part * (BOTTOM - TOP)
    }

    fn lines(&self) -> impl Iterator<Item = &'static (f64, &'static str)> {
        let (low, high) = (self.low, self.high);
        LINES.iter().filter(move |(line, _)| (low..=high).contains(line))
    }
}

fn percent(x: f64) -> String {
    format!("{x:.2}%")
}

fn pixel(y: f64) -> String {
    format!("{y:.1}")
}

/// The chart of a measure.
pub(super) fn measure(id: &str, stretch: Stretch, measure: &Measure<'_>) -> Markup {
    let of = measure.of;
    let points: Vec<Point<'_>> =
        measure.rehearsals.iter().map(|one| (stretch.x(one.started), one, of(one).0, of(one).1)).collect();
    let target = points.last().map_or(measure.target, |(_, _, _, target)| *target);
    let values = points.iter().filter_map(|(_, _, seconds, _)| *seconds);
    let targets = points.iter().map(|(_, _, _, target)| *target as f64).chain([target as f64]);
    let scale = Scale::over(values.chain(targets));
    let told = description(&points, target);
    let measured: Vec<(f64, f64)> =
        points.iter().filter_map(|(x, _, seconds, _)| Some((*x, scale.y((*seconds)?)))).collect();
    html! {
        figure {
            figcaption { strong { (measure.name) } ": " (measure.what) }
            div.plot {
            svg.chart height=(HEIGHT) aria-hidden="true" {
                @for (line, name) in scale.lines() {
                    @if is_free(&scale, *line) { text x="0" y=(pixel(scale.y(*line) + 4.0)) { (name) } }
                }
            }
            svg.chart height=(HEIGHT) role="img" aria-labelledby=(format!("{id}-t {id}-d")) {
                title id=(format!("{id}-t")) { (measure.name) " of each rehearsal against its target" }
                desc id=(format!("{id}-d")) { (told) }
                @for (line, _) in scale.lines() {
                    line.grid x1="0" x2="100%" y1=(pixel(scale.y(*line))) y2=(pixel(scale.y(*line))) {}
                }
                @for pair in measured.windows(2) {
                    line.path x1=(percent(pair[0].0)) y1=(pixel(pair[0].1)) x2=(percent(pair[1].0)) y2=(pixel(pair[1].1)) {}
                }
                (target_line(&scale, &points, target))
                @for (x, one, seconds, target) in &points { (mark(&scale, *x, one, *seconds, *target)) }
                (axis(stretch, HEIGHT - 4.0))
            }
            }
        }
    }
}

/// Labels that are too near to each other would lie on each other: the larger ones stay.
fn is_free(scale: &Scale, line: f64) -> bool {
    let above = scale.lines().filter(|(other, _)| *other > line);
    above.map(|(other, _)| scale.y(line) - scale.y(*other)).all(|distance| distance >= 12.0)
}

/// A step wherever the tier's target changed.
fn target_line(scale: &Scale, points: &[Point<'_>], newest: u64) -> Markup {
    let mut steps: Vec<(f64, u64)> = Vec::new();
    for (x, _, _, target) in points {
        if steps.last().is_none_or(|(_, last)| last != target) {
            steps.push((if steps.is_empty() { 0.0 } else { *x }, *target));
        }
    }
    if steps.is_empty() {
        steps.push((0.0, newest));
    }
    let ends = steps.iter().skip(1).map(|(x, _)| *x).chain([100.0]);
    let y = |target: u64| pixel(scale.y(target as f64));
    let last_target = steps.last().map_or(newest, |(_, target)| *target);
    html! {
        @for ((from, target), to) in steps.iter().zip(ends) {
            line.target x1=(percent(*from)) x2=(percent(to)) y1=(y(*target)) y2=(y(*target)) {}
        }
        text.of-target x="100%" text-anchor="end" y=(pixel(scale.y(last_target as f64) - 4.0)) {
            "target " (span(last_target as f64))
        }
    }
}

/// A dot within the target, a ring above it, a cross at the bottom where nothing was measured.
fn mark(scale: &Scale, x: f64, one: &Rehearsal, seconds: Option<f64>, target: u64) -> Markup {
    let at = percent(x);
    match seconds {
        Some(seconds) => {
            let (class, radius) = if seconds <= target as f64 { ("met", "3.2") } else { ("missed", "5") };
            html! {
                circle class=(class) cx=(at) cy=(pixel(scale.y(seconds))) r=(radius) {
                    title { (day(one.started)) ": " (span(seconds)) }
                }
            }
        }
        None => html! {
            svg x=(at) y=(pixel(BOTTOM - 5.0)) overflow="visible" width="1" height="1" {
                line.cross x1="-4" x2="4" y1="-4" y2="4" {}
                line.cross x1="-4" x2="4" y1="4" y2="-4" {}
                title { (day(one.started)) ": not measured" }
            }
        },
    }
}

fn axis(stretch: Stretch, y: f64) -> Markup {
    let months = stretch.months();
    html! {
        @if months.len() < 2 {
            text x="0" y=(pixel(y)) { (day(stretch.from)) }
            text x="100%" y=(pixel(y)) text-anchor="end" { (day(stretch.to)) }
        } @else {
            @for (x, name) in months { text x=(percent(x)) y=(pixel(y)) { (name) } }
        }
    }
}

fn description(points: &[Point<'_>], target: u64) -> String {
    let values: Vec<f64> = points.iter().filter_map(|(_, _, seconds, _)| *seconds).collect();
    let missed = points.iter().filter(|(_, _, seconds, target)| seconds.is_some_and(|s| s > *target as f64)).count();
    let rehearsals = count(points.len() as u64, "rehearsal", "rehearsals");
    match (values.iter().copied().min_by(f64::total_cmp), values.iter().copied().max_by(f64::total_cmp)) {
        (Some(best), Some(worst)) => format!(
            "{rehearsals}, {} measured: from {} to {}; target {}, missed {missed} times. Logarithmic scale.",
            values.len(),
            span(best),
            span(worst),
            span(target as f64)
        ),
        _ => format!("{rehearsals}, none measured; target {}.", span(target as f64)),
    }
}

/// Passed, failed and incomplete rehearsals along the time, and stretches where one was overdue.
pub(super) fn strip(id: &str, stretch: Stretch, rehearsals: &[Rehearsal], gaps: &[Gap]) -> Markup {
    let of = |outcome: Outcome| rehearsals.iter().filter(|one| one.outcome == outcome).count();
    let told = format!(
        "{} passed, {} failed, {} incomplete; overdue {} times.",
        of(Outcome::Passed),
        of(Outcome::Failed),
        of(Outcome::Incomplete),
        gaps.len()
    );
    html! {
        figure {
            figcaption { strong { "Rehearsals" } " in the order of time" }
            svg.chart height="64" role="img" aria-labelledby=(format!("{id}-t {id}-d")) {
                title id=(format!("{id}-t")) { "Passed and failed rehearsals" }
                desc id=(format!("{id}-d")) { (told) }
                line.grid x1="0" x2="100%" y1="24" y2="24" {}
                @for gap in gaps {
                    @let from = stretch.x(gap.due.max(stretch.from));
                    @let to = stretch.x(gap.done.unwrap_or(stretch.to));
                    rect.gap x=(percent(from)) width=(percent((to - from).max(0.4))) y="12" height="24" {
                        title { "overdue since " (day(gap.due)) }
                    }
                }
                @for one in rehearsals { (piece(stretch.x(one.started), one)) }
                (axis(stretch, 58.0))
            }
            p.legend { "▪ passed (short), ┃ failed (tall), □ incomplete, ┆ ┆ overdue" }
        }
    }
}

fn piece(x: f64, one: &Rehearsal) -> Markup {
    let (class, top, width, height) = match one.outcome {
        Outcome::Passed => ("pass", "18", "4", "12"),
        Outcome::Failed => ("fail", "4", "5", "40"),
        Outcome::Incomplete => ("part", "15", "8", "18"),
    };
    let middle = match one.outcome {
        Outcome::Passed => "-2",
        Outcome::Failed => "-2.5",
        Outcome::Incomplete => "-4",
    };
    html! {
        svg x=(percent(x)) y="0" overflow="visible" width="1" height="1" {
            rect class=(class) x=(middle) y=(top) width=(width) height=(height) {}
            title { (day(one.started)) ": " (one.outcome.word()) }
        }
    }
}

/// A bar of parts that are all there is.
pub(super) fn bar(id: &str, title: &str, parts: [(&str, u64); 3]) -> Markup {
    let whole: u64 = parts.iter().map(|(_, part)| *part).sum::<u64>().max(1);
    let share = |part: u64| part as f64 * 100.0 / whole as f64;
    let starts = [0, parts[0].1, parts[0].1 + parts[1].1];
    html! {
        svg.bar role="img" aria-labelledby=(id) {
            title id=(id) { (title) }
            @for ((class, (_, part)), start) in ["a", "b", "c"].into_iter().zip(parts).zip(starts) {
                rect class=(class) x=(percent(share(start))) width=(percent(share(part))) y="0" height="22" {}
            }
        }
        p.small {
            @for (class, (name, part)) in ["a", "b", "c"].into_iter().zip(parts) {
                span.key.(class) {} (name) " " (span(part as f64 / 1000.0)) " (" (format!("{:.0}", share(part))) " %)"
                @if class != "c" { " · " }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_what_it_shows() {
        let scale = Scale::over([0.0, 42.0, 3600.0].into_iter());
        assert_eq!((scale.low, scale.high), (0.1, 6.0 * 3600.0));
        for seconds in [0.0, 0.5, 42.0, 3600.0, 1e12, f64::INFINITY] {
            assert!((TOP..=BOTTOM).contains(&scale.y(seconds)), "{seconds}");
        }
        let flat = Scale::over([60.0].into_iter());
        assert!(flat.high > flat.low);
    }

    #[test]
    fn months_are_few_and_inside() {
        let of = |from: &str, to: &str| Stretch { from: from.parse().unwrap(), to: to.parse().unwrap() }.months();
        let year = of("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert!((4..=7).contains(&year.len()) && year[0].1 == "Jan 26", "{year:?}");
        assert!(of("2026-01-05T00:00:00Z", "2026-01-20T00:00:00Z").is_empty());
        assert!(of("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z").len() <= 7);
    }
}
