//! A cable between a client and a real server that can be pulled out, plugged in again, and squeezed until nothing comes through.
//!
//! Pulled out, connections break and new ones are refused, as if the server were gone; the server itself knows nothing of it
//! and serves others. TCP to TCP, or Unix socket to Unix socket. The cable brings its own thread, so that tests without a
//! runtime can have one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Runtime,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Ports that neither outgoing connections nor other tests' servers get by chance: what is refused must stay refused.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Where the two ends are.
#[derive(Debug, Clone)]
enum Ends {
    Tcp { here: SocketAddr, server: SocketAddr },
    Unix { here: PathBuf, server: PathBuf },
}

/// A cable, plugged in. It ends when dropped, and its connections with it.
#[derive(Debug)]
pub struct Cable {
    ends: Ends,
    flows: watch::Sender<bool>,
    carrying: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Cable {
    /// From a free loopback port to `server`.
    pub fn tcp(server: SocketAddr) -> Cable {
        let count = u32::from(PORTS.end - PORTS.start);
        let first = std::process::id().wrapping_mul(97) % count;
        let ports = (0..count).map(|step| PORTS.start + ((first + step) % count) as u16);
        let mut cable = Cable::new(Ends::Tcp { here: server, server });
        for port in ports {
            cable.ends = Ends::Tcp { here: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), server };
            if cable.try_plug().is_ok() {
                return cable;
            }
        }
        panic!("no port of {PORTS:?} is free");
    }

    /// From a socket that is made at `here` to the one at `server`.
    pub fn unix(here: &Path, server: &Path) -> Cable {
        let mut cable = Cable::new(Ends::Unix { here: here.to_owned(), server: server.to_owned() });
        cable.plug();
        cable
    }

    fn new(ends: Ends) -> Cable {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = Some(runtime.expect("a thread can be started"));
        Cable { ends, flows: watch::Sender::new(true), carrying: None, runtime }
    }

    /// Where clients connect, of one over TCP.
    pub fn address(&self) -> SocketAddr {
        match &self.ends {
            Ends::Tcp { here, .. } => *here,
            Ends::Unix { here, .. } => panic!("{} is a Unix socket", here.display()),
        }
    }

    /// Every connection breaks, and new ones are refused.
    pub fn pull(&mut self) {
        let Some(carrying) = self.carrying.take() else { return };
        carrying.abort();
        // An aborted task keeps its sockets until it is dropped; awaited, it has been.
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        let _ = runtime.block_on(carrying); // an error says that it was aborted
    }

    /// New connections get through again.
    pub fn plug(&mut self) {
        self.try_plug().unwrap_or_else(|e| panic!("cannot listen on {:?} again: {e}", self.ends));
    }

    fn try_plug(&mut self) -> io::Result<()> {
        self.pull();
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        let (flows, ends) = (self.flows.subscribe(), self.ends.clone());
        let _in = runtime.enter();
        self.carrying = Some(match ends {
            Ends::Tcp { here, server } => {
                let listener = std::net::TcpListener::bind(here)?; // takes the address again at once
                listener.set_nonblocking(true)?;
                runtime.spawn(carry_tcp(TcpListener::from_std(listener)?, server, flows))
            }
            Ends::Unix { here, server } => {
                let _ = std::fs::remove_file(&here); // left when it was pulled out, so that connections were refused
                runtime.spawn(carry_unix(UnixListener::bind(&here)?, server, flows))
            }
        });
        Ok(())
    }

    /// Connections stay, and nothing comes through in either direction.
    pub fn squeeze(&self) {
        self.flows.send_replace(false);
    }

    /// What was held back comes through.
    pub fn release(&self) {
        self.flows.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn carry_tcp(listener: TcpListener, server: SocketAddr, flows: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let flows = flows.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            connect(client, server, flows).await;
        });
    }
}

async fn carry_unix(listener: UnixListener, server: PathBuf, flows: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (flows, server) = (flows.clone(), server.clone());
        connections.spawn(async move {
            let Ok(server) = UnixStream::connect(server).await else { return };
            connect(client, server, flows).await;
        });
    }
}

async fn connect<S: AsyncRead + AsyncWrite>(client: S, server: S, flows: watch::Receiver<bool>) {
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    tokio::join!(pump(from_client, to_server, flows.clone()), pump(from_server, to_client, flows));
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut flows: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if flows.wait_for(|flows| *flows).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await; // it may have ended by itself
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        os::unix::net::{UnixListener as Listener, UnixStream as Stream},
        thread,
        time::Duration,
    };

    use super::*;

    fn ask(stream: &mut (impl io::Read + io::Write), word: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(word)?;
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).map(|()| answer)
    }

    #[test]
    fn pulled_out_it_is_refused_and_plugged_in_it_goes_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut client.try_clone().unwrap(), &mut client));
            }
        });
        let mut cable = Cable::tcp(server);
        let connect = |cable: &Cable| {
            let client = std::net::TcpStream::connect(cable.address())?;
            client.set_read_timeout(Some(Duration::from_millis(300)))?;
            Ok::<_, io::Error>(client)
        };
        let mut before = connect(&cable).unwrap();
        assert_eq!(ask(&mut before, b"one").unwrap(), b"one");

        cable.squeeze();
        let error = ask(&mut before, b"two").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        cable.release();
        let mut answer = [0; 3];
        before.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"two");

        cable.pull();
        assert!(ask(&mut before, b"three").is_err(), "an established connection is cut");
        assert_eq!(connect(&cable).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        cable.plug();
        assert_eq!(ask(&mut connect(&cable).unwrap(), b"four").unwrap(), b"four");
    }

    #[test]
    fn a_unix_socket_is_refused_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let (here, server) = (folder.path().join("here"), folder.path().join("server"));
        let listener = Listener::bind(&server).unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut client.try_clone().unwrap(), &mut client));
            }
        });
        let mut cable = Cable::unix(&here, &server);
        let mut before = Stream::connect(&here).unwrap();
        assert_eq!(ask(&mut before, b"one").unwrap(), b"one");
        cable.pull();
        assert_eq!(before.read(&mut [0]).unwrap_or(0), 0, "an established connection is cut");
        assert_eq!(Stream::connect(&here).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        cable.plug();
        assert_eq!(ask(&mut Stream::connect(&here).unwrap(), b"two").unwrap(), b"two");
    }
}
