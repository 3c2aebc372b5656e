//! The proof that a sandbox has no way out: what the engine says of its containers, what the kernel says inside them, and attempts
//! to get out, each written down with what was seen.
//!
//! It takes one program per container, and no attempt waits for an answer that will not come: without a network the kernel refuses
//! at once. An attempt that gets anywhere, or that has to wait, has found a route, and that is a leak. What could not be tried is no
//! proof, and the check is then not executed.

mod attempts;
mod engine;
mod host;
mod inside;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::{
    attempts::{Attempted, Target},
    host::Listeners,
    inside::Inside,
};
use super::{
    Container, Docker, Scope,
    secrets::{Hidden, Seen},
    settings,
};
use crate::{
    error::{Error, Result},
    ladder::Answer,
};

/// How long the attempts of one container may take: they wait for nothing where there is no way out.
const LIMIT: Duration = Duration::from_secs(20);

/// What was seen of the isolation, for the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The sandbox has no network but its own loopback interface.
    pub internal: bool,
    /// What is wrong; empty when there is no way out.
    pub leaks: Vec<String>,
    /// What was looked at.
    pub looked_at: Vec<String>,
    /// What was tried from inside, and what was seen.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// What could not be tried, and why: without it nothing is proved.
    #[serde(default)]
    pub untried: Vec<String>,
    /// Credentials of production: what was hidden, and what is in sight all the same.
    #[serde(skip)]
    pub(crate) secrets: (Hidden, Seen),
}

/// One attempt to get out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The container.
    pub from: String,
    /// What was tried: `this host at 10.0.0.7 by TCP`.
    pub at: String,
    /// What was seen.
    pub seen: String,
}

impl Isolation {
    /// What it means: what was not tried is no proof.
    pub(crate) fn answer(&self) -> Answer {
        match (self.leaks.as_slice(), self.untried.as_slice()) {
            ([], []) => Answer::passed(self.summary()),
            ([], untried) => Answer::not_executed(format!("isolation is not proved: {}", untried.join("; ")))
                .in_public(format!("isolation is not proved: {} attempts could not be made", untried.len())),
            (leaks, _) => Answer::failed(leaks.join("; ")),
        }
    }

    /// One line for a check.
    pub fn summary(&self) -> String {
        format!(
            "no network but the sandbox's own loopback, no published port, no capability; {} attempts to get out failed: this host at \
             each of its addresses, metadata address, DNS, other containers, addresses outside",
            self.attempts.len()
        )
    }

    fn judge(&mut self, from: &str, target: &Target, attempted: Attempted) {
        let at = target.to_string();
        match attempted {
            Attempted::Refused(seen) => {
                self.attempts.push(Attempt { from: from.to_owned(), at, seen: seen.into_owned() });
            }
            Attempted::Reached(how) => self.leaks.push(format!("{from} reaches {at}: {how}")),
            Attempted::Unknown(why) => self.untried.push(format!("{from}: {at}: {why}")),
        }
    }
}

pub(super) async fn prove(docker: &Docker, scope: &Scope, holder: &str, containers: &[Container]) -> Result<Isolation> {
    let mut isolation = Isolation::default();
    if containers.is_empty() {
        isolation.untried.push("there is no container to try it from".to_owned());
    }
    let (listeners, targets) = targets(docker, scope, holder, &mut isolation).await?;
    let token = random_token()?;
    let tries = containers.iter().map(|container| try_from(docker, scope, holder, container, &targets, &token));
    let tried = futures::future::join_all(tries).await;
    // Afterwards, so that a listener that hears this heard everything that came before.
    let heard = listeners.control(&token).await;
    let gone = listeners.gone();
    if !gone.is_empty() {
        let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
        isolation.looked_at.push(format!("addresses of this host that went away meanwhile: {}", gone.join(", ")));
    }
    isolation.internal = true;
    for (container, tried) in containers.iter().zip(tried) {
        let (mut claims, inside) = tried?;
        claims.leaks.extend(inside.strange_environment(&claims.environment));
        isolation.internal &= inside.is_alone();
        for claims in [claims, inside.claims()] {
            isolation.looked_at.extend(claims.seen.map(|seen| format!("{}: {seen}", container.role)));
            isolation.leaks.extend(claims.leaks.into_iter().map(|leak| format!("{} {leak}", container.role)));
            isolation.untried.extend(claims.unknown.into_iter().map(|why| format!("{}: {why}", container.role)));
        }
        for target in &targets {
            let attempted = attempts::judge(target, &inside.attempts, container.role, &heard);
            // Other containers come and go, and their ends of the line with them: where nothing is, nothing is reached.
            if matches!(attempted, Attempted::Unknown(_)) && target.is_at(&gone) {
                continue;
            }
            isolation.judge(container.role, target, attempted);
        }
    }
    Ok(isolation)
}

/// What is to be tried, with listeners of our own at every address of this host.
async fn targets(
    docker: &Docker,
    scope: &Scope,
    holder: &str,
    isolation: &mut Isolation,
) -> Result<(Listeners, Vec<Target>)> {
    let listeners = Listeners::open().await;
    isolation.untried.extend(listeners.problem.clone());
    isolation.looked_at.extend(listeners.noted.clone());
    let mut targets = listeners.targets();
    targets.extend(attempts::outside());
    targets.extend(attempts::resolvers(std::fs::read_to_string("/etc/resolv.conf").ok().as_deref()));
    let others = engine::others(docker, scope, holder).await?;
    targets.extend(others.addresses.iter().map(|address| Target::other(address)));
    isolation.looked_at.push(others.seen);
    isolation.leaks.extend(others.leaks);
    Ok((listeners, targets))
}

async fn try_from(
    docker: &Docker,
    scope: &Scope,
    holder: &str,
    container: &Container,
    targets: &[Target],
    token: &str,
) -> Result<(Claims, Inside)> {
    let arguments: Vec<String> = targets.iter().map(Target::argument).collect();
    let script = inside::script();
    let sender = format!("{}-{token}", container.role);
    let seconds = LIMIT.as_secs().to_string();
    let mut command = vec!["timeout", &seconds, "bash", "-c", &script, "bash", &sender];
    command.extend(arguments.iter().map(String::as_str));
    let limit = LIMIT + Duration::from_secs(15);
    let (claims, ran) = tokio::join!(
        engine::claims(docker, &scope.work, holder, container),
        container.run(settings::NOBODY, &command, limit)
    );
    let ran = ran?;
    Ok((claims?, Inside::parse(&ran.stdout, ran.code, &ran.tail())))
}

/// What somebody says of a container.
#[derive(Debug, Default)]
struct Claims {
    /// What was seen, in one line.
    seen: Option<String>,
    /// What must not be.
    leaks: Vec<String>,
    /// What could not be found out.
    unknown: Vec<String>,
    /// Names of the environment that the engine was told of, by the image and by us.
    environment: Vec<String>,
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use lifeboat_model::check::Verdict;

    use super::*;

    #[test]
    fn what_was_not_tried_is_no_proof() {
        let tried = Isolation { internal: true, ..Isolation::default() };
        assert_eq!(tried.answer().verdict, Verdict::Passed);
        let untried = Isolation { untried: vec!["odoo: bash: not found".into()], ..tried.clone() };
        assert!(matches!(untried.answer().verdict, Verdict::NotExecuted(why) if why.contains("bash")));
        let leak = Isolation { leaks: vec!["odoo publishes a port".into()], ..untried };
        assert!(matches!(leak.answer().verdict, Verdict::Failed(_)));
    }
}
