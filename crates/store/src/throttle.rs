//! How much of the line this process may use: so many bytes a second out, so many in, of all stores and requests together.
//!
//! Bodies are let through a piece at a time, each when its turn has come and its bytes have been saved up for. Turns are
//! taken in the order in which they were asked for, so that of many requests none waits for another to end, nor for one
//! that nobody reads. Whoever stops waiting has taken nothing. What was saved up while nothing moved is worth [`SAVED`] at most: where
//! bodies are read when their turn comes, no second carries more than one and a quarter of the rate. Bodies alone are counted; heads
//! are small.
//!
//! What is waited for here is nobody else's slowness: time limits of requests are measured by [`within`], which leaves it out.
//!
//! The limit is the process's, like its niceness: the binary sets it once, before a store is opened ([`limit_process`]).
//! Memory: one piece for each body under way.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient as _, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector, http_client_fn,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use lifeboat_model::size::ByteRate;
use tokio::time::{Instant, sleep_until, timeout_at};

/// What was saved up while nothing moved.
const SAVED: Duration = Duration::from_millis(250);
/// So many turns a second, unless the pieces would be larger than [`LARGEST`] or smaller than [`SMALLEST`].
const TURNS: u64 = 20;
const LARGEST: u64 = 256 << 10;
const SMALLEST: u64 = 4 << 10;

/// The limits of both directions. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    up: Option<Arc<Bucket>>,
    down: Option<Arc<Bucket>>,
}

static OF_PROCESS: OnceLock<Throttle> = OnceLock::new();

/// Sets the limit of this process; none: as much as goes through. Stores that are opened from now on keep to it. It is set
/// once: later calls change nothing.
pub fn limit_process(upload: Option<ByteRate>, download: Option<ByteRate>) {
    let _ = OF_PROCESS.set(Throttle::new(upload, download)); // the first has set it
}

impl Throttle {
    /// With these limits; none: as much as goes through.
    pub fn new(upload: Option<ByteRate>, download: Option<ByteRate>) -> Throttle {
        let bucket = |rate: Option<ByteRate>| rate.map(|rate| Arc::new(Bucket::new(rate)));
        Throttle { up: bucket(upload), down: bucket(download) }
    }

    /// The one that the process keeps to.
    pub fn of_process() -> Throttle {
        OF_PROCESS.get().cloned().unwrap_or_default()
    }

    /// What goes out.
    pub(crate) fn up(&self) -> Option<Arc<Bucket>> {
        self.up.clone()
    }

    /// What comes in.
    pub(crate) fn down(&self) -> Option<Arc<Bucket>> {
        self.down.clone()
    }

    /// A client whose bodies keep to it.
    pub(crate) fn client(&self, client: SharedHttpClient) -> SharedHttpClient {
        if self.up.is_none() && self.down.is_none() {
            return client;
        }
        let throttle = self.clone();
        http_client_fn(move |settings: &HttpConnectorSettings, components: &RuntimeComponents| {
            let connector = client.http_connector(settings, components);
            SharedHttpConnector::new(Connector { throttle: throttle.clone(), connector })
        })
    }

    /// A request's body that keeps to it.
    pub(crate) fn outgoing(&self, body: SdkBody) -> SdkBody {
        paced(body, self.up.as_ref())
    }

    /// An answer's body that keeps to it.
    pub(crate) fn incoming(&self, body: SdkBody) -> SdkBody {
        paced(body, self.down.as_ref())
    }
}

fn paced(body: SdkBody, bucket: Option<&Arc<Bucket>>) -> SdkBody {
    match bucket {
        Some(bucket) if body.content_length() != Some(0) => SdkBody::from_body_1_x(Paced {
            body,
            bucket: Arc::clone(bucket),
            waited: WAITED.try_with(Arc::clone).ok(),
            held: Bytes::new(),
            turn: None,
        }),
        _ => body,
    }
}

