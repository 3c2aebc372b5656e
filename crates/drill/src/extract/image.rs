//! `pg_dump` of an image, run against the live server: for hosts that have no client of the server's major version.
//!
//! Not a sandbox: the container is on the host's network, since it has to reach what the host reaches. It is idle, nobody's, without
//! capabilities, on a read-only root, and ends by itself. The password and the authorities for the server's certificate come in over
//! standard input and lie in the container's memory: no argument, no environment and no file of the host holds them.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bollard::{
    container::LogOutput,
    models::{ContainerCreateBody, HostConfig},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::try_unfold};
use jiff::Timestamp;
use lifeboat_engine::dump::{
    DumpError, Dumper,
    program::{self, DumpStream, STALL},
};
use lifeboat_model::id::{Instance, RunId, Tenant};
use lifeboat_postgres::ConnectOptions;
use tokio::time::timeout;

use crate::{
    error::{Error, Result},
    sandbox::{Docker, Exec, Image, Scope, Spawned, teardown},
};

/// No dump may take longer; the container is gone then, whatever has become of us.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const USER: &str = "65534:65534";
const PASS_FILE: &str = "/tmp/pass";
const ROOT_CERT: &str = "/tmp/root.crt";

/// Takes the password file's line and the certificates up to a line with a dot; then becomes `pg_dump`. Everything in it is built
/// into the shell, so that nothing of it is an argument of any program.
const SCRIPT: &str = "umask 077; IFS= read -r pass || exit 90; printf '%s\\n' \"$pass\" > /tmp/pass; \
                      while IFS= read -r line && [ \"$line\" != . ]; do printf '%s\\n' \"$line\"; done > /tmp/root.crt; exec \"$@\"";

/// For whom the container is made.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The run.
    pub run: RunId,
    /// The tenant.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// Where drills have their folders: the next one removes what a dead run has left.
    pub work_root: PathBuf,
    /// Now.
    pub now: Timestamp,
}

/// A container with `pg_dump`, until [`close`](ImageProgram::close).
pub struct ImageProgram {
    docker: Docker,
    container: String,
    image: Image,
    version: String,
    options: ConnectOptions,
}

impl ImageProgram {
    /// Starts a container of the image and asks its `pg_dump` for its version. Containers of runs that died are removed before:
    /// of a dump that was cut off from Docker, nobody else may come by for a day.
    pub async fn start(docker: &Docker, image: &str, options: &ConnectOptions, owner: &Owner) -> Result<ImageProgram> {
        let image = docker.image("postgres", image).await?;
        let scope = Scope {
            run: owner.run,
            tenant: owner.tenant.clone(),
            instance: owner.instance.clone(),
            started: owner.now,
            deadline: owner.now + LONGEST,
            work: teardown::folder(&owner.work_root, owner.run),
        };
        if let Err(error) = teardown::orphans(docker, &owner.work_root, owner.now).await {
            tracing::warn!(%error, "containers of runs that died may be left");
        }
        let container = docker.start(&format!("lifeboat-dump-{}", owner.run), body(&image, &scope)).await?;
        let mut program =
            ImageProgram { docker: docker.clone(), container, image, version: String::new(), options: options.clone() };
        match program.ask_version().await {
            Ok(version) => {
                program.version = version;
                Ok(program)
            }
            Err(error) => {
                program.close().await?;
                Err(error)
            }
        }
    }

    async fn ask_version(&self) -> Result<String> {
        let command = ["pg_dump", "--version"];
        let exec = Exec { container: &self.container, user: Some(USER), command: &command, environment: &[] };
        let ran = self.docker.run(exec, Duration::from_secs(60)).await?;
        let version = ran.stdout.trim().to_owned();
        match program::major_of(&version) {
            Some(_) => Ok(version),
            None => Err(Error::Output {
                program: format!("pg_dump --version in image {}", self.image.reference),
                detail: ran.tail(),
            }),
        }
    }

    /// Removes the container, whether or not something still runs in it.
    pub async fn close(self) -> Result<()> {
        self.docker.remove_container(&self.container).await
    }

