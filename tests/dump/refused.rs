//! Dumps that cannot be made leave no point, and say why.

use std::{fs, path::Path, process::Stdio, time::Instant};

use lifeboat_testkit::{folder::put_program, postgres::Postgres, testbed};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{self, Site, nothing_left, text};

#[test]
fn a_wrong_name_is_told_with_the_known_ones() {
    if !testbed::enabled() {
        return;
    }
    let cluster = world::cluster(15, false);
    let mut site = Site::new(&cluster, false);
    let identity = site.identity();
    site.refused(&["dump", "clinic", "--database", "nort"], 6, &["no database \"nort\"", "north, postgres, south"]);
    assert!(site.points().is_empty());

    // A program of another major version than the server's.
    let other = site.at("pg_dump");
    put_program(&other, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n");
    site.dump = format!("[instances.clinic.dump]\nprogram = \"{}\"", other.display());
    site.configure();
    site.refused(&["dump", "clinic"], 3, &["14.9", "PostgreSQL 15"]);
    assert!(site.points().is_empty());

    // A table that the role may not read is no dump with a hole in it.
    site.dump = String::new();
    site.configure();
    cluster.psql("postgres", "REVOKE pg_read_all_data FROM lifeboat").unwrap();
    site.refused(
        &["dump", "clinic", "--database", "north"],
        1,
        &["pg_dump of database \"north\"", "permission denied"],
    );
    assert!(site.points().is_empty());
    cluster.psql("postgres", "GRANT pg_read_all_data TO lifeboat").unwrap();

    site.json(&["backup", "clinic"]);
    let file = site.at("x.dump");
    let arguments =
        ["restore", "clinic", "--database", "nort", "--to", file.to_str().unwrap(), "--identity", &identity];
    site.refused(&arguments, 6, &["no database \"nort\"", "north, postgres, south"]);
    fs::write(&file, "theirs").unwrap();
    let arguments =
        ["restore", "clinic", "--database", "north", "--to", file.to_str().unwrap(), "--identity", &identity];
    site.refused(&arguments, 1, &["will not overwrite"]);
    assert_eq!(fs::read(&file).unwrap(), b"theirs");
    fs::remove_file(&file).unwrap();
    let zip = site.at("x.zip");
    let arguments =
        ["export", "clinic", "--database", "north", "--odoo-zip", zip.to_str().unwrap(), "--identity", &identity];
    site.refused(&arguments, 1, &["no database of Odoo"]);
    let left: Vec<_> = fs::read_dir(site.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("x.")), "{left:?}");
    nothing_left(&site);
}

#[test]
fn a_program_that_is_killed_in_the_middle_makes_no_point() {
    if !testbed::enabled() {
        return;
    }
    for (major, program) in [(15, "auto"), (17, "image")] {
        let cluster = world::cluster(major, false);
        let noise = "SELECT g AS id, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 32) i) AS noise";
        cluster.psql("north", &format!("CREATE TABLE large AS {noise} FROM generate_series(1, 60000) g")).unwrap();
        let mut site = Site::new(&cluster, false);
        site.dump = format!("[instances.clinic.dump]\nprogram = \"{program}\"");
        site.configure();
        let dumping = site
            .command(&["dump", "clinic", "--database", "north"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        kill_in_the_middle(&cluster);
        let output = dumping.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("pg_dump of database \"north\" ended with"), "{}", text(&output));
        assert!(site.points().is_empty(), "{program}");
        nothing_left(&site);
        let answer = site.json(&["dump", "clinic", "--database", "north"]);
        assert!(answer["databases"][0]["bytes"].as_u64().unwrap() > 30 << 20, "{answer:#}");
    }
}

/// Waits until the `pg_dump` that is connected to this cluster has written some, stops it so that it cannot end by itself, and
/// kills it.
fn kill_in_the_middle(cluster: &Postgres) {
    let begun = Instant::now();
    let port = format!("port={} ", cluster.port());
    loop {
        assert!(begun.elapsed().as_secs() < 60, "no pg_dump came by");
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        for process in processes.filter(|process| is_dump(process, &port)) {
            let name = process.file_name().unwrap().to_str().unwrap().to_owned();
            let pid = Pid::from_raw(name.parse().unwrap()).unwrap();
            if written(&process).is_some_and(|bytes| bytes > 1 << 20) {
                kill_process(pid, Signal::STOP).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
                return;
            }
        }
    }
}

fn is_dump(process: &Path, port: &str) -> bool {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim() == "pg_dump" && String::from_utf8_lossy(&command).contains(port)
}

/// Bytes that a process has written, to pipes and files.
fn written(process: &Path) -> Option<u64> {
    let io = fs::read_to_string(process.join("io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}
