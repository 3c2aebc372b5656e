//! What is tried from inside, and what the answers mean.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
};

use super::host::Heard;
use crate::sandbox::network::NOWHERE;

/// Where cloud hosts keep credentials.
const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

/// Addresses that belong to nobody (RFC 5737, RFC 3849): a way to them would be a way to everybody.
const OUTSIDE: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

/// The engine's own resolver, on the loopback of containers that have a network.
const EMBEDDED_RESOLVER: &str = "127.0.0.11";

/// A name that resolves everywhere (RFC 2606).
const NAME: &str = "example.com";

/// How many other containers are tried.
pub(super) const OTHERS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// What is tried at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// A listener of ours on this host.
    Host,
    Metadata,
    Resolver,
    /// A name is resolved.
    Name,
    Other,
    Outside,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    aim: Aim,
    protocol: Protocol,
    /// An address or a name.
    to: String,
    port: u16,
}

impl Target {
    pub fn host(address: IpAddr, protocol: Protocol, port: u16) -> Target {
        Target { aim: Aim::Host, protocol, to: address.to_string(), port }
    }

    pub fn other(address: &str) -> Target {
        Target { aim: Aim::Other, protocol: Protocol::Tcp, to: address.to_owned(), port: 5432 }
    }

    fn new(aim: Aim, protocol: Protocol, to: &str, port: u16) -> Target {
        Target { aim, protocol, to: to.to_owned(), port }
    }

    /// As the script wants it: bash opens `/dev/tcp/10.0.0.7/80`.
    pub fn argument(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{protocol}/{}/{}", self.to, self.port)
    }

    /// Whether it is this host at one of these addresses.
    pub fn is_at(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.aim == Aim::Host && self.to.parse().is_ok_and(|address| addresses.contains(&address))
    }

    fn is_loopback(&self) -> bool {
        self.to.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        match self.aim {
            Aim::Host => write!(f, "this host at {} by {protocol}", self.to),
            Aim::Metadata => write!(f, "metadata address {}", self.to),
            Aim::Resolver => write!(f, "DNS server {} by {protocol}", self.to),
            Aim::Name => write!(f, "resolving {}", self.to),
            Aim::Other => write!(f, "another container at {}", self.to),
            Aim::Outside => write!(f, "address outside {} by {protocol}", self.to),
        }
    }
}

/// Metadata, and addresses of the wide world.
pub(super) fn outside() -> Vec<Target> {
    let metadata = METADATA.map(|to| Target::new(Aim::Metadata, Protocol::Tcp, to, 80));
    let outside = OUTSIDE.iter().flat_map(|to| {
        [(Protocol::Tcp, 443), (Protocol::Udp, 123)]
            .map(|(protocol, port)| Target::new(Aim::Outside, protocol, to, port))
    });
    metadata.into_iter().chain(outside).collect()
}

