//! `lifeboat wal check`: is the log held without a gap, and is it what was signed.

use clap::Args;
use lifeboat_model::{id::Instance, lsn::Lsn};
use lifeboat_repo::check::{self, WalCheckMode, WalCheckReport};
use serde::Serialize;

use super::super::{Session, place::Place};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, bytes},
    progress::Meter,
    wire,
};

/// Check that the write-ahead log is held without a gap
///
/// Looks at the names of all objects, from the first to the last position of each timeline. With --heads it also verifies
/// each object's signature, with --read all bytes against their signed digest. Needs no decryption key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat wal check
  lifeboat wal check clinic --read

Exit codes: 0 no gap and no damage, 4 a gap or damage, 5 no WAL is held.")]
pub struct Check {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
    /// Also verify the signature of every object
    #[arg(long, conflicts_with = "read")]
    heads: bool,
    /// Also read every object and compare its digest
    #[arg(long)]
    read: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Checked {
    /// `names`, `heads` or `ciphertext`.
    depth: &'static str,
    sound: bool,
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    streams: Vec<Stream>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Stream {
    system_id: String,
    timeline: u32,
    /// Held without a gap; more than one means that WAL is missing in between.
    runs: Vec<Run>,
    segments: u64,
    slices: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Run {
    first: Lsn,
    last: Lsn,
}

#[derive(Serialize)]
struct Problem {
    key: String,
    what: String,
}

impl Row {
    fn new(instance: &Instance, report: WalCheckReport) -> Row {
        let streams = report.streams.into_iter().map(|stream| Stream {
            system_id: stream.system_id.to_string(),
            timeline: stream.timeline,
            runs: stream.runs.into_iter().map(|(first, last)| Run { first, last }).collect(),
            segments: stream.segments,
            slices: stream.slices,
            bytes: stream.bytes,
        });
        let problems = report.problems.into_iter();
        Row {
            instance: instance.to_string(),
            streams: streams.collect(),
            problems: problems.map(|problem| Problem { key: problem.key.to_string(), what: problem.what }).collect(),
        }
    }

    fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.streams.iter().all(|stream| stream.runs.len() <= 1)
    }
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.wal-check/1";

    fn text(&self, page: &mut Page) {
        let header = ["instance", "timeline", "from", "to", "segments", "slices", "size", ""];
        let mut rows = Rows::new(&header).numbers(&[1, 4, 5, 6]);
        for row in &self.instances {
            for stream in &row.streams {
                stream.rows(&row.instance, &mut rows);
            }
            if row.streams.is_empty() {
                let empty = [row.instance.as_str(), "–", "–", "–", "–", "–", "–"].map(|text| (Tone::Plain, text));
                rows.row(empty.into_iter().chain([(Tone::Doubtful, "no WAL is held")]));
            }
        }
        page.table(rows);
        for problem in self.instances.iter().flat_map(|row| &row.problems) {
            page.heading(&problem.key);
            page.line(format_args!("  {}", problem.what));
        }
        page.gap();
        page.line(match self.depth {
            "names" => "Looked at names only; nothing was read.",
            "heads" => "Every object's header was read and its signature verified.",
            _ => "Every object was read and compared with its signed digest; nothing was decrypted.",
        });
    }
}

impl Stream {
    fn rows(&self, instance: &str, rows: &mut Rows) {
        for (index, run) in self.runs.iter().enumerate() {
            let (first, last) = (run.first.to_string(), run.last.to_string());
            let timeline = self.timeline.to_string();
            let numbers = match index {
                0 => [self.segments.to_string(), self.slices.to_string(), bytes(self.bytes)],
                _ => ["", "", ""].map(str::to_owned),
            };
            let state = if index == 0 { (Tone::Good, "held") } else { (Tone::Bad, "AFTER A GAP") };
            let cells = [instance, &timeline, &first, &last].into_iter().chain(numbers.iter().map(String::as_str));
            rows.row(cells.map(|text| (Tone::Plain, text)).chain([state]));
        }
    }
}

impl Check {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (depth, mode) = match (self.heads, self.read) {
            (_, true) => ("ciphertext", WalCheckMode::ReadCiphertext),
            (true, _) => ("heads", WalCheckMode::Heads),
            _ => ("names", WalCheckMode::Names),
        };
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let instances = wire::instances(self.instance.as_ref(), config);
        let mut rows = Vec::new();
        for instance in instances {
            let repo = repository.instance(&config.tenant, &instance);
            let meter = Meter::start(&session.voice, format!("wal check {instance}"));
            let report = tokio::select! {
                report = check::wal(&repo, &config.keys.trusted_keys, mode, meter) => report,
                () = session.cancel.cancelled() => {
                    return Err(Failure::new(Exit::Interrupted, "stopped before it was done"));
                }
            };
            rows.push(Row::new(&instance, report.context(format!("cannot check the WAL of {instance}"))?));
        }
        let sound = rows.iter().all(Row::is_sound);
        let held = rows.iter().any(|row| !row.streams.is_empty());
        session.output.show(&Checked { depth, sound, instances: rows })?;
        Ok(match (sound, held) {
            (false, _) => Exit::CheckFailed,
            (true, false) => Exit::Incomplete, // nothing was looked at, so nothing was found sound
            (true, true) => Exit::Ok,
        })
    }
}
