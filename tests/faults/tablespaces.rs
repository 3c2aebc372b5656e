//! A cluster with tablespaces goes through backup and restore, starts, and has the same rows.

use std::fs;

use lifeboat_testkit::{
    postgres::{Options, Postgres},
    testbed,
};

use crate::site::{Site, cluster, until};

#[test]
fn two_tablespaces_of_15() {
    two_tablespaces(15);
}

#[test]
fn two_tablespaces_of_17() {
    two_tablespaces(17);
}

fn two_tablespaces(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let source = cluster(major, &Options::default());
    populate(&source);
    let site = Site::new(source.port());
    site.works();

    // Restored beside the source, which goes on running on its own tablespaces.
    let mut target = Postgres::empty(major).unwrap();
    let (to, identity) = (target.root().join("restored"), site.identity());
    site.succeed(&site.restore_to(&to, &identity));
    let folders = fs::read_dir(to.join("tablespaces")).unwrap().count();
    assert_eq!(folders, 2);
    assert_starts_with(&mut target, &to, &content(&source));
    drop(target);

    // Over a folder in which strangers lie, also in the tablespaces: the same again.
    let mut target = Postgres::empty(major).unwrap();
    let to = target.root().join("restored");
    site.succeed(&site.restore_to(&to, &identity));
    for entry in fs::read_dir(to.join("tablespaces")).unwrap() {
        let folder = entry.unwrap().path();
        fs::write(folder.join("stranger"), "x").unwrap();
        fs::create_dir_all(folder.join("strange/folder")).unwrap();
        let file =
            lifeboat_testkit::folder::files(&folder).into_iter().find(|name| name.to_str().unwrap().starts_with("PG_"));
        fs::write(folder.join(file.unwrap()), "garbage").unwrap();
    }
    let arguments = site.restore_to(&to, &identity);
    site.succeed(&arguments.iter().copied().chain(["--delta"]).collect::<Vec<_>>());
    for entry in fs::read_dir(to.join("tablespaces")).unwrap() {
        let names: Vec<_> =
            fs::read_dir(entry.unwrap().path()).unwrap().map(|found| found.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name.to_str().unwrap().starts_with("PG_")), "{names:?}");
    }
    assert_starts_with(&mut target, &to, &content(&source));
}

fn populate(source: &Postgres) {
    for (name, table) in [("fast", "in_fast"), ("slow disk", "in_slow")] {
        let folder = source.root().join(format!("space {name}"));
        fs::create_dir(&folder).unwrap();
        source.own(&folder).unwrap();
        source.psql("demo", &format!("CREATE TABLESPACE \"{name}\" LOCATION '{}'", folder.display())).unwrap();
        let rows = "SELECT g AS id, md5(g::text) AS text, now() AS at FROM generate_series(1, 20000) g";
        source.psql("demo", &format!("CREATE TABLE {table} TABLESPACE \"{name}\" AS {rows}")).unwrap();
        source.psql("demo", &format!("CREATE INDEX ON {table} (text) TABLESPACE \"{name}\"")).unwrap();
    }
    // A default tablespace of a database, and a table that is all in WAL when the backup begins.
    source.psql("demo", "CREATE TABLE in_default AS SELECT * FROM in_fast").unwrap();
}

const TABLES: [&str; 4] = ["in_fast", "in_slow", "in_default", "partner"];

/// Every row of every table, through the heap and through the indexes.
fn content(cluster: &Postgres) -> Vec<String> {
    let digest = |table: &str| {
        let sql = format!("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t");
        cluster.psql("demo", &sql).unwrap()
    };
    let by_index = |table: &str| {
        let sql = format!(
            "SET enable_seqscan = off; SELECT md5(string_agg(text, ',' ORDER BY text)) FROM {table} WHERE text > 'a'"
        );
        cluster.psql("demo", &sql).unwrap()
    };
    let tables = TABLES.iter().map(|table| digest(table));
    tables.chain(["in_fast", "in_slow"].iter().map(|table| by_index(table))).collect()
}

fn assert_starts_with(target: &mut Postgres, to: &std::path::Path, wanted: &[String]) {
    fs::rename(to.join("pgdata"), target.data_dir()).unwrap();
    target.own(target.root()).unwrap();
    target.resume().unwrap();
    until("the restored cluster has promoted itself", || {
        target.psql("postgres", "SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f")
    });
    assert_eq!(content(target), wanted);
    // The tablespaces are those of the restore, not the source's.
    let places = target.psql("postgres", "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 9999");
    for place in places.unwrap().lines() {
        assert!(place.starts_with(to.to_str().unwrap()), "{place}");
    }
    target.psql("demo", "INSERT INTO in_slow SELECT 0, 'new', now()").unwrap();
}