/// Resolvers: the containers', the engine's, and this host's by its `/etc/resolv.conf`; and resolving a name by whatever there is.
pub(super) fn resolvers(of_host: Option<&str>) -> Vec<Target> {
    let lines = of_host.unwrap_or_default().lines();
    let hosts = lines.filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
    // One of the host's own loopback is not the one of a container; a listener of ours is tried there.
    let hosts = hosts.filter(|text| text.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())).take(3);
    let mut targets = Vec::new();
    for server in hosts.chain([NOWHERE]) {
        targets.extend([Protocol::Udp, Protocol::Tcp].map(|protocol| Target::new(Aim::Resolver, protocol, server, 53)));
    }
    targets.push(Target::new(Aim::Resolver, Protocol::Tcp, EMBEDDED_RESOLVER, 53));
    targets.push(Target::new(Aim::Name, Protocol::Tcp, NAME, 80));
    targets
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempted {
    /// It got nowhere.
    Refused(Cow<'static, str>),
    /// It got somewhere.
    Reached(String),
    /// It proves nothing.
    Unknown(String),
}

/// What the kernel says when there is no way, and what that means.
const NO_WAY: [(&str, &str); 5] = [
    ("Network is unreachable", "no route"),
    ("No route to host", "nobody on the way"),
    ("Cannot assign requested address", "no address to go from"),
    ("Invalid argument", "no interface to go by"),
    ("Address family not supported", "no such protocol"),
];

const UNRESOLVED: [&str; 4] = [
    "Temporary failure in name resolution",
    "Name or service not known",
    "No address associated",
    "Non-recoverable failure",
];

/// `words` are what bash said to each attempt; none means that it was not begun, an empty text that it had to wait.
pub(super) fn judge(target: &Target, words: &HashMap<String, String>, role: &str, heard: &Heard) -> Attempted {
    let Some(words) = words.get(&target.argument()) else {
        return Attempted::Unknown("not tried from inside".to_owned());
    };
    if target.aim == Aim::Host {
        let (address, protocol) = (target.to.as_str(), target.protocol);
        if heard.from(role, address, protocol) {
            return Attempted::Reached("a listener on this host heard it".to_owned());
        }
        if !heard.has_control(address, protocol) {
            return Attempted::Unknown("the same attempt from this host itself did not arrive".to_owned());
        }
        // The container's own loopback may refuse, or take datagrams; the listener on this host's did not hear them.
        if target.is_loopback() && (words.contains("Connection refused") || words == inside_word::OPEN) {
            return Attempted::Refused("its own loopback interface, not this host's: nothing was heard there".into());
        }
    }
    match (target.aim, of_words(target, words)) {
        (Aim::Host, Attempted::Refused(seen)) => {
            Attempted::Refused(format!("{seen}; the same attempt from this host itself arrived").into())
        }
        (_, attempted) => attempted,
    }
}

/// What the script says of an attempt that the kernel let through.
pub(super) mod inside_word {
    pub const OPEN: &str = "open";
    /// For it, where it was ended before it had its time.
    pub const CUT: &str = "the host was too slow: it was ended before it had its time";
}

fn of_words(target: &Target, words: &str) -> Attempted {
    if target.aim == Aim::Name {
        return match UNRESOLVED.iter().find(|text| words.contains(**text)) {
            Some(text) => Attempted::Refused((*text).into()),
            None if words.is_empty() => Attempted::Reached("somebody was asked and did not answer".to_owned()),
            None if NO_WAY.iter().any(|(text, _)| words.contains(text)) || words.contains(inside_word::OPEN) => {
                Attempted::Reached("the name was resolved".to_owned())
            }
            None => Attempted::Unknown(words.to_owned()),
        };
    }
    match NO_WAY.iter().find(|(text, _)| words.contains(text)) {
        Some((_, meaning)) => Attempted::Refused((*meaning).into()),
        None if words.is_empty() => Attempted::Reached("it left the container, and waited for an answer".to_owned()),
        None if words == inside_word::OPEN => Attempted::Reached("the kernel found a way".to_owned()),
        None if words.contains("Connection refused") && target.is_loopback() => {
            Attempted::Refused("nobody listens".into())
        }
        None if words.contains("Connection refused") => Attempted::Reached("it was refused there".to_owned()),
        None => Attempted::Unknown(words.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(target: &Target, words: &str, heard: &Heard) -> Attempted {
        judge(target, &HashMap::from([(target.argument(), words.to_owned())]), "odoo", heard)
    }

    #[test]
    fn a_refusal_is_an_arrival() {
        let target = Target::new(Aim::Outside, Protocol::Tcp, "203.0.113.1", 443);
        let tried = |words| tried(&target, words, &Heard::default());
        assert!(matches!(tried("bash: connect: Connection refused"), Attempted::Reached(_)));
        assert!(matches!(tried("open"), Attempted::Reached(_)));
        assert!(matches!(tried(""), Attempted::Reached(_)), "an attempt that waits has found a route");
        assert_eq!(tried("bash: connect: Network is unreachable"), Attempted::Refused("no route".into()));
        assert_eq!(
            tried("bash: connect: Cannot assign requested address"),
            Attempted::Refused("no address to go from".into())
        );
        assert!(matches!(tried("bash: something else"), Attempted::Unknown(_)));
        assert!(matches!(tried(inside_word::CUT), Attempted::Unknown(_)));
        assert!(matches!(judge(&target, &HashMap::new(), "odoo", &Heard::default()), Attempted::Unknown(_)));
    }

    #[test]
    fn an_attempt_at_the_host_counts_only_beside_one_that_arrives() {
        let target = Target::host("10.0.0.7".parse().unwrap(), Protocol::Tcp, 4000);
        let unreachable = "bash: connect: Network is unreachable";
        let mut heard = Heard::default();
        assert!(matches!(tried(&target, unreachable, &heard), Attempted::Unknown(_)));
        heard.add("host", "10.0.0.7", Protocol::Tcp);
        assert!(matches!(tried(&target, unreachable, &heard), Attempted::Refused(_)));
        heard.add("postgres", "10.0.0.7", Protocol::Tcp);
        assert!(matches!(tried(&target, unreachable, &heard), Attempted::Refused(_)), "another container's");
        heard.add("odoo", "10.0.0.7", Protocol::Tcp);
        assert!(matches!(tried(&target, unreachable, &heard), Attempted::Reached(_)), "whatever it was told");
    }

    #[test]
    fn a_containers_own_loopback_is_not_the_hosts() {
        let target = Target::host("127.0.0.1".parse().unwrap(), Protocol::Udp, 4000);
        let mut heard = Heard::default();
        heard.add("host", "127.0.0.1", Protocol::Udp);
        assert!(matches!(tried(&target, "open", &heard), Attempted::Refused(_)));
        heard.add("odoo", "127.0.0.1", Protocol::Udp);
        assert!(matches!(tried(&target, "open", &heard), Attempted::Reached(_)));
    }

    #[test]
    fn a_name_that_resolves_is_a_way_out() {
        let targets = resolvers(Some("# a comment\nnameserver 10.0.0.2\nnameserver 127.0.0.53\n"));
        let arguments: Vec<String> = targets.iter().map(Target::argument).collect();
        assert!(arguments.contains(&"udp/10.0.0.2/53".to_owned()), "{arguments:?}");
        assert!(!arguments.iter().any(|argument| argument.contains("127.0.0.53")), "{arguments:?}");
        let name = targets.last().unwrap();
        let tried = |words| tried(name, words, &Heard::default());
        assert!(matches!(tried("bash: example.com: Temporary failure in name resolution"), Attempted::Refused(_)));
        assert!(matches!(tried("bash: connect: Network is unreachable"), Attempted::Reached(_)));
        let embedded = &targets[targets.len() - 2];
        assert!(matches!(of_words(embedded, "open"), Attempted::Reached(_)));
        assert!(matches!(of_words(embedded, "bash: connect: Connection refused"), Attempted::Refused(_)));
    }
}
