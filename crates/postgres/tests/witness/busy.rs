//! Witnesses of a server under load: each exact one must be equal after a restore to its position.

use std::sync::Arc;

use anyhow::Result;
use lifeboat_postgres::{
    ConnectOptions,
    digest::{self, Difference},
    witness::{self, Budget, Exactness, Kind, Taken, unseen_commits},
};
use lifeboat_testkit::postgres::Postgres;

use crate::cluster::{self, Load, ROLE, Restored};

const TRANSFER: &str = "\\set a random(1, 200000)\n\\set b random(1, 150)\nBEGIN;\n\
    UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;\n\
    UPDATE few SET n = n + 1, at = clock_timestamp() WHERE id = :b;\n\
    INSERT INTO log SELECT nextval('numbers'), :a, repeat('x', :b), jsonb_build_object('b', :b);\nCOMMIT;\n";
const SUBTRANSACTIONS: &str = "\\set a random(1, 200000)\nBEGIN;\nSAVEPOINT one;\n\
    UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = :a;\nSAVEPOINT two;\n\
    INSERT INTO log VALUES (-1, :a, 'undone', '{}');\nROLLBACK TO two;\nRELEASE one;\n\
    DELETE FROM log WHERE id = (SELECT min(id) FROM log);\nCOMMIT;\n";
const TWO_PHASES: &str = "\\set a random(1, 200000)\nBEGIN;\n\
    UPDATE pgbench_accounts SET abalance = abalance + 2 WHERE aid = :a;\n\
    INSERT INTO log VALUES (0, :a, 'prepared', '{}');\n\
    PREPARE TRANSACTION 'one:client_id';\nCOMMIT PREPARED 'one:client_id';\n";
const NOT_FLUSHED: &str = "\\set a random(1, 200000)\nBEGIN;\nSET LOCAL synchronous_commit = off;\n\
    UPDATE pgbench_accounts SET abalance = abalance + 3 WHERE aid = :a;\nCOMMIT;\n";
const OTHER: &str = "INSERT INTO other VALUES (DEFAULT, clock_timestamp());\n";

fn busy_server(major: u32) -> Result<Arc<Postgres>> {
    let server = cluster::server(major)?;
    for database in ["bench", "second"] {
        server.psql("postgres", &format!("CREATE DATABASE {database}"))?;
    }
    let role = format!("GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO {ROLE}");
    server.psql("bench", &role)?;
    server.run("pgbench", &["-i", "-q", "-s", "2", "bench"])?;
    for statement in [
        "CREATE TABLE few AS SELECT i AS id, 0 AS n, now() AS at FROM generate_series(1, 150) i",
        "CREATE TABLE log (id bigint, a int, t text, j jsonb)",
        "CREATE INDEX ON log (id)",
        "CREATE INDEX ON few (id)",
        "CREATE SEQUENCE numbers",
        "CREATE UNLOGGED TABLE draft AS SELECT 1 AS id",
        "SELECT lo_from_bytea(0, 'x-ray')",
    ] {
        server.psql("bench", statement)?;
    }
    server.psql("second", "CREATE TABLE other (id serial, at timestamptz)")?;
    Ok(Arc::new(server))
}

async fn take(primary: &ConnectOptions, standby: Option<&ConnectOptions>, databases: &[&str]) -> Result<Taken> {
    let databases: Vec<String> = databases.iter().map(|&name| name.to_owned()).collect();
    Ok(witness::take(primary, standby, &databases, &Budget { parallel: 2, ..Budget::default() }).await?)
}

/// How the restored server, paused at the position, differs; none if the witness turns out to be inexact.
async fn differences(restored: &Restored, taken: &Taken) -> Result<Option<Vec<Difference>>> {
    let mut all = Vec::new();
    for (database, source) in &taken.databases {
        let client = restored.connect(database).await?;
        if taken.kind == Kind::Primary && unseen_commits(&client, source.snapshot.as_deref().unwrap()).await? > 0 {
            return Ok(None);
        }
        let found = digest::run_like(std::slice::from_ref(&client), Some(source), &digest::Options::default()).await?;
        all.extend(digest::compare(source, &found));
    }
    Ok(Some(all))
}

/// How many are taken: of one database, of two at once, and from a standby.
struct Wanted {
    of_one: usize,
    of_two: usize,
    at_standby: usize,
}

