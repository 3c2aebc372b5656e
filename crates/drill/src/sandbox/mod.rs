//! The sandbox: throw-away containers on a network of their own that has no way out.
//!
//! One container per role, each started idle; every program in it (the server included) is then executed inside, so that the
//! image is asked for its user and its versions in the very container that serves. Everything made carries the run's labels,
//! and [`teardown`] goes by the labels alone: it needs no memory of what was made, so that it works after any failure, also by
//! the next run after a crash.
//!
//! Limits of every container: memory, processes, CPU weight, no capability, no new privileges, a read-only root, no restart. Nothing
//! in it runs as root. There is no network but the containers' own loopback: see [`network`] for what keeps it closed, [`gate`] for
//! how the host comes in, and [`isolation`] for the proof.

pub(crate) mod disk;
mod docker;
pub(crate) mod existing;
mod gate;
pub mod isolation;
mod network;
pub(crate) mod pulse;
pub(crate) mod secrets;
mod settings;
pub mod teardown;
pub(crate) mod tree;
pub mod turn;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::models::HostConfig;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, RunId, Tenant},
    size::ByteSize,
};

pub use docker::{DEFAULT_ADDRESS, Docker, Image, Ran};
pub(crate) use docker::{Exec, Spawned};
pub(crate) use gate::Gate;
pub use isolation::Isolation;

use crate::error::{Error, Result};

/// The label every object carries; its value is the run's id.
pub const LABEL: &str = "lifeboat.drill";

/// Who runs the drill, and where its files are: what the labels say.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The drill.
    pub run: RunId,
    /// The tenant.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// When it began.
    pub started: Timestamp,
    /// When it is over in any case.
    pub deadline: Timestamp,
    /// Its folder: restored data and our own files.
    pub work: PathBuf,
}

impl Scope {
    pub(crate) fn labels(&self) -> HashMap<String, String> {
        let owner = teardown::Owner::myself();
        HashMap::from([
            (LABEL.to_owned(), self.run.to_string()),
            ("lifeboat.tenant".to_owned(), self.tenant.to_string()),
            ("lifeboat.instance".to_owned(), self.instance.to_string()),
            ("lifeboat.started".to_owned(), self.started.to_string()),
            ("lifeboat.deadline".to_owned(), self.deadline.to_string()),
            ("lifeboat.owner".to_owned(), owner.to_string()),
            ("lifeboat.work".to_owned(), self.work.display().to_string()),
        ])
    }

    pub(crate) fn name(&self, what: &str) -> String {
        format!("lifeboat-drill-{}-{what}", self.run)
    }
}

/// How much a container may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory, swap included.
    pub memory: ByteSize,
    /// Processes and threads.
    pub pids: i64,
}

/// A folder or file of the host inside a container.
#[derive(Debug, Clone)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Whether the container may write.
    pub writable: bool,
}

/// The sandbox's network, and what makes containers in it.
#[derive(Clone)]
pub struct Sandbox {
    docker: Docker,
    scope: Scope,
    /// The container whose network is the others'.
    holder: String,
}

/// A running container.
#[derive(Clone)]
pub struct Container {
    docker: Docker,
    /// `postgres` or `odoo`.
    pub role: &'static str,
    /// The engine's id.
    pub id: String,
    /// Where the sandbox's containers find it.
    pub address: IpAddr,
    /// On the host: the folder of the socket by which it comes in.
    gate: PathBuf,
}

impl Sandbox {
    /// Makes the network: a container that sleeps, and has none.
    pub async fn create(docker: Docker, scope: Scope, image: &Image) -> Result<Sandbox> {
        let holder = network::create(&docker, &scope, image).await?;
        Ok(Sandbox { docker, scope, holder })
    }

    /// Starts an idle container.
    pub async fn start(&self, role: &'static str, image: &Image, limits: Limits, binds: &[Bind]) -> Result<Container> {
        let gate = gate::make_folder(&self.scope.work, role)?;
        let way_in = Bind { source: gate.clone(), target: gate::FOLDER.to_owned(), writable: true };
        let binds: Vec<Bind> = binds.iter().cloned().chain([way_in]).collect();
        let host = HostConfig {
            mounts: Some(settings::mounts(&self.scope, &binds, image)),
            network_mode: Some(network::mode(&self.holder)),
            ..settings::fenced(&limits)
        };
        let id = self.docker.start(&self.scope.name(role), settings::body(&self.scope, image, host)).await?;
        Ok(Container { docker: self.docker.clone(), role, id, address: IpAddr::V4(Ipv4Addr::LOCALHOST), gate })
    }

