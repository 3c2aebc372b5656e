//! `lifeboat evidence report`: what a period's evidence says together, for executives and auditors.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use lifeboat_drill::extract::NewFile;
use lifeboat_engine::{
    context::Context,
    picture,
    report::{self, Report, Wanted},
};
use lifeboat_evidence::{
    DrillPredicate,
    audit::{Audit, Weight, Word},
    key,
    report::{Ledger, Period, csv, html, json, period::Rehearsal},
    verify::SetEntry,
};
use lifeboat_model::{check::Outcome, config::Config, id::Instance};
use lifeboat_repo::seal::Identity;

use super::{audited, journals};
use crate::{
    cli::{Session, identity::IdentityArgs, place::Place},
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    wire,
};

/// Of the JSON form.
const SCHEMA: &str = "lifeboat.evidence-report/1";

/// Report on a period: rehearsals due and done, RPO and RTO against targets, exceptions, sign-offs
///
/// One self-contained HTML document with a first page for executives and the full record of every drill (it prints on A4), or the
/// same as JSON or CSV. Only statements that are believed count; others are listed as what they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence report --from 2026-07-01 --to 2026-09-30 --output q3.html
  lifeboat evidence report --instance clinic --format csv --output clinic.csv
  lifeboat evidence report --records exceptions > year.html
  lifeboat evidence report --identity /media/key/recovery.identity --output with-pictures.html

Exit codes: 0 written, whatever it says; `lifeboat status` tells by its exit code how things are.")]
pub struct ReportCommand {
    /// Only this instance [default: all]
    #[arg(long, value_name = "NAME")]
    instance: Option<Instance>,
    /// From this day on (UTC), or from this moment on [default: a year before its end]
    #[arg(long, value_name = "DATE")]
    from: Option<Moment>,
    /// Up to and with this day (UTC), or up to this moment [default: now]
    #[arg(long, value_name = "DATE")]
    to: Option<Moment>,
    /// Form of the report [default: html, with --json: json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Whose full records stand in it; sums and lines are of all
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Records::All)]
    records: Records,
    /// Open the pictures of drills with this recovery identity and put them into the HTML; they may show personal data
    /// (repeatable) [default: the records say where they are kept, sealed]
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// The identity's passphrase is the first line of this file, or of /dev/fd/N [default: asked on the terminal]
    #[arg(long, value_name = "FILE", requires = "identity")]
    passphrase_file: Option<PathBuf>,
    /// A new file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A document for people
    Html,
    /// One document for programs
    Json,
    /// One line a run, for spreadsheets
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Records {
    /// Of every drill
    All,
    /// Of drills that did not pass, controls that are not as they must be, and the newest of each instance
    Exceptions,
    /// Of none
    None,
}

impl Records {
    fn words(self) -> &'static str {
        match self {
            Records::All => "Of every rehearsal in this period, as it was signed.",
            Records::Exceptions => {
                "Of rehearsals that did not pass, of negative controls that are not as they must be, and of the newest \
                 rehearsal of each instance. The others are left out of this document, and stand in the ledger."
            }
            Records::None => {
                "Left out of this document; they stand in the ledger, and lifeboat evidence show prints each."
            }
        }
    }
}

/// A day or a moment.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Day(Date),
    At(Timestamp),
}

impl std::str::FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        // Whole days first: a time without a zone would be another moment in each place.
        match (text.len() == "2026-07-01".len(), text.parse::<Date>(), text.parse::<Timestamp>()) {
            (true, Ok(day), _) => Ok(Moment::Day(day)),
            (_, _, Ok(time)) => Ok(Moment::At(time)),
            _ => Err("write a day as 2026-07-01, or a moment with its zone as 2026-07-01T12:00:00+02:00".to_owned()),
        }
    }
}

impl Moment {
    fn begins(self) -> std::result::Result<Timestamp, jiff::Error> {
        match self {
            Moment::Day(day) => Ok(day.to_zoned(TimeZone::UTC)?.timestamp()),
            Moment::At(time) => Ok(time),
        }
    }

    /// A day belongs to the period as a whole.
    fn ends(self) -> std::result::Result<Timestamp, jiff::Error> {
        match self {
            Moment::Day(day) => Ok(day.checked_add(1.day())?.to_zoned(TimeZone::UTC)?.timestamp()),
            Moment::At(time) => Ok(time),
        }
    }
}

