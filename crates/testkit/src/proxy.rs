//! A TCP proxy that does what networks do: cut, delay, swallow.
//!
//! It sits between a client under test and a real server. A fault is armed for the next piece of a request that
//! contains a given text, takes effect on that connection, and is spent: the client's next attempt goes through.
//! So "the reply to this PUT is lost, after the server did its work" is two lines in a test.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
};

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// So many more bytes of the request reach the server, then both sides are closed.
    CutRequest(u64),
    /// The request reaches the server whole. Of the reply so many bytes reach the client, then both sides are closed;
    /// with 0, the server has begun to answer and the client never hears of it.
    CutReply(u64),
    /// The request reaches the server, the reply goes nowhere, and the connection stays open.
    SwallowReply,
    /// The request goes nowhere, and the connection stays open.
    SwallowRequest,
    /// The byte at this place of the request (from the piece that it is armed for) has its lowest bit changed.
    FlipRequest(u64),
    /// The reply begins so much later.
    DelayReply(Duration),
}

#[derive(Debug)]
struct Armed {
    text: Vec<u8>,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<VecDeque<Armed>>,
    struck: AtomicU64,
    connections: AtomicU64,
}

impl Shared {
    fn armed(&self) -> MutexGuard<'_, VecDeque<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, piece: &[u8]) -> Option<Fault> {
        let mut armed = self.armed();
        let text = &armed.front()?.text;
        if !text.is_empty() && !piece.windows(text.len()).any(|window| window == text) {
            return None;
        }
        self.struck.fetch_add(1, Ordering::SeqCst);
        armed.pop_front().map(|armed| armed.fault)
    }
}

/// A running proxy; it ends when dropped, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let listening = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                listening.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(client, server, Arc::clone(&listening)));
            }
        });
        Self { address, shared, listener }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Arms a fault for the next request piece that contains `text` (any, when empty). Faults strike in the order armed.
    pub fn arm(&self, text: impl AsRef<[u8]>, fault: Fault) {
        self.shared.armed().push_back(Armed { text: text.as_ref().to_owned(), fault });
    }

    /// How many faults have struck.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// The fault that a connection has, if any, and the bell that ends it.
#[derive(Default)]
struct Connection {
    fault: Mutex<Option<Fault>>,
    cut: Notify,
}

impl Connection {
    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection::default();
    let both = async {
        tokio::join!(
            requests(from_client, to_server, &connection, &shared),
            replies(from_server, to_client, &connection)
        )
    };
    tokio::select! {
        _ = both => {}
        () = connection.cut.notified() => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(fault) = shared.take(&buffer[..read]) {
            *connection.fault() = Some(fault);
        }
        let fault = *connection.fault();
        let forward = match fault {
            Some(Fault::CutRequest(left)) => left.min(read as u64) as usize,
            Some(Fault::SwallowRequest) => 0,
            Some(Fault::FlipRequest(at)) => {
                let left = at.checked_sub(read as u64);
                if left.is_none() {
                    buffer[at as usize] ^= 1;
                }
                *connection.fault() = left.map(Fault::FlipRequest);
                read
            }
            _ => read,
        };
        if to.write_all(&buffer[..forward]).await.is_err() {
            break;
        }
        if let Some(Fault::CutRequest(left)) = fault {
            *connection.fault() = Some(Fault::CutRequest(left - forward as u64));
            if left == forward as u64 {
                return connection.cut.notify_one();
            }
        }
    }
    let _ = to.shutdown().await;
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let fault = *connection.fault();
        let forward = match fault {
            Some(Fault::CutReply(left)) => left.min(read as u64) as usize,
            Some(Fault::SwallowReply) => 0,
            _ => read,
        };
        if let Some(Fault::DelayReply(wait)) = fault {
            *connection.fault() = None;
            tokio::time::sleep(wait).await;
        }
        if to.write_all(&buffer[..forward]).await.is_err() {
            break;
        }
        if let Some(Fault::CutReply(left)) = fault {
            *connection.fault() = Some(Fault::CutReply(left - forward as u64));
            if forward < read {
                return connection.cut.notify_one();
            }
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every line with `<line>!`.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 100];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        buffer[read] = b'!';
                        client.write_all(&buffer[..=read]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(proxy: &Proxy, text: &str) -> std::io::Result<String> {
        let mut client = TcpStream::connect(proxy.address()).await?;
        client.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        let mut buffer = [0; 100];
        loop {
            match tokio::time::timeout(Duration::from_millis(300), client.read(&mut buffer)).await {
                Err(_) => return Ok(format!("{answer}(open)")),
                Ok(read) => match read? {
                    0 => return Ok(format!("{answer}(closed)")),
                    read => answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                },
            }
        }
    }

    #[tokio::test]
    async fn faults_strike_once_and_only_what_they_are_armed_for() {
        let proxy = Proxy::start(echo().await).await;
        let cases = [
            (Fault::CutRequest(2), "(closed)"),
            (Fault::CutReply(0), "(closed)"),
            (Fault::CutReply(2), "PU(closed)"),
            (Fault::SwallowReply, "(open)"),
            (Fault::SwallowRequest, "(open)"),
            (Fault::FlipRequest(4), "PUT y!(open)"),
            (Fault::DelayReply(Duration::from_millis(10)), "PUT x!(open)"),
        ];
        for (struck, (fault, seen)) in cases.into_iter().enumerate() {
            proxy.arm("PUT", fault);
            assert_eq!(ask(&proxy, "GET x").await.unwrap(), "GET x!(open)", "before {fault:?}");
            // A closed connection may also show as a reset.
            let answer = ask(&proxy, "PUT x").await.unwrap_or_else(|_| "(closed)".into());
            assert!(
                answer == seen || (fault == Fault::CutRequest(2) && answer.ends_with("(closed)")),
                "{fault:?}: {answer}"
            );
            assert_eq!(proxy.struck(), struck as u64 + 1);
            assert_eq!(ask(&proxy, "PUT x").await.unwrap(), "PUT x!(open)", "after {fault:?}");
        }
    }
}
