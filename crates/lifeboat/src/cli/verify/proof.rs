//! `lifeboat verify --locks | --signs | --sample`: what is read back from the store, told, and kept as signed evidence.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_engine::{context::Context, lifetime::Lifetime, record, scrub};
use lifeboat_evidence::{
    Act,
    act::{LocksProof, Proof, Refused, Sign, SignsProof},
};
use lifeboat_model::{check::Outcome, id::Instance};
use lifeboat_repo::check::{self, LocksReport, Problem, SignsReport};
use serde::Serialize;

use super::Verify;
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Tone, bytes, count, moment},
    progress::Meter,
    wire,
};

/// How many problems and signs are named to people.
const NAMED: usize = 20;

#[derive(Serialize)]
struct Proven {
    /// Nothing was found wrong, and everything that was asked for was looked at.
    sound: bool,
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    locks: Option<Locks>,
    /// Why locks were asked for and not looked at.
    locks_not_executed: Option<String>,
    signs: Option<Signs>,
    sample: Option<Sample>,
    /// Where the signed statements are kept.
    evidence: Vec<String>,
}

#[derive(Serialize)]
struct Locks {
    mode: &'static str,
    points: u64,
    objects: u64,
    locked: u64,
    /// When the first of these locks ends.
    earliest: Option<Timestamp>,
    held: u64,
    problem_count: u64,
    problems: Vec<Wrong>,
}

#[derive(Serialize)]
struct Signs {
    objects: u64,
    newer_versions: u64,
    delete_markers: u64,
    strange_keys: u64,
    strange_points: u64,
    forged: u64,
    shortened_locks: u64,
    sign_count: u64,
    signs: Vec<ShownSign>,
}

#[derive(Serialize)]
struct ShownSign {
    kind: &'static str,
    key: String,
    version_id: Option<String>,
    what: String,
    at: Timestamp,
}

#[derive(Serialize)]
struct Sample {
    share: String,
    /// Within so many days everything is read.
    days: u32,
    due: u64,
    objects: u64,
    bytes: u64,
    complete: bool,
    problems: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    key: String,
    what: String,
    points: Vec<String>,
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        let points = problem.points.iter().map(ToString::to_string).collect();
        Wrong { key: problem.key.to_string(), what: problem.what, points }
    }
}

impl Row {
    fn exit(&self) -> Exit {
        let wrong = self.locks.as_ref().is_some_and(|locks| locks.problem_count > 0)
            || self.signs.as_ref().is_some_and(|signs| signs.sign_count > 0)
            || self.sample.as_ref().is_some_and(|sample| !sample.problems.is_empty());
        let left_out = self.locks_not_executed.is_some()
            || self.locks.as_ref().is_some_and(|locks| locks.points == 0)
            || self.sample.as_ref().is_some_and(|sample| !sample.complete);
        match (wrong, left_out) {
            (true, _) => Exit::CheckFailed,
            (false, true) => Exit::Incomplete,
            (false, false) => Exit::Ok,
        }
    }
}

impl Verify {
    pub(super) async fn prove(&self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let instances = wire::instances(self.instance.as_ref(), &loaded.config);
        for instance in &instances {
            loaded.config.instance(instance.as_str())?;
        }
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat verify");
        let mut rows = Vec::new();
        for instance in instances {
            let meter = Meter::start(&session.voice, format!("verify {instance}"));
            let row = tokio::select! {
                row = self.one(session, &context, &instance, meter) => row,
                () = session.cancel.cancelled() => return Err(Failure::new(Exit::Interrupted, "stopped before it was done")),
            };
            rows.push(row.context(format!("cannot verify {instance}"))?);
        }
        let exits: Vec<Exit> = rows.iter().map(Row::exit).collect();
        let exit = [Exit::CheckFailed, Exit::Incomplete].into_iter().find(|exit| exits.contains(exit));
        session.output.show(&Proven { sound: exit.is_none(), instances: rows })?;
        Ok(exit.unwrap_or(Exit::Ok))
    }

