//! What systemd is told of the daemon: that it is ready, reloads, stops, and still turns. One datagram each, to the socket that
//! the environment names; without one nobody is told anything.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Whether it counts the seconds since it last heard of us.
    watches: bool,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn of_environment() -> io::Result<Supervisor> {
        let watches = std::env::var_os("WATCHDOG_USEC").is_some();
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(Supervisor { to: None, watches }) };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?; // a service manager that does not read must not hold the daemon up
        Ok(Supervisor { to: Some((socket, address)), watches })
    }

    /// Everything is there, and it listens.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Policies are being read again.
    pub fn reloads(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        self.tell("READY=1"); // a bad file changes nothing, so it is as ready as before
    }

    /// It still turns.
    pub fn turns(&self) {
        if self.watches {
            self.tell("WATCHDOG=1");
        }
    }

    /// It ends, in order.
    pub fn stops(&self) {
        self.tell("STOPPING=1\nSTATUS=runs are torn down");
    }

    fn tell(&self, text: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_what_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let address = SocketAddr::from_pathname(dir.path().join("notify")).unwrap();
        let supervisor = Supervisor { to: Some((UnixDatagram::unbound().unwrap(), address)), watches: true };
        let heard = || {
            let mut buffer = [0; 200];
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        supervisor.ready("serving");
        assert_eq!(heard(), "READY=1\nSTATUS=serving");
        supervisor.turns();
        assert_eq!(heard(), "WATCHDOG=1");
        supervisor.reloads();
        assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(heard(), "READY=1");
        supervisor.stops();
        assert!(heard().starts_with("STOPPING=1"));
        Supervisor { to: None, watches: true }.turns(); // nobody to tell is no failure
    }
}
