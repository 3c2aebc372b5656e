//! What surrounds the climb: time limit, cancellation, teardown.

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    config::{DrillConfig, DrillsConfig},
    id::{Instance, RunId, Tenant},
    time::Span,
};
use tokio_util::sync::CancellationToken;

use crate::{
    climb::Climb,
    error::{Result, with_causes},
    hold::Hold,
    ladder::{self, Answer, Observer},
    report::DrillReport,
    sandbox::{
        disk::Disk,
        pulse::{self, Pulse},
        teardown,
        turn::{self, Turn, Wish},
    },
    source::{Sabotage, Source},
};

/// An engine that hangs must not hang the report with it.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(300);

/// What to rehearse, with what, where.
pub struct DrillRequest {
    /// The run's id, chosen at random by the caller.
    pub run: RunId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// Its Odoo databases.
    pub databases: Vec<String>,
    /// A role of the source that can log in: it is asked for the superuser's name if there is none called `postgres`.
    pub login_hint: String,
    /// Images, addons, limits.
    pub config: DrillConfig,
    /// Recovery point objective.
    pub rpo: Span,
    /// Recovery time objective.
    pub rto: Span,
    /// Where the data comes from.
    pub source: Arc<dyn Source>,
    /// Below this folder the drill makes its own.
    pub work_root: PathBuf,
    /// The Docker engine's address; none for the usual socket.
    pub docker: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Damages the copy on purpose: a negative control.
    pub sabotage: Option<Arc<dyn Sabotage>>,
    /// What all drills below the work root may use together.
    pub budget: DrillsConfig,
    /// Whether rows of small tables that differ from the source are shown with their values.
    pub show_rows: bool,
    /// Holds the sandbox once everything has been asked.
    pub hold: Option<Arc<dyn Hold>>,
}

impl DrillRequest {
    /// How much longer than its checks the sandbox may be there.
    pub(crate) fn held_at_most(&self) -> Duration {
        self.hold.as_ref().map_or(Duration::ZERO, |hold| hold.limit())
    }
}

/// Runs a drill to its end. Always gives a report; an error only where nothing could be begun.
pub async fn run(
    request: DrillRequest,
    observer: Arc<dyn Observer>,
    cancel: &CancellationToken,
) -> Result<DrillReport> {
    let started = (request.clock)();
    let work = teardown::make_folder(&request.work_root, request.run)?;
    let turn = wait(&request, &*observer, cancel).await;
    let begun = Instant::now();
    let disk = Arc::new(Disk::look(&work).inspect_err(|_| drop(std::fs::remove_dir_all(&work)))?);
    let pulse = Arc::new(Pulse::default());
    let mut climb = Climb::new(Arc::clone(&observer), begun, Arc::clone(&disk), Arc::clone(&pulse));

    let limit = request.config.timeout.0;
    let climbing = AssertUnwindSafe(async {
        match &turn {
            Ok(_) => climb.climb(&request, started, &work).await,
            Err(why) => {
                climb.ladder.stop(why.as_str());
                Ok(None)
            }
        }
    })
    .catch_unwind();
    let (mut interrupted, mut standing) = (true, None);
    let stopped = tokio::select! {
        done = climbing => match done {
            Ok(Ok(served)) => {
                (interrupted, standing) = (false, served);
                None
            }
            Ok(Err(error)) => {
                climb.ladder.stop_by(&error);
                None
            }
            Err(_) => Some("the drill ended by a defect of ours; please report this".to_owned()),
        },
        () = cancel.cancelled() => Some("stopped by a person or a signal".to_owned()),
        words = disk.overrun() => Some(words),
        () = pulse.lost(request.run) => Some(pulse::LOST.to_owned()),
        () = tokio::time::sleep(limit) => Some(format!("the drill took longer than {} (drill.timeout)", request.config.timeout)),
    };
    if let Some((hold, standing)) = request.hold.as_ref().zip(standing) {
        climb.hold(&request, &**hold, cancel, standing).await;
    }
    if pulse.is_lost(request.run).await {
        climb.ladder.doubt(pulse.last().unwrap_or(begun), pulse::LOST);
        climb.ladder.stop_instead(pulse::LOST);
        interrupted = true;
        pulse.back(request.run).await;
    }
    if let Some(why) = stopped {
        climb.ladder.stop(why);
    }

    request.source.stop();
    climb.begin_phase("tear down");
    let asked = Instant::now();
    let removing = async {
        match interrupted {
            true => teardown::remove_interrupted(climb.docker.as_ref(), request.run, &work).await,
            false => teardown::remove(climb.docker.as_ref(), request.run, &work).await,
        }
    };
    let teardown = tokio::time::timeout(TEARDOWN_LIMIT, removing).await.unwrap_or_else(|_| teardown::Teardown {
        left: vec![format!("not known: Docker did not answer within {} s", TEARDOWN_LIMIT.as_secs())],
        ..teardown::Teardown::default()
    });
    let proof = match teardown.left.is_empty() {
        true => Answer::passed(format!(
            "removed {} containers, {} networks, {} volumes and the folder; nothing is left",
            teardown.containers, teardown.networks, teardown.volumes
        )),
        false => Answer::failed(format!("left: {}", teardown.left.join("; "))),
    };
    climb.ladder.record(ladder::TEARDOWN.answered(proof, asked.elapsed()));
    climb.look_around(&request, cancel).await;
    Ok(climb.finish(request, started, teardown))
}

/// Waits for a turn among the drills of this host, as long as the drill itself may take; gives why there is none.
async fn wait(request: &DrillRequest, observer: &dyn Observer, cancel: &CancellationToken) -> Result<Turn, String> {
    let wish = Wish { run: request.run, instance: request.instance.to_string(), memory: request.config.memory };
    let told = Mutex::new(String::new());
    let taking = turn::take(&request.work_root, &wish, request.budget, |why| {
        tracing::info!(%why, "waiting for a turn");
        observer.phase(&format!("wait: {why}"));
        why.clone_into(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
    });
    tokio::select! {
        taken = taking => taken.map_err(|error| with_causes(&error)),
        () = cancel.cancelled() => Err("stopped by a person or a signal".to_owned()),
        () = tokio::time::sleep(request.config.timeout.0) => {
            let why = told.lock().unwrap_or_else(PoisonError::into_inner);
            Err(format!("waited {} for its turn (drill.timeout): {why}", request.config.timeout))
        }
    }
}
