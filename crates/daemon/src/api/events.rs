//! Following a run: what it told already, then what it tells, as server-sent events.
//!
//! Events are read from the state, by number; what is told inside the daemon only says when to look. So a follower loses
//! nothing, however slow it is, and goes on after a broken connection where it was.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use lifeboat_model::id::RunId;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    answers::{One, broken},
    ask::Named,
};
use crate::{
    auth::{Caller, Following, Need, Refused},
    daemon::{Scope, Told},
    view::{self, RunLine},
};

/// So many are read at a time.
const BATCH: usize = 200;
/// Looked again after so long, whatever was told.
const LOOK: Duration = Duration::from_secs(5);
/// The rhythm of the comments that keep a connection open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Then it is closed, and the follower comes back with its key, which may have been revoked.
const LONGEST: Duration = Duration::from_secs(900);

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(events))
}

/// One event of the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `axum` writes")]
struct ServerSentEvent {
    /// `message` unless it is the last one: `end`.
    #[schema(nullable = false)]
    event: Option<String>,
    /// The number of the event.
    #[schema(nullable = false)]
    id: Option<String>,
    /// An `EventView` as JSON; of `end`, the run's `RunLine`.
    data: String,
}

/// Follow a run (server-sent events)
///
/// Every event of the run, from behind `Last-Event-ID` on: `id` is its number, the data an `EventView`. When the run is over, an
/// event named `end` with its `RunLine`. The connection is closed after 15 minutes at the latest: go on with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/runs/{run}/events", tag = "runs",
    params(
        ("run" = String, Path, description = "Its id.", pattern = "^[0-9a-f]{16}$"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The number of the last event that you have.", nullable = false),
    ),
    responses((status = 200, content_type = "text/event-stream", body = ServerSentEvent), One)
)]
async fn events(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named(run): Named<RunId>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let scope = caller.scope(Need::Look)?;
    // As the document says: 64 bits with a sign, from 0.
    let number = |value: &HeaderValue| u64::try_from(value.to_str().ok()?.parse::<i64>().ok()?).ok();
    let after = match headers.get("last-event-id").map(number) {
        None => 0,
        Some(Some(after)) => after,
        Some(None) => {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "Last-Event-ID is not the number of an event"));
        }
    };
    let told = api.daemon.told.subscribe(); // before the first look, so that nothing falls between
    if view::run(&api.daemon, &scope, run).await.map_err(broken)?.is_none() {
        return Err(Refused::not_found());
    }
    let following = api.auth.follow(&caller.who)?;
    let follower = Follower {
        api,
        scope,
        run,
        after,
        told,
        waiting: VecDeque::new(),
        until: Instant::now() + LONGEST,
        over: false,
        _following: following,
    };
    let events =
        stream::unfold(
            follower,
            |mut follower| async move { follower.next().await.map(|event| (Ok(event), follower)) },
        );
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here")))
}

struct Follower {
    api: Arc<Api>,
    scope: Scope,
    run: RunId,
    after: u64,
    told: Receiver<Told>,
    waiting: VecDeque<Event>,
    until: Instant,
    over: bool,
    _following: Following,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.over || Instant::now() >= self.until || self.api.cancel.is_cancelled() {
                return None;
            }
            // Whether it is over is looked up first: what it told before that is then read whole.
            let ended = self.ended().await?;
            self.read().await?;
            if !self.waiting.is_empty() {
                continue;
            }
            match ended {
                Some(line) => {
                    self.over = true;
                    return Event::default().event("end").json_data(&line).ok();
                }
                None => self.wait().await,
            }
        }
    }

    /// The run's line, if it is over. Nothing at all: there is no such run any longer.
    async fn ended(&self) -> Option<Option<RunLine>> {
        let found = self.api.daemon.state.run(self.run).await;
        let row = found.map_err(broken).ok().flatten().filter(|row| self.scope.has(&row.job.tenant))?;
        Some(Some(RunLine::from(&row)).filter(|line| line.phase == "ended"))
    }

    async fn read(&mut self) -> Option<()> {
        let events = view::events(&self.api.daemon, &self.scope, self.run, self.after, BATCH).await;
        for event in events.map_err(broken).ok().flatten()? {
            self.after = event.number;
            self.waiting.push_back(Event::default().id(event.number.to_string()).json_data(&event).ok()?);
        }
        Some(())
    }

    /// Until something was told about this run, or for a while.
    async fn wait(&mut self) {
        let run = self.run.to_string();
        let heard = async {
            loop {
                match self.told.recv().await {
                    Ok(Told::Event { event, .. }) if event.run == run => return,
                    Ok(Told::Changed { tenant }) if self.scope.has(&tenant) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            _ = timeout(LOOK, heard) => {}
            () = self.api.cancel.cancelled() => {}
        }
    }
}
