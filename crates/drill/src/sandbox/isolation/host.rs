//! Listeners of our own at every address of this host: what is tried from inside must not be heard there, and the same attempt from
//! the host itself must be. Without that an attempt that fails proves nothing: a firewall, or nobody listening, looks the same.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::attempts::{Protocol, Target};

/// A host with hundreds of bridges has as many addresses; each takes two sockets.
const ADDRESSES: usize = 64;

/// How long an attempt from this host to itself may take.
const CONTROL: Duration = Duration::from_secs(3);

/// What a container says at most: its role and the token.
const WORDS: usize = 128;

/// Who was heard where: sender, address, protocol.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    seen: HashSet<(String, String, Protocol)>,
}

impl Heard {
    pub fn from(&self, role: &str, address: &str, protocol: Protocol) -> bool {
        self.seen.contains(&(role.to_owned(), address.to_owned(), protocol))
    }

    pub fn has_control(&self, address: &str, protocol: Protocol) -> bool {
        self.from(HOST, address, protocol)
    }

    pub fn add(&mut self, sender: &str, address: &str, protocol: Protocol) {
        self.seen.insert((sender.to_owned(), address.to_owned(), protocol));
    }
}

/// How the control calls itself.
const HOST: &str = "host";

type Words = Arc<Mutex<Vec<(String, IpAddr, Protocol)>>>;

/// The listeners. They end when this is dropped.
pub(super) struct Listeners {
    places: Vec<(SocketAddr, Protocol)>,
    words: Words,
    tasks: Vec<AbortOnDropHandle<()>>,
    /// Why they are not what they should be.
    pub problem: Option<String>,
    /// What was left out, and why that is no gap.
    pub noted: Option<String>,
}

impl Listeners {
    pub async fn open() -> Listeners {
        let mut addresses = addresses();
        let mut listeners =
            Listeners { places: Vec::new(), words: Words::default(), tasks: Vec::new(), problem: None, noted: None };
        if addresses.len() > ADDRESSES {
            let rest = addresses.split_off(ADDRESSES);
            let words = format!("{} more addresses of this host were not tried: no route is no route", rest.len());
            listeners.noted = Some(words);
        }
        for address in addresses {
            listeners.listen(address).await;
        }
        if listeners.places.iter().all(|(place, _)| place.ip().is_loopback()) {
            listeners.problem = Some("no address of this host could be listened on, so none could be tried".to_owned());
        }
        listeners
    }

    /// An address that is just going away is not listened on.
    async fn listen(&mut self, address: SocketAddr) {
        if let Ok(listener) = TcpListener::bind(address).await
            && let Ok(place) = listener.local_addr()
        {
            self.places.push((place, Protocol::Tcp));
            let words = Arc::clone(&self.words);
            self.tasks.push(AbortOnDropHandle::new(tokio::spawn(hear_tcp(listener, place.ip(), words))));
        }
        if let Ok(socket) = UdpSocket::bind(address).await
            && let Ok(place) = socket.local_addr()
        {
            self.places.push((place, Protocol::Udp));
            let words = Arc::clone(&self.words);
            self.tasks.push(AbortOnDropHandle::new(tokio::spawn(hear_udp(socket, place.ip(), words))));
        }
    }

    pub fn targets(&self) -> Vec<Target> {
        self.places.iter().map(|(place, protocol)| Target::host(place.ip(), *protocol, place.port())).collect()
    }

    /// Addresses that were listened on and are this host's no more.
    pub fn gone(&self) -> BTreeSet<IpAddr> {
        let now: HashSet<IpAddr> = addresses().iter().map(SocketAddr::ip).collect();
        self.places.iter().map(|(place, _)| place.ip()).filter(|address| !now.contains(address)).collect()
    }

    /// Tries from this host itself, and tells who was heard.
    pub async fn control(&self, token: &str) -> Heard {
        let words = format!("{HOST}-{token}");
        let calls = self.places.iter().map(|(place, protocol)| call(*place, *protocol, &words));
        futures::future::join_all(calls).await;
        let begun = tokio::time::Instant::now();
        let mut heard = self.heard(token);
        let all = |heard: &Heard| {
            self.places.iter().all(|(place, protocol)| heard.has_control(&place.ip().to_string(), *protocol))
        };
        while !all(&heard) && begun.elapsed() < CONTROL {
            tokio::time::sleep(Duration::from_millis(10)).await;
            heard = self.heard(token);
        }
        heard
    }

    fn heard(&self, token: &str) -> Heard {
        let mut heard = Heard::default();
        let suffix = format!("-{token}");
        for (words, address, protocol) in self.words.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(sender) = words.strip_suffix(&suffix) {
                heard.add(sender, &address.to_string(), *protocol);
            }
        }
        heard
    }
}

async fn call(place: SocketAddr, protocol: Protocol, words: &str) {
    let calling = async {
        match protocol {
            Protocol::Tcp => TcpStream::connect(place).await?.write_all(words.as_bytes()).await,
            Protocol::Udp => {
                let unspecified: IpAddr =
                    if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((unspecified, 0)).await?;
                socket.send_to(words.as_bytes(), place).await.map(|_| ())
            }
        }
    };
    if let Ok(Err(error)) = timeout(CONTROL, calling).await {
        tracing::debug!(%place, %error, "this host does not reach itself");
    }
}

