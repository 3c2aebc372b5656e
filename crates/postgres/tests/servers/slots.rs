//! Slots, heartbeats, and what preflight says about both.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    ConnectOptions, Error, Replication, WalStream, heartbeat,
    preflight::{self, PreflightItem},
    slot, sql,
    wal::{Commit, WalDecoder, WalEvent},
};
use lifeboat_testkit::postgres::{Options, Postgres};
use tokio::time::timeout;

use crate::clusters::{self, ROLE};

const SEGMENT: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn write_segments(server: &Postgres, count: u32) -> Result<()> {
    for _ in 0..count {
        server.psql("postgres", "SELECT pg_logical_emit_message(false, 'x', 'y'), pg_switch_wal()")?;
    }
    server.psql("postgres", "CHECKPOINT").map(drop)
}

async fn word(options: &ConnectOptions, slot: &str) -> Result<(&'static str, PreflightItem)> {
    let items = preflight::streaming(options, "postgres", slot, false).await;
    let [item] = &items[..] else { anyhow::bail!("{items:?}") };
    assert_eq!(item.id, "postgres.slot");
    Ok((item.ok.word(), item.clone()))
}

// More threads: the server's checkpoint waits until the stream has taken the news that it is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_from_its_making_to_its_loss() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        let options = clusters::options(&server);
        let client = sql::connect(&options, "postgres").await?;
        assert_eq!(slot::look(&client, "mine").await?, None);
        let (verdict, item) = word(&options, "mine").await?;
        assert!(verdict == "passed" && item.observed.contains("no slot mine yet"), "{item:?}");

        let mut replication = Replication::connect(&options).await?;
        replication.create_physical_slot("mine", false).await?;
        let made = slot::look(&client, "mine").await?.context("no slot")?;
        assert!(made.physical && !made.temporary && !made.active && !made.is_lost(), "{made:?}");
        assert_eq!(made.wal_status.as_deref(), Some("reserved"));
        let before = slot::server(&client).await?;
        assert_eq!((before.in_recovery, before.timeline, before.segment_size), (false, 1, SEGMENT));
        assert_eq!(before.max_slot_wal_keep_size, None);
        assert!(before.insert >= before.flush);
        assert!(before.now.duration_since(Timestamp::now()).abs() < jiff::SignedDuration::from_secs(60));

        // While somebody streams, and what it keeps in the meantime.
        let from = made.restart.context("no position")?.segment_start(SEGMENT);
        let stream = replication.start_wal(from, 1, Some("mine")).await?;
        let stream = tokio::spawn(read_to_the_end(stream, from));
        let used = slot::look(&client, "mine").await?.context("no slot")?;
        assert!(used.active && used.active_pid.is_some());
        write_segments(&server, 3)?;
        let now = slot::server(&client).await?;
        let held_back = slot::look(&client, "mine").await?.and_then(|slot| slot.held_back(&now)).context("nothing")?;
        assert!((2 * SEGMENT..10 * SEGMENT).contains(&held_back), "{held_back}");
        let (verdict, item) = word(&options, "mine").await?;
        assert!(verdict == "passed" && item.observed.contains("streams through it"), "{item:?}");

        // Beyond the limit the server ends the stream and gives the slot up.
        server.psql("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'")?;
        server.psql("postgres", "SELECT pg_reload_conf()")?;
        server.wait_for("SHOW max_slot_wal_keep_size", "32MB")?;
        write_segments(&server, 6)?;
        server.wait_for("SELECT wal_status FROM pg_replication_slots", "lost")?;
        let (error, _) = stream.await??;
        assert!(error.is_transient(), "{error:?}");
        let lost = slot::look(&client, "mine").await?.context("no slot")?;
        assert!(lost.is_lost() && lost.restart.is_none() && !lost.active, "{lost:?}");
        assert_eq!(slot::server(&client).await?.max_slot_wal_keep_size, Some(32 << 20));
        let (verdict, item) = word(&options, "mine").await?;
        assert_eq!(verdict, "failed");
        assert!(item.observed.contains("given up") && item.mend.contains("pg_drop_replication_slot('mine')"));

        let gone = Replication::connect(&options).await?.start_wal(from, 1, Some("mine")).await;
        let gone = gone.err().context("a stream of what is gone")?;
        assert!(matches!(&gone, Error::WalRemoved { start, .. } if *start == from), "{major}: {gone:?}");
        assert!(!gone.is_transient());

        // The server's side of the refused stream ends a moment after ours.
        server.wait_for("SELECT active FROM pg_replication_slots", "f")?;
        let mut replication = Replication::connect(&options).await?;
        replication.drop_slot("mine").await?;
        assert_eq!(slot::look(&client, "mine").await?, None);
    }
    Ok(())
}

/// A receiver that takes nothing must not stop the server's checkpoints, as a WAL sender that cannot end would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stands_still_does_not_hold_up_the_server() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let conf = vec!["max_slot_wal_keep_size = 32MB".to_owned()];
    let server = clusters::server(major, &Options { conf, ..Options::default() })?;
    let options = clusters::options(&server);
    let mut replication = Replication::connect(&options).await?;
    replication.create_physical_slot("mine", false).await?;
    let from = replication.identify_system().await?.flush.segment_start(SEGMENT);
    let stream = replication.start_wal(from, 1, Some("mine")).await?;
    // The checkpoint in here ends only when the sender has.
    write_segments(&server, 9)?;
    server.wait_for("SELECT wal_status FROM pg_replication_slots", "lost")?;
    let (error, position) = read_to_the_end(stream, from).await?;
    assert!(matches!(error, Error::ReceiverStalled { .. }), "{error:?}");
    assert!(error.is_transient() && position > from, "what has come can still be taken: {position}");
    Ok(())
}

