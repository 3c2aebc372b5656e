//! Whether the instances that a run would destroy live. What cannot be told counts as living: only a database that surely does not
//! answer lets a run begin by a *yes* alone.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use lifeboat_model::config::PostgresConfig;
use lifeboat_runbook::{consent::Destroying, plan::Plan};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::selection::Selected;

/// How long a server is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a resolver says of a name that is not there. One that cannot be asked says something else.
const NO_NAME: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "nodename nor servname provided",
    "Name does not resolve",
];

/// What is there to be destroyed.
#[derive(Debug, Default)]
pub(super) struct Living {
    /// Instances that live, or may.
    pub names: BTreeSet<String>,
    /// Why, in words, of each; and of what nobody knows.
    pub words: Vec<String>,
    /// Why others do not.
    pub dead: Vec<String>,
}

/// Asks every instance that one of these steps is about.
pub(super) async fn of(selected: &Selected, plan: &Plan, destroying: &[Destroying]) -> Living {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut living = Living::default();
    for Destroying { step, instances, .. } in destroying {
        let selected = selected.instance(plan).map(|instance| instance.to_string());
        let about: Vec<&String> = match instances.is_empty() {
            true => selected.iter().collect(),
            false => instances.iter().collect(),
        };
        if about.is_empty() || about.iter().any(|name| name.contains("{{")) {
            living.words.push(format!("nobody can tell beforehand which instance {step} is about"));
        }
        wanted.extend(about.into_iter().filter(|name| !name.contains("{{")).cloned());
    }
    for name in wanted {
        match answer(selected, &name).await {
            Answer::None(why) => living.dead.push(format!("{name} does not answer: {why}")),
            Answer::Some(words) => {
                living.words.push(format!("{name}, {words}"));
                living.names.insert(name);
            }
        }
    }
    living
}

/// What a server says.
#[derive(Debug)]
enum Answer {
    /// Surely nothing, because of this.
    None(String),
    /// It answers, or that cannot be told: which of both, in words.
    Some(String),
}

async fn answer(selected: &Selected, name: &str) -> Answer {
    let Some(config) = &selected.around.config else {
        let why = selected.around.unknown.as_deref().unwrap_or("there is no configuration");
        return Answer::Some(format!("of which it is not known whether it answers: {why}"));
    };
    match config.instance(name) {
        Ok((_, instance)) => at(&instance.postgres).await,
        Err(error) => Answer::Some(format!("of which it is not known whether it answers: {error}")),
    }
}

/// Whether anybody takes a connection there. Nobody signs in: one that lets nobody in lives as well.
async fn at(server: &PostgresConfig) -> Answer {
    let place = match server.host.contains(':') {
        true => format!("[{}]:{}", server.host, server.port),
        false => format!("{}:{}", server.host, server.port),
    };
    match timeout(PATIENCE, connect(&server.host, server.port)).await {
        Ok(Ok(())) => Answer::Some(format!("PostgreSQL at {place} answers")),
        Ok(Err(why)) if why.is_sure => Answer::None(format!("PostgreSQL at {place}: {}", why.words)),
        Ok(Err(why)) => Answer::Some(format!("PostgreSQL at {place} may answer: {}", why.words)),
        Err(_) => {
            Answer::Some(format!("PostgreSQL at {place} may answer: it said nothing for {} s", PATIENCE.as_secs()))
        }
    }
}

/// Why a connection was not taken.
struct Refusal {
    /// Whether nobody can be there.
    is_sure: bool,
    words: String,
}

async fn connect(host: &str, port: u16) -> Result<(), Refusal> {
    if host.starts_with('/') {
        let failed = match UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_sure = matches!(failed.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        return Err(Refusal { is_sure, words: failed.to_string() });
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| unresolved(&error))?.collect();
    let mut failed = Vec::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => failed.push(error),
        }
    }
    Err(refused(&failed))
}

fn unresolved(error: &io::Error) -> Refusal {
    let words = error.to_string();
    Refusal { is_sure: NO_NAME.iter().any(|known| words.contains(known)), words }
}

/// Sure if every address says that nobody is there. A host without a way to one of several addresses learns nothing from that one.
fn refused(failed: &[io::Error]) -> Refusal {
    let is_refused = |kind| matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable);
    let is_no_way = |kind| matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable);
    let kinds = || failed.iter().map(io::Error::kind);
    let is_sure = kinds().any(is_refused) && kinds().all(|kind| is_refused(kind) || is_no_way(kind));
    let words = failed.iter().find(|error| is_refused(error.kind()) == is_sure).or(failed.last());
    Refusal { is_sure, words: words.map_or_else(|| "it has no address".to_owned(), ToString::to_string) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_does_not_answer_is_dead() {
        use ErrorKind::{
            AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
            PermissionDenied, TimedOut,
        };
        let dead = [
            &[ConnectionRefused][..],
            &[HostUnreachable],
            &[AddrNotAvailable, ConnectionRefused],
            &[NetworkUnreachable, HostUnreachable],
        ];
        let living = [
            &[][..],
            &[TimedOut],
            &[ConnectionReset],
            &[PermissionDenied],
            &[NetworkUnreachable],
            &[ConnectionRefused, TimedOut],
        ];
        for (kinds, is_sure) in dead.map(|kinds| (kinds, true)).into_iter().chain(living.map(|kinds| (kinds, false))) {
            let failed: Vec<io::Error> = kinds.iter().map(|kind| io::Error::from(*kind)).collect();
            assert_eq!(refused(&failed).is_sure, is_sure, "{kinds:?}");
        }
        let said =
            |words: &str| unresolved(&io::Error::other(format!("failed to lookup address information: {words}")));
        assert!(said("Name or service not known").is_sure);
        assert!(!said("Temporary failure in name resolution").is_sure, "the resolver is away: nobody knows");
    }
}
