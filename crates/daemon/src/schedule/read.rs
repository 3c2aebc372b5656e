//! `schedules/*.toml`, as people write them: one table a schedule. What only all files together, or the tenant's
//! configuration, can tell is looked at in [`super::check`].

use std::{path::Path, time::Duration};

use jiff::civil::{Time, Weekday};
use lifeboat_engine::scrub::Share;
use lifeboat_model::{
    config::{
        FileCheck, FileKind, Problem, Warning,
        reading::{self, Place, Result, Spot, Table, Value, nearest},
    },
    id::{Instance, TierName},
    retention::Zone,
    time::Span,
};

use super::{
    Blackout, Missed, Of, Schedule, When,
    cron::{Cron, DayOfMonth},
    fields::{self, Wrong},
};
use crate::job::Verb;

/// Kinds of damage, as docs/controls.md has them. A test holds this against what the drill knows.
pub const CONTROLS: [&str; 15] = [
    "forged-point",
    "wrong-key",
    "flipped-page",
    "missing-wal",
    "flipped-wal",
    "dropped-index-entry",
    "zeroed-page",
    "truncated-relation",
    "deleted-row",
    "changed-value",
    "deleted-attachment",
    "swapped-attachments",
    "stale-filestore",
    "missing-addon",
    "older-module",
];

const VERBS: [&str; 12] =
    ["backup", "drill", "control", "dump", "scrub", "locks", "signs", "prune", "copy", "audit", "report", "stream"];
const PERIODS: [&str; 4] = ["week", "month", "quarter", "year"];

const DEFAULT_MISSED: Missed = Missed::Once(Span(Duration::from_secs(24 * 3600)));
const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_RETRY_AFTER: Span = Span(Duration::from_secs(10 * 60));
/// A stream that ended is wanted back soon, and not in a busy loop.
const DEFAULT_STREAM_AFTER: Span = Span(Duration::from_secs(30));

/// A schedule, and where the parts of it stand that are looked at again.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) schedule: Schedule,
    pub(super) at: Spot,
    pub(super) of: Spot,
    pub(super) after: Option<Spot>,
    pub(super) to: Option<Spot>,
}

/// The schedules of one file, in the order of the file.
#[derive(Debug)]
pub(super) struct Drafts {
    pub(super) drafts: Vec<Draft>,
    pub(super) warnings: Vec<Warning>,
    pub(super) files: Vec<FileCheck>,
}

pub(super) fn file(text: &str, path: &Path) -> std::result::Result<Drafts, Vec<Problem>> {
    let found = reading::document(text, path, |table| {
        let zone = table.optional("time_zone", Value::zone);
        let default = zone.as_ref().ok().cloned().flatten().unwrap_or(Zone::UTC);
        let entries = table.optional("schedule", |value| {
            let mut entries = value.table()?.named();
            entries.sort_by_key(|(_, value)| value.place.line);
            // All are read before the first problem ends it.
            let drafts: Vec<_> = entries.iter().map(|(name, value)| schedule(name, value, &default)).collect();
            drafts.into_iter().collect::<Result<Vec<_>>>()
        });
        table.finish();
        zone?;
        let drafts = entries?.unwrap_or_default();
        if drafts.is_empty() {
            table.place.warn("there is no schedule in it", "write [schedule.<name>], or remove the file");
        }
        Ok(drafts)
    })?;
    Ok(Drafts { drafts: found.value, warnings: found.warnings, files: found.files })
}

fn schedule(name: &str, value: &Value<'_>, default: &Zone) -> Result<Draft> {
    let table = value.table()?;
    let is_name = name.parse::<Instance>().map_err(|_| {
        value.place.problem("not a valid name", "use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")
    });
    let description = table.optional("description", |value| value.filled().map(str::to_owned));
    let verb = table.required("do", &format!("say what is done: {}", VERBS.join(", ")), |value| verb(&table, value));
    let of = of(&table, verb.as_ref().ok());
    let is_stream = matches!(verb, Ok(Verb::Stream));
    let time_zone = table.optional("time_zone", Value::zone);
    let when = if is_stream { always(&table) } else { when(&table) };
    let jitter = table.optional("jitter", |value| value.span("1s", "24h"));
    let blackouts = if is_stream { Ok(Vec::new()) } else { blackouts(&table) };
    let missed = if is_stream { Ok(None) } else { table.optional("missed", missed) };
    let retries = if is_stream { Ok(None) } else { table.optional("retries", |value| value.whole(0, 100)) };
    let retry_after = table.optional("retry_after", |value| value.span("5s", "24h"));
    let spot = |name: &str| table.get_hidden(name).map(|value| value.place.spot());
    let (after, to) = (spot("after"), spot("to"));
    let of_spot = spot("tiers").or_else(|| spot("instances")).unwrap_or_else(|| value.place.spot());
    table.finish();
    is_name?;
    let retry_default = if is_stream { DEFAULT_STREAM_AFTER } else { DEFAULT_RETRY_AFTER };
    let schedule = Schedule {
        tenant: None,
        name: name.to_owned(),
        description: description?,
        file: value.place.spot().file,
        of: of?,
        verb: verb?,
        when: when?,
        time_zone: time_zone?.unwrap_or_else(|| default.clone()),
        jitter: jitter?.unwrap_or(Span(Duration::ZERO)),
        blackouts: blackouts?,
        missed: missed?.unwrap_or(DEFAULT_MISSED),
        retries: retries?.and_then(|number| u32::try_from(number).ok()).unwrap_or(DEFAULT_RETRIES),
        retry_after: retry_after?.unwrap_or(retry_default),
    };
    Ok(Draft { schedule, at: value.place.spot(), of: of_spot, after, to })
}

