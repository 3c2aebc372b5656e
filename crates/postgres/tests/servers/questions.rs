//! Preflight and digests, asked by the role that a backup runs as.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::check::Verdict;
use lifeboat_postgres::{
    ConnectOptions, Replication,
    digest::{self, compare},
    preflight::{self, Need, PreflightItem},
    sql,
};
use lifeboat_testkit::{
    postgres::{Options, Postgres},
    testbed,
};

use crate::clusters::{self, ROLE};

async fn ask(options: &ConnectOptions, databases: &[&str]) -> Vec<PreflightItem> {
    let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
    preflight::check(options, &databases, &Timestamp::now).await
}

fn word(items: &[PreflightItem], id: &str) -> &'static str {
    items.iter().find(|item| item.id == id).map_or("absent", |item| item.ok.word())
}

#[tokio::test]
async fn a_good_server_passes() -> Result<()> {
    for major in clusters::versions() {
        let conf = ["max_slot_wal_keep_size = 1GB", "fsync = on"].map(str::to_owned).to_vec();
        let server = clusters::server(major, &Options { conf, tls: true, ..Options::default() })?;
        let options = ConnectOptions {
            host: "localhost".into(),
            tls: lifeboat_postgres::TlsMode::VerifyFull,
            root_cert: Some(server.ca_file()),
            ..clusters::options(&server)
        };
        let items = ask(&options, &["postgres", "template1"]).await;
        let others: Vec<_> = items.iter().filter(|item| !item.ok.is_passed()).collect();
        // The throw-away server runs without fsync.
        let expected: &[&str] =
            if major < 14 { &["postgres.read-all-data", "postgres.fsync"] } else { &["postgres.fsync"] };
        assert_eq!(others.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), expected, "{major}: {others:?}");
        assert!(others.iter().all(|item| item.need == Need::Advised && !item.mend.is_empty()));
        assert_eq!(items.len(), 17, "{items:?}");
    }
    Ok(())
}

#[tokio::test]
async fn each_lack_is_named() -> Result<()> {
    for major in clusters::versions() {
        let conf = ["max_wal_senders = 2", "max_replication_slots = 1", "full_page_writes = off"];
        let conf = conf.map(str::to_owned).to_vec();
        let server = clusters::server(major, &Options { conf, checksums: false, ..Options::default() })?;
        let options = clusters::options(&server);
        let mut session = Replication::connect(&options).await?;
        session.create_physical_slot("taken", true).await?;
        if major >= 14 {
            server.psql("postgres", &format!("REVOKE pg_read_all_data FROM {ROLE}"))?;
        }
        let items = ask(&options, &["postgres", "nothing"]).await;
        for id in [
            "postgres.tls",
            "postgres.wal-senders",
            "postgres.replication-slots",
            "postgres.slot-limit",
            "postgres.data-checksums",
            "postgres.full-page-writes",
            "postgres.database.nothing",
        ] {
            assert_eq!(word(&items, id), "failed", "{major} {id}: {items:?}");
        }
        let read = if major >= 14 { "failed" } else { "not executed" };
        assert_eq!(word(&items, "postgres.read-all-data"), read);
        for id in ["postgres.reachable", "postgres.replication", "postgres.wal-level", "postgres.database.postgres"] {
            assert_eq!(word(&items, id), "passed", "{major} {id}: {items:?}");
        }
        let senders = items.iter().find(|item| item.id == "postgres.wal-senders").context("no item")?;
        assert_eq!(senders.observed, "1 of 2 free", "a role without pg_monitor counts the senders of others");

        server.psql("postgres", &format!("ALTER ROLE {ROLE} NOREPLICATION"))?;
        let late = || Timestamp::now() - SignedDuration::from_secs(60);
        let items = preflight::check(&options, &[], &late).await;
        assert_eq!(word(&items, "postgres.replication-right"), "failed");
        assert_eq!(word(&items, "postgres.replication"), "failed");
        assert_eq!(word(&items, "postgres.clock-skew"), "failed");
        drop(session);

        let nowhere = ConnectOptions { port: 1, ..options };
        let items = ask(&nowhere, &["postgres"]).await;
        assert_eq!(items.len(), 3);
        assert!(items.iter().all(|item| matches!(item.ok, Verdict::Failed(_))), "{items:?}");
    }
    Ok(())
}

/// Statements that make a database with what digests can meet.
fn fill(server: &Postgres, database: &str) -> Result<()> {
    let statements = [
        "CREATE SCHEMA \"odd \"\"schema\"",
        "CREATE TABLE \"odd \"\"schema\".t (t int, at timestamptz, f float8, j jsonb, b bytea)",
        "INSERT INTO \"odd \"\"schema\".t SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i / 3.0, \
            jsonb_build_object('a', i), decode(md5(i::text), 'hex') FROM generate_series(1, 1000) i",
        "CREATE TABLE journal (id int, year int) PARTITION BY RANGE (year)",
        "CREATE TABLE journal_1 PARTITION OF journal FOR VALUES FROM (2000) TO (2025)",
        "CREATE TABLE journal_2 PARTITION OF journal FOR VALUES FROM (2025) TO (2050)",
        "INSERT INTO journal SELECT i, 2000 + i % 50 FROM generate_series(1, 500) i",
        "CREATE TABLE parent (id int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2)",
        "CREATE TABLE empty (id int)",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM journal",
        "CREATE MATERIALIZED VIEW later AS SELECT 1 WITH NO DATA",
        "CREATE UNLOGGED TABLE draft AS SELECT 1",
        "CREATE SEQUENCE invoice",
        "SELECT nextval('invoice') FROM generate_series(1, 5)",
        "SELECT lo_from_bytea(0, 'x-ray')",
    ];
    statements.iter().try_for_each(|statement| server.psql(database, statement).map(drop))
}

