//! The WAL stream against the segment files of the server itself.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lifeboat_model::lsn::{Lsn, segment_file_name};
use lifeboat_postgres::{ConnectOptions, Error, Replication, Segmenter, WalSlice, WalStream, timeline};
use lifeboat_testkit::postgres::{Options, Postgres};

use crate::clusters;

const SEGMENT: u64 = 16 << 20;

fn flush_position(server: &Postgres) -> Result<Lsn> {
    Ok(server.psql("postgres", "SELECT pg_current_wal_flush_lsn()")?.parse()?)
}

async fn read_until(stream: &mut WalStream, segmenter: &mut Segmenter, end: Lsn) -> Result<Vec<WalSlice>> {
    let mut slices = Vec::new();
    while segmenter.position() < end {
        slices.extend(segmenter.push(&stream.next().await?.context("the stream ended")?)?);
    }
    Ok(slices)
}

fn assert_equal_to_files(server: &Postgres, timeline: u32, slices: &[WalSlice]) -> Result<()> {
    for slice in slices {
        let name = segment_file_name(timeline, slice.start.segment(SEGMENT), SEGMENT);
        let file = fs::read(server.data_dir().join("pg_wal").join(name))?;
        let from = (slice.start.0 % SEGMENT) as usize;
        assert!(file[from..from + slice.bytes.len()] == slice.bytes, "{}", slice.start);
    }
    Ok(())
}

fn write_wal(server: &Postgres) -> Result<()> {
    let sql =
        "CREATE TABLE IF NOT EXISTS w (x text); INSERT INTO w SELECT md5(i::text) FROM generate_series(1, 300000) i";
    server.psql("postgres", sql).map(drop)
}

async fn first_error(connect: &ConnectOptions, start: Lsn) -> Result<Error> {
    Ok(match Replication::connect(connect).await?.start_wal(start, 1, None).await {
        Ok(mut stream) => stream.next().await.err().context("WAL came")?,
        Err(error) => error,
    })
}

