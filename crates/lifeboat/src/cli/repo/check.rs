//! `lifeboat repo check`: tries out on the real endpoint what immutability rests on, and keeps the answer as evidence.

use clap::{Args, ValueEnum};
use lifeboat_engine::{context, record};
use lifeboat_evidence::{
    Act,
    act::{Property, RepositoryCheck},
};
use lifeboat_model::{check, check::Outcome, config::Config, retention::LockMode};
use lifeboat_repo::repository::Repository;
use lifeboat_store::{
    SharedStore,
    probe::{Finding, ProbeOptions, ProbeReport, Verdict, probe},
};
use serde::Serialize;

use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, count},
    wire::{self, Loaded},
};

/// Try out what the storage endpoint truly keeps: locks, versions, holds, checksums, clock
///
/// Works on small objects of its own under probes/, with a retention of a minute, and does to them what a thief would:
/// deletes, overwrites, shortens. Each property is passed, failed, or not executed with the reason. A refusal proves a
/// lock only to a credential that may delete what is not locked: run it once with the owner's, and now and then with
/// each role's. Objects that are still locked at its end are removed by the next check.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// Also try to switch off the bucket's versioning, which a sound endpoint refuses (it is switched on again)
    #[arg(long)]
    intrusive: bool,
    /// The lock mode to try [default: the firmest that a tier demands, else governance]
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<Mode>,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat repo check
  lifeboat repo check --repository offsite --json
  lifeboat repo check --intrusive                on a bucket that nothing else uses yet

Exit codes: 0 all passed, or no tier demands locks; 4 something failed, or a tier demands locks and there are none; 5
something that immutability rests on could not be tried, or no evidence was kept.";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Who has a special right can pass over it
    Governance,
    /// Nobody can
    Compliance,
}

#[derive(Serialize)]
struct Checked {
    repository: String,
    storage: String,
    mode: LockMode,
    /// Whether a tier of a configured instance demands locks.
    demanded: bool,
    /// Every property that immutability rests on was tried and found.
    immutable: bool,
    findings: Vec<Row>,
    skew_seconds: Option<f64>,
    objects_left: usize,
    evidence: Option<String>,
    no_evidence: Option<String>,
    #[serde(skip)]
    lockable: bool,
}

#[derive(Serialize)]
struct Row {
    id: &'static str,
    required: bool,
    expected: &'static str,
    observed: String,
    /// `passed`, `failed` or `not-executed`.
    verdict: &'static str,
    /// Why it was not executed.
    why: Option<String>,
    duration_ms: u64,
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        let (verdict, why) = match &finding.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed => ("failed", None),
            Verdict::NotExecuted(why) => ("not-executed", Some(why.clone())),
        };
        Row {
            id: finding.id,
            required: finding.required,
            expected: finding.expected,
            observed: finding.observed.clone(),
            verdict,
            why,
            duration_ms: finding.milliseconds,
        }
    }
}

fn property(finding: &Finding) -> Property {
    let verdict = match &finding.verdict {
        Verdict::Passed => check::Verdict::Passed,
        Verdict::Failed => check::Verdict::Failed(finding.observed.clone()),
        Verdict::NotExecuted(why) => check::Verdict::NotExecuted(why.clone()),
    };
    Property {
        id: finding.id.to_owned(),
        expected: finding.expected.to_owned(),
        observed: finding.observed.clone(),
        verdict,
        duration_ms: finding.milliseconds,
    }
}

fn any_failed(report: &ProbeReport) -> bool {
    report.findings.iter().any(|finding| finding.verdict == Verdict::Failed)
}

/// The modes that the tiers of configured instances demand.
fn demanded(config: &Config) -> impl Iterator<Item = LockMode> {
    config.instances.values().filter_map(|instance| Some(config.tier_of(instance)?.lock?.mode))
}

