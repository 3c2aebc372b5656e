//! Containers and volumes that are not ours: who uses a folder or a volume, and volumes made of folders. Nothing of others is
//! started, stopped or removed here, but a volume that somebody has asked to be replaced.

use std::{collections::HashMap, net::IpAddr, path::Path, time::Duration};

use bollard::{
    models::{ContainerCreateBody, ContainerSummaryStateEnum, HostConfig, VolumeCreateRequest},
    query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder},
};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    Container, Docker, Image, LABEL, User,
    docker::status,
    settings::{self, IDLE},
    teardown::Owner,
};
use crate::{
    error::{Error, Result},
    postgres::Lines,
};

/// What a log may give in one go.
const LOG_LIMIT: Duration = Duration::from_secs(60);
/// A container that only tells a user ends after this.
const ENDS: Duration = Duration::from_secs(60);

/// Who uses a place.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub id: String,
    pub name: String,
    pub running: bool,
}

/// A volume of the engine's own driver.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// The folder that it is bound to; none: one of the engine's own.
    pub device: Option<String>,
}

impl Docker {
    /// Containers, stopped ones too, that mount one of these volumes or folders.
    pub(crate) async fn users_of(&self, volumes: &[&str], folders: &[&Path]) -> Result<Vec<Used>> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let found = self.engine.list_containers(Some(options)).await.map_err(Error::docker("list containers"))?;
        let uses = |mount: &bollard::models::MountPoint| {
            let is_volume = mount.name.as_deref().is_some_and(|name| volumes.contains(&name));
            is_volume
                || mount.source.as_deref().is_some_and(|source| folders.iter().any(|one| *one == Path::new(source)))
        };
        let used = found.into_iter().filter(|one| one.mounts.iter().flatten().any(uses)).filter_map(|one| {
            let name = one.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let running = matches!(
                one.state,
                Some(
                    ContainerSummaryStateEnum::RUNNING
                        | ContainerSummaryStateEnum::PAUSED
                        | ContainerSummaryStateEnum::RESTARTING
                )
            );
            Some(Used { id: one.id?, name: name.trim_start_matches('/').to_owned(), running })
        });
        Ok(used.collect())
    }

    /// A container by name, and whether it runs.
    pub(crate) async fn named(&self, name: &str) -> Result<Used> {
        let found = self.inspect(name).await?;
        let running = found.state.and_then(|state| state.running) == Some(true);
        Ok(Used { id: found.id.unwrap_or_default(), name: name.to_owned(), running })
    }

    /// Where this host finds a container, and the image that it was made of.
    pub(crate) async fn whereabouts(&self, id: &str) -> Result<(Option<IpAddr>, String)> {
        let found = self.inspect(id).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let addresses = networks.values().filter_map(|network| network.ip_address.as_deref()?.parse().ok());
        Ok((addresses.into_iter().next(), found.image.unwrap_or_default()))
    }

    /// What a container has printed since it was started last, line by line.
    pub(crate) async fn log_lines(&self, id: &str, mut each: impl FnMut(&str)) -> Result<()> {
        let state = self.inspect(id).await?.state.unwrap_or_default();
        let started = state.started_at.and_then(|text| text.parse::<Timestamp>().ok());
        let since = started.and_then(|time| i32::try_from(time.as_second()).ok()).unwrap_or_default();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).since(since).build();
        let mut pieces = self.engine.logs(id, Some(options));
        let reading = async {
            let mut lines = Lines::default();
            while let Some(piece) = pieces.next().await {
                lines.feed(&piece.map_err(Error::docker(format!("read the log of {id}")))?, &mut each);
            }
            Ok(())
        };
        let what = || "reading a container's log".to_owned();
        timeout(LOG_LIMIT, reading).await.unwrap_or_else(|_| Err(Error::Timeout { what: what(), after: LOG_LIMIT }))
    }

    /// A volume, if there is one of that name.
    pub(crate) async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        match self.engine.inspect_volume(name).await {
            Ok(found) => Ok(Some(Volume { device: found.options.get("device").cloned() })),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(Error::docker(format!("inspect volume {name}"))(error)),
        }
    }

    /// Makes a volume that is a folder of the host.
    pub(crate) async fn bind_volume(&self, name: &str, folder: &Path) -> Result<()> {
        let text = |word: &str| word.to_owned();
        let options = [("type", text("none")), ("o", text("bind")), ("device", folder.display().to_string())];
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some("local".to_owned()),
            driver_opts: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            labels: Some(HashMap::from([("lifeboat.restored".to_owned(), folder.display().to_string())])),
            ..VolumeCreateRequest::default()
        };
        let made = self.engine.create_volume(request).await;
        made.map(drop).map_err(Error::docker(format!("make volume {name}")))
    }

    /// The user that an image's programs run as: asked in a container that does nothing else. One whose maker is killed ends by itself, and
    /// the engine removes it; one that never came to run is found by its labels.
    pub(crate) async fn user_of(&self, image: &Image, name: &str, run: &str) -> Result<User> {
        let fence = settings::fenced(&IDLE);
        let host = HostConfig { network_mode: Some("none".to_owned()), auto_remove: Some(true), ..fence };
        let deadline = Timestamp::now().saturating_add(ENDS).map_err(|error| Error::Task(error.to_string()))?;
        let labels = [
            (LABEL, run.to_owned()),
            ("lifeboat.owner", Owner::myself().to_string()),
            ("lifeboat.deadline", deadline.to_string()),
        ];
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            user: Some(settings::NOBODY.to_owned()),
            entrypoint: Some(vec!["sleep".to_owned()]),
            cmd: Some(vec![ENDS.as_secs().to_string()]),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let id = self.start(&format!("lifeboat-user-{name}-{run}"), body).await?;
        let asked = User::of(&Container::existing(self, "image", &id), image, name).await;
        self.remove_container(&id).await?;
        asked
    }
}
