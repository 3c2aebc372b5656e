//! What the engine says of the sandbox's containers, and of others.

use std::path::Path;

use bollard::models::{ContainerInspectResponse, ContainerSummary, HostConfig, HostConfigCgroupnsModeEnum, MountPoint};
use lifeboat_model::size::ByteSize;

use super::{Claims, attempts};
use crate::{
    error::Result,
    sandbox::{Container, Docker, LABEL, Scope, network},
};

/// One container: the network of the sandbox, no privilege, every limit in force, nothing of the host but folders of the drill.
pub(super) async fn claims(docker: &Docker, work: &Path, holder: &str, container: &Container) -> Result<Claims> {
    let (seen, of_holder) = tokio::try_join!(docker.inspect(&container.id), docker.inspect(holder))?;
    Ok(judge(&seen, &of_holder, work, holder))
}

fn judge(seen: &ContainerInspectResponse, of_holder: &ContainerInspectResponse, work: &Path, holder: &str) -> Claims {
    let host = seen.host_config.clone().unwrap_or_default();
    let mode = of_holder.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
    let mut leaks = Vec::new();
    let mut demand = |holds: bool, leak: &str| leaks.extend((!holds).then(|| leak.to_owned()));
    demand(host.network_mode.as_deref() == Some(&network::mode(holder)), "is on another network");
    demand(mode == Some("none") && !is_connected(of_holder), "is on a network");
    demand(!publishes(seen) && !publishes(of_holder), "publishes a port");
    fence(&host, &mut demand);
    limits(&host, &mut demand);
    leaks.extend(foreign_mounts(seen.mounts.as_deref().unwrap_or_default(), work));
    let lines = seen.config.as_ref().and_then(|config| config.env.clone()).unwrap_or_default();
    let name = |line: &String| line.split_once('=').map_or(line.as_str(), |(name, _)| name).to_owned();
    Claims { seen: Some(words(&host)), leaks, unknown: Vec::new(), environment: lines.iter().map(name).collect() }
}

/// Joined networks that are more than none: `none` itself is a network with no address.
fn is_connected(seen: &ContainerInspectResponse) -> bool {
    let networks = seen.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let has_address = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    networks.is_some_and(|networks| {
        networks.values().any(|one| has_address(&one.ip_address) || has_address(&one.global_ipv6_address))
    })
}

fn publishes(seen: &ContainerInspectResponse) -> bool {
    let ports = seen.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    ports.is_some_and(|ports| ports.values().flatten().any(|bindings| !bindings.is_empty()))
}

fn fence(host: &HostConfig, demand: &mut impl FnMut(bool, &str)) {
    let is_empty = |list: Option<usize>| list.unwrap_or(0) == 0;
    let drops_all = host.cap_drop.as_deref().is_some_and(|caps| caps.iter().any(|cap| cap == "ALL"));
    let adds_none = host.cap_add.as_deref().is_none_or(<[String]>::is_empty);
    let options = host.security_opt.as_deref().unwrap_or_default();
    let restarts = host.restart_policy.as_ref().and_then(|policy| policy.name);
    demand(drops_all && adds_none, "has capabilities");
    demand(host.privileged != Some(true), "is privileged");
    demand(options.iter().any(|option| option.starts_with("no-new-privileges")), "may gain privileges");
    demand(!options.iter().any(|option| option.contains("unconfined") || option.contains("disable")), "is unconfined");
    demand(host.readonly_rootfs == Some(true), "can write its root file system");
    demand(is_empty(host.devices.as_ref().map(Vec::len)), "has devices");
    demand(is_empty(host.device_requests.as_ref().map(Vec::len)), "asks for devices");
    demand(is_empty(host.device_cgroup_rules.as_ref().map(Vec::len)), "has rules for devices");
    demand(host.pid_mode.as_deref().unwrap_or_default().is_empty(), "sees other processes");
    demand(host.ipc_mode.as_deref() == Some("private"), "shares its IPC namespace");
    demand(host.uts_mode.as_deref().unwrap_or_default().is_empty(), "shares the host's name");
    demand(host.userns_mode.as_deref().unwrap_or_default().is_empty(), "opts out of the engine's user namespace");
    demand(host.cgroupns_mode != Some(HostConfigCgroupnsModeEnum::HOST), "sees the host's control groups");
    demand(is_empty(host.volumes_from.as_ref().map(Vec::len)), "has another container's volumes");
    demand(restarts.is_none_or(|name| matches!(name.as_ref(), "" | "no")), "is restarted");
}

