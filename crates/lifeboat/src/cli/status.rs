//! `lifeboat status`: one word for each instance, why, and what to do about it.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    context::{Context, connect_options},
    record, stream,
};
use lifeboat_evidence::{Act, EvidenceKey, Predicate, act::Proof, drill::DrillPredicate};
use lifeboat_model::{check::Outcome, config::InstanceConfig, id::Instance};
use lifeboat_repo::{
    point::{Point, PointSelector},
    repository::EvidenceRef,
};
use serde::Serialize;
use tokio::time::timeout;

use super::{
    Session,
    copy::lag::{Copies, CopyState},
};
use crate::{
    exit::Exit,
    failure::{Advise as _, Result},
    output::{Answer, Page, Rows, Tone, ago, bytes, count, moment, seconds},
    protection::{DrillFacts, Facts, Judgement, PointFacts, Word, judge},
    wire,
};

/// Who looks at a status is in a hurry.
const PATIENCE: Duration = Duration::from_secs(5);

/// Say of each instance whether it is protected, at risk or unprotected
///
/// Protected: the newest recovery point verifies and is younger than the tier's RPO, and the last drill passed within the
/// targets on the configured images, at most 35 days ago. Without evidence of a passed drill an instance is at risk at best.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat status
  lifeboat status clinic --json

Exit codes: 0 all protected, 5 at least one at risk, 4 at least one unprotected.")]
pub struct Status {
    /// Only this instance
    instance: Option<Instance>,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    immutable: bool,
    instances: Vec<Row>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    tier: String,
    /// `protected`, `at-risk` or `unprotected`.
    state: Word,
    reasons: Vec<String>,
    next: Option<String>,
    rpo_target_seconds: f64,
    rto_target_seconds: f64,
    /// The newest point that verifies.
    point: Option<NewestPoint>,
    /// The newest drill whose signature verifies.
    drill: Option<LastDrill>,
    /// What a loss of the database server would cost now, where its write-ahead log is streamed.
    wal: Option<Wal>,
    locks: Locks,
    /// How far each copy is behind.
    copies: Vec<CopyState>,
    points: u64,
    backup_statements: u64,
    drill_statements: u64,
}

#[derive(Serialize)]
struct NewestPoint {
    id: String,
    finished: Timestamp,
    /// Since its backup began: what came after may be missing.
    age_seconds: f64,
}

#[derive(Serialize)]
struct Wal {
    /// The age of the newest commit held while more waits at the server; 0 when none does.
    exposed_seconds: Option<f64>,
    exposed_bytes: Option<u64>,
    newest_commit: Option<Timestamp>,
    /// Why the server could not be asked.
    not_asked: Option<String>,
}

/// What is locked, as far as is known without reading every object's lock back.
#[derive(Serialize)]
struct Locks {
    /// What the tier demands: `governance` or `compliance`; none: nothing is locked.
    mode: Option<&'static str>,
    /// Until when the newest point's object is locked, as read back.
    newest_until: Option<Timestamp>,
    /// Why nothing is locked, or why it is not known.
    not_locked: Option<String>,
    /// The newest proof, `lifeboat verify --locks`.
    proof: Option<LockProof>,
}

#[derive(Serialize)]
struct LockProof {
    time: Timestamp,
    objects: u64,
    short: u64,
}

#[derive(Serialize)]
struct LastDrill {
    run: String,
    started: Timestamp,
    outcome: Outcome,
    rpo_seconds: Option<f64>,
    rto_seconds: Option<f64>,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.status/1";

