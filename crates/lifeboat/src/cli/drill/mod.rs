//! `lifeboat drill`: restore a recovery point into a sandbox, check it rung by rung, tear down, sign what was seen.

use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use lifeboat_drill::{
    DrillRequest,
    ladder::{LOCKS, Observer, SIGNED},
    point::RepositoryPoint,
    report::DrillReport,
};
use lifeboat_engine::{context::Context, keys::read_signing_key, record};
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    config::{DrillConfig, RepositoryConfig, TierDrill},
    id::Instance,
};
use lifeboat_repo::point::PointSelector;

use super::{Session, identity::IdentityArgs, moment::MomentArgs, place::Place};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    log::Voice,
    output::Tone,
    progress::Meter,
    wire,
};

mod answer;
mod statement;

pub use answer::Done;

/// Prove that an instance comes back: restore it into a sandbox, check, sign
///
/// Uses the same restore as an emergency, in throw-away containers on a network without a way out, neutralised before Odoo
/// starts. Every check is recorded with what was expected and seen; one that did not run is never a pass. Ctrl-C tears down.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Drill {
    /// The instance
    instance: Instance,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Show the values of rows that differ from the source; they may be personal data
    #[arg(long)]
    show_rows: bool,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat drill clinic --identity /media/key/recovery.identity
  lifeboat drill clinic --at 2026-11-21T14:03:10+01:00
  lifeboat drill clinic --point 3fa9 --json --quiet

Exit codes: 0 passed, 4 failed, 5 incomplete (a required check did not run), 130 stopped and torn down.";

/// Tells each check as it answers. A reason that stops many checks is told once.
pub struct Teller {
    voice: Voice,
    last_reason: Mutex<String>,
}

impl Teller {
    /// Has said nothing yet.
    pub fn new(voice: &Voice) -> Self {
        Teller { voice: voice.clone(), last_reason: Mutex::default() }
    }

    fn is_told(&self, verdict: &Verdict) -> bool {
        let Verdict::NotExecuted(why) = verdict else { return false };
        let mut last = self.last_reason.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, why.clone()) == *why
    }
}

impl Observer for Teller {
    fn phase(&self, name: &str) {
        self.voice.say(&format!("{name} …"));
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
        self.voice.say(&format!("  {} {}: {detail}", tone.paint(&format!("{word:<12}")), check.id));
    }
}

/// A verdict as people read it.
fn verdict(verdict: &Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::Passed => (Tone::Good, "passed"),
        Verdict::Failed(_) => (Tone::Bad, "FAILED"),
        Verdict::NotExecuted(_) => (Tone::Doubtful, "not executed"),
    }
}

impl Drill {
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
        let wish = self.moment.wish(&repo).await?;
        let any = wish.point.clone().unwrap_or(PointSelector::Latest);
        if let Ok(point) = repo.find_point(&any, &loaded.config.keys.trusted_keys).await {
            wire::opens(&point, &identities)?; // that there is no valid point is for the drill to find, and to record
        }
        let context = wire::context(session, loaded, repository, &format!("lifeboat drill {}", self.instance));

        let meter = Meter::start(&session.voice, format!("drill {}", self.instance));
        let source = RepositoryPoint::new(
            context.instance_repo(&self.instance),
            wish,
            (context.config.keys.trusted_keys.clone(), identities),
            context.clock.clone(),
            meter.clone(),
            session.cancel.clone(),
        );
        let request = DrillRequest {
            run: lifeboat_engine::record::new_run()?,
            tenant: context.config.tenant.clone(),
            instance: self.instance.clone(),
            databases: instance.postgres.databases.clone(),
            login_hint: instance.postgres.user.clone(),
            config: required(&instance.drill, &tier.drill, tier.lock.is_some() && !context.repository.is_replica()),
            rpo: tier.rpo,
            rto: tier.rto,
            source: Arc::new(source),
            // Containers mount folders below it: Docker takes absolute paths only.
            work_root: std::path::absolute(context.config.engine.state_dir.join("drills"))?,
            docker: wire::environment("DOCKER_HOST"),
            clock: context.clock.clone(),
            sabotage: None,
            show_rows: self.show_rows,
        };
        let teller = Teller::new(&session.voice);
        let report = lifeboat_drill::run(request, Arc::new(teller), &session.cancel).await;
        drop(meter);
        let report = report
            .safe("the instance and the repository are as they were")
            .context(format!("drill of {} could not begin", self.instance))?;
        let done = sign(&context, report).await?;
        session.output.show(&done)?;
        Ok(match done.outcome {
            _ if session.cancel.is_cancelled() => Exit::Interrupted,
            Outcome::Failed => Exit::CheckFailed,
            Outcome::Incomplete => Exit::Incomplete,
            // A drill that cannot be shown to anybody has not done what it is for.
            Outcome::Passed if done.evidence.is_none() => Exit::Incomplete,
            Outcome::Passed => Exit::Ok,
        })
    }
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
    let statement = statement::statement(context, &report)?;
    let mut done = Done::new(report);
    match record::keep(context, &statement).await {
        Ok((key, _)) => {
            if let RepositoryConfig::Local { path } = &context.config.repository {
                done.evidence_file = Some(std::path::absolute(path.join(key.as_str()))?);
            }
            done.signed(Ok(key.to_string()));
        }
        Err(error) => done.signed(Err(Failure::from(error).messages().join(": "))),
    }
    Ok(done)
}