fn verb(table: &Table<'_>, value: &Value<'_>) -> Result<Verb> {
    Ok(match value.filled()? {
        "backup" => Verb::Backup,
        "drill" => {
            let random = table.optional("point", |value| word(value, &["latest", "random"]))?;
            Verb::Drill { random: random == Some("random") }
        }
        "control" => {
            let known: Vec<&str> = ["random", "all"].into_iter().chain(CONTROLS).collect();
            let kind = table.optional("kind", |value| word(value, &known))?;
            Verb::Control { kind: kind.unwrap_or("random").to_owned() }
        }
        "dump" => Verb::Dump,
        "scrub" => {
            let share = table.optional("sample", |value| value.parse::<Share>())?;
            Verb::Scrub { sample: share.map_or("1%/day".to_owned(), |share| share.to_string()) }
        }
        "locks" => Verb::Locks,
        "signs" => Verb::Signs,
        "prune" => Verb::Prune,
        "copy" => Verb::Copy { to: table.optional("to", |value| value.filled().map(str::to_owned))? },
        "audit" => Verb::Audit,
        "report" => {
            let hint = "add period = \"month\"; or week, quarter, year: the last whole one";
            let period = table.required("period", hint, |value| word(value, &PERIODS));
            // Where there is none: below the state folder of the configuration, which is not known here.
            let folder = table.optional("folder", |value| value.path(FileKind::Created));
            Verb::Report { period: period?.to_owned(), folder: folder?.unwrap_or_default() }
        }
        "stream" => Verb::Stream,
        other => {
            let hint = match nearest(other, VERBS.into_iter()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("use one of: {}", VERBS.join(", ")),
            };
            return Err(value.place.problem("not something that can be done", hint));
        }
    })
}

/// One of some words.
fn word<'s>(value: &Value<'s>, known: &[&str]) -> Result<&'s str> {
    let text = value.filled()?;
    if known.contains(&text) {
        return Ok(text);
    }
    let hint = match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("use one of: {}", known.join(", ")),
    };
    Err(value.place.problem("not a word that is known here", hint))
}

fn of(table: &Table<'_>, verb: Option<&Verb>) -> Result<Of> {
    if let Some(verb) = verb.filter(|verb| verb.is_tenant_wide()) {
        let refuse = |name| match table.get_hidden(name) {
            Some(value) => {
                let message = format!("do = \"{}\" is about the whole tenant", verb.word());
                Err(value.place.problem(message, "remove the line"))
            }
            None => Ok(()),
        };
        let refused = ["tiers", "instances"].map(refuse);
        return refused.into_iter().collect::<Result<()>>().map(|()| Of::Tenant);
    }
    let tiers =
        table.optional("tiers", |value| value.filled_list_of("name at least one tier", Value::parse::<TierName>));
    let instances = table.optional("instances", |value| match value.is_list() {
        true => value.filled_list_of("name at least one instance", Value::parse::<Instance>).map(Of::Instances),
        false if value.filled()? == "all" => Ok(Of::All),
        false => Err(value.place.problem("not a list of instances", "write [\"…\"], or \"all\"")),
    });
    match (tiers?, instances?) {
        (Some(tiers), None) => Ok(Of::Tiers(tiers)),
        (None, Some(of)) => Ok(of),
        (Some(_), Some(_)) => Err(said_twice(table, "instances", "tiers")),
        (None, None) => {
            let hint = "say whose: tiers = [\"gold\"], instances = [\"clinic\"] or instances = \"all\"";
            Err(table.missing("tiers", hint))
        }
    }
}

fn said_twice(table: &Table<'_>, name: &str, other: &str) -> reading::Reported {
    let place = table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
    place.problem(format!("{other} is set as well"), "keep one of the two")
}

fn always(table: &Table<'_>) -> Result<When> {
    let refuse = |name| match table.get_hidden(name) {
        Some(value) => Err(value.place.problem("a stream goes on always", "remove the line")),
        None => Ok(()),
    };
    let names = ["cron", "on", "after", "delay", "blackout", "missed", "retries"];
    let refused: Vec<Result<()>> = names.map(refuse).into();
    refused.into_iter().collect::<Result<()>>().map(|()| When::Always)
}