    fn text(&self, page: &mut Page) {
        let header = ["instance", "tier", "state", "newest point", "RPO target", "last drill", "RTO", "RTO target"];
        let mut rows = Rows::new(&header);
        for row in &self.instances {
            let point = row.point.as_ref().map_or("none".to_owned(), |point| ago(self.now, point.finished));
            let drill = row.drill.as_ref().map_or("none".to_owned(), |drill| {
                format!("{}, {}", drill.outcome.word(), ago(self.now, drill.started))
            });
            let rto = row.drill.as_ref().and_then(|drill| drill.rto_seconds).map_or("–".to_owned(), seconds);
            let targets = (seconds(row.rpo_target_seconds), seconds(row.rto_target_seconds));
            let plain = |text| (Tone::Plain, text);
            rows.row([
                plain(row.instance.as_str()),
                plain(&row.tier),
                (row.state.tone(), row.state.text()),
                plain(&point),
                plain(&targets.0),
                plain(&drill),
                plain(&rto),
                plain(&targets.1),
            ]);
        }
        page.table(rows);
        for row in self.instances.iter().filter(|row| !row.reasons.is_empty()) {
            row.reasons(page);
        }
        for (row, wal) in self.instances.iter().filter_map(|row| Some((row, row.wal.as_ref()?))) {
            page.line(format_args!("{}: {}", row.instance, wal.text(self.now)));
        }
        for row in &self.instances {
            page.line(format_args!("{}: {}", row.instance, row.locks.text(self.now)));
        }
        for (row, copy) in self.instances.iter().flat_map(|row| row.copies.iter().map(move |copy| (row, copy))) {
            page.line(format_args!("{}: {}", row.instance, copy.text()));
        }
        page.gap();
        let immutable = if self.immutable { "immutable" } else { "not immutable" };
        page.line(format_args!("Repository: {}, {immutable}.", self.repository));
    }
}

impl Wal {
    fn text(&self, now: Timestamp) -> String {
        match (&self.not_asked, self.exposed_seconds, self.exposed_bytes) {
            (Some(why), ..) => format!("what of the database is not held is not known: {why}"),
            (None, Some(age), Some(waiting)) => {
                let held = self
                    .newest_commit
                    .map_or_else(String::new, |time| format!("; newest commit held {}", ago(now, time)));
                format!("the database is exposed for {}, {} not held{held}", seconds(age), bytes(waiting))
            }
            _ => "no commit of the database is held in the streamed log yet".to_owned(),
        }
    }
}

impl Locks {
    fn text(&self, now: Timestamp) -> String {
        let proof = match &self.proof {
            None => "; never proven: lifeboat verify --locks".to_owned(),
            Some(LockProof { time, objects, short: 0 }) => {
                format!("; proven {}: {}", ago(now, *time), count(*objects, "object", "objects"))
            }
            Some(LockProof { time, short, .. }) => {
                format!(
                    "; {} {}: {}",
                    Tone::Bad.paint("NOT PROVEN"),
                    ago(now, *time),
                    count(*short, "object short", "objects short")
                )
            }
        };
        match (self.mode, &self.not_locked, self.newest_until) {
            (None, Some(why), _) => format!("{} {why}", Tone::Doubtful.paint("not locked:")),
            (_, Some(why), _) => format!("{} {why}{proof}", Tone::Bad.paint("NOT LOCKED:")),
            (Some(mode), None, Some(until)) => {
                format!("locked ({mode}), the newest point until {}{proof}", moment(until))
            }
            _ => "no point to lock yet".to_owned(),
        }
    }
}

impl Row {
    fn reasons(&self, page: &mut Page) {
        page.heading(format_args!("{} is {}", self.instance, self.state.text()));
        for reason in &self.reasons {
            page.line(format_args!("  - {reason}"));
        }
        if let Some(drill) = &self.drill {
            page.line(format_args!("  last drill: run {}, {}", drill.run, moment(drill.started)));
        }
        let points = count(self.points, "point", "points");
        let statements = count(self.backup_statements + self.drill_statements, "statement", "statements");
        page.line(format_args!("  held: {points}, {statements} of evidence"));
        if let Some(next) = &self.next {
            page.line(format_args!("  next: {next}"));
        }
    }
}

impl Status {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let copies = Copies::open(session, &loaded, PATIENCE).await;
        let context = wire::context(session, loaded, repository, "lifeboat status");
        let (config, repository) = (&context.config, &context.repository);
        let wanted: Vec<(&Instance, &InstanceConfig)> = match &self.instance {
            Some(name) => vec![config.instance(name.as_str())?],
            None => config.instances.iter().collect(),
        };
        let evidence = repository.list_evidence(&config.tenant, "").await?;
        let now = session.now();
        let mut instances = Vec::new();
        for (name, instance) in wanted {
            let mut row = row(&context, (name, instance), &evidence, now).await?;
            row.wal = exposure(&context, name, instance).await?;
            row.locks = locks(&context, name, &evidence).await?;
            row.copies = copies.states(&context, name, PATIENCE).await;
            instances.push(row);
        }
        let worst = instances.iter().map(|row| row.state).max().unwrap_or(Word::Unprotected);
        let store = repository.store();
        session.output.show(&Shown {
            repository: store.describe(),
            immutable: store.is_immutable() && instances.iter().all(|row| row.locks.mode.is_some()),
            instances,
            now,
        })?;
        Ok(worst.exit())
    }
}

