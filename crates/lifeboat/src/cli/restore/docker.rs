//! `--to-docker`: the restored folder as volumes of Docker. Nothing is copied: a volume is the folder where it lies, owned by the
//! user that the image's PostgreSQL and Odoo run as.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use lifeboat_drill::{
    recovered::{Record, VolumeOf},
    sandbox::{Docker, User},
    volumes::{self, Wanted},
};
use lifeboat_engine::{record, recovery::Plan, restore};
use lifeboat_model::{config::Config, id::Instance};

use super::compose;
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    wire,
};

/// Only these options stand below it, not what follows them.
const HEADING: &str = "Docker";

/// Where to, other than a folder that somebody starts something on.
#[derive(Debug, Clone, Args)]
pub struct DockerArgs {
    /// As volumes of Docker: postgres=VOLUME[,filestore=VOLUME]; what is in them lies in --folder
    #[arg(
        long,
        value_name = "VOLUMES",
        requires = "folder",
        conflicts_with_all = ["to", "database", "only", "to_compose"],
        help_heading = HEADING
    )]
    to_docker: Option<Volumes>,
    /// As the volumes that services of this Compose file have
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["folder", "postgres", "odoo"],
        conflicts_with_all = ["to", "database", "only"],
        help_heading = HEADING
    )]
    to_compose: Option<PathBuf>,
    /// The service that is PostgreSQL
    #[arg(long, value_name = "SERVICE", requires = "to_compose", help_heading = HEADING)]
    postgres: Option<String>,
    /// The service that is Odoo
    #[arg(long, value_name = "SERVICE", requires = "to_compose", help_heading = HEADING)]
    odoo: Option<String>,
    /// The new or empty folder that the volumes are bound to: it stays as long as they are used
    #[arg(long, value_name = "DIR", conflicts_with = "to", help_heading = HEADING)]
    folder: Option<PathBuf>,
    /// Volumes of these names may be there: they are REMOVED with what they hold, once everything is restored
    #[arg(long, requires = "folder", help_heading = HEADING)]
    replace: bool,
    /// The user of PGDATA in the container, as 999:999 [default: asked from the instance's drill.postgres_image]
    #[arg(long, value_name = "UID:GID", value_parser = numbers, requires = "folder", help_heading = HEADING)]
    postgres_user: Option<User>,
    /// The user of the filestore in the container [default: asked from the instance's drill.odoo_image]
    #[arg(long, value_name = "UID:GID", value_parser = numbers, requires = "folder", help_heading = HEADING)]
    odoo_user: Option<User>,
}

fn numbers(text: &str) -> std::result::Result<User, String> {
    let is_root = |user: &User| user.uid == 0;
    let read = text.contains(':').then(|| User::from_numbers(text)).flatten().filter(|user| !is_root(user));
    read.ok_or_else(|| "write two numbers, as in 999:999; docker run --rm IMAGE id NAME tells them".to_owned())
}

/// Names of volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volumes {
    /// That of PGDATA.
    pub postgres: String,
    /// That of Odoo's data folder.
    pub filestore: Option<String>,
}

impl FromStr for Volumes {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Volumes, String> {
        let (mut postgres, mut filestore) = (None, None);
        for part in text.split(',') {
            let (slot, name) = match part.split_once('=') {
                Some(("postgres", name)) => (&mut postgres, name),
                Some(("filestore", name)) => (&mut filestore, name),
                _ => return Err(format!("\"{part}\": write postgres=VOLUME,filestore=VOLUME")),
            };
            let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_inside);
            if !is_name {
                return Err(format!("\"{name}\" is no name of a volume: letters, digits, '_', '.', '-'"));
            }
            if slot.replace(name.to_owned()).is_some() {
                return Err(format!("\"{part}\": it was named before"));
            }
        }
        let postgres = postgres.ok_or_else(|| "name the volume of PGDATA: postgres=VOLUME".to_owned())?;
        if filestore.as_ref() == Some(&postgres) {
            return Err("PGDATA and the filestore need a volume each".to_owned());
        }
        Ok(Volumes { postgres, filestore })
    }
}

