//! The dependency map, asked again and again: each address once, however many instances need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_model::{
    config::Dependency,
    id::{DependencyName, Instance, Tenant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    dependency::{Asker, Way},
    probe,
};
use crate::{
    Daemon,
    view::{DependencyView, Trouble},
};

/// Who does not answer is asked once more after this time, before anybody is told.
const AGAIN: Duration = Duration::from_secs(2);

/// A dependency: whose, of which instance, and its name.
type One = (Tenant, Instance, DependencyName);

/// What is known of the dependencies of all.
#[derive(Debug, Default)]
pub(super) struct Map(Mutex<BTreeMap<One, Known>>);

#[derive(Debug, Clone)]
struct Known {
    /// As it was configured when it was asked.
    dependency: Dependency,
    answer: Result<(), String>,
    since: Timestamp,
    asked: Timestamp,
}

impl Map {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<One, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer. Since when it is so stays.
    fn keep(&self, one: One, dependency: &Dependency, answer: Result<(), String>, now: Timestamp) {
        let mut all = self.lock();
        let before = all.get(&one).filter(|known| known.dependency == *dependency);
        let since = before.filter(|known| known.answer.is_ok() == answer.is_ok()).map_or(now, |known| known.since);
        all.insert(one, Known { dependency: dependency.clone(), answer, since, asked: now });
    }

    fn get(&self, one: &One, dependency: &Dependency) -> Option<Known> {
        self.lock().get(one).filter(|known| known.dependency == *dependency).cloned()
    }
}

/// Asks until it is cancelled.
pub(super) async fn run(daemon: &Arc<Daemon>, cancel: &CancellationToken) {
    let asker = match Asker::new() {
        Ok(asker) => asker,
        Err(why) => return tracing::error!("dependencies are not asked whether they answer: {why}"),
    };
    loop {
        let needs = needs(daemon);
        gone(daemon, &needs);
        let every = probe::every(daemon, needs.len());
        tokio::select! {
            () = round(daemon, &asker, needs) => {}
            () = cancel.cancelled() => return,
        }
        tokio::select! {
            () = sleep(every) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Who needs what.
type Needs = BTreeMap<Way, Vec<(One, Dependency)>>;

fn needs(daemon: &Daemon) -> Needs {
    let mut needs = Needs::new();
    for (tenant, site) in &daemon.policies().sites {
        for (instance, config) in &site.config.instances {
            for (name, dependency) in &config.dependencies {
                if let Ok(way) = Way::of(dependency) {
                    let one = (tenant.clone(), instance.clone(), name.clone());
                    needs.entry(way).or_default().push((one, dependency.clone()));
                }
            }
        }
    }
    needs
}

async fn round(daemon: &Daemon, asker: &Asker, needs: Needs) {
    let asking = needs.into_iter().map(|(way, whose)| async move {
        let mut answer = asker.ask(&way).await;
        if answer.is_err() {
            sleep(AGAIN).await;
            answer = asker.ask(&way).await;
        }
        (whose, answer)
    });
    let mut answers = stream::iter(asking).buffer_unordered(probe::AT_ONCE);
    while let Some((whose, answer)) = answers.next().await {
        for (one, dependency) in whose {
            tell(daemon, &one, &dependency, &answer);
            daemon.looking.dependencies.keep(one, &dependency, answer.clone(), daemon.now());
        }
    }
}

/// What a dependency is called among the troubles. The instance stands last: so are other troubles of one.
fn called((_, instance, name): &One) -> String {
    format!("{PREFIX}{name} of {instance}")
}

const PREFIX: &str = "dependency ";

fn tell(daemon: &Daemon, one: &One, dependency: &Dependency, answer: &Result<(), String>) {
    let (tenant, of) = (one.0.to_string(), called(one));
    match answer {
        Ok(()) => daemon.troubles.end_aloud(Some(&tenant), &of, |_| true),
        Err(why) => {
            let address = &dependency.address;
            daemon.troubles.begin_aloud(Trouble {
                tenant: Some(tenant),
                of,
                since: daemon.now(),
                text: format!("{} at {address} does not answer: {why}", dependency.kind.word()),
                next: Some(dependency.note.clone().unwrap_or_else(|| format!("lifeboat doctor {}", one.1))),
            });
        }
    }
}

/// What nobody needs any more troubles nobody.
fn gone(daemon: &Daemon, needs: &Needs) {
    let there: BTreeSet<&One> = needs.values().flatten().map(|(one, _)| one).collect();
    daemon.looking.dependencies.lock().retain(|one, _| there.contains(one));
    let named: BTreeSet<(&str, String)> = there.iter().map(|one| (one.0.as_str(), called(one))).collect();
    for trouble in daemon.troubles.all().into_iter().filter(|trouble| trouble.of.starts_with(PREFIX)) {
        let Some(tenant) = trouble.tenant.as_deref() else { continue };
        if !named.contains(&(tenant, trouble.of.clone())) {
            daemon.troubles.end(Some(tenant), &trouble.of);
        }
    }
}

/// The dependencies of an instance, and what is known of each.
pub(crate) fn of_instance(
    daemon: &Daemon,
    tenant: &Tenant,
    instance: &Instance,
    dependencies: &BTreeMap<DependencyName, Dependency>,
) -> Vec<DependencyView> {
    let view = |(name, dependency): (&DependencyName, &Dependency)| {
        let one = (tenant.clone(), instance.clone(), name.clone());
        let known = daemon.looking.dependencies.get(&one, dependency);
        let (state, why) = match (Way::of(dependency), &known) {
            (Err(why), _) => ("not-checked", Some(why)),
            (Ok(_), None) => ("unknown", None),
            (Ok(_), Some(known)) => match &known.answer {
                Ok(()) => ("answers", None),
                Err(why) => ("silent", Some(why.clone())),
            },
        };
        let known = known.filter(|_| state != "not-checked");
        DependencyView {
            name: name.to_string(),
            kind: dependency.kind.word().to_owned(),
            address: dependency.address.clone(),
            note: dependency.note.clone(),
            state: state.to_owned(),
            since: known.as_ref().map(|known| known.since),
            asked: known.map(|known| known.asked),
            why,
        }
    };
    dependencies.iter().map(view).collect()
}