/// Asks the server, for as long as somebody in a hurry waits; none where no log is streamed.
async fn exposure(context: &Context, name: &Instance, instance: &InstanceConfig) -> Result<Option<Wal>> {
    if context.instance_repo(name).wal_archive().streams().await?.is_empty() {
        return Ok(None);
    }
    let connect = connect_options(&instance.postgres, &wire::environment)?;
    let not_asked =
        |why: String| Wal { exposed_seconds: None, exposed_bytes: None, newest_commit: None, not_asked: Some(why) };
    let looked = stream::status::look(context, name.as_str(), &connect, Duration::ZERO);
    Ok(Some(match timeout(PATIENCE, looked).await {
        Ok(Ok(found)) => Wal {
            exposed_seconds: found.age.map(|age| age.as_secs_f64()),
            exposed_bytes: found.bytes,
            newest_commit: found.newest_commit,
            not_asked: None,
        },
        Ok(Err(lifeboat_engine::Error::Postgres(error))) => not_asked(error.to_string()),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => not_asked(format!("the server did not answer within {}", seconds(PATIENCE.as_secs_f64()))),
    }))
}

async fn row(
    context: &Context,
    (name, instance): (&Instance, &InstanceConfig),
    evidence: &[EvidenceRef],
    now: Timestamp,
) -> Result<Row> {
    let (config, repo) = (&context.config, context.instance_repo(name));
    let points = repo.list_points().await?.len() as u64;
    let mut dumps = 0;
    let newest = match repo.find_point(&PointSelector::Latest, &config.keys.trusted_keys).await {
        Ok(point) => Some(point),
        Err(lifeboat_repo::Error::NoPoint { .. }) => {
            for reference in repo.list_points().await? {
                let point = repo.read_point(&reference, &config.keys.trusted_keys).await;
                dumps += u64::from(point.is_ok_and(|point| point.header.is_dump()));
            }
            None
        }
        Err(error) => return Err(error).context(format!("cannot read the recovery points of {name}")),
    };
    let statements = Statements::of(evidence, name);
    let (drill, drills_passed_over) = statements.last_drill(context).await?;
    let tier = config.tier_of(instance).ok_or_else(|| lifeboat_engine::Error::NoTier(instance.tier.clone()))?;
    let age = |point: &Point| now.duration_since(point.header.started).as_secs_f64();
    let Judgement { word, reasons, next } = judge(&Facts {
        instance: name.as_str(),
        rpo_target: tier.rpo.0.as_secs_f64(),
        rto_target: tier.rto.0.as_secs_f64(),
        // A logical dump protects one database, not the instance.
        stored_points: points.saturating_sub(dumps),
        point: newest.as_ref().map(|point| PointFacts { age: age(point), passed_over: point.skipped.len() as u64 }),
        drill: drill.as_ref().map(|drill| drill_facts(drill, instance, now)),
        drills_passed_over,
    });
    Ok(Row {
        instance: name.to_string(),
        tier: instance.tier.to_string(),
        state: word,
        reasons,
        next,
        rpo_target_seconds: tier.rpo.0.as_secs_f64(),
        rto_target_seconds: tier.rto.0.as_secs_f64(),
        point: newest.as_ref().map(|point| NewestPoint {
            id: point.header.point.to_string(),
            finished: point.header.finished,
            age_seconds: age(point),
        }),
        wal: None,
        copies: Vec::new(),
        locks: Locks { mode: None, newest_until: None, not_locked: None, proof: None },
        drill: drill.map(|drill| LastDrill {
            run: drill.run.to_string(),
            started: drill.started,
            outcome: drill.outcome,
            rpo_seconds: drill.rpo_seconds,
            rto_seconds: drill.rto_seconds,
        }),
        points,
        backup_statements: statements.count("backup"),
        drill_statements: statements.count("drill"),
    })
}

