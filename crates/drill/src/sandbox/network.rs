//! A network with no way out, and the proof of it.
//!
//! An *internal* network of Docker drops what is forwarded, and that is all it promises: engines before 28 still give
//! containers a default route to the bridge, and with it every address of the Docker host itself answers (seen on 20.10),
//! the one that a production server on that host may listen on as well. So the containers get a default gateway that nobody
//! has: nothing but the sandbox's own subnet is reachable at all. What remains is the bridge's own address, because that is how
//! the drill reaches the containers.
//!
//! The subnet is taken at random from 198.18.0.0/15, which is set aside for tests (RFC 2544) and routed nowhere.

use std::{collections::HashMap, time::Duration};

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use serde::{Deserialize, Serialize};

use super::{Container, Docker, Scope};
use crate::{
    error::{Error, Result},
    ladder::Answer,
};

/// An address that belongs to nobody (RFC 5737): given as DNS server.
pub(super) const NOWHERE: &str = "192.0.2.53";

/// How often another subnet is tried.
const TRIES: u32 = 20;

/// Addresses of a subnet: 16, less network, broadcast, bridge and the gateway that nobody has.
const PREFIX: u8 = 28;

/// What was seen of the isolation, for the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The engine reports the network as internal.
    pub internal: bool,
    /// The sandbox's subnets.
    pub subnets: Vec<String>,
    /// The Docker host's own address on the bridge, which containers can reach.
    pub gateways: Vec<String>,
    /// What is wrong; empty when there is no way out.
    pub leaks: Vec<String>,
    /// What was looked at.
    pub looked_at: Vec<String>,
    /// The address outside that was tried from every container and did not answer.
    pub out_of_reach: Option<String>,
    /// What could not be tried, and why: without it nothing is proved.
    #[serde(default)]
    pub untried: Vec<String>,
}

impl Isolation {
    /// What it means: what was not tried is no proof.
    pub(crate) fn answer(&self) -> Answer {
        match (self.leaks.as_slice(), self.untried.as_slice()) {
            ([], []) => Answer::passed(self.summary()),
            ([], untried) => Answer::not_executed(format!("isolation is not proved: {}", untried.join("; ")))
                .in_public(format!("isolation is not proved: {} attempts could not be made", untried.len())),
            (leaks, _) => Answer::failed(leaks.join("; ")),
        }
    }

    /// One line for a check.
    pub fn summary(&self) -> String {
        let tried = match &self.out_of_reach {
            Some(address) => format!("this host at {address} is out of reach"),
            None => "no address outside could be tried from inside".to_owned(),
        };
        format!("internal network {}, no published port, no capability; {tried}", self.subnets.join(", "))
    }
}

