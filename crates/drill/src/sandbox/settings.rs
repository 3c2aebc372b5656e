//! What every container of a sandbox is started with: the limits, and what it may not do.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType,
    ResourcesUlimits,
};
use lifeboat_model::size::ByteSize;

use super::{Bind, Image, Limits, Scope};

/// The user of the process that only sleeps, and of every attempt to get out.
pub(super) const NOBODY: &str = "65534:65534";

/// Enough for a process that sleeps.
pub(super) const IDLE: Limits = Limits { memory: ByteSize(64 << 20), pids: 16 };

/// Open files of one process: PostgreSQL wants a thousand, Odoo some hundreds; more than the engine itself may have is refused.
pub(super) const NOFILE: i64 = 16_384;

/// What the containers' own `/tmp` may hold. It counts against the memory limit as well.
const TMP_OPTIONS: &str = "rw,nosuid,nodev,mode=1777,size=512m";

/// Shared memory of PostgreSQL's parallel workers.
const SHM_BYTES: i64 = 256 << 20;

/// Limits, and the fence: nothing that the image or the engine's defaults could widen.
pub(super) fn fenced(limits: &Limits) -> HostConfig {
    let memory = i64::try_from(limits.memory.0).unwrap_or(i64::MAX);
    let unlimited =
        |name: &str, value: i64| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) };
    HostConfig {
        memory: Some(memory),
        memory_swap: Some(memory),
        pids_limit: Some(limits.pids),
        // Half the weight of everything else on the host, which has production or backups to do, and never more than it has.
        cpu_shares: Some(512),
        nano_cpus: Some(cpus() * 1_000_000_000),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // The engine's own seccomp profile is in force unless it is switched off by name, which is looked for from inside.
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // No memory dump of a process that held the data, wherever the host keeps such dumps.
        ulimits: Some(vec![unlimited("nofile", NOFILE), unlimited("core", 0)]),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP_OPTIONS.to_owned())])),
        shm_size: Some(SHM_BYTES),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

/// The host's processors.
fn cpus() -> i64 {
    std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1))
}

/// Folders of the drill, and the image's own volumes: these keep what the image put there, and cannot be written, since they lie on
/// the host's disk without a limit. They have names, since the engine makes no nameless volume that cannot be written; teardown
/// finds them by their containers.
pub(super) fn mounts(scope: &Scope, binds: &[Bind], image: &Image) -> Vec<Mount> {
    let binds = binds.iter().map(|bind| Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.display().to_string()),
        target: Some(bind.target.clone()),
        read_only: Some(!bind.writable),
        ..Mount::default()
    });
    let volumes = image.volumes.iter().enumerate().map(|(index, target)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(scope.name(&format!("{}-volume-{index}", image.role))),
        target: Some(target.clone()),
        read_only: Some(true),
        ..Mount::default()
    });
    binds.chain(volumes).collect()
}

/// An idle container of an image.
pub(super) fn body(scope: &Scope, image: &Image, host: HostConfig) -> ContainerCreateBody {
    let mounts = host.mounts.unwrap_or_else(|| mounts(scope, &[], image));
    ContainerCreateBody {
        image: Some(image.id.clone()),
        // Whatever an image says: the idle process is nobody, and programs are run as the image's service user.
        user: Some(NOBODY.to_owned()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec!["2147483647".to_owned()]),
        env: Some(vec!["HOME=/tmp".to_owned()]),
        working_dir: Some("/".to_owned()),
        labels: Some(scope.labels()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(HostConfig { mounts: Some(mounts), ..host }),
        ..ContainerCreateBody::default()
    }
}