/// Bytes a second, in one direction.
pub(crate) struct Bucket {
    rate: u64,
    /// When what was asked for so far is paid for, at this rate. Nobody holds it while he waits: a body that is not read just then must
    /// not keep others from their turn.
    paid: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: ByteRate) -> Bucket {
        Bucket { rate: rate.bytes(), paid: Mutex::new(Instant::now()) }
    }

    /// The bytes of one turn.
    pub(crate) fn piece(&self) -> usize {
        (self.rate / TURNS).clamp(SMALLEST, LARGEST) as usize
    }

    /// Waits until so many bytes may pass, behind all who asked before. Dropped while it waits, it has taken nothing.
    pub(crate) async fn take(&self, bytes: usize) {
        let turn = self.ask(bytes);
        sleep_until(turn.comes).await;
        turn.keep();
    }

    fn ask(&self, bytes: usize) -> Asked<'_> {
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut paid = self.paid();
        *paid = (*paid).max(now.checked_sub(SAVED).unwrap_or(now)) + cost;
        Asked { bucket: self, cost, comes: *paid }
    }

    fn paid(&self) -> MutexGuard<'_, Instant> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn that was asked for. Not taken, it is given back.
struct Asked<'b> {
    bucket: &'b Bucket,
    cost: Duration,
    comes: Instant,
}

impl Asked<'_> {
    fn keep(mut self) {
        self.cost = Duration::ZERO;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut paid = self.bucket.paid();
        *paid = paid.checked_sub(self.cost).unwrap_or(*paid);
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteRate::of(self.rate))
    }
}

#[derive(Debug)]
struct Connector {
    throttle: Throttle,
    connector: SharedHttpConnector,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let throttle = self.throttle.clone();
        let sent = self.connector.call(request.map(|body| throttle.outgoing(body)));
        HttpConnectorFuture::new(async move { Ok(sent.await?.map(|body| throttle.incoming(body))) })
    }
}

type Turn = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A body that is let through a piece at a time.
struct Paced {
    body: SdkBody,
    bucket: Arc<Bucket>,
    /// Of the request that it belongs to, where that has a time limit.
    waited: Option<Arc<Waited>>,
    /// Came from the body, and waits for its turn.
    held: Bytes,
    turn: Option<Turn>,
}

impl Paced {
    /// The rest of what is held, a piece of it each time that its turn has come.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let len = self.held.len().min(self.bucket.piece());
        let turn = self.turn.get_or_insert_with(|| {
            let bucket = Arc::clone(&self.bucket);
            // A body that is read within another time limit than the one that its request was sent in.
            let waited = WAITED.try_with(Arc::clone).ok().or_else(|| self.waited.clone());
            Box::pin(async move {
                let _waiting = waited.as_ref().map(|waited| waited.begin());
                bucket.take(len).await;
            })
        });
        ready!(turn.as_mut().poll(context));
        self.turn = None;
        Poll::Ready(self.held.split_to(len))
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = <SdkBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if !self.held.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(ready!(self.poll_piece(context))))));
            }
            let next = ready!(Pin::new(&mut self.body).poll_frame(context));
            match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.held = bytes,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        let (held, rest) = (self.held.len() as u64, Body::size_hint(&self.body));
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

tokio::task_local! {
    static WAITED: Arc<Waited>;
}

/// How long some work has waited for its turns.
#[derive(Debug, Default)]
struct Waited {
    waits: Mutex<Waits>,
    /// Work that this is a part of: it waits as well.
    whole: Option<Arc<Waited>>,
}

#[derive(Debug, Default)]
struct Waits {
    over: Duration,
    since: Option<Instant>,
}

impl Waited {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Waiting<'_> {
        self.waits().since.get_or_insert_with(Instant::now);
        Waiting { of: self, _whole: self.whole.as_ref().map(|whole| Box::new(whole.begin())) }
    }

    fn so_far(&self) -> Duration {
        let waits = self.waits();
        waits.over + waits.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

struct Waiting<'a> {
    of: &'a Waited,
    _whole: Option<Box<Waiting<'a>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waits = self.of.waits();
        if let Some(since) = waits.since.take() {
            waits.over += since.elapsed();
        }
    }
}

/// Work that has so much time, what it waits for its turns left out. None: it took longer.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let begun = Instant::now();
    let waited = Arc::new(Waited { whole: WAITED.try_with(Arc::clone).ok(), ..Waited::default() });
    let mut work = std::pin::pin!(WAITED.scope(Arc::clone(&waited), work));
    loop {
        let deadline = begun + limit + waited.so_far();
        match timeout_at(deadline, work.as_mut()).await {
            Ok(done) => return Some(done),
            Err(_) if begun + limit + waited.so_far() > Instant::now() => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
