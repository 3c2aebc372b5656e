//! Where the recovered PostgreSQL is, and whether it is the one.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifeboat_model::config::TlsMode;
use lifeboat_postgres::{ConnectOptions, sql};
use tokio_postgres::Client;

use super::Request;
use crate::{
    checks::extensions::Sessions,
    error::{Error, Result},
    ladder::{Answer, Observer},
    sandbox::{Container, Docker, Image, User, existing::Used},
};

/// The port inside a container.
const PORT: u16 = 5432;
/// Clocks tick between the two times that a server notes of its start.
const APART: i64 = 2;

/// How often a server that comes up is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A container that was started has a server within this.
const STARTS: Duration = Duration::from_secs(30);

/// What a look at the server says, for now.
enum Compared {
    /// This stays so.
    Sure(Answer),
    /// No server runs on the folder.
    Absent(Answer),
    /// It is the one, and not done with recovery.
    Recovers(Answer),
}

/// The server.
pub(super) struct Server {
    options: ConnectOptions,
    /// Its container, where it runs in one of this host.
    container: Option<Inside>,
}

/// A container and who runs in it.
pub(super) struct Inside {
    pub container: Container,
    pub image: Image,
    pub user: User,
    pub name: String,
}

impl Inside {
    /// What is needed to ask something in a container.
    pub(super) async fn of(docker: &Docker, role: &'static str, used: &Used) -> Result<Inside> {
        let (_, image) = docker.whereabouts(&used.id).await?;
        let image = docker.image(role, &image).await?;
        let container = Container::existing(docker, role, &used.id);
        let user = User::of(&container, &image, role).await?;
        Ok(Inside { container, image, user, name: used.name.clone() })
    }
}

impl Server {
    /// Finds it: as somebody has said, else the container that has the folder, else as the configuration says.
    pub(super) async fn find(request: &Request, docker: Option<&Docker>) -> Result<Server> {
        let used = match docker {
            Some(docker) => postgres_container(request, docker).await?,
            None => None,
        };
        let options = match (&request.server, &request.configured, &used) {
            (Some(options), _, _) => options.clone(),
            (None, Some(configured), Some(used)) => at_container(configured, used, docker).await?,
            (None, Some(configured), None) => configured.clone(),
            (None, None, _) => {
                let why = "nobody has said where the recovered PostgreSQL is and who logs in: --postgres host=…,user=…";
                return Err(Error::NotRecovered { why: why.to_owned() });
            }
        };
        let container = match (docker, &used) {
            (Some(docker), Some(used)) => Some(Inside::of(docker, "postgres", used).await?),
            _ => None,
        };
        Ok(Server { options, container })
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match &self.container {
            Some(inside) => format!("PostgreSQL in the container {} ({})", inside.name, self.options.server()),
            None => format!("PostgreSQL at {}", self.options.server()),
        }
    }

    /// Its container.
    pub(super) fn inside(&self) -> Option<&Inside> {
        self.container.as_ref()
    }

