//! What the repository lacks although its listing goes on, and what it does not hold although its listing says so: the
//! server still has it, and must be asked for it before it is told that it may forget.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lifeboat_testkit::{
    folder,
    postgres::{Options, Postgres},
    testbed,
};

use crate::{
    chaos::json,
    restored::restore,
    site::{Site, cluster},
};

/// Three segments of WAL and some rows.
fn write(source: &Postgres, table: &str) {
    source.psql("demo", &format!("CREATE TABLE {table} AS SELECT g FROM generate_series(1, 1000) g")).unwrap();
    for _ in 0..3 {
        source.psql("demo", &format!("INSERT INTO {table} SELECT g FROM generate_series(1, 1000) g")).unwrap();
        source.psql("postgres", "SELECT pg_switch_wal()").unwrap();
    }
}

/// A stored log whose server was told of less than is stored: as after a kill, or a put that failed among others.
fn acknowledged_late() -> (Postgres, Site) {
    let source = cluster(15, &Options::default());
    let site = Site::new(source.port());
    site.works();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    source.psql("postgres", "SELECT pg_copy_physical_replication_slot('lifeboat_clinic', 'early')").unwrap();
    write(&source, "one");
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site.succeed(&["wal", "drop-slot", "clinic"]);
    source.psql("postgres", "SELECT pg_copy_physical_replication_slot('early', 'lifeboat_clinic')").unwrap();
    source.psql("postgres", "SELECT pg_drop_replication_slot('early')").unwrap();
    (source, site)
}

fn archive(site: &Site) -> PathBuf {
    let wal = site.at("repository/hospital/clinic/wal");
    let system = fs::read_dir(wal).unwrap().next().unwrap().unwrap().path();
    system.join("00000001")
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = folder::files(folder).into_iter().map(|name| folder.join(name)).collect();
    found.sort();
    found
}

fn assert_whole(site: &Site, source: Postgres, rows: &str) {
    let answer = json(site, &["wal", "check", "clinic", "--read"]);
    assert_eq!(answer["instances"][0]["streams"][0]["runs"].as_array().unwrap().len(), 1, "{answer:#}");
    drop(source);
    let restored = restore(site, 15, &[]);
    assert_eq!(restored.psql("demo", "SELECT count(*) FROM one").unwrap(), rows);
}

#[test]
fn a_hole_that_the_server_can_fill_is_filled() {
    if !testbed::enabled() {
        return;
    }
    let (source, site) = acknowledged_late();
    let segments = objects(&archive(&site).join("segment"));
    let victim = &segments[segments.len() - 2];
    fs::remove_file(victim).unwrap();
    assert_eq!(site.run(&["wal", "check", "clinic"]).status.code(), Some(4));
    let done = json(&site, &["wal", "stream", "clinic", "--once"]);
    assert!(done["gaps"].as_array().unwrap().is_empty(), "{done:#}");
    assert_whole(&site, source, "4000");
}

#[test]
fn a_name_alone_does_not_make_the_server_forget() {
    if !testbed::enabled() {
        return;
    }
    let (source, site) = acknowledged_late();
    let last = objects(&archive(&site).join("segment")).pop().unwrap();
    let name = last.file_name().unwrap().to_str().unwrap().to_owned();
    let end = u64::from_str_radix(name.split('-').nth(1).unwrap(), 16).unwrap();
    let forged = archive(&site).join(format!("slice/{end:016x}-{:016x}-{}", end + (3 << 20), "ab".repeat(16)));
    fs::create_dir_all(forged.parent().unwrap()).unwrap();
    fs::write(&forged, [7; 100]).unwrap();
    source.psql("demo", "INSERT INTO one SELECT g FROM generate_series(1, 500) g").unwrap();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    // What the forger wrote is named, and what the server had is held in spite of it.
    assert_eq!(site.run(&["wal", "check", "clinic", "--heads"]).status.code(), Some(4));
    fs::remove_file(&forged).unwrap();
    assert_whole(&site, source, "4500");
}
