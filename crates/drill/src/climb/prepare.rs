//! Rungs 1 to 4: what is to be rehearsed, brought into the sandbox's folder, and checked before anything is started on it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_model::{size::ByteSize, time::Span};
use tokio_util::task::AbortOnDropHandle;

use super::{Climb, Places, own};
use crate::{
    checks,
    error::{Error, Result, chain},
    ladder::{self, Answer},
    odoo::{self, Layout},
    postgres,
    run::DrillRequest,
    sandbox::{Container, Docker, Image, Isolation, Limits, Sandbox, Scope, User, teardown},
    source::{Fetched, Selected},
};

/// What was selected.
pub(super) struct Found {
    pub docker: Docker,
    pub selected: Selected,
}

/// What was fetched, and what it is started in.
pub(super) struct Brought {
    pub fetched: Fetched,
    pub sandbox: Sandbox,
    pub postgres: Image,
    pub odoo: Result<Image>,
}

/// Containers around the restored data.
pub(super) struct Prepared {
    pub fetched: Fetched,
    pub layout: Layout,
    pub postgres: Container,
    pub user: User,
    pub odoo: Result<Odoo>,
    /// The proof that there is no way out, while it is being drawn up.
    pub isolation: Option<AbortOnDropHandle<Result<Isolation>>>,
}

/// Odoo's container, and what the image turned out to be.
pub(super) struct Odoo {
    pub container: Container,
    pub user: User,
    pub probed: Result<odoo::Program, String>,
}

impl Climb {
    /// Rungs 1 and 2.
    pub(super) async fn select(&mut self, request: &DrillRequest, started: Timestamp) -> Result<Option<Found>> {
        self.begin_phase("select");
        let docker = Docker::connect(request.docker.as_deref()).await?;
        self.docker = Some(docker.clone());
        let orphans = teardown::orphans(&docker, &request.work_root, started).await?;
        self.public_notes.extend(orphans.into_iter().map(|orphan| format!("left by a dead drill: {orphan}")));
        let selecting = Instant::now();
        let selected = match request.source.select().await {
            Ok(selected) => selected,
            Err(error) => {
                let passed = self.stop_unless_passed(&ladder::SELECT, Answer::broken(&error), selecting.elapsed());
                return Ok(passed.and(None));
            }
        };
        let age = Span(Duration::from_secs(selected.age_seconds));
        let answer = Answer::passed(format!("{}, {age} old", selected.name));
        self.ladder.record(ladder::SELECT.answered(answer, selecting.elapsed()));
        for check in selected.checks.clone() {
            self.ladder.record(check);
        }
        self.selected = Some(selected.clone());
        Ok(Some(Found { docker, selected }))
    }

