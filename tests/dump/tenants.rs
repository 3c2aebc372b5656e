//! Two tenants' databases in one cluster: bringing one back leaves the other as it is, byte for byte.

use std::fs;

use lifeboat_testkit::testbed;

use crate::world::{self, Site, digest, files, nothing_left, pg_restore};

#[test]
fn one_tenants_database_comes_back_and_the_other_is_untouched() {
    if !testbed::enabled() {
        return;
    }
    let cluster = world::cluster(17, false);
    let site = Site::new(&cluster, false);
    let identity = site.identity();
    // Nothing but a restore shall be able to change a file of the other tenant.
    for setting in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
        cluster.psql("postgres", setting).unwrap();
    }
    cluster.psql("south", "VACUUM (FREEZE, ANALYZE)").unwrap();
    site.json(&["backup", "clinic"]);
    let before = digest(&cluster, "north");
    let (south_rows, south_files) = (digest(&cluster, "south"), files(&cluster, "south"));

    // What happens to a tenant on a bad day.
    cluster.psql("north", "DELETE FROM patient WHERE id % 2 = 0; DROP TABLE document CASCADE").unwrap();
    assert_ne!(digest(&cluster, "north"), before);

    // Out of the physical point, by a sandbox.
    let file = site.at("north.dump");
    let arguments =
        ["restore", "clinic", "--database", "north", "--to", file.to_str().unwrap(), "--identity", &identity];
    let answer = site.json(&arguments);
    assert_eq!(answer["bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()), "{answer:#}");
    nothing_left(&site);
    cluster.psql("postgres", "DROP DATABASE north").unwrap();
    pg_restore(&cluster, &file, "north");
    assert_eq!(digest(&cluster, "north"), before);

    // A dump of one alone, and back.
    let dump = site.json(&["dump", "clinic", "--database", "north"]);
    assert_eq!(dump["databases"].as_array().unwrap().len(), 1, "{dump:#}");
    let to = site.at("dumps");
    let point = dump["point"].as_str().unwrap();
    site.json(&["restore", "clinic", "--point", point, "--to", to.to_str().unwrap(), "--identity", &identity]);
    let restored: Vec<_> = fs::read_dir(to.join("dump")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(restored, ["north.dump"]);
    cluster.psql("postgres", "DROP DATABASE north").unwrap();
    pg_restore(&cluster, &to.join("dump/north.dump"), "north");
    assert_eq!(digest(&cluster, "north"), before);

    assert_eq!(digest(&cluster, "south"), south_rows);
    assert_eq!(files(&cluster, "south"), south_files);
    nothing_left(&site);
}