fn limits(host: &HostConfig, demand: &mut impl FnMut(bool, &str)) {
    let positive = |number: Option<i64>| number.is_some_and(|number| number > 0);
    let ulimits = host.ulimits.as_deref().unwrap_or_default();
    let limited = |name: &str| ulimits.iter().any(|limit| limit.name.as_deref() == Some(name));
    demand(positive(host.memory) && host.memory_swap == host.memory, "has no limit of memory and swap");
    demand(host.oom_kill_disable != Some(true), "is not killed when memory is used up");
    demand(positive(host.pids_limit), "has no limit of processes");
    demand(positive(host.nano_cpus) && positive(host.cpu_shares), "has no limit of processor time");
    demand(limited("nofile") && limited("core"), "has no limit of open files or core files");
    let tmpfs = host.tmpfs.as_ref();
    demand(
        tmpfs.is_some_and(|mounts| mounts.values().all(|options| options.contains("size="))),
        "has a file system in memory without a limit",
    );
}

/// Mounts that are neither a folder of the drill nor the image's own volume, unwritable. The host's programs are told by their
/// sockets (`docker.sock`), which would be such a mount. A folder is where it leads to, whatever it is called.
fn foreign_mounts(mounts: &[MountPoint], work: &Path) -> Vec<String> {
    let within = |source: &Path| {
        let (source, work) = (source.canonicalize(), work.canonicalize());
        source.is_ok_and(|source| work.is_ok_and(|work| source.starts_with(work)))
    };
    let is_ours = |mount: &MountPoint| {
        let kind = mount.typ.clone().unwrap_or_default();
        let source = mount.source.as_deref().unwrap_or_default();
        match kind.as_str() {
            "bind" => within(Path::new(source)),
            "volume" => mount.rw == Some(false),
            "tmpfs" => true,
            _ => false,
        }
    };
    let foreign = mounts.iter().filter(|mount| !is_ours(mount));
    foreign
        .map(|mount| format!("has a mount that is not the drill's at {}", mount.destination.as_deref().unwrap_or("?")))
        .collect()
}

fn words(host: &HostConfig) -> String {
    let bytes = |number: Option<i64>| ByteSize(number.unwrap_or(0).unsigned_abs());
    format!(
        "the engine says: no network of its own, no published port; memory and swap {}, {} processes, {} processors at weight {} of 1024, \
         shared memory {}, /tmp in memory and limited; no device, no namespace of the host, no other mount than folders of the drill, \
         never restarted",
        bytes(host.memory),
        host.pids_limit.unwrap_or(0),
        host.nano_cpus.unwrap_or(0) / 1_000_000_000,
        host.cpu_shares.unwrap_or(0),
        bytes(host.shm_size),
    )
}

/// Containers that are not this drill's.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Their addresses: to be tried.
    pub addresses: Vec<String>,
    /// How many there are, in words.
    pub seen: String,
    /// Who shares this drill's network without being of it.
    pub leaks: Vec<String>,
}

/// Looks at every running container: other drills, and whatever else the engine runs.
pub(super) async fn others(docker: &Docker, scope: &Scope, holder: &str) -> Result<Others> {
    Ok(sort(&docker.running().await?, &scope.run.to_string(), holder))
}

fn sort(running: &[ContainerSummary], run: &str, holder: &str) -> Others {
    let label = |one: &ContainerSummary| one.labels.as_ref().and_then(|labels| labels.get(LABEL)).cloned();
    let strangers: Vec<&ContainerSummary> = running.iter().filter(|one| label(one).as_deref() != Some(run)).collect();
    let mode = |one: &ContainerSummary| one.host_config.as_ref().and_then(|host| host.network_mode.clone());
    let joined = strangers.iter().filter(|one| mode(one).as_deref() == Some(&network::mode(holder)));
    let leaks =
        joined.map(|one| format!("container {} shares the sandbox's network", one.id.as_deref().unwrap_or("?")));
    let networks = strangers.iter().filter_map(|one| one.network_settings.as_ref()?.networks.as_ref());
    let mut addresses: Vec<String> = networks
        .flat_map(|networks| {
            networks.values().flat_map(|one| [one.ip_address.clone(), one.global_ipv6_address.clone()])
        })
        .flatten()
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort();
    addresses.dedup();
    let known = addresses.len();
    addresses.truncate(attempts::OTHERS);
    let mut drills: Vec<String> = strangers.iter().filter_map(|one| label(one)).collect();
    drills.sort();
    drills.dedup();
    let seen = format!(
        "containers of {} other drills and {} others run on this engine: none shares the sandbox's network; {} of their {known} \
         addresses are tried",
        drills.len(),
        strangers.iter().filter(|one| label(one).is_none()).count(),
        addresses.len(),
    );
    Others { leaks: leaks.collect(), addresses, seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_the_drills_by_where_it_leads() {
        let (outside, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(work.path().join("real")).unwrap();
        std::os::unix::fs::symlink(outside.path(), work.path().join("link")).unwrap();
        let foreign = |name: &str| {
            let source = Some(work.path().join(name).display().to_string());
            let mount = MountPoint { typ: Some("bind".to_owned()), source, ..MountPoint::default() };
            foreign_mounts(&[mount], work.path()).len()
        };
        assert_eq!((foreign("real"), foreign("link"), foreign("../"), foreign("gone")), (0, 1, 1, 1));
    }
}
