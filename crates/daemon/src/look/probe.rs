//! What the instances need, asked whether it answers: repositories, PostgreSQL servers, Docker. Cheap, and often enough that
//! a trouble is told, and its end, within a minute. By the machine's own time, not the daemon's: it is about waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use lifeboat_drill::sandbox::Docker;
use lifeboat_model::{
    config::DumpProgram,
    id::{Instance, Tenant},
};
use lifeboat_repo::repository::Repository;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    facts::{begin_repository, trouble_of_repository},
    nudge,
};
use crate::{Daemon, Error, error::with_causes, job::Verb, policies::Site, schedule::Schedule, view::Trouble};

/// How often all are asked where there are many, at most.
const EVERY_OF_MANY: Duration = Duration::from_secs(50);
/// So many are many.
const MANY: usize = 200;
/// Whoever did not answer is asked again after this time.
const SOON: Duration = Duration::from_secs(5);
/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Asked at the same time.
pub(super) const AT_ONCE: usize = 64;
/// PostgreSQL's request for GSS encryption. Any server answers it with one byte, before anybody signs in, and says nothing
/// of it in its log.
const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// Something that is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Needed {
    Repository(Tenant),
    Postgres(String, u16),
    Docker,
}

/// Who needs it.
type Needs = BTreeMap<Needed, BTreeSet<(Tenant, Instance)>>;

