//! Schedules as they fire.

mod calendar;
mod due;
mod lines;
mod reading;

use jiff::Timestamp;
use lifeboat_model::retention::Zone;

use super::{cron::Cron, cron::DayOfMonth};

fn cron(line: &str) -> Cron {
    Cron::read(line, Vec::new()).unwrap_or_else(|wrong| panic!("{line}: {wrong:?}"))
}

fn cron_on(line: &str, days: &[&str]) -> Cron {
    Cron::read(line, days.iter().map(|day| DayOfMonth::read(day).unwrap()).collect()).unwrap()
}

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// All moments after one and until another, as clocks show them, with the offset.
fn fires(cron: &Cron, zone: &Zone, after: &str, until: &str) -> Vec<String> {
    let until = time(until);
    let mut found = Vec::new();
    let mut at = time(after);
    while let Some(next) = cron.next(zone, at).filter(|next| *next <= until) {
        found.push(next.to_zoned(zone.rules().clone()).strftime("%a %d %H:%M:%S%:z").to_string());
        at = next;
    }
    found
}