    /// Proves that there is no way out.
    pub async fn isolation(&self, containers: &[Container]) -> Result<Isolation> {
        isolation::prove(&self.docker, &self.scope, &self.holder, containers).await
    }
}

impl Container {
    /// One that is no sandbox's, for what is asked in it.
    pub(crate) fn existing(docker: &Docker, role: &'static str, id: &str) -> Container {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Container { docker: docker.clone(), role, id: id.to_owned(), address, gate: PathBuf::new() }
    }

    /// What it has printed since it was started last.
    pub(crate) async fn log_lines(&self, each: impl FnMut(&str)) -> Result<()> {
        self.docker.log_lines(&self.id, each).await
    }

    /// Runs a program as a user of the image.
    pub async fn run(&self, user: &str, command: &[&str], limit: Duration) -> Result<Ran> {
        let exec = Exec { container: &self.id, user: Some(user), command, environment: &["HOME=/tmp"] };
        self.docker.run(exec, limit).await
    }

    /// Runs a program that must end with 0.
    pub async fn run_ok(&self, user: &str, command: &[&str], limit: Duration) -> Result<Ran> {
        let ran = self.run(user, command, limit).await?;
        if ran.is_ok() {
            return Ok(ran);
        }
        Err(Error::Program {
            program: command.first().copied().unwrap_or_default().to_owned(),
            role: self.role,
            code: ran.code,
            output: ran.tail(),
        })
    }

    /// Starts a server.
    pub(crate) async fn spawn(&self, user: &str, command: &[&str], environment: &[&str]) -> Result<Spawned> {
        self.docker.spawn(Exec { container: &self.id, user: Some(user), command, environment }).await
    }

    /// The exit code of a program whose output has ended.
    pub(crate) async fn ended(&self, program: &str) -> Result<Option<i64>> {
        self.docker.ended(program).await
    }

    /// The exit code of a server, none while it runs.
    pub(crate) async fn exit_code(&self, server: &str) -> Result<Option<i64>> {
        self.docker.exit_code(server).await
    }
}

/// The user that a container's programs run as, and the owner that its files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// The user that the image is configured to run as, else its user `name`; where the host's process is not root and cannot
    /// give files away, the host's own.
    pub async fn of(container: &Container, image: &Image, name: &str) -> Result<User> {
        if !rustix::process::geteuid().is_root() {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            return Ok(User { uid: uid.as_raw(), gid: gid.as_raw() });
        }
        let configured = image.user.as_deref().filter(|user| !matches!(*user, "root" | "0" | "0:0"));
        if let Some(user) = configured.and_then(User::from_numbers) {
            return Ok(user);
        }
        let name = configured.and_then(|user| user.split(':').next()).unwrap_or(name);
        let command = ["sh", "-c", "id -u \"$1\" && id -g \"$1\"", "sh", name];
        let ran = container.run_ok("65534:65534", &command, Duration::from_secs(30)).await?;
        let numbers = ran.stdout.split_whitespace().collect::<Vec<_>>().join(":");
        let user = User::from_numbers(&numbers).filter(|user| user.uid != 0);
        user.ok_or_else(|| Error::Output { program: format!("id {name}"), detail: ran.tail() })
    }

    /// `1000:1000`, or `1000` with the group of the same number.
    pub fn from_numbers(text: &str) -> Option<User> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }

    /// As Docker wants it.
    pub fn spec(self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// Gives a file or a whole tree to this user; a link in it itself, never what it points to. A link in its place is refused.
    pub fn own(self, path: &Path) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        tree::give(path, self.uid, self.gid).map_err(|error| Error::io("cannot change owner of", path)(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_be_given_in_numbers() {
        assert_eq!(User::from_numbers("1001"), Some(User { uid: 1001, gid: 1001 }));
        assert_eq!(User::from_numbers("1001:0"), Some(User { uid: 1001, gid: 0 }));
        assert_eq!(User::from_numbers("odoo"), None);
        assert_eq!(User::from_numbers("odoo:odoo"), None);
    }
}