    async fn one(&self, session: &Session, context: &Context, name: &Instance, meter: Arc<Meter>) -> Result<Row> {
        let started = session.now();
        let (mut row, mut proof) = (Row::new(name), Proof::default());
        let (repo, trusted) = (context.instance_repo(name), &context.config.keys.trusted_keys);
        if self.locks {
            let lifetime = Lifetime::look(context, name).await?;
            match (lifetime.lock, context.repository.store().capabilities().locks) {
                (Some(lock), true) => {
                    let needs = lifetime.demands();
                    let report = check::locks(&repo, &needs, lock.mode, trusted, meter.clone()).await?;
                    proof.locks = Some(locks_proof(&report));
                    row.locks = Some(Locks::new(lock.mode.word(), report));
                }
                (None, _) => row.locks_not_executed = Some("its tier has no lock: nothing is locked".to_owned()),
                (_, false) => row.locks_not_executed = Some("the store has no object lock".to_owned()),
            }
        }
        if self.signs {
            let report = check::signs(&repo, trusted, meter.clone()).await?;
            proof.signs = Some(signs_proof(&report));
            row.signs = Some(Signs::new(report));
        }
        if proof != Proof::default() {
            let failed = row.exit() == Exit::CheckFailed;
            let outcome = if failed { Outcome::Failed } else { Outcome::Passed };
            let (key, _) = record::keep_act(context, Some(name), started, outcome, Act::Verify(proof)).await?;
            row.evidence.push(key.to_string());
        }
        if let Some(share) = &self.sample {
            let scrubbed = scrub::run(context, name, share, meter, session.cancel.clone()).await?;
            row.evidence.extend(scrubbed.evidence.map(|key| key.to_string()));
            row.sample = Some(Sample {
                share: share.to_string(),
                days: share.days,
                due: scrubbed.report.due,
                objects: scrubbed.report.objects,
                bytes: scrubbed.report.bytes,
                complete: scrubbed.report.complete,
                problems: scrubbed.report.problems.into_iter().map(Wrong::from).collect(),
            });
        }
        Ok(row)
    }
}

fn locks_proof(report: &LocksReport) -> LocksProof {
    let problem = |problem: &Problem| Refused { key: problem.key.to_string(), why: problem.what.clone() };
    LocksProof {
        points: report.points,
        objects: report.objects,
        earliest: report.earliest,
        short: report.problems.len() as u64 + report.more_problems,
        problems: report.problems.iter().take(LocksProof::LISTED).map(problem).collect(),
    }
}

fn signs_proof(report: &SignsReport) -> SignsProof {
    let sign = |sign: &check::Sign| Sign {
        key: sign.key.to_string(),
        version: sign.version.as_ref().map(|version| version.0.clone()),
        what: sign.what.clone(),
        at: sign.at,
    };
    SignsProof {
        newer_versions: report.newer_versions,
        delete_markers: report.delete_markers,
        foreign: report.strange_keys + report.strange_points + report.forged,
        shortened: report.shortened,
        samples: report.samples.iter().map(sign).collect(),
    }
}

impl Row {
    fn new(name: &Instance) -> Self {
        let (locks, locks_not_executed, signs, sample) = (None, None, None, None);
        Row { instance: name.to_string(), locks, locks_not_executed, signs, sample, evidence: Vec::new() }
    }
}

impl Locks {
    fn new(mode: &'static str, report: LocksReport) -> Self {
        Locks {
            mode,
            points: report.points,
            objects: report.objects,
            locked: report.locked,
            earliest: report.earliest,
            held: report.held,
            problem_count: report.problems.len() as u64 + report.more_problems,
            problems: report.problems.into_iter().map(Wrong::from).collect(),
        }
    }

    fn text(&self, page: &mut Page) {
        let total =
            format!("{} of {}", count(self.objects, "object", "objects"), count(self.points, "point", "points"));
        if self.problem_count == 0 {
            let first = self.earliest.map_or(String::new(), |time| format!("; the first lock ends {}", moment(time)));
            let tone = if self.points == 0 { Tone::Doubtful } else { Tone::Good };
            page.line(format_args!("  {} {total}, {}{first}", tone.paint("locked:"), self.mode));
        } else {
            let short = count(self.problem_count, "object is", "objects are");
            page.line(format_args!(
                "  {} of {total}, {short} not locked as they must be",
                Tone::Bad.paint("NOT LOCKED:")
            ));
        }
        if self.held > 0 {
            page.line(format_args!("  {} under legal hold", count(self.held, "object", "objects")));
        }
        wrong(page, &self.problems, self.problem_count);
    }
}

