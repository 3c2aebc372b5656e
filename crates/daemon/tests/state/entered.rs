//! What people did reaches the ledger of its tenant, also when the daemon was killed just after.

use std::{net::TcpListener, sync::Arc};

use lifeboat_daemon::{
    Daemon, Scope, api,
    auth::{Deed, record},
    view::{self, EvidenceFilter},
};
use tokio_util::sync::CancellationToken;

use crate::{tenant, world::World};

/// A daemon that serves, and is stopped in order.
async fn serves(daemon: Daemon) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    api::serve(Arc::new(daemon), listener, None, cancel).await.unwrap();
}

/// The acts in the ledger.
async fn acts(daemon: &Daemon) -> Vec<String> {
    let mut acts = Vec::new();
    for line in view::evidence(daemon, &Scope::all(), EvidenceFilter::default(), 100).await.unwrap() {
        let whole = view::statement(daemon, &Scope::all(), &tenant(), &line.key).await.unwrap().unwrap();
        let statement = whole.statement.unwrap();
        let listed = statement["predicate"]["act"]["acts"].as_array().unwrap();
        acts.extend(listed.iter().map(|act| act["target"].as_str().unwrap().to_owned()));
    }
    acts
}

fn deed(target: &str) -> Deed {
    let (who, act) = ("ann".to_owned(), "start".to_owned());
    Deed { tenant: Some(tenant()), who, act, target: Some(target.to_owned()), allowed: true, detail: None }
}

#[tokio::test]
async fn an_act_reaches_the_ledger_after_a_kill() {
    let world = World::new().await;
    let killed = world.daemon("state");
    record(&killed, &deed("first")).await;
    record(&killed, &deed("second")).await;
    drop(killed);

    // While its repository is away, nothing is settled.
    let (here, away) = (world.folder.path().join("repository"), world.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    serves(world.daemon("state")).await;
    std::fs::rename(&away, &here).unwrap();

    for _ in 0..2 {
        serves(world.daemon("state")).await;
        assert_eq!(acts(&world.daemon("other")).await, ["first", "second"], "entered, and once");
    }
}