fn remember(words: &Words, bytes: &[u8], address: IpAddr, protocol: Protocol) {
    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
    // A stranger that floods the port must not fill our memory.
    if words.len() < 4096 {
        words.push((String::from_utf8_lossy(bytes).into_owned(), address, protocol));
    }
}

async fn hear_tcp(listener: TcpListener, address: IpAddr, words: Words) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut bytes = Vec::new();
        let mut limited = (&mut client).take(WORDS as u64);
        let _ = timeout(Duration::from_secs(1), limited.read_to_end(&mut bytes)).await;
        remember(&words, &bytes, address, Protocol::Tcp);
    }
}

async fn hear_udp(socket: UdpSocket, address: IpAddr, words: Words) {
    let mut bytes = [0; WORDS];
    while let Ok((length, _)) = socket.recv_from(&mut bytes).await {
        remember(&words, &bytes[..length], address, Protocol::Udp);
    }
}

/// Every address of this host's interfaces, as the kernel lists them.
fn addresses() -> Vec<SocketAddr> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let inet6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let four = local_in_trie(&trie).into_iter().map(|address| SocketAddr::from((address, 0)));
    let six = of_interfaces(&inet6).into_iter().map(|(address, scope)| SocketAddrV6::new(address, 0, 0, scope).into());
    four.chain(six).collect()
}

/// Leaves of the routing table that are this host's own: the line below an address says `/32 host LOCAL`.
fn local_in_trie(table: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("|-- ") {
            last = text.parse().ok();
        } else if let Some(address) = last.filter(|_| line == "/32 host LOCAL")
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// `IFA_F_DADFAILED` and `IFA_F_TENTATIVE` of `linux/if_addr.h`: somebody else may have the address (RFC 4862, section 5.4), so
/// the kernel takes nothing that is sent there, and lets nobody listen.
const NOT_OURS_YET: u8 = 0x08 | 0x40;

/// Addresses of `/proc/net/if_inet6`, with the interface's number where the address means nothing without it: address, interface,
/// length of the prefix, scope, flags and the interface's name, the numbers in hexadecimal.
fn of_interfaces(table: &str) -> Vec<(Ipv6Addr, u32)> {
    let one = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
        let interface = u32::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
        if flags & NOT_OURS_YET != 0 {
            return None;
        }
        Some((address, if address.is_unicast_link_local() { interface } else { 0 }))
    };
    table.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_more_is_told() {
        let (there, gone) = ("127.0.0.1".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let places = [there, gone].map(|ip: IpAddr| (SocketAddr::new(ip, 4000), Protocol::Tcp)).into();
        let listeners = Listeners { places, words: Words::default(), tasks: Vec::new(), problem: None, noted: None };
        assert_eq!(listeners.gone(), BTreeSet::from([gone]));
        let [there, gone] = [there, gone].map(|ip| Target::host(ip, Protocol::Tcp, 4000).is_at(&listeners.gone()));
        assert_eq!((there, gone), (false, true));
        assert!(!Target::other("192.0.2.9").is_at(&listeners.gone()), "a container that is tried is another matter");
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.0.0.0/24 2 0 2\n        \
                    |-- 10.0.0.0\n           /24 link UNICAST\n        |-- 10.0.0.7\n           /32 host LOCAL\n        \
                    |-- 10.0.0.255\n           /32 link BROADCAST\n     |-- 10.0.0.7\n        /32 host LOCAL\n";
        assert_eq!(local_in_trie(trie), ["10.0.0.7".parse::<Ipv4Addr>().unwrap()]);
        let inet6 = "fe800000000000000042acfffe110002 03 40 20 80   docker0\n\
                     fe80000000000000603c2cfffe2b7a10 15c 40 20 c0 veth0a1b2c3\n\
                     00000000000000000000000000000001 01 80 10 80       lo\n";
        let expected = [("fe80::42:acff:fe11:2".parse().unwrap(), 3), (Ipv6Addr::LOCALHOST, 0)];
        assert_eq!(of_interfaces(inet6), expected);
    }

    #[tokio::test]
    async fn this_host_hears_itself_and_knows_who_spoke() {
        let listeners = Listeners::open().await;
        let targets = listeners.targets();
        assert!(targets.iter().any(|target| target.to_string() == "this host at 127.0.0.1 by TCP"), "{targets:?}");
        let place = listeners.places.iter().find(|(place, _)| place.ip() == Ipv4Addr::LOCALHOST).unwrap();
        call(place.0, place.1, "odoo-feed").await;
        call(place.0, place.1, "odoo-of-yesterday").await;
        let heard = listeners.control("feed").await;
        assert!(heard.from("odoo", "127.0.0.1", place.1) && heard.has_control("127.0.0.1", place.1));
        assert!(!heard.from("postgres", "127.0.0.1", place.1));
    }
}