fn wrong(page: &mut Page, problems: &[Wrong], total: u64) {
    for problem in problems.iter().take(NAMED) {
        page.line(format_args!("    {}: {}", problem.key, problem.what));
        if !problem.points.is_empty() {
            page.line(format_args!("      needed by {}", problem.points.join(", ")));
        }
    }
    if total > NAMED as u64 {
        page.line("    … --json names more");
    }
}

impl Signs {
    fn new(report: SignsReport) -> Self {
        let sign_count = report.count();
        let shown = |sign: check::Sign| ShownSign {
            kind: sign.kind.word(),
            key: sign.key.to_string(),
            version_id: sign.version.map(|version| version.0),
            what: sign.what,
            at: sign.at,
        };
        Signs {
            objects: report.objects,
            newer_versions: report.newer_versions,
            delete_markers: report.delete_markers,
            strange_keys: report.strange_keys,
            strange_points: report.strange_points,
            forged: report.forged,
            shortened_locks: report.shortened,
            sign_count,
            signs: report.samples.into_iter().map(shown).collect(),
        }
    }

    fn text(&self, page: &mut Page) {
        if self.sign_count == 0 {
            let objects = count(self.objects, "object", "objects");
            return page.line(format_args!("  {} in {objects}", Tone::Good.paint("no sign of an attack")));
        }
        let signs = count(self.sign_count, "sign", "signs");
        page.line(format_args!("  {} {signs}", Tone::Bad.paint("SIGNS OF AN ATTACK (or of an accident):")));
        let kinds = [
            ("newer version", "newer versions", self.newer_versions),
            ("delete marker", "delete markers", self.delete_markers),
            ("object that is not ours", "objects that are not ours", self.strange_keys),
            ("point that counts for nothing", "points that count for nothing", self.strange_points),
            (
                "index, WAL object or document that nobody trusted has signed",
                "indexes, WAL objects and documents that nobody trusted has signed",
                self.forged,
            ),
            ("shortened lock", "shortened locks", self.shortened_locks),
        ];
        for (one, many, n) in kinds.into_iter().filter(|(.., n)| *n > 0) {
            page.line(format_args!("    {}", count(n, one, many)));
        }
        for sign in self.signs.iter().take(NAMED) {
            page.line(format_args!("    {}  {}: {}", moment(sign.at), sign.key, sign.what));
        }
        if self.sign_count > NAMED as u64 {
            page.line("    … --json names more");
        }
        page.line("  Restores and drills read the first version of each object: what was put over it changes nothing.");
    }
}

impl Sample {
    fn text(&self, page: &mut Page) {
        let due = count(self.due, "object", "objects");
        let read = format!("{} of {due} that were due, {}", self.objects, bytes(self.bytes));
        let (tone, word) = match (self.problems.is_empty(), self.complete) {
            (false, _) => (Tone::Bad, "DAMAGED:"),
            (true, false) => (Tone::Doubtful, "not all of it:"),
            (true, true) => (Tone::Good, "sound:"),
        };
        page.line(format_args!("  {} {read}; everything is read within {} days", tone.paint(word), self.days));
        wrong(page, &self.problems, self.problems.len() as u64);
    }
}

impl Answer for Proven {
    const SCHEMA: &'static str = "lifeboat.verify-proof/1";

    fn text(&self, page: &mut Page) {
        for row in &self.instances {
            page.heading(&row.instance);
            if let Some(why) = &row.locks_not_executed {
                page.line(format_args!("  {} {why}", Tone::Doubtful.paint("locks not looked at:")));
            }
            if let Some(locks) = &row.locks {
                locks.text(page);
            }
            if let Some(signs) = &row.signs {
                signs.text(page);
            }
            if let Some(sample) = &row.sample {
                sample.text(page);
            }
            for key in &row.evidence {
                page.line(format_args!("  evidence {key}"));
            }
        }
    }
}