    fn elsewhere(&self, error: Error) -> lifeboat_engine::Error {
        DumpError::Elsewhere { place: format!("image {}", self.image.reference), source: Box::new(error) }.into()
    }
}

/// An idle container that ends by itself.
fn body(image: &Image, scope: &Scope) -> ContainerCreateBody {
    let host = HostConfig {
        network_mode: Some("host".to_owned()),
        auto_remove: Some(true),
        memory: Some(512 << 20),
        memory_swap: Some(512 << 20),
        pids_limit: Some(64),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), "rw,noexec,nosuid,nodev,mode=1777,size=16m".to_owned())])),
        log_config: Some(bollard::models::HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image.id.clone()),
        user: Some(USER.to_owned()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec![LONGEST.as_secs().to_string()]),
        env: Some(vec!["HOME=/tmp".to_owned()]),
        working_dir: Some("/".to_owned()),
        labels: Some(scope.labels()),
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..bollard::models::HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

#[async_trait]
impl Dumper for ImageProgram {
    fn place(&self) -> &str {
        &self.image.reference
    }

    fn version(&self) -> &str {
        &self.version
    }

    async fn start(&self, database: &str) -> lifeboat_engine::Result<DumpStream> {
        let authorities = program::authorities(&self.options)?;
        let certificates = match &authorities {
            Some(path) => tokio::fs::read_to_string(path).await.map_err(|source| DumpError::File {
                action: "read",
                path: path.clone(),
                source,
            })?,
            None => String::new(),
        };
        let line = program::pass_line(&self.options);
        let input = format!("{}{certificates}\n.\n", if line.is_empty() { "\n" } else { &line });
        let environment = program::environment(&self.options, PASS_FILE, authorities.as_ref().map(|_| ROOT_CERT));
        let environment: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let environment: Vec<&str> = environment.iter().map(String::as_str).chain(["HOME=/tmp"]).collect();
        let arguments = program::arguments(&self.options, database);
        let mut command = vec!["sh", "-c", SCRIPT, "sh", "pg_dump"];
        command.extend(arguments.iter().map(String::as_str));
        let exec = Exec { container: &self.container, user: Some(USER), command: &command, environment: &environment };
        let spawned = self.docker.spawn_fed(exec, input.as_bytes()).await.map_err(|error| self.elsewhere(error))?;
        let running = Output {
            docker: self.docker.clone(),
            place: format!("image {}", self.image.reference),
            database: database.to_owned(),
            spawned,
            words: String::new(),
        };
        Ok(Box::pin(try_unfold(running, next)))
    }
}

/// The output of a `pg_dump` in a container.
struct Output {
    docker: Docker,
    place: String,
    database: String,
    spawned: Spawned,
    /// The end of its standard error.
    words: String,
}

async fn next(mut output: Output) -> lifeboat_engine::Result<Option<(Bytes, Output)>> {
    let elsewhere =
        |place: &str, error: Error| DumpError::Elsewhere { place: place.to_owned(), source: Box::new(error) };
    loop {
        let stalled = |_| DumpError::Stalled { database: output.database.clone(), after: STALL };
        match timeout(STALL, output.spawned.output.next()).await.map_err(stalled)? {
            Some(Ok(LogOutput::StdErr { message })) => {
                output.words.push_str(&String::from_utf8_lossy(&message));
                keep_end(&mut output.words);
            }
            Some(Ok(piece)) => return Ok(Some((piece.into_bytes(), output))),
            Some(Err(error)) => return Err(elsewhere(&output.place, error).into()),
            None => break,
        }
    }
    match output.docker.ended(&output.spawned.id).await {
        Ok(Some(0)) => Ok(None),
        Ok(code) => {
            let status = code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
            let words = program::one_line(&output.words);
            Err(DumpError::Failed { database: output.database, status, words }.into())
        }
        Err(error) => Err(elsewhere(&output.place, error).into()),
    }
}

/// Keeps the last 4 KiB.
pub(super) fn keep_end(words: &mut String) {
    if words.len() > 8 << 10 {
        let mut from = words.len() - (4 << 10);
        while !words.is_char_boundary(from) {
            from += 1;
        }
        words.drain(..from);
    }
}
