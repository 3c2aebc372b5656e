//! `lifeboat find-corruption`: when a check began to fail. Every moment that is looked at is restored into a sandbox of its own and
//! torn down again; the instance and the repository are only read.

use clap::Args;
use jiff::Timestamp;
use lifeboat_drill::find::{self, FindRequest, Follow, Moment, Outlook, Probe, Question, Verdict};
use lifeboat_model::{id::Instance, time::Span};
use lifeboat_repo::point::PointSelector;

use super::{
    Session,
    identity::IdentityArgs,
    moment::{self, parse_time},
    place::Place,
};
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    log::Voice,
    output::{count, seconds},
    progress::Meter,
    wire,
};

mod answer;

use answer::Answered;

/// Find the moment at which a check began to fail, by bisection over everything that is held
///
/// The check is one SQL statement that gives one value, and the value that it gives where all is well. It has to hold at the oldest
/// moment and to fail at the newest. Recovery points are asked first, then moments between two of them. Each is restored into a
/// sandbox that is torn down again, so it takes about as many restores as the number of seconds can be halved: the way is told as
/// it goes. A moment that cannot be restored or asked is neither good nor bad; the search goes round it. In the end it says what going
/// back would lose. The instance is not touched.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct FindCorruption {
    /// The instance
    instance: Instance,
    /// The database that is asked
    #[arg(long, value_name = "NAME")]
    database: String,
    /// One statement that gives one row with one column
    #[arg(long, value_name = "STATEMENT")]
    sql: String,
    /// What it gives where all is well, as text: 0, true, NULL
    #[arg(long, value_name = "VALUE")]
    expect: String,
    /// Look at nothing older [default: the oldest moment that is held]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: Option<Timestamp>,
    /// Look at nothing newer [default: the latest moment that is held]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<Timestamp>,
    /// End when the good and the bad moment are no further apart, if they are not neighbouring commits before
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    resolution: Span,
    /// A statement that takes longer was not executed
    #[arg(long, value_name = "SPAN", default_value = "5m")]
    timeout: Span,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat find-corruption clinic --database odoo --expect 0 --identity recovery.identity \\
      --sql \"select count(*) from account_move where amount_total < 0\"
  lifeboat find-corruption clinic --database odoo --expect true \\
      --sql \"select to_regclass('res_partner') is not null\"
  lifeboat find-corruption clinic --database odoo --expect 0 --resolution 1m \\
      --after 2026-11-20T00:00:00Z --before 2026-11-21T12:00:00Z \\
      --sql \"select count(*) from res_partner where name = ''\"

Exit codes: 0 found, 4 it fails already at the oldest moment, 5 found or not, but not as near as
was asked for, 6 it holds at the newest moment.";

impl FindCorruption {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        if let (Some(after), Some(before)) = (self.after, self.before)
            && after >= before
        {
            return Err(Failure::new(Exit::Usage, "--after is not before --before").safe("nothing was done"));
        }
        let loaded = self.place.load(session)?;
        let (_, instance) = loaded.config.instance(self.instance.as_str())?;
        let instance = instance.clone();
        let identities = wire::recovery_identities(&self.identity, &loaded.config)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let repo = repository.instance(&config.tenant, &self.instance);
        // An identity that opens nothing is told before a sandbox is made.
        wire::opens(&wire::find_point(&repo, &PointSelector::Latest, config).await?, &identities)?;
        let identities = moment::known(&identities, config);
        let meter = Meter::start(&session.voice, format!("find-corruption {}", self.instance));
        let request = FindRequest {
            tenant: config.tenant.clone(),
            instance: self.instance.clone(),
            question: Question {
                database: self.database.clone(),
                sql: self.sql.clone(),
                expect: self.expect.clone(),
                timeout: self.timeout.0,
            },
            after: self.after,
            before: self.before,
            resolution: self.resolution.0,
            repo,
            trusted: config.keys.trusted_keys.clone(),
            identities,
            login_hint: instance.postgres.user.clone(),
            config: instance.drill.clone(),
            // Containers mount folders below it: Docker takes absolute paths only.
            work_root: std::path::absolute(config.engine.state_dir.join("drills"))?,
            docker: wire::environment("DOCKER_HOST"),
            clock: session.clock.clone(),
            progress: meter.clone(),
            cancel: session.cancel.clone(),
        };
        let begun = std::time::Instant::now();
        let found = find::run(&request, &Teller(session.voice.clone())).await;
        drop((meter, request));
        let found = found.map_err(|error| self.failed(error))?;
        let answer = Answered::new(&self, found, begun.elapsed());
        session.output.show(&answer)?;
        Ok(answer.exit())
    }

    fn failed(&self, error: lifeboat_drill::Error) -> Failure {
        let failure = match &error {
            lifeboat_drill::Error::Question { .. } => Failure { exit: Exit::Usage, ..Failure::from(error) }
                .hint("--sql takes one statement that gives one row with one column, for example a count"),
            _ => Failure::from(error),
        };
        failure
            .safe("the instance and the repository are as they were, and no sandbox is left; it can be run again")
            .context(format!("find-corruption of {} failed", self.instance))
    }
}

/// Tells every probe as it goes.
struct Teller(Voice);

impl Follow for Teller {
    fn asks(&self, number: usize, moment: &Moment, outlook: Outlook) {
        let expected = match outlook.expected {
            Some(expected) => format!(", about {}", seconds(expected.as_secs_f64())),
            None => String::new(),
        };
        let left = count(outlook.left as u64, "probe", "probes");
        self.0.say(&format!("probe {number}: {} … ({left} to go{expected})", answer::named(moment)));
    }

    fn heard(&self, number: usize, probe: &Probe) {
        let took = seconds(probe.took.as_secs_f64());
        let said = match (&probe.verdict, &probe.answer) {
            (Verdict::Good, Some(answer)) => format!("{} → good", answer::short(answer)),
            (Verdict::Bad, Some(answer)) => format!("{} → BAD", answer::short(answer)),
            (Verdict::NotExecuted(why), _) => format!("not executed: {why}"),
            (_, None) => "no answer".to_owned(),
        };
        self.0.say(&format!("probe {number}: {said} ({took})"));
    }

    fn compares(&self, moment: &Moment) {
        self.0.say(&format!("restoring {} once more, to tell what going back would lose …", answer::named(moment)));
    }
}
