//! `lifeboat verify`: is what the points name still there and unharmed. Without keys by the digests of the ciphertext;
//! with a recovery identity down to every chunk.

use std::path::PathBuf;

use clap::Args;
use lifeboat_model::{config::Config, id::Instance};
use lifeboat_repo::{
    check::{VerifyMode, VerifyReport, verify},
    point::{Point, PointSelector},
    repository::InstanceRepo,
};
use serde::Serialize;

use super::Session;
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, bytes, count},
    progress::Meter,
    wire,
};

/// Check that everything recovery points name is there and unharmed
///
/// Reads every object and compares its SHA-256 with the signed header; this needs no decryption key. With --read-data
/// it also opens every object and checks every chunk, which needs a recovery identity.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
    /// "latest", or 4 to 16 digits of a point's id; without it, all points
    #[arg(long, value_name = "POINT", requires = "instance")]
    point: Option<PointSelector>,
    /// Only look whether every object is there with its length; reads nothing
    #[arg(long, conflicts_with = "read_data")]
    quick: bool,
    /// Also decrypt everything and check every chunk
    #[arg(long)]
    read_data: bool,
    /// A recovery identity (repeatable), for --read-data [default: keys.recovery_identity_file]
    #[arg(long, value_name = "FILE", requires = "read_data")]
    identity: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat verify                                everything, by its ciphertext, without any key
  lifeboat verify clinic --point latest --read-data --identity /media/key/recovery.identity
  lifeboat verify --quick --json";

#[derive(Serialize)]
struct Verified {
    /// `quick`, `ciphertext` or `data`.
    depth: &'static str,
    sound: bool,
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    points: u64,
    objects: u64,
    bytes: u64,
    chunks: u64,
    problems: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    key: String,
    what: String,
    points: Vec<String>,
    file_count: u64,
    files: Vec<String>,
}

impl Row {
    fn new(instance: &Instance, report: VerifyReport, invalid: Vec<Wrong>) -> Self {
        let problems = report.problems.into_iter().map(|problem| Wrong {
            key: problem.key.to_string(),
            what: problem.what,
            points: problem.points.iter().map(ToString::to_string).collect(),
            file_count: problem.file_count,
            files: problem.files,
        });
        Row {
            instance: instance.to_string(),
            points: report.points,
            objects: report.objects,
            bytes: report.bytes,
            chunks: report.chunks,
            problems: invalid.into_iter().chain(problems).collect(),
        }
    }
}

impl Answer for Verified {
    const SCHEMA: &'static str = "lifeboat.verify/1";

    fn text(&self, page: &mut Page) {
        let mut rows = Rows::new(&["instance", "points", "objects", "size", "chunks", ""]).numbers(&[1, 2, 3, 4]);
        for row in &self.instances {
            let wrong = count(row.problems.len() as u64, "PROBLEM", "PROBLEMS");
            let state = match (row.points, row.problems.len()) {
                (0, 0) => (Tone::Doubtful, "no recovery points"),
                (_, 0) => (Tone::Good, "sound"),
                _ => (Tone::Bad, wrong.as_str()),
            };
            let numbers = [row.points.to_string(), row.objects.to_string(), bytes(row.bytes), row.chunks.to_string()];
            let cells = [&row.instance].into_iter().chain(&numbers).map(|text| (Tone::Plain, text.as_str()));
            rows.row(cells.chain([state]));
        }
        page.table(rows);
        for problem in self.instances.iter().flat_map(|row| &row.problems) {
            page.heading(&problem.key);
            page.line(format_args!("  {}", problem.what));
            if !problem.points.is_empty() {
                page.line(format_args!("  needed by {}", problem.points.join(", ")));
            }
            if problem.file_count > 0 {
                page.line(format_args!("  hits {}:", count(problem.file_count, "file", "files")));
                problem.files.iter().for_each(|file| page.line(format_args!("    {file}")));
            }
        }
        page.gap();
        page.line(match self.depth {
            "quick" => "Looked at names and lengths only; nothing was read.",
            "ciphertext" => "Every object was read and compared with its signed digest; nothing was decrypted.",
            _ => "Every object was read, decrypted, and every chunk compared with its keyed digest.",
        });
    }
}

impl Verify {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (depth, mode) = match (self.quick, self.read_data) {
            (true, _) => ("quick", VerifyMode::Heads),
            (_, false) => ("ciphertext", VerifyMode::ReadCiphertext),
            _ => ("data", VerifyMode::ReadData(wire::recovery_identities(&self.identity, &loaded.config)?)),
        };
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let instances = match &self.instance {
            Some(instance) => vec![instance.clone()],
            None => config.instances.keys().cloned().collect(),
        };
        let mut rows = Vec::new();
        for instance in instances {
            let repo = repository.instance(&config.tenant, &instance);
            let (points, invalid) = self.points(&repo, config).await?;
            if let VerifyMode::ReadData(identities) = &mode {
                points.iter().try_for_each(|point| wire::opens(point, identities))?;
            }
            let meter = Meter::start(&session.voice, format!("verify {instance}"));
            let report = tokio::select! {
                report = verify(&repo, &points, mode.clone(), meter) => report,
                () = session.cancel.cancelled() => return Err(Failure::new(Exit::Interrupted, "stopped before it was done")),
            };
            rows.push(Row::new(&instance, report.context(format!("cannot verify {instance}"))?, invalid));
        }
        let sound = rows.iter().all(|row| row.problems.is_empty());
        let seen = rows.iter().any(|row| row.points > 0);
        session.output.show(&Verified { depth, sound, instances: rows })?;
        Ok(match (sound, seen) {
            (false, _) => Exit::CheckFailed,
            (true, false) => Exit::Incomplete, // nothing was looked at, so nothing was found sound
            (true, true) => Exit::Ok,
        })
    }

    /// The points to look at; those that do not verify themselves are findings.
    async fn points(&self, repo: &InstanceRepo, config: &Config) -> Result<(Vec<Point>, Vec<Wrong>)> {
        if let Some(selector) = &self.point {
            return Ok((vec![wire::find_point(repo, selector, config).await?], Vec::new()));
        }
        let (mut points, mut invalid) = (Vec::new(), Vec::new());
        let references = repo.list_points().await?;
        if references.is_empty() {
            config.instance(repo.instance().as_str())?;
        }
        for reference in references {
            match repo.read_point(&reference, &config.keys.trusted_keys).await {
                Ok(point) => points.push(point),
                Err(error @ lifeboat_repo::Error::Store(_)) => {
                    return Err(error).context("cannot read a recovery point");
                }
                Err(error) => invalid.push(Wrong {
                    key: reference.key.to_string(),
                    what: error.to_string(),
                    points: vec![reference.id.to_string()],
                    file_count: 0,
                    files: Vec::new(),
                }),
            }
        }
        Ok((points, invalid))
    }
}