/// Each is restored and compared. Nine of ten must be exact.
async fn witnesses_of_a_loaded_server_are_equal_after_a_restore(major: u32, wanted: Wanted) -> Result<()> {
    let server = busy_server(major)?;
    let mut restored = Restored::new(&server)?;
    let standby = cluster::standby(&server)?;
    let (primary, at_standby) = (cluster::options(&server), cluster::options(&standby));
    let load = Load::start(&server, "bench", 16, &[TRANSFER, SUBTRANSACTIONS, TWO_PHASES, NOT_FLUSHED])?;
    let other = Load::start(&server, "second", 2, &[OTHER])?;
    cluster::until("the load has begun", || {
        Ok(server.psql("bench", "SELECT count(*) > 100 FROM log")? == "t"
            && server.psql("second", "SELECT count(*) > 10 FROM other")? == "t")
    })?;
    let mut taken = Vec::new();
    for _ in 0..wanted.of_one {
        taken.push(take(&primary, None, &["bench"]).await?);
    }
    let of_one: Vec<_> = taken.iter().map(|taken| (taken.exactness.clone(), taken.tries)).collect();
    for _ in 0..wanted.of_two {
        taken.push(take(&primary, None, &["bench", "second"]).await?);
    }
    for _ in 0..wanted.at_standby {
        taken.push(take(&primary, Some(&at_standby), &["bench", "second"]).await?);
    }
    assert_eq!(standby.psql("postgres", "SELECT pg_get_wal_replay_pause_state()")?, "not paused");
    load.stop()?;
    other.stop()?;
    let exact = of_one.iter().filter(|(exactness, _)| *exactness == Exactness::Exact).count();
    assert!(exact * 10 >= of_one.len() * 9, "PostgreSQL {major}: {of_one:?}");
    for taken in &taken[wanted.of_one + wanted.of_two..] {
        assert_eq!((&taken.exactness, taken.kind), (&Exactness::Exact, Kind::Standby), "exact by construction");
    }

    cluster::archive_all(&server)?;
    restored.fetch_archive()?;
    taken.retain(|taken| taken.exactness == Exactness::Exact);
    taken.sort_by_key(|taken| taken.lsn);
    let (mut equal, mut inexact) = (0, 0);
    for taken in &taken {
        let bench = &taken.databases["bench"];
        assert_eq!(bench.tables["public.pgbench_accounts"].rows, 200_000);
        assert!(bench.inconclusive.is_empty() && bench.unread().count() == 0, "{bench:?}");
        assert!(bench.left_out.contains_key("public.draft"));
        restored.pause_at(taken.lsn)?;
        match differences(&restored, taken).await? {
            Some(found) => {
                assert_eq!(found, [], "{:?} at {} after {} tries", taken.kind, taken.lsn, taken.tries);
                equal += 1;
            }
            None => inexact += 1,
        }
    }
    assert!(inexact <= 1, "a look-back of a second should suffice: {equal} equal, {inexact} inexact");
    let last = taken.last().unwrap();
    changes_are_found(&restored, last).await
}

