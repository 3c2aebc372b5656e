//! `lifeboat restore`: a recovery point, or any moment that is held, back into a folder. Needs the repository, the configuration, a recovery identity
//! and this binary; no daemon, no state, and not the instance's own section of the configuration.

mod compose;
mod docker;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use lifeboat_drill::recovered::{Record, VolumeOf};
use lifeboat_engine::{
    recovery::{Plan, Target},
    restore::{self, INCOMPLETE_MARKER, Parts, RestoreReport, RestoreRequest},
};
use lifeboat_model::id::Instance;
use lifeboat_repo::tree::TreeKind;
use serde::Serialize;

use super::{
    Session, dump,
    extract::{self, Wanted},
    identity::IdentityArgs,
    moment::{self as moments, MomentArgs},
    place::Place,
    points::Part,
};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, ago, bytes, count, moment, seconds},
    progress::Meter,
    wire,
};

/// Bring an instance back into a folder, as it was at any moment that is held
///
/// Gives DIR/pgdata (ready to start: recovery is configured), DIR/tablespaces, DIR/filestore and DIR/config, every chunk
/// checked. While DIR/RESTORE-INCOMPLETE exists the folder must not be used; it says when PostgreSQL may be started already.
/// Without a moment or a point: the latest moment that is held. The instance itself is not touched.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Restore {
    /// The instance
    instance: Instance,
    #[command(flatten)]
    moment: MomentArgs,
    /// An empty or new folder; with --database a new file
    #[arg(long, value_name = "DIR", required_unless_present_any = ["to_docker", "to_compose"])]
    to: Option<PathBuf>,
    #[command(flatten)]
    docker: docker::DockerArgs,
    /// Only this database, as a file for pg_restore: restored and dumped in a sandbox
    #[arg(long, value_name = "NAME", conflicts_with_all = ["delta", "only"])]
    database: Option<String>,
    /// DIR may hold an earlier restore: keep what matches, REMOVE what does not belong
    #[arg(long)]
    delta: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Only this part (repeatable)
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat restore clinic --to /srv/restore --identity /media/key/recovery.identity
  lifeboat restore clinic --at 2026-11-21T14:03:10+01:00 --to /srv/restore
  lifeboat restore clinic --point 3fa9 --to /srv/restore --delta
  lifeboat restore clinic --point latest --to /srv/files --only filestore
  lifeboat restore clinic --database north --to /srv/north.dump
  lifeboat restore clinic --to-docker postgres=odoo-db,filestore=odoo-data --folder /srv/clinic
  lifeboat restore clinic --to-compose compose.yml --postgres db --odoo web --folder /srv/clinic
Which moments are held: lifeboat points windows clinic";

/// How many damaged objects and files are named to people.
const NAMED: usize = 20;

#[derive(Serialize)]
struct Done {
    instance: String,
    point: String,
    /// Where recovery ends, in words.
    target: String,
    /// The timeline on which it ends.
    timeline: u32,
    to: PathBuf,
    complete: bool,
    /// The newest commit that is known to be in it; none: nothing but the backup's own times is known.
    newest_commit: Option<Timestamp>,
    /// Work after this is not in it.
    lost_since: Option<Timestamp>,
    /// Volumes of Docker that were made of it.
    volumes: Vec<VolumeOf>,
    parts: Vec<PartDone>,
    /// Files of an earlier restore that did not belong.
    removed: u64,
    damage: Vec<Damaged>,
    postgres_version: u32,
    remarks: Vec<String>,
    /// What this restore noticed.
    warnings: Vec<String>,
    #[serde(skip)]
    database: bool,
}

