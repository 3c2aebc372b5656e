//! Measures over time. The evidence report has its own, on a logarithmic scale over months for print; these are for a glance.

use jiff::Timestamp;
use maud::{Markup, html};

use super::words;

/// A measure at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub at: Timestamp,
    pub value: f64,
}

const TOP: f64 = 16.0;
const BOTTOM: f64 = 140.0;
const HEIGHT: u32 = 164;

/// Whole numbers that people count spans in.
const SPANS: [f64; 18] = [
    1.0,
    5.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1_200.0,
    1_800.0,
    3_600.0,
    7_200.0,
    14_400.0,
    28_800.0,
    86_400.0,
    172_800.0,
    604_800.0,
    2_592_000.0,
];

fn nice_span(largest: f64) -> f64 {
    SPANS.into_iter().find(|span| *span >= largest / 4.0).unwrap_or(largest / 4.0)
}

fn nice_bytes(largest: f64) -> f64 {
    let mut step = 1.0_f64;
    while step * 4.0 < largest {
        step *= 2.0;
    }
    step
}

/// Spans of time against a target: within it a dot, above it a ring.
pub(super) fn against_target(id: &str, title: &str, points: &[Point], target: f64) -> Markup {
    let largest = points.iter().map(|point| point.value).fold(target, f64::max).max(1.0) * 1.08;
    let plot = Plot::new(points, largest, nice_span(largest));
    let missed = points.iter().filter(|point| point.value > target).count();
    let told = format!(
        "{}, the newest {}; target {}, {}.",
        words::count(points.len() as u64, "measurement", "measurements"),
        points.last().map_or_else(|| "none".to_owned(), |point| words::span(point.value)),
        words::span(target),
        match missed {
            0 => "never missed".to_owned(),
            1 => "missed once".to_owned(),
            more => format!("missed {more} times"),
        }
    );
    html! {
        figure.plot {
            figcaption { (title) }
            div.frame {
            (plot.scale(words::short))
            svg.chart height=(HEIGHT) role="img" aria-labelledby=(format!("{id}-d")) {
                desc id=(format!("{id}-d")) { (told) }
                (plot.grid())
                line.target x1="0" x2="100%" y1=(pixel(plot.y(target))) y2=(pixel(plot.y(target))) {}
                text.of-target x="100%" text-anchor="end" y=(pixel(plot.y(target) - 5.0)) { "target " (words::short(target)) }
                @for pair in points.windows(2) {
                    line.path x1=(plot.x(pair[0].at)) x2=(plot.x(pair[1].at)) y1=(pixel(plot.y(pair[0].value))) y2=(pixel(plot.y(pair[1].value))) {}
                }
                @for point in points {
                    @let (class, radius) = if point.value <= target { ("met", "3.5") } else { ("missed", "5") };
                    circle class=(class) cx=(plot.x(point.at)) cy=(pixel(plot.y(point.value))) r=(radius) {
                        title { (words::moment(point.at)) ": " (words::span(point.value)) }
                    }
                }
                (plot.days())
            }
            }
            p.soft { (told) }
        }
    }
}

/// Bytes, as an area.
pub(super) fn growth(id: &str, title: &str, points: &[Point]) -> Markup {
    let largest = points.iter().map(|point| point.value).fold(1.0, f64::max) * 1.05;
    let plot = Plot::new(points, largest, nice_bytes(largest));
    let told = match (points.first(), points.last()) {
        (Some(first), Some(last)) => format!(
            "From {} on {} to {} on {}.",
            words::bytes(first.value as u64),
            words::day(first.at),
            words::bytes(last.value as u64),
            words::day(last.at)
        ),
        _ => "Nothing yet.".to_owned(),
    };
    let corners: Vec<String> =
        points.iter().map(|point| format!("{:.1} {:.1}", plot.part(point.at) * 1000.0, plot.y(point.value))).collect();
    let line = format!("M{}", corners.join("L"));
    let last = points.last().map_or(0.0, |point| plot.part(point.at) * 1000.0);
    let first = points.first().map_or(0.0, |point| plot.part(point.at) * 1000.0);
    html! {
        figure.plot {
            figcaption { (title) }
            div.frame {
            (plot.scale(|bytes| words::bytes(bytes as u64)))
            svg.chart height=(HEIGHT) role="img" aria-labelledby=(format!("{id}-d")) {
                desc id=(format!("{id}-d")) { (told) }
                (plot.grid())
                svg x="1%" y="0" width="98%" height=(HEIGHT) viewBox=(format!("0 0 1000 {HEIGHT}")) preserveAspectRatio="none" {
                    path.area d=(format!("{line}L{last:.1} {BOTTOM}L{first:.1} {BOTTOM}z")) {}
                    path.line d=(line) {}
                }
                (plot.days())
            }
            }
            p.soft { (told) }
        }
    }
}