pub(super) async fn create(docker: &Docker, scope: &Scope) -> Result<String> {
    let mut last = Error::NoRandomness;
    for _ in 0..TRIES {
        match docker.create_network(request(scope, random_base()?)).await {
            Err(error) if is_taken(&error) => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// A multiple of 16 in 198.18.0.0/15.
fn random_base() -> Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    let low = u32::from_be_bytes(bytes) & ((1 << 17) - 1) & !0xf;
    Ok(u32::from(std::net::Ipv4Addr::new(198, 18, 0, 0)) | low)
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Docker { source, .. } if source.to_string().contains("overlaps"))
}

fn request(scope: &Scope, base: u32) -> NetworkCreateRequest {
    let address = |offset: u32| std::net::Ipv4Addr::from(base + offset).to_string();
    let config = IpamConfig {
        subnet: Some(format!("{}/{PREFIX}", address(0))),
        gateway: Some(address(1)),
        auxiliary_addresses: Some(HashMap::from([("DefaultGatewayIPv4".to_owned(), address(14))])),
        ..IpamConfig::default()
    };
    NetworkCreateRequest {
        name: scope.name("net"),
        driver: Some("bridge".to_owned()),
        internal: Some(true),
        attachable: Some(false),
        enable_ipv6: Some(false),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        labels: Some(scope.labels()),
        ..NetworkCreateRequest::default()
    }
}

pub(super) async fn prove(docker: &Docker, network: &str, containers: &[Container]) -> Result<Isolation> {
    let seen = docker.inspect_network(network).await?;
    let ipam = seen.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let mut isolation = Isolation {
        internal: seen.internal == Some(true),
        subnets: ipam.iter().filter_map(|config| config.subnet.clone()).collect(),
        gateways: ipam.iter().filter_map(|config| config.gateway.clone()).collect(),
        ..Isolation::default()
    };
    if !isolation.internal {
        isolation.leaks.push("the network is not internal".to_owned());
    }
    isolation.looked_at.push("network is internal".to_owned());
    let target = host_address(docker).await;
    for container in containers {
        configuration(docker, network, container, &mut isolation).await?;
        routes(container, &mut isolation).await?;
    }
    if target == NOWHERE {
        isolation.untried.push("the engine names no address of this host that would answer".to_owned());
    }
    let knocks = containers.iter().map(|container| knock(container, &target));
    for (container, answer) in containers.iter().zip(futures::future::join_all(knocks).await) {
        match answer? {
            Knock::Refused(words) => {
                isolation.looked_at.push(format!("{}: {target} is out of reach ({words})", container.role));
                isolation.out_of_reach = Some(target.clone());
            }
            Knock::Reached => isolation.leaks.push(format!("{} reaches {target} outside the sandbox", container.role)),
            Knock::Unknown(why) => {
                isolation.untried.push(format!("{}: could not be tried from inside: {why}", container.role))
            }
        }
    }
    Ok(isolation)
}

/// One network, no published port, no capability, no privilege, as the engine reports it.
async fn configuration(docker: &Docker, network: &str, container: &Container, isolation: &mut Isolation) -> Result<()> {
    let seen = docker.inspect(&container.id).await?;
    let settings = seen.network_settings.unwrap_or_default();
    let host = seen.host_config.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default();
    let published = settings.ports.unwrap_or_default().values().flatten().any(|bindings| !bindings.is_empty());
    let only_ours = networks.len() == 1 && networks.values().all(|one| one.network_id.as_deref() == Some(network));
    let drops_all = host.cap_drop.as_deref().is_some_and(|caps| caps.iter().any(|cap| cap == "ALL"));
    let adds_none = host.cap_add.as_deref().is_none_or(<[String]>::is_empty);
    let mut claims = [
        (only_ours, "is on other networks"),
        (!published, "publishes a port"),
        (drops_all && adds_none, "has capabilities"),
        (host.privileged != Some(true), "is privileged"),
        (host.dns.as_deref() == Some(&[NOWHERE.to_owned()]), "asks another DNS server"),
        (
            host.restart_policy
                .and_then(|policy| policy.name)
                .is_none_or(|name| name.as_ref().is_empty() || name.as_ref() == "no"),
            "is restarted",
        ),
    ]
    .into_iter();
    isolation
        .leaks
        .extend(claims.by_ref().filter(|(holds, _)| !holds).map(|(_, leak)| format!("{} {leak}", container.role)));
    isolation.looked_at.push(format!("{}: on this network only, no published port, no capability", container.role));
    Ok(())
}

/// The container's own routing table must not lead out of the sandbox's subnet.
async fn routes(container: &Container, isolation: &mut Isolation) -> Result<()> {
    let ran = container.run("65534:65534", &["cat", "/proc/net/route"], Duration::from_secs(15)).await?;
    let role = container.role;
    if !ran.is_ok() || !ran.stdout.starts_with("Iface") {
        isolation.untried.push(format!("{role}: its routes cannot be read: {}", ran.tail()));
        return Ok(());
    }
    let leaks = routes_out(&ran.stdout, &isolation.subnets);
    match leaks.is_empty() {
        true => isolation.looked_at.push(format!("{role}: no route out of the sandbox's subnet")),
        false => isolation.leaks.extend(leaks.into_iter().map(|leak| format!("{role} {leak}"))),
    }
    Ok(())
}

/// Routes that lead outside: through a gateway that is not in the subnets (one that is in them is nobody, or the bridge of an
/// internal network, which forwards nothing), or straight to other addresses.
fn routes_out(table: &str, subnets: &[String]) -> Vec<String> {
    let hex = |field: Option<&&str>| {
        let number = field.and_then(|text| u32::from_str_radix(text, 16).ok());
        number.map(|number| std::net::Ipv4Addr::from(number.swap_bytes()))
    };
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(to), Some(gateway)) = (hex(fields.get(1)), hex(fields.get(2))) else {
            found.push("has a route that cannot be read".to_owned());
            continue;
        };
        let next = if gateway.is_unspecified() { to } else { gateway };
        if !subnets.iter().any(|subnet| contains(subnet, next)) {
            found.push(format!("has a route to {to} through {gateway}"));
        }
    }
    found
}