#[derive(Serialize)]
struct PartDone {
    name: &'static str,
    files: u64,
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
pub struct Damaged {
    pub object: String,
    pub reason: String,
    pub file_count: u64,
    pub files: Vec<String>,
}

impl Done {
    fn new(instance: &Instance, plan: &Plan, report: RestoreReport) -> Self {
        let parts: Vec<PartDone> = report
            .parts
            .iter()
            .map(|part| PartDone { name: part.name, files: part.files, bytes: part.bytes, seconds: part.seconds })
            .collect();
        Done {
            instance: instance.to_string(),
            point: report.point.to_string(),
            target: plan.target.to_string(),
            timeline: plan.timeline,
            complete: report.is_complete(),
            newest_commit: None,
            lost_since: None,
            volumes: Vec::new(),
            database: parts.iter().any(|part| part.name == "database"),
            parts,
            removed: report.removed,
            damage: report.damage.into_iter().map(Damaged::from).collect(),
            postgres_version: report.postgres.version,
            remarks: report.notes.remarks,
            warnings: report.remarks,
            to: report.to,
        }
    }
}

impl From<lifeboat_repo::reader::Damage> for Damaged {
    fn from(damage: lifeboat_repo::reader::Damage) -> Self {
        let object = damage.object.to_string();
        Damaged { object, reason: damage.reason, file_count: damage.file_count, files: damage.files }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.restore/1";

    fn text(&self, page: &mut Page) {
        let word = if self.complete { Tone::Good.paint("restored:") } else { Tone::Bad.paint("INCOMPLETE:") };
        page.line(format_args!("{word} {} of {} in {}", self.point, self.instance, self.to.display()));
        page.gap();
        let mut rows = Rows::new(&["part", "files", "size", "took"]).numbers(&[1, 2, 3]);
        for part in &self.parts {
            rows.plain([part.name, &part.files.to_string(), &bytes(part.bytes), &seconds(part.seconds)]);
        }
        page.table(rows);
        if self.removed > 0 {
            page.line(format_args!("Removed {} that did not belong.", count(self.removed, "entry", "entries")));
        }
        for warning in &self.warnings {
            page.line(format_args!("{} {warning}", Tone::Doubtful.paint("note:")));
        }
        for remark in &self.remarks {
            page.line(format_args!("{} {remark}", Tone::Doubtful.paint("noted by the backup:")));
        }
        if self.complete { self.next_steps(page) } else { self.damage(page) }
    }
}

impl Done {
    fn next_steps(&self, page: &mut Page) {
        if !self.database {
            return;
        }
        let (to, major) = (self.to.display(), self.postgres_version / 10_000);
        page.heading("Next");
        if !self.volumes.is_empty() {
            return self.next_with_volumes(page);
        }
        page.line(format_args!(
            "  1. Give the cluster to the user that is to run it: chown -R postgres: {}",
            self.cluster()
        ));
        page.line(format_args!(
            "  2. Start PostgreSQL {major} on {to}/pgdata as that user. It replays the WAL to {},",
            self.target
        ));
        page.line(
            "     and promotes itself. Leave the folders where they are: tablespaces are linked by absolute path.",
        );
        page.line(format_args!("  3. Odoo takes {to}/filestore; its configuration is below {to}/config/paths."));
        page.line("     Before a copy of production is started beside production: neutralise it, or it sends mail and runs jobs.");
        page.line(format_args!("  4. Once this server is production: remove the lines of this restore from {to}/pgdata/postgresql.auto.conf"));
        page.line(
            "     and restart. Until then archive_mode is off, and synchronous_standby_names, primary_conninfo and",
        );
        page.line("     recovery_end_command are empty: a copy must not archive over, wait for or follow what the source did.");
    }

    fn next_with_volumes(&self, page: &mut Page) {
        let major = self.postgres_version / 10_000;
        for volume in &self.volumes {
            page.line(format_args!("  volume {} is {}", volume.name, volume.folder.display()));
        }
        page.line(format_args!("  1. Start PostgreSQL {major} on its volume. It replays the WAL to {},", self.target));
        page.line("     and promotes itself. Then start Odoo: its volume is the data folder, with filestore/ in it.");
        page.line(format_args!("  2. lifeboat verify {} --recovered {}", self.instance, self.to.display()));
        page.line("  3. Once this server is production: remove the lines of this restore from postgresql.auto.conf and restart.");
        page.line(format_args!("     The folder {} is the data now: it stays where it is.", self.to.display()));
    }

