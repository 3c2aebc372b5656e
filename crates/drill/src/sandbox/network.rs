//! The sandbox's network: none.
//!
//! An *internal* bridge of Docker drops what is forwarded, and that is all it promises. The host has an address on it, at which
//! whatever listens on all addresses of the host answers, and the engine may route to every other address of the host as well
//! (seen on 20.10). So the containers of a drill get no bridge. One that only sleeps is made without any network; the others share
//! its network namespace, in which there is nothing but the loopback interface. They find each other at 127.0.0.1, and no packet
//! can leave: there is no interface, no route, no address that it could leave by, in IPv4 or IPv6. Nothing of the host's firewall
//! is needed or touched, and it is the same on every engine.
//!
//! The host comes in the other way, through Unix sockets in folders of the drill: see [`super::gate`].

use bollard::models::{ContainerCreateBody, HostConfig};

use super::{Docker, Image, Scope, settings};
use crate::error::Result;

/// An address that belongs to nobody (RFC 5737): given as DNS server.
pub(super) const NOWHERE: &str = "192.0.2.53";

/// What the container that holds the network is called.
pub(super) const ROLE: &str = "network";

/// Starts the container that holds the network: it sleeps. Gives its id.
pub(super) async fn create(docker: &Docker, scope: &Scope, image: &Image) -> Result<String> {
    docker.start(&scope.name(ROLE), body(scope, image)).await
}

/// How another container joins it.
pub(super) fn mode(holder: &str) -> String {
    format!("container:{holder}")
}

fn body(scope: &Scope, image: &Image) -> ContainerCreateBody {
    let host = HostConfig {
        network_mode: Some("none".to_owned()),
        // There is no way to any; whatever still asks is not told the host's.
        dns: Some(vec![NOWHERE.to_owned()]),
        dns_search: Some(vec![".".to_owned()]),
        ..settings::fenced(&settings::IDLE)
    };
    ContainerCreateBody { hostname: Some("sandbox".to_owned()), ..settings::body(scope, image, host) }
}
