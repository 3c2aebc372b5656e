//! Schedules: a month with what was done and what comes, and each schedule in words.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    layout,
    parts::{self, Table, Tone},
    words,
};
use crate::view::ScheduleView;

/// The page at `/schedules`. `month` is `2026-11`; what is not understood means this month.
pub fn page(views: &[ScheduleView], month: Option<&str>, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Schedules);
    let today = day_of(context.now);
    let first = month.and_then(read_month).unwrap_or_else(|| today.first_of_month());
    let body = html! {
        h1 { "Schedules" }
        @if views.is_empty() {
            (parts::nothing("Nothing is scheduled", html! {
                p { "Schedules are files beside " code { "lifeboat.toml" } ", in " code { "schedules/" } ". Ready ones for gold, silver and bronze tiers come with Lifeboat. Check them:" }
                p { (parts::command("lifeboat schedule check")) }
            }))
        } @else {
            section #calendar data-part aria-labelledby="month" { (calendar(views, first, today)) }
            section #schedules data-part aria-labelledby="each" {
                h2 #each { "Each schedule" }
                (table(views, &context))
            }
        }
    };
    layout::live_page(&context, "Schedules", 120, body)
}

fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn read_month(text: &str) -> Option<Date> {
    let (year, month) = text.split_once('-')?;
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?;
    (1971..9000).contains(&date.year()).then_some(date)
}

/// What there is of a day: verb, and how it ended; none: it is still to come.
type Day<'v> = BTreeMap<(&'v str, Option<&'v str>), u64>;

fn days(views: &[ScheduleView]) -> BTreeMap<Date, Day<'_>> {
    let mut days: BTreeMap<Date, Day<'_>> = BTreeMap::new();
    for view in views {
        for run in &view.past {
            let Some(at) = run.started.or(run.due) else { continue };
            let outcome = run.outcome.as_deref().unwrap_or(&run.phase);
            *days.entry(day_of(at)).or_default().entry((&run.verb, Some(outcome))).or_default() += 1;
        }
        for due in &view.next {
            *days.entry(day_of(due.at)).or_default().entry((&due.verb, None)).or_default() += 1;
        }
    }
    days
}

fn calendar(views: &[ScheduleView], first: Date, today: Date) -> Markup {
    let days = days(views);
    let month = |date: Date| date.strftime("%Y-%m").to_string();
    let (before, after) = (first.checked_sub(1.month()), first.checked_add(1.month()));
    let name = first.strftime("%B %Y").to_string();
    html! {
        div.month-bar {
            h2 #month { (name) }
            nav aria-label="Months" {
                @if let Ok(before) = before { a rel="prev" href=(format!("/schedules?month={}", month(before))) { "← " (before.strftime("%B").to_string()) } }
                @if first != today.first_of_month() { a href="/schedules" { "This month" } }
                @if let Ok(after) = after { a rel="next" href=(format!("/schedules?month={}", month(after))) { (after.strftime("%B").to_string()) " →" } }
            }
        }
        table.calendar {
            caption.unseen { "Runs in " (name) ": done, and still to come" }
            thead { tr { @for name in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] { th scope="col" { (name) } } } }
            tbody {
                @for week in weeks(first) {
                    tr { @for date in week { (cell(date, first, today, days.get(&date))) } }
                }
            }
        }
        p.legend {
            span { (parts::icon(Tone::Good)) "done" } span { (parts::icon(Tone::Bad)) "failed" }
            span { (parts::icon(Tone::Doubt)) "missed or not complete" } span { (parts::icon(Tone::Live)) "going on" }
            span { (parts::icon(Tone::Plain)) "to come" }
            span { "The newest 100 and the next 100 runs of each schedule are shown." }
        }
    }
}

/// Whole weeks that hold the month, from Monday.
fn weeks(first: Date) -> Vec<[Date; 7]> {
    let mut monday = first.saturating_sub(i64::from(first.weekday().to_monday_zero_offset()).days());
    let last = first.last_of_month();
    let mut weeks = Vec::new();
    while monday <= last && weeks.len() < 6 {
        weeks.push(std::array::from_fn(|day| monday.saturating_add((day as i64).days())));
        monday = monday.saturating_add(7.days());
    }
    weeks
}

fn cell(date: Date, first: Date, today: Date, day: Option<&Day<'_>>) -> Markup {
    let is_other = date.month() != first.month();
    let class = match () {
        () if is_other => "other",
        () if date == today => "today",
        () if day.is_none() => "free",
        () => "",
    };
    html! {
        td class=(class) {
            @if !is_other {
                time.day datetime=(date) aria-current=[(date == today).then_some("date")] {
                    span.weekday { (date.strftime("%a ").to_string()) } (date.day())
                }
                @if let Some(day) = day {
                    ul {
                        @for ((verb, outcome), many) in day {
                            @let (tone, word) = said(*outcome);
                            li.(tone.class()) { (parts::icon(tone)) span { (words::number(*many)) " " (verb) span.unseen { ", " (word) } } }
                        }
                    }
                }
            }
        }
    }
}

fn said(outcome: Option<&str>) -> (Tone, &str) {
    match outcome {
        None => (Tone::Plain, "to come"),
        Some("running") => (Tone::Live, "going on"),
        Some(outcome) => (Tone::of_outcome(outcome), outcome),
    }
}

fn table(views: &[ScheduleView], context: &PageContext) -> Markup {
    let mut table = Table::new("schedules", "Schedules", &["Schedule", "When", "For", "Last", "Next"]);
    for view in views {
        table.row(vec![
            html! {
                strong { (view.schedule) } " " span.soft { (view.verb) " · " (view.tenant) }
                @if let Some(description) = &view.description { span.because { (description) } }
            },
            html! { (view.when) span.because { code { (view.file) } } },
            whose(view),
            html! {
                @match view.past.first() {
                    Some(run) => {
                        a href=(parts::run_path(&run.run)) { (parts::run_state(run)) }
                        @if let Some(at) = run.started.or(run.due) { " " (words::ago(context.now, at)) }
                    }
                    None => { "never" }
                }
            },
            html! {
                @match view.next.first() {
                    Some(due) => { (words::time_and_ago(context.now, due.at)) @if let Some(instance) = &due.instance { " " span.soft { (instance) } } }
                    None => { "nothing is due" }
                }
            },
        ]);
    }
    html! { (table) }
}

fn whose(view: &ScheduleView) -> Markup {
    let some = &view.instances[..view.instances.len().min(4)];
    html! {
        @match view.instances.len() {
            0 => { "no instance" }
            many => {
                (some.join(", "))
                @if many > some.len() { " and " (words::number((many - some.len()) as u64)) " more" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_whole_weeks() {
        let weeks = weeks(Date::constant(2026, 11, 1));
        assert_eq!(
            (weeks.len(), weeks[0][0], weeks[5][6]),
            (6, Date::constant(2026, 10, 26), Date::constant(2026, 12, 6))
        );
        let february = super::weeks(Date::constant(2027, 2, 1));
        assert_eq!((february.len(), february[0][0]), (4, Date::constant(2027, 2, 1)));
    }

    #[test]
    fn months_that_are_none_are_passed_over() {
        for text in ["", "2026", "2026-13", "x-y", "99999-01", "-5-1", "2026-11-01"] {
            assert_eq!(read_month(text), None, "{text}");
        }
        assert_eq!(read_month("2026-11"), Some(Date::constant(2026, 11, 1)));
    }
}