    /// Whether it is the restored one: the old one may still answer at the same address. One that was started just now, or
    /// replays what was written before the loss, is waited for.
    pub(super) async fn is_the_restored(&self, request: &Request, observer: &dyn Observer) -> Answer {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let (answer, comes_up) = match self.compare(request).await {
                Ok(Compared::Sure(answer)) => return answer,
                Ok(Compared::Absent(answer)) => (answer, self.container.is_some() && begun.elapsed() < STARTS),
                Ok(Compared::Recovers(answer)) => (answer, true),
                Err(error) => {
                    let is_up = matches!(error, Error::Postgres(lifeboat_postgres::Error::ServerUnavailable { .. }));
                    let comes_up = is_up || error.is_transient() && begun.elapsed() < STARTS;
                    (Answer::impossible(&error), comes_up)
                }
            };
            if !comes_up || begun.elapsed() > request.limit {
                return answer;
            }
            if !std::mem::replace(&mut told, true) {
                observer.phase(&format!("wait until {} has replayed and is promoted", self.name()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn compare(&self, request: &Request) -> Result<Compared> {
        if !request.record.database {
            return self.is_of_the_source(request).await.map(Compared::Sure);
        }
        let path = request.folder.join("pgdata/postmaster.pid");
        let Ok(text) = std::fs::read_to_string(&path) else {
            let why = format!("no server runs on {}: start it, and ask again", request.folder.join("pgdata").display());
            return Ok(Compared::Absent(Answer::not_executed(why)));
        };
        // The third line is the time of the start (PostgreSQL documentation, "postmaster.pid").
        let started: Option<i64> = text.lines().nth(2).and_then(|line| line.trim().parse().ok());
        let client = self.open("postgres").await?;
        let query = "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint, pg_is_in_recovery()";
        let row = client.query_one(query, &[]).await.map_err(Error::sql("ask when the server was started"))?;
        let (answered, in_recovery): (i64, bool) = (row.get(0), row.get(1));
        let Some(started) = started else {
            let why = format!("{} does not tell when its server was started", path.display());
            return Ok(Compared::Sure(Answer::not_executed(why)));
        };
        if (started - answered).abs() > APART {
            let why = "the server that answers is another one: it does not run on the folder that was restored";
            let answer = Answer::failed(format!("{why} ({}): name it with --postgres", self.options.server()));
            return Ok(Compared::Sure(answer));
        }
        Ok(match in_recovery {
            true => {
                let why = "the server is still in recovery: wait until it has promoted itself";
                Compared::Recovers(Answer::not_executed(why))
            }
            false => Compared::Sure(Answer::passed(format!("{}, on the restored folder", self.name()))),
        })
    }
}

impl Server {
    /// Where only files were restored they belong to the server that was there: the same cluster, by its number.
    async fn is_of_the_source(&self, request: &Request) -> Result<Answer> {
        let client = self.open("postgres").await?;
        let query = "SELECT system_identifier::text FROM pg_control_system()";
        let row = client.query_one(query, &[]).await.map_err(Error::sql("ask for the system identifier"))?;
        let (seen, wanted): (String, &String) = (row.get(0), &request.record.system_id);
        Ok(match seen == *wanted {
            true => Answer::passed(format!("{}, the cluster that the files belong to", self.name())),
            false => Answer::failed(format!("the server that answers is of cluster {seen}, the files are of {wanted}")),
        })
    }
}

#[async_trait]
impl Sessions for Server {
    async fn open(&self, database: &str) -> Result<Client> {
        Ok(sql::connect(&self.options, database).await?)
    }
}

/// The container that was named, else the only running one that has PGDATA.
async fn postgres_container(request: &Request, docker: &Docker) -> Result<Option<Used>> {
    let pgdata = request.folder.join("pgdata");
    the_one(request, docker, request.postgres_container.as_deref(), &[&pgdata], "--postgres-container").await
}

/// The container that was named, else the only running one that has the filestore.
pub(super) async fn odoo_container(request: &Request, docker: &Docker) -> Result<Option<Used>> {
    let folders = ["odoo-data", "odoo-data/filestore", "filestore"].map(|name| request.folder.join(name));
    let folders: Vec<_> = folders.iter().map(|folder| folder.as_path()).chain(request.filestore.as_deref()).collect();
    the_one(request, docker, request.odoo_container.as_deref(), &folders, "--odoo-container").await
}

async fn the_one(
    request: &Request,
    docker: &Docker,
    named: Option<&str>,
    folders: &[&std::path::Path],
    option: &str,
) -> Result<Option<Used>> {
    if let Some(name) = named {
        let used = docker.named(name).await?;
        return match used.running {
            true => Ok(Some(used)),
            false => Err(Error::NotRecovered { why: format!("container {name} does not run: docker start {name}") }),
        };
    }
    let volumes = request.record.volumes.iter().filter(|volume| folders.contains(&volume.folder.as_path()));
    let volumes: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    let mut users = docker.users_of(&volumes, folders).await?;
    users.retain(|user| user.running);
    if users.len() > 1 {
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let why = format!("several containers have it ({}): name one with {option}", names.join(", "));
        return Err(Error::NotRecovered { why });
    }
    Ok(users.pop())
}

/// The configuration's role at a container's address. No certificate has that name, and nobody is between: the address is one
/// of this host's own bridge.
async fn at_container(configured: &ConnectOptions, used: &Used, docker: Option<&Docker>) -> Result<ConnectOptions> {
    let Some(docker) = docker else { return Ok(configured.clone()) };
    let (address, _) = docker.whereabouts(&used.id).await?;
    let Some(address) = address else {
        let why = format!("container {} has no address of its own: say where it listens with --postgres", used.name);
        return Err(Error::NotRecovered { why });
    };
    let tls = if configured.tls == TlsMode::Disable { TlsMode::Disable } else { TlsMode::Require };
    Ok(ConnectOptions { host: address.to_string(), port: PORT, tls, ..configured.clone() })
}