impl ReportCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let format = self.format(session)?;
        let (from, to) = self.period(session.now())?;
        // Refused before anything is read; the folder has to be there too.
        let file = self.output.as_deref().map(NewFile::create).transpose()?;
        let loaded = self.place.load(session)?;
        let identities = self.identities(&loaded.config)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat evidence report");
        self.check_instance(&context).await?;
        let (seen, audit) = audited::audit(&context, &journals::others(session, &context.config), &[], None).await?;
        let audited = weighed(&context, &seen, &audit);
        let wanted = Wanted { instance: self.instance.clone(), from, to };
        let gathered = report::gather(&context, &wanted, audited).await?;
        let report =
            Written { gathered, format, records: self.records, pictures: Pictures { context: &context, identities } };
        match file {
            Some(file) => write_file(session, file, report).await?,
            None => quiet_if_closed(report.to(&mut io::stdout().lock()).await)?,
        }
        Ok(Exit::Ok)
    }

    fn format(&self, session: &Session) -> Result<Format> {
        match (self.format, session.output.is_json()) {
            (Some(Format::Json | Format::Csv), _) | (None, true) if !self.identity.is_empty() => {
                Err(Failure::new(Exit::Usage, "only HTML has pictures").hint("leave out --identity, or --format"))
            }
            (None | Some(Format::Json), true) => Ok(Format::Json),
            (Some(_), true) => Err(Failure::new(Exit::Usage, "--json and --format contradict each other")),
            (None, false) => Ok(Format::Html),
            (Some(format), false) => Ok(format),
        }
    }

    fn period(&self, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
        let to = self.to.map_or(Ok(now), Moment::ends).context("--to is out of range")?;
        let year_before = || {
            let end = to.to_zoned(TimeZone::UTC);
            end.checked_sub(1.year()).map(|start| start.timestamp())
        };
        let from = self.from.map_or_else(year_before, Moment::begins).context("--from is out of range")?;
        match from < to && from < now {
            true => Ok((from, to)),
            false => Err(Failure::new(Exit::Usage, format!("a period from {from} to {to} has nothing in it"))
                .hint("--from has to be before --to, and before now")),
        }
    }

    async fn check_instance(&self, context: &Context) -> Result<()> {
        let Some(name) = &self.instance else { return Ok(()) };
        let is_known = context.config.instances.contains_key(name) || report::instances(context).await?.contains(name);
        match is_known {
            true => Ok(()),
            false => Err(Failure::new(Exit::NotFound, format!("no instance \"{name}\", and no evidence of one"))
                .next("lifeboat evidence list")),
        }
    }

    /// None: no picture is to be opened.
    fn identities(&self, config: &Config) -> Result<Vec<Identity>> {
        if self.identity.is_empty() {
            return Ok(Vec::new());
        }
        let given = IdentityArgs { identity: self.identity.clone(), passphrase_file: self.passphrase_file.clone() };
        wire::recovery_identities(&given, config)
    }
}

async fn write_file(session: &Session, file: NewFile, report: Written<'_>) -> Result<()> {
    let period = &report.gathered.period;
    let (state, sums) = (period.state.word(), &period.sums);
    let said = format!(
        "{state}: {} rehearsals, {} passed, {} exceptions open",
        sums.rehearsals, sums.passed, sums.open_exceptions
    );
    let path = file.path().display().to_string();
    let mut out = io::BufWriter::new(file.file()?);
    report.to(&mut out).await.context(format!("cannot write {path}"))?;
    file.publish()?;
    session.voice.say(&format!("{path}: {said}"));
    Ok(())
}

/// Which statements may count. The audit names them without the tenant's folder.
fn weighed(context: &Context, seen: &[SetEntry], audit: &Audit) -> report::Audited {
    let root = key::prefix(&context.config.tenant);
    let refused = audit.findings.listed().iter().map(|one| (format!("{root}{}", one.of), one.detail.clone()));
    report::Audited {
        ledger: ledger(audit),
        has_ledger: audit.entries > 0 || audit.checkpoints > 0,
        seen: seen.iter().map(|entry| entry.name.clone()).collect(),
        proven: audit.proven_names.iter().map(|name| format!("{root}{name}")).collect(),
        refused: refused.collect(),
    }
}

