//! `lifeboat drill`: restore a recovery point into a sandbox, check it rung by rung, tear down, sign what was seen.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;
use lifeboat_daemon::runner::RunEvent;
use lifeboat_drill::{
    DrillRequest,
    hold::Hold,
    ladder::{Answered, LOCKS, Observer, SIGNED},
    point::RepositoryPoint,
    report::DrillReport,
    sabotage::{Control, Seed},
    source::Sabotage,
};
use lifeboat_engine::{context::Context, keys::read_signing_key, record, recovery::Wish};
use lifeboat_evidence::Statement;
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    config::{DrillConfig, InstanceConfig, RepositoryConfig, TierDrill},
    id::Instance,
    time::Span,
};
use lifeboat_repo::{point::PointSelector, seal::Identity};
use tokio_util::sync::CancellationToken;

use super::{
    Session,
    identity::IdentityArgs,
    moment::{self, MomentArgs},
    place::Place,
};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    log::Voice,
    progress::Meter,
    wire,
};

mod answer;
mod control;
pub mod hold;
mod order;
mod row;
mod statement;
mod trend;

pub use answer::Done;
use control::Choice;
use hold::{HoldArgs, Holder};
use order::{Lines, Noted};
pub use row::{CheckRow, verdict};

/// Prove that an instance comes back: restore it into a sandbox, check, sign
///
/// Uses the same restore as an emergency, in throw-away containers on a network without a way out, neutralised before Odoo
/// starts. Every check is recorded with what was expected and seen; one that did not run is never a pass. Ctrl-C tears down.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Drill {
    /// The instance
    pub(super) instance: Instance,
    #[command(flatten)]
    moment: MomentArgs,
    /// Rehearse one of all recovery points that are held, drawn at random
    #[arg(long, conflicts_with_all = ["point", "target", "timeline"])]
    random: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Show the values of rows that differ from the source; they may be personal data
    #[arg(long)]
    show_rows: bool,
    /// Write the picture of the logged-in sandbox into a new file, in plain; it may show personal data
    #[arg(long, value_name = "FILE", conflicts_with = "sabotage")]
    screenshot: Option<PathBuf>,
    /// Damage the restored copy on purpose, and pass only if exactly the right checks fail: a kind of docs/controls.md, "all",
    /// or "random" (one of them)
    #[arg(long, value_name = "KIND", conflicts_with = "show_rows", help_heading = CONTROL)]
    sabotage: Option<Choice>,
    /// What the victims are drawn by, as a control prints it, to damage the same again [default: another each time]
    #[arg(long, value_name = "SEED", requires = "sabotage", help_heading = CONTROL)]
    seed: Option<Seed>,
    #[command(flatten)]
    hold: HoldArgs,
    #[command(flatten)]
    place: Place,
}

/// Only these options stand below it, not what follows them.
const CONTROL: &str = "Negative control";

const EXAMPLES: &str = "\
Examples:
  lifeboat drill clinic --identity /media/key/recovery.identity
  lifeboat drill clinic --at 2026-11-21T14:03:10+01:00
  lifeboat drill clinic --point 3fa9 --json --quiet
  lifeboat drill clinic --random
  lifeboat drill clinic --hold=1h
  lifeboat drill clinic --sabotage all
  lifeboat drill clinic --sabotage deleted-row --seed 00000000000000ff

Exit codes: 0 passed, 4 failed, 5 incomplete (a required check did not run), 130 stopped and torn down.
Of controls: 0 exactly the right checks failed, 4 they did not, 5 a control was not executed.";

/// Tells each check as it answers. A reason that stops many checks is told once.
pub struct Teller {
    lines: Arc<Lines>,
    last_reason: Mutex<String>,
}

impl Teller {
    /// Has said nothing yet.
    pub fn new(voice: &Voice) -> Self {
        Teller::of(order::alone(voice))
    }

    fn of(lines: Arc<Lines>) -> Self {
        Teller { lines, last_reason: Mutex::default() }
    }

    fn is_told(&self, verdict: &Verdict) -> bool {
        let Verdict::NotExecuted(why) = verdict else { return false };
        let mut last = self.last_reason.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, why.clone()) == *why
    }
}

impl Observer for Teller {
    fn phase(&self, name: &str) {
        self.lines.event(RunEvent::Phase { name: name.to_owned() }, &format!("{name} …"));
    }

    fn answered(&self, answered: &Answered) {
        if !self.lines.tells_events() {
            return self.check(&answered.check);
        }
        if answered.check.id != SIGNED.id {
            let (event, line) = event(answered.for_evidence());
            self.lines.event(event, &line);
        }
    }

    fn check(&self, check: &Check) {
        // Whether the evidence was kept is known only when the drill is over.
        if check.id == SIGNED.id || self.is_told(&check.verdict) {
            return;
        }
        let (tone, word) = verdict(&check.verdict);
        let detail = match &check.verdict {
            Verdict::Passed => &check.observed,
            Verdict::Failed(why) | Verdict::NotExecuted(why) => why,
        };
        self.lines.say(&format!("  {} {}: {detail}", tone.paint(&format!("{word:<12}")), check.id));
    }
}