/// Asks until it is cancelled.
pub(super) async fn run(daemon: &Arc<Daemon>, cancel: &CancellationToken) {
    let mut silent: BTreeSet<Needed> = BTreeSet::new();
    let mut last: Option<Instant> = None;
    loop {
        let needs = needs(daemon);
        let often = daemon.policies().settings.probe_every;
        let every = every(daemon, needs.len());
        let all = last.is_none_or(|at| at.elapsed() >= every);
        if all {
            last = Some(Instant::now());
            gone(daemon, &silent, &needs);
            silent.retain(|needed| needs.contains_key(needed));
        }
        // Each owns what it asks: closures over borrowed ones would keep the future from being `Send`.
        let asked: Vec<Needed> = needs.keys().filter(|needed| all || silent.contains(*needed)).cloned().collect();
        let asking = asked.into_iter().map(|needed| async move {
            let answer = ask(daemon, &needed).await;
            (needed, answer)
        });
        let mut answers = stream::iter(asking).buffer_unordered(AT_ONCE);
        let mut closing = Vec::new();
        // Each is told as it comes: those that say nothing must not hold up what is known of the others.
        loop {
            let (needed, answer) = tokio::select! {
                answer = answers.next() => match answer {
                    Some(answer) => answer,
                    None => break,
                },
                () = cancel.cancelled() => return,
            };
            let Some(whose) = needs.get(&needed) else { continue };
            let again = silent.contains(&needed) && answer.is_ok();
            if let (Needed::Repository(tenant), Err(Error::Silent { .. })) = (&needed, &answer) {
                closing.push(tenant.clone());
            }
            match &answer {
                Ok(()) => silent.remove(&needed),
                Err(_) => silent.insert(needed.clone()),
            };
            tell(daemon, &needed, whose, answer);
            if again {
                // It was away: facts may be unknown for that reason alone.
                whose.iter().for_each(|(tenant, instance)| nudge(daemon, tenant, instance));
                daemon.desk.answers_again(whose);
            }
        }
        // Whoever uses such a repository as it is tries again for long. Opened anew, it says at once what is wrong. Not above:
        // that may wait for whoever opens it, and nobody is heard meanwhile.
        for tenant in &closing {
            daemon.looking.opened.close(tenant).await;
        }
        let pause = if silent.is_empty() { often } else { SOON.min(often) };
        tokio::select! {
            () = sleep(pause) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// How often so many are asked.
pub(super) fn every(daemon: &Daemon, many: usize) -> Duration {
    let often = daemon.policies().settings.probe_every;
    if many > MANY { often.max(EVERY_OF_MANY) } else { often }
}

/// What is needed now.
fn needs(daemon: &Daemon) -> Needs {
    let mut needs = Needs::new();
    for (tenant, site) in &daemon.policies().sites {
        for (instance, config) in &site.config.instances {
            let one = (tenant.clone(), instance.clone());
            let server = Needed::Postgres(config.postgres.host.clone(), config.postgres.port);
            needs.entry(server).or_default().insert(one.clone());
            needs.entry(Needed::Repository(tenant.clone())).or_default().insert(one);
        }
        if needs_docker(site) {
            needs.entry(Needed::Docker).or_default();
        }
    }
    needs
}

/// Whether a site cannot do without Docker.
pub(crate) fn needs_docker(site: &Site) -> bool {
    site.schedules.iter().any(|schedule| starts_containers(schedule, site))
}

/// Whether runs of a schedule start containers. A dump does where no program of the host is wanted.
fn starts_containers(schedule: &Schedule, site: &Site) -> bool {
    match schedule.verb {
        Verb::Drill { .. } | Verb::Control { .. } => true,
        Verb::Dump => schedule.instances(&site.config).into_iter().flatten().any(|name| {
            site.config.instances.get(&name).is_some_and(|instance| instance.dump.program == DumpProgram::Image)
        }),
        _ => false,
    }
}

async fn ask(daemon: &Daemon, needed: &Needed) -> Result<(), Error> {
    let late = || {
        let who = match needed {
            Needed::Repository(tenant) => {
                let policies = daemon.policies();
                policies.sites.get(tenant).map(|site| daemon.looking.place(tenant, &site.config))
            }
            Needed::Postgres(..) | Needed::Docker => None,
        };
        // Without the words on its locks.
        let of =
            who.as_deref().and_then(|who| who.split(" (").next()).map(|who| format!(" from {who}")).unwrap_or_default();
        Error::Silent { why: format!("no answer{of} within {} s", PATIENCE.as_secs()) }
    };
    let silent = |why: &dyn std::error::Error| Error::Silent { why: with_causes(why) };
    let asked = async {
        match needed {
            Needed::Repository(tenant) => {
                let context = daemon.context(tenant).await?;
                Repository::open(context.repository.store().clone())
                    .await
                    .map(drop)
                    .map_err(|error| Error::Engine(error.into()))
            }
            Needed::Postgres(host, port) => postgres(host, *port).await.map_err(|error| silent(&error)),
            Needed::Docker => {
                let address = (daemon.surroundings.environment)("DOCKER_HOST");
                Docker::connect(address.as_deref()).await.map(drop).map_err(|error| silent(&error))
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

pub(super) async fn postgres(host: &str, port: u16) -> io::Result<()> {
    async fn question(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        stream.write_all(&QUESTION).await?;
        match stream.read_u8().await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::other("it takes connections and ends them at once"))
            }
            Err(error) => Err(error),
        }
    }
    if host.starts_with('/') {
        return question(UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await?).await;
    }
    question(TcpStream::connect((host, port)).await?).await
}

/// Begins or ends the troubles of all who need it.
fn tell(daemon: &Daemon, needed: &Needed, whose: &BTreeSet<(Tenant, Instance)>, answer: Result<(), Error>) {
    match (needed, answer) {
        (Needed::Repository(tenant), Ok(())) => {
            daemon.troubles.end_aloud(Some(tenant.as_str()), &trouble_of_repository(daemon, tenant), |_| true);
        }
        (Needed::Repository(tenant), Err(error)) => begin_repository(daemon, tenant, &error),
        (Needed::Postgres(host, port), answer) => {
            for (tenant, instance) in whose {
                let of = format!("postgres {instance}");
                match &answer {
                    // That it answers says nothing of signing in: the look that follows does.
                    Ok(()) => daemon
                        .troubles
                        .end_aloud(Some(tenant.as_str()), &of, |trouble| trouble.text.starts_with(UNREACHABLE)),
                    Err(error) => daemon.troubles.begin_aloud(Trouble {
                        tenant: Some(tenant.to_string()),
                        of,
                        since: daemon.now(),
                        text: format!("{UNREACHABLE} at {host}:{port}: {error}"),
                        next: Some("lifeboat doctor".to_owned()),
                    }),
                }
            }
        }
        (Needed::Docker, Ok(())) => daemon.troubles.end_aloud(None, "docker", |_| true),
        (Needed::Docker, Err(error)) => daemon.troubles.begin_aloud(Trouble {
            tenant: None,
            of: "docker".to_owned(),
            since: daemon.now(),
            text: format!("what needs containers (drills, controls, dumps by an image) cannot run: {error}"),
            next: Some("lifeboat doctor".to_owned()),
        }),
    }
}

const UNREACHABLE: &str = "PostgreSQL does not answer";

/// What nobody needs any more troubles nobody.
fn gone(daemon: &Daemon, silent: &BTreeSet<Needed>, needs: &Needs) {
    if silent.contains(&Needed::Docker) && !needs.contains_key(&Needed::Docker) {
        daemon.troubles.end(None, "docker");
    }
    let policies = daemon.policies();
    for trouble in daemon.troubles.all() {
        let Some(Ok(tenant)) = trouble.tenant.as_deref().map(str::parse::<Tenant>) else { continue };
        let site = policies.sites.get(&tenant);
        let is_ours = trouble.of.starts_with("repository ") || trouble.of.starts_with("postgres ");
        let instance = trouble.of.strip_prefix("postgres ").and_then(|name| name.parse::<Instance>().ok());
        let is_known = site.is_some_and(|site| match &instance {
            Some(instance) => site.config.instances.contains_key(instance),
            None => trouble.of == trouble_of_repository(daemon, &tenant),
        });
        if is_ours && !is_known {
            daemon.troubles.end(trouble.tenant.as_deref(), &trouble.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_repository_of_another_name_troubles_nobody_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = testing::daemon(folder.path(), Arc::new(|| {}));
        let tenant: Tenant = "acme".parse().unwrap();
        let name = trouble_of_repository(&daemon, &tenant);
        for of in [&name, "repository before"] {
            daemon.troubles.begin(Trouble {
                tenant: Some(tenant.to_string()),
                of: of.to_owned(),
                since: daemon.now(),
                text: "no answer".to_owned(),
                next: None,
            });
        }
        gone(&daemon, &BTreeSet::new(), &needs(&daemon));
        let all: Vec<String> = daemon.troubles.all().into_iter().map(|trouble| trouble.of).collect();
        assert_eq!(all, [name]);
    }
}
