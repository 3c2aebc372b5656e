//! However a drill ends, nothing is left; and what another drill is doing is left alone.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_drill::{
    ladder::{Observer, Silent},
    sandbox::{Docker, teardown},
};
use lifeboat_model::{
    check::{Outcome, Verdict},
    time::Span,
};
use tokio_util::sync::CancellationToken;

use crate::origin::{check, drill, enabled, nothing_left, print, request, shell, work_root};

/// Cancels when a phase begins.
struct CancelAt {
    phase: &'static str,
    token: CancellationToken,
    seen: Mutex<bool>,
}

impl Observer for CancelAt {
    fn phase(&self, name: &str) {
        if name == self.phase {
            *self.seen.lock().expect("nobody panics") = true;
            self.token.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_drill_leaves_nothing() {
    if !enabled() {
        return;
    }
    for phase in ["fetch and place", "verify files", "replay", "boot"] {
        let work = work_root();
        let token = CancellationToken::new();
        let observer = Arc::new(CancelAt { phase, token: token.clone(), seen: Mutex::new(false) });
        let report = lifeboat_drill::run(request(work.path()), observer.clone(), &token).await.expect("a drill begins");
        print(&report);
        assert!(*observer.seen.lock().expect("nobody panics"), "{phase} was reached");
        assert_eq!(report.outcome, Outcome::Incomplete);
        let last = check(&report, "use.login");
        assert_eq!(last.verdict, Verdict::NotExecuted("stopped by a person or a signal".into()));
        nothing_left(&report, work.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_over_its_time_ends_and_says_so() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    request.config.timeout = Span(Duration::from_secs(2));
    let report = drill(request).await;
    assert_eq!(report.outcome, Outcome::Incomplete);
    match &check(&report, "use.login").verdict {
        Verdict::NotExecuted(why) => assert!(why.contains("drill.timeout"), "{why}"),
        other => panic!("{other:?}"),
    }
    nothing_left(&report, work.path());
}

/// A dead drill's container and network, made by hand with the labels of a process that does not live, and a live one's.
#[tokio::test(flavor = "multi_thread")]
async fn only_orphans_are_removed() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let (dead, live) = ("00000000000000d1", "00000000000000a1");
    let owner = {
        // The folder of this process's own drill tells how an owner is written down.
        let folder = teardown::make_folder(work.path(), live.parse().expect("an id")).expect("a folder");
        std::fs::read_to_string(folder.join("owner")).expect("an owner")
    };
    let (host, _) = owner.split_once('/').expect("host/pid/start");
    // Signed as every drill's is: somebody else's drill may have removed the containers, whose labels name it, before us.
    let dead_folder = teardown::make_folder(work.path(), dead.parse().expect("an id")).expect("a folder");
    std::fs::write(dead_folder.join("owner"), format!("{host}/4194303/7")).expect("its owner");
    let later = Timestamp::now() + Duration::from_secs(1800);
    for (run, owner) in [(dead, format!("{host}/4194303/7")), (live, owner.clone())] {
        let labels = format!(
            "--label lifeboat.drill={run} --label lifeboat.owner='{owner}' --label lifeboat.deadline={later} \
             --label lifeboat.work='{}/drill-{run}'",
            work.path().display()
        );
        let made = shell(&format!(
            "docker network create --internal {labels} lifeboat-drill-{run}-net && \
             docker run -d {labels} --network lifeboat-drill-{run}-net --entrypoint sleep {} 600",
            crate::origin::POSTGRES_IMAGE
        ));
        made.expect("a sandbox by hand");
    }

    let docker = Docker::connect(None).await.expect("docker answers");
    let removed = teardown::orphans(&docker, work.path(), Timestamp::now()).await.expect("orphans are removed");
    let count = |run: &str| {
        shell(&format!("docker ps -aq --filter label=lifeboat.drill={run}; docker network ls -q --filter label=lifeboat.drill={run}"))
            .expect("docker answers")
            .lines()
            .count()
    };
    // Every drill that begins removes orphans: one beside this test may be at it as well, and is no worse a proof.
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while (count(dead) > 0 || dead_folder.exists()) && std::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (left_dead, left_live) = (count(dead), count(live));
    let live_folder = work.path().join(format!("drill-{live}"));
    let live_folder_stood = live_folder.exists();
    let done = teardown::remove(Some(&docker), live.parse().expect("an id"), &live_folder).await;
    assert!(removed.iter().all(|line| !line.starts_with(live)), "{removed:?}");
    assert_eq!((left_dead, left_live), (0, 2));
    assert!(live_folder_stood && !dead_folder.exists());
    assert_eq!((done.containers, done.networks, done.left.len()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_drills_at_once_do_not_disturb_each_other() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let token = CancellationToken::new();
    let run = || lifeboat_drill::run(request(work.path()), Arc::new(Silent), &token);
    let (one, other) = tokio::join!(run(), run());
    for report in [one.expect("a drill begins"), other.expect("a drill begins")] {
        print(&report);
        assert_eq!(check(&report, "use.attachments").verdict, Verdict::Passed);
        assert_eq!(check(&report, "teardown.proof").verdict, Verdict::Passed);
    }
    assert_eq!(std::fs::read_dir(work.path()).expect("the folder is there").count(), 0);
}
