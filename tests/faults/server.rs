//! Servers that refuse, and what is said about it.

use std::{fs, net::TcpListener, time::Duration};

use lifeboat_model::{config::TlsMode, secret::Secret};
use lifeboat_postgres::{ConnectOptions, Replication};
use lifeboat_testkit::{
    port,
    postgres::{Options, Postgres},
    testbed,
};

use serde_json::Value;

use crate::site::{PASSWORD, ROLE, Site, cluster};

#[test]
fn refusals_of_15_are_told_and_mended() {
    refusals(15);
}

#[test]
fn refusals_of_17_are_told_and_mended() {
    refusals(17);
}

fn refusals(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(major, &Options::default());
    let mut site = Site::new(cluster.port());

    // Before there is a repository at all.
    site.port = port::closed().port();
    site.configure();
    let address = format!("127.0.0.1:{}", site.port);
    site.fails(10, &["cannot reach", &address, "refused", "check host, port", "lifeboat doctor"]);
    site.port = cluster.port();
    site.configure();
    site.works();

    site.set_password("not this one");
    site.fails(1, &["refused the password", ROLE, "check the role and its password"]);
    site.set_password(PASSWORD);

    site.role = "nobody_here".into();
    site.configure();
    site.fails(1, &["nobody_here", "check the role"]);

    cluster.psql("postgres", &format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    site.role = "reader".into();
    site.configure();
    site.fails(1, &["may not replicate", "ALTER ROLE \"reader\" REPLICATION"]);
    site.role = ROLE.into();

    site.tls = "require";
    site.configure();
    site.fails(1, &["does not offer TLS", "ssl"]);
    site.tls = "disable";
    site.configure();

    cluster.write_hba(&["local all all trust".into(), "host all all all scram-sha-256".into()]).unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    site.fails(1, &["pg_hba.conf", "add a line", "replication", "reload"]);
    cluster.write_hba(&Options::default().hba).unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    site.works();
}

/// Somebody accepts the connection and never says a word.
#[test]
fn a_silent_server_is_given_up() {
    if !testbed::enabled() {
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let site = Site::new(listener.local_addr().unwrap().port());
    site.fails(10, &["silent", "127.0.0.1", "check the server's load and the network"]);
}

fn set(cluster: &mut Postgres, lines: &str) {
    cluster.stop().unwrap();
    let path = cluster.data_dir().join("postgresql.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
    cluster.resume().unwrap();
}

#[test]
fn wal_level_minimal_of_15() {
    wal_level_minimal(15);
}

#[test]
fn wal_level_minimal_of_17() {
    wal_level_minimal(17);
}

fn wal_level_minimal(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let mut cluster = cluster(major, &Options::default());
    let site = Site::new(cluster.port());
    set(&mut cluster, "wal_level = minimal\nmax_wal_senders = 0");
    site.fails(1, &["wal_level = minimal", "set wal_level = replica", "restart"]);
    set(&mut cluster, "wal_level = replica\nmax_wal_senders = 10");
    site.works();
}

#[test]
fn wal_senders_of_15_in_use() {
    wal_senders(15);
}

#[test]
fn wal_senders_of_17_in_use() {
    wal_senders(17);
}

/// A backup needs two. With none free it cannot begin, with one it fails in the middle, with two it works, every time.
fn wal_senders(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(major, &Options { conf: vec!["max_wal_senders = 4".into()], ..Options::default() });
    let site = Site::new(cluster.port());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = ConnectOptions {
        host: "127.0.0.1".into(),
        port: cluster.port(),
        user: ROLE.into(),
        password: Some(Secret::new(PASSWORD)),
        tls: TlsMode::Disable,
        root_cert: None,
        connect_timeout: Duration::from_secs(10),
        application_name: "somebody else".into(),
    };
    let mut others: Vec<Replication> =
        (0..4).map(|_| runtime.block_on(Replication::connect(&options)).unwrap()).collect();
    let words = ["no free WAL sender", "raise max_wal_senders"];
    site.fails(10, &words);
    let mut release = || {
        others.pop();
        let left = others.len().to_string();
        crate::site::until("the sender is free", || {
            cluster.psql("postgres", "SELECT count(*) FROM pg_stat_replication").unwrap() == left
        });
    };
    release();
    site.fails(10, &words);
    release();
    for _ in 0..4 {
        site.succeed(&["backup", "clinic"]);
    }
    site.works();
    assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
}

/// The backup holds a temporary slot, so that the server keeps its WAL.
#[test]
fn slots_in_use() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(17, &Options { conf: vec!["max_replication_slots = 1".into()], ..Options::default() });
    let site = Site::new(cluster.port());
    cluster.psql("postgres", "SELECT pg_create_physical_replication_slot('of_somebody')").unwrap();
    site.fails(10, &["all replication slots are in use", "max_replication_slots"]);
    cluster.psql("postgres", "SELECT pg_drop_replication_slot('of_somebody')").unwrap();
    site.works();
}

/// `REPLICATION` alone suffices for a point that restores; what could not be read of its tables is said.
#[test]
fn a_role_that_may_only_replicate() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    cluster.psql("postgres", &format!("CREATE ROLE copier LOGIN REPLICATION PASSWORD '{PASSWORD}'")).unwrap();
    let mut site = Site::new(cluster.port());
    site.role = "copier".into();
    site.configure();
    let backup =
        |site: &Site| -> Value { serde_json::from_str(&site.succeed(&["backup", "clinic", "--json"])).unwrap() };
    let answer = backup(&site);
    assert_eq!(answer["witness_exact"], false, "{answer:#}");
    let reason = answer["witness_reason"].as_str().unwrap();
    assert!(reason.contains("no table of demo could be read: GRANT pg_read_all_data TO copier"), "{reason}");
    site.verifies();

    // Some tables, not all.
    cluster.psql("demo", "GRANT SELECT ON partner TO copier").unwrap();
    let remarks = backup(&site)["remarks"].to_string();
    for word in ["1 table could not be digested", "pg_largeobject", "permission denied", "pg_read_all_data"] {
        assert!(remarks.contains(word), "{word}: {remarks}");
    }

    site.role = ROLE.into();
    site.configure();
    let answer = backup(&site);
    assert_eq!((&answer["witness_exact"], &answer["remarks"]), (&true.into(), &serde_json::json!([])), "{answer:#}");
}

#[test]
fn a_damaged_page_of_15_fails_the_backup() {
    damaged_page(15);
}

#[test]
fn a_damaged_page_of_17_fails_the_backup() {
    damaged_page(17);
}

/// The server finds a page with a wrong checksum, and says so only after the last byte: such a backup is none.
fn damaged_page(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let mut cluster = cluster(major, &Options::default());
    let site = Site::new(cluster.port());
    site.works();
    let file = cluster.psql("demo", "SELECT pg_relation_filepath('partner')").unwrap();
    cluster.stop().unwrap();
    let path = cluster.data_dir().join(&file);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[3 * 8192 + 4000] ^= 0xff;
    fs::write(&path, &damaged).unwrap();
    cluster.resume().unwrap();
    site.fails(4, &["wrong checksum", &file, "the data there is damaged", "pg_amcheck"]);
    cluster.stop().unwrap();
    fs::write(&path, &whole).unwrap();
    cluster.resume().unwrap();
    site.works();
}
