//! `lifeboat import`: whether a zip of Odoo's database manager comes back. The drill's rungs that apply, in the drill's sandbox.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use lifeboat_drill::{DrillRequest, extract::OdooZip};
use lifeboat_model::{check::Outcome, id::Instance};
use serde::Serialize;

use super::{
    Session,
    drill::{Done, Teller},
};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page},
    wire,
};

/// Check a zip made by Odoo's database manager (or by export): does it come back?
///
/// Loads dump.sql into a new cluster in a sandbox, puts filestore/ beside it, neutralises, boots Odoo, logs in, fetches attachments.
/// What only a recovery point can be asked is not executed, and says so. Nothing is imported into a server or the repository.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The instance whose images and addons are used
    instance: Instance,
    /// The zip
    #[arg(long, value_name = "FILE")]
    odoo_zip: PathBuf,
    /// The name that the database gets in the sandbox [default: as the zip's manifest.json says]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat import clinic --odoo-zip /srv/north.zip
  lifeboat import clinic --odoo-zip /srv/north.zip --json | jq .outcome

Exit codes: 0 it comes back, 4 it does not, 5 a check that applies did not run, 130 stopped and torn down.";

#[derive(Serialize)]
struct Imported {
    file: PathBuf,
    database: String,
    #[serde(flatten)]
    done: Done,
}

impl Answer for Imported {
    const SCHEMA: &'static str = "lifeboat.import/1";

    fn text(&self, page: &mut Page) {
        page.field("zip", self.file.display());
        page.field("database", &self.database);
        page.gap();
        self.done.text(page);
    }
}

impl Import {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let config = &loaded.config;
        let (_, instance) = config.instance(self.instance.as_str())?;
        let tier = config.tier_of(instance).ok_or_else(|| lifeboat_engine::Error::NoTier(instance.tier.clone()))?;
        let manifest = OdooZip::manifest(&self.odoo_zip)?;
        let database = self.database.or(manifest.db_name).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{} does not tell the name of its database", self.odoo_zip.display()))
                .hint("choose one with --database")
        })?;
        let file = std::path::absolute(&self.odoo_zip)?;
        let addons = instance.drill.addons.clone();
        let source = OdooZip::new(file.clone(), database.clone(), addons, session.clock.clone());
        let request = DrillRequest {
            run: lifeboat_engine::record::new_run()?,
            tenant: config.tenant.clone(),
            instance: self.instance.clone(),
            databases: vec![database.clone()],
            login_hint: instance.postgres.user.clone(),
            config: instance.drill.clone(),
            rpo: tier.rpo,
            rto: tier.rto,
            source: Arc::new(source),
            // Containers mount folders below it: Docker takes absolute paths only.
            work_root: std::path::absolute(config.engine.state_dir.join("drills"))?,
            docker: wire::environment("DOCKER_HOST"),
            clock: session.clock.clone(),
            budget: config.drills,
            sabotage: None,
            show_rows: false,
            hold: None,
        };
        let report = lifeboat_drill::run(request, Arc::new(Teller::new(&session.voice)), &session.cancel).await;
        let report = report
            .safe("the zip, the instance and the repository are as they were")
            .context(format!("the check of {} could not begin", file.display()))?;
        let mut done = Done::new(report);
        done.subject = format!("{database} in {}", file.display());
        let outcome = done.outcome;
        session.output.show(&Imported { file, database, done })?;
        Ok(match outcome {
            _ if session.cancel.is_cancelled() => Exit::Interrupted,
            Outcome::Failed => Exit::CheckFailed,
            Outcome::Incomplete => Exit::Incomplete,
            Outcome::Passed => Exit::Ok,
        })
    }
}