fn pixel(y: f64) -> String {
    format!("{y:.1}")
}

struct Plot {
    from: Timestamp,
    to: Timestamp,
    largest: f64,
    step: f64,
}

impl Plot {
    fn new(points: &[Point], largest: f64, step: f64) -> Plot {
        let from = points.iter().map(|point| point.at).min().unwrap_or(Timestamp::UNIX_EPOCH);
        let to = points.iter().map(|point| point.at).max().unwrap_or(from);
        Plot { from, to, largest, step }
    }

    /// From 0 to 1. A single measure stands at the end, where now is.
    fn part(&self, at: Timestamp) -> f64 {
        let whole = words::between(self.from, self.to);
        if whole <= 0.0 { 1.0 } else { (words::between(self.from, at) / whole).clamp(0.0, 1.0) }
    }

    fn x(&self, at: Timestamp) -> String {
        format!("{:.2}%", 1.0 + self.part(at) * 98.0)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (value / self.largest).clamp(0.0, 1.0) * (BOTTOM - TOP)
    }

    fn lines(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=8).map(|at| f64::from(at) * self.step).take_while(|line| *line <= self.largest)
    }

    fn scale(&self, name: impl Fn(f64) -> String) -> Markup {
        html! {
            svg.chart height=(HEIGHT) aria-hidden="true" {
                @for line in self.lines() {
                    text x="100%" dx="-6" text-anchor="end" y=(pixel(self.y(line) + 4.0)) { @if line > 0.0 { (name(line)) } @else { "0" } }
                }
            }
        }
    }

    fn grid(&self) -> Markup {
        html! {
            @for line in self.lines() { line.grid x1="0" x2="100%" y1=(pixel(self.y(line))) y2=(pixel(self.y(line))) {} }
        }
    }

    fn days(&self) -> Markup {
        html! {
            @if self.from < self.to { text x="0" y="160" { (words::day(self.from)) } }
            text x="100%" y="160" text-anchor="end" { (words::day(self.to)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        let at = |day: usize| Timestamp::from_second(1_795_000_000 + day as i64 * 86_400).unwrap();
        values.iter().enumerate().map(|(day, value)| Point { at: at(day), value: *value }).collect()
    }

    #[test]
    fn a_chart_tells_in_words_what_it_shows() {
        let shown = against_target("rto", "RTO", &points(&[1200.0, 5400.0, 1500.0]), 3600.0).into_string();
        assert!(shown.contains("3 measurements, the newest 25 min; target 1 h, missed once."), "{shown}");
        assert_eq!((shown.matches("class=\"missed\"").count(), shown.matches("class=\"met\"").count()), (1, 2));
        let shown = growth("g", "Stored", &points(&[1024.0, 4096.0])).into_string();
        assert!(shown.contains("From 1.0 KiB on") && shown.contains("to 4.0 KiB on"), "{shown}");
    }

    #[test]
    fn nothing_and_one_are_drawn_too() {
        for values in [&[][..], &[0.0], &[f64::MAX], &[f64::NAN, 1.0]] {
            let drawn = against_target("x", "x", &points(values), 60.0).into_string()
                + &growth("y", "y", &points(values)).into_string();
            assert!(!drawn.contains("NaN%") && !drawn.contains("inf"), "{values:?}: {drawn}");
        }
    }
}
