//! Nothing gets out of a sandbox, and a container that is not fenced is found out.

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::Timestamp;
use lifeboat_drill::sandbox::{Container, Docker, Limits, Sandbox, Scope, isolation::Isolation, teardown};
use lifeboat_model::{id::RunId, size::ByteSize};

use crate::origin::{POSTGRES_IMAGE, enabled, shell, work_root};

struct Fenced {
    docker: Docker,
    run: RunId,
    work: std::path::PathBuf,
    sandbox: Sandbox,
    container: Container,
}

impl Fenced {
    async fn start(root: &Path) -> Fenced {
        let mut run = [0; 8];
        getrandom::fill(&mut run).unwrap();
        let run = RunId(run);
        let work = teardown::make_folder(root, run).unwrap();
        let docker = Docker::connect(None).await.unwrap();
        let scope = Scope {
            run,
            tenant: "testbed".parse().unwrap(),
            instance: "demo".parse().unwrap(),
            started: Timestamp::now(),
            deadline: Timestamp::now() + Duration::from_secs(600),
            work: work.clone(),
        };
        let image = docker.image("postgres", POSTGRES_IMAGE).await.unwrap();
        let sandbox = Sandbox::create(docker.clone(), scope, &image).await.unwrap();
        let limits = Limits { memory: ByteSize(1 << 30), pids: 64 };
        let container = sandbox.start("postgres", &image, limits, &[]).await.unwrap();
        Fenced { docker, run, work, sandbox, container }
    }

    async fn proof(&self) -> Isolation {
        self.sandbox.isolation(std::slice::from_ref(&self.container)).await.unwrap()
    }

    async fn end(self) {
        let done = teardown::remove(Some(&self.docker), self.run, &self.work).await;
        assert_eq!((done.containers, done.left.len()), (2, 0), "{:?}", done.left);
    }
}

async fn inside(container: &Container, script: &str) -> (i64, String) {
    let ran =
        container.run("65534:65534", &["timeout", "10", "bash", "-c", script], Duration::from_secs(20)).await.unwrap();
    (ran.code, ran.tail())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_to_get_out_fails_and_is_written_down() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let fenced = Fenced::start(work.path()).await;
    let before = addresses();
    let proof = fenced.proof().await;
    let lines: Vec<String> =
        proof.attempts.iter().map(|one| format!("{} -> {}: {}", one.from, one.at, one.seen)).collect();
    println!("{}\n{}", lines.join("\n"), proof.looked_at.join("\n"));
    assert_eq!((proof.leaks.as_slice(), proof.untried.as_slice()), (&[] as &[String], &[] as &[String]));
    assert!(proof.internal);
    // Every address of this host, the engine's bridge among them, with the control that arrived. Containers of other tests come and
    // go meanwhile, and their ends of the line with them.
    for address in before.intersection(&addresses()) {
        for protocol in ["TCP", "UDP"] {
            let at = format!("this host at {address} by {protocol}");
            let seen = proof.attempts.iter().find(|one| one.at == at).unwrap_or_else(|| panic!("{at} was not tried"));
            assert!(
                seen.seen.contains("from this host itself arrived") || seen.seen.contains("its own loopback"),
                "{seen:?}"
            );
        }
    }
    for at in ["metadata address 169.254.169.254", "resolving example.com", "address outside 203.0.113.1 by TCP"] {
        assert!(proof.attempts.iter().any(|one| one.at == at), "{at}");
    }
    assert!(proof.attempts.iter().any(|one| one.at.starts_with("DNS server") && one.at.ends_with("UDP")));
    assert!(
        proof.attempts.iter().any(|one| one.at.starts_with("another container at ")),
        "the testbed's own are there"
    );
    fenced.end().await;
}

/// The addresses of this host, without those that nobody can use yet.
fn addresses() -> BTreeSet<String> {
    let told = shell("ip -o addr show | grep -vE 'tentative|dadfailed' | awk '{print $4}' | cut -d/ -f1").unwrap();
    told.lines().map(str::to_owned).collect()
}

/// The listener of one drill is not heard by another, and both hear their own.
#[tokio::test(flavor = "multi_thread")]
async fn drills_do_not_reach_each_other() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let (one, other) = (Fenced::start(work.path()).await, Fenced::start(work.path()).await);
    let listen = "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 5, LocalAddr => \"0.0.0.0\", LocalPort => 5432) \
                  or die; open F, \">\", \"/tmp/ready\"; close F; $c = $s->accept while 1' >/dev/null 2>&1 & \
                  for i in $(seq 50); do [ -e /tmp/ready ] && exit 0; sleep 0.1; done; exit 1";
    assert_eq!(inside(&other.container, listen).await, (0, String::new()));
    let call = "exec 3<>/dev/tcp/127.0.0.1/5432";
    assert_eq!(inside(&other.container, call).await.0, 0, "the listener's own container reaches it");
    let (code, words) = inside(&one.container, call).await;
    assert!(code == 1 && words.contains("Connection refused"), "{code} {words}");
    let proof = one.proof().await;
    assert!(proof.leaks.is_empty(), "{:?}", proof.leaks);
    assert!(
        proof.looked_at.iter().any(|seen| seen.starts_with("containers of 1 other drills")
            || seen.starts_with("containers of ") && seen.contains("none shares")),
        "{:?}",
        proof.looked_at
    );
    one.end().await;
    other.end().await;
}

/// The proof can fail: the same questions asked of a container on a bridge, with the host's own limits, find what is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_on_a_bridge_is_found_out() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let fenced = Fenced::start(work.path()).await;
    let id = &fenced.container.id;
    // A network that Docker calls internal, joined afterwards: the holder's namespace is that of the container.
    let network = format!("lifeboat-test-{}", fenced.run);
    let holder = shell(&format!("docker inspect -f '{{{{.HostConfig.NetworkMode}}}}' {id}")).unwrap();
    let holder = holder.trim().strip_prefix("container:").unwrap().to_owned();
    shell(&format!("docker network create --internal {network}")).unwrap();
    let joined =
        shell(&format!("docker network disconnect none {holder} && docker network connect {network} {holder}"));
    let proof = fenced.proof().await;
    let _ = shell(&format!("docker network disconnect -f {network} {holder}; docker network rm {network}"));
    joined.unwrap();
    println!("{}", proof.leaks.join("\n"));
    assert!(!proof.internal);
    for leak in ["is on a network", "has interfaces lo, eth", "has routes by eth", "a listener on this host heard it"] {
        assert!(proof.leaks.iter().any(|found| found.contains(leak)), "{leak}: {:?}", proof.leaks);
    }
    fenced.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_cannot_fill_the_host() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let fenced = Fenced::start(work.path()).await;
    let refused = |script: &'static str| inside(&fenced.container, script);
    for (script, words) in [
        ("dd if=/dev/zero of=/tmp/full bs=1M count=600 2>&1", ""),
        ("echo x > /etc/x", "Read-only file system"),
        ("echo x > /var/lib/postgresql/x", ""),
        ("mknod /tmp/sda b 8 0", "Operation not permitted"),
        ("mount -t tmpfs x /mnt", ""),
        ("for i in $(seq 200); do sleep 20 & done", "Resource temporarily unavailable"),
        ("ulimit -n 100000", "cannot modify limit"),
    ] {
        let (code, seen) = refused(script).await;
        assert!(code != 0 && seen.contains(words), "{script}: {code} {seen}");
    }
    fenced.end().await;
}
