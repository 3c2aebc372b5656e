//! The few things we ask of the Docker engine, with our words for what failed and a limit on every wait.

use std::{collections::HashMap, time::Duration};

use bollard::{
    Docker as Engine,
    container::LogOutput,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
        ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::error::{Error, Result};

/// Where the engine listens unless said otherwise.
pub const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";

/// Output of a program that is kept; the rest is dropped and said so.
const OUTPUT_LIMIT: usize = 4 << 20;

/// A connection to the engine.
#[derive(Clone)]
pub struct Docker {
    pub(super) engine: Engine,
}

/// An image, as it is on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `postgres` or `odoo`.
    pub role: String,
    /// The reference in the configuration.
    pub reference: String,
    /// The content's id: what really ran.
    pub id: String,
    /// Digests of the registries it came from.
    pub digests: Vec<String>,
    /// Environment of its configuration.
    #[serde(skip)]
    pub environment: Vec<String>,
    /// User of its configuration, where it names one.
    #[serde(skip)]
    pub user: Option<String>,
    /// Folders for which the engine would make anonymous volumes.
    #[serde(skip)]
    pub volumes: Vec<String>,
}

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it ended with 0.
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// The last lines of both outputs, for a message.
    pub fn tail(&self) -> String {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(5)..].join(" | ");
        tail.chars().take(600).collect()
    }
}

