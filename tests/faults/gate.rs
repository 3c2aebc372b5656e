//! A TCP gate between the program and a server: it can hold a connection once so many bytes have passed, so that a test
//! is in the middle of things for as long as it likes, and let it go on, or cut it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(50);

/// Which bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Requests,
    Replies,
}

pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    held: Held,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Each connection is held after so many bytes.
    after: Option<u64>,
    waiting: bool,
    closed: bool,
    streams: Vec<TcpStream>,
}

impl Gate {
    /// A gate on a free port that holds each connection after so many bytes.
    pub fn start(server: SocketAddr, held: Held, after: u64) -> Gate {
        Gate::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), server, held, Some(after))
    }

    pub fn start_at(address: SocketAddr, server: SocketAddr, held: Held, after: Option<u64>) -> Gate {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State { after, ..State::default() });
        let shared = Arc::new(Shared { server, held, state, changed: Condvar::new() });
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.state().closed {
                    break;
                }
                serving.serve(client);
            }
        });
        Gate { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a connection is held.
    pub fn wait_until_held(&self) {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.waiting, "no connection came far enough to be held");
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.shared.state().after = None;
        self.shared.changed.notify_all();
    }

    /// Cuts every connection; new ones go through.
    pub fn cut(&self) {
        let streams = std::mem::take(&mut self.shared.state().streams);
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended by itself
        }
        self.open();
    }
}

impl Drop for Gate {
    /// From here on connections are refused.
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.cut();
        let _ = TcpStream::connect(self.address); // wakes the listener, which then ends
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            self.state().streams.push(stream.try_clone().unwrap());
        }
        let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        for (from, to, counted) in [(client, to_server, Held::Requests), (server, to_client, Held::Replies)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to, counted == shared.held));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            passed += read as u64;
            if counted {
                self.hold(passed);
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write); // it may have ended by itself
    }

    fn hold(&self, passed: u64) {
        let mut state = self.state();
        while state.after.is_some_and(|after| passed > after) {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