    /// The folders that PostgreSQL has to own.
    fn cluster(&self) -> String {
        let folders = ["pgdata", "tablespaces"].map(|name| self.to.join(name));
        let folders = folders.iter().filter(|folder| folder.is_dir());
        folders.map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    fn damage(&self, page: &mut Page) {
        page.heading(Tone::Bad.paint("Stored data that is missing or damaged"));
        for damage in self.damage.iter().take(NAMED) {
            let files = count(damage.file_count, "file", "files");
            page.line(format_args!("- {}: {}; hits {files}", damage.object, damage.reason));
            damage.files.iter().take(NAMED).for_each(|file| page.line(format_args!("    {file}")));
        }
        if self.damage.len() > NAMED {
            page.line(format_args!("  … {} in all; --json names them", self.damage.len()));
        }
        page.gap();
        page.line("Everything else was restored and checked. The folder keeps its RESTORE-INCOMPLETE mark.");
        page.line(format_args!(
            "Next: lifeboat points list {}   (an older point may hold the files undamaged)",
            self.instance
        ));
    }
}

impl Restore {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let to = self.to.as_ref().or(self.docker.folder()).cloned().unwrap_or_default();
        if let Some(database) = &self.database {
            let wanted = Wanted {
                instance: &self.instance,
                database,
                moment: &self.moment,
                identity: &self.identity,
                place: &self.place,
            };
            return extract::restore_database(session, &wanted, &to).await;
        }
        let to = std::path::absolute(&to)?; // links to tablespaces name their target by it
        let loaded = self.place.load(session)?;
        let identities = wire::recovery_identities(&self.identity, &loaded.config)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let repo = repository.instance(&config.tenant, &self.instance);
        if let Some(point) = self.moment.dump(&repo, config).await? {
            if self.delta || self.docker.folder().is_some() || self.only.iter().any(|part| *part != Part::Dump) {
                return Err(Failure::new(Exit::Usage, "a point with dumps is restored whole, into a new folder")
                    .hint("leave out --delta, --only, --to-docker and --to-compose"));
            }
            return dump::restore(session, (&repo, &point), &identities, &to).await;
        }
        if self.only.contains(&Part::Dump) {
            return Err(Failure::new(Exit::Usage, "only a point with dumps has that part: name one with --point")
                .next(format!("lifeboat points list {}", self.instance)));
        }
        let plan = self.moment.plan(&repo, config, &identities).await?;
        wire::opens(&plan.base, &identities)?;
        let target = self.docker.begin((config, &self.instance), (&to, self.delta)).await?;
        if let Some(target) = &target {
            target.fits(&plan, &to)?;
        }
        self.tell(session, &plan, &to);
        docker::say_begin(session, target.as_ref());
        let meter = Meter::start(&session.voice, format!("restore {}", self.instance));
        let request = RestoreRequest {
            repo: &repo,
            plan: &plan,
            trusted: &config.keys.trusted_keys,
            identities: &identities,
            to: to.clone(),
            delta: self.delta,
            parts: self.parts(),
        };
        let restored = async {
            let mut report = restore::run(request, meter.clone(), &session.cancel).await?;
            if report.staging.is_some() && target.is_none() {
                session.voice.say(&format!(
                    "all files are in place; PostgreSQL may be started on {}/pgdata while the rest of the WAL is fetched",
                    to.display()
                ));
            }
            report.stage(&session.cancel).await?;
            Ok::<_, lifeboat_engine::Error>(report)
        };
        let report = restored.await;
        drop(meter);
        let report = report.safe(what_is_safe(&to)).context(format!("restore of {} failed", self.instance))?;
        let mut record = None;
        let parts = self.parts();
        if report.is_complete() && (parts.database || parts.filestore) {
            let known = moments::known(&identities, config);
            let keys = (config.keys.trusted_keys.as_slice(), known.as_slice());
            let mut made = Record::of(&repo, keys, &plan, &report, (parts.database, session.now())).await?;
            if let Some(target) = target {
                target.finish(&to, &mut made).await?;
            }
            made.write(&to)?;
            record = Some(made);
        }
        let mut done = Done::new(&self.instance, &plan, report);
        if let Some(record) = record {
            (done.newest_commit, done.lost_since) = (record.newest_held, Some(record.lost_since));
            done.volumes = record.volumes;
        }
        session.output.show(&done)?;
        Ok(if done.complete { Exit::Ok } else { Exit::CheckFailed })
    }

    fn parts(&self) -> Parts {
        if self.only.is_empty() {
            return Parts::ALL;
        }
        let has = |part| self.only.contains(&part);
        Parts { database: has(Part::Database), filestore: has(Part::Filestore), config: has(Part::Config) }
    }

    fn tell(&self, session: &Session, plan: &Plan, to: &Path) {
        for why in &plan.base.skipped {
            session.voice.warn(&format!("a newer recovery point was passed over: {why}"));
        }
        let header = &plan.base.header;
        let wanted: BTreeSet<TreeKind> = match self.only.as_slice() {
            [] => TreeKind::ALL.into(),
            only => only.iter().map(|part| TreeKind::from(*part)).collect(),
        };
        let trees = header.trees.iter().filter(|tree| wanted.contains(&tree.kind));
        let parts: Vec<String> = trees.map(|tree| format!("{} {}", tree.kind, bytes(tree.bytes))).collect();
        let target = match plan.target {
            Target::PointEnd => String::new(),
            _ => format!(", then WAL to {} (up to {} on timeline {})", plan.target, plan.end, plan.timeline),
        };
        session.voice.say(&format!(
            "restoring {} of {}, finished {} ({}): {}{target} → {}{}",
            header.point,
            header.instance,
            moment(header.finished),
            ago(session.now(), header.finished),
            parts.join(", "),
            to.display(),
            if self.delta { ", removing there what does not belong" } else { "" },
        ));
    }
}

fn what_is_safe(to: &Path) -> &'static str {
    match to.join(INCOMPLETE_MARKER).exists() {
        true => "the repository is as it was; the folder is marked RESTORE-INCOMPLETE and must not be used",
        false => "the repository is as it was",
    }
}
