//! The host's way to a server in a sandbox, which has no network: a Unix socket in a folder of the drill.
//!
//! PostgreSQL listens on such a socket by itself. Odoo does not, so a few lines of Python beside it do, and hand what comes to its
//! port on the container's loopback. The drill listens on a loopback port of the host and hands connections to the socket, so
//! that whoever speaks HTTP (a browser too) needs to know nothing of it. Only the host opens connections: a container can listen
//! on its socket, and there is nothing else in the folder that it could connect to.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::container::LogOutput;
use futures::{Stream, StreamExt as _};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Container, User};
use crate::error::{Error, Result};

/// Where the folder of the socket lies in a container.
pub(super) const FOLDER: &str = "/lifeboat/gate";

/// Connections at the same time: more wait.
const CONNECTIONS: usize = 64;

/// How long the relay may take to listen.
const OPENING: Duration = Duration::from_secs(30);

/// Listens on the socket of its first argument, and connects what comes to the loopback port of its second.
const RELAY: &str = r#"
import socket, sys, threading
path, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(64)
sys.stdout.write("open\n")
sys.stdout.flush()
def pump(source, sink):
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            sink.sendall(piece)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
while True:
    client, _ = listener.accept()
    try:
        server = socket.create_connection(("127.0.0.1", port), 10)
        server.settimeout(None)
    except OSError:
        client.close()
        continue
    for pair in ((client, server), (server, client)):
        thread = threading.Thread(target=pump, args=pair)
        thread.daemon = True
        thread.start()
"#;

/// A way in. It is closed when this is dropped.
pub(crate) struct Gate {
    /// Where the host connects.
    pub address: SocketAddr,
    _listener: AbortOnDropHandle<()>,
}

/// Makes the folder of a container's socket, for nobody else to look into.
pub(super) fn make_folder(work: &Path, role: &str) -> Result<PathBuf> {
    let folder = work.join(format!("gate-{role}"));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io("cannot create", &folder))?;
    Ok(folder)
}

impl Gate {
    /// Opens a way to a port of the container, with the Python that the image has.
    pub async fn open(container: &Container, user: User, python: &[String], port: u16) -> Result<Gate> {
        user.own(&container.gate)?;
        let folder = File::open(&container.gate).map_err(Error::io("cannot open", &container.gate))?;
        let (socket, text) = (format!("{FOLDER}/{port}"), port.to_string());
        let words = python.iter().map(String::as_str).chain(["-c", RELAY, &socket, &text]);
        let command: Vec<&str> = words.collect();
        let mut output = container.spawn(&user.spec(), &command, &["HOME=/tmp"]).await?.output;
        opened(&mut output).await?;
        // Read on, or the relay would stand still when it has said enough.
        let draining = AbortOnDropHandle::new(tokio::spawn(async move { while output.next().await.is_some() {} }));
        let failed = Error::io("cannot listen on the loopback interface for", &container.gate);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let (listener, address) =
            listener.and_then(|listener| listener.local_addr().map(|at| (listener, at))).map_err(failed)?;
        let relaying = tokio::spawn(async move {
            let _draining = draining;
            relay(listener, folder, port).await;
        });
        Ok(Gate { address, _listener: AbortOnDropHandle::new(relaying) })
    }
}

/// Waits for the relay's word that it listens.
async fn opened(output: &mut (impl Stream<Item = Result<LogOutput>> + Unpin)) -> Result<()> {
    let first = timeout(OPENING, output.next()).await;
    let first = first.map_err(|_| Error::Timeout { what: "opening the way to Odoo".to_owned(), after: OPENING })?;
    let text = match first {
        Some(piece) => String::from_utf8_lossy(&piece?.into_bytes()).trim().to_owned(),
        None => "it ended at once".to_owned(),
    };
    match text == "open" {
        true => Ok(()),
        false => Err(Error::Output { program: "the relay in the container".to_owned(), detail: text }),
    }
}

async fn relay(listener: TcpListener, folder: File, port: u16) {
    // The address of a socket has 107 bytes at most, and the folder's path may be longer.
    let socket = Arc::new(PathBuf::from(format!("/proc/self/fd/{}/{port}", folder.as_raw_fd())));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else { return };
        let socket = Arc::clone(&socket);
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = hand_over(client, &socket).await {
                tracing::debug!(%error, "a connection with the sandbox ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn hand_over(mut client: TcpStream, socket: &Path) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = UnixStream::connect(socket).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
