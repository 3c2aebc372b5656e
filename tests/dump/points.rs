//! Dumps as recovery points: what goes in comes out, and no backup is ever taken for one or one for a backup.

use std::{fs, os::unix::fs::PermissionsExt as _};

use lifeboat_testkit::testbed;

use crate::world::{self, Site, nothing_left, pg_restore};

/// Dumped by a program of this host where there is one of the server's version, else by the image's: the same either way.
fn round_trip(major: u32, tls: bool, place: &str) {
    let cluster = world::cluster(major, tls);
    let site = Site::new(&cluster, tls);
    let identity = site.identity();
    let first = site.json(&["dump", "clinic"]);
    assert!(first["program_place"].as_str().unwrap().contains(place), "{first:#}");
    assert_eq!(first["databases"].as_array().unwrap().len(), 2, "{first:#}");
    assert!(first["evidence"].is_string(), "{first:#}");

    site.json(&["verify", "clinic", "--read-data", "--identity", &identity]);
    let to = site.at("dumps");
    let point = first["point"].as_str().unwrap();
    site.json(&["restore", "clinic", "--point", point, "--to", to.to_str().unwrap(), "--identity", &identity]);
    assert!(!to.join("RESTORE-INCOMPLETE").exists());
    for database in ["north", "south"] {
        let file = to.join(format!("dump/{database}.dump"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = format!("{database}_copy");
        pg_restore(&cluster, &file, &copy);
        assert_eq!(world::digest(&cluster, &copy), world::digest(&cluster, database), "{database}");
    }
    nothing_left(&site);
    evidence_holds(&site, point);
}

fn evidence_holds(site: &Site, point: &str) {
    let verified = site.json(&["evidence", "verify"]);
    assert_eq!(verified["believed"], true, "{verified:#}");
    let listed = site.json(&["evidence", "list"]);
    let text = listed.to_string();
    assert!(text.contains("\"dump\""), "{listed:#}");
    let shown = site.json(&["evidence", "show", listed["statements"][0]["key"].as_str().unwrap()]);
    let predicate = &shown["statement"]["predicate"];
    assert_eq!(predicate["point"]["id"], point, "{shown:#}");
    assert_eq!(predicate["databases"][0]["name"], "north", "{shown:#}");
    assert!(predicate["program"].as_str().unwrap().starts_with("pg_dump (PostgreSQL)"), "{shown:#}");
}

#[test]
fn databases_come_back_as_they_were_by_a_program_of_this_host() {
    if testbed::enabled() {
        round_trip(15, false, "/usr/lib/postgresql/15/bin/pg_dump");
    }
}

#[test]
fn databases_come_back_as_they_were_by_the_program_of_an_image() {
    if testbed::enabled() {
        round_trip(18, true, "lifeboat-testbed/postgres:18");
    }
}

/// The next backup builds on the last backup, `latest` is a backup, and a dump is refused where an instance is needed.
#[test]
fn a_dump_is_no_backup_and_a_backup_is_no_dump() {
    if !testbed::enabled() {
        return;
    }
    let cluster = world::cluster(15, false);
    let site = Site::new(&cluster, false);
    let (identity, to) = (site.identity(), site.at("restored"));
    let to = to.to_str().unwrap();
    let dump = site.json(&["dump", "clinic", "--database", "south"]);
    let dump = dump["point"].as_str().unwrap();
    // Only dumps: there is nothing to restore an instance from, and status does not call it protected.
    site.refused(
        &["restore", "clinic", "--point", "latest", "--to", to, "--identity", &identity],
        6,
        &["only logical dumps"],
    );
    let status = site.run(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(4), "{}", world::text(&status));

    let backup = site.json(&["backup", "clinic"]);
    let backup = backup["point"].as_str().unwrap();
    site.json(&["dump", "clinic", "--database", "north", "--database", "north"]);
    let second = site.json(&["backup", "clinic"]);
    let tree =
        |name: &str| second["trees"].as_array().unwrap().iter().find(|tree| tree["name"] == name).cloned().unwrap();
    assert_eq!(tree("filestore")["new_bytes"], 0, "a dump in between shadows no tree: {second:#}");
    let kinds: Vec<String> = site.points().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["dump", "backup", "dump", "backup"]);

    site.json(&["dump", "clinic"]);
    let shown = site.json(&["points", "show", "clinic", "latest"]);
    assert_eq!((shown["point"].as_str(), shown["kind"].as_str()), (second["point"].as_str(), Some("backup")));
    let shown = site.json(&["points", "show", "clinic", dump]);
    assert_eq!((&shown["kind"], &shown["sealed"]["databases"][0]), (&"dump".into(), &"south".into()), "{shown:#}");

    let refused = ["restore", "clinic", "--point", dump, "--lsn", "0/1", "--to", to, "--identity", &identity];
    site.refused(&refused, 2, &["holds logical dumps and not the instance"]);
    let refused = ["restore", "clinic", "--point", dump, "--only", "filestore", "--to", to, "--identity", &identity];
    site.refused(&refused, 2, &["leave out --delta, --only"]);
    assert!(!site.at("restored").exists());
    site.json(&["restore", "clinic", "--point", backup, "--to", to, "--identity", &identity]);
    assert!(site.at("restored/pgdata/global/pg_control").exists() && !site.at("restored/dump").exists());
    site.json(&["verify", "clinic", "--read-data", "--identity", &identity]);
}
