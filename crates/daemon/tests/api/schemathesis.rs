//! Schemathesis asks everything that the document allows, and much that it does not: no answer may be one that the document does
//! not have, and none may be the daemon's own failure.

use std::{process::Stdio, time::Duration};

use lifeboat_daemon::settings::Role;
use lifeboat_testkit::testbed;
use tokio::process::Command;

use crate::world::{INSTANCES, World};

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    if !testbed::enabled() {
        return;
    }
    let program = testbed::state_dir().join("schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is missing; run testbed/schemathesis", program.display());
    let world = World::new().await;
    world.gate.send_replace(true); // runs end at once
    for (tenant, instance) in INSTANCES {
        world.start(tenant, instance).await;
        world.statement(tenant).await;
    }
    let token = world.token("all", &[Role::Operator, Role::Auditor, Role::Approver, Role::Viewer], None);
    world.tokens_are_read().await;
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(&program)
        .current_dir(folder.path())
        .args(["run", &format!("{}/api/v1/openapi.json", world.base)])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // One worker: of several that compile at a time, Python 3.11 loses count ("AST constructor recursion depth mismatch").
        .args(["--checks", "all", "--max-examples", "25", "--workers", "1", "--seed", "6", "--continue-on-failure"])
        .args(["--request-timeout", "10", "--no-color"])
        // What is valid by the document can still name what does not exist.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(Duration::from_secs(240), run).await.expect("it ends in time").unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains("passed"), "{told}");
}