#[tokio::test]
async fn stream_equals_segment_files() -> Result<()> {
    for major in clusters::versions() {
        let options = Options { conf: vec!["max_wal_size = 4GB".into()], ..Options::default() };
        let server = clusters::server(major, &options)?;
        let connect = clusters::options(&server);
        let mut replication = Replication::connect(&connect).await?;
        replication.create_physical_slot("lifeboat_test", false).await?;
        let identity = replication.identify_system().await?;
        let from = identity.flush.segment_start(SEGMENT);
        let mut stream = replication.start_wal(from, identity.timeline, Some("lifeboat_test")).await?;
        write_wal(&server)?;
        let end = flush_position(&server)?;
        assert!(end.0 - from.0 > 2 * SEGMENT, "enough WAL for several segments");
        let mut segmenter = Segmenter::new(from, SEGMENT, 16 << 20);
        let mut slices = read_until(&mut stream, &mut segmenter, end).await?;
        assert!(slices.iter().all(|slice| slice.end().0 % SEGMENT == 0));
        slices.extend(segmenter.cut());
        assert_equal_to_files(&server, 1, &slices)?;

        // The slot moves with what is acknowledged, and with nothing else.
        let restart = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'lifeboat_test'";
        let acknowledged = slices[1].end();
        assert!(server.psql("postgres", restart)?.parse::<Lsn>()? < acknowledged);
        stream.acknowledge(acknowledged);
        stream.acknowledge(slices[0].end());
        let mut tries = 0;
        while server.psql("postgres", restart)?.parse::<Lsn>()? != acknowledged {
            tries += 1;
            assert!(tries < 100, "the slot stays behind");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ended = stream.stop().await?;
        assert_eq!(ended.next_timeline, None);
        let mut replication = ended.replication;
        replication.identify_system().await?;
        replication.drop_slot("lifeboat_test").await?;
        replication.create_physical_slot("lifeboat_gone", true).await?;
        replication.close().await;

        // WAL that is not there: not yet, and no longer. The server begins to stream before it looks.
        let ahead = first_error(&connect, Lsn(end.0 + (1 << 40))).await?;
        assert!(matches!(ahead, Error::Statement { .. }), "{ahead:?}");
        let past = first_error(&connect, Lsn(0)).await?;
        assert!(matches!(past, Error::WalRemoved { .. }), "{past:?}");
    }
    Ok(())
}

/// While the receiver is busy the server must hear from us, or it closes the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_is_not_thrown_out() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let conf = ["wal_sender_timeout = 3s", "max_wal_size = 4GB"].map(str::to_owned).to_vec();
    let server = clusters::server(major, &Options { conf, ..Options::default() })?;
    let mut replication = Replication::connect(&clusters::options(&server)).await?;
    let from = replication.identify_system().await?.flush.segment_start(SEGMENT);
    let mut stream = replication.start_wal(from, 1, None).await?;
    write_wal(&server)?;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let end = flush_position(&server)?;
    let mut segmenter = Segmenter::new(from, SEGMENT, 16 << 20);
    let mut slices = read_until(&mut stream, &mut segmenter, end).await?;
    slices.extend(segmenter.cut());
    assert_equal_to_files(&server, 1, &slices)?;
    // And an idle one neither.
    tokio::time::sleep(Duration::from_secs(8)).await;
    server.psql("postgres", "CHECKPOINT")?;
    let end = flush_position(&server)?;
    read_until(&mut stream, &mut segmenter, end).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_ends_the_stream_with_an_error() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let mut server = clusters::server(major, &Options::default())?;
    let mut replication = Replication::connect(&clusters::options(&server)).await?;
    let from = replication.identify_system().await?.flush.segment_start(SEGMENT);
    let mut stream = replication.start_wal(from, 1, None).await?;
    stream.next().await?.context("no WAL")?;
    server.signal("INT")?;
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a shutdown is not the end of a timeline"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::ServerStopped { .. }), "{error}");
    assert!(error.is_transient());
    assert!(stream.next().await.is_err(), "an error is final");
    server.stop()
}

/// A copy that is started for recovery without an archive goes on as timeline 2; its timeline 1 is then over.
#[tokio::test]
async fn the_end_of_a_timeline_is_told() -> Result<()> {
    for major in clusters::versions() {
        let mut server = clusters::server(major, &Options::default())?;
        write_wal(&server)?;
        server.stop()?;
        fs::write(server.data_dir().join("recovery.signal"), "")?;
        let path = server.data_dir().join("postgresql.auto.conf");
        fs::write(&path, "restore_command = 'false'\n")?;
        server.own(server.data_dir())?;
        server.resume()?;
        let mut tries = 0;
        while server.psql("postgres", "SELECT pg_is_in_recovery()")? != "f" {
            tries += 1;
            assert!(tries < 300, "the server does not leave recovery");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let connect: ConnectOptions = clusters::options(&server);
        let mut replication = Replication::connect(&connect).await?;
        assert_eq!(replication.identify_system().await?.timeline, 2, "{major}");
        let (name, content) = replication.timeline_history(2).await?;
        assert_eq!(name, "00000002.history");
        let history = timeline::parse_history(&content)?;
        let left = history[0].end;
        assert_eq!(history[0].timeline, 1);

        let from = left.segment_start(SEGMENT);
        let mut stream = replication.start_wal(from, 1, None).await?;
        let mut position = from;
        while let Some(chunk) = stream.next().await? {
            position = chunk.end();
        }
        assert_eq!(position, left, "{major}");
        let ended = stream.stop().await?;
        assert_eq!(ended.next_timeline, Some((2, left)), "{major}");
        // The position right at its end: nothing to stream.
        let mut stream = ended.replication.start_wal(left, 1, None).await?;
        assert!(stream.next().await?.is_none());
        let ended = stream.stop().await?;
        let mut stream = ended.replication.start_wal(left.segment_start(SEGMENT), 2, None).await?;
        assert!(stream.next().await?.is_some());
    }
    Ok(())
}
