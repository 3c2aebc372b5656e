//! `lifeboat verify`: is what the points name still there and unharmed. Without keys by the digests of the ciphertext;
//! with a recovery identity down to every chunk.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use lifeboat_engine::scrub::Share;
use lifeboat_model::{config::Config, id::Instance};
use lifeboat_repo::{
    check::{Problem, VerifyMode, VerifyReport, verify},
    point::{ObjectRef, Point, PointSelector},
    repository::InstanceRepo,
};
use lifeboat_store::Key;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

mod proof;
mod recovered;

use super::{Session, identity::IdentityArgs, place::Place};
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
///
/// With --locks, --signs or --sample it proves something else instead, and keeps the answer as signed evidence. With
/// --recovered it asks a system that was restored and runs again what a drill asks in its sandbox.
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
    /// The identity's passphrase is the first line of this file, or of /dev/fd/N [default: asked on the terminal]
    #[arg(long, value_name = "FILE", requires = "identity")]
    passphrase_file: Option<PathBuf>,
    /// Read back the lock of every object that a kept point needs: is it locked at least until the point's end?
    #[arg(long, conflicts_with_all = ["point", "quick", "read_data"], help_heading = "Proofs")]
    locks: bool,
    /// Look for signs of an attack: newer versions, delete markers, objects that are not ours, shortened locks
    #[arg(long, conflicts_with_all = ["point", "quick", "read_data"], help_heading = "Proofs")]
    signs: bool,
    /// Read the share that is due by now, for example 1%/day: within 100 days everything is read
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["point", "quick", "read_data"], help_heading = "Proofs")]
    sample: Option<Share>,
    #[command(flatten)]
    recovered: recovered::RecoveredArgs,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat verify                                everything, by its ciphertext, without any key
  lifeboat verify clinic --point latest --read-data --identity /media/key/recovery.identity
  lifeboat verify --quick --json
  lifeboat verify --locks --signs                is it immutable in fact, and did anybody try
  lifeboat verify --sample 1%/day                daily, from a timer
  lifeboat verify clinic --recovered /srv/clinic --rungs replay,structure,data,attachments
  lifeboat verify clinic --recovered /srv/clinic --rungs boot,use --url http://localhost:8069 \\
      --user it@example.org --password-file /root/it.password";

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
    fn identities(&self) -> IdentityArgs {
        IdentityArgs { identity: self.identity.clone(), passphrase_file: self.passphrase_file.clone() }
    }

    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        if let Some(folder) = &self.recovered.recovered {
            return self.recovered.run(session, (self.instance.as_ref(), folder), &self.place).await;
        }
        if self.locks || self.signs || self.sample.is_some() {
            return self.prove(session).await;
        }
        let loaded = self.place.load(session)?;
        let (depth, mode) = match (self.quick, self.read_data) {
            (true, _) => ("quick", VerifyMode::Heads),
            (_, false) => ("ciphertext", VerifyMode::ReadCiphertext),
            _ => ("data", VerifyMode::ReadData(wire::recovery_identities(&self.identities(), &loaded.config)?)),
        };
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let instances = wire::instances(self.instance.as_ref(), config);
        let mut rows = Vec::new();
        for instance in instances {
            let repo = repository.instance(&config.tenant, &instance);
            let meter = Meter::start(&session.voice, format!("verify {instance}"));
            let found = tokio::select! {
                found = self.look(&repo, config, &mode, meter) => found,
                () = session.cancel.cancelled() => return Err(Failure::new(Exit::Interrupted, "stopped before it was done")),
            };
            let (report, invalid) = found.context(format!("cannot verify {instance}"))?;
            rows.push(Row::new(&instance, report, invalid));
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

    /// Looks at the points, and tells what is wrong and which points do not verify themselves.
    ///
    /// One point after the other, so that memory holds one header at a time and 16 bytes for each object that was found sound;
    /// only opened data is compared for all points together, since a pack is read once for all that use it.
    async fn look(
        &self,
        repo: &InstanceRepo,
        config: &Config,
        mode: &VerifyMode,
        meter: Arc<Meter>,
    ) -> Result<(VerifyReport, Vec<Wrong>)> {
        if let Some(selector) = &self.point {
            let point = wire::find_point(repo, selector, config).await?;
            return Ok((check(repo, &[point], mode, meter).await?, Vec::new()));
        }
        let references = repo.list_points().await?;
        if references.is_empty() {
            config.instance(repo.instance().as_str())?;
        }
        let (mut together, mut seen, mut invalid) = (Vec::new(), Seen::default(), Vec::new());
        for reference in references {
            match repo.read_point(&reference, &config.keys.trusted_keys).await {
                Ok(point) if matches!(mode, VerifyMode::ReadData(_)) => together.push(point),
                Ok(mut point) => {
                    seen.skip_known(&mut point);
                    let report = check(repo, std::slice::from_ref(&point), mode, meter.clone()).await?;
                    seen.remember(&point, report);
                }
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
        if !together.is_empty() {
            return Ok((check(repo, &together, mode, meter).await?, invalid));
        }
        Ok((seen.finish(), invalid))
    }
}

async fn check(repo: &InstanceRepo, points: &[Point], mode: &VerifyMode, meter: Arc<Meter>) -> Result<VerifyReport> {
    if let VerifyMode::ReadData(identities) = mode {
        points.iter().try_for_each(|point| wire::opens(point, identities))?;
    }
    Ok(verify(repo, points, mode.clone(), meter).await?)
}

/// What earlier points of the run have shown, so that an object that many points share is looked at once.
#[derive(Default)]
struct Seen {
    /// Objects found sound.
    sound: HashSet<[u8; 16]>,
    problems: BTreeMap<Key, Problem>,
    totals: VerifyReport,
}

impl Seen {
    /// Takes what is known out of the list. What is known to be wrong is wrong for this point as well.
    fn skip_known(&mut self, point: &mut Point) {
        let id = point.header.point;
        point.header.objects.retain(|object| match self.problems.get_mut(&object.key) {
            Some(known) => {
                known.points.push(id);
                false
            }
            None => !self.sound.contains(&fingerprint(object)),
        });
    }

    fn remember(&mut self, point: &Point, report: VerifyReport) {
        self.totals.points += report.points;
        self.totals.objects += report.objects;
        self.totals.bytes += report.bytes;
        self.problems.extend(report.problems.into_iter().map(|problem| (problem.key.clone(), problem)));
        let sound = point.header.objects.iter().filter(|object| !self.problems.contains_key(&object.key));
        self.sound.extend(sound.map(fingerprint));
    }

    fn finish(self) -> VerifyReport {
        VerifyReport { problems: self.problems.into_values().collect(), ..self.totals }
    }
}

/// An object as a point names it. A point that names other bytes, or another version, under the same key is not skipped.
fn fingerprint(object: &ObjectRef) -> [u8; 16] {
    let version = object.version.as_ref().map_or("", |version| version.0.as_str());
    let hash = Sha256::new()
        .chain_update(object.sha256.0)
        .chain_update(object.len.to_be_bytes())
        .chain_update((version.len() as u64).to_be_bytes())
        .chain_update(version)
        .chain_update(object.key.as_str())
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}