impl DockerArgs {
    /// The folder, where volumes are asked for.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// What is to be done once everything is restored; asked before anything is, so that nobody waits in vain.
    pub async fn begin(
        &self,
        (config, instance): (&Config, &Instance),
        (folder, delta): (&Path, bool),
    ) -> Result<Option<Target>> {
        let names = match (&self.to_docker, &self.to_compose, &self.postgres, &self.odoo) {
            (Some(names), ..) => names.clone(),
            (None, Some(file), Some(postgres), Some(odoo)) => compose::volumes(file, postgres, odoo).await?,
            _ => return Ok(None),
        };
        if !rustix::process::geteuid().is_root() {
            let why = "files in volumes belong to the containers' users, and only root can give them away";
            return Err(Failure::new(Exit::Usage, why).hint("run it as root").safe("nothing was done"));
        }
        let engine = wire::environment("DOCKER_HOST");
        if let Some(other) = engine.as_deref().filter(|address| !address.starts_with("unix://")) {
            let why = format!("volumes are folders of this host, and Docker at {other} may be another one");
            return Err(Failure::new(Exit::Usage, why)
                .hint("run it on that host, or unset DOCKER_HOST")
                .safe("nothing was done"));
        }
        let docker = Docker::connect(engine.as_deref()).await?;
        let mut wanted = vec![Wanted { name: names.postgres.clone(), folder: folder.join("pgdata") }];
        let data =
            names.filestore.iter().map(|name| Wanted { name: name.clone(), folder: volumes::data_folder(folder) });
        wanted.extend(data);
        volumes::check(&docker, &wanted, self.replace).await.safe("nothing was done")?;
        let configured = config.instances.get(instance).map(|instance| &instance.drill);
        let postgres = match (self.postgres_user, configured) {
            (Some(user), _) => user,
            (None, Some(drill)) => owner(&docker, &drill.postgres_image, "postgres").await?,
            (None, None) => return Err(no_image(instance, "--postgres-user")),
        };
        let odoo = match (&names.filestore, self.odoo_user, configured) {
            (None, _, _) => None,
            (Some(_), Some(user), _) => Some(user),
            (Some(_), None, Some(drill)) => Some(owner(&docker, &drill.odoo_image, "odoo").await?),
            (Some(_), None, None) => return Err(no_image(instance, "--odoo-user")),
        };
        if delta {
            restore::check_target(folder, delta).safe("nothing was done")?;
            volumes::put_back(folder)?;
        }
        Ok(Some(Target { docker, wanted, replace: self.replace, postgres, odoo }))
    }
}

fn no_image(instance: &Instance, option: &str) -> Failure {
    Failure::new(Exit::Config, format!("{instance} is not configured here: no image tells who owns the files"))
        .hint(format!("say it with {option} UID:GID"))
        .safe("nothing was done")
}

async fn owner(docker: &Docker, image: &str, name: &'static str) -> Result<User> {
    let user = volumes::owner(docker, image, name, record::new_run()?).await;
    user.safe("nothing was done").context(format!("cannot ask image {image} for its user {name}"))
}

/// Volumes that will be made.
pub struct Target {
    docker: Docker,
    wanted: Vec<Wanted>,
    replace: bool,
    postgres: User,
    odoo: Option<User>,
}

impl Target {
    /// Refuses what cannot work in a container.
    pub fn fits(&self, plan: &Plan, folder: &Path) -> Result<()> {
        if plan.postgres.tablespaces.is_empty() {
            return Ok(());
        }
        let why = "the cluster has tablespaces, which it finds by absolute paths: a volume of PGDATA alone does not hold them";
        Err(Failure::new(Exit::Usage, why).safe("nothing was written").hint(format!(
            "restore with --to {0}, and mount {0}/pgdata and {0}/tablespaces into the container, the latter at the same path",
            folder.display()
        )))
    }

    /// Gives everything to its user, and makes the volumes. Twice is as once.
    pub async fn finish(self, folder: &Path, record: &mut Record) -> Result<()> {
        volumes::give(self.postgres, vec![folder.join("pgdata")]).await?;
        if let Some(odoo) = self.odoo {
            record.single = volumes::arrange(folder, &record.databases)?;
            volumes::give(odoo, vec![volumes::data_folder(folder)]).await?;
        }
        let made = volumes::make(&self.docker, &self.wanted, self.replace).await;
        made.safe(format!("everything is restored in {}; only volumes are missing", folder.display()))?;
        let volume = |wanted: Wanted| VolumeOf { name: wanted.name, folder: wanted.folder };
        record.volumes = self.wanted.into_iter().map(volume).collect();
        Ok(())
    }
}

/// Says what of a session is not done yet.
pub fn say_begin(session: &Session, target: Option<&Target>) {
    let Some(target) = target else { return };
    let names: Vec<&str> = target.wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    let what = if target.replace { ", in place of what is there" } else { "" };
    session.voice.say(&format!("volumes when all is restored: {}{what}", names.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_named_once_each() {
        let read = |text: &str| text.parse::<Volumes>();
        let both = Volumes { postgres: "db".into(), filestore: Some("files".into()) };
        assert_eq!(read("postgres=db,filestore=files"), Ok(both));
        assert_eq!(read("postgres=db"), Ok(Volumes { postgres: "db".into(), filestore: None }));
        for wrong in
            ["db", "filestore=x", "postgres=", "postgres=/srv/x", "postgres=a,postgres=b", "postgres=a,filestore=a"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn owners_are_numbers_and_not_root() {
        assert_eq!(numbers("999:998"), Ok(User { uid: 999, gid: 998 }));
        assert!(numbers("999").is_err() && numbers("postgres:postgres").is_err() && numbers("0:0").is_err());
    }
}