/// The error that ends a stream, and up to where it came.
async fn read_to_the_end(mut stream: WalStream, from: Lsn) -> Result<(Error, Lsn)> {
    let mut position = from;
    loop {
        match timeout(LIMIT, stream.next()).await? {
            Ok(Some(chunk)) => position = chunk.end(),
            Ok(None) => anyhow::bail!("a timeline ended"),
            Err(error) => return Ok((error, position)),
        }
    }
}

#[tokio::test]
async fn a_logical_slot_is_none_of_ours() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let conf = vec!["wal_level = logical".to_owned()];
    let server = clusters::server(major, &Options { conf, ..Options::default() })?;
    server.psql("postgres", "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')")?;
    let options = clusters::options(&server);
    let client = sql::connect(&options, "postgres").await?;
    assert!(!slot::look(&client, "theirs").await?.context("no slot")?.physical);
    let (verdict, item) = word(&options, "theirs").await?;
    assert!(verdict == "failed" && item.mend.contains("postgres.wal.slot"), "{item:?}");
    // A slot that never kept anything is not lost.
    server.psql("postgres", "SELECT pg_create_physical_replication_slot('fresh')")?;
    let fresh = slot::look(&client, "fresh").await?.context("no slot")?;
    assert!(fresh.restart.is_none() && !fresh.is_lost() && fresh.wal_status.is_none());
    assert_eq!(word(&options, "fresh").await?.0, "passed");

    let nowhere = ConnectOptions { port: 1, ..options };
    assert_eq!(word(&nowhere, "fresh").await?.0, "not executed");
    Ok(())
}

/// The commits in the server's WAL from a position on.
async fn commits(options: &ConnectOptions, from: Lsn, to: Lsn) -> Result<Vec<Commit>> {
    let from = from.segment_start(SEGMENT);
    let mut stream = Replication::connect(options).await?.start_wal(from, 1, None).await?;
    let mut decoder = WalDecoder::new(from, SEGMENT);
    let mut commits = Vec::new();
    while decoder.position() < to {
        let chunk = timeout(LIMIT, stream.next()).await??.context("the stream ended")?;
        decoder.feed(chunk.start, &chunk.bytes, &mut |event| match event {
            WalEvent::Commit(commit) => commits.push(commit),
            WalEvent::RestorePoint(point) => panic!("{point:?}"),
        })?;
    }
    Ok(commits)
}

#[tokio::test]
async fn a_heartbeat_is_a_commit_in_the_log() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        let options = clusters::options(&server);
        let client = sql::connect(&options, "postgres").await?;
        let before = slot::server(&client).await?;
        let beat = heartbeat::emit(&client).await?;
        let after = slot::server(&client).await?;
        assert!(before.insert < beat && beat < after.flush, "{before:?} {beat} {after:?}");
        let commits = commits(&options, before.insert, after.flush).await?;
        let commit = commits.iter().find(|commit| commit.start >= beat).context("no commit behind it")?;
        assert!(before.now <= commit.time && commit.time <= after.now, "{major}: {commit:?}");

        // Not held up by a standby that is away; and nothing of the session is changed.
        server.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")?;
        server.psql("postgres", "SELECT pg_reload_conf()")?;
        server.wait_for("SHOW synchronous_standby_names", "nobody")?;
        timeout(LIMIT, heartbeat::emit(&client)).await.context("it waits for the standby")??;
        let row = client.query_one("SHOW synchronous_commit", &[]).await?;
        assert_eq!(row.get::<_, &str>(0), "on");
        server.psql("postgres", "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()").ok();
        client.batch_execute("SET default_transaction_read_only = on").await?;
        heartbeat::emit(&client).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_beat_is_told_why() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        let options = clusters::options(&server);
        let item = async |options: &ConnectOptions| -> Result<PreflightItem> {
            let items = preflight::streaming(options, "postgres", "mine", true).await;
            items.into_iter().find(|item| item.id == "postgres.heartbeat-right").context("no item")
        };
        assert!(item(&options).await?.ok.is_passed());

        let standby = server.standby("standby")?;
        server.wait_for_replay(&standby)?;
        let there = clusters::options(&standby);
        let client = sql::connect(&there, "postgres").await?;
        let refused = heartbeat::emit(&client).await;
        assert!(matches!(refused, Err(Error::HeartbeatOnStandby { .. })), "{major}: {refused:?}");
        let state = slot::server(&client).await?;
        assert!(state.in_recovery && state.timeline == 1 && state.flush > Lsn(0) && state.insert == state.flush);
        let found = item(&there).await?;
        assert!(found.ok.word() == "failed" && found.observed == "a standby", "{found:?}");

        let function = server.psql(
            "postgres",
            "SELECT oid::regprocedure FROM pg_proc WHERE proname = 'pg_logical_emit_message' AND prosrc LIKE '%text'",
        )?;
        server.psql("postgres", &format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"))?;
        let client = sql::connect(&options, "postgres").await?;
        let refused = heartbeat::emit(&client).await;
        assert!(matches!(refused, Err(Error::NoHeartbeatRight { .. })), "{major}: {refused:?}");
        let found = item(&options).await?;
        let mend = format!("GRANT EXECUTE ON FUNCTION {function} TO \"{ROLE}\"");
        assert!(found.ok.word() == "failed" && found.mend.starts_with(&mend), "{found:?}");

        standby.promote()?;
        let client = sql::connect(&there, "postgres").await?;
        assert_eq!(slot::server(&client).await?.timeline, 2, "{major}: known at once, before a checkpoint");
    }
    Ok(())
}
