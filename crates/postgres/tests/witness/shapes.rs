//! What cannot be compared is told by name; what is read in part is told to be a part.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use lifeboat_postgres::{
    digest::{self, DatabaseDigest, TableDigest},
    sql,
    witness::{self, Budget, Exactness},
};
use lifeboat_testkit::postgres::Postgres;

use crate::cluster;

async fn take(server: &Postgres, budget: &Budget) -> Result<DatabaseDigest> {
    let taken = witness::take(&cluster::options(server), None, &["postgres".to_owned()], budget).await?;
    assert_eq!(taken.exactness, Exactness::Exact);
    assert!(taken.extensions["postgres"].contains_key("plpgsql") && !taken.version.is_empty());
    assert_eq!(taken.settings["TimeZone"], "UTC");
    Ok(taken.databases["postgres"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_while_it_is_read_is_inconclusive() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let server = cluster::server(major)?;
    for statement in [
        "CREATE TABLE cut AS SELECT i FROM generate_series(1, 100) i",
        "CREATE TABLE grown AS SELECT i FROM generate_series(1, 100) i",
        "CREATE TABLE gone AS SELECT 1 AS i",
        "CREATE TABLE kept AS SELECT i FROM generate_series(1, 100) i",
        "CREATE TABLE locked AS SELECT i FROM generate_series(1, 5000) i",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM kept",
        "CREATE SEQUENCE steady; CREATE SEQUENCE restarted",
    ] {
        server.psql("postgres", statement)?;
    }
    let superuser = sql::connect(&superuser(&server), "postgres").await?;
    superuser.batch_execute("CREATE TEMPORARY TABLE passing AS SELECT 1 AS i").await?;
    // Whoever waits for this lock is in the middle of the digests.
    superuser.batch_execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await?;
    let server = Arc::new(server);
    let taking = Arc::clone(&server);
    let taking = tokio::spawn(async move { take(&taking, &Budget::default()).await });
    let holders = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                   AND query LIKE '%pg_export_snapshot%'";
    // The other task has a thread of its own.
    let change = || {
        cluster::until("a snapshot is held", || Ok(server.psql("postgres", holders)? == "1"))?;
        for statement in [
            "TRUNCATE cut",
            "ALTER TABLE grown ADD COLUMN more int DEFAULT 7",
            "DROP TABLE gone",
            "REFRESH MATERIALIZED VIEW counted",
            "ALTER SEQUENCE restarted RESTART",
            "INSERT INTO kept VALUES (-1)",
        ] {
            server.psql("postgres", statement)?;
        }
        anyhow::Ok(())
    };
    change()?;
    let digest = taking.await??;
    superuser.batch_execute("ROLLBACK").await?;
    let inconclusive: Vec<&str> = digest.inconclusive.keys().map(String::as_str).collect();
    let expected = ["public.counted", "public.cut", "public.gone", "public.grown", "public.restarted"];
    assert_eq!(inconclusive, expected, "{digest:?}");
    assert_eq!(digest.tables["public.kept"].rows, 100, "in the snapshot");
    assert_eq!(digest.tables["public.kept"].places.len(), 100);
    let unread: Vec<_> = digest.unread().collect();
    assert_eq!(unread.len(), 1, "{unread:?}");
    assert!(unread[0].0 == "public.locked" && unread[0].1.contains("lock timeout"), "{unread:?}");
    assert!(digest.sequences.contains_key("public.steady"));
    let temporary = digest.left_out.iter().find(|(name, _)| name.ends_with(".passing"));
    assert!(temporary.is_some_and(|(_, why)| why.starts_with("temporary")), "{:?}", digest.left_out);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'lifeboat' AND state LIKE 'idle in%'";
    cluster::until("nobody holds a snapshot", || Ok(server.psql("postgres", left)? == "0"))
}

fn superuser(server: &Postgres) -> lifeboat_postgres::ConnectOptions {
    use lifeboat_testkit::postgres::{SUPERUSER, SUPERUSER_PASSWORD};
    let password = lifeboat_model::secret::Secret::new(SUPERUSER_PASSWORD);
    lifeboat_postgres::ConnectOptions { user: SUPERUSER.into(), password: Some(password), ..cluster::options(server) }
}

fn summed(table: &TableDigest) -> (u64, [i128; 2]) {
    let sum = |index: usize| table.ranges.iter().map(|range| range.sums[index].parse::<i128>().unwrap()).sum();
    (table.ranges.iter().map(|range| range.rows).sum(), [sum(0), sum(1)])
}

/// 40 MB, in ranges that add up to what one statement over the whole table says; and a tenth of it.
#[tokio::test]
async fn ranges_add_up_and_samples_are_repeated() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let server = cluster::server(major)?;
    server.psql(
        "postgres",
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 12) x FROM generate_series(1, 90000) i",
    )?;
    server.psql("postgres", "ALTER TABLE big ADD COLUMN \"big\" int; DELETE FROM big WHERE i % 7 = 0")?;
    let whole = take(&server, &Budget { parallel: 3, duty_cycle: 60, ..Budget::default() }).await?;
    let table = &whole.tables["public.big"];
    let (rows, sums) = summed(table);
    assert!((33..=64).contains(&table.ranges.len()), "{}", table.ranges.len());
    assert_eq!((rows, sums.map(|sum| sum.to_string())), (table.rows, table.sums.clone()));
    let oracle = "SET bytea_output = hex; SELECT count(*) || ' ' || sum(hashtextextended(x, 0)) || ' ' || \
                  sum(hashtextextended(x, 1)) FROM (SELECT (q.*)::text x FROM big q) z";
    assert_eq!(server.psql("postgres", oracle)?, format!("{rows} {} {}", table.sums[0], table.sums[1]));

    let budget = Budget { sample_above: Some(4 << 20), ..Budget::default() };
    let sampled = take(&server, &budget).await?;
    let sample = sampled.tables["public.big"].sample.expect("it is larger");
    assert!(sample.blocks * 8192 <= 4 << 20 && sample.of > 4000, "{sample:?}");
    assert_eq!(sampled.sampled().collect::<Vec<_>>(), ["public.big"]);
    let client = sql::connect(&cluster::options(&server), "postgres").await?;
    let again = digest::run_like(std::slice::from_ref(&client), Some(&sampled), &digest::Options::default()).await?;
    assert_eq!(digest::compare(&sampled, &again), []);
    assert_eq!(again.tables["public.big"], sampled.tables["public.big"]);
    let first = sampled.tables["public.big"].ranges[5].first;
    server.psql("postgres", &format!("DELETE FROM big WHERE ctid >= '({first},0)' AND ctid < '({first},3)'"))?;
    let less = digest::run_like(std::slice::from_ref(&client), Some(&sampled), &digest::Options::default()).await?;
    let found = digest::compare(&sampled, &less);
    assert!(found.len() == 1 && found[0].source.contains("in a sample of"), "{found:?}");
    assert!(found[0].ranges[0].starts_with(&format!("blocks {first} to ")), "{found:?}");
    Ok(())
}

/// A snapshot is not held for longer than four times the limit of a table; what is left then is named.
#[tokio::test]
async fn a_snapshot_is_not_held_for_ever() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let server = cluster::server(major)?;
    let tables: Vec<String> = (0..300).map(|i| format!("CREATE TABLE t{i} AS SELECT {i} AS i")).collect();
    server.psql("postgres", &tables.join(";"))?;
    let budget = Budget { statement_timeout: Duration::from_millis(10), ..Budget::default() };
    let digest = take(&server, &budget).await?;
    let late = digest.unread().filter(|(_, why)| why.contains("held for too long")).count();
    assert!(late > 0, "{} tables in 40 ms", digest.tables.len());
    Ok(())
}
