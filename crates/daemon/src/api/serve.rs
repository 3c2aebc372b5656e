//! Serving: connections are counted and none may dawdle; a renewed certificate is used from the next connection on.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
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
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Result, settings::Tls, tls};

/// Connections at the same time.
const CONNECTIONS: usize = 1024;
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
    let plain =
        Counted { inner: axum_server::accept::NoDelayAcceptor::new(), free: Arc::new(Semaphore::new(CONNECTIONS)) };
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
    free: Arc<Semaphore>,
}

impl<A, I, S> Accept<I, S> for Counted<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Held<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            return futures::future::ready(Err(io::Error::other("too many connections"))).boxed();
        };
        let accepted = self.inner.accept(stream, service);
        async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream, _permit: permit }, service))
        }
        .boxed()
    }
}

/// A connection that is counted for as long as it lives.
struct Held<S> {
    stream: S,
    _permit: OwnedSemaphorePermit,
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