/// What tells of a loss or a lie, apart from what tells of age alone.
fn ledger(audit: &Audit) -> Ledger {
    let is_wrong = |word: Word| {
        let mut listed = audit.findings.listed().iter().filter(|one| one.word == word).peekable();
        // Of a word that did not get into the list nothing milder may be said than of all together.
        match listed.peek() {
            Some(_) => listed.any(|one| one.weight == Weight::Wrong),
            None => !audit.believed(),
        }
    };
    let (wrong, aged): (Vec<_>, Vec<_>) = audit.findings.counts().iter().partition(|(word, _)| is_wrong(**word));
    let told =
        |found: Vec<(&Word, &u64)>| found.into_iter().map(|(word, count)| (word.word().to_owned(), *count)).collect();
    Ledger::Executed {
        entries: audit.entries,
        root: audit.root.as_ref().map(ToString::to_string),
        findings: told(wrong),
        remarks: told(aged),
    }
}

/// A reader that went away (`| head -1`) is no failure.
fn quiet_if_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A report that is about to be written.
struct Written<'c> {
    gathered: Report,
    format: Format,
    records: Records,
    pictures: Pictures<'c>,
}

impl Written<'_> {
    async fn to(self, out: &mut impl Write) -> io::Result<()> {
        match self.format {
            Format::Csv => out.write_all(csv(&self.gathered.period).as_bytes())?,
            Format::Html => write_html(out, self.gathered, self.records, &self.pictures).await?,
            Format::Json => write_json(out, self.gathered, self.records)?,
        }
        out.flush()
    }
}

/// Whoever opens the pictures of drills, one at a time.
struct Pictures<'c> {
    context: &'c Context,
    /// None: they stay sealed.
    identities: Vec<Identity>,
}

impl Pictures<'_> {
    /// The full record of a drill, with its picture where that is wanted and can be had.
    async fn record(&self, drill: &DrillPredicate, line: html::Line<'_>) -> String {
        let taken = drill.screenshot.as_ref().filter(|_| !self.identities.is_empty());
        let Some(taken) = taken else { return html::record(drill, line, html::Picture::Kept) };
        let png = match picture::open(self.context, line.statement(), taken, &self.identities).await {
            Ok(Some(png)) => png,
            Ok(None) => return html::record(drill, line, html::Picture::NotHad("it was not kept")),
            // The report is worth having without it, and says what is missing.
            Err(error) => {
                let why = Failure::from(error).messages().join(": ");
                return html::record(drill, line, html::Picture::NotHad(&why));
            }
        };
        html::record(drill, line, html::Picture::Shown(&png))
    }
}

async fn write_html(
    out: &mut impl Write,
    gathered: Report,
    records: Records,
    pictures: &Pictures<'_>,
) -> io::Result<()> {
    let Report { period, mut drills } = gathered;
    out.write_all(html::head(&period, records.words()).as_bytes())?;
    let (rehearsals, controls) = lines(&period, records);
    for line in rehearsals {
        if let Some(drill) = drills.get(&line.sha256())? {
            out.write_all(pictures.record(&drill, line).await.as_bytes())?;
        }
    }
    if !controls.is_empty() {
        out.write_all(html::controls_head().as_bytes())?;
    }
    for line in controls {
        if let Some(drill) = drills.get(&line.sha256())? {
            out.write_all(pictures.record(&drill, line).await.as_bytes())?;
        }
    }
    out.write_all(html::tail(&period).as_bytes())
}

fn write_json(out: &mut impl Write, gathered: Report, records: Records) -> io::Result<()> {
    let Report { period, mut drills } = gathered;
    out.write_all(json::head(SCHEMA, &period, records.words()).as_bytes())?;
    let (rehearsals, controls) = lines(&period, records);
    let mut is_first = true;
    for line in rehearsals.into_iter().chain(controls) {
        let drill: Option<DrillPredicate> = drills.get(&line.sha256())?;
        if let Some(drill) = drill {
            out.write_all(json::drill(&drill, is_first).as_bytes())?;
            is_first = false;
        }
    }
    out.write_all(json::tail().as_bytes())
}

/// Which drills have their full records in it, in the order of instances and time.
fn lines(period: &Period, records: Records) -> (Vec<html::Line<'_>>, Vec<html::Line<'_>>) {
    let (mut rehearsals, mut controls) = (Vec::new(), Vec::new());
    for of in &period.instances {
        let newest = of.rehearsals.last().map(|one| one.run);
        let is_in = |is_odd: bool| records == Records::All || (records == Records::Exceptions && is_odd);
        let wanted = |one: &&Rehearsal| is_in(one.outcome != Outcome::Passed || Some(one.run) == newest);
        rehearsals.extend(of.rehearsals.iter().filter(wanted).map(html::Line::Rehearsal));
        let odd = of.controls.iter().filter(|one| is_in(one.outcome != Some(Outcome::Passed)));
        controls.extend(odd.map(html::Line::Control));
    }
    (rehearsals, controls)
}