#[tokio::test]
async fn digests_are_equal_across_versions_and_see_each_change() -> Result<()> {
    let mut of_versions = Vec::new();
    for major in clusters::versions().into_iter().filter(|major| *major >= 14) {
        let server = clusters::server(major, &Options::default())?;
        fill(&server, "postgres")?;
        let take = async || -> Result<digest::DatabaseDigest> {
            let client = sql::connect(&clusters::options(&server), "postgres").await?;
            client
                .batch_execute("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET extra_float_digits = -5")
                .await?;
            Ok(digest::run(&client, &digest::Options::default()).await?)
        };
        let digest = take().await?;
        assert_eq!(digest.tables["odd \"schema.t"].rows, 1000);
        assert_eq!(digest.tables["public.parent"].rows, 1, "a child's rows are not its parent's");
        assert_eq!(digest.tables["public.journal_1"].rows + digest.tables["public.journal_2"].rows, 500);
        assert_eq!(digest.tables["public.empty"].sums, ["0", "0"]);
        assert_eq!(digest.tables["pg_catalog.pg_largeobject"].rows, 1);
        assert_eq!(digest.sequences["public.invoice"], digest::Sequence::At(33));
        let left_out: Vec<&str> = digest.left_out.keys().map(String::as_str).collect();
        assert_eq!(left_out, ["public.draft", "public.later"]);
        assert_eq!(compare(&digest, &take().await?), []);

        server.psql("postgres", "UPDATE \"odd \"\"schema\".t SET f = f + 1e-9 WHERE t = 500")?;
        server.psql("postgres", "DELETE FROM journal_2 WHERE id = 49; DROP TABLE empty; SELECT nextval('invoice') FROM generate_series(1, 50)")?;
        let differences = compare(&digest, &take().await?);
        let names: Vec<&str> = differences.iter().map(|difference| difference.name.as_str()).collect();
        assert_eq!(names, ["odd \"schema.t", "public.empty", "public.journal_2", "public.invoice"]);
        of_versions.push((major, digest));
    }
    // Oids of large objects differ between clusters.
    for pair in of_versions.windows(2) {
        let [(one, first), (other, second)] = pair else { continue };
        let differences = compare(first, second);
        assert!(
            differences.iter().all(|difference| difference.name == "pg_catalog.pg_largeobject"),
            "{one} {other}: {differences:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_digested_is_told() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(major, &Options::default())?;
    server.psql("postgres", "CREATE TABLE a AS SELECT 1 x; CREATE TABLE z AS SELECT 1 x")?;
    server
        .psql("postgres", "CREATE TABLE big AS SELECT repeat(md5(i::text), 30) x FROM generate_series(1, 200000) i")?;
    server.psql("postgres", &format!("REVOKE pg_read_all_data FROM {ROLE}; GRANT SELECT ON a, big TO {ROLE}"))?;
    let client = sql::connect(&clusters::options(&server), "postgres").await?;
    let options = digest::Options { statement_timeout: Duration::from_millis(20) };
    let digest = digest::run(&client, &options).await?;
    assert_eq!(digest.tables.keys().collect::<Vec<_>>(), ["public.a"]);
    assert!(digest.left_out["public.big"].contains("timeout"), "{digest:?}");
    assert!(digest.left_out["public.z"].contains("permission denied"), "{digest:?}");
    assert!(digest.left_out.contains_key("pg_catalog.pg_largeobject"));
    // The session can be used again, without the pinned settings.
    let row = client.query_one("SELECT current_setting('statement_timeout')", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "0");
    Ok(())
}

/// The testbed's Odoo: about 600 tables, by the role that a backup runs as, over verified TLS.
#[tokio::test]
async fn a_whole_odoo_is_digested_in_seconds() -> Result<()> {
    if !testbed::enabled() {
        return Ok(());
    }
    let port = testbed::setting("LIFEBOAT_TESTBED_PG_PORT", "55432").parse()?;
    let options = ConnectOptions {
        password: Some(testbed::secret("lifeboat.password")),
        root_cert: Some(testbed::state_dir().join("tls/ca.crt")),
        ..ConnectOptions::new(testbed::setting("LIFEBOAT_TESTBED_PG_HOST", "127.0.0.1"), port, "lifeboat")
    };
    let database = testbed::setting("LIFEBOAT_TESTBED_PG_DATABASE", "demo");
    let client = sql::connect(&options, &database).await?;
    let began = Instant::now();
    let digest = digest::run(&client, &digest::Options::default()).await?;
    let took = began.elapsed();
    assert!(
        digest.tables.len() > 500 && digest.rows() > 10_000,
        "{} tables, {} rows",
        digest.tables.len(),
        digest.rows()
    );
    assert!(digest.sequences.len() > 300, "{}", digest.sequences.len());
    assert!(digest.left_out.is_empty(), "{:?}", digest.left_out);
    assert!(took < Duration::from_secs(60), "{took:?}");
    let stored = serde_json::to_vec(&digest)?.len();
    assert!(stored < 1 << 20, "{stored} bytes for {} tables", digest.tables.len());
    Ok(())
}
