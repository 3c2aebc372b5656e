//! `restore`: brings an instance back, as `lifeboat restore` does, by the same code.
//!
//! Writes into a new or empty place, so nothing that is there is touched: any other is refused. `replace = true` lets it take the place
//! of what is there, which destroys that. After a crash it goes on where it stopped: of a place that this run has begun, what is
//! there and right is kept (`--delta`).
//! Practice restores into a sandbox's own folder and volumes.

use jiff::Timestamp;
use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show, minutes};
use crate::{
    template::Template,
    values::{Secret, one_of, secret, template_of, twice},
};

/// Brings an instance back.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// The instance.
    pub instance: Template,
    /// Which moment.
    pub moment: Moment,
    /// Where to.
    pub target: Target,
    /// Only this database, as a dump; a folder is made of all otherwise.
    pub database: Option<Template>,
    /// Only these parts.
    pub only: Vec<Part>,
    /// The repository by name, as when the primary is gone; none: the primary.
    pub from: Option<Template>,
    /// The recovery identity; none: the configuration's.
    pub identity: Option<Secret>,
    /// Whether it may take the place of what is there.
    pub replace: bool,
}

/// Which moment is brought back.
#[derive(Debug, Clone, PartialEq)]
pub enum Moment {
    /// The newest commit that is held.
    Latest,
    /// A time with its zone.
    At(Template),
    /// A recovery point as it is, by id or `latest`.
    Point(Template),
    /// A restore point by name.
    RestorePoint(Template),
}

/// Where an instance is brought back to.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A folder of this host; with `database`, a file.
    Directory(Template),
    /// Volumes of Docker on this host.
    Docker {
        /// For PGDATA.
        postgres: Template,
        /// For the filestore.
        filestore: Option<Template>,
        /// Where their bytes lie on this host; none: in a folder of the run.
        folder: Option<Template>,
    },
    /// The volumes of a Compose project's services.
    Compose {
        /// Its file.
        file: Template,
        /// The service that is PostgreSQL.
        postgres: Template,
        /// The service that is Odoo.
        odoo: Template,
        /// Where their bytes lie on this host; none: in a folder of the run.
        folder: Option<Template>,
    },
}

/// A part of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The cluster.
    Database,
    /// The files.
    Filestore,
    /// The configuration.
    Config,
}

const PARTS: [(&str, Part); 3] =
    [("database", Part::Database), ("filestore", Part::Filestore), ("config", Part::Config)];

impl Restore {
    pub(crate) fn read(table: &Table<'_>) -> Result<Restore> {
        let instance = table.required("instance", "name the instance, or write \"{{instance}}\"", Template::of);
        let moment = moment(table);
        let target = target(table);
        let database = table.optional("database", Template::of);
        let only = table.optional("only", |value| value.list_of(|value| one_of(value, &PARTS)));
        let from = table.optional("from", Template::of);
        let identity = secret(table, "identity");
        let replace = table.optional("replace", Value::flag);
        let (database, only) = (database?, only?.unwrap_or_default());
        if database.is_some() && !only.is_empty() {
            return Err(twice(table, "only", "database"));
        }
        Ok(Restore {
            instance: instance?,
            moment: moment?,
            target: target?,
            database,
            only,
            from: from?,
            identity: identity?,
            replace: replace?.unwrap_or(false),
        })
    }

    fn target_words(&self, show: Show<'_>) -> String {
        match &self.target {
            Target::Directory(path) => show(path),
            Target::Docker { postgres, filestore, .. } => {
                let volumes: Vec<String> = std::iter::once(postgres).chain(filestore).map(show).collect();
                format!("the volumes {}", volumes.join(" and "))
            }
            Target::Compose { file, .. } => format!("the volumes of {}", show(file)),
        }
    }
}

fn moment(table: &Table<'_>) -> Result<Moment> {
    // `latest` is a moment as well, so that a parameter can be it.
    let at = table.optional("at", |value| match value.text() {
        Ok("latest") => Ok(Moment::Latest),
        _ => template_of::<Timestamp>(value).map(Moment::At),
    });
    let point = table.optional("point", |value| Template::of(value).map(Moment::Point));
    let restore_point = table.optional("restore_point", |value| Template::of(value).map(Moment::RestorePoint));
    let (at, point, restore_point) = (at?, point?, restore_point?);
    match (at, point, restore_point) {
        (Some(_), Some(_), _) => Err(twice(table, "point", "at")),
        (Some(_), _, Some(_)) => Err(twice(table, "restore_point", "at")),
        (_, Some(_), Some(_)) => Err(twice(table, "restore_point", "point")),
        (at, point, restore_point) => Ok(at.or(point).or(restore_point).unwrap_or(Moment::Latest)),
    }
}

fn target(table: &Table<'_>) -> Result<Target> {
    let directory = table.optional("to", |value| Template::of(value).map(Target::Directory));
    let docker = table.optional("to_docker", |value| {
        let table = value.table()?;
        let postgres = table.required("postgres", "name the volume of PGDATA", Template::of);
        let filestore = table.optional("filestore", Template::of);
        let folder = table.optional("folder", Template::of);
        table.finish();
        Ok(Target::Docker { postgres: postgres?, filestore: filestore?, folder: folder? })
    });
    let compose = table.optional("to_compose", |value| {
        let table = value.table()?;
        let file = table.required("file", "name the Compose file", Template::of);
        let postgres = table.required("postgres", "name the service that is PostgreSQL", Template::of);
        let odoo = table.required("odoo", "name the service that is Odoo", Template::of);
        let folder = table.optional("folder", Template::of);
        table.finish();
        Ok(Target::Compose { file: file?, postgres: postgres?, odoo: odoo?, folder: folder? })
    });
    let (directory, docker, compose) = (directory?, docker?, compose?);
    match (&directory, &docker, &compose) {
        (Some(_), Some(_), _) => Err(twice(table, "to_docker", "to")),
        (Some(_), _, Some(_)) => Err(twice(table, "to_compose", "to")),
        (_, Some(_), Some(_)) => Err(twice(table, "to_compose", "to_docker")),
        _ => directory.or(docker).or(compose).ok_or_else(|| {
            table.missing("to", "say where to: to = \"/srv/restore\", or to_docker or to_compose = { … }")
        }),
    }
}

impl Act for Restore {
    fn outputs(&self) -> &'static [&'static str] {
        &["directory", "point", "newest-commit", "lost-since"]
    }

    fn words(&self, show: Show<'_>) -> String {
        let moment = match &self.moment {
            Moment::Latest => "as of the newest commit that is held".to_owned(),
            Moment::At(at) => format!("as of {}", show(at)),
            Moment::Point(point) => format!("as of point {}", show(point)),
            Moment::RestorePoint(name) => format!("as of restore point \"{}\"", show(name)),
        };
        let what = match &self.database {
            Some(database) => format!("database {} of {}", show(database), show(&self.instance)),
            None => show(&self.instance),
        };
        let from = self.from.as_ref().map(|from| format!(" from repository {}", show(from))).unwrap_or_default();
        format!("restore {what}, {moment},{from} to {}", self.target_words(show))
    }

    fn effect(&self) -> Effect {
        match (&self.target, self.replace) {
            (_, true) => Effect::Destroys,
            (Target::Directory(_), false) => Effect::Nothing,
            _ => Effect::Changes,
        }
    }

    fn again(&self) -> Again {
        Again::Look("what this run brought there and is right is kept, the rest is fetched")
    }

    fn practice(&self) -> Practice {
        Practice::Instead("into a sandbox of its own")
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        vec![self.target_words(show)]
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(minutes(24 * 60))
    }
}
