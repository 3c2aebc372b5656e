//! `lifeboat verify --recovered`: rungs of the drill's ladder on a system that was restored and runs.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use jiff::Timestamp;
use lifeboat_drill::{
    ladder::Observer,
    recovered::{self, Person, Record, Report, Request, Rung},
};
use lifeboat_engine::{context::connect_options, keys::read_secret_file, restore::INCOMPLETE_MARKER};
use lifeboat_model::{check::Outcome, config::TlsMode, id::Instance, time::Span};
use lifeboat_postgres::ConnectOptions;
use serde::Serialize;
use url::Url;

use crate::{
    cli::{
        Session,
        drill::{CheckRow, verdict},
        moment::parse_time,
        place::Place,
    },
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    log::Voice,
    output::{Answer, Page, Rows, Tone, moment, seconds},
    wire,
};

const HEADING: &str = "A recovered system";
/// Without a word of when the old system was lost.
const RUNGS: &str = "replay,structure,data,attachments";

/// What is asked, and where.
#[derive(Debug, Clone, Args)]
pub struct RecoveredArgs {
    /// The folder of a restore on which PostgreSQL (and Odoo) run by now
    #[arg(
        long,
        value_name = "DIR",
        requires = "instance",
        conflicts_with_all = ["point", "quick", "read_data", "locks", "signs", "sample", "repository"],
        help_heading = HEADING
    )]
    pub recovered: Option<PathBuf>,
    /// files (before the first start), replay, structure, data, attachments, boot, use, books
    #[arg(long, value_name = "RUNGS", value_delimiter = ',', value_parser = rung, default_value = RUNGS, requires = "recovered", help_heading = HEADING)]
    rungs: Vec<Rung>,
    /// host=…,user=… and where needed port=…, password-file=…, tls=…, root-cert=…, separated by commas
    /// [default: the container that has the folder, with the configuration's user; else the configuration's server]
    #[arg(long, value_name = "SERVER", requires = "recovered", help_heading = HEADING)]
    postgres: Option<ServerAt>,
    /// PostgreSQL's container [default: the running one that has the restored PGDATA]
    #[arg(long, value_name = "NAME", requires = "recovered", help_heading = HEADING)]
    postgres_container: Option<String>,
    /// Odoo's container [default: the running one that has the restored filestore]
    #[arg(long, value_name = "NAME", requires = "recovered", help_heading = HEADING)]
    odoo_container: Option<String>,
    /// The folder with one folder for each database [default: where it was restored]
    #[arg(long, value_name = "DIR", requires = "recovered", help_heading = HEADING)]
    filestore: Option<PathBuf>,
    /// Where the recovered Odoo answers [default: port 8069 of its container]
    #[arg(long, value_name = "URL", requires = "recovered", help_heading = HEADING)]
    url: Option<Url>,
    /// Who logs in to Odoo, for use and books: a user who exists. Nobody is made
    #[arg(long, value_name = "LOGIN", requires = "password_file", help_heading = HEADING)]
    user: Option<String>,
    /// That user's password is the first line of this file, mode 0600
    #[arg(long, value_name = "FILE", requires = "user", help_heading = HEADING)]
    password_file: Option<PathBuf>,
    /// When the old system was lost: the RPO is counted back from here [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "recovered", help_heading = HEADING)]
    reference: Option<Timestamp>,
    /// How long one check may take
    #[arg(long, value_name = "SPAN", default_value = "1h", requires = "recovered", help_heading = HEADING)]
    check_timeout: Span,
}