impl Docker {
    /// Connects and agrees on an API version.
    pub async fn connect(address: Option<&str>) -> Result<Docker> {
        let address = address.unwrap_or(DEFAULT_ADDRESS);
        let no_docker = |source| Error::NoDocker { address: address.to_owned(), source };
        let engine = Engine::connect_with_host(address).map_err(no_docker)?;
        let limit = Duration::from_secs(15);
        let negotiated = timeout(limit, engine.negotiate_version()).await;
        let engine = negotiated.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError)).map_err(no_docker)?;
        Ok(Docker { engine })
    }

    /// The connection itself.
    pub(crate) fn into_engine(self) -> Engine {
        self.engine
    }

    /// Finds an image on this host, or pulls it.
    pub async fn image(&self, role: &str, reference: &str) -> Result<Image> {
        let found = match self.engine.inspect_image(reference).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => {
                self.pull(reference).await?;
                self.engine
                    .inspect_image(reference)
                    .await
                    .map_err(Error::docker(format!("inspect image {reference}")))?
            }
            Err(error) => return Err(Error::docker(format!("inspect image {reference}"))(error)),
        };
        let config = found.config.unwrap_or_default();
        Ok(Image {
            role: role.to_owned(),
            reference: reference.to_owned(),
            id: found.id.unwrap_or_default(),
            digests: found.repo_digests.unwrap_or_default(),
            user: config.user.filter(|user| !user.is_empty()),
            environment: config.env.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default(),
        })
    }

    /// The id of an image on this host; none where it is not here. Nothing is pulled.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>> {
        match self.engine.inspect_image(reference).await {
            Ok(found) => Ok(found.id),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(Error::docker(format!("inspect image {reference}"))(error)),
        }
    }

    /// Images of this host in one archive, as `docker save` writes it and `docker load` reads it, piece by piece. An engine may lay
    /// all of it out on its disk before the first piece; one that gives nothing for a minute after that has stopped.
    pub fn save_images(&self, references: &[&str]) -> impl Stream<Item = Result<Bytes>> {
        let what = format!("save {}", references.join(", "));
        let pieces = Box::pin(self.engine.export_images(references));
        let (laying_out, between) = (Duration::from_secs(3600), Duration::from_secs(60));
        futures::stream::unfold((pieces, laying_out), move |(mut pieces, patience)| async move {
            let next = timeout(patience, pieces.next()).await;
            Some((next.unwrap_or(Some(Err(bollard::errors::Error::RequestTimeoutError)))?, (pieces, between)))
        })
        .map(move |piece| piece.map_err(Error::docker(what.clone())))
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        tracing::info!(image = reference, "image is not on this host: pulling it");
        // Without a tag the engine would pull every tag there is.
        let tagged = reference.contains('@') || reference.rsplit('/').next().is_some_and(|name| name.contains(':'));
        let name = if tagged { reference.to_owned() } else { format!("{reference}:latest") };
        let options = CreateImageOptionsBuilder::default().from_image(&name).build();
        let pulled = self.engine.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await;
        pulled.map_err(|source| Error::NoImage { image: reference.to_owned(), source })
    }

    /// Networks with this label: id and labels.
    pub(super) async fn networks(&self, label: &str) -> Result<Vec<(String, HashMap<String, String>)>> {
        let options = ListNetworksOptionsBuilder::default().filters(&by_label(label)).build();
        let found = self.engine.list_networks(Some(options)).await.map_err(Error::docker("list networks"))?;
        Ok(found.into_iter().filter_map(|network| Some((network.id?, network.labels.unwrap_or_default()))).collect())
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<()> {
        gone(self.engine.remove_network(id).await).map_err(Error::docker(format!("remove network {id}")))
    }

    pub(crate) async fn start(&self, name: &str, body: ContainerCreateBody) -> Result<String> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let created = self.engine.create_container(Some(options), body).await;
        let id = created.map_err(Error::docker(format!("create container {name}")))?.id;
        self.engine.start_container(&id, None).await.map_err(Error::docker(format!("start container {name}")))?;
        Ok(id)
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse> {
        self.engine.inspect_container(id, None).await.map_err(Error::docker(format!("inspect container {id}")))
    }

    /// Containers with this label, stopped ones too: id and labels.
    pub(super) async fn containers(&self, label: &str) -> Result<Vec<(String, HashMap<String, String>)>> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&by_label(label)).build();
        let found = self.engine.list_containers(Some(options)).await.map_err(Error::docker("list containers"))?;
        Ok(found.into_iter().filter_map(|one| Some((one.id?, one.labels.unwrap_or_default()))).collect())
    }

    /// Every running container, whoever made it.
    pub(super) async fn running(&self) -> Result<Vec<ContainerSummary>> {
        let options = ListContainersOptionsBuilder::default().build();
        self.engine.list_containers(Some(options)).await.map_err(Error::docker("list containers"))
    }

    /// What containers with this label are at: `running`, `exited` and so on.
    pub(super) async fn states(&self, label: &str) -> Result<Vec<String>> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&by_label(label)).build();
        let found = self.engine.list_containers(Some(options)).await.map_err(Error::docker("list containers"))?;
        Ok(found.into_iter().map(|one| one.state.map(|state| state.to_string()).unwrap_or_default()).collect())
    }

    /// Names of the anonymous volumes that the images' `VOLUME` lines made for a container.
    pub(super) async fn volumes_of(&self, id: &str) -> Result<Vec<String>> {
        let mounts = self.inspect(id).await?.mounts.unwrap_or_default();
        Ok(mounts.into_iter().filter_map(|mount| mount.name).filter(|name| !name.is_empty()).collect())
    }

    /// Kills a container and removes it with its anonymous volumes.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        gone(self.engine.remove_container(id, Some(options)).await)
            .map_err(Error::docker(format!("remove container {id}")))
    }

    pub(super) async fn volume_exists(&self, name: &str) -> Result<bool> {
        match self.engine.inspect_volume(name).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(Error::docker(format!("inspect volume {name}"))(error)),
        }
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        gone(self.engine.remove_volume(name, Some(options)).await)
            .map_err(Error::docker(format!("remove volume {name}")))
    }

    /// Runs a program to its end.
    pub(crate) async fn run(&self, exec: Exec<'_>, limit: Duration) -> Result<Ran> {
        let what = format!("{} in the sandbox", exec.command.first().copied().unwrap_or_default());
        let work = async {
            let mut program = self.spawn(exec).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(output) = program.output.next().await {
                let (sink, bytes) = match output? {
                    LogOutput::StdErr { message } => (&mut stderr, message),
                    other => (&mut stdout, other.into_bytes()),
                };
                let room = OUTPUT_LIMIT - sink.len().min(OUTPUT_LIMIT);
                sink.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            let code = self.exit_code(&program.id).await?.unwrap_or(-1);
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ok(Ran { code, stdout: text(stdout), stderr: text(stderr) })
        };
        timeout(limit, work).await.unwrap_or(Err(Error::Timeout { what, after: limit }))
    }

    /// Starts a program and gives its output as it comes.
    pub(super) async fn spawn(&self, exec: Exec<'_>) -> Result<Spawned> {
        let program = exec.command.first().copied().unwrap_or_default().to_owned();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.to_vec()),
            env: Some(exec.environment.to_vec()),
            user: exec.user,
            ..CreateExecOptions::default()
        };
        let failed = || Error::docker(format!("run {program}"));
        let id = self.engine.create_exec(exec.container, options).await.map_err(failed())?.id;
        let start = StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() };
        match self.engine.start_exec(&id, Some(start)).await.map_err(failed())? {
            StartExecResults::Attached { output, .. } => {
                let output = output.map_err(move |error| Error::docker(format!("read the output of {program}"))(error));
                Ok(Spawned { id, output: Box::pin(output) })
            }
            StartExecResults::Detached => Err(Error::Task(format!("{program} was started detached"))),
        }
    }

    /// Starts a program and gives it these bytes on its standard input, which then stays open.
    pub(crate) async fn spawn_fed(&self, exec: Exec<'_>, bytes: &[u8]) -> Result<Spawned> {
        let program = exec.command.first().copied().unwrap_or_default().to_owned();
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.to_vec()),
            env: Some(exec.environment.to_vec()),
            user: exec.user,
            ..CreateExecOptions::default()
        };
        let failed = || Error::docker(format!("run {program}"));
        let id = self.engine.create_exec(exec.container, options).await.map_err(failed())?.id;
        let start = StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() };
        match self.engine.start_exec(&id, Some(start)).await.map_err(failed())? {
            StartExecResults::Attached { output, mut input } => {
                let feeding = async {
                    input.write_all(bytes).await?;
                    input.flush().await
                };
                feeding.await.map_err(|source| failed()(source.into()))?;
                let output = output.map_err(move |error| Error::docker(format!("read the output of {program}"))(error));
                Ok(Spawned { id, output: Box::pin(output) })
            }
            StartExecResults::Detached => Err(Error::Task(format!("{program} was started detached"))),
        }
    }

    /// The exit code of a program whose output has ended; the engine may learn of it a moment later. None where it runs on all
    /// the same.
    pub(crate) async fn ended(&self, exec: &str) -> Result<Option<i64>> {
        for _ in 0..50 {
            if let Some(code) = self.exit_code(exec).await? {
                return Ok(Some(code));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }

    /// The exit code of a started program, none while it runs.
    pub(super) async fn exit_code(&self, exec: &str) -> Result<Option<i64>> {
        let state = self.engine.inspect_exec(exec).await.map_err(Error::docker("inspect a program"))?;
        Ok(if state.running == Some(true) { None } else { state.exit_code })
    }
}

/// A program to run in a container. Secrets are never in it: arguments and environment can be read by others.
pub(crate) struct Exec<'a> {
    pub container: &'a str,
    pub user: Option<&'a str>,
    pub command: &'a [&'a str],
    pub environment: &'a [&'a str],
}

/// A running program.
pub(crate) struct Spawned {
    pub id: String,
    pub output: std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput>> + Send>>,
}

fn by_label(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Removing what is gone already, or is being removed by somebody else, is done.
fn gone(result: Result<(), bollard::errors::Error>) -> Result<(), bollard::errors::Error> {
    match result {
        Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
        other => other,
    }
}