    /// Rung 3, while images are looked up and the network is made.
    pub(super) async fn fetch(
        &mut self,
        request: &DrillRequest,
        started: Timestamp,
        found: &Found,
        places: &Places,
    ) -> Result<Option<Brought>> {
        self.begin_phase("fetch and place");
        let scope = Scope {
            run: request.run,
            tenant: request.tenant.clone(),
            instance: request.instance.clone(),
            started,
            deadline: started + request.config.timeout.0,
            work: places.work.clone(),
        };
        let fetching = Instant::now();
        let docker = &found.docker;
        let (fetched, postgres, odoo, sandbox) = tokio::join!(
            request.source.fetch(&found.selected, &places.restored),
            docker.image("postgres", &request.config.postgres_image),
            docker.image("odoo", &request.config.odoo_image),
            Sandbox::create(docker.clone(), scope),
        );
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                let passed = self.stop_unless_passed(&ladder::FETCH, Answer::broken(&error), fetching.elapsed());
                return Ok(passed.and(None));
            }
        };
        self.notes.extend(fetched.notes.iter().cloned());
        self.end_phase(Some((fetched.files, fetched.bytes)));
        let answer = match fetched.damage.is_empty() {
            true => Answer::passed(format!("{} files, {}", fetched.files, ByteSize(fetched.bytes))),
            false => Answer::failed(checks::some(&fetched.damage, fetched.damage.len() as u64))
                .in_public(format!("{} objects are damaged or missing", fetched.damage.len())),
        };
        if self.stop_unless_passed(&ladder::FETCH, answer, fetching.elapsed()).is_none() {
            return Ok(None);
        }
        if let Some(sabotage) = &request.sabotage {
            sabotage.placed(&places.restored).await?;
        }
        let sandbox = sandbox?;
        let postgres = match postgres {
            Ok(image) => image,
            Err(error) => {
                let passed = self.stop_unless_passed(&ladder::REPLAY, Answer::broken(&error), Duration::ZERO);
                return Ok(passed.and(None));
            }
        };
        self.images.push(postgres.clone());
        self.images.extend(odoo.as_ref().ok().cloned());
        Ok(Some(Brought { fetched, sandbox, postgres, odoo }))
    }

    /// Rung 4, while Odoo's container is made and asked what it is.
    pub(super) async fn prepare(
        &mut self,
        request: &DrillRequest,
        brought: Brought,
        places: &Places,
    ) -> Result<Option<Prepared>> {
        self.begin_phase("verify files");
        let Brought { fetched, sandbox, postgres: image, odoo } = brought;
        postgres::write_settings(&places.settings)?;
        postgres::make_socket_folder(&places.socket)?;
        let layout = Layout::find(&places.restored, &request.databases, &request.config.addons);
        layout.prepare(&places.work)?;
        // Two containers share what the sandbox may have.
        let limits = Limits { memory: ByteSize(request.config.memory.0 / 2), pids: 512 };
        let binds = postgres::binds(&places.restored, &places.settings, &places.socket);
        let (started, odoo) = tokio::join!(
            async {
                let container = sandbox.start("postgres", &image, limits, &binds).await?;
                let user = User::of(&container, &image, "postgres").await?;
                let tablespaces = places.restored.join("tablespaces");
                for folder in [&places.pgdata, &places.settings, &places.socket, &tablespaces] {
                    own(user, folder).await?;
                }
                let files = checks::files::verify(&places.pgdata, &container, user, request.config.timeout.0).await;
                Ok::<_, Error>((container, user, files))
            },
            start_odoo(&sandbox, odoo, limits, &layout, &places.work),
        );
        let (postgres, user, files) = started?;
        files.into_iter().for_each(|check| self.ladder.record(check));
        if !self.ladder.passed(&ladder::MANIFEST) {
            return Ok(self.stop_at(&ladder::MANIFEST));
        }
        // It takes three seconds to be sure that nobody answers: meanwhile the climb goes on.
        let isolated: Vec<Container> =
            [&postgres].into_iter().chain(odoo.as_ref().ok().map(|odoo| &odoo.container)).cloned().collect();
        let isolation = tokio::spawn(async move { sandbox.isolation(&isolated).await });
        let isolation = Some(AbortOnDropHandle::new(isolation));
        Ok(Some(Prepared { fetched, layout, postgres, user, odoo, isolation }))
    }
}

pub(super) async fn start_odoo(
    sandbox: &Sandbox,
    image: Result<Image>,
    limits: Limits,
    layout: &Layout,
    work: &Path,
) -> Result<Odoo> {
    let image = image?;
    let container = sandbox.start("odoo", &image, limits, &layout.binds(work)).await?;
    let user = match User::of(&container, &image, "odoo").await {
        Ok(user) => user,
        Err(error) => {
            let probed = Err(format!("image {} has no user for Odoo: {}", image.reference, chain(&error)));
            return Ok(Odoo { container, user: User { uid: 65534, gid: 65534 }, probed });
        }
    };
    for path in layout.owned(work) {
        own(user, &path).await?;
    }
    let probed = odoo::probe(&container, &image, user, layout).await?;
    Ok(Odoo { container, user, probed })
}
