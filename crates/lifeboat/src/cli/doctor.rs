//! `lifeboat doctor`: looks at every precondition before it is needed, and says how to mend what is not as it must be.

use std::path::PathBuf;

use clap::Args;
use lifeboat_model::{
    config::{InstanceConfig, Problem},
    id::Instance,
};
use serde::Serialize;

use super::Session;
use crate::{
    checks::{self, Finding, Findings, Grade},
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Tone, count},
    wire,
};

/// Check every precondition and say how to mend each
///
/// Configuration, files and keys; the repository (a small object is written, read and listed); free space; each
/// instance's PostgreSQL (settings, rights, WAL senders, clock) and dependencies; Docker and the images that drills need.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat doctor
  lifeboat doctor clinic
  lifeboat doctor --no-drill                     on a host that makes backups only

Exit codes: 0 nothing in the way, 4 something failed, 5 something could not be looked at.")]
pub struct Doctor {
    /// Only this instance [default: all]
    instance: Option<Instance>,
    /// This host makes no drills: do not look for Docker and images
    #[arg(long)]
    no_drill: bool,
}

#[derive(Serialize)]
struct Checked {
    config: PathBuf,
    findings: Findings,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.doctor/1";

    fn text(&self, page: &mut Page) {
        self.findings.text(page);
        page.gap();
        let number = |grade| self.findings.0.iter().filter(|finding| finding.grade == grade).count() as u64;
        let (failed, warnings) = (number(Grade::Failed), number(Grade::Warning));
        let unknown = number(Grade::NotChecked);
        let warnings = count(warnings, "warning", "warnings");
        page.line(match (failed, unknown) {
            (0, 0) => format!("{}: nothing is in the way, {warnings}.", Tone::Good.paint("ready")),
            (0, _) => format!("{}: {unknown} could not be checked, {warnings}.", Tone::Doubtful.paint("not known")),
            _ => format!("{}: {failed} to mend, {unknown} not checked, {warnings}.", Tone::Bad.paint("NOT READY")),
        });
    }
}

impl Doctor {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let config = &loaded.config;
        let instances: Vec<(&Instance, &InstanceConfig)> = match &self.instance {
            Some(name) => vec![config.instance(name.as_str())?],
            None => config.instances.iter().collect(),
        };
        let mut findings = Findings(config_findings(&loaded));
        findings.0.extend(checks::keys::look(&config.keys).0);
        findings.0.extend(checks::space::look(config));
        findings.0.extend(checks::repository::look(config, session.now()).await);
        let names: Vec<&Instance> = instances.iter().map(|(name, _)| *name).collect();
        findings.0.extend(checks::keys::rehearsals(&loaded, &names, session.now()).await);
        for (name, instance) in &instances {
            session.voice.say(&format!("looking at PostgreSQL of {name}"));
            findings.0.extend(checks::postgres::look(name, instance, &session.clock).await);
            findings.0.extend(checks::dependencies::look(name, instance).await);
        }
        if !self.no_drill {
            session.voice.say("looking at Docker and images");
            findings.0.extend(checks::docker::look(&instances).await);
        }
        let exit = findings.exit();
        session.output.show(&Checked { config: loaded.file, findings })?;
        Ok(exit)
    }
}

fn config_findings(loaded: &wire::Loaded) -> Vec<Finding> {
    let file = loaded.file.display().to_string();
    let on_disk = checks::files::look(&loaded.config, &loaded.file);
    let mut findings = vec![Finding::ok("config.file", format!("{file} is usable"))];
    let finding = |grade: Grade| {
        move |problem: &Problem| Finding {
            check: "config.file".to_owned(),
            instance: None,
            grade,
            observed: Problem { hint: String::new(), ..problem.clone() }.to_string(),
            mend: Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
        }
    };
    findings.extend(on_disk.problems.iter().map(finding(Grade::Failed)));
    let mut warnings = loaded.warnings.clone();
    checks::files::merge(&mut warnings, on_disk.warnings);
    findings.extend(warnings.iter().map(finding(Grade::Warning)));
    findings
}