impl Check {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let asked = self.mode.map(|mode| match mode {
            Mode::Governance => LockMode::Governance,
            Mode::Compliance => LockMode::Compliance,
        });
        let firmest = demanded(&loaded.config).max();
        let mode = asked.or(firmest).unwrap_or(LockMode::Governance);
        let started = session.now();
        let store = context::open_store(&loaded.config.repository, &wire::environment, false).await?;
        session.voice.say(&format!("trying {}", store.describe()));
        let report = probe(&store, "", ProbeOptions { mode, intrusive: self.intrusive }).await;
        let mut checked = Checked {
            repository: loaded.config.repository_name.clone(),
            storage: store.describe(),
            mode,
            demanded: firmest.is_some(),
            immutable: report.is_immutable(),
            findings: report.findings.iter().map(Row::from).collect(),
            skew_seconds: report.skew.map(|skew| skew.as_secs_f64()),
            objects_left: report.left,
            evidence: None,
            no_evidence: None,
            lockable: store.capabilities().locks,
        };
        let mut lost = false;
        match keep(session, loaded, store, started, &report).await {
            Ok(Some(key)) => checked.evidence = Some(key),
            Ok(None) => checked.no_evidence = Some("there is no repository here yet; the first backup makes it".into()),
            Err(failure) => {
                lost = true;
                checked.no_evidence = Some(format!("{:#}", failure.error));
            }
        }
        session.output.show(&checked)?;
        Ok(match () {
            () if any_failed(&report) || (checked.demanded && !checked.lockable) => Exit::CheckFailed,
            () if (checked.lockable && !checked.immutable) || lost => Exit::Incomplete,
            () => Exit::Ok,
        })
    }
}

/// Keeps the answer in the repository, where there is one.
async fn keep(
    session: &Session,
    loaded: Loaded,
    store: SharedStore,
    started: jiff::Timestamp,
    report: &ProbeReport,
) -> Result<Option<String>> {
    let name = loaded.config.repository_name.clone();
    let repository = match Repository::open(store).await {
        Err(lifeboat_repo::Error::NotARepository { .. }) => return Ok(None),
        repository => repository?,
    };
    let context = wire::context(session, loaded, repository, "lifeboat repo check");
    let act = Act::RepositoryCheck(RepositoryCheck {
        name,
        findings: report.findings.iter().map(property).collect(),
        skew_seconds: report.skew.map(|skew| skew.as_secs_f64()),
    });
    let outcome = match () {
        () if any_failed(report) => Outcome::Failed,
        () if report.unproven().next().is_some() => Outcome::Incomplete,
        () => Outcome::Passed,
    };
    let (key, _) = record::keep_act(&context, None, started, outcome, act).await?;
    Ok(Some(key.to_string()))
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.repo-check/1";

    fn text(&self, page: &mut Page) {
        page.line(format_args!("{} ({}), locks tried in {} mode", self.storage, self.repository, self.mode));
        page.gap();
        let mut rows = Rows::new(&["property", "verdict", "observed", "ms"]).numbers(&[3]);
        for row in &self.findings {
            let (tone, word) = match row.verdict {
                "passed" => (Tone::Good, "passed"),
                "failed" => (Tone::Bad, "FAILED"),
                _ if row.required => (Tone::Doubtful, "NOT EXECUTED"),
                _ => (Tone::Plain, "not executed"),
            };
            let milliseconds = row.duration_ms.to_string();
            let observed = row.why.as_ref().unwrap_or(&row.observed);
            rows.row([(Tone::Plain, row.id), (tone, word), (Tone::Plain, observed), (Tone::Plain, &milliseconds)]);
        }
        page.table(rows);
        for row in self.findings.iter().filter(|row| row.verdict == "failed") {
            page.line(format_args!("{} {}: expected: {}", Tone::Bad.paint("FAILED"), row.id, row.expected));
        }
        page.gap();
        let required =
            |verdict: &str| self.findings.iter().filter(|row| row.required && row.verdict == verdict).count();
        let (failed, untried) = (required("failed") as u64, required("not-executed") as u64);
        let untried_words = count(untried, "property that it rests on was", "properties that it rests on were");
        page.line(match (failed, untried) {
            _ if !self.lockable => format!("{}: it has no object lock.", Tone::Bad.paint("NOT IMMUTABLE")),
            (0, 0) => {
                format!("{}: every property that immutability rests on was found.", Tone::Good.paint("immutable"))
            }
            (0, _) => format!("{}: {untried_words} not tried.", Tone::Doubtful.paint("not proven")),
            _ => format!("{}: what is kept here can be taken away.", Tone::Bad.paint("NOT IMMUTABLE")),
        });
        if self.demanded && !self.immutable {
            page.line("A tier demands locks: do not rely on this repository before all of them pass.");
        }
        if self.objects_left > 0 {
            let left = count(self.objects_left as u64, "small object", "small objects");
            page.line(format_args!("{left} of checks stay under probes/ until a later check finds them free."));
        }
        match (&self.evidence, &self.no_evidence) {
            (Some(key), _) => page.field("evidence", key),
            (None, why) => page.line(format_args!(
                "{}: {}",
                Tone::Doubtful.paint("no evidence was kept"),
                why.as_deref().unwrap_or_default()
            )),
        }
    }
}
