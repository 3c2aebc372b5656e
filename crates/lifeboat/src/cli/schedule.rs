//! `lifeboat schedule`: everything that is wrong with the daemon's settings and schedules at once, and what is due when.
//! Nothing is asked of anybody: files and a clock are enough.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand};
use jiff::{Timestamp, ToSpan as _};
use lifeboat_daemon::{
    daemon::Sources,
    policies::{self, Policies, Site},
    schedule::{Schedule, When},
};
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::{Session, config::Remark, moment::parse_time, settings::SettingsArgs};
use crate::{
    exit::Exit,
    failure::{Failure, Result, of_daemon},
    output::{Answer, Page, Rows, Tone, count},
};

/// Check the daemon's settings and schedules, or show what is due when
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ScheduleCommand {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    verb: ScheduleVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat schedule check                        every problem, with file and line
  lifeboat schedule next                         the next 20 runs
  lifeboat schedule next --instance clinic --until 2027-04-01T00:00:00Z --count 1000
  lifeboat schedule next --from 2027-03-27T12:00:00Z     the night on which clocks change";

#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    /// Report everything that is wrong with daemon.toml, the configurations it names and their schedules
    Check,
    Next(Next),
}

/// Show what is due when: jitter, blackouts and daylight saving counted in
#[derive(Debug, Args)]
struct Next {
    /// Only this instance [default: all]
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
    /// So many runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// What is due after this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Timestamp>,
    /// What is due until this time [default: no end]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
}

impl ScheduleCommand {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        let sources = self.settings.sources(session)?;
        match self.verb {
            ScheduleVerb::Check => check(&sources, session),
            ScheduleVerb::Next(next) => next.run(&sources, session),
        }
    }
}

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    tenants: usize,
    schedules: usize,
    problems: Vec<Remark>,
    warnings: Vec<Remark>,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.schedule-check/1";

    fn text(&self, page: &mut Page) {
        for remark in &self.problems {
            page.line(format_args!("{} {}", Tone::Bad.paint("problem:"), remark.text));
        }
        for remark in &self.warnings {
            page.line(format_args!("{} {}", Tone::Doubtful.paint("warning:"), remark.text));
        }
        let number = |list: &[Remark], one, many| count(list.len() as u64, one, many);
        let problems = number(&self.problems, "problem", "problems");
        let warnings = number(&self.warnings, "warning", "warnings");
        let file = self.file.display();
        if self.problems.is_empty() {
            let schedules = count(self.schedules as u64, "schedule", "schedules");
            let tenants = count(self.tenants as u64, "tenant", "tenants");
            let word = Tone::Good.paint("usable");
            page.line(format_args!("{file}: {word}, {schedules} of {tenants}, {problems}, {warnings}"));
        } else {
            page.line(format_args!("{file}: {}, {problems}, {warnings}", Tone::Bad.paint("NOT USABLE")));
        }
    }
}

fn check(sources: &Sources, session: &Session) -> Result<Exit> {
    let found = policies::check(sources);
    let sites = found.policies.as_ref().map(|policies| &policies.sites);
    let checked = Checked {
        file: sources.settings.clone().or_else(|| sources.config.clone()).unwrap_or_default(),
        tenants: sites.map_or(0, |sites| sites.len()),
        schedules: sites.map_or(0, |sites| sites.values().map(|site| site.schedules.len()).sum()),
        problems: found.problems.iter().map(Remark::from).collect(),
        warnings: found.warnings.iter().map(Remark::from).collect(),
    };
    session.output.show(&checked)?;
    Ok(if checked.problems.is_empty() { Exit::Ok } else { Exit::Config })
}

/// A run that is due.
#[derive(Serialize)]
struct Due {
    at: Timestamp,
    due: Timestamp,
    time_zone: String,
    tenant: String,
    instance: Option<String>,
    schedule: String,
    #[serde(rename = "do")]
    verb: &'static str,
    #[serde(skip)]
    shown: [String; 2],
}

/// A schedule without a time of its own.
#[derive(Serialize)]
struct Other {
    tenant: String,
    schedule: String,
    #[serde(rename = "do")]
    verb: &'static str,
    when: String,
    instances: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    from: Timestamp,
    until: Option<Timestamp>,
    runs: Vec<Due>,
    others: Vec<Other>,
    #[serde(skip)]
    has_tenants: bool,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.schedule-next/1";

