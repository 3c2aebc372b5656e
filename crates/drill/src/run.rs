//! What surrounds the climb: time limit, cancellation, teardown.

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    config::DrillConfig,
    id::{Instance, RunId, Tenant},
    time::Span,
};
use tokio_util::sync::CancellationToken;

use crate::{
    climb::Climb,
    error::Result,
    ladder::{self, Answer, Observer},
    report::DrillReport,
    sandbox::teardown,
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
    /// Whether rows of small tables that differ from the source are shown with their values.
    pub show_rows: bool,
}

/// Runs a drill to its end. Always gives a report; an error only where nothing could be begun.
pub async fn run(
    request: DrillRequest,
    observer: Arc<dyn Observer>,
    cancel: &CancellationToken,
) -> Result<DrillReport> {
    let started = (request.clock)();
    let begun = Instant::now();
    let work = teardown::make_folder(&request.work_root, request.run)?;
    let mut climb = Climb::new(Arc::clone(&observer), begun);

    let limit = request.config.timeout.0;
    let climbing = AssertUnwindSafe(climb.climb(&request, started, &work)).catch_unwind();
    let mut interrupted = true;
    let stopped = tokio::select! {
        done = climbing => match done {
            Ok(Ok(())) => {
                interrupted = false;
                None
            }
            Ok(Err(error)) => {
                climb.ladder.stop_by(&error);
                None
            }
            Err(_) => Some("the drill ended by a defect of ours; please report this".to_owned()),
        },
        () = cancel.cancelled() => Some("stopped by a person or a signal".to_owned()),
        () = tokio::time::sleep(limit) => Some(format!("the drill took longer than {} (drill.timeout)", request.config.timeout)),
    };
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
    climb.end_phase(None);
    climb.look_around(&request, cancel).await;
    Ok(climb.finish(request, started, teardown))
}