fn when(table: &Table<'_>) -> Result<When> {
    let days = table.optional("on", |value| match value.is_list() {
        true => value.filled_list_of("name at least one day", day_of_month),
        false => Ok(vec![day_of_month(value)?]),
    });
    let line = table.optional("cron", |value| Ok((value.filled()?.to_owned(), value.place.clone())));
    let after = table.optional("after", |value| value.filled().map(str::to_owned));
    let delay = table.optional("delay", |value| value.span("1s", "31d"));
    let (days, line, after, delay) = (days?, line?, after?, delay?);
    let only = |name: &str, with: &str| {
        let place = table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
        Err(place.problem(format!("has a meaning with {with} only"), format!("remove it, or write {with} = \"…\"")))
    };
    match (line, after) {
        (Some(_), Some(_)) => Err(said_twice(table, "after", "cron")),
        (Some(_), None) if delay.is_some() => only("delay", "after"),
        (Some((line, place)), None) => {
            Cron::read(&line, days.unwrap_or_default()).map(When::Cron).map_err(|wrong| wrong.at(&place))
        }
        (None, Some(_)) if days.is_some() => only("on", "cron"),
        (None, Some(schedule)) => Ok(When::After { schedule, delay: delay.unwrap_or(Span(Duration::ZERO)) }),
        (None, None) => {
            let hint = "say when: cron = \"0 2 * * *\", or after = \"name of another schedule\"";
            Err(table.missing("cron", hint))
        }
    }
}

fn day_of_month(value: &Value<'_>) -> Result<DayOfMonth> {
    DayOfMonth::read(value.filled()?).map_err(|wrong| wrong.at(&value.place))
}

fn missed(value: &Value<'_>) -> Result<Missed> {
    if value.is_text() {
        return word(value, &["skip"]).map(|_| Missed::Skip);
    }
    let table = value.table()?;
    let hint = "write missed = { once_within = \"12h\" }, or missed = \"skip\"";
    let within = table.required("once_within", hint, |value| value.span("1m", "366d"));
    table.finish();
    within.map(Missed::Once)
}

fn blackouts(table: &Table<'_>) -> Result<Vec<Blackout>> {
    let read = table.optional("blackout", |value| {
        let place = value.place.clone();
        let blackouts = match value.is_list() {
            true => value.list_of(blackout)?,
            false => vec![blackout(value)?],
        };
        match leaves_time(&blackouts) {
            true => Ok(blackouts),
            false => Err(place.problem("leaves no time in the week", "make one of them shorter")),
        }
    });
    read.map(Option::unwrap_or_default)
}

fn blackout(value: &Value<'_>) -> Result<Blackout> {
    let table = value.table()?;
    let days = table.optional("days", |value| {
        let items: Vec<Value<'_>> = if value.is_list() { value.list()? } else { vec![value.clone()] };
        let read: Vec<Result<_>> = items
            .iter()
            .map(|item| fields::WEEKDAY.read(item.filled()?).map_err(|wrong| wrong.at(&item.place)))
            .collect();
        let mut numbers: Vec<u8> = read.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        // From Sunday = 0 to the order of a week that begins on Monday.
        numbers.iter_mut().for_each(|number| *number = (*number + 6) % 7);
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return Err(value.place.problem("the list is empty", "name days, or leave it out for every day"));
        }
        Ok(numbers.into_iter().filter_map(|number| EVERY_DAY.get(usize::from(number)).copied()).collect())
    });
    let from = table.required("from", "add from = \"08:00\"", time_of_day);
    let to = table.required("to", "add to = \"18:00\"", time_of_day);
    table.finish();
    Ok(Blackout { days: days?.unwrap_or_else(|| EVERY_DAY.to_vec()), from: from?, to: to? })
}

const EVERY_DAY: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// `08:00`; `24:00` is the midnight that ends a day.
fn time_of_day(value: &Value<'_>) -> Result<Time> {
    let text = value.filled()?;
    if text == "24:00" {
        return Ok(Time::midnight());
    }
    let two = |text: &str| (text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?;
    let time = text.split_once(':').and_then(|(hour, minute)| Time::new(two(hour)?, two(minute)?, 0, 0).ok());
    time.ok_or_else(|| value.place.problem("not a time of the day", "write hours and minutes: \"08:00\""))
}

/// Whether a minute of the week is outside of all.
fn leaves_time(blackouts: &[Blackout]) -> bool {
    const DAY: i32 = 24 * 60;
    let minute = |time: Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
    let is_dark = |at: i32| {
        blackouts.iter().any(|blackout| {
            let (from, to) = (minute(blackout.from), minute(blackout.to));
            let length = if to <= from { to + DAY - from } else { to - from };
            let starts = blackout.days.iter().map(|day| i32::from(day.to_monday_zero_offset()) * DAY + from);
            starts.into_iter().any(|start| (at - start).rem_euclid(7 * DAY) < length)
        })
    };
    !(0..7 * DAY).all(is_dark)
}

impl Wrong {
    /// Reports it.
    fn at(self, place: &Place<'_>) -> reading::Reported {
        place.problem(self.message, self.hint)
    }
}