/// One value, in a large table and in a small one.
async fn changes_are_found(restored: &Restored, taken: &Taken) -> Result<()> {
    restored.promote()?;
    let bench = &taken.databases["bench"];
    let client = restored.connect("bench").await?;
    let compare = async || -> Result<Vec<Difference>> {
        let found = digest::run_like(std::slice::from_ref(&client), Some(bench), &digest::Options::default()).await?;
        Ok(digest::compare(bench, &found))
    };
    assert_eq!(compare().await?, [], "promotion changes nothing");
    let at = restored.server.psql("bench", "SELECT ctid FROM pgbench_accounts WHERE aid = 777")?;
    restored.server.psql("bench", "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 777")?;
    let found = compare().await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].name, "public.pgbench_accounts");
    let block: u64 = at.trim_matches(['(', ')']).split(',').next().unwrap().parse()?;
    let table = &bench.tables["public.pgbench_accounts"];
    let range = table.ranges.iter().rfind(|range| range.first <= block).unwrap();
    assert!(found[0].ranges.iter().any(|told| told.starts_with(&format!("blocks {} to", range.first))), "{found:?}");

    let at = restored.server.psql("bench", "SELECT ctid FROM few WHERE id = 7")?;
    restored.server.psql("bench", "UPDATE few SET n = -1 WHERE id = 7")?;
    let found = compare().await?;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].name.as_str(), found[0].places.len()), ("public.few", 2), "the old row and the new one");
    assert!(found[0].places.contains(&at.trim_matches(['(', ')']).to_owned()), "{at}: {found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_after_a_restore_on_this_host() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let wanted = Wanted { of_one: 10, of_two: 1, at_standby: 3 };
    witnesses_of_a_loaded_server_are_equal_after_a_restore(major, wanted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_after_a_restore_on_the_newest_version() -> Result<()> {
    let newest = cluster::versions().pop().filter(|newest| Some(*newest) != cluster::any_version());
    let Some(major) = newest else { return Ok(()) };
    let wanted = Wanted { of_one: 3, of_two: 1, at_standby: 1 };
    witnesses_of_a_loaded_server_are_equal_after_a_restore(major, wanted).await
}

/// A commit that hangs between its record and its visibility for longer than the look-back is seen at the restore.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_stalls_is_found_on_the_restored_server() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let server = Arc::new(cluster::server(major)?);
    server.psql("postgres", "CREATE TABLE t (id int)")?;
    let mut restored = Restored::new(&server)?;
    // The record of such a commit is written, and no snapshot shows it before the standby answers: there is none.
    let synchronous = |names: &str| {
        server.psql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
        server.psql("postgres", "SELECT pg_reload_conf()")
    };
    synchronous("nobody")?;
    let stalled = Arc::clone(&server);
    let stalled = std::thread::spawn(move || stalled.psql("postgres", "INSERT INTO t VALUES (1)"));
    cluster::until("a commit stalls", || {
        Ok(server.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")? == "1")
    })?;
    let taken = take(&cluster::options(&server), None, &["postgres"]).await?;
    assert_eq!(taken.exactness, Exactness::Exact, "it cannot be known at the source");
    assert_eq!(taken.databases["postgres"].tables["public.t"].rows, 0);
    synchronous("")?;
    stalled.join().map_err(|_| anyhow::anyhow!("the statement broke"))??;
    cluster::archive_all(&server)?;
    restored.fetch_archive()?;
    restored.pause_at(taken.lsn)?;
    assert_eq!(restored.server.psql("postgres", "SELECT count(*) FROM t")?, "1", "the record was before the position");
    let client = restored.connect("postgres").await?;
    assert_eq!(unseen_commits(&client, &taken.snapshot).await?, 1);
    assert_eq!(differences(&restored, &taken).await?, None, "inexact, and no bad backup");
    Ok(())
}

/// Whenever a witness is given up, replay goes on; and a pause that somebody else has made is left as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_left_as_it_was_found() -> Result<()> {
    let Some(major) = cluster::any_version() else { return Ok(()) };
    let server = busy_server(major)?;
    let standby = cluster::standby(&server)?;
    let (primary, at_standby) = (cluster::options(&server), cluster::options(&standby));
    let state = || standby.psql("postgres", "SELECT pg_get_wal_replay_pause_state()");
    for given_up_after in (0..200).step_by(25) {
        let limit = std::time::Duration::from_millis(given_up_after);
        let _ = tokio::time::timeout(limit, take(&primary, Some(&at_standby), &["bench"])).await;
        cluster::until("replay goes on", || Ok(state()? == "not paused"))?;
    }
    standby.psql("postgres", "SELECT pg_wal_replay_pause()")?;
    cluster::until("replay pauses", || Ok(state()? == "paused"))?;
    let flushed = server.psql("postgres", "SELECT pg_current_wal_flush_lsn()")?;
    if standby.psql("postgres", &format!("SELECT pg_last_wal_replay_lsn() >= '{flushed}'"))? == "t" {
        let taken = take(&primary, Some(&at_standby), &["bench"]).await?;
        assert_eq!(taken.exactness, Exactness::Exact);
        assert_eq!(state()?, "paused");
    }
    let taken = take(&primary, Some(&at_standby), &["postgres"]).await?;
    assert!(matches!(&taken.exactness, Exactness::Inexact { why } if why.contains("GRANT EXECUTE")), "{taken:?}");
    let taken = take(&primary, Some(&primary), &["bench"]).await?;
    assert!(matches!(&taken.exactness, Exactness::Inexact { why } if why.contains("is not a standby")), "{taken:?}");
    Ok(())
}