/// An answer for programs: what they are told goes to people who may not see what is inside the backup, so it is in the
/// words of evidence.
fn event(check: Check) -> (RunEvent, String) {
    let detail = match &check.verdict {
        Verdict::Passed => &check.observed,
        Verdict::Failed(why) | Verdict::NotExecuted(why) => why,
    };
    let line = format!("{} {}: {detail}", check.verdict.word(), check.id);
    let Check { id, verdict, observed, duration_ms, .. } = check;
    (RunEvent::Check { id, verdict, observed, seconds: duration_ms as f64 / 1000.0 }, line)
}

impl Drill {
    /// What a daemon is asked for; none where something is asked for that it does not take.
    pub(super) fn for_daemon(&self) -> Option<serde_json::Value> {
        let only_here = self.show_rows || self.screenshot.is_some() || self.seed.is_some() || self.hold.is_given();
        if only_here || !self.moment.is_latest() || !self.identity.identity.is_empty() || !self.place.is_primary() {
            return None;
        }
        match &self.sabotage {
            Some(_) if self.random => None,
            Some(choice) => Some(serde_json::json!({ "verb": "control", "kind": choice.to_string() })),
            None => Some(serde_json::json!({ "verb": "drill", "random": self.random })),
        }
    }

    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (_, instance) = loaded.config.instance(self.instance.as_str())?;
        let (instance, tier) = (instance.clone(), loaded.config.tier_of(instance).cloned());
        let tier = tier.ok_or_else(|| lifeboat_engine::Error::NoTier(instance.tier.clone()))?;
        let identities = wire::recovery_identities(&self.identity, &loaded.config)?;
        read_signing_key(&loaded.config.keys.signing_key_file)?; // told now, not when there is something to sign
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let repo = repository.instance(&loaded.config.tenant, &self.instance);
        let wish = match self.random {
            false => self.moment.wish(&repo).await?,
            true => moment::random(&repo, &loaded.config).await?,
        };
        let any = wish.point.clone().unwrap_or(PointSelector::Latest);
        if let Ok(point) = repo.find_point(&any, &loaded.config.keys.trusted_keys).await {
            wire::opens(&point, &identities)?; // that there is no valid point is for the drill to find, and to record
        }
        let command = match &self.sabotage {
            None => format!("lifeboat drill {}", self.instance),
            Some(choice) => format!("lifeboat drill {} --sabotage {choice}", self.instance),
        };
        let hold = self.hold.prepare(session, &self.instance)?;
        let context = wire::context(session, loaded, repository, &command);
        let config = required(&instance.drill, &tier.drill, tier.lock.is_some() && !context.repository.is_replica());
        let rehearsal = Rehearsal {
            session,
            context,
            name: self.instance,
            instance,
            config,
            targets: (tier.rpo, tier.rto),
            identities,
            wish,
            show_rows: self.show_rows,
            screenshot: self.screenshot,
            hold,
        };
        match self.sabotage {
            None => rehearsal.rehearse().await,
            Some(choice) => control::run(&rehearsal, choice, self.seed).await,
        }
    }
}

/// What is rehearsed, with what. A negative control is rehearsed in the same way.
struct Rehearsal<'a> {
    session: &'a Session,
    context: Context,
    name: Instance,
    instance: InstanceConfig,
    /// With all that is demanded of a drill.
    config: DrillConfig,
    /// RPO and RTO.
    targets: (Span, Span),
    identities: Vec<Identity>,
    wish: Wish,
    show_rows: bool,
    /// Where the picture goes in plain.
    screenshot: Option<PathBuf>,
    /// Keeps the sandbox up when everything has been asked.
    hold: Option<Arc<Holder>>,
}

