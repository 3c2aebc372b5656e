//! The repository fails: full, read-only, gone, unreachable.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use lifeboat_testkit::{bucket, disk::SmallDisk, port, postgres::Options, testbed};

use crate::{
    gate::{Gate, Held},
    site::{Site, assert_refused, cluster, fill},
};

fn remount(path: &Path, options: &str) {
    let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(path).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_full_disk() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    fill(&cluster, "filler", 40);
    let disk = SmallDisk::mount(10 << 20);
    let mut site = Site::new(cluster.port());
    site.repository = format!("[repository]\npath = \"{}\"", disk.at("repository").display());
    site.configure();
    let words = ["No space left", "make room where the repository lies", "run it again"];
    site.fails(11, &words);
    // And again: what the first run left behind must not be in the way of a clear answer.
    site.fails(11, &words);
    remount(disk.path(), "size=200m");
    site.works();

    // With a point in it, full again: that point stays as it is.
    fill(&cluster, "more", 40);
    let used = used_bytes(disk.path());
    remount(disk.path(), &format!("size={}", used + (3 << 20)));
    site.fails(11, &words);
    site.verifies();
    remount(disk.path(), "size=200m");
    site.works();
}

fn used_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

#[test]
fn a_read_only_disk() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(17, &Options::default());
    let disk = SmallDisk::mount(200 << 20);
    let mut site = Site::new(cluster.port());
    site.repository = format!("[repository]\npath = \"{}\"", disk.at("repository").display());
    site.configure();
    site.works();
    disk.make_read_only();
    site.fails(3, &["is mounted read-only", "remount it writable"]);
    site.verifies();
    remount(disk.path(), "rw");
    site.works();
}

/// The cache of known chunks needs room too.
#[test]
fn a_full_state_folder() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    let disk = SmallDisk::mount(4096);
    let mut site = Site::new(cluster.port());
    site.state = disk.at("state");
    site.configure();
    site.fails(11, &["No space left", disk.path().to_str().unwrap(), "engine.state_dir"]);
    remount(disk.path(), "size=50m");
    site.works();
}

/// A disk that is not mounted: the folder is there and empty. A new repository in it would go unnoticed for months.
#[test]
fn a_repository_that_is_gone_is_not_made_anew() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    let site = Site::new(cluster.port());
    site.works();
    fs::rename(site.at("repository"), site.at("elsewhere")).unwrap();
    fs::create_dir(site.at("repository")).unwrap();
    let output = site.run(&["backup", "clinic"]);
    let marker = site.state.join("repository");
    let words = ["held a repository before and holds none now", "is its disk mounted", marker.to_str().unwrap()];
    assert_refused(&output, 1, &words);
    assert_eq!(fs::read_dir(site.at("repository")).unwrap().count(), 0);
    fs::remove_dir(site.at("repository")).unwrap();
    fs::rename(site.at("elsewhere"), site.at("repository")).unwrap();
    site.works();
}

/// Configures an S3 repository behind this address; gives the real server's.
fn behind(site: &mut Site, address: SocketAddr) -> SocketAddr {
    let real = bucket::options(&bucket::random_prefix("faults"));
    let endpoint = real.endpoint.clone().unwrap();
    let secrets = testbed::state_dir().join("secrets");
    site.repository = format!(
        "[repository.s3]\nendpoint = \"http://{address}\"\nbucket = \"{}\"\nprefix = \"{}\"\nregion = \"{}\"\n\
         path_style = true\naccess_key_file = \"{secrets}/s3-access-key\"\nsecret_key_file = \"{secrets}/s3-secret-key\"",
        real.bucket,
        real.prefix,
        real.region,
        secrets = secrets.display()
    );
    site.configure();
    endpoint.socket_addrs(|| Some(80)).unwrap()[0]
}

const NO_ANSWER: [&str; 3] = ["did not answer", "check network and endpoint", "lifeboat doctor"];

#[test]
fn an_s3_endpoint_that_is_down() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(17, &Options::default());
    let mut site = Site::new(cluster.port());
    let address = port::closed();
    let server = behind(&mut site, address);
    assert_refused(&site.run(&["backup", "clinic"]), 10, &NO_ANSWER);
    let _gate = Gate::start_at(address, server, Held::Requests, None);
    assert_eq!(site.points(), Vec::<String>::new());
    site.works();
}

#[test]
fn an_s3_endpoint_that_goes_down() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    fill(&cluster, "filler", 40);
    let mut site = Site::new(cluster.port());
    let address = port::closed();
    let server = behind(&mut site, address);
    // In the middle of the packs.
    let gate = Gate::start_at(address, server, Held::Requests, Some(2 << 20));
    let backup = site.start(&["backup", "clinic"]);
    gate.wait_until_held();
    drop(gate);
    assert_refused(&backup.end(), 10, &NO_ANSWER);
    let _gate = Gate::start_at(address, server, Held::Requests, None);
    assert_eq!(site.points(), Vec::<String>::new());
    site.works();
}