fn rung(text: &str) -> std::result::Result<Rung, String> {
    let known = Rung::ALL.iter().find(|(name, _)| *name == text.trim());
    known.map(|(_, rung)| *rung).ok_or_else(|| {
        let names: Vec<&str> = Rung::ALL.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Where a server is, as it is said on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServerAt {
    host: String,
    port: u16,
    user: String,
    password_file: Option<PathBuf>,
    tls: TlsMode,
    root_cert: Option<PathBuf>,
}

impl FromStr for ServerAt {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<ServerAt, String> {
        let (mut host, mut user, mut port) = (None, None, 5432);
        let (mut password_file, mut tls, mut root_cert) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("\"{part}\": write key=value"))?;
            match key.trim() {
                "host" => host = Some(value.to_owned()),
                "user" => user = Some(value.to_owned()),
                "port" => port = value.parse().map_err(|_| format!("\"{value}\" is no port"))?,
                "password-file" => password_file = Some(PathBuf::from(value)),
                "root-cert" => root_cert = Some(PathBuf::from(value)),
                "tls" => {
                    let known = TlsMode::ALL.into_iter().find(|mode| mode.to_string() == value);
                    tls = Some(known.ok_or("tls is disable, require, verify-ca or verify-full")?);
                }
                other => {
                    return Err(format!("\"{other}\": there are host, port, user, password-file, tls, root-cert"));
                }
            }
        }
        let host = host.ok_or("host=… is missing: a name, an address, or the folder of a socket")?;
        let user = user.ok_or("user=… is missing")?;
        Ok(ServerAt { host, port, user, password_file, tls: tls.unwrap_or_default(), root_cert })
    }
}

impl ServerAt {
    fn options(&self) -> Result<ConnectOptions> {
        Ok(ConnectOptions {
            password: self.password_file.as_deref().map(read_secret_file).transpose()?,
            tls: self.tls,
            root_cert: self.root_cert.clone(),
            ..ConnectOptions::new(&self.host, self.port, &self.user)
        })
    }
}

#[derive(Serialize)]
struct Done {
    instance: String,
    directory: PathBuf,
    point: String,
    target: String,
    outcome: Outcome,
    checks: Vec<CheckRow>,
    /// None: no commit was replayed, or nobody knows any more.
    newest_commit: Option<Timestamp>,
    /// What the loss is counted back from.
    reference: Timestamp,
    rpo_seconds: Option<f64>,
    server: Option<String>,
    odoo: Option<String>,
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.verify-recovered/1";

    fn text(&self, page: &mut Page) {
        let mut rows = Rows::new(&["rung", "check", "", "seen", "took"]).numbers(&[0, 4]);
        for row in &self.checks {
            let (rung, took) = (row.rung.to_string(), seconds(row.duration_ms as f64 / 1000.0));
            let plain = |text| (Tone::Plain, text);
            rows.row([plain(rung.as_str()), plain(&row.id), verdict(&row.verdict), plain(row.seen()), plain(&took)]);
        }
        page.table(rows);
        page.gap();
        page.field("restored", format_args!("{}, {}, in {}", self.point, self.target, self.directory.display()));
        let asked: Vec<&str> = [&self.server, &self.odoo].into_iter().flatten().map(String::as_str).collect();
        page.field("asked", asked.join(", "));
        if let Some(commit) = self.newest_commit {
            page.field("newest commit", moment(commit));
        }
        match (self.rpo_seconds, &self.server) {
            (Some(lost), _) => page.field("lost", format_args!("{} before {}", seconds(lost), moment(self.reference))),
            (None, Some(_)) => page.field("lost", "not known: the server was started again before it was asked"),
            (None, None) => {}
        }
        page.gap();
        page.line(match self.outcome {
            Outcome::Passed => {
                format!("{} {} is recovered, as far as was asked.", Tone::Good.paint("PASSED:"), self.instance)
            }
            Outcome::Failed => format!("{} see what failed above.", Tone::Bad.paint("FAILED:")),
            _ => format!("{} what was not executed is no pass.", Tone::Doubtful.paint("INCOMPLETE:")),
        });
    }
}

/// Tells the phases.
struct Teller(Voice);

impl Observer for Teller {
    fn phase(&self, name: &str) {
        self.0.say(&format!("{name} …"));
    }
}

impl RecoveredArgs {
    /// Runs it.
    pub async fn run(&self, session: &Session, what: (Option<&Instance>, &Path), place: &Place) -> Result<Exit> {
        let (instance, folder) = what;
        let folder = std::path::absolute(folder)?;
        let record = Record::read(&folder).safe("nothing was asked")?;
        if folder.join(INCOMPLETE_MARKER).exists() {
            return Err(Failure::new(
                Exit::Incomplete,
                format!("{} holds a restore that has not finished", folder.display()),
            )
            .hint("run the restore again with --delta"));
        }
        if let Some(instance) = instance.filter(|instance| instance.as_str() != record.instance) {
            let why = format!("{} holds {}, and not {instance}", folder.display(), record.instance);
            return Err(Failure::new(Exit::Usage, why));
        }
        let server = self.postgres.as_ref().map(ServerAt::options).transpose()?;
        let configured = match server.is_some() {
            true => None,
            false => configured(session, place, &record)?,
        };
        let person = match (&self.user, &self.password_file) {
            (Some(login), Some(file)) => Some(Person { login: login.clone(), password: read_secret_file(file)? }),
            _ => None,
        };
        let reference = self.reference.unwrap_or_else(|| session.now());
        let (point, target, name) = (record.point.clone(), record.target.clone(), record.instance.clone());
        let request = Request {
            folder: folder.clone(),
            record,
            rungs: self.rungs.clone(),
            server,
            configured,
            postgres_container: self.postgres_container.clone(),
            odoo_container: self.odoo_container.clone(),
            filestore: self.filestore.as_deref().map(std::path::absolute).transpose()?,
            url: self.url.clone(),
            person,
            reference,
            limit: self.check_timeout.0,
            docker: wire::environment("DOCKER_HOST"),
        };
        let teller = Teller(session.voice.clone());
        let found = recovered::verify(&request, &teller, &session.cancel).await;
        if session.cancel.is_cancelled() {
            return Err(Failure::new(Exit::Interrupted, "stopped before it was done"));
        }
        let Report { checks, outcome, newest_commit, rpo, server, odoo } = found?;
        session.output.show(&Done {
            instance: name,
            directory: folder,
            point,
            target,
            outcome,
            checks: checks.into_iter().map(CheckRow::from).collect(),
            newest_commit,
            reference,
            rpo_seconds: rpo.map(|rpo| rpo.as_secs_f64()),
            server,
            odoo,
        })?;
        Ok(match outcome {
            Outcome::Passed => Exit::Ok,
            Outcome::Failed => Exit::CheckFailed,
            _ => Exit::Incomplete,
        })
    }
}

/// The server of the configuration. None where there is no configuration or no such instance: then somebody has to say more.
fn configured(session: &Session, place: &Place, record: &Record) -> Result<Option<ConnectOptions>> {
    let Ok(loaded) = place.load(session) else { return Ok(None) };
    let Ok((_, instance)) = loaded.config.instance(&record.instance) else { return Ok(None) };
    Ok(Some(connect_options(&instance.postgres, &wire::environment)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_said_in_one_word() {
        let read = |text: &str| text.parse::<ServerAt>();
        let server = read("host=127.0.0.1,port=55432,user=postgres,password-file=/run/pw,tls=require").unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls), ("127.0.0.1", 55432, TlsMode::Require));
        assert_eq!(read("host=/run/postgresql,user=postgres").unwrap().port, 5432);
        for wrong in
            ["", "host=a", "user=b", "host=a,user=b,password=secret", "host=a,user=b,port=x", "host=a,user=b,tls=no"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rungs_have_the_runbooks_names() {
        for name in lifeboat_runbook::action::verify::RUNGS {
            assert!(rung(name).is_ok(), "{name}");
        }
        assert!(rung("locks").is_err());
    }
}