impl Rehearsal<'_> {
    /// What stops it: what ends the holding does not.
    fn cancel(&self) -> &CancellationToken {
        self.hold.as_ref().map_or(&self.session.cancel, |hold| &hold.stop)
    }

    /// One drill, told, signed and shown.
    async fn rehearse(&self) -> Result<Exit> {
        let report = self.climb(None, order::alone(&self.session.voice), 1).await?;
        let written = self.screenshot.as_deref().zip(report.picture.as_ref());
        let written = written.map(|(path, picture)| write_picture(path, &picture.png));
        let report = if self.session.is_for_others() { in_public(report) } else { report };
        let mut done = sign(&self.context, report).await?;
        if let Some((event, line)) = done.signature().map(event) {
            self.session.voice.event(&event, &line);
        }
        if let Some(Err(error)) = written {
            done.note(format!("the picture could not be written: {error}"));
        }
        self.session.output.show(&done)?;
        Ok(match done.outcome {
            _ if self.cancel().is_cancelled() => Exit::Interrupted,
            Outcome::Failed => Exit::CheckFailed,
            Outcome::Incomplete => Exit::Incomplete,
            // A drill that cannot be shown to anybody has not done what it is for.
            Outcome::Passed if done.evidence.is_none() => Exit::Incomplete,
            Outcome::Passed => Exit::Ok,
        })
    }

    /// Restores into a sandbox, checks and tears down. Those that run side by side share what one may have.
    async fn climb(
        &self,
        control: Option<Arc<Control>>,
        lines: Arc<Lines>,
        side_by_side: usize,
    ) -> Result<DrillReport> {
        let Rehearsal { session, context, name, instance, .. } = self;
        let (mut repo, mut wish, mut fetch_with) = (context.instance_repo(name), self.wish.clone(), None);
        let trusted = context.config.keys.trusted_keys.clone();
        if let Some(control) = &control {
            let staged = control.stage(repo, wish, &trusted, (context.clock)()).await;
            let staged = staged.context(format!("the control {} could not be set up", control.kind()))?;
            (repo, wish, fetch_with) = (staged.repo, staged.wish, staged.fetch_with);
        }
        let what = control.as_ref().map(|control| format!(" --sabotage {}", control.kind())).unwrap_or_default();
        let meter = Meter::start(&session.voice, format!("drill {name}{what}"));
        let progress = Arc::new(Noted { meter: Arc::clone(&meter), lines: Arc::clone(&lines) });
        let mut config = self.config.clone();
        config.memory.0 /= side_by_side as u64;
        let source = RepositoryPoint::new(
            repo,
            wish,
            (trusted, self.identities.clone()),
            context.clock.clone(),
            progress,
            self.cancel().clone(),
        );
        let request = DrillRequest {
            run: lifeboat_engine::record::new_run()?,
            tenant: context.config.tenant.clone(),
            instance: name.clone(),
            databases: instance.postgres.databases.clone(),
            login_hint: instance.postgres.user.clone(),
            config,
            rpo: self.targets.0,
            rto: self.targets.1,
            source: Arc::new(source.fetching_with(fetch_with)),
            // Containers mount folders below it: Docker takes absolute paths only.
            work_root: std::path::absolute(context.config.engine.state_dir.join("drills"))?,
            docker: wire::environment("DOCKER_HOST"),
            clock: context.clock.clone(),
            budget: context.config.drills,
            sabotage: control.map(|control| control as Arc<dyn Sabotage>),
            show_rows: self.show_rows,
            hold: self.hold.clone().map(|hold| hold as Arc<dyn Hold>),
        };
        let report = lifeboat_drill::run(request, Arc::new(Teller::of(lines)), self.cancel()).await;
        drop(meter);
        report
            .safe("the instance and the repository are as they were")
            .context(format!("drill of {name} could not begin"))
    }
}

/// The report in the words of evidence, for people who may not see what is inside the backup.
fn in_public(report: DrillReport) -> DrillReport {
    DrillReport { checks: report.evidence_checks.clone(), notes: report.public_notes.clone(), ..report }
}

/// What the instance asks for and what its tier demands. A tier that demands locks demands that drills read them back; those
/// of a copy are its own: `verify --locks` proves them.
fn required(config: &DrillConfig, tier: &TierDrill, locks: bool) -> DrillConfig {
    let mut config = config.clone();
    let demanded = tier.required.iter().cloned().chain(locks.then(|| LOCKS.id.to_owned()));
    for id in demanded {
        if !config.required.contains(&id) {
            config.required.push(id);
        }
    }
    config
}

/// Signs and keeps what was seen, whatever it was. That it could not be kept is told with the rest.
async fn sign(context: &Context, report: DrillReport) -> Result<Done> {
    let statement = statement::statement(context, &report, None)?;
    let (statement, not_kept) = statement::with_picture(context, statement, &report).await;
    let (instance, run) = (report.instance.clone(), report.run);
    let mut done = Done::new(report);
    let kept = keep(context, &statement).await;
    if let (Ok(key), RepositoryConfig::Local { path }) = (&kept, &context.config.repository) {
        done.evidence_file = Some(std::path::absolute(path.join(key))?);
    }
    done.signed(kept);
    if let Some(why) = not_kept {
        done.note(format!("the picture could not be kept: {why}"));
    }
    match trend::before(context, &instance, run).await {
        Ok(past) => done.compared(past, &statement),
        // What was before says nothing of this drill.
        Err(error) => done.note(format!("drills before cannot be read: {}", error.messages().join(": "))),
    }
    Ok(done)
}

/// A new file, for nobody else to read.
fn write_picture(path: &Path, png: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(png)
}

/// Signs a statement and keeps it; gives its key, or why not.
async fn keep(context: &Context, statement: &Statement) -> std::result::Result<String, String> {
    match record::keep(context, statement).await {
        Ok((key, _)) => Ok(key.to_string()),
        Err(error) => Err(Failure::from(error).messages().join(": ")),
    }
}