/// Whether an address lies in a subnet, given as `198.18.0.0/28`.
fn contains(subnet: &str, address: std::net::Ipv4Addr) -> bool {
    let Some((base, prefix)) = subnet.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<std::net::Ipv4Addr>(), prefix.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
    prefix <= 32 && u32::from(base) & mask == u32::from(address) & mask
}

/// An address that answers where there is a way out: the Docker host's on the engine's default network.
async fn host_address(docker: &Docker) -> String {
    let seen = docker.inspect_network("bridge").await.ok();
    let config = seen.and_then(|network| network.ipam).and_then(|ipam| ipam.config).unwrap_or_default();
    config.into_iter().find_map(|config| config.gateway).unwrap_or_else(|| NOWHERE.to_owned())
}

#[derive(Debug, PartialEq, Eq)]
enum Knock {
    Refused(&'static str),
    Reached,
    Unknown(String),
}

/// Tries to open a connection from inside. That a closed port refuses it means that the packets arrived.
async fn knock(container: &Container, address: &str) -> Result<Knock> {
    let script = format!("exec 3<>/dev/tcp/{address}/9");
    let command = ["timeout", "6", "bash", "-c", &script];
    let ran = container.run("65534:65534", &command, Duration::from_secs(15)).await?;
    Ok(judge(ran.code, &ran.tail()))
}

fn judge(code: i64, words: &str) -> Knock {
    let reasons = [("Network is unreachable", "no route"), ("No route to host", "nobody at the gateway")];
    match reasons.iter().find(|(text, _)| words.contains(text)) {
        Some((_, reason)) => Knock::Refused(reason),
        None if code == 0 || words.contains("Connection refused") => Knock::Reached,
        None if code == 124 => Knock::Refused("packets are dropped"),
        None => Knock::Unknown(words.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_arrival() {
        assert_eq!(judge(1, "bash: connect: Connection refused"), Knock::Reached);
        assert_eq!(judge(0, ""), Knock::Reached);
        assert_eq!(judge(1, "bash: connect: No route to host"), Knock::Refused("nobody at the gateway"));
        assert_eq!(judge(1, "bash: connect: Network is unreachable"), Knock::Refused("no route"));
        assert_eq!(judge(124, ""), Knock::Refused("packets are dropped"));
        assert!(matches!(judge(127, "bash: not found"), Knock::Unknown(_)));
    }

    #[test]
    fn what_was_not_tried_is_no_proof() {
        use lifeboat_model::check::Verdict;
        let tried = Isolation { internal: true, ..Isolation::default() };
        assert_eq!(tried.answer().verdict, Verdict::Passed);
        let untried = Isolation { untried: vec!["odoo: bash: not found".into()], ..tried.clone() };
        assert!(matches!(untried.answer().verdict, Verdict::NotExecuted(why) if why.contains("bash")));
        let leak = Isolation { leaks: vec!["odoo publishes a port".into()], ..untried };
        assert!(matches!(leak.answer().verdict, Verdict::Failed(_)));
    }

    #[test]
    fn routes_that_lead_out_are_found() {
        let subnets = ["198.18.4.16/28".to_owned()];
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let subnet = "eth0\t100412C6\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n";
        let nobody = "eth0\t00000000\t1E0412C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(routes_out(&[head, subnet].concat(), &subnets), [] as [String; 0]);
        assert_eq!(routes_out(&[head, nobody, subnet].concat(), &subnets), [] as [String; 0]);
        let bridge = "eth1\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(routes_out(&[head, bridge].concat(), &subnets), ["has a route to 0.0.0.0 through 172.17.0.1"]);
        let lan = "eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(routes_out(&[head, subnet, lan].concat(), &subnets).len(), 1);
        let straight = "eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(routes_out(&[head, straight].concat(), &subnets).len(), 1);
        assert_eq!(routes_out(&[head, "eth0 nonsense\n"].concat(), &subnets).len(), 1);
    }

    #[test]
    fn subnets_are_those_for_tests() {
        for _ in 0..100 {
            let base = std::net::Ipv4Addr::from(random_base().unwrap()).octets();
            assert!(base[0] == 198 && (base[1] == 18 || base[1] == 19) && base[3] % 16 == 0, "{base:?}");
        }
    }
}