    fn text(&self, page: &mut Page) {
        if self.runs.is_empty() {
            page.line("nothing is due by a cron line");
        }
        let header = ["begins", "due", "instance", "do", "schedule", "tenant"];
        let columns = if self.has_tenants { header.len() } else { header.len() - 1 };
        let mut rows = Rows::new(&header[..columns]);
        for run in &self.runs {
            let [at, due] = &run.shown;
            let instance = run.instance.as_deref().unwrap_or("(the tenant)");
            rows.plain([at, due, instance, run.verb, &run.schedule, &run.tenant].into_iter().take(columns));
        }
        page.table(rows);
        if !self.others.is_empty() {
            page.heading("Without a time of their own");
            for other in &self.others {
                let of = if other.instances.is_empty() { "nobody".to_owned() } else { other.instances.join(", ") };
                page.line(format_args!("{}: {} of {of}, {}", other.schedule, other.verb, other.when));
            }
        }
    }
}

impl Next {
    fn run(self, sources: &Sources, session: &Session) -> Result<Exit> {
        let policies = policies::read(sources).map_err(of_daemon)?;
        let from = self.from.unwrap_or_else(|| session.now());
        // Whatever a line says, it fires within five years, or it was refused.
        let until = self.until.unwrap_or_else(|| from.saturating_add((5 * 366 * 24).hours()).unwrap_or(Timestamp::MAX));
        if let Some(instance) = &self.instance {
            known(instance, &policies)?;
        }
        let most = self.count as usize;
        let (mut runs, mut others) = (Vec::new(), Vec::new());
        for (site, schedule) in policies.sites.values().flat_map(|site| site.schedules.iter().map(move |it| (site, it)))
        {
            let mut instances = schedule.instances(&site.config);
            if let Some(only) = &self.instance {
                instances.retain(|instance| instance.as_ref() == Some(only));
                if instances.is_empty() {
                    continue;
                }
            }
            match &schedule.when {
                When::Cron(_) => {
                    for instance in &instances {
                        let found = schedule.due(instance.as_ref(), from, until).take(most);
                        runs.extend(found.map(|found| due(site, schedule, instance.as_ref(), found.due, found.at)));
                    }
                }
                When::After { .. } | When::Always => others.push(other(site, schedule, &instances)),
            }
        }
        runs.sort_by(|one, two| (one.at, one.due, &one.schedule).cmp(&(two.at, two.due, &two.schedule)));
        runs.truncate(most);
        let has_tenants = policies.sites.len() > 1;
        session.output.show(&Shown { from, until: self.until, runs, others, has_tenants })?;
        Ok(Exit::Ok)
    }
}

fn known(instance: &Instance, policies: &Policies) -> Result<()> {
    let names: BTreeSet<&str> =
        policies.sites.values().flat_map(|site| site.config.instances.keys().map(Instance::as_str)).collect();
    if names.contains(instance.as_str()) {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    Err(Failure::new(Exit::NotFound, format!("there is no instance \"{instance}\""))
        .hint(format!("configured are: {}", names.join(", "))))
}

fn due(site: &Site, schedule: &Schedule, instance: Option<&Instance>, due: Timestamp, at: Timestamp) -> Due {
    let zone = schedule.time_zone.rules();
    let shown = |time: Timestamp, form: &str| time.to_zoned(zone.clone()).strftime(form).to_string();
    let zone_name = schedule.time_zone.to_string();
    let begins = shown(at, "%a %Y-%m-%d %H:%M:%S%:z");
    let was_due = format!("{} {zone_name}", shown(due, if same_day(at, due, zone) { "%H:%M" } else { "%a %H:%M" }));
    Due {
        at,
        due,
        time_zone: zone_name,
        tenant: site.config.tenant.to_string(),
        instance: instance.map(ToString::to_string),
        schedule: schedule.name.clone(),
        verb: schedule.verb.word(),
        shown: [begins, was_due],
    }
}

fn same_day(one: Timestamp, two: Timestamp, zone: &jiff::tz::TimeZone) -> bool {
    zone.to_datetime(one).date() == zone.to_datetime(two).date()
}

fn other(site: &Site, schedule: &Schedule, instances: &[Option<Instance>]) -> Other {
    let names = instances.iter().map(|name| name.as_ref().map_or("the tenant".to_owned(), ToString::to_string));
    Other {
        tenant: site.config.tenant.to_string(),
        schedule: schedule.name.clone(),
        verb: schedule.verb.word(),
        when: schedule.words(),
        instances: names.collect(),
    }
}
