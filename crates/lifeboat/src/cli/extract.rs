//! `lifeboat restore --database`: one database of a shared cluster, out of a recovery point or any moment that is held. The whole
//! cluster is restored into a sandbox and the database dumped there; no server but the sandbox's is touched.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use lifeboat_drill::{
    extract::{self, ExtractRequest, Extracted, NewFile, Restored},
    ladder::Observer,
    point::RepositoryPoint,
};
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::{Session, identity::IdentityArgs, moment::MomentArgs, place::Place};
use crate::{
    exit::Exit,
    failure::{Advise as _, Result},
    log::Voice,
    output::{Answer, Page, bytes, count, moment, seconds},
    progress::Meter,
    wire,
};

/// Which database, of which moment.
pub struct Wanted<'a> {
    pub instance: &'a Instance,
    pub database: &'a str,
    pub moment: &'a MomentArgs,
    pub identity: &'a IdentityArgs,
    pub place: &'a Place,
}

/// What every extraction tells.
#[derive(Serialize)]
pub struct Source {
    pub instance: String,
    pub database: String,
    /// What was restored, in words.
    pub restored: String,
    pub point: Option<String>,
    pub postgres_version: String,
    /// The newest commit that replay met; none where it met none.
    pub newest_commit: Option<Timestamp>,
    pub seconds: f64,
    pub teardown: Teardown,
    pub remarks: Vec<String>,
}

/// What was removed; nothing is left.
#[derive(Serialize)]
pub struct Teardown {
    pub containers: u64,
    pub networks: u64,
    pub volumes: u64,
}

impl Source {
    fn new<T>(wanted: &Wanted<'_>, done: &Extracted<T>, seconds: f64) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Source {
            instance: wanted.instance.to_string(),
            database: wanted.database.to_owned(),
            restored: done.selected.name.clone(),
            point: done.selected.point.as_ref().map(|point| point.id.to_string()),
            postgres_version: done.postgres_version.clone(),
            newest_commit: done.newest_commit,
            seconds,
            teardown: Teardown {
                containers: count(done.teardown.containers),
                networks: count(done.teardown.networks),
                volumes: count(done.teardown.volumes),
            },
            remarks: done.notes.clone(),
        }
    }

    /// The lines about where the data comes from, and that nothing is left.
    pub fn text(&self, page: &mut Page) {
        page.field("restored", &self.restored);
        page.field("PostgreSQL", &self.postgres_version);
        if let Some(commit) = self.newest_commit {
            page.field("newest commit", moment(commit));
        }
        let containers = count(self.teardown.containers, "container", "containers");
        page.field("sandbox", format_args!("gone: {containers}, its network and its folder"));
        for remark in &self.remarks {
            page.field("note", remark);
        }
    }
}

/// Tells the phases.
struct Teller(Voice);

impl Observer for Teller {
    fn phase(&self, name: &str) {
        self.0.say(&format!("{name} …"));
    }
}

/// Restores into a sandbox, lets `work` take out what it wants, and tells where it came from.
pub async fn run<T>(
    session: &Session,
    wanted: &Wanted<'_>,
    title: &str,
    work: impl AsyncFnOnce(&Restored) -> lifeboat_drill::Result<T>,
) -> Result<(T, Source)> {
    let loaded = wanted.place.load(session)?;
    let (_, instance) = loaded.config.instance(wanted.instance.as_str())?;
    let instance = instance.clone();
    let identities = wire::recovery_identities(wanted.identity, &loaded.config)?;
    let (repository, config) = wire::open_for_reading(&loaded).await?;
    let repo = repository.instance(&config.tenant, wanted.instance);
    // Planned here too: what cannot be reached, and an identity that opens nothing, are told before a sandbox is made.
    let plan = wanted.moment.plan(&repo, config, &identities).await?;
    wire::opens(&plan.base, &identities)?;
    let wish = wanted.moment.wish(&repo).await?;
    let meter = Meter::start(&session.voice, format!("{title} {}", wanted.instance));
    let keys = (config.keys.trusted_keys.clone(), identities);
    let source = RepositoryPoint::new(repo, wish, keys, session.clock.clone(), meter.clone(), session.cancel.clone());
    let request = ExtractRequest {
        run: lifeboat_engine::record::new_run()?,
        tenant: config.tenant.clone(),
        instance: wanted.instance.clone(),
        login_hint: instance.postgres.user.clone(),
        config: instance.drill.clone(),
        source: Arc::new(source),
        // Containers mount folders below it: Docker takes absolute paths only.
        work_root: std::path::absolute(config.engine.state_dir.join("drills"))?,
        docker: wire::environment("DOCKER_HOST"),
        clock: session.clock.clone(),
    };
    let begun = std::time::Instant::now();
    let done = extract::run(request, &Teller(session.voice.clone()), &session.cancel, work).await;
    drop(meter);
    let done = done
        .safe("the instance and the repository are as they were, and no file was made")
        .context(format!("{title} of {} failed", wanted.instance))?;
    let source = Source::new(wanted, &done, begun.elapsed().as_secs_f64());
    Ok((done.value, source))
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    source: Source,
    file: PathBuf,
    bytes: u64,
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.restore-database/1";

    fn text(&self, page: &mut Page) {
        let Source { instance, database, seconds: took, .. } = &self.source;
        page.line(format_args!(
            "{} of {instance} as {}, {}, in {}",
            database,
            self.file.display(),
            bytes(self.bytes),
            seconds(*took)
        ));
        self.source.text(page);
        page.gap();
        page.line("It holds one database: no roles, no filestore. Into a new database of any server of this or a later major:");
        page.line(format_args!("Next: pg_restore --no-owner --dbname NEW {}", self.file.display()));
    }
}

/// One database into a file for `pg_restore`.
pub async fn restore_database(session: &Session, wanted: &Wanted<'_>, to: &Path) -> Result<Exit> {
    let file = NewFile::create(to)?;
    let work = async move |restored: &Restored| restored.dump_to(wanted.database, file).await;
    let ((bytes, file), source) = run(session, wanted, "restore", work).await?;
    file.publish()?;
    session.output.show(&Done { source, file: to.to_owned(), bytes })?;
    Ok(Exit::Ok)
}