/// What the tier demands, one read-back, and the newest proof.
async fn locks(context: &Context, name: &Instance, evidence: &[EvidenceRef]) -> Result<Locks> {
    let mut locks = Locks { mode: None, newest_until: None, not_locked: None, proof: None };
    let store = context.repository.store();
    let Some(lock) = context.lock_policy(name)? else {
        locks.not_locked = Some("its tier has no lock".to_owned());
        return Ok(locks);
    };
    locks.mode = Some(lock.mode.word());
    if !store.capabilities().locks {
        locks.not_locked = Some("the store has no object lock".to_owned());
        return Ok(locks);
    }
    locks.proof = Statements::of(evidence, name).last_proof(context).await?;
    let trusted = &context.config.keys.trusted_keys;
    if let Ok(point) = context.instance_repo(name).find_point(&PointSelector::Latest, trusted).await {
        let state = store.lock_state(&point.key, point.version.as_ref()).await.map_err(lifeboat_engine::Error::from)?;
        match state.retention {
            Some(retention) => locks.newest_until = Some(retention.until),
            None => locks.not_locked = Some(format!("the newest point {} has no retention", point.header.point)),
        }
    }
    Ok(locks)
}

fn drill_facts(drill: &DrillPredicate, instance: &InstanceConfig, now: Timestamp) -> DrillFacts {
    let configured = [&instance.drill.postgres_image, &instance.drill.odoo_image];
    DrillFacts {
        age: now.duration_since(drill.started).as_secs_f64(),
        outcome: drill.outcome,
        rpo: drill.rpo_seconds,
        rto: drill.rto_seconds,
        other_images: drill
            .images
            .iter()
            .filter(|image| !configured.contains(&&image.name))
            .map(|image| image.name.clone())
            .collect(),
        first_bad: drill
            .checks
            .iter()
            .find(|check| matches!(check.verdict, lifeboat_model::check::Verdict::Failed(_)))
            .map(|check| check.id.clone()),
    }
}

/// One instance's statements, by their keys, oldest first.
struct Statements<'a>(Vec<(&'a EvidenceRef, EvidenceKey)>);

impl<'a> Statements<'a> {
    fn of(evidence: &'a [EvidenceRef], instance: &Instance) -> Self {
        let parsed = evidence.iter().filter_map(|found| Some((found, found.key.as_str().parse::<EvidenceKey>().ok()?)));
        Statements(parsed.filter(|(_, parts)| parts.instance == *instance).collect())
    }

    fn count(&self, kind: &str) -> u64 {
        self.0.iter().filter(|(_, parts)| parts.kind == kind).count() as u64
    }

    /// The newest proof of locks whose statement verifies and is in its right place.
    async fn last_proof(&self, context: &Context) -> Result<Option<LockProof>> {
        for (found, _) in self.0.iter().rev().filter(|(_, parts)| parts.kind == "verify") {
            let Some(verified) = record::believed(context, found).await? else { continue };
            if let Predicate::Act(act) = verified.statement.predicate
                && let Act::Verify(Proof { locks: Some(locks), .. }) = act.act
            {
                return Ok(Some(LockProof { time: act.started, objects: locks.objects, short: locks.short }));
            }
        }
        Ok(None)
    }

    /// The newest drill whose statement verifies, is in its right place and was no negative control; and how many newer ones
    /// were passed over because they do not hold, so that a forged or damaged one is not silently an older one's glory.
    async fn last_drill(&self, context: &Context) -> Result<(Option<DrillPredicate>, u64)> {
        let mut passed_over = 0;
        for (found, _) in self.0.iter().rev().filter(|(_, parts)| parts.kind == "drill") {
            let sound = record::believed(context, found).await?;
            match sound.map(|verified| verified.statement.predicate) {
                Some(Predicate::Drill(drill)) if drill.sabotage.is_none() => return Ok((Some(*drill), passed_over)),
                Some(Predicate::Drill(_)) => {} // a negative control says nothing about the instance
                _ => passed_over += 1,
            }
        }
        Ok((None, passed_over))
    }
}
