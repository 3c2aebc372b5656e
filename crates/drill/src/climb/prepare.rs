//! Rungs 1 to 4: what is to be rehearsed, brought into the sandbox's folder, and checked before anything is started on it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_evidence::drill::Worker;
use lifeboat_model::{size::ByteSize, time::Span};
use tokio_util::task::AbortOnDropHandle;

use super::{Climb, Places, own};
use crate::{
    checks,
    error::{Error, Result, with_causes},
    ladder::{self, Answer},
    odoo::{self, Layout},
    postgres,
    run::DrillRequest,
    sandbox::{
        Container, Docker, Image, Isolation, Limits, Sandbox, Scope, User,
        secrets::{self, Hidden},
        teardown,
    },
    source::{Fetched, Selected},
    timing::Timing,
};

/// What bringing everything into the folder is called.
pub(crate) const FETCH: &str = "fetch and place";
/// What making and starting a container is called.
const START: &str = "start containers";

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
    /// The proof that there is no way out, while it is being drawn up; none where none is needed.
    pub isolation: Option<AbortOnDropHandle<Result<Isolation>>>,
}

/// Odoo's container, and what the image turned out to be.
pub(super) struct Odoo {
    pub container: Container,
    pub user: User,
    pub probed: Result<odoo::Program, String>,
    /// Credentials in the restored addons.
    hidden: Hidden,
}

impl Climb {
    /// Rungs 1 and 2.
    pub(super) async fn select(&mut self, request: &DrillRequest, started: Timestamp) -> Result<Option<Found>> {
        self.begin_phase("select");
        let docker = Docker::connect(request.docker.as_deref()).await?;
        self.docker = Some(docker.clone());
        self.pulse.watch(&docker);
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
        if self.is_found(request) {
            return Ok(None);
        }
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
            deadline: (request.clock)() + request.config.timeout.0 + request.held_at_most(),
            work: places.work.clone(),
        };
        let fetching = Instant::now();
        if let Err(error) = request.source.size().await.and_then(|size| self.disk.reserve(size)) {
            let passed = self.stop_unless_passed(&ladder::FETCH, Answer::broken(&error), fetching.elapsed());
            return Ok(passed.and(None));
        }
        let docker = &found.docker;
        let (fetched, made, odoo) = tokio::join!(
            self.timing.during(Worker::Own, FETCH, request.source.fetch(&found.selected, &places.restored)),
            async {
                let image = docker.image("postgres", &request.config.postgres_image).await?;
                let sandbox = Sandbox::create(docker.clone(), scope, &image).await?;
                Ok::<_, Error>((image, sandbox))
            },
            async {
                match request.needs_odoo() {
                    true => docker.image("odoo", &request.config.odoo_image).await,
                    false => Err(Error::NotNeeded),
                }
            },
        );
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                let passed = self.stop_unless_passed(&ladder::FETCH, Answer::broken(&error), fetching.elapsed());
                return Ok(passed.and(None));
            }
        };
        self.notes.extend(fetched.notes.iter().cloned());
        self.timing.moved(fetched.files, fetched.bytes);
        self.timing.carried(FETCH, fetched.bytes);
        self.disk.restored(fetched.bytes);
        let answer = match fetched.damage.is_empty() {
            true => Answer::passed(format!("{} files, {}", fetched.files, ByteSize(fetched.bytes))),
            false => Answer::failed(checks::some(&fetched.damage, fetched.damage.len() as u64))
                .in_public(format!("{} objects are damaged or missing", fetched.damage.len())),
        };
        if self.stop_unless_passed(&ladder::FETCH, answer, fetching.elapsed()).is_none() {
            return Ok(None);
        }
        if let Some(sabotage) = &request.sabotage {
            sabotage.placed(&request.own_copy(places, &fetched)).await?;
        }
        let (postgres, sandbox) = match made {
            Ok(made) => made,
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
        let limits = Limits { memory: request.memory_of_each(), pids: 512 };
        let binds = postgres::binds(&places.restored, &places.settings, &places.socket);
        let timing = self.timing.clone();
        let (started, odoo) = tokio::join!(
            async {
                let starting = sandbox.start("postgres", &image, limits, &binds);
                let container = timing.during(Worker::Own, START, starting).await?;
                let user = timing.docker_begins(User::of(&container, &image, "postgres")).await?;
                let tablespaces = places.restored.join("tablespaces");
                for folder in [&places.pgdata, &places.settings, &places.socket, &tablespaces] {
                    own(user, folder).await?;
                }
                let limit = request.config.timeout.0;
                let files = checks::files::verify(&places.pgdata, (&container, user), limit, &timing).await;
                Ok::<_, Error>((container, user, files))
            },
            start_odoo(&sandbox, odoo, limits, (&layout, &places.work), &timing),
        );
        let (postgres, user, files) = started?;
        files.into_iter().for_each(|check| self.ladder.record(check));
        if !self.ladder.passed(&ladder::MANIFEST) {
            return Ok(self.stop_at(&ladder::MANIFEST));
        }
        if self.is_found(request) {
            return Ok(None);
        }
        let hidden = secrets::hide_in_cluster(places.pgdata.clone(), user).await?;
        let isolation = request.needs_odoo().then(|| prove(sandbox, hidden, (&postgres, user), odoo.as_ref().ok()));
        Ok(Some(Prepared { fetched, layout, postgres, user, odoo, isolation }))
    }
}

pub(super) async fn start_odoo(
    sandbox: &Sandbox,
    image: Result<Image>,
    limits: Limits,
    (layout, work): (&Layout, &Path),
    timing: &Timing,
) -> Result<Odoo> {
    let image = image?;
    let hidden = secrets::hide_in_addons(layout.addons.clone()).await?;
    let binds = layout.binds(work);
    let starting = sandbox.start("odoo", &image, limits, &binds);
    let container = timing.during(Worker::Own, START, starting).await?;
    let user = match User::of(&container, &image, "odoo").await {
        Ok(user) => user,
        Err(error) => {
            let probed = Err(format!("image {} has no user for Odoo: {}", image.reference, with_causes(&error)));
            return Ok(Odoo { container, user: User { uid: 65534, gid: 65534 }, probed, hidden });
        }
    };
    for path in layout.owned(work) {
        own(user, &path).await?;
    }
    let probed = odoo::probe(&container, &image, user, layout, timing).await?;
    Ok(Odoo { container, user, probed, hidden })
}

/// Draws up the proof that there is no way out and no credential in sight, beside whatever else is done.
pub(super) fn prove(
    sandbox: Sandbox,
    mut hidden: Hidden,
    (postgres, user): (&Container, User),
    odoo: Option<&Odoo>,
) -> AbortOnDropHandle<Result<Isolation>> {
    hidden.paths.extend(odoo.iter().flat_map(|odoo| odoo.hidden.paths.iter().cloned()));
    let mut inside = vec![(postgres.clone(), user)];
    inside.extend(odoo.map(|odoo| (odoo.container.clone(), odoo.user)));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let containers: Vec<Container> = inside.iter().map(|(container, _)| container.clone()).collect();
        let (isolation, seen) = tokio::join!(sandbox.isolation(&containers), secrets::look(&inside));
        isolation.map(|isolation| Isolation { secrets: (hidden, seen), ..isolation })
    }))
}
