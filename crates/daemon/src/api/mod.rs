//! The HTTP side of the daemon: the API below `/api/v1` ([`openapi`] describes it), and beside it pages and metrics, all behind
//! one gate ([`crate::auth`]). What is answered comes from [`crate::view`].

mod answers;
mod ask;
mod events;
mod health;
mod look;
mod openapi;
mod runbooks;
mod runs;
mod serve;

use std::{net::TcpListener, sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

pub use openapi::document;

use crate::{
    Result,
    auth::{Allowances, Auth, Refused, gate, login},
    daemon::Daemon,
    settings::Tls,
};

/// Bytes of a request's body.
const BODY: usize = 64 * 1024;
/// How often acts go into the ledger, and counts are summed up and forgotten.
const TIDY: Duration = Duration::from_secs(15);

/// What handlers need.
struct Api {
    daemon: Arc<Daemon>,
    auth: Arc<Auth>,
    cancel: CancellationToken,
}

/// Everything that is served.
pub fn router(daemon: Arc<Daemon>) -> Router {
    let auth = Auth::new(Arc::clone(&daemon), Allowances::default());
    assemble(daemon, auth, CancellationToken::new())
}

/// Serves until cancelled; then lets requests end for ten seconds.
pub async fn serve(
    daemon: Arc<Daemon>,
    listener: TcpListener,
    tls: Option<Tls>,
    cancel: CancellationToken,
) -> Result<()> {
    serve_with(daemon, listener, tls, Allowances::default(), cancel).await
}

/// [`fn@serve`], with other bounds on how often somebody may ask.
pub async fn serve_with(
    daemon: Arc<Daemon>,
    listener: TcpListener,
    tls: Option<Tls>,
    allowances: Allowances,
    cancel: CancellationToken,
) -> Result<()> {
    let auth = Auth::new(Arc::clone(&daemon), allowances);
    let router = assemble(daemon, Arc::clone(&auth), cancel.clone());
    let tidy = async {
        loop {
            tokio::time::sleep(TIDY).await;
            auth.tidy(false).await;
        }
    };
    let served = tokio::select! {
        served = serve::serve(router, listener, tls, cancel) => served,
        () = tidy => Ok(()),
    };
    // A repository that does not answer must not keep the daemon from ending.
    if tokio::time::timeout(TIDY, auth.tidy(true)).await.is_err() {
        tracing::warn!("some acts are in the log of activity and not in the ledger: the next start enters them");
    }
    served
}

fn assemble(daemon: Arc<Daemon>, auth: Arc<Auth>, cancel: CancellationToken) -> Router {
    let api = Arc::new(Api { daemon: Arc::clone(&daemon), auth: Arc::clone(&auth), cancel });
    let (described, _) = openapi::described().with_state(Arc::clone(&api)).split_for_parts();
    Router::new()
        .merge(described)
        .merge(openapi::router())
        .merge(health::router(api))
        .merge(crate::pages::router(Arc::clone(&daemon)))
        .merge(crate::metrics::router(Arc::clone(&daemon)))
        .merge(login::router(Arc::clone(&auth)))
        .fallback(async || Refused::not_found())
        .method_not_allowed_fallback(async || {
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "that is not done here")
                .hint("what can be done is described by GET /api/v1/openapi.json")
        })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(CatchPanicLayer::custom(|_| {
            use axum::response::IntoResponse as _;
            tracing::error!("a request could not be answered: its handler panicked");
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "this went wrong here; the log of the daemon has more")
                .into_response()
        }))
        .layer(middleware::from_fn_with_state(auth, gate::gate))
}
