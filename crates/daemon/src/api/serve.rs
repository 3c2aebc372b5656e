//! Serving: connections are counted and none may dawdle; a renewed certificate is used from the next connection on.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle,
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use futures::future::{BoxFuture, FutureExt as _};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    auth::limits::{self, Tallied, Tally},
    settings::Tls,
    tls,
};

/// Connections at the same time.
const CONNECTIONS: usize = 1024;
/// Of them from one place. Not from this host: a proxy there brings everybody.
const OF_ONE: usize = 128;
/// Whoever takes nothing of an answer for so long does not get the rest. Linux tells of room in a buffer only when a third of it
/// is free, which takes a slow line a while.
const TAKE: Duration = Duration::from_secs(120);
/// The head of a request must have come within this.
const HEAD: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 32 * 1024;
/// Lines of a request's head.
const HEAD_LINES: usize = 64;
/// So long requests may take to end once the daemon is stopped.
const GRACE: Duration = Duration::from_secs(10);
/// So often the certificate is looked at.
const RENEW: Duration = Duration::from_secs(60);

/// Serves until cancelled; then lets requests end.
pub(super) async fn serve(
    router: Router,
    listener: TcpListener,
    tls: Option<Tls>,
    cancel: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let failed = |source: io::Error| Error::Listen { address: address.clone(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    let handle: Handle<SocketAddr> = Handle::new();
    let stop = async {
        cancel.cancelled().await;
        handle.graceful_shutdown(Some(GRACE));
        std::future::pending::<()>().await;
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let plain = Counted { inner: axum_server::accept::NoDelayAcceptor::new(), doors: Doors::default() };
    let mut server = axum_server::from_tcp(listener).map_err(failed)?.http1_only().handle(handle.clone());
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEAD_LINES)
        .max_buf_size(HEAD_BYTES);
    let served = match tls {
        None => {
            let served = server.acceptor(plain).serve(service);
            tokio::select! { served = served => served, () = stop => Ok(()) }
        }
        Some(tls) => {
            let config = RustlsConfig::from_config(Arc::new(read(&tls).await?));
            let server = server.acceptor(RustlsAcceptor::new(config.clone()).acceptor(plain));
            tokio::select! { served = server.serve(service) => served, () = stop => Ok(()), () = renew(tls, config) => Ok(()) }
        }
    };
    served.map_err(failed)
}

async fn read(tls: &Tls) -> Result<rustls::ServerConfig> {
    let tls = tls.clone();
    let read = tokio::task::spawn_blocking(move || tls::server_config(&tls)).await;
    read.unwrap_or_else(|error| Err(Error::Listen { address: "TLS".to_owned(), source: io::Error::other(error) }))
}

/// Reads the certificate again from time to time; one that cannot be used changes nothing.
async fn renew(tls: Tls, config: RustlsConfig) {
    loop {
        tokio::time::sleep(RENEW).await;
        match read(&tls).await {
            Ok(read) => config.reload_from_config(Arc::new(read)),
            Err(error) => tracing::warn!("the certificate of before is still used: {error}"),
        }
    }
}

/// Counts connections; those beyond the bound are closed at once.
#[derive(Clone)]
struct Counted<A> {
    inner: A,
    doors: Doors,
}

/// What connections there may be.
#[derive(Clone)]
struct Doors {
    free: Arc<Semaphore>,
    places: Tally,
}

/// One of them.
struct Seat {
    _one: OwnedSemaphorePermit,
    _of_place: Option<Tallied>,
}

impl Default for Doors {
    fn default() -> Doors {
        Doors { free: Arc::new(Semaphore::new(CONNECTIONS)), places: Tally::default() }
    }
}

impl Doors {
    /// From this host, a proxy may bring everybody.
    fn admit(&self, peer: IpAddr, own: IpAddr) -> io::Result<Seat> {
        let too_many = || io::Error::other("too many connections");
        let of_place = match peer.to_canonical().is_loopback() || peer == own {
            true => None,
            false => Some(self.places.one_more(limits::place(peer), OF_ONE).ok_or_else(too_many)?),
        };
        let one = Arc::clone(&self.free).try_acquire_owned().map_err(|_| too_many())?;
        Ok(Seat { _one: one, _of_place: of_place })
    }
}

impl<A> Counted<A> {
    fn admit(&self, stream: &TcpStream) -> io::Result<Seat> {
        self.doors.admit(stream.peer_addr()?.ip(), stream.local_addr()?.ip())
    }
}

impl<A, S> Accept<TcpStream, S> for Counted<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Held<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let seat = match self.admit(&stream) {
            Ok(seat) => seat,
            Err(refused) => return futures::future::ready(Err(refused)).boxed(),
        };
        let accepted = self.inner.accept(stream, service);
        async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream, _seat: seat, stuck: None }, service))
        }
        .boxed()
    }
}

/// A connection that is counted for as long as it lives, and lives as long as what is sent is taken.
struct Held<S> {
    stream: S,
    _seat: Seat,
    /// Runs while nothing can be sent.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Held<S> {
    /// What became of sending: it fails once nothing could be sent for too long.
    fn in_time<R>(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if sent.is_ready() {
            self.stuck = None;
            return sent;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S> fmt::Debug for Held<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    /// Of this host.
    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_of_an_answer_does_not_hold_the_connection() {
        let (stream, mut peer) = duplex(16);
        let seat = Doors::default().admit([192, 0, 2, 1].into(), OWN).unwrap();
        let mut held = Held { stream, _seat: seat, stuck: None };
        let began = Instant::now();
        // Slow is not stuck.
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(TAKE - Duration::from_secs(1)).await;
                peer.read_exact(&mut [0; 16]).await.unwrap();
            }
            peer
        });
        held.write_all(&[0; 80]).await.unwrap();
        let _peer = slow.await.unwrap();
        assert!(began.elapsed() > 3 * TAKE);
        let began = Instant::now();
        let refused = tokio::time::timeout(10 * TAKE, held.write_all(&[0; 80])).await.expect("it is held for ever");
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= TAKE);
    }

    #[test]
    fn no_place_has_all_connections() {
        let doors = Doors::default();
        let [one, same, other, here]: [IpAddr; 4] =
            ["2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "127.0.0.1"].map(|text| text.parse().unwrap());
        let mut held: Vec<Seat> = (0..OF_ONE).map(|_| doors.admit(one, OWN).unwrap()).collect();
        assert!(doors.admit(same, OWN).is_err());
        assert!(doors.admit(other, OWN).is_ok());
        held.pop();
        held.push(doors.admit(same, OWN).unwrap());
        held.extend((0..OF_ONE + 1).map(|_| doors.admit(OWN, OWN).unwrap()));
        let from_here: Vec<Seat> = std::iter::from_fn(|| doors.admit(here, OWN).ok()).collect();
        assert_eq!(from_here.len(), CONNECTIONS - OF_ONE - (OF_ONE + 1));
        assert!(doors.admit(other, OWN).is_err());
    }
}
